#!/bin/sh
# A containerd of the 2.x series, containerd and ctr, built by Go from its module and kept in SKERRY_CACHE, keyed by this script, as SKERRY_CACHE/containerd2.
# Debian 12 has 1.6 only. It is optional: without Go, or without a way to its modules, this says so in one line and exits 0, and the tests that want it skip.
set -eu
cd "$(dirname "$0")/.."
: "${SKERRY_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/skerry-check}"
version=v2.2.9 limit=${SKERRY_CONTAINERD2_SECONDS:-300}
key=$(sha256sum scripts/test-containerd2.sh | cut -c 1-16)
result=$SKERRY_CACHE/containerd2-$key
use() {
	ln -sfn "$(basename "$result")" "$SKERRY_CACHE/containerd2"
}
[ ! -e "$result" ] || { use; exit 0; }
PATH=$PATH:/usr/local/go/bin
export PATH
command -v go >/dev/null || { echo "test-containerd2: go is not installed: no tests with containerd $version" >&2; exit 0; }
mkdir -p "$SKERRY_CACHE"
exec 9>"$SKERRY_CACHE/containerd2.lock"
flock 9
[ ! -e "$result" ] || { use; exit 0; }
work=$(mktemp -d "$SKERRY_CACHE/.tmp-containerd2-XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
module=github.com/containerd/containerd/v2
mkdir "$work/bin" "$work/module"
if ! (cd "$work/module" && go mod init skerry.test/peer && timeout "$limit" go get "$module/cmd/containerd@$version" "$module/cmd/ctr@$version" &&
	timeout $((limit * 4)) nice -n 10 go build -trimpath -ldflags '-s -w' -tags 'no_btrfs no_zfs no_devmapper' -o "$work/bin/" \
		"$module/cmd/containerd" "$module/cmd/ctr") >"$work/log" 2>&1; then
	tail -n 5 "$work/log" >&2
	echo "test-containerd2: containerd $version could not be built: no tests with it" >&2
	exit 0
fi
mv "$work/bin" "$result"
use
for old in "$SKERRY_CACHE"/containerd2-????????????????; do
	[ "$old" = "$result" ] || rm -rf "$old"
done
