#!/bin/sh
# Installs what is missing: `scripts/setup.sh run` for building and running, `scripts/setup.sh check` for the tests in addition.
# docs/dependencies.md tells what each package is for; tests/house compares the two.
set -eu

run_packages='
gcc libc6-dev make meson ninja-build pkg-config musl-tools scdoc
protobuf-c-compiler libprotobuf-c-dev libjson-c-dev libarchive-dev libisal-dev libcurl4-openssl-dev libssl-dev libext2fs-dev libcrypt-dev libseccomp-dev libyaml-dev zlib1g-dev
crun qemu-system-x86 qemu-system-common qemu-utils ovmf passt openssh-client mmdebstrap uidmap busybox-static e2fsprogs ca-certificates
'
check_packages='
bc bison flex libelf-dev lz4 patch perl bzip2 xz-utils zstd
containerd docker-compose docker.io genisoimage xorriso mtools dosfstools fdisk grub-efi-amd64-bin
apache2-utils buildah containernetworking-plugins docker-registry erofs-utils iproute2 openssl skopeo systemd umoci
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

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		echo "set-up: not root and no sudo; as root, run: $*" >&2
		exit 77
	fi
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
[ -n "$wanted" ] || exit 0

echo "set-up: installing $wanted" >&2
as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update
# shellcheck disable=SC2086
as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install $wanted >/dev/null
