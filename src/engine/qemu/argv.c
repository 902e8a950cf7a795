#include "engine/qemu/argv.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "base/buf.h"
#include "base/memory.h"
#include "json/json.h"

/* How this works: words are appended in a fixed order (machine, accelerator, memory, boot, channels, disks, networks, rest), so that two
 * plans of one request are the same text and golden files can hold it. Whatever can be given as JSON is, because then nothing has to be
 * escaped; what goes into QEMU's own "a=b,c=d" syntax is checked against a narrow alphabet and refused otherwise.
 *
 * QEMU opens no disk by path: each descriptor is added as an fd set and named /dev/fdset/N, which hands out duplicates, so the file may be
 * unreadable for the user that QEMU runs as. Kernel, initrd and boot configuration have no such door: they are opened again through
 * /proc/self/fd/N, which asks for read permission of the file itself (but not of the directories that lead to it). */

#define FD_FIRST       10
#define MICRO_SLOTS    8
#define DISK_QUEUES    4
#define SHARE_QUEUE    1024  /* requests under way; QEMU's default of 128 makes many small files wait */
#define ID_MAX         20    /* a virtio-blk serial is 20 bytes */
#define NODE_MAX       31    /* a block node name */
#define TCG_TB_SIZE    "256" /* MiB, touched as they fill; a full cache is thrown away whole */
#define MTU_MIN        68    /* virtio 1.1, 5.1.4.1 */
#define MTU_MAX        65535
#define MEMORY_QUANTUM (UINT64_C(1) << 20)

struct builder {
	const struct engine_request *req;
	struct engine_plan *plan;
	bool micro;
	bool tcg;
	bool acpi;
	bool firmware;
	bool cdrom; /* there is one */
};

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

static bool id_valid(const char *s)
{
	size_t n = s ? strlen(s) : 0;

	if (n == 0 || n > ID_MAX || !islower((unsigned char)s[0]))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!islower((unsigned char)s[i]) && !isdigit((unsigned char)s[i]) && s[i] != '-')
			return false;
	return true;
}

/* For values inside QEMU's comma syntax, and for whole words: no commas where they separate, no control characters anywhere. */
static bool plain(const char *s, const char *also_refused)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f || strchr(also_refused, *s))
			return false;
	return true;
}

static bool has_word(const char *text, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = text + strspn(text, " "); *p; p += strspn(p, " ")) {
		size_t len = strcspn(p, " ");

		if (len == n && memcmp(p, word, n) == 0)
			return true;
		p += len;
	}
	return false;
}

static bool mac_valid(const char *s)
{
	if (!s || strlen(s) != 17)
		return false;
	for (int i = 0; i < 17; i++)
		if (i % 3 == 2 ? s[i] != ':' : !isxdigit((unsigned char)s[i]))
			return false;
	return true;
}

static bool uuid_valid(const char *s)
{
	if (!s || strlen(s) != 36)
		return false;
	for (int i = 0; i < 36; i++)
		if (i == 8 || i == 13 || i == 18 || i == 23 ? s[i] != '-' : !isxdigit((unsigned char)s[i]))
			return false;
	return true;
}

static int bad(struct error *err, const char *fmt, ...) _printf_(2, 3);
static int bad(struct error *err, const char *fmt, ...)
{
	_cleanup_free_ char *msg = NULL;
	va_list ap;

	va_start(ap, fmt);
	msg = xvasprintf(fmt, ap);
	va_end(ap);
	return error_set_kind(err, ERROR_CONFIG, EINVAL, "%s", msg);
}

static bool format_valid(const char *s)
{
	return s && (streq(s, "raw") || streq(s, "qcow2"));
}

static int check_disks(const struct engine_request *req, struct error *err)
{
	for (size_t i = 0; i < req->n_disks; i++) {
		const struct engine_disk *d = &req->disks[i];

		if (!id_valid(d->id))
			return bad(err, "disk %zu: its id is not 1 to %d of a-z, 0-9 and '-'", i, ID_MAX);
		for (size_t k = 0; k < i; k++)
			if (streq(req->disks[k].id, d->id))
				return bad(err, "disk '%s': given twice", d->id);
		if (!d->path || d->path[0] != '/')
			return bad(err, "disk '%s': its path is not absolute", d->id);
		if (d->cdrom && (!d->read_only || d->backing_path || !d->format || !streq(d->format, "raw")))
			return bad(err, "disk '%s': a CD is raw and read-only", d->id);
		if (!format_valid(d->format))
			return bad(err, "disk '%s': format '%s' is neither raw nor qcow2", d->id,
				   d->format ? d->format : "");
		if (!d->backing_path)
			continue;
		if (!streq(d->format, "qcow2"))
			return bad(err, "disk '%s': only qcow2 can have a backing file", d->id);
		if (d->backing_path[0] != '/' || !format_valid(d->backing_format))
			return bad(err, "disk '%s': its backing file needs an absolute path and a format", d->id);
	}
	return 0;
}

static int check_nics(const struct engine_request *req, struct error *err)
{
	for (size_t i = 0; i < req->n_nics; i++) {
		const struct engine_nic *n = &req->nics[i];

		if (!mac_valid(n->mac))
			return bad(err, "network %zu: '%s' is not a MAC address", i, n->mac ? n->mac : "");
		for (size_t k = 0; k < i; k++)
			if (strcasecmp(req->nics[k].mac, n->mac) == 0)
				return bad(err, "network %zu: MAC address %s is given twice", i, n->mac);
		if (n->mtu && (n->mtu < MTU_MIN || n->mtu > MTU_MAX))
			return bad(err, "network %zu: MTU %" PRIu32 " is outside %d to %d", i, n->mtu, MTU_MIN,
				   MTU_MAX);
		for (size_t k = 0; k < n->n_host_forwards; k++)
			if (n->kind != NIC_USER || !plain(n->host_forwards[k], ", "))
				return bad(err, "network %zu: port forward '%s' cannot be used", i,
					   n->host_forwards[k]);
	}
	return 0;
}

static int check_shares(const struct engine_request *req, struct error *err)
{
	for (size_t i = 0; i < req->n_shares; i++) {
		const char *tag = req->shares[i].tag;

		if (!id_valid(tag))
			return bad(err, "share %zu: its tag is not 1 to %d of a-z, 0-9 and '-'", i, ID_MAX);
		for (size_t k = 0; k < i; k++)
			if (streq(req->shares[k].tag, tag))
				return bad(err, "share '%s': given twice", tag);
	}
	if (req->n_shares && !req->shared_memory)
		return bad(err, "shares need shared memory");
	return 0;
}

static int check_slots(const struct builder *b, struct error *err)
{
	const struct engine_request *req = b->req;
	/* Console and agent share one device; then random numbers and the balloon. */
	size_t n = 3 + req->n_disks + req->n_nics + req->n_shares + (req->vsock_cid ? 1 : 0);

	if (!b->micro || n <= MICRO_SLOTS)
		return 0;
	bad(err, "shape micro has %d device slots and this machine needs %zu", MICRO_SLOTS, n);
	error_hint(err, "use --shape full");
	return -EINVAL;
}

static int check(const struct builder *b, const char *program, struct error *err)
{
	const struct engine_request *req = b->req;
	int r;

	if ((unsigned)req->shape >= SHAPE_MAX)
		return bad(err, "unknown machine shape %d", (int)req->shape);
	if (req->accel != ACCEL_KVM && req->accel != ACCEL_TCG)
		return bad(err, "the accelerator is not decided");
	if (!program || program[0] != '/')
		return bad(err, "the program's path is not absolute");
	if (!req->name || !*req->name || !plain(req->name, ",="))
		return bad(err, "the machine's name cannot be handed to QEMU");
	if (!uuid_valid(req->uuid))
		return bad(err, "'%s' is not a UUID", req->uuid ? req->uuid : "");
	if (req->cpus < 1 || req->cpus > 255)
		return bad(err, "cpus: %" PRIu32 " is outside 1 to 255", req->cpus);
	if (req->start_cpus > req->cpus)
		return bad(err, "cpus: %" PRIu32 " cannot be started of %" PRIu32, req->start_cpus, req->cpus);
	if (req->memory_bytes < MEMORY_QUANTUM || req->memory_bytes % MEMORY_QUANTUM)
		return bad(err, "memory: %" PRIu64 " bytes is not a number of whole MiB", req->memory_bytes);
	if (req->cpu_model && (!*req->cpu_model || !plain(req->cpu_model, " ")))
		return bad(err, "CPU model '%s' cannot be used", req->cpu_model);
	if (!req->kernel_path && b->micro) {
		bad(err, "shape micro boots a kernel directly, and there is none");
		error_hint(err, "use --shape full, or name a kernel");
		return -EINVAL;
	}
	if ((req->kernel_path && req->kernel_path[0] != '/') || (req->initrd_path && req->initrd_path[0] != '/'))
		return bad(err, "kernel and initrd need absolute paths");
	if (!req->kernel_path && (req->initrd_path || req->command_line))
		return bad(err, "an initrd and a kernel command line need a kernel");
	if (req->command_line && !plain(req->command_line, ""))
		return bad(err, "the kernel command line has a control character");
	/* QEMU appends the description of the devices, which would become the first process's arguments. */
	if (req->command_line && b->micro && !b->acpi && has_word(req->command_line, "--"))
		return bad(err, "the kernel command line may not contain '--' on shape micro");
	if (b->firmware &&
	    (!req->firmware_path || req->firmware_path[0] != '/' || !req->nvram_path || req->nvram_path[0] != '/'))
		return bad(err, "firmware and its variables need absolute paths");
	r = check_disks(req, err);
	if (r == 0 && b->micro && b->cdrom) {
		bad(err, "shape micro has no CD drive");
		error_hint(err, "use --shape full");
		r = -EINVAL;
	}
	if (r == 0)
		r = check_nics(req, err);
	if (r == 0)
		r = check_shares(req, err);
	return r < 0 ? r : check_slots(b, err);
}

static void add_machine(struct builder *b)
{
	const struct engine_request *req = b->req;
	_cleanup_free_ char *name = xasprintf("guest=%s,debug-threads=on", req->name);
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
		buf_addf(&m, "q35,vmport=off,smm=off,sata=%s,smbus=off,i8042=off,usb=off,graphics=off",
			 b->cdrom ? "on" : "off");
		if (b->firmware)
			buf_adds(&m, ",pflash0=firmware,pflash1=nvram");
	}
	buf_adds(&m, ",memory-backend=ram");
	option(b, "-machine", m.p);
	if (b->micro)
		option(b, "-global", "virtio-mmio.force-legacy=false");
}

static void add_cpu_and_memory(struct builder *b)
{
	const struct engine_request *req = b->req;
	_cleanup_free_ char *cpus = xasprintf("%" PRIu32, req->cpus);
	_cleanup_free_ char *mem = xasprintf("%" PRIu64 "M", req->memory_bytes / MEMORY_QUANTUM);
	struct json *ram = json_object();

	option(b, "-accel", b->tcg ? "tcg,thread=multi,tb-size=" TCG_TB_SIZE : "kvm");
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
	buf_adds(&c, "console=hvc0 reboot=t panic=-1 quiet noreplace-smp");
	if (!b->acpi)
		buf_adds(&c, " pci=off acpi=off");
	if (req->kernel_modular)
		buf_adds(&c, " cryptomgr.notests 8250.nr_uarts=0");
	if (b->tcg) {
		/* The guest reads the host's time stamp counter, but has nothing to verify it with: unless told, it falls back to a
		 * 10 ms tick. Told the rates too, it skips calibrations that take long and fail on a busy host. */
		buf_adds(&c, " no_timer_check tsc=reliable");
		if (req->tsc_khz)
			buf_addf(&c, " tsc_early_khz=%" PRIu32, req->tsc_khz);
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
static void add_block_nodes(struct builder *b, const char *node, const char *path, const char *format, bool read_only,
			    const char *backing)
{
	int fd = add_fd(b, ENGINE_FD_OPEN, path, read_only ? O_RDONLY : O_RDWR, 0);
	_cleanup_free_ char *set = xasprintf("fd=%d,set=%d", fd, fd);
	_cleanup_free_ char *file_node = xasprintf("%s-file", node);
	struct json *file = json_object(), *top = json_object();

	option(b, "-add-fd", set);
	json_set_string(file, "driver", "file");
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

static void add_boot(struct builder *b)
{
	_cleanup_free_ char *fw = NULL;

	if (b->firmware) {
		add_block_nodes(b, "firmware", b->req->firmware_path, "raw", true, NULL);
		add_block_nodes(b, "nvram", b->req->nvram_path, "raw", false, NULL);
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
	add_block_nodes(b, d->id, d->path, d->format, d->read_only, base);
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

static void add_share(struct builder *b, const struct engine_share *share, size_t index)
{
	_cleanup_free_ char *c =
		xasprintf("socket,id=share%zu,fd=%d", index, add_fd(b, ENGINE_FD_SHARE, NULL, 0, index));
	/* This device has no legacy half to switch off. */
	struct json *d = json_object();

	option(b, "-chardev", c);
	json_set_string(d, "driver", b->micro ? "vhost-user-fs-device" : "vhost-user-fs-pci");
	json_setf(d, "chardev", "share%zu", index);
	json_set_string(d, "tag", share->tag);
	json_set_u64(d, "queue-size", SHARE_QUEUE);
	option_json(b, "-device", d);
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
	for (size_t i = 0; i < req->n_disks; i++)
		b.cdrom = b.cdrom || req->disks[i].cdrom;
	r = check(&b, program, err);
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
	add_rest(&b);
	plan.power_button = b.acpi;
	plan.reboot_powers_off = !b.acpi;
	*ret = plan;
	return 0;
}
