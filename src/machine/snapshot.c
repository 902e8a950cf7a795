#include "machine/snapshot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/lock.h"
#include "base/memory.h"
#include "json/json.h"
#include "machine/client.h"
#include "machine/machine.h"
#include "machine/record.h"
#include "machine/snapshot_disk.h"
#include "machine/snapshot_variables.h"
#include "monitor.pb-c.h"

#define WAIT_NS          (30 * NS_PER_SEC)
#define FREEZE_NS        (20 * NS_PER_SEC)
#define DISK_TIMEOUT_NS  (600 * NS_PER_SEC)
#define AGENT_TIMEOUT_NS (5 * NS_PER_SEC)

static const char *const stage_names[] = { "saving", "saved", "deleting", NULL };
static const struct json_field snapshot_fields[] = {
	{ "name", JSON_STRING, offsetof(struct snapshot, name), JSON_REQUIRED },
	{ "created_ns", JSON_U64, offsetof(struct snapshot, created_ns), 0 },
	{ "stage", JSON_ENUM, offsetof(struct snapshot, stage), JSON_REQUIRED, .names = stage_names },
	{ "running", JSON_BOOL, offsetof(struct snapshot, running), 0 },
	{ "frozen", JSON_BOOL, offsetof(struct snapshot, frozen), 0 },
	{},
};

void snapshot_done(struct snapshot *s)
{
	json_fields_done(snapshot_fields, s);
	*s = (struct snapshot){};
}

/* One who works with the snapshots of a machine: the only one. */
struct work {
	const struct store *store;
	const struct name *machine;
	int machine_fd, dir, lock; /* owned */
	int machine_lock;          /* owned; the machine does not run and will not */
	struct client client;      /* else: connected */
	bool running;
};

static void work_done(struct work *w)
{
	client_done(&w->client);
	safe_close(w->machine_lock);
	safe_close(w->lock);
	safe_close(w->dir);
	safe_close(w->machine_fd);
}

#define WORK_INIT                                                                           \
	{                                                                                   \
		.machine_fd = -EBADF, .dir = -EBADF, .lock = -EBADF, .machine_lock = -EBADF \
	}

/* ---- Records ---- */

static char *record_name(const char *name)
{
	return xasprintf("%s.json", name);
}

static int record_save(const struct work *w, const struct snapshot *p, struct error *err)
{
	_cleanup_free_ char *file = record_name(p->name), *label = xasprintf("snapshot.%s", stage_names[p->stage]);
	int r = fault_point(label);

	if (r < 0)
		return error_set_errno(err, r, "machine '%s': cannot record its snapshot", w->machine->s);
	return record_write(w->dir, file, file, snapshot_fields, p, NULL, RECORD_DURABLE, err);
}

static int record_load(int dir, const char *name, struct snapshot *ret, struct error *err)
{
	_cleanup_free_ char *file = record_name(name), *what = xasprintf(SNAPSHOT_DIRECTORY "/%s", file);
	_cleanup_json_ struct json *tree = NULL;

	return record_read(dir, file, what, snapshot_fields, ret, &tree, err);
}

static void record_remove(const struct work *w, const char *name)
{
	_cleanup_free_ char *file = record_name(name);

	snapshot_variables_remove(w->machine_fd, name);
	(void)unlinkat(w->dir, file, 0);
	(void)fsync_dir(w->dir);
}

/* ---- Either way ---- */

static int ask_monitor(struct work *w, const char *name, bool drop, struct error *err)
{
	Skerry__Monitor__V1__SnapshotRequest q = SKERRY__MONITOR__V1__SNAPSHOT_REQUEST__INIT;

	q.name = (char *)(uintptr_t)name;
	q.drop = drop;
	return client_call(&w->client, MONITOR_SERVICE, "Snapshot", &q.base, DISK_TIMEOUT_NS, NULL, err);
}

static int take(struct work *w, const char *name, struct error *err)
{
	return w->running ? ask_monitor(w, name, false, err) : snapshot_disk_do(w->store, w->machine, "-c", name, err);
}

static int drop(struct work *w, const char *name, struct error *err)
{
	int r = snapshot_disk_has(w->store, w->machine, name, err);

	if (r <= 0)
		return r;
	return w->running ? ask_monitor(w, name, true, err) : snapshot_disk_do(w->store, w->machine, "-d", name, err);
}

/* What somebody left unfinished goes, so far as that is possible now. Who wished to go back, and was killed, may have left the disk between the two: a
 * machine that does not run gets there first. */
static void settle(struct work *w)
{
	_cleanup_strv_ struct strv names = {};
	int fd = openat(w->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;

	if (!w->running)
		(void)snapshot_revert_pending(w->store, w->machine, w->machine_fd, NULL);
	(void)file_remove_temporaries(w->dir);
	while (d && (e = readdir(d))) {
		size_t n = strlen(e->d_name);

		if (n > 5 && e->d_name[0] != '.' && streq(e->d_name + n - 5, ".json"))
			strv_take(&names, xstrndup(e->d_name, n - 5));
	}
	if (d)
		closedir(d);
	for (size_t i = 0; i < names.n; i++) {
		struct snapshot p = {};

		if (record_load(w->dir, names.items[i], &p, NULL) >= 0 && p.stage != SNAPSHOT_SAVED &&
		    drop(w, names.items[i], NULL) >= 0)
			record_remove(w, names.items[i]);
		snapshot_done(&p);
	}
}

static int open_directory(int machine_fd, struct error *err)
{
	int r = mkdir_parents_at(machine_fd, SNAPSHOT_DIRECTORY, 0700), fd;

	if (r < 0)
		return error_set_errno(err, r, "cannot create " SNAPSHOT_DIRECTORY);
	fd = openat(machine_fd, SNAPSHOT_DIRECTORY, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? error_set_errno(err, errno, "cannot open " SNAPSHOT_DIRECTORY) : fd;
}

static int begin(struct work *w, const struct store *s, const struct name *machine, struct error *err)
{
	_cleanup_error_ struct error e = {};
	enum recovery found;
	int r;

	w->store = s;
	w->machine = machine;
	r = w->machine_fd = store_machine_open(s, machine, err);
	if (r >= 0)
		r = w->dir = open_directory(w->machine_fd, err);
	if (r >= 0)
		r = w->lock = lock_acquire(w->dir, "lock", "the machine's snapshots", WAIT_NS, err);
	if (r < 0)
		return r;
	/* Who has the machine's lock knows that it does not run; who can talk to its monitor, that it does. */
	w->machine_lock = store_machine_lock(s, machine, 0, &e);
	if (w->machine_lock < 0 && w->machine_lock != -EBUSY)
		return error_move(err, &e);
	if (w->machine_lock >= 0) {
		r = machine_recover(s, machine, w->machine_fd, &found, err);
		if (r < 0)
			return r;
		if (found != RECOVERY_ADOPT)
			goto out;
		w->machine_lock = safe_close(w->machine_lock);
	}
	r = client_connect(s, machine, &w->client, err);
	if (r < 0)
		return r;
	w->running = true;
out:
	settle(w);
	return 0;
}

static int not_there(const struct work *w, const struct name *name, struct error *err)
{
	struct snapshot *list = NULL;
	_cleanup_buf_ struct buf names = {};
	size_t n = 0;

	(void)snapshot_list(w->store, w->machine, &list, &n, NULL);
	for (size_t i = 0; i < n; i++)
		buf_addf(&names, "%s%s", i ? ", " : "", list[i].name);
	snapshot_list_free(list, n);
	error_set_kind(err, ERROR_NOT_FOUND, ENOENT, "there is no snapshot '%s'", name->s);
	return names.len ? error_hint(err, "there are: %s", names.p) : error_hint(err, "none was saved");
}

/* Work on a snapshot that is there: @ret is its record. */
static int begin_with(struct work *w, const struct store *s, const struct name *machine, const struct name *name,
		      struct snapshot *ret, struct error *err)
{
	_cleanup_error_ struct error e = {};
	int r = begin(w, s, machine, err);

	if (r < 0)
		return r;
	r = record_load(w->dir, name->s, ret, &e);
	if (r == -ENOENT)
		return not_there(w, name, err);
	return r < 0 ? error_move(err, &e) : 0;
}

/* ---- Saving ---- */

static int hold(struct work *w, struct snapshot *p, struct error *err)
{
	Skerry__Monitor__V1__HoldRequest q = SKERRY__MONITOR__V1__HOLD_REQUEST__INIT;
	Skerry__Monitor__V1__HoldResponse *answer;
	_cleanup_buf_ struct buf out = {};
	int r;

	q.timeout_ns = FREEZE_NS;
	r = client_call(&w->client, MONITOR_SERVICE, "Hold", &q.base, FREEZE_NS + WAIT_NS, &out, err);
	if (r < 0)
		return r;
	answer = skerry__monitor__v1__hold_response__unpack(NULL, out.len, (const uint8_t *)out.p);
	p->frozen = answer && answer->frozen;
	if (answer)
		skerry__monitor__v1__hold_response__free_unpacked(answer, NULL);
	return 0;
}

static int keep_variables(const struct work *w, const char *name, struct error *err)
{
	int r = snapshot_variables_keep(w->machine_fd, name);

	return r < 0 ? error_set_errno(err, r, "machine '%s': cannot keep the firmware's variables", w->machine->s) : 0;
}

static int save(struct work *w, struct snapshot *p, struct error *err)
{
	int r = record_save(w, p, err);

	if (r >= 0)
		r = keep_variables(w, p->name, err);
	if (r >= 0 && p->running)
		r = hold(w, p, err);
	if (r < 0)
		return r;
	r = take(w, p->name, err);
	/* It goes on by itself when this connection ends; that is no error of the snapshot's. */
	if (p->running)
		(void)client_call(&w->client, MONITOR_SERVICE, "Unhold", NULL, WAIT_NS, NULL, NULL);
	if (r < 0)
		return r;
	p->stage = SNAPSHOT_SAVED;
	return record_save(w, p, err);
}

/* Nothing has that name, on record or in the disk: whatever does from now on is what this call made. */
static int is_free(const struct work *w, const struct name *name, struct error *err)
{
	_cleanup_(snapshot_done) struct snapshot there = {};
	_cleanup_error_ struct error e = {};
	int r = record_load(w->dir, name->s, &there, &e);

	if (r >= 0) {
		error_set_kind(err, ERROR_EXISTS, EEXIST, "there is a snapshot '%s' already", name->s);
		return error_hint(err, "give it another name, or delete that one first");
	}
	if (r != -ENOENT)
		return error_move(err, &e);
	r = snapshot_disk_has(w->store, w->machine, name->s, err);
	if (r <= 0)
		return r;
	error_set_kind(err, ERROR_EXISTS, EEXIST, "there is a snapshot '%s' in the disk, and not on record", name->s);
	return error_hint(err, "give it another name");
}

int snapshot_save(const struct store *s, const struct name *machine, const struct name *name, bool *ret_frozen,
		  struct error *err)
{
	_cleanup_(work_done) struct work w = WORK_INIT;
	_cleanup_(snapshot_done) struct snapshot p = {};
	int r = begin(&w, s, machine, err);

	if (r >= 0)
		r = is_free(&w, name, err);
	if (r < 0)
		return r;
	p = (struct snapshot){ .name = xstrdup(name->s),
			       .created_ns = clock_realtime_ns(),
			       .stage = SNAPSHOT_SAVING,
			       .running = w.running };
	/* A monitor that is young may not have found the agent yet. */
	if (w.running)
		(void)client_wait_agent(&w.client, AGENT_TIMEOUT_NS, NULL);
	r = save(&w, &p, err);
	if (r < 0) {
		if (drop(&w, p.name, NULL) >= 0)
			record_remove(&w, p.name);
		return r;
	}
	if (ret_frozen)
		*ret_frozen = p.frozen || !p.running;
	return 0;
}

/* ---- Listing ---- */

static int by_age(const void *a, const void *b)
{
	const struct snapshot *x = a, *y = b;

	return x->created_ns != y->created_ns ? (x->created_ns > y->created_ns) - (x->created_ns < y->created_ns)
					      : strcmp(x->name, y->name);
}

void snapshot_list_free(struct snapshot *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		snapshot_done(&list[i]);
	free(list);
}

int snapshot_list(const struct store *s, const struct name *machine, struct snapshot **ret, size_t *ret_n,
		  struct error *err)
{
	_cleanup_close_ int machine_fd = store_machine_open(s, machine, err);
	struct snapshot *list = NULL;
	const struct dirent *e;
	size_t n = 0;
	DIR *d;
	int fd;

	if (machine_fd < 0)
		return machine_fd;
	fd = openat(machine_fd, SNAPSHOT_DIRECTORY, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	d = fd < 0 ? NULL : fdopendir(fd);
	while (d && (e = readdir(d))) {
		size_t len = strlen(e->d_name);
		_cleanup_free_ char *name = NULL;
		struct snapshot p = {};

		if (len <= 5 || e->d_name[0] == '.' || !streq(e->d_name + len - 5, ".json"))
			continue;
		name = xstrndup(e->d_name, len - 5);
		if (record_load(fd, name, &p, NULL) < 0 || p.stage != SNAPSHOT_SAVED) {
			snapshot_done(&p);
			continue;
		}
		list = xrealloc_array(list, n + 1, sizeof(*list));
		list[n++] = p;
	}
	if (d)
		closedir(d);
	if (n)
		qsort(list, n, sizeof(*list), by_age);
	*ret = list;
	*ret_n = n;
	return 0;
}

/* ---- Deleting ---- */

int snapshot_delete(const struct store *s, const struct name *machine, const struct name *name, struct error *err)
{
	_cleanup_(work_done) struct work w = WORK_INIT;
	_cleanup_(snapshot_done) struct snapshot p = {};
	int r = begin_with(&w, s, machine, name, &p, err);

	if (r < 0)
		return r;
	/* Of who was killed before the monitor was asked. */
	r = snapshot_unwish(w.machine_fd, name, err);
	if (r < 0)
		return r;
	p.stage = SNAPSHOT_DELETING;
	r = record_save(&w, &p, err);
	if (r >= 0)
		r = drop(&w, name->s, err);
	if (r >= 0)
		record_remove(&w, name->s);
	return r;
}

/* ---- Going back ---- */

int snapshot_restore(const struct store *s, const struct name *machine, const struct name *name, struct error *err)
{
	_cleanup_(work_done) struct work w = WORK_INIT;
	_cleanup_(snapshot_done) struct snapshot p = {};
	int r = begin_with(&w, s, machine, name, &p, err);

	if (r < 0)
		return r;
	/* The wish would be there for good, and no start would come past it. */
	r = snapshot_disk_has(s, machine, name->s, err);
	if (r == 0)
		r = error_set_kind(err, ERROR_DATA, EBADMSG, "snapshot '%s' is on record, and not in the disk",
				   name->s);
	if (r >= 0)
		r = snapshot_wish(w.machine_fd, name, err);
	if (r < 0)
		return r;
	if (!w.running)
		return snapshot_revert_pending(s, machine, w.machine_fd, err);
	r = client_call(&w.client, MONITOR_SERVICE, "Revert", NULL, DISK_TIMEOUT_NS, NULL, err);
	/* It was refused. After anything else, as a monitor that died, it may be under way. */
	if (r == -EBUSY)
		(void)unlinkat(w.machine_fd, SNAPSHOT_WISH, 0);
	return r;
}
