/* How this works. A container is a directory, /run/skerry/containers/ID, with its config.json, and what crun knows of it. Each call that crun
 * answers is a job: a process of crun with a log file of its own, and what is to be done when it has ended. Several may run at once, also for one
 * container.
 *
 * `crun create` and `crun exec --detach` leave a process behind that becomes our child. Its pid is known when crun has ended and not before, so the
 * process may have been reaped by then: while such a job runs, strangers that end are remembered (t->ended), the latest ones. */
#include "guest/container.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"
#include "guest/cgroup.h"
#include "guest/container_mount.h"
#include "guest/container_parts.h"
#include "guest/system.h"

#define CRUN "/usr/bin/crun"

enum { ID_MAX = 128, CONTAINERS_MAX = 512, FILE_LIMIT = 64 << 10 };

/* ---- The table ---- */

static bool id_valid(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || n > ID_MAX || s[0] == '.' || s[0] == '-')
		return false;
	return strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") == n;
}

static struct container *find(struct containers *t, const char *id, struct error *err)
{
	for (struct container *k = t->first; k; k = k->next)
		if (streq(k->id, id))
			return k;
	error_set(err, ENOENT, "no container '%.*s'", ID_MAX, id);
	return NULL;
}

static char *file_of(const char *id, const char *name)
{
	return xasprintf(CONTAINER_DIRECTORY "/%s/%s", id, name);
}

static void stop_watching(struct container *k)
{
	k->events_source = loop_source_free(k->events_source);
	k->events = safe_close(k->events);
}

/* What is mounted for it and its directory: everything but the processes. */
static void dissolve(struct containers *t, struct container *k)
{
	_cleanup_close_ int dir = -EBADF;

	for (size_t i = k->mounts.n; i-- > 0;)
		container_unmount(k->mounts.items[i]);
	dir = open(CONTAINER_DIRECTORY, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir >= 0)
		(void)remove_tree_at(dir, k->id);
	stop_watching(k);
	k->sockets = container_sockets_free(k->sockets);
	for (struct container **p = &t->first; *p; p = &(*p)->next)
		if (*p == k) {
			*p = k->next;
			t->n--;
			break;
		}
	strv_done(&k->mounts);
	free(k->session);
	free(k->id);
	free(k);
}

/* ---- Out of memory ---- */

static void answer_event(struct containers *t)
{
	Skerry__Agent__V1__ContainerEvent m = SKERRY__AGENT__V1__CONTAINER_EVENT__INIT;
	struct event *e = t->events;

	if (!e || !t->event_waiter)
		return;
	m.id = e->id;
	m.kind = SKERRY__AGENT__V1__CONTAINER_EVENT__KIND__OOM;
	link_reply(t->link, t->event_waiter, &m.base);
	t->event_waiter = 0;
	t->events = e->next;
	free(e->id);
	free(e);
}

static void check_oom(struct containers *t, struct container *k)
{
	uint64_t now = cgroup_number(k->id, "memory.events", "oom_kill");
	struct event *e, **last;

	if (now <= k->oom_kills)
		return;
	k->oom_kills = now;
	e = xnew(struct event);
	e->id = xstrdup(k->id);
	for (last = &t->events; *last; last = &(*last)->next)
		;
	*last = e;
	answer_event(t);
}

static int on_memory_event(struct loop_source *s, int fd, uint32_t events, void *data)
{
	struct containers *t = data;
	char raw[4096];

	(void)s;
	(void)events;
	while (read(fd, raw, sizeof(raw)) > 0)
		;
	for (struct container *k = t->first; k; k = k->next)
		if (k->events == fd)
			check_oom(t, k);
	return 0;
}

static void watch_memory(struct containers *t, struct container *k)
{
	_cleanup_free_ char *path = xasprintf(CGROUP_PARENT "/%s/memory.events", k->id);

	k->events = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (k->events < 0 || inotify_add_watch(k->events, path, IN_MODIFY) < 0 ||
	    loop_add_fd(t->loop, &k->events_source, k->events, EPOLLIN, on_memory_event, t) < 0)
		stop_watching(k);
}

int container_next_event(struct containers *t, uint32_t stream_id, struct error *err)
{
	if (t->event_waiter)
		return error_set(err, EBUSY, "somebody waits already");
	t->event_waiter = stream_id;
	answer_event(t);
	return 0;
}

/* Of the jobs that leave a process: the number of the oldest, 0 = none runs. */
static unsigned oldest_job(const struct containers *t)
{
	unsigned oldest = 0;

	for (const struct job *j = t->jobs; j; j = j->next)
		if (j->session && (!oldest || j->number < oldest))
			oldest = j->number;
	return oldest;
}

/* What ended before those that run began is none of theirs. */
static void forget_ended(struct containers *t)
{
	unsigned oldest = oldest_job(t), n = 0;

	for (unsigned i = 0; oldest && i < t->n_ended; i++)
		if (t->ended[i].job >= oldest)
			t->ended[n++] = t->ended[i];
	t->n_ended = n;
}

static void remember_ended(struct containers *t, pid_t pid, int wait_status)
{
	if (t->n_ended == CONTAINER_ENDED_MAX) {
		t->n_ended--;
		memmove(t->ended, t->ended + 1, t->n_ended * sizeof(*t->ended));
	}
	t->ended[t->n_ended++] = (struct ended){ pid, wait_status, t->last_job };
}

bool containers_reaped(struct containers *t, pid_t pid, int wait_status)
{
	for (struct job *j = t->jobs; j; j = j->next) {
		if (j->pid != pid)
			continue;
		j->done(j, wait_status);
		job_free(j);
		forget_ended(t);
		return true;
	}
	if (oldest_job(t) && !sessions_have(t->sessions, pid))
		remember_ended(t, pid, wait_status);
	/* Before anybody hears of the end: it may be the kernel's doing. */
	for (struct container *k = t->first; k; k = k->next)
		check_oom(t, k);
	return false;
}

/* ---- Making one ---- */

static void on_deleted(struct job *j, int status);

/* What crun has made, and nobody can have: its name must not stay taken. */
static void discard(struct containers *t, struct container *k)
{
	const char *args[] = { "delete", "--force", k->id, NULL };
	struct job *j = job_new(t, k->id, NULL, 0, on_deleted);

	j->forgotten = true;
	k->deleting = true;
	if (job_run(j, args, NULL, NULL) >= 0)
		return;
	job_free(j);
	(void)cgroup_remove(k->id);
	dissolve(t, k);
}

static void on_created(struct job *j, int status)
{
	Skerry__Agent__V1__CreateContainerResponse m = SKERRY__AGENT__V1__CREATE_CONTAINER_RESPONSE__INIT;
	struct container *k = find(j->table, j->container, NULL);
	_cleanup_error_ struct error err = { 0 };
	pid_t pid = 0;

	if (status != 0) {
		job_answer_error(j, EINVAL, "crun create failed");
		if (k)
			dissolve(j->table, k);
		return;
	}
	if (job_adopt(j, &pid, &err) < 0) {
		if (!j->forgotten)
			link_error(j->table->link, j->stream_id, err.num, "%s", err.msg);
		if (k)
			discard(j->table, k);
		return;
	}
	if (k)
		watch_memory(j->table, k);
	m.pid = (uint32_t)pid;
	job_answer(j, &m.base);
}

static int prepare(struct containers *t, struct container *k, const Skerry__Agent__V1__CreateContainerRequest *q,
		   struct error *err)
{
	_cleanup_free_ char *dir = file_of(k->id, "");
	_cleanup_close_ int fd = -EBADF;
	int r = mkdir_parents_at(AT_FDCWD, dir, 0700);

	if (r >= 0) {
		fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = fd < 0 ? -errno : file_write_at(fd, "config.json", q->spec.data, q->spec.len, 0600, 0);
	}
	if (r < 0)
		return error_set_errno(err, -r, "container '%s': cannot write its configuration", k->id);
	for (size_t i = 0; i < q->n_mounts; i++) {
		r = container_mount(q->mounts[i], err);
		if (r < 0)
			return r;
		strv_add(&k->mounts, q->mounts[i]->target);
	}
	if (!q->n_sockets)
		return 0;
	return container_sockets_new(t->loop, dir, q->sockets, q->n_sockets, &k->sockets, err);
}

static int run_create(struct containers *t, const Skerry__Agent__V1__CreateContainerRequest *q, uint32_t stream_id,
		      struct error *err)
{
	struct job *j = job_new(t, q->id, q->session, stream_id, on_created);
	_cleanup_free_ char *pid_file = job_file(j, "pid"), *bundle = file_of(q->id, ""), *sock = job_file(j, "sock");
	int stdio[3] = { -EBADF, -EBADF, -EBADF }, r;

	j->rows = q->rows > UINT16_MAX ? 0 : (uint16_t)q->rows;
	j->cols = q->cols > UINT16_MAX ? 0 : (uint16_t)q->cols;
	r = job_reserve(j, err);
	if (r >= 0) {
		r = job_make_streams(j, q->terminal, q->open_stdin, stdio);
		if (r < 0)
			error_set_errno(err, -r, "container '%s': cannot make its streams", q->id);
	}
	if (r >= 0) {
		const char *args[] = { "create",
				       "--bundle",
				       bundle,
				       "--pid-file",
				       pid_file,
				       q->terminal ? "--console-socket" : q->id,
				       q->terminal ? sock : NULL,
				       q->terminal ? q->id : NULL,
				       NULL };

		r = job_run(j, args, stdio, err);
	}
	job_close_streams(stdio);
	if (r < 0)
		job_free(j);
	return r;
}

int container_create(struct containers *t, const Skerry__Agent__V1__CreateContainerRequest *q, uint32_t stream_id,
		     struct error *err)
{
	struct container *k;
	int r;

	if (!id_valid(q->id))
		return error_set(err, EINVAL, "'%.*s' is no container's name", ID_MAX, q->id);
	if (find(t, q->id, NULL))
		return error_set(err, EEXIST, "there is a container '%s' already", q->id);
	if (t->n >= CONTAINERS_MAX)
		return error_set(err, EMFILE, "there are %u containers already", t->n);
	k = xnew(struct container);
	*k = (struct container){
		.id = xstrdup(q->id), .session = xstrdup(q->session), .events = -EBADF, .next = t->first
	};
	t->first = k;
	t->n++;
	r = prepare(t, k, q, err);
	if (r >= 0)
		r = run_create(t, q, stream_id, err);
	if (r < 0)
		dissolve(t, k);
	return r;
}

static void on_plain(struct job *j, int status)
{
	if (status == 0)
		job_answer(j, NULL);
	else
		job_answer_error(j, EINVAL, "crun failed");
}

static int run_plain(struct containers *t, const char *id, const char *const *args, uint32_t stream_id,
		     struct error *err)
{
	struct job *j = job_new(t, id, NULL, stream_id, on_plain);
	int r = job_run(j, args, NULL, err);

	if (r < 0)
		job_free(j);
	return r;
}

int container_start(struct containers *t, const char *id, uint32_t stream_id, struct error *err)
{
	const char *args[] = { "start", id, NULL };

	return find(t, id, err) ? run_plain(t, id, args, stream_id, err) : -ENOENT;
}

int container_update(struct containers *t, const char *id, const void *resources, size_t n, uint32_t stream_id,
		     struct error *err)
{
	_cleanup_free_ char *path = NULL;
	struct job *j;
	int r;

	if (!find(t, id, err))
		return -ENOENT;
	j = job_new(t, id, NULL, stream_id, on_plain);
	path = job_file(j, "json");
	r = job_write(j, "json", resources, n);
	if (r < 0) {
		error_set_errno(err, -r, "container '%s': cannot write its resources", id);
	} else {
		const char *args[] = { "update", "--resources", path, id, NULL };

		r = job_run(j, args, NULL, err);
	}
	if (r < 0)
		job_free(j);
	return r;
}

/* ---- Processes that join ---- */

static void on_joined(struct job *j, int status)
{
	Skerry__Agent__V1__ExecResponse m = SKERRY__AGENT__V1__EXEC_RESPONSE__INIT;
	_cleanup_error_ struct error err = { 0 };
	pid_t pid = 0;

	if (status != 0) {
		job_answer_error(j, ENOENT, "crun exec failed");
	} else if (job_adopt(j, &pid, &err) < 0) {
		if (!j->forgotten)
			link_error(j->table->link, j->stream_id, err.num, "%s", err.msg);
	} else {
		m.pid = (uint32_t)pid;
		job_answer(j, &m.base);
	}
}

int container_exec(struct containers *t, const Skerry__Agent__V1__ExecContainerRequest *q, uint32_t stream_id,
		   struct error *err)
{
	_cleanup_free_ char *process = NULL, *pid_file = NULL, *sock = NULL;
	struct job *j;
	int stdio[3] = { -EBADF, -EBADF, -EBADF }, r;

	if (!find(t, q->id, err))
		return -ENOENT;
	j = job_new(t, q->id, q->session, stream_id, on_joined);
	process = job_file(j, "json");
	pid_file = job_file(j, "pid");
	sock = job_file(j, "sock");
	j->rows = q->rows > UINT16_MAX ? 0 : (uint16_t)q->rows;
	j->cols = q->cols > UINT16_MAX ? 0 : (uint16_t)q->cols;
	r = job_reserve(j, err);
	if (r >= 0) {
		r = job_write(j, "json", q->process.data, q->process.len);
		if (r >= 0)
			r = job_make_streams(j, q->terminal, q->open_stdin, stdio);
		if (r < 0)
			error_set_errno(err, -r, "container '%s': cannot begin a process", q->id);
	}
	if (r >= 0) {
		const char *args[] = { "exec",
				       "--detach",
				       "--process",
				       process,
				       "--pid-file",
				       pid_file,
				       q->terminal ? "--console-socket" : q->id,
				       q->terminal ? sock : NULL,
				       q->terminal ? q->id : NULL,
				       NULL };

		r = job_run(j, args, stdio, err);
	}
	job_close_streams(stdio);
	if (r < 0)
		job_free(j);
	return r;
}

int container_kill(struct containers *t, const Skerry__Agent__V1__KillContainerRequest *q, struct error *err)
{
	struct container *k = find(t, q->id, err);
	_cleanup_free_ uint32_t *pids = NULL;
	size_t n = 0;

	if (!k)
		return -ENOENT;
	if (q->signal < 1 || q->signal > 64)
		return error_set(err, EINVAL, "there is no signal %d", q->signal);
	if (!q->all)
		return session_kill(t->sessions, q->session[0] ? q->session : k->session, q->signal, err);
	if (cgroup_pids(k->id, &pids, &n) < 0 || n == 0)
		return error_set(err, ESRCH, "the process has ended");
	for (size_t i = 0; i < n; i++)
		(void)kill((pid_t)pids[i], q->signal);
	return 0;
}

/* ---- The end of one ---- */

/* What the guest remembers of the files that are gone keeps them: the host's server has each open until it is forgotten here, also when the last name
 * and the last mount of it have gone there. In a process of its own, as it takes a while; the machine's only, not a host's that this is tried on. */
static void forget_files(void)
{
	pid_t pid = getpid() == 1 ? fork() : -1;

	if (pid != 0)
		return;
	(void)syscall(SYS_close_range, 0U, ~0U, 0U);
	_exit(system_drop_caches() < 0);
}

static void on_deleted(struct job *j, int status)
{
	struct containers *t = j->table;
	struct container *k = find(t, j->container, NULL);

	(void)status; /* what crun never knew it cannot delete */
	(void)cgroup_remove(j->container);
	/* The job's own files go with the directory. */
	if (k)
		dissolve(t, k);
	forget_files();
	job_answer(j, NULL);
}

int container_delete(struct containers *t, const char *id, uint32_t stream_id, struct error *err)
{
	struct container *k;
	const char *args[] = { "delete", "--force", id, NULL };
	struct job *j;
	int r;

	if (!id_valid(id))
		return error_set(err, EINVAL, "'%.*s' is no container's name", ID_MAX, id);
	k = find(t, id, NULL);
	if (!k) {
		link_reply(t->link, stream_id, NULL);
		return 0;
	}
	if (k->deleting)
		return error_set(err, EBUSY, "container '%s' is being deleted", id);
	j = job_new(t, id, NULL, stream_id, on_deleted);
	r = job_run(j, args, NULL, err);
	if (r < 0)
		job_free(j);
	else
		k->deleting = true;
	return r;
}

int container_freeze(struct containers *t, const char *id, bool frozen, struct error *err)
{
	int r;

	if (!find(t, id, err))
		return -ENOENT;
	r = cgroup_write(id, "cgroup.freeze", frozen ? "1" : "0");
	return r < 0 ? error_set_errno(err, -r, "container '%s': cannot %s", id, frozen ? "pause" : "resume") : 0;
}

/* ---- Looking ---- */

int container_pids(struct containers *t, const char *id, uint32_t **ret, size_t *ret_n, struct error *err)
{
	int r;

	if (!find(t, id, err))
		return -ENOENT;
	r = cgroup_pids(id, ret, ret_n);
	return r < 0 ? error_set_errno(err, -r, "container '%s': its cgroup", id) : 0;
}

int container_stats(struct containers *t, const char *id, uint32_t stream_id, struct error *err)
{
	static const char *const names[] = { "memory.current", "memory.max",    "memory.swap.current",
					     "memory.stat",    "memory.events", "cpu.stat",
					     "pids.current",   "pids.max",      "io.stat" };
	Skerry__Agent__V1__ContainerStatsResponse m = SKERRY__AGENT__V1__CONTAINER_STATS_RESPONSE__INIT;
	Skerry__Agent__V1__CgroupFile files[ARRAY_SIZE(names)], *list[ARRAY_SIZE(names)];
	struct buf texts[ARRAY_SIZE(names)] = { { 0 } };
	char *copies[ARRAY_SIZE(names)] = { NULL };
	_cleanup_close_ int dir = -EBADF;

	if (!find(t, id, err))
		return -ENOENT;
	dir = cgroup_open(id);
	if (dir < 0)
		return error_set_errno(err, -dir, "container '%s': its cgroup", id);
	m.files = list;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		Skerry__Agent__V1__CgroupFile *f = &files[m.n_files];

		if (file_read_at(dir, names[i], FILE_LIMIT, &texts[i]) < 0 || !texts[i].len)
			continue;
		skerry__agent__v1__cgroup_file__init(f);
		f->name = copies[i] = xstrdup(names[i]);
		f->content = (ProtobufCBinaryData){ texts[i].len, (uint8_t *)texts[i].p };
		list[m.n_files++] = f;
	}
	link_reply(t->link, stream_id, &m.base);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		buf_done(&texts[i]);
		free(copies[i]);
	}
	return 0;
}

int container_accept(struct containers *t, const Skerry__Agent__V1__AcceptRequest *q, uint32_t stream_id,
		     struct error *err)
{
	struct container *k = find(t, q->container, err);

	return k ? container_sockets_accept(k->sockets, t->sessions, t->link, q->socket, q->id, stream_id, err)
		 : -ENOENT;
}

/* ---- The room itself ---- */

struct containers *containers_new(struct loop *l, struct sessions *sessions)
{
	struct containers *t = xnew(struct containers);

	t->loop = l;
	t->sessions = sessions;
	t->crun = CRUN;
	return t;
}

void containers_set_link(struct containers *t, struct link *k)
{
	t->link = k;
}

void containers_forget_requests(struct containers *t)
{
	for (struct container *k = t->first; k; k = k->next)
		container_sockets_forget(k->sockets);
	for (struct job *j = t->jobs; j; j = j->next)
		j->forgotten = true;
	t->event_waiter = 0;
}

struct containers *containers_free(struct containers *t)
{
	if (!t)
		return NULL;
	while (t->jobs)
		job_free(t->jobs);
	while (t->first)
		dissolve(t, t->first);
	while (t->events) {
		struct event *e = t->events;

		t->events = e->next;
		free(e->id);
		free(e);
	}
	free(t);
	return NULL;
}
