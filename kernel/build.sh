#!/bin/sh
# Build the guest kernel.
#
#   build.sh SOURCE CONFIG OUTDIR [JOBS]
#
# SOURCE is a kernel source tree or a tar archive of one; neither is changed. CONFIG is a fragment for
# `make allnoconfig`: what it does not name is off. The patches beside this script are applied. OUTDIR gets vmlinux (stripped, with the PVH entry),
# bzImage, config and release. Equal inputs give equal files: SOURCE_DATE_EPOCH sets the time stamp.
set -eu
export LC_ALL=C

fail() {
	echo "build.sh: $*" >&2
	exit 1
}

[ $# -eq 3 ] || [ $# -eq 4 ] || { echo "usage: build.sh SOURCE CONFIG OUTDIR [JOBS]" >&2; exit 64; }
source=$1 config=$2 outdir=$3 jobs=${4:-$(nproc)}

missing=
for tool in make gcc ld objcopy readelf strip bison flex bc lz4 perl patch tar xz date; do
	command -v "$tool" >/dev/null || missing="$missing $tool"
done
for header in gelf.h openssl/opensslv.h; do
	echo "#include <$header>" | gcc -E - >/dev/null 2>&1 || missing="$missing $header"
done
[ -z "$missing" ] || fail "needed but not found:$missing"
[ -r "$config" ] || fail "cannot read the configuration '$config'"
[ -r "$source" ] || fail "cannot read the source '$source'"

work=$(mktemp -d "${TMPDIR:-/tmp}/skerry-kernel.XXXXXX")
child=
stop() {
	trap '' HUP INT TERM
	[ -z "$child" ] || { kill "$child" && wait "$child"; } 2>/dev/null || :
	exit "$1"
}
trap 'rm -rf "$work"' EXIT
trap 'stop 129' HUP
trap 'stop 130' INT
trap 'stop 143' TERM

tree=$work/source
mkdir "$tree" "$work/build"
if [ -d "$source" ]; then
	cp -R "$source/." "$tree" || fail "cannot copy '$source'"
else
	tar -xf "$source" -C "$tree" --strip-components=1 || fail "cannot unpack '$source'"
fi
[ -f "$tree/Kconfig" ] || fail "'$source' is no kernel source"
for patch in "$(dirname "$0")"/patches/*.patch; do
	patch -s -p1 -d "$tree" <"$patch" >"$work/log" 2>&1 || fail "$patch does not apply: $(head -n 1 "$work/log")"
done

# 1735689600 is 2025-01-01, for callers that do not care.
KBUILD_BUILD_TIMESTAMP=$(date -u -d "@${SOURCE_DATE_EPOCH:-1735689600}")
KBUILD_BUILD_USER=skerry
KBUILD_BUILD_HOST=localhost
KBUILD_BUILD_VERSION=1
export KBUILD_BUILD_TIMESTAMP KBUILD_BUILD_USER KBUILD_BUILD_HOST KBUILD_BUILD_VERSION

# In the background, so that a signal is heeded at once.
build() {
	make -s -C "$tree" O="$work/build" ARCH=x86_64 "$@" >"$work/log" 2>&1 &
	child=$!
	wait "$child" || {
		tail -n 30 "$work/log" >&2
		fail "make failed"
	}
	child=
}

# What was asked for and did not come out: a wrong name, or a dependency that is off.
lost_options() {
	grep -E '^(CONFIG_[A-Za-z0-9_]+=|# CONFIG_[A-Za-z0-9_]+ is not set$)' "$config" | while IFS= read -r line; do
		case $line in
		CONFIG_*=n | '# '*)
			name=${line#\# }
			name=${name%%[= ]*}
			! grep -q "^$name=" "$work/build/.config" || echo "$name=n"
			;;
		*) grep -qxF "$line" "$work/build/.config" || echo "$line" ;;
		esac
	done
}

build KCONFIG_ALLCONFIG="$(realpath "$config")" allnoconfig
lost=$(lost_options)
[ -z "$lost" ] || fail "options that did not survive: $(echo "$lost" | tr '\n' ' ')"

build -j"$jobs" KCFLAGS="-ffile-prefix-map=$tree=. -ffile-prefix-map=$work/build=." vmlinux bzImage

strip --strip-all -R .comment -o "$work/vmlinux" "$work/build/vmlinux"
readelf -n "$work/vmlinux" 2>/dev/null | grep -q Xen || fail "the vmlinux has no PVH entry (CONFIG_PVH)"

mkdir -p "$outdir"
cp "$work/vmlinux" "$outdir/vmlinux"
cp "$work/build/arch/x86/boot/bzImage" "$outdir/bzImage"
cp "$work/build/.config" "$outdir/config"
cp "$work/build/include/config/kernel.release" "$outdir/release"
