#include "engine/qemu/argv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "base/buf.h"
#include "base/memory.h"
#include "engine/qemu/argv_parts.h"
#include "json/json.h"

/* How this works: words are appended in a fixed order (machine, accelerator, memory, boot, channels, disks, networks, rest), so that two
 * plans of one request are the same text and golden files can hold it. Whatever can be given as JSON is, because then nothing has to be
 * escaped; what goes into QEMU's own "a=b,c=d" syntax is checked against a narrow alphabet and refused otherwise.
 *
 * QEMU opens no disk by path: each descriptor is added as an fd set and named /dev/fdset/N, which hands out duplicates, so the file may be
 * unreadable for the user that QEMU runs as. Kernel, initrd and boot configuration have no such door: they are opened again through
 * /proc/self/fd/N, which asks for read permission of the file itself (but not of the directories that lead to it). */

#define FD_FIRST    10
#define DISK_QUEUES 4
#define SHARE_QUEUE 1024 /* requests under way; QEMU's default of 128 makes many small files wait */
/* MiB of translated code, touched as they fill; a full cache is thrown away whole. A quarter of the guest's memory: who gives it little has little. */
enum { TCG_CACHE_MIN = 32, TCG_CACHE_MAX = ENGINE_TRANSLATIONS_MAX >> 20 };
#define LEAST_HZ       100 /* ticks a second: no kernel for this architecture has fewer */
#define EXPEDITED_CPUS 16

static void word(struct builder *b, const char *s)
{
	strv_add(&b->plan->argv, s);
}

static void option(struct builder *b, const char *name, const char *value)
{
	word(b, name);
	word(b, value);
}

static void option_json(struct builder *b, const char *name, struct json *value /* consumed */)
{
	_cleanup_json_ struct json *j = value;
	_cleanup_buf_ struct buf text = {};

	json_render(j, false, &text);
	word(b, name);
	strv_take(&b->plan->argv, buf_take(&text));
}

static int add_fd(struct builder *b, enum engine_fd_kind kind, const char *path, int flags, size_t index)
{
	struct engine_plan *p = b->plan;
	struct engine_fd *f;

	p->fds = xrealloc_array(p->fds, p->n_fds + 1, sizeof(*p->fds));
	f = &p->fds[p->n_fds];
	*f = (struct engine_fd){
		.number = FD_FIRST + (int)p->n_fds,
		.kind = kind,
		.path = xstrdup(path),
		.flags = flags,
		.index = index,
	};
	p->n_fds++;
	return f->number;
}

static void add_machine(struct builder *b)
{
	const struct engine_request *req = b->req;
	_cleanup_free_ char *name = xasprintf("guest=%s,debug-threads=on", req->name);
	bool secure = b->flash && req->firmware == FIRMWARE_SECURE;
	_cleanup_buf_ struct buf m = {};

	word(b, "-nodefaults");
	word(b, "-no-user-config");
	option(b, "-display", "none");
	word(b, "-no-reboot");
	option(b, "-name", name);
	option(b, "-uuid", req->uuid);
	if (req->sandbox)
		option(b, "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
	if (b->micro) {
		/* Emulated, the only timer that ticks before the local APIC's is calibrated is the PIT; KVM guests have kvmclock. Without the
		 * RTC the guest waits two seconds for one. */
		buf_addf(&m, "microvm,acpi=%s,rtc=on,pit=%s,pic=%s,isa-serial=off,auto-kernel-cmdline=on",
			 b->acpi ? "on" : "off", b->tcg ? "on" : "off", b->tcg ? "on" : "off");
	} else {
		buf_addf(&m, "q35,vmport=off,smm=%s,sata=%s,smbus=off,i8042=off,usb=off,graphics=%s",
			 secure ? "on" : "off", b->cdrom ? "on" : "off", req->display ? "on" : "off");
		if (b->flash)
			buf_adds(&m, ",pflash0=firmware,pflash1=nvram");
	}
	buf_adds(&m, ",memory-backend=ram");
	option(b, "-machine", m.p);
	if (b->micro)
		option(b, "-global", "virtio-mmio.force-legacy=false");
	if (secure) {
		/* Only the firmware itself, in system management mode, may change its variables (OvmfPkg's README). */
		option(b, "-global", "driver=cfi.pflash01,property=secure,value=on");
		option(b, "-global", "ICH9-LPC.disable_s3=1");
	}
}

static uint64_t tcg_cache(const struct engine_request *req)
{
	uint64_t quarter = req->memory_bytes / 4 >> 20, limit = req->translations_bytes >> 20;

	limit = limit && limit < TCG_CACHE_MAX ? limit : TCG_CACHE_MAX;
	quarter = quarter > limit ? limit : quarter;
	return quarter < TCG_CACHE_MIN ? TCG_CACHE_MIN : quarter;
}

static void add_cpu_and_memory(struct builder *b)
{
	const struct engine_request *req = b->req;
	_cleanup_free_ char *cpus = xasprintf("%" PRIu32, req->cpus);
	_cleanup_free_ char *mem = xasprintf("%" PRIu64 "M", req->memory_bytes / MEMORY_QUANTUM);
	_cleanup_free_ char *tcg = xasprintf("tcg,thread=multi,tb-size=%" PRIu64, tcg_cache(req));
	struct json *ram = json_object();

	option(b, "-accel", b->tcg ? tcg : "kvm");
	/* Emulated: everything that QEMU knows (userlands ask for SSE4 and AVX), but ERMS makes memset a loop over bytes. */
	option(b, "-cpu", req->cpu_model ? req->cpu_model : b->tcg ? "max,-erms" : "host");
	option(b, "-smp", cpus);
	option(b, "-m", mem);
	/* Private memory is anonymous: as fast to set up as a memfd, and the host may give it huge pages. */
	json_set_string(ram, "qom-type", req->shared_memory ? "memory-backend-memfd" : "memory-backend-ram");
	json_set_string(ram, "id", "ram");
	json_set_u64(ram, "size", req->memory_bytes);
	if (req->shared_memory)
		json_set_bool(ram, "share", true);
	option_json(b, "-object", ram);
}

static void add_command_line(struct builder *b)
{
	const struct engine_request *req = b->req;
	_cleanup_buf_ struct buf c = {};

	/* Without ACPI nothing but a triple fault ends the machine, and it is the fastest reset on the other shape too. LOCK prefixes stay
	 * as they are: patching thousands of them costs a boot more than it gives. */
	buf_adds(&c, "console=hvc0 reboot=t panic=-1 oops=panic quiet noreplace-smp");
	if (!b->acpi)
		buf_adds(&c, " pci=off acpi=off");
	if (req->kernel_modular)
		buf_adds(&c, " cryptomgr.notests 8250.nr_uarts=0");
	/* A grace period of RCU takes some ticks when more than one CPU has to pass through it, and namespaces, mounts and network
	 * interfaces wait for one each; asked for by interrupts it takes none, which is dear only where CPUs are many. */
	if (req->cpus > 1 && req->cpus <= EXPEDITED_CPUS)
		buf_adds(&c, " rcupdate.rcu_expedited=1");
	if (b->tcg) {
		/* The guest reads the host's time stamp counter, but has nothing to verify it with: unless told, it falls back to a
		 * 10 ms tick. Told the rates too, it skips calibrations that take long and fail on a busy host, the delay loop's once
		 * for each further CPU. That one is per tick: for a kernel with more of them delays come out too long, never too
		 * short. */
		buf_adds(&c, " no_timer_check tsc=reliable");
		if (req->tsc_khz)
			buf_addf(&c, " tsc_early_khz=%" PRIu32 " lpj=%" PRIu64, req->tsc_khz,
				 (uint64_t)req->tsc_khz * 1000 / LEAST_HZ);
		if (!req->kernel_modular)
			buf_adds(&c, " lapic_timer_hz=1000000000"); /* our kernel's own option, see kernel/README.md */
		else if (req->cpus == 1)
			buf_adds(&c, " nolapic_timer"); /* with more CPUs the ticks of one timer would wake them all */
	}
	/* The others are there and off (Documentation/admin-guide/kernel-parameters.txt): what the guest is told to it can put on later, which works on
	 * every shape; plugging processors in needs ACPI, which micro does without. */
	if (req->start_cpus && req->start_cpus < req->cpus)
		buf_addf(&c, " maxcpus=%" PRIu32, req->start_cpus);
	if (req->command_line && *req->command_line)
		buf_addf(&c, " %s", req->command_line);
	option(b, "-append", c.p);
}

static void add_file_by_fd(struct builder *b, const char *name, const char *path)
{
	int fd = add_fd(b, ENGINE_FD_OPEN, path, O_RDONLY, 0);
	_cleanup_free_ char *link = xasprintf("/proc/self/fd/%d", fd);

	option(b, name, link);
}

/* Adds the descriptor, the file node "NODE-file" and the format node NODE. @backing: name of the node below, NULL = none. */
static void add_nodes(struct builder *b, const char *node, const char *path, const char *driver, const char *format,
		      bool read_only, const char *backing)
{
	int fd = add_fd(b, ENGINE_FD_OPEN, path, read_only ? O_RDONLY : O_RDWR, 0);
	_cleanup_free_ char *set = xasprintf("fd=%d,set=%d", fd, fd);
	_cleanup_free_ char *file_node = xasprintf("%s-file", node);
	struct json *file = json_object(), *top = json_object();

	option(b, "-add-fd", set);
	json_set_string(file, "driver", driver);
	json_set_string(file, "node-name", file_node);
	json_setf(file, "filename", "/dev/fdset/%d", fd);
	json_set_string(file, "aio", "threads");
	json_set_bool(file, "read-only", read_only);
	if (!read_only)
		json_set_string(file, "discard", "unmap");
	option_json(b, "-blockdev", file);

	json_set_string(top, "driver", format);
	json_set_string(top, "node-name", node);
	json_set_string(top, "file", file_node);
	json_set_bool(top, "read-only", read_only);
	if (!read_only) {
		json_set_string(top, "discard", "unmap");
		json_set_string(top, "detect-zeroes", "unmap");
	}
	/* Without the explicit null QEMU would follow the path that the qcow2 header holds. */
	if (backing)
		json_set_string(top, "backing", backing);
	else if (streq(format, "qcow2"))
		json_set(top, "backing", json_null());
	option_json(b, "-blockdev", top);
}

static void add_block_nodes(struct builder *b, const char *node, const char *path, const char *format, bool read_only,
			    const char *backing)
{
	add_nodes(b, node, path, "file", format, read_only, backing);
}

static void add_boot(struct builder *b)
{
	_cleanup_free_ char *fw = NULL;

	if (b->flash) {
		add_block_nodes(b, "firmware", b->req->firmware_path, "raw", true, NULL);
		add_block_nodes(b, "nvram", b->req->nvram_path, "raw", false, NULL);
	} else if (b->firmware) {
		/* It speaks on the serial port, as the machine has no graphics. */
		option(b, "-bios", b->req->firmware_path);
	}

	if (b->req->kernel_path) {
		/* The small firmware that micro has by default; SeaBIOS would look for boot devices first. */
		if (!b->micro)
			option(b, "-bios", "qboot.rom");
		add_file_by_fd(b, "-kernel", b->req->kernel_path);
		if (b->req->initrd_path)
			add_file_by_fd(b, "-initrd", b->req->initrd_path);
		add_command_line(b);
	}
	fw = xasprintf("name=opt/skerry/boot,file=/proc/self/fd/%d", add_fd(b, ENGINE_FD_BOOT, NULL, O_RDONLY, 0));
	option(b, "-fw_cfg", fw);
}

static struct json *device(struct builder *b, const char *mmio, const char *pci)
{
	struct json *d = json_object();

	json_set_string(d, "driver", b->micro ? mmio : pci);
	/* On the root bus of q35 a virtio device would be transitional; nobody needs the legacy half. */
	if (!b->micro && !streq(pci, "vhost-vsock-pci"))
		json_set_string(d, "disable-legacy", "on");
	return d;
}

static void add_chardev(struct builder *b, const char *id, const char *socket)
{
	_cleanup_free_ char *c =
		xasprintf("socket,id=%s,fd=%d,server=on,wait=off", id, add_fd(b, ENGINE_FD_LISTEN, socket, 0, 0));

	option(b, "-chardev", c);
}

static void add_channels(struct builder *b)
{
	struct json *d;

	add_chardev(b, "qmp", QEMU_QMP_SOCKET);
	option(b, "-mon", "chardev=qmp,mode=control");

	/* Each port costs the guest two queues at boot: as many as there are, not the 31 of the default. */
	d = device(b, "virtio-serial-device", "virtio-serial-pci");
	json_set_string(d, "id", "ports");
	json_set_u64(d, "max_ports", b->req->vsock_cid ? 1 : 2);
	option_json(b, "-device", d);

	add_chardev(b, "console", QEMU_CONSOLE_SOCKET);
	d = json_object();
	json_set_string(d, "driver", b->firmware ? "isa-serial" : "virtconsole");
	if (!b->firmware)
		json_set_string(d, "bus", "ports.0");
	json_set_string(d, "chardev", "console");
	option_json(b, "-device", d);

	if (b->req->vsock_cid) {
		_cleanup_free_ char *fd = xasprintf("%d", add_fd(b, ENGINE_FD_VHOST_VSOCK, NULL, O_RDWR, 0));

		d = device(b, "vhost-vsock-device", "vhost-vsock-pci");
		json_set_u64(d, "guest-cid", b->req->vsock_cid);
		json_set_string(d, "vhostfd", fd);
		option_json(b, "-device", d);
		return;
	}
	add_chardev(b, "agent", QEMU_AGENT_SOCKET);
	d = json_object();
	json_set_string(d, "driver", "virtserialport");
	json_set_string(d, "bus", "ports.0");
	json_set_string(d, "chardev", "agent");
	json_set_string(d, "name", "skerry.agent");
	option_json(b, "-device", d);
}

/* Two drives fit one port of the IDE bus of old; each port of q35's AHCI is a bus with one. */
static void add_cdrom(struct builder *b, const struct engine_disk *d, size_t index, size_t port)
{
	struct json *dev = json_object();

	add_block_nodes(b, d->id, d->path, "raw", true, NULL);
	json_set_string(dev, "driver", "ide-cd");
	json_setf(dev, "bus", "ide.%zu", port);
	json_setf(dev, "id", "disk-%s", d->id);
	json_set_string(dev, "drive", d->id);
	json_set_string(dev, "serial", d->id);
	if (b->firmware)
		json_set_u64(dev, "bootindex", index);
	option_json(b, "-device", dev);
}

static void add_disk(struct builder *b, const struct engine_disk *d, size_t index)
{
	_cleanup_free_ char *base = d->backing_path ? xasprintf("%s-base", d->id) : NULL;
	uint32_t queues = b->req->cpus < DISK_QUEUES ? b->req->cpus : DISK_QUEUES;
	struct json *dev = device(b, "virtio-blk-device", "virtio-blk-pci");

	if (base)
		add_block_nodes(b, base, d->backing_path, d->backing_format, true, NULL);
	add_nodes(b, d->id, d->path, d->block_device ? "host_device" : "file", d->format, d->read_only, base);
	json_setf(dev, "id", "disk-%s", d->id);
	json_set_string(dev, "drive", d->id);
	json_set_string(dev, "serial", d->id);
	json_set_u64(dev, "num-queues", queues);
	if (b->firmware && index == 0)
		json_set_u64(dev, "bootindex", index);
	option_json(b, "-device", dev);
}

static void add_disks(struct builder *b)
{
	const struct engine_request *req = b->req;
	size_t port = 0;

	for (size_t i = 0; i < req->n_disks; i++)
		if (req->disks[i].cdrom)
			add_cdrom(b, &req->disks[i], i, port++);
		else
			add_disk(b, &req->disks[i], i);
}

static void add_nic(struct builder *b, const struct engine_nic *n, size_t index)
{
	_cleanup_buf_ struct buf net = {};
	struct json *dev = device(b, "virtio-net-device", "virtio-net-pci");

	switch (n->kind) {
	case NIC_USER:
		/* The addresses that every network mode with a private guest network uses. */
		buf_addf(&net, "user,id=net%zu,ipv6=off,net=10.0.2.0/24,host=10.0.2.2,dns=10.0.2.3,dhcpstart=10.0.2.15",
			 index);
		for (size_t i = 0; i < n->n_host_forwards; i++)
			buf_addf(&net, ",hostfwd=%s", n->host_forwards[i]);
		break;
	case NIC_STREAM:
		buf_addf(&net, "stream,id=net%zu,server=off,addr.type=fd,addr.str=%d", index,
			 add_fd(b, ENGINE_FD_NIC, NULL, 0, index));
		break;
	case NIC_TAP: buf_addf(&net, "tap,id=net%zu,fd=%d", index, add_fd(b, ENGINE_FD_NIC, NULL, 0, index)); break;
	}
	option(b, "-netdev", net.p);
	json_setf(dev, "netdev", "net%zu", index);
	json_set_string(dev, "mac", n->mac);
	if (n->mtu)
		json_set_u64(dev, "host_mtu", n->mtu);
	if (!b->micro)
		json_set_string(dev, "romfile", "");
	option_json(b, "-device", dev);
}

/* Served by QEMU: files are made with the rights and the name of the user that it runs as. What QEMU cannot do there, as giving them away, is not told
 * to the guest as a failure. */
static void add_served_share(struct builder *b, const struct engine_share *share, size_t index)
{
	struct json *d = device(b, "virtio-9p-device", "virtio-9p-pci");
	_cleanup_buf_ struct buf fs = {};

	buf_addf(&fs, "local,id=share%zu,security_model=none,multidevs=remap%s,path=", index,
		 share->read_only ? ",readonly=on" : "");
	/* A comma is written twice. */
	for (const char *p = share->path; *p; p++) {
		buf_addc(&fs, *p);
		if (*p == ',')
			buf_addc(&fs, *p);
	}
	option(b, "-fsdev", fs.p);
	json_setf(d, "fsdev", "share%zu", index);
	json_set_string(d, "mount_tag", share->tag);
	option_json(b, "-device", d);
}

static void add_share(struct builder *b, const struct engine_share *share, size_t index)
{
	_cleanup_free_ char *c = NULL;
	struct json *d;

	if (share->path) {
		add_served_share(b, share, index);
		return;
	}
	c = xasprintf("socket,id=share%zu,fd=%d", index, add_fd(b, ENGINE_FD_SHARE, NULL, 0, index));
	option(b, "-chardev", c);
	/* This device has no legacy half to switch off. */
	d = json_object();
	json_set_string(d, "driver", b->micro ? "vhost-user-fs-device" : "vhost-user-fs-pci");
	json_setf(d, "chardev", "share%zu", index);
	json_set_string(d, "tag", share->tag);
	json_set_u64(d, "queue-size", SHARE_QUEUE);
	option_json(b, "-device", d);
}

/* A frame buffer that firmware and every kernel know, and a pointer that knows where it is rather than how far it was moved. VNC listens in a
 * directory that belongs to the engine's user, as its socket cannot be handed over. Several may look at once. */
static void add_display(struct builder *b)
{
	static const char *const usb[] = { "usb-kbd", "usb-tablet" };
	int dir = add_fd(b, ENGINE_FD_DIRECTORY, ENGINE_DISPLAY_DIR, O_RDONLY | O_DIRECTORY, 0);
	_cleanup_free_ char *vnc = xasprintf("unix:/proc/self/fd/%d/" ENGINE_DISPLAY_SOCKET ",share=force-shared", dir);
	struct json *d = json_object();

	option(b, "-vnc", vnc);
	json_set_string(d, "driver", "VGA");
	/* UEFI and kernels drive it themselves, BIOS needs the code that comes with it. */
	if (!b->firmware || b->flash)
		json_set_string(d, "romfile", "");
	option_json(b, "-device", d);
	d = json_object();
	json_set_string(d, "driver", "qemu-xhci");
	json_set_string(d, "id", "usb");
	option_json(b, "-device", d);
	for (size_t i = 0; i < ARRAY_SIZE(usb); i++) {
		d = json_object();
		json_set_string(d, "driver", usb[i]);
		json_set_string(d, "bus", "usb.0");
		option_json(b, "-device", d);
	}
}

static void add_rest(struct builder *b)
{
	struct json *d = device(b, "virtio-balloon-device", "virtio-balloon-pci");

	json_set_string(d, "id", "balloon");
	json_set_bool(d, "free-page-reporting", true);
	json_set_bool(d, "deflate-on-oom", true);
	option_json(b, "-device", d);
	option_json(b, "-device", device(b, "virtio-rng-device", "virtio-rng-pci"));
}

int qemu_argv(const struct engine_request *req, const char *program, struct engine_plan *ret, struct error *err)
{
	struct engine_plan plan = {};
	struct builder b = {
		.req = req, .plan = &plan, .micro = req->shape == SHAPE_MICRO, .tcg = req->accel == ACCEL_TCG
	};
	int r;

	/* Kernels with modules (a distribution's) learn of virtio-mmio devices from ACPI only: the driver comes too late for, or lacks, the
	 * command line's description of them. */
	b.acpi = !b.micro || req->kernel_modular;
	b.firmware = !req->kernel_path;
	b.flash = b.firmware && req->firmware != FIRMWARE_BIOS;
	for (size_t i = 0; i < req->n_disks; i++)
		b.cdrom = b.cdrom || req->disks[i].cdrom;
	r = argv_check(&b, program, err);
	if (r < 0)
		return r;
	word(&b, program);
	add_machine(&b);
	add_cpu_and_memory(&b);
	add_boot(&b);
	add_channels(&b);
	add_disks(&b);
	for (size_t i = 0; i < req->n_nics; i++)
		add_nic(&b, &req->nics[i], i);
	for (size_t i = 0; i < req->n_shares; i++)
		add_share(&b, &req->shares[i], i);
	if (req->display)
		add_display(&b);
	add_rest(&b);
	for (size_t i = 0; req->extra_args && i < req->extra_args->n; i++)
		word(&b, req->extra_args->items[i]);
	plan.power_button = b.acpi;
	plan.reboot_powers_off = !b.acpi;
	*ret = plan;
	return 0;
}
