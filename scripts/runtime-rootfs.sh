#!/bin/sh
# Makes the root file system of the container images: `scripts/runtime-rootfs.sh BUILD KERNEL OUT`, with the programs of the build directory
# BUILD and the kernel KERNEL, writes
#
#   OUT/debian.tar   what a virtual machine needs of Debian to run, and nothing else
#   OUT/skerry.tar   what is ours: an upgrade is this layer, mostly
#   OUT/parts        what both are made of: bytes and package (or "skerry", "kernel"), the largest first
#
# Nothing is installed: files are taken out of Debian's packages, with the libraries that they ask for, theirs included. The same packages and the same
# programs give the same tars. Packages are kept in SKERRY_CACHE until this script changes or SKERRY_IMAGE_FRESH=1 asks for today's.
set -eu
[ $# -eq 3 ] || { echo "usage: scripts/runtime-rootfs.sh BUILD KERNEL OUT" >&2; exit 64; }
build=$1 kernel=$2 out=$3
: "${SKERRY_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/skerry-check}"
LC_ALL=C
export LC_ALL
umask 022

# The programs were linked with this system's libraries.
suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
if [ -z "$suite" ] || [ ! -e /etc/debian_version ]; then
	echo "runtime-rootfs: the programs must be built on Debian" >&2
	exit 69
fi

packages=qemu-system-x86,qemu-utils,ovmf,passt,openssh-client,busybox-static,ca-certificates,base-files
packages=$packages,libarchive13,libcrypt1,libcurl4,libext2fs2,libisal2,libjson-c5,libprotobuf-c1,libseccomp2,libssl3,libwebsockets17,libyaml-0-2
# Of these a page takes a few files, and nothing of what they ask for.
page_packages='node-xterm novnc'

# What runs; each library that one of these asks for comes with it.
programs='
usr/bin/qemu-system-x86_64 usr/bin/qemu-img usr/lib/qemu/virtiofsd usr/lib/x86_64-linux-gnu/qemu/accel-tcg-x86_64.so
usr/bin/passt usr/bin/passt.avx2 usr/bin/ssh-keygen usr/bin/busybox
'
# What QEMU loads: micro boots by qboot.rom, and so does full with a kernel (see src/engine/qemu/argv.c); images with a boot loader by OVMF or,
# where FIRMWARE says so, by SeaBIOS.
data='
usr/share/qemu/qboot.rom usr/share/qemu/bios-microvm.bin usr/share/qemu/linuxboot_dma.bin usr/share/qemu/pvh.bin usr/share/qemu/kvmvapic.bin
usr/share/OVMF/OVMF_CODE_4M.fd usr/share/OVMF/OVMF_VARS_4M.fd usr/share/OVMF/OVMF_CODE_4M.ms.fd usr/share/OVMF/OVMF_VARS_4M.ms.fd
usr/share/seabios/bios-256k.bin usr/share/seabios/vgabios-stdvga.bin usr/share/qemu/keymaps/en-us
usr/lib/os-release
'
# What `docker exec` finds to look around with.
applets='sh ash cat cut date df dmesg du echo env find free grep head hexdump id ip kill less ls mount nc netstat ping ps pwd sed sleep stat tail top uname
vi wc wget'
# See docs/docker.md; who is not root is still in root's group, as with numbers that a cluster makes up.
user=skerry uid=1000

work=$(mktemp -d "${TMPDIR:-/tmp}/skerry-rootfs-XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
root=$work/root tree=$work/tree
mkdir -p "$root" "$tree" "$out"

# ---- Debian's packages ----

debs=$SKERRY_CACHE/runtime-packages-$suite-$(echo "$packages $page_packages" | sha256sum | cut -c 1-16)
[ -z "${SKERRY_IMAGE_FRESH:-}" ] || rm -rf "$debs"
if [ ! -e "$debs" ]; then
	mkdir "$work/debs"
	# Into a file: of a pipe tar leaves the last zeros unread, and mmdebstrap takes that for a failure, for which it ends its whole process group.
	mmdebstrap --quiet --variant=extract --aptopt='Acquire::Retries "8"' --skip=cleanup/apt/cache --include="$packages" \
		--extract-hook="cd \"\$1/var/cache/apt/archives\" && APT_CONFIG=\$MMDEBSTRAP_APT_CONFIG apt-get -qq -o APT::Sandbox::User=root download $page_packages" "$suite" "$work/packages.tar"
	tar -x -C "$work/debs" --strip-components=5 --wildcards -f "$work/packages.tar" './var/cache/apt/archives/*.deb'
	rm -f "$work/packages.tar"
	mkdir -p "$SKERRY_CACHE"
	rm -rf "$debs" "$SKERRY_CACHE"/runtime-packages-*
	mv "$work/debs" "$debs.$$"
	mv -T "$debs.$$" "$debs"
fi

# One tree with /usr merged, and an index of it: "PATH PACKAGE".
mkdir -p "$tree/usr/bin" "$tree/usr/sbin" "$tree/usr/lib" "$tree/usr/lib64"
for dir in bin sbin lib lib64; do ln -s "usr/$dir" "$tree/$dir"; done
for deb in "$debs"/*.deb; do
	package=${deb##*/}
	package=${package%%_*}
	dpkg-deb --fsys-tarfile "$deb" >"$work/deb.tar"
	tar -tf "$work/deb.tar" | sed -n "s,^\./,,; s,^\(bin\|sbin\|lib\|lib64\)/,usr/\1/,; /\/\$/!s,\$, $package,p" >>"$work/index"
	tar -x -C "$tree" --no-same-owner --keep-directory-symlink -f "$work/deb.tar"
done

# take PATH [AS]: a file of a package's, with what it names where it is a link; its package is noted.
take() {
	[ -e "$tree/$1" ] || { echo "runtime-rootfs: $1 is in none of the packages" >&2; exit 1; }
	mkdir -p "$root/${1%/*}"
	cp -L --preserve=mode,timestamps "$tree/$1" "$root/${2:-$1}"
	echo "${2:-$1}" >>"$work/taken"
	real=$(realpath "$tree/$1")
	echo "${real#"$tree"/}" >>"$work/sources"
}

for file in $programs $data; do take "$file"; done
mkdir -p "$root/etc/ssl/certs"
find "$tree/usr/share/ca-certificates" -name '*.crt' | sort | xargs cat >"$root/etc/ssl/certs/ca-certificates.crt"
echo etc/ssl/certs/ca-certificates.crt >>"$work/taken"
awk '$2 == "ca-certificates" { print $1; exit }' "$work/index" >>"$work/sources"
for applet in $applets; do ln -s busybox "$root/usr/bin/$applet"; done

# What the console's page has of others, as a browser can load it; it is in those packages' names.
page=usr/share/skerry/web/console
mkdir -p "$root/$page"
"$(dirname "$0")/console-assets.sh" "$tree" "$root/$page"
for package in $page_packages; do
	(cd "$root" && find "$page/${package#node-}" -type f | sort) >"$work/assets"
	cat "$work/assets" >>"$work/taken"
	source=$(awk -v package="$package" '$2 == package { print $1; exit }' "$work/index")
	sed "s,.*,$source," "$work/assets" >>"$work/sources"
done

# ---- Skerry's programs and kernel ----

DESTDIR=$work/stage meson install -C "$build" --no-rebuild --strip --quiet >/dev/null
stage=$(find "$work/stage" -path '*/bin/skerry')
stage=${stage%/bin/skerry}
mkdir -p "$root/usr/libexec/skerry" "$root/usr/share/skerry/kernel"
ours='usr/bin/skerry usr/bin/skerry-vm'
ours="$ours usr/libexec/skerry/skerry-monitor usr/libexec/skerry/skerry-init usr/libexec/skerry/skerry-image usr/libexec/skerry/skerry-web"
for file in $ours; do cp "$stage/${file#usr/}" "$root/$file"; done
cp "$stage/share/skerry/web/console"/* "$root/$page/"
cp "$kernel" "$root/usr/share/skerry/kernel/vmlinux"
chmod 0644 "$root/usr/share/skerry/kernel/vmlinux"

# ---- The libraries, where the loader looks without a cache ----

interpreter=lib64/ld-linux-x86-64.so.2
take "usr/$interpreter"
# shellcheck disable=SC2086 # lists of words
(cd "$root" && ls $programs $ours) >"$work/queue"
: >"$work/libraries"
while [ -s "$work/queue" ]; do
	(cd "$root" && xargs readelf -d <"$work/queue") | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort -u >"$work/needed"
	: >"$work/queue"
	while read -r soname; do
		[ "$soname" != "${interpreter##*/}" ] || continue
		library=usr/lib/x86_64-linux-gnu/$soname
		! grep -qxF "$library" "$work/libraries" || continue
		take "$library"
		echo "$library" >>"$work/libraries"
		echo "$library" >>"$work/queue"
	done <"$work/needed"
done

# ---- What is not a file of somebody's ----

for dir in bin sbin lib lib64; do
	mkdir -p "$root/usr/$dir"
	ln -s "usr/$dir" "$root/$dir"
done
mkdir -p "$root/dev" "$root/proc" "$root/sys" "$root/root" "$root/tmp" "$root/var/tmp" "$root/run/skerry" "$root/disks" "$root/image"
chmod 0700 "$root/root"
chmod 1777 "$root/tmp" "$root/var/tmp"
chmod 0775 "$root/run/skerry" "$root/disks"
ln -s ../usr/lib/os-release "$root/etc/os-release"
printf 'root:x:0:0:root:/root:/bin/sh\n%s:x:%d:0:Skerry:/disks:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n' "$user" "$uid" \
	>"$root/etc/passwd"
chmod 0664 "$root/etc/passwd" # a number that has no name gives itself one
printf 'root:x:0:\n%s:x:%d:\nnogroup:x:65534:\n' "$user" "$uid" >"$root/etc/group"
printf 'passwd: files\ngroup: files\nhosts: files dns\n' >"$root/etc/nsswitch.conf"

# Which packages these are files of: for licences, and for whoever looks for known holes.
awk 'FNR == NR { package[$1] = $2; next } $1 in package { print package[$1] }' "$work/index" "$work/sources" | sort -u >"$work/packages"
mkdir -p "$root/var/lib/dpkg/status.d"
while read -r package; do
	dpkg-deb -f "$debs/${package}"_*.deb >"$root/var/lib/dpkg/status.d/$package"
	mkdir -p "$root/usr/share/doc/$package"
	cp -L "$tree/usr/share/doc/$package/copyright" "$root/usr/share/doc/$package/copyright"
done <"$work/packages"

# ---- The tar ----

# Debian's files keep their times. Ours were made now: they get the time of the newest of those.
: "${SOURCE_DATE_EPOCH:=$(cd "$tree" && xargs stat -L -c %Y <"$work/sources" | sort -n | tail -n 1)}"
find "$root" -newermt "@$SOURCE_DATE_EPOCH" -print0 | xargs -0 touch -h -d "@$SOURCE_DATE_EPOCH"
find "$root" -mindepth 1 -printf '%P\n' | sort >"$work/all"
# pack TAR OWNER [-r]: the paths of the standard input.
pack() {
	tar "${3:--c}" -C "$root" --no-recursion --format=gnu --numeric-owner --owner="$2" --group=0 -f "$work/$1" -T -
}
ours='^(usr/[a-z]+/skerry.*)$' theirs="^$page/(xterm|novnc)(/|\$)"
{
	grep -vE "$ours|^(disks|run/skerry)\$" "$work/all"
	grep -E "$theirs" "$work/all"
} | sort | pack debian.tar 0
printf 'disks\nrun/skerry\n' | pack debian.tar "$uid" -r
grep -E "$ours" "$work/all" | grep -vE "$theirs" | pack skerry.tar 0

(cd "$root" && find . -type f -printf '%s %P\n') >"$work/sizes"
paste -d ' ' "$work/sources" "$work/taken" >"$work/pairs"
awk 'FNR == 1 { file++ }
	file == 1 { package[$1] = $2; next }
	file == 2 { part[$2] = package[$1]; next }
	{ sum[$2 in part ? part[$2] : $2 ~ /kernel\/vmlinux/ ? "kernel" : $2 ~ /bin\/skerry|libexec/ ? "skerry" : "licences and the rest"] += $1 }
	END { for (name in sum) printf "%d %s\n", sum[name], name }' "$work/index" "$work/pairs" "$work/sizes" | sort -k1,1nr -k2 >"$work/parts"
mv "$work/debian.tar" "$work/skerry.tar" "$work/parts" "$out/"
