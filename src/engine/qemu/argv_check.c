/* What QEMU could not be told as it is meant, or would understand otherwise, is refused before anything is told. */
#include "engine/qemu/argv_parts.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/memory.h"

#define MICRO_SLOTS 8
#define ID_MAX      20 /* a virtio-blk serial is 20 bytes */
#define MTU_MIN     68 /* virtio 1.1, 5.1.4.1 */
#define MTU_MAX     65535

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

static bool tag_valid(const char *s)
{
	size_t n = s ? strlen(s) : 0;

	return n > 0 && n <= ID_MAX && islower((unsigned char)s[0]) &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-:") == n;
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
		if (d->block_device && (d->cdrom || !d->format || !streq(d->format, "raw")))
			return bad(err, "disk '%s': a block device is raw", d->id);
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
	bool by_socket = false;

	for (size_t i = 0; i < req->n_shares; i++) {
		const char *tag = req->shares[i].tag, *path = req->shares[i].path;

		if (!tag_valid(tag))
			return bad(err, "share %zu: its tag is not 1 to %d of a-z, 0-9, '-' and ':'", i, ID_MAX);
		if (path && (path[0] != '/' || !plain(path, "")))
			return bad(err, "share '%s': its directory cannot be handed to QEMU", tag);
		by_socket = by_socket || !path;
		for (size_t k = 0; k < i; k++)
			if (streq(req->shares[k].tag, tag))
				return bad(err, "share '%s': given twice", tag);
	}
	if (by_socket && !req->shared_memory)
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

int argv_check(const struct builder *b, const char *program, struct error *err)
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
	if (b->firmware && (!req->firmware_path || req->firmware_path[0] != '/' ||
			    (b->flash && (!req->nvram_path || req->nvram_path[0] != '/'))))
		return bad(err, "firmware and its variables need absolute paths");
	r = check_disks(req, err);
	if (r == 0 && b->micro && req->display) {
		bad(err, "shape micro has no display");
		error_hint(err, "use --shape full");
		r = -EINVAL;
	}
	if (r == 0 && b->micro && b->cdrom) {
		bad(err, "shape micro has no CD drive");
		error_hint(err, "use --shape full");
		r = -EINVAL;
	}
	if (r == 0)
		r = check_nics(req, err);
	for (size_t i = 0; r == 0 && req->extra_args && i < req->extra_args->n; i++)
		if (!plain(req->extra_args->items[i], ""))
			r = bad(err, "a word for the command line has a control character");
	if (r == 0)
		r = check_shares(req, err);
	return r < 0 ? r : check_slots(b, err);
}
