/* That a run began is on record beside the machine, where the record of how it ended goes: what a monitor acquires is told below /run, which a restart
 * of the host empties, and which is another directory for whoever has another XDG_RUNTIME_DIR. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "machine/record.h"

#define BEGUN "begun.json"

#define FIELD(k, t, m, ...)                                            \
	{                                                              \
		k, t, offsetof(struct machine_begun, m), ##__VA_ARGS__ \
	}
static const struct json_field begun_fields[] = {
	FIELD("boot_id", JSON_STRING, boot_id),
	FIELD("run_path", JSON_STRING, run_path),
	FIELD("started_ns", JSON_U64, started_ns),
	FIELD("machine_inode", JSON_U64, machine_inode),
	{},
};

void machine_begun_done(struct machine_begun *b)
{
	json_fields_done(begun_fields, b);
	*b = (struct machine_begun){};
}

int machine_begun_save(int machine_fd, const char *name, const struct machine_begun *b, struct error *err)
{
	_cleanup_free_ char *what = xasprintf("machines/%s/" BEGUN, name);
	struct machine_begun full = *b;
	int r = fault_point("start.begun");
	struct stat st;

	if (r >= 0 && fstat(machine_fd, &st) < 0)
		r = -errno;
	if (r < 0)
		return error_set_errno(err, r, "%s", what);
	full.machine_inode = st.st_ino;
	return record_write(machine_fd, BEGUN, what, begun_fields, &full, NULL, 0, err);
}

bool machine_begun_load(int machine_fd, const struct machine_exit *last, struct machine_begun *ret)
{
	_cleanup_json_ struct json *tree = NULL;
	struct stat st;

	*ret = (struct machine_begun){};
	/* Of a long list of machines none has it. */
	if (faccessat(machine_fd, BEGUN, F_OK, 0) < 0)
		return false;
	/* One that a power failure has left empty says as much. */
	if (record_read(machine_fd, BEGUN, BEGUN, begun_fields, ret, &tree, NULL) == -ENOENT)
		return false;
	/* It goes after the end is on record, and may come back with the power. */
	if (last && ret->started_ns && last->started_ns == ret->started_ns) {
		machine_begun_done(ret);
		return false;
	}
	/* What was copied while it ran is another machine: what runs is not its own. */
	if (fstat(machine_fd, &st) < 0 || st.st_ino != ret->machine_inode) {
		free(ret->run_path);
		ret->run_path = NULL;
	}
	return true;
}

void machine_begun_forget(int machine_fd)
{
	(void)unlinkat(machine_fd, BEGUN, 0);
}

int machine_begun_state(const struct store *s, const char *name, const struct machine_begun *b,
			struct machine_state *ret, struct error *err)
{
	_cleanup_free_ char *path = xasprintf("%s/%s/state.json", b->run_path ? b->run_path : s->run_path, name);
	_cleanup_json_ struct json *tree = NULL;

	*ret = (struct machine_state){};
	return record_read(AT_FDCWD, path, path, machine_state_fields, ret, &tree, err);
}

char *machine_begun_reason(const struct machine_begun *b)
{
	return xstrdup(b->boot_id && streq(b->boot_id, boot_id()) ? "its end was not seen" : "the host was restarted");
}

char *machine_run_path(const struct store *s, const struct name *name)
{
	_cleanup_(machine_begun_done) struct machine_begun begun = {};
	_cleanup_(machine_state_done) struct machine_state st = {};
	_cleanup_free_ char *own = xasprintf("%s/state.json", name->s);
	_cleanup_close_ int dir = -EBADF;

	if (faccessat(s->run_fd, own, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		dir = store_machine_open(s, name, NULL);
	if (dir >= 0 && machine_begun_load(dir, NULL, &begun) && begun.run_path && *begun.run_path == '/' &&
	    machine_begun_state(s, name->s, &begun, &st, NULL) >= 0)
		return xasprintf("%s/%s", begun.run_path, name->s);
	return xasprintf("%s/%s", s->run_path, name->s);
}
