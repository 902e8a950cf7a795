#!/bin/sh
# A host in a virtual machine, for what this host may not have: /dev/vhost-vsock, cgroups of version 2. Debian's kernel with its modules, and
# this host's own files below it, to which nothing is written: what the job writes is in the memory of that host.
#
#   scripts/test-host.sh DIR COMMAND…   DIR: an empty directory for what it is made of; COMMAND is run as root with this environment
#
# The output of COMMAND is the output; its status is the last line, "status N". Needs root, for virtiofsd. Exits with 77 where it cannot be had.
set -eu
: "${SKERRY_TEST_STORE:?}"
dir=$1
shift
package=$(find "$SKERRY_TEST_STORE/cache/packages/" -name 'linux-image-6*-cloud-amd64_*.deb' 2>/dev/null | sort | tail -n 1)
server=/usr/lib/qemu/virtiofsd
[ "$(id -u)" -eq 0 ] || { echo "needs root" && exit 77; }
[ -n "$package" ] || { echo "the store has no package of Debian's kernel" && exit 77; }
[ -x $server ] || { echo "needs $server (qemu-system-common)" && exit 77; }
[ -x /bin/busybox ] || { echo "needs busybox-static" && exit 77; }

root=$dir/initrd
mkdir -p "$root/bin" "$root/modules" "$root/proc" "$root/sys" "$root/dev" "$root/host" "$root/memory" "$root/all"
cp /bin/busybox "$root/bin/"
dpkg-deb --fsys-tarfile "$package" | tar -x -C "$dir" --wildcards './boot/vmlinuz-*' \
	'*/virtio.ko' '*/virtio_ring.ko' '*/virtio_pci*.ko' '*/fuse.ko' '*/virtiofs.ko' '*/overlay.ko' \
	'*/vsock.ko' '*/vsock_loopback.ko' '*/vmw_vsock_virtio_transport_common.ko' '*/vhost.ko' '*/vhost_iotlb.ko' '*/vhost_vsock.ko'
find "$dir/lib" -name '*.ko' -exec mv {} "$root/modules/" \;

# quote WORD: as a shell reads it back.
quote() { printf "'%s' " "$(printf %s "$1" | sed "s/'/'\\\\''/g")"; }
{
	echo 'cd /'
	env | sed -n "s/^\([A-Z_]*\)=.*/\1/p" | while read -r name; do
		eval "value=\${$name}"
		# shellcheck disable=SC2154 # the line before
		printf 'export %s=%s\n' "$name" "$(quote "$value")"
	done
	for word; do quote "$word"; done
	echo
	# shellcheck disable=SC2016 # for the other shell
	echo 'echo "status $?"'
} >"$dir/job"
cat >"$root/init" <<END
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for m in /modules/* /modules/* /modules/*; do insmod \$m 2>/dev/null; done
mount -t virtiofs -o ro host /host && mount -t tmpfs memory /memory && mkdir /memory/upper /memory/work
mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work all /all
for d in proc sys dev; do mount --move /\$d /all/\$d; done
mkdir -p /all/dev/pts /all/dev/shm
mount -t devpts pts /all/dev/pts; mount -t tmpfs shm /all/dev/shm; mount -t tmpfs run /all/run; mount -t cgroup2 cgroup /all/sys/fs/cgroup
ip link set lo up
chroot /all /bin/sh -c '/bin/sh "$dir/job" </dev/null >/dev/ttyS0 2>&1'
poweroff -f
END
chmod +x "$root/init"
(cd "$root" && find . | busybox cpio -o -H newc 2>/dev/null) >"$dir/initrd.img"

socket=$dir/files.sock
$server --socket-path="$socket" -o source=/,sandbox=chroot,cache=always,log_level=warn >"$dir/files.log" 2>&1 &
files=$!
trap 'kill $files 2>/dev/null || true' EXIT
trap 'exit 1' HUP INT TERM
n=0
until [ -S "$socket" ]; do
	n=$((n + 1))
	[ $n -lt 1200 ] || { cat "$dir/files.log" && exit 1; }
	kill -0 $files 2>/dev/null || { cat "$dir/files.log" && exit 1; }
	sleep 0.1
done
qemu-system-x86_64 -M q35 -accel tcg,thread=multi -smp 2 -cpu max -m 1536M \
	-object memory-backend-memfd,id=m,size=1536M,share=on -numa node,memdev=m \
	-nodefaults -no-user-config -display none -no-reboot -serial stdio \
	-kernel "$dir"/boot/vmlinuz-* -initrd "$dir/initrd.img" -append "console=ttyS0 quiet loglevel=1 nowatchdog panic=-1" \
	-chardev socket,id=f,path="$socket" -device vhost-user-fs-pci,chardev=f,tag=host </dev/null
