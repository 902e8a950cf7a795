/* Other settings for a machine that is there. Its disk grows before the record says so: a crash in between leaves a disk that is larger than it
 * would have to be, and the next update records it. */
#include <fcntl.h>

#include "base/fault.h"
#include "base/file.h"
#include "disk/qcow2.h"
#include "disk/seed.h"
#include "machine/machine.h"
#include "machine/plan.h"
#include "machine/record.h"

static int grow(int dir, struct machine_spec *spec, uint64_t bytes, struct error *err)
{
	_cleanup_(qcow2_info_done) struct qcow2_info info = {};
	_cleanup_close_ int fd = openat(dir, "system.qcow2", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	_cleanup_free_ char *what = xasprintf("disk 'system' of machine '%s'", spec->name);
	int r = fd < 0 ? error_set_errno(err, errno, "cannot open %s", what) : qcow2_read_info(fd, what, &info, err);

	if (r < 0 || bytes <= info.virtual_bytes)
		return r;
	r = fault_point("update.grow");
	if (r < 0)
		return error_set_errno(err, r, "cannot grow %s", what);
	r = qcow2_grow(fd, what, bytes, err);
	if (r >= 0 && fsync(fd) < 0)
		r = error_set_errno(err, errno, "cannot write %s", what);
	if (r >= 0)
		spec->disk_bytes = bytes;
	return r;
}

static void replace(char **to, const char *from)
{
	free(*to);
	*to = xstrdup(from);
}

static void replace_strings(struct strv *to, const struct strv *from)
{
	strv_done(to);
	*to = (struct strv){};
	strv_copy(to, from);
}

static void take_settings(struct machine_spec *spec, const struct machine_spec *wanted)
{
	spec->cpus = wanted->cpus;
	if (wanted->memory_bytes)
		spec->memory_bytes = wanted->memory_bytes;
	spec->accel = wanted->accel;
	spec->firmware = wanted->firmware;
	if (spec->draft)
		replace(&spec->installer, wanted->installer);
	spec->display = wanted->display;
	replace(&spec->net, wanted->net);
	spec->forwards = wanted->forwards;
	spec->kept_port = wanted->kept_port;
	replace(&spec->user, wanted->user);
	replace(&spec->hostname, wanted->hostname);
	replace(&spec->password, wanted->password);
	replace_strings(&spec->ssh_keys, &wanted->ssh_keys);
	replace_strings(&spec->publish, &wanted->publish);
	replace_strings(&spec->dns, &wanted->dns);
	replace_strings(&spec->dns_search, &wanted->dns_search);
	replace(&spec->timezone, wanted->timezone);
	replace_strings(&spec->shares, &wanted->shares);
	replace_strings(&spec->engine_args, &wanted->engine_args);
}

static int write_user_data(int dir, const struct machine_spec *wanted, struct error *err)
{
	int r = fault_point("update.user-data");

	if (r >= 0 && !wanted->user_data)
		r = unlinkat(dir, MACHINE_USER_DATA, 0) < 0 && errno != ENOENT ? -errno : 0;
	else if (r >= 0)
		r = file_write_at(dir, MACHINE_USER_DATA, wanted->user_data, strlen(wanted->user_data), 0600,
				  FILE_DURABLE);
	return r < 0 ? error_set_errno(err, r, "cannot write the user data of machine '%s'", wanted->name) : 0;
}

int machine_update(const struct store *s, const struct machine_spec *wanted, struct error *err)
{
	_cleanup_spec_ struct machine_spec spec = {};
	_cleanup_json_ struct json *tree = NULL;
	_cleanup_close_ int dir = -EBADF, lock = -EBADF;
	enum recovery found;
	struct name name;
	int r = name_parse(wanted->name, "machine name", &name, err);

	if (r >= 0)
		r = machine_spec_check(wanted, err);
	if (r >= 0)
		r = dir = store_machine_open(s, &name, err);
	if (r >= 0)
		r = lock = store_machine_lock(s, &name, 0, err);
	if (r >= 0)
		r = machine_recover(s, &name, dir, &found, err);
	if (r >= 0 && found == RECOVERY_ADOPT)
		r = error_set_kind(err, ERROR_BUSY, EBUSY, "machine '%s' is running", name.s);
	if (r >= 0)
		r = machine_spec_load(dir, name.s, &spec, &tree, err);
	if (r < 0)
		return r;
	take_settings(&spec, wanted);
	r = grow(dir, &spec, wanted->disk_bytes, err);
	if (r >= 0 && wanted->user_data)
		r = seed_check_user_data(wanted->user_data, strlen(wanted->user_data), "user data", err);
	if (r >= 0)
		r = write_user_data(dir, wanted, err);
	if (r >= 0)
		r = machine_password_write(dir, &spec, err);
	if (r >= 0)
		r = fault_point("update.record") < 0 ? error_set(err, EIO, "cannot write machine.json") : 0;
	return r < 0 ? r
		     : record_write(dir, "machine.json", "machine.json", machine_spec_fields, &spec, &tree,
				    RECORD_DURABLE, err);
}
