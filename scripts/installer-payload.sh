#!/bin/sh
# What the image skerry/installer is built from: `scripts/installer-payload.sh KERNELS OUT` puts the programs of build/ as `make install` does, and each
# kernel of the directory KERNELS, below OUT/payload, and images/installer beside it. A kubectl in PATH comes along.
set -eu
cd "$(dirname "$0")/.."
[ $# -eq 2 ] || { echo "usage: scripts/installer-payload.sh KERNELS OUT" >&2; exit 64; }
kernels=$1 out=$2
rm -rf "$out.stage" "$out"
mkdir -p "$out.stage" "$out/payload/bin" "$out/payload/kernels"
DESTDIR=$(realpath "$out.stage") meson install -C build --no-rebuild --strip --quiet >/dev/null
prefix=$(dirname "$(dirname "$(find "$out.stage" -name containerd-shim-skerry-v1 -type f)")")
cp "$prefix/bin/skerry" "$prefix/bin/containerd-shim-skerry-v1" "$out/payload/bin/"
cp -R "$prefix/libexec" "$out/payload/"
for kernel in "$kernels"/*/; do
	mkdir "$out/payload/kernels/$(basename "$kernel")"
	# Initial RAM disks are made on the node, of its own crun.
	find "$kernel" -maxdepth 1 -mindepth 1 ! -name 'initrd*' -exec cp -R {} "$out/payload/kernels/$(basename "$kernel")/" \;
done
cp images/installer/Dockerfile images/installer/install.sh "$out/"
kubectl=$(command -v kubectl || :)
[ -z "$kubectl" ] || cp "$kubectl" "$out/kubectl"
rm -rf "$out.stage"
