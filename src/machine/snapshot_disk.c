#include "machine/snapshot_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/spawn.h"
#include "json/json.h"
#include "machine/snapshot.h"
#include "machine/snapshot_variables.h"

#define DISK_TIMEOUT_NS (600 * NS_PER_SEC)

struct wish {
	char *snapshot;
};
static const struct json_field wish_fields[] = {
	{ "snapshot", JSON_STRING, offsetof(struct wish, snapshot), JSON_REQUIRED },
	{},
};

static void wish_done(struct wish *w)
{
	json_fields_done(wish_fields, w);
}

/* The base below is of no concern, and may be gone. */
static char *disk_description(const struct store *s, const struct name *machine)
{
	struct json *file = json_object();
	_cleanup_json_ struct json *top = json_object();
	_cleanup_buf_ struct buf text = {};

	json_set_string(file, "driver", "file");
	json_setf(file, "filename", "%s/machines/%s/system.qcow2", s->home_path, machine->s);
	json_set_string(top, "driver", "qcow2");
	json_set(top, "file", file);
	json_set(top, "backing", json_null());
	json_render(top, false, &text);
	return xasprintf("json:%s", text.p);
}

int snapshot_disk_do(const struct store *s, const struct name *machine, const char *option, const char *name,
		     struct error *err)
{
	_cleanup_free_ char *disk = disk_description(s, machine);
	_cleanup_free_ char *tag = xasprintf(SNAPSHOT_TAG "%s", name);
	const char *argv[] = { "qemu-img", "snapshot", option, tag, disk, NULL };
	struct spawn sp = SPAWN_INIT;
	int r;

	sp.argv = argv;
	r = spawn_check(&sp, NULL, NULL, 4096, DISK_TIMEOUT_NS, err);
	if (r == -ENOENT)
		error_hint(err, "apt-get install qemu-utils");
	return r < 0 ? error_prefix(err, "machine '%s'", machine->s) : 0;
}

int snapshot_disk_has(const struct store *s, const struct name *machine, const char *name, struct error *err)
{
	_cleanup_free_ char *disk = disk_description(s, machine);
	const char *argv[] = { "qemu-img", "info", "--force-share", "--output=json", disk, NULL };
	_cleanup_json_ struct json *tree = NULL;
	_cleanup_buf_ struct buf out = {};
	struct spawn sp = SPAWN_INIT;
	const struct json *all;
	int r;

	sp.argv = argv;
	r = spawn_check(&sp, NULL, &out, 4 << 20, DISK_TIMEOUT_NS, err);
	if (r >= 0)
		r = json_parse(out.p ? out.p : "", out.len, "what qemu-img says", &tree, err);
	if (r < 0)
		return r;
	all = json_get(tree, "snapshots");
	for (size_t i = 0, n = json_length(all); i < n; i++) {
		const char *tag = json_string(json_get(json_at(all, i), "name"));
		const char *there = tag ? after_prefix(tag, SNAPSHOT_TAG) : NULL;

		if (there && streq(there, name))
			return 1;
	}
	return 0;
}

int snapshot_wish(int machine_fd, const struct name *name, struct error *err)
{
	struct wish w = { .snapshot = (char *)(uintptr_t)name->s };
	_cleanup_json_ struct json *tree = NULL;
	int r = fault_point("revert.record");

	if (r < 0)
		return error_set_errno(err, r, "cannot write " SNAPSHOT_WISH);
	return record_write(machine_fd, SNAPSHOT_WISH, SNAPSHOT_WISH, wish_fields, &w, &tree, RECORD_DURABLE, err);
}

int snapshot_unwish(int machine_fd, const struct name *name, struct error *err)
{
	_cleanup_json_ struct json *tree = NULL;
	_cleanup_(wish_done) struct wish w = {};
	int r = record_read(machine_fd, SNAPSHOT_WISH, SNAPSHOT_WISH, wish_fields, &w, &tree, NULL);

	if (r < 0 || !streq(w.snapshot, name->s))
		return 0;
	r = fault_point("revert.forget");
	if (r >= 0 && unlinkat(machine_fd, SNAPSHOT_WISH, 0) < 0 && errno != ENOENT)
		r = -errno;
	if (r >= 0)
		r = fsync_dir(machine_fd);
	return r < 0 ? error_set_errno(err, r, "cannot remove " SNAPSHOT_WISH) : 0;
}

int snapshot_revert_pending(const struct store *s, const struct name *machine, int machine_fd, struct error *err)
{
	_cleanup_json_ struct json *tree = NULL;
	_cleanup_(wish_done) struct wish w = {};
	struct name name;
	int r = record_read(machine_fd, SNAPSHOT_WISH, SNAPSHOT_WISH, wish_fields, &w, &tree, NULL);

	if (r == -ENOENT)
		return 0;
	if (r >= 0)
		r = name_parse(w.snapshot, "snapshot", &name, err);
	else
		error_set_errno(err, r, "machine '%s': cannot read " SNAPSHOT_WISH, machine->s);
	if (r >= 0)
		r = snapshot_disk_do(s, machine, "-a", name.s, err);
	if (r < 0)
		return r;
	r = fault_point("revert.variables");
	if (r >= 0)
		r = snapshot_variables_put_back(machine_fd, name.s);
	if (r >= 0 && unlinkat(machine_fd, SNAPSHOT_WISH, 0) < 0 && errno != ENOENT)
		r = -errno;
	if (r >= 0)
		r = fsync_dir(machine_fd);
	return r < 0 ? error_set_errno(err, r, "machine '%s': cannot go back to its snapshot", machine->s) : 0;
}
