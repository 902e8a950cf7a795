#!/bin/sh
# containerd's clients that people use and Debian 12 does not have, nerdctl and crictl, built by Go from their modules and kept in SKERRY_CACHE, keyed by
# this script, as SKERRY_CACHE/clients. They are optional: without Go, or without a way to the modules, this says so in one line for each and exits 0, and
# the tests that want it skip. What is missing is tried again the next time.
set -eu
cd "$(dirname "$0")/.."
: "${SKERRY_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/skerry-check}"
# The last nerdctl that speaks to containerd 1.6 and needs nothing that is outside of its module.
nerdctl=github.com/containerd/nerdctl/v2/cmd/nerdctl@v2.0.4
crictl=sigs.k8s.io/cri-tools/cmd/crictl@v1.36.0
limit=${SKERRY_CLIENTS_SECONDS:-300}
key=$(sha256sum scripts/test-clients.sh | cut -c 1-16)
result=$SKERRY_CACHE/clients-$key
PATH=$PATH:/usr/local/go/bin
export PATH

missing() {
	[ ! -x "$result/nerdctl" ] || [ ! -x "$result/crictl" ]
}

# build NAME PACKAGE@VERSION: in a module of its own, so that neither is built with what the other wants.
build() {
	[ ! -x "$result/$1" ] || return 0
	rm -rf "$work/module"
	mkdir -p "$work/module"
	if (cd "$work/module" && go mod init skerry.test/peer && timeout "$limit" go get "$2" &&
		timeout $((limit * 4)) nice -n 10 go build -trimpath -ldflags '-s -w' -o "$work/$1" "${2%@*}") >"$work/log" 2>&1; then
		mv "$work/$1" "$result/$1"
	else
		tail -n 5 "$work/log" >&2
		echo "test-clients: $1 could not be built: no tests with it" >&2
	fi
}

use() {
	ln -sfn "$(basename "$result")" "$SKERRY_CACHE/clients"
}

missing || { use; exit 0; }
command -v go >/dev/null || { echo "test-clients: go is not installed: no tests with nerdctl and crictl" >&2; exit 0; }
mkdir -p "$SKERRY_CACHE"
exec 9>"$SKERRY_CACHE/clients.lock"
flock 9
work=$(mktemp -d "$SKERRY_CACHE/.tmp-clients-XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$result"
build nerdctl "$nerdctl"
build crictl "$crictl"
use
for old in "$SKERRY_CACHE"/clients-????????????????; do
	[ "$old" = "$result" ] || rm -rf "$old"
done
