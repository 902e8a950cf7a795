#!/bin/sh
# Prepares the store that tests take images and kernels from, $SKERRY_CACHE/store. The built kernel is kept by skerry itself, keyed by source,
# configuration and patches; images are made again when what makes them has changed.
set -eu
cd "$(dirname "$0")/.."
: "${SKERRY_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/skerry-check}"
SKERRY_HOME=$SKERRY_CACHE/store
export SKERRY_HOME
skerry=build/src/cli/skerry
mkdir -p "$SKERRY_HOME"

# again COMMAND…: a mirror may be away for a moment.
again() {
	for pause in 10 60; do
		! "$@" || return 0
		sleep $pause
	done
	"$@"
}

again "$skerry" kernel build --replace
[ -e "$SKERRY_HOME/kernels/debian" ] || again "$skerry" kernel import debian

key=$(find src/image src/disk images -type f ! -name Dockerfile | sort | xargs sha256sum | sha256sum | cut -c 1-16)
if [ ! -e "$SKERRY_HOME/images-$key" ]; then
	# A cache, and maybe of a form that this version does not read.
	rm -rf "$SKERRY_HOME/images"
	"$skerry" image build tiny
	again "$skerry" image build debian
	rm -f "$SKERRY_HOME"/images-*
	: >"$SKERRY_HOME/images-$key"
fi
# The first home disk has its blank file system made. A run that was killed may have left the machine.
"$skerry" delete --force -y warm-up >/dev/null 2>&1 || :
"$skerry" create warm-up --image tiny --home 1G >/dev/null
"$skerry" delete -y warm-up >/dev/null
