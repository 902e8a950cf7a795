#!/bin/sh
# Installs what is missing: `scripts/setup.sh run` for building and running, `scripts/setup.sh check` for the tests in addition.
# docs/dependencies.md tells what each package is for; tests/house compares the two.
set -eu

run_packages='
gcc libc6-dev make meson ninja-build pkg-config musl-tools scdoc
protobuf-c-compiler libprotobuf-c-dev libjson-c-dev libarchive-dev libisal-dev libcurl4-openssl-dev libssl-dev libext2fs-dev libcrypt-dev libseccomp-dev libwebsockets-dev libyaml-dev zlib1g-dev
crun qemu-system-x86 qemu-system-common qemu-utils ovmf seabios passt openssh-client mmdebstrap uidmap busybox-static e2fsprogs ca-certificates
'
check_packages='
bc bison flex libelf-dev lz4 patch perl bzip2 cpio xz-utils zstd
containerd docker-compose docker.io genisoimage xorriso mtools dosfstools fdisk grub-efi-amd64-bin
apache2-utils buildah containernetworking-plugins docker-registry erofs-utils iproute2 isc-dhcp-client openssl skopeo systemd umoci
clang libclang-rt-14-dev clang-format clang-tidy cppcheck codespell shellcheck
'

missing() {
	for package in "$@"; do
		case $installed in
		*" $package "*) ;;
		*) printf '%s ' "$package" ;;
		esac
	done
}

# Who has Docker or containerd from elsewhere keeps them: these packages would take their place.
elsewhere() {
	dpkg-query -S '*/bin/dockerd' '*/bin/containerd' 2>/dev/null | sed -n 's/^\([^:,]*\):.*/\1/p' | sort -u | grep -vx -e docker.io -e containerd
}

as_root() {
	if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# apt ARGUMENT…: waits for whoever else installs packages, and asks a mirror again that is away for a moment.
apt() {
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 -o Acquire::Retries=5 "$@"
}

# Nothing waits for the lock of the lists, and an index that could not be had is no failure unless that is asked for. What stays away may be of no use here.
update() {
	for pause in 5 15 30 60; do
		! apt -o APT::Update::Error-Mode=any update || return 0
		sleep "$pause"
	done
	apt update
}

install() {
	# shellcheck disable=SC2086 # a list of words
	apt -y --no-install-recommends install $wanted >/dev/null
}

case ${1:-run} in
run) packages=$run_packages ;;
check) packages="$run_packages $check_packages" ;;
list) echo "$run_packages $check_packages" | xargs -n 1 && exit 0 ;;
*) echo "usage: scripts/setup.sh [run|check|list]" >&2 && exit 64 ;;
esac

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
	echo "set-up: not a Debian system, nothing installed here; needed, by Debian's names: $(echo "$packages" | xargs)" >&2
	exit 0
fi
# shellcheck disable=SC2086 # a list of words
installed=" $(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $packages 2>/dev/null | sed -n 's/^installed //p' | tr '\n' ' ') "
# shellcheck disable=SC2086
wanted=$(missing $packages)
case " $wanted" in *" docker.io "* | *" containerd "*)
	if others=$(elsewhere); then
		echo "set-up: docker.io and containerd are left out, as what they bring is there from $(echo "$others" | xargs)" >&2
		wanted=$(printf ' %s' "$wanted" | sed 's/ docker\.io / /; s/ containerd / /')
	fi
	;;
esac
wanted=$(echo "$wanted" | xargs)
[ -n "$wanted" ] || exit 0

if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
	echo "set-up: not root and no sudo; as root, run: apt-get update && apt-get install --no-install-recommends $wanted" >&2
	exit 77
fi
echo "set-up: installing $wanted" >&2
update
# busybox-static is busybox again, with more in it. Everything else that would have to go is somebody's.
# shellcheck disable=SC2086
removed=$(env LC_ALL=C apt-get -qq -s --no-install-recommends install $wanted | sed -n 's/^Remv \([^ ]*\).*/\1/p' | { grep -vx busybox || :; } | xargs)
if [ -n "$removed" ]; then
	echo "set-up: nothing is installed, because these would be removed: $removed" >&2
	echo "set-up: if that is right, as root, run: apt-get install --no-install-recommends $wanted" >&2
	exit 69
fi
if ! install; then
	# Somebody was killed while installing, or the mirror has other packages by now.
	as_root dpkg --configure -a >&2 || :
	update
	apt -y --no-remove --fix-broken install >/dev/null || :
	install
fi
