#!/bin/sh
# What the tests of firmware boot need, made from Debian's packages and kept in SKERRY_CACHE, keyed by this script:
#
#   cloud.qcow2      a disk as distributions publish them: GPT, EFI, GRUB, cloud-init, an ssh server (compressed)
#   installer.iso    boots by EFI, writes a small system to the first disk, and powers off
#   halt.iso         boots by EFI and powers off
#
# They are below SKERRY_CACHE/firmware. Needs root: a file system with everybody's files in it is made from a tree.
set -eu
cd "$(dirname "$0")/.."
: "${SKERRY_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/skerry-check}"
key=$(sha256sum scripts/test-firmware.sh | cut -c 1-16)
result=$SKERRY_CACHE/firmware-$key
use() {
	ln -sfn "$(basename "$result")" "$SKERRY_CACHE/firmware"
}
[ ! -e "$result" ] || { use; exit 0; }
[ "$(id -u)" -eq 0 ] || { echo "test-firmware: needs root" >&2; exit 77; }
PATH=$PATH:/usr/sbin:/sbin
export PATH
mkdir -p "$SKERRY_CACHE"
exec 9>"$SKERRY_CACHE/firmware.lock"
flock 9
[ ! -e "$result" ] || { use; exit 0; }
work=$(mktemp -d "$SKERRY_CACHE/.tmp-firmware-XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# grub OUT CONFIG: an EFI program with this configuration inside.
grub() {
	grub-mkstandalone -O x86_64-efi -o "$1" --locales= --fonts= --themes= \
		--modules="part_gpt fat ext2 iso9660 search search_label search_fs_file" \
		--install-modules="normal linux part_gpt fat ext2 iso9660 search search_label search_fs_file serial terminal halt" \
		"boot/grub/grub.cfg=$2" >/dev/null
}

# fat OUT MIB LABEL: an empty FAT file system; mtools put files in.
fat() {
	truncate -s "${2}M" "$1"
	mformat -i "$1" -v "$3" ::
	mmd -i "$1" ::/EFI ::/EFI/BOOT
}

# ---- the distribution ----

# shellcheck disable=SC2016 # the hooks expand them
mmdebstrap --quiet --variant=minbase --mode=root --aptopt='Acquire::Retries "8"' \
	--include=systemd-sysv,udev,dbus,linux-image-cloud-amd64,cloud-init,cloud-guest-utils,openssh-server,sudo,ifupdown,isc-dhcp-client,iproute2,e2fsprogs,busybox-static \
	--customize-hook='rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/hostname "$1"/etc/resolv.conf' \
	--customize-hook=': >"$1"/etc/machine-id; printf "LABEL=root / ext4 rw,errors=remount-ro 0 1\n" >"$1"/etc/fstab' \
	--customize-hook='chroot "$1" systemctl enable serial-getty@ttyS0.service' \
	--customize-hook='chroot "$1" usermod --password "*" root' \
	bookworm "$work/tree"
cp "$work"/tree/boot/vmlinuz-* "$work/vmlinuz"
release=$(ls "$work/tree/lib/modules")
mke2fs -q -t ext4 -L root -U 5b3f6c2e-7d1a-4b8e-9c55-1f0a2d3e4b5c -d "$work/tree" "$work/root.img" 1200M
cat >"$work/cloud.cfg" <<END
serial --unit=0 --speed=115200
terminal_output serial
search --no-floppy --set=root --label root
linux /vmlinuz root=LABEL=root ro console=ttyS0 quiet
initrd /initrd.img
boot
END
grub "$work/cloud.efi" "$work/cloud.cfg"
fat "$work/esp.img" 32 EFI
mcopy -i "$work/esp.img" "$work/cloud.efi" ::/EFI/BOOT/BOOTX64.EFI
truncate -s 1280M "$work/cloud.raw"
# The root is the last partition, so that it can grow.
sfdisk --quiet "$work/cloud.raw" <<END
label: gpt
start=2048, size=65536, type=uefi
start=67584, size=2457600, type=linux
END
dd if="$work/esp.img" of="$work/cloud.raw" bs=1M seek=1 conv=notrunc,sparse status=none
dd if="$work/root.img" of="$work/cloud.raw" bs=1M seek=33 conv=notrunc,sparse status=none
mkdir "$work/out"
qemu-img convert -q -c -f raw -O qcow2 "$work/cloud.raw" "$work/out/cloud.qcow2"

# ---- the small system, and its installer ----

# initrd OUT SCRIPT FILE…: busybox, the drivers for our disks, /init.
initrd() {
	out=$1 script=$2
	shift 2
	rm -rf "$work/initrd"
	mkdir -p "$work/initrd/bin" "$work/initrd/dev" "$work/initrd/proc" "$work/initrd/sys" "$work/initrd/mnt" "$work/initrd/modules"
	cp "$work/tree/bin/busybox" "$work/initrd/bin/busybox"
	cp "$script" "$work/initrd/init"
	chmod 0755 "$work/initrd/init"
	# In the order in which they need each other.
	for module in virtio_pci virtio_blk isofs; do
		chroot "$work/tree" modprobe -S "$release" --show-depends "$module"
	done | sed -n 's/^insmod //p' | awk '!seen[$1]++ { print $1 }' | while read -r path; do
		cp "$work/tree$path" "$work/initrd/modules/"
		basename "$path" >>"$work/initrd/modules/order"
	done
	for file in "$@"; do cp "$file" "$work/initrd/"; done
	(cd "$work/initrd" && find . | LC_ALL=C sort | "$work/tree/bin/busybox" cpio -o -H newc 2>/dev/null | gzip -9n) >"$out"
}
cat >"$work/head" <<'END'
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
while read -r m; do /bin/busybox insmod /modules/$m; done </modules/order
END
{
	cat "$work/head"
	cat <<'END'
echo "SKERRY-INSTALLED: disk $(/bin/busybox cat /sys/block/vda/serial) of $(/bin/busybox cat /sys/block/vda/size) sectors"
echo "SKERRY-ANSWER: $(/bin/busybox dd if=/dev/vda bs=512 skip=1024 count=1 2>/dev/null | /bin/busybox tr -d '\0')"
/bin/busybox poweroff -f
END
} >"$work/init.system"
initrd "$work/initrd.system" "$work/init.system"
cat >"$work/system.cfg" <<END
serial --unit=0 --speed=115200
terminal_output serial
search --no-floppy --set=root --file /initrd.system
linux /vmlinuz console=ttyS0 quiet panic=-1
initrd /initrd.system
boot
END
grub "$work/system.efi" "$work/system.cfg"
fat "$work/system.esp" 48 SYSTEM
mcopy -i "$work/system.esp" "$work/system.efi" ::/EFI/BOOT/BOOTX64.EFI
mcopy -i "$work/system.esp" "$work/vmlinuz" "$work/initrd.system" ::/
# Between table and first partition there is room for the answer.
truncate -s 50M "$work/system.raw"
sfdisk --quiet "$work/system.raw" <<END
label: gpt
start=2048, size=98304, type=uefi
END
dd if="$work/system.esp" of="$work/system.raw" bs=1M seek=1 conv=notrunc,sparse status=none
gzip -9n <"$work/system.raw" >"$work/system.raw.gz"
{
	cat "$work/head"
	cat <<'END'
echo "SKERRY-INSTALLER: writing to $(/bin/busybox cat /sys/block/vda/serial)"
answers=$(/bin/busybox findfs LABEL=OEMDRV) && /bin/busybox mount -t iso9660 -o ro "$answers" /mnt
/bin/busybox gunzip -c /system.raw.gz | /bin/busybox dd of=/dev/vda bs=1M 2>/dev/null && /bin/busybox sync &&
	{ [ ! -e /mnt/answer.txt ] || /bin/busybox dd if=/mnt/answer.txt of=/dev/vda bs=512 seek=1024 conv=notrunc 2>/dev/null; } &&
	/bin/busybox sync && echo "SKERRY-INSTALLER: done" && /bin/busybox poweroff -f
echo "SKERRY-INSTALLER: failed"
/bin/busybox poweroff -f
END
} >"$work/init.installer"
initrd "$work/initrd.installer" "$work/init.installer" "$work/system.raw.gz"
cat >"$work/installer.cfg" <<END
serial --unit=0 --speed=115200
terminal_output serial
search --no-floppy --set=root --file /initrd.installer
linux /vmlinuz console=ttyS0 quiet panic=-1
initrd /initrd.installer
boot
END
grub "$work/installer.efi" "$work/installer.cfg"

# iso OUT EFI-PROGRAM FILE…
iso() {
	out=$1 program=$2
	shift 2
	rm -rf "$work/iso"
	mkdir "$work/iso"
	fat "$work/iso/efi.img" 8 INSTALLER
	mcopy -i "$work/iso/efi.img" "$program" ::/EFI/BOOT/BOOTX64.EFI
	for file in "$@"; do cp "$file" "$work/iso/"; done
	xorriso -as mkisofs -quiet -r -J -V SKERRY_INSTALL -o "$out" -e efi.img -no-emul-boot "$work/iso"
}
iso "$work/out/installer.iso" "$work/installer.efi" "$work/vmlinuz" "$work/initrd.installer"
echo halt >"$work/halt.cfg"
grub "$work/halt.efi" "$work/halt.cfg"
iso "$work/out/halt.iso" "$work/halt.efi"

mv "$work/out" "$result"
use
for old in "$SKERRY_CACHE"/firmware-????????????????; do
	[ "$old" = "$result" ] || rm -rf "$old"
done
