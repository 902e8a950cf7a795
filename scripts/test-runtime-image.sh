#!/bin/sh
# What the container images are built from, kept in SKERRY_CACHE and keyed by what it is made of; `docker build` of the two directories takes seconds:
#
#   runtime/   Dockerfile and the layers of skerry/runtime
#   debian/    Dockerfile and the base disk of skerry/debian
#   tiny.qcow2 a base disk that boots in a second
#
# They are below SKERRY_CACHE/runtime. Takes programs from build/, kernel and images from SKERRY_CACHE/store (scripts/test-store.sh).
set -eu
cd "$(dirname "$0")/.."
: "${SKERRY_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/skerry-check}"
SKERRY_HOME=$SKERRY_CACHE/store
export SKERRY_CACHE SKERRY_HOME
kernel=$SKERRY_HOME/kernels/built/vmlinux
skerry=build/src/cli/skerry
mkdir -p "$SKERRY_CACHE"
exec 9>"$SKERRY_CACHE/runtime.lock"
flock 9
work=$(mktemp -d "$SKERRY_CACHE/.tmp-runtime-XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# disk IMAGE FILE: its disk, compressed; made again when the image is another.
disk() {
	digest=$("$skerry" image inspect "$1" | sed -n 's/^ *"digest": "sha256:\([0-9a-f]\{16\}\).*/\1/p' | head -n 1)
	kept=$SKERRY_CACHE/runtime-disk-$1-$digest
	if [ ! -e "$kept" ]; then
		"$skerry" image export-disk "$1" "$work/plain" --format raw --force
		qemu-img convert -q -c -f raw -O qcow2 "$work/plain" "$work/disk"
		rm -f "$work/plain" "$SKERRY_CACHE/runtime-disk-$1"-*
		mv "$work/disk" "$kept"
	fi
	ln "$kept" "$2" 2>/dev/null || cp "$kept" "$2"
}

DESTDIR=$work/stage meson install -C build --no-rebuild --strip --quiet >/dev/null
key=$({
	find "$work/stage" -type f -path '*/skerry*' -exec sha256sum {} + | sed 's/ .*//' | sort
	sha256sum scripts/runtime-rootfs.sh scripts/console-assets.sh scripts/test-runtime-image.sh images/runtime/Dockerfile images/debian/Dockerfile "$kernel"
	"$skerry" image inspect debian
	"$skerry" image inspect tiny
} | sha256sum | cut -c 1-16)
result=$SKERRY_CACHE/runtime-$key
if [ ! -e "$result" ] || [ -n "${SKERRY_IMAGE_FRESH:-}" ]; then
	mkdir -p "$work/out/runtime" "$work/out/debian"
	scripts/runtime-rootfs.sh build "$kernel" "$work/out/runtime"
	cp images/runtime/Dockerfile "$work/out/runtime/"
	cp images/debian/Dockerfile "$work/out/debian/"
	disk debian "$work/out/debian/debian.qcow2"
	disk tiny "$work/out/tiny.qcow2"
	rm -rf "$result"
	mv -T "$work/out" "$result" 2>/dev/null || [ -e "$result" ]
fi
touch "$result"
ln -sfn "runtime-$key" "$SKERRY_CACHE/runtime"
# Of others, what has been in use lately may be so still.
find "$SKERRY_CACHE" -mindepth 1 -maxdepth 1 -name 'runtime-????????????????' -mmin +720 -exec rm -rf {} +
