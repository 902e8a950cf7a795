/* How this works. link.c turns bytes into requests, handle() finds the method in the table, unpacks its message and calls the function
 * beside it. A function answers at once (0 with *ret_message, or an error) or takes the request's stream id along and answers when there is
 * something to say (DEFERRED). session.c owns everything that lives longer than a request. */
#include "guest/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "base/clock.h"
#include "base/log.h"
#include "guest/container.h"
#include "guest/copy.h"
#include "guest/cpus.h"
#include "guest/freeze.h"
#include "guest/power.h"
#include "guest/session.h"
#include "guest/system.h"
#include "guest/trim.h"
#include "wire/message.h"

enum { DEFERRED = 1, SHUTDOWN_WAITERS_MAX = 16, ARGS_MAX = 65536 };

struct agent {
	struct loop *loop;
	struct link *link;
	struct sessions *sessions;
	struct containers *containers;
	struct strv environment;
	char *error; /* owned */
	int root;    /* borrowed */
	bool reboot_to_power_off;
	void (*shut_down)(bool reboot, void *data);
	void *data;

	bool asked; /* the host has asked for the end */
	bool asked_reboot;
	pid_t sync; /* the child that writes everything out; 0 = none runs */
	uint32_t shutdown_waiters[SHUTDOWN_WAITERS_MAX];
	unsigned n_shutdown_waiters;
	struct trim *trim;         /* owned; while one runs */
	struct freeze *freeze;     /* owned; while the file system is frozen */
	struct power_watch *watch; /* owned; when another init is PID 1 */
};

/* ---- Methods ---- */

static int call_hello(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	Skerry__Agent__V1__HelloResponse m;
	struct timespec now;
	struct utsname u;
	char version[] = SKERRY_VERSION;

	(void)message;
	(void)err;
	skerry__agent__v1__hello_response__init(&m);
	m.version = version;
	if (uname(&u) == 0)
		m.kernel = u.release;
	if (clock_gettime(CLOCK_BOOTTIME, &now) == 0)
		m.uptime_ns = (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec;
	m.init_is_agent = a->shut_down != NULL;
	if (a->error)
		m.error = a->error;
	link_reply(a->link, stream_id, &m.base);
	return DEFERRED;
}

static void env_set(struct strv *env, const char *assignment)
{
	size_t n = strcspn(assignment, "=") + 1;

	if (n == 1 || !assignment[n - 1])
		return; /* "=x" and "x": not assignments */
	for (size_t i = 0; i < env->n; i++) {
		if (strncmp(env->items[i], assignment, n) != 0)
			continue;
		free(env->items[i]);
		env->items[i] = xstrdup(assignment);
		return;
	}
	strv_add(env, assignment);
}

static void env_setf(struct strv *env, const char *name, const char *value)
{
	_cleanup_free_ char *s = xasprintf("%s=%s", name, value);

	env_set(env, s);
}

static void make_environment(const struct agent *a, const Skerry__Agent__V1__ExecRequest *q,
			     const struct account *account, struct strv *env)
{
	env_setf(env, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	env_setf(env, "HOME", account->home);
	env_setf(env, "USER", account->name);
	env_setf(env, "LOGNAME", account->name);
	env_setf(env, "SHELL", account->shell);
	if (q->terminal)
		env_setf(env, "TERM", "xterm");
	for (size_t i = 0; i < a->environment.n; i++)
		env_set(env, a->environment.items[i]);
	for (size_t i = 0; i < q->n_env; i++)
		env_set(env, q->env[i]);
}

static int call_exec(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	const Skerry__Agent__V1__ExecRequest *q = message;
	Skerry__Agent__V1__ExecResponse m;
	_cleanup_account_ struct account account = { 0 };
	_cleanup_strv_ struct strv args = { 0 }, env = { 0 };
	struct launch l = { .account = &account, .env = &env };
	pid_t pid = 0;
	int r;

	if (q->n_args > ARGS_MAX)
		return error_set(err, E2BIG, "the command has more than %d arguments", ARGS_MAX);
	if (q->n_args == 0 || !q->args[0][0])
		return error_set(err, EINVAL, "there is no command to run");
	r = account_lookup(a->root, q->user, &account, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < q->n_args; i++)
		strv_add(&args, q->args[i]);
	make_environment(a, q, &account, &env);
	l.argv = args.items;
	l.cwd = q->cwd;
	l.terminal = q->terminal;
	l.rows = q->rows > UINT16_MAX ? UINT16_MAX : (uint16_t)q->rows;
	l.cols = q->cols > UINT16_MAX ? UINT16_MAX : (uint16_t)q->cols;
	l.stdin_open = q->open_stdin;
	r = session_launch(a->sessions, q->id, &l, q->tee_console, &pid, err);
	if (r < 0)
		return r;
	skerry__agent__v1__exec_response__init(&m);
	m.pid = (uint32_t)pid;
	link_reply(a->link, stream_id, &m.base);
	return DEFERRED;
}

static int call_read(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	const Skerry__Agent__V1__ReadRequest *q = message;
	int r = session_read(a->sessions, q->id, q->stream, q->max, stream_id, err);

	return r < 0 ? r : DEFERRED;
}

static int call_write(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	const Skerry__Agent__V1__WriteRequest *q = message;
	int r = session_write(a->sessions, q->id, q->data.data, q->data.len, stream_id, err);

	return r < 0 ? r : DEFERRED;
}

static int call_close_stdin(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	const Skerry__Agent__V1__IdRequest *q = message;

	(void)stream_id;
	return session_close_stdin(a->sessions, q->id, err);
}

static int call_resize(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	const Skerry__Agent__V1__ResizeRequest *q = message;

	(void)stream_id;
	if (q->rows > UINT16_MAX || q->cols > UINT16_MAX)
		return error_set(err, EINVAL, "no terminal is that large");
	return session_resize(a->sessions, q->id, (uint16_t)q->rows, (uint16_t)q->cols, err);
}

static int call_signal(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	const Skerry__Agent__V1__SignalRequest *q = message;

	(void)stream_id;
	if (q->signal < 1 || q->signal > 64)
		return error_set(err, EINVAL, "there is no signal %d", q->signal);
	return session_signal(a->sessions, q->id, q->signal, err);
}

static int call_wait(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	const Skerry__Agent__V1__IdRequest *q = message;
	int r = session_wait(a->sessions, q->id, stream_id, err);

	return r < 0 ? r : DEFERRED;
}

static int call_release(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	const Skerry__Agent__V1__IdRequest *q = message;

	(void)stream_id;
	return session_release(a->sessions, q->id, err);
}

static int call_dial(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	const Skerry__Agent__V1__DialRequest *q = message;
	int r;

	if (q->port < 1 || q->port > UINT16_MAX)
		return error_set(err, EINVAL, "there is no port %u", q->port);
	r = session_dial(a->sessions, q->id, (uint16_t)q->port, stream_id, err);
	return r < 0 ? r : DEFERRED;
}

static int call_copy_out(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	const Skerry__Agent__V1__CopyOutRequest *q = message;

	(void)stream_id;
	return copy_out_start(a->sessions, q->id, q->path, err);
}

static int call_copy_in(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	const Skerry__Agent__V1__CopyInRequest *q = message;

	(void)stream_id;
	return copy_in_start(a->sessions, q->id, q->directory, q->rename[0] ? q->rename : NULL, q->keep_owner, err);
}

static int call_stat(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	const Skerry__Agent__V1__StatRequest *q = message;
	Skerry__Agent__V1__StatResponse m;
	struct stat st;

	skerry__agent__v1__stat_response__init(&m);
	if (stat(q->path, &st) == 0) {
		m.exists = true;
		m.directory = S_ISDIR(st.st_mode);
	} else if (errno != ENOENT && errno != ENOTDIR) {
		return error_set_errno(err, errno, "%.200s", q->path);
	} else {
		m.exists = lstat(q->path, &st) == 0; /* a link to nowhere is something, too */
	}
	link_reply(a->link, stream_id, &m.base);
	return DEFERRED;
}

static int call_stats(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	Skerry__Agent__V1__StatsResponse m;

	(void)message;
	(void)err;
	skerry__agent__v1__stats_response__init(&m);
	system_stats(&m);
	link_reply(a->link, stream_id, &m.base);
	return DEFERRED;
}

static int call_set_cpus(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	const Skerry__Agent__V1__SetCpusRequest *q = message;
	Skerry__Agent__V1__SetCpusResponse m;
	_cleanup_close_ int root = open("/sys/devices/system/cpu", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	skerry__agent__v1__set_cpus_response__init(&m);
	r = root < 0 ? -errno : cpus_set_online(root, q->online, &m.online);
	if (r < 0)
		return error_set_errno(err, r, "cannot have %u processors", q->online);
	link_reply(a->link, stream_id, &m.base);
	return DEFERRED;
}

static int call_set_time(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	const Skerry__Agent__V1__SetTimeRequest *q = message;
	int r;

	(void)a;
	(void)stream_id;
	r = system_set_time(q->realtime_ns);
	return r < 0 ? error_set_errno(err, -r, "cannot set the clock") : 0;
}

static int call_trim(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	int r;

	(void)message;
	r = trim_start(&a->trim, a->loop, a->link, stream_id, err);
	return r < 0 ? r : DEFERRED;
}

static int call_freeze(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	const Skerry__Agent__V1__FreezeRequest *q = message;
	int r = freeze_start(&a->freeze, a->loop, a->link, stream_id, q->timeout_ns, err);

	return r < 0 ? r : DEFERRED;
}

static int call_thaw(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	(void)message;
	(void)err;
	return freeze_end(a->freeze, stream_id) ? DEFERRED : 0;
}

static int call_shutdown(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	const Skerry__Agent__V1__ShutdownRequest *q = message;
	bool reboot = q->mode == SKERRY__AGENT__V1__SHUTDOWN_REQUEST__MODE__REBOOT;
	int r = 0;

	a->asked = true;
	a->asked_reboot = reboot;
	/* A guest that takes longer to end than it is given loses its power: what it had written by now, and by each further request (one
	 * a second), is on the disk then. systemd sees to that itself when it begins, no other init does. */
	if (a->sync <= 0)
		a->sync = power_sync_ahead();
	if (a->shut_down) {
		/* The answer first: the end may come before the next turn of the loop. */
		link_reply(a->link, stream_id, NULL);
		a->shut_down(reboot, a->data);
		return DEFERRED;
	}
	r = power_ask_init(reboot || a->reboot_to_power_off);
	return r < 0 ? error_set_errno(err, -r, "cannot tell the guest's init to shut down") : 0;
}

static void on_power_event(bool reboot, bool clean, void *data)
{
	struct agent *a = data;

	agent_say_goodbye(a, reboot);
	/* The kernel of such a shape would stop instead of powering off, and the machine would never end. */
	if (clean && !reboot && a->reboot_to_power_off)
		power_reset();
}

static int call_create_container(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	int r = container_create(a->containers, message, stream_id, err);

	return r < 0 ? r : DEFERRED;
}

static int call_start_container(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	const Skerry__Agent__V1__ContainerRequest *q = message;
	int r = container_start(a->containers, q->id, stream_id, err);

	return r < 0 ? r : DEFERRED;
}

static int call_exec_container(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	int r = container_exec(a->containers, message, stream_id, err);

	return r < 0 ? r : DEFERRED;
}

static int call_kill_container(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	(void)stream_id;
	return container_kill(a->containers, message, err);
}

static int call_delete_container(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	const Skerry__Agent__V1__ContainerRequest *q = message;
	int r = container_delete(a->containers, q->id, stream_id, err);

	return r < 0 ? r : DEFERRED;
}

static int call_pause_container(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	const Skerry__Agent__V1__ContainerRequest *q = message;

	(void)stream_id;
	return container_freeze(a->containers, q->id, true, err);
}

static int call_resume_container(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	const Skerry__Agent__V1__ContainerRequest *q = message;

	(void)stream_id;
	return container_freeze(a->containers, q->id, false, err);
}

static int call_update_container(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	const Skerry__Agent__V1__UpdateContainerRequest *q = message;
	int r = container_update(a->containers, q->id, q->resources.data, q->resources.len, stream_id, err);

	return r < 0 ? r : DEFERRED;
}

static int call_container_pids(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	const Skerry__Agent__V1__ContainerRequest *q = message;
	Skerry__Agent__V1__ContainerPidsResponse m = SKERRY__AGENT__V1__CONTAINER_PIDS_RESPONSE__INIT;
	int r = container_pids(a->containers, q->id, &m.pids, &m.n_pids, err);

	if (r < 0)
		return r;
	link_reply(a->link, stream_id, &m.base);
	free(m.pids);
	return DEFERRED;
}

static int call_container_stats(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	const Skerry__Agent__V1__ContainerRequest *q = message;
	int r = container_stats(a->containers, q->id, stream_id, err);

	return r < 0 ? r : DEFERRED;
}

static int call_accept(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	int r = container_accept(a->containers, message, stream_id, err);

	return r < 0 ? r : DEFERRED;
}

static int call_next_container_event(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	int r = container_next_event(a->containers, stream_id, err);

	(void)message;
	return r < 0 ? r : DEFERRED;
}

static int call_wait_shutdown(struct agent *a, uint32_t stream_id, const void *message, struct error *err)
{
	(void)message;
	if (a->n_shutdown_waiters == SHUTDOWN_WAITERS_MAX)
		return error_set(err, EMFILE, "too many waits");
	a->shutdown_waiters[a->n_shutdown_waiters++] = stream_id;
	return DEFERRED;
}

void agent_say_goodbye(struct agent *a, bool reboot)
{
	Skerry__Agent__V1__ShutdownNotice m;

	/* What the host asked for may be done in another way. */
	if (a->asked)
		reboot = a->asked_reboot;
	skerry__agent__v1__shutdown_notice__init(&m);
	m.mode = reboot ? SKERRY__AGENT__V1__SHUTDOWN_REQUEST__MODE__REBOOT
			: SKERRY__AGENT__V1__SHUTDOWN_REQUEST__MODE__POWER_OFF;
	for (unsigned i = 0; i < a->n_shutdown_waiters; i++)
		link_reply(a->link, a->shutdown_waiters[i], &m.base);
	a->n_shutdown_waiters = 0;
	link_flush(a->link, clock_monotonic_ns() + NS_PER_SEC);
}

/* ---- Dispatch ---- */

static const struct method {
	const char *name;
	const ProtobufCMessageDescriptor *input;
	/* DEFERRED: it has answered or will. 0: answer with Empty. <0 with @err: answer with that. */
	int (*call)(struct agent *a, uint32_t stream_id, const void *message, struct error *err);
} methods[] = {
	{ "Read", &skerry__agent__v1__read_request__descriptor, call_read },
	{ "Write", &skerry__agent__v1__write_request__descriptor, call_write },
	{ "Hello", &skerry__agent__v1__empty__descriptor, call_hello },
	{ "Exec", &skerry__agent__v1__exec_request__descriptor, call_exec },
	{ "CloseStdin", &skerry__agent__v1__id_request__descriptor, call_close_stdin },
	{ "Resize", &skerry__agent__v1__resize_request__descriptor, call_resize },
	{ "Signal", &skerry__agent__v1__signal_request__descriptor, call_signal },
	{ "Wait", &skerry__agent__v1__id_request__descriptor, call_wait },
	{ "Release", &skerry__agent__v1__id_request__descriptor, call_release },
	{ "Dial", &skerry__agent__v1__dial_request__descriptor, call_dial },
	{ "CopyOut", &skerry__agent__v1__copy_out_request__descriptor, call_copy_out },
	{ "CopyIn", &skerry__agent__v1__copy_in_request__descriptor, call_copy_in },
	{ "Stat", &skerry__agent__v1__stat_request__descriptor, call_stat },
	{ "Stats", &skerry__agent__v1__empty__descriptor, call_stats },
	{ "SetCpus", &skerry__agent__v1__set_cpus_request__descriptor, call_set_cpus },
	{ "SetTime", &skerry__agent__v1__set_time_request__descriptor, call_set_time },
	{ "Trim", &skerry__agent__v1__empty__descriptor, call_trim },
	{ "Freeze", &skerry__agent__v1__freeze_request__descriptor, call_freeze },
	{ "Thaw", &skerry__agent__v1__empty__descriptor, call_thaw },
	{ "Shutdown", &skerry__agent__v1__shutdown_request__descriptor, call_shutdown },
	{ "WaitShutdown", &skerry__agent__v1__empty__descriptor, call_wait_shutdown },
	{ "CreateContainer", &skerry__agent__v1__create_container_request__descriptor, call_create_container },
	{ "StartContainer", &skerry__agent__v1__container_request__descriptor, call_start_container },
	{ "ExecContainer", &skerry__agent__v1__exec_container_request__descriptor, call_exec_container },
	{ "KillContainer", &skerry__agent__v1__kill_container_request__descriptor, call_kill_container },
	{ "DeleteContainer", &skerry__agent__v1__container_request__descriptor, call_delete_container },
	{ "PauseContainer", &skerry__agent__v1__container_request__descriptor, call_pause_container },
	{ "ResumeContainer", &skerry__agent__v1__container_request__descriptor, call_resume_container },
	{ "UpdateContainer", &skerry__agent__v1__update_container_request__descriptor, call_update_container },
	{ "ContainerPids", &skerry__agent__v1__container_request__descriptor, call_container_pids },
	{ "ContainerStats", &skerry__agent__v1__container_request__descriptor, call_container_stats },
	{ "Accept", &skerry__agent__v1__accept_request__descriptor, call_accept },
	{ "NextContainerEvent", &skerry__agent__v1__empty__descriptor, call_next_container_event },
};

static void handle(uint32_t stream_id, const struct ttrpc_request *req, void *data)
{
	struct agent *a = data;
	const struct method *m = NULL;
	_cleanup_error_ struct error err = { 0 };
	_cleanup_message_ void *message = NULL;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(methods) && streq(req->service, "skerry.agent.v1.Agent"); i++)
		if (streq(req->method, methods[i].name))
			m = &methods[i];
	if (!m) {
		link_error(a->link, stream_id, ENOSYS, "no method '%.100s' of '%.100s'", req->method, req->service);
		return;
	}
	message = message_unpack(m->input, req->payload, req->payload_len);
	if (!message) {
		link_error(a->link, stream_id, EINVAL, "the request is damaged, or has more in it than can be taken");
		return;
	}
	r = m->call(a, stream_id, message, &err);
	if (r < 0)
		link_error(a->link, stream_id, r, "%s", err.msg ? err.msg : strerror(-r));
	else if (r == 0)
		link_reply(a->link, stream_id, NULL);
}

static void reset(void *data)
{
	struct agent *a = data;

	sessions_forget_requests(a->sessions);
	containers_forget_requests(a->containers);
	trim_forget_request(a->trim);
	freeze_forget_requests(a->freeze);
	a->n_shutdown_waiters = 0;
}

int agent_new(struct loop *l, const struct agent_options *o, struct agent **ret)
{
	struct agent *a = xnew(struct agent);
	int r;

	a->loop = l;
	a->root = o->root;
	a->reboot_to_power_off = o->reboot_to_power_off;
	a->shut_down = o->shut_down;
	a->data = o->data;
	a->error = xstrdup(o->error);
	if (o->environment)
		strv_copy(&a->environment, o->environment);
	a->sessions = sessions_new(l);
	a->containers = containers_new(l, a->sessions);
	r = link_new(l, &o->target, handle, reset, a, &a->link);
	if (r == 0 && !a->shut_down && power_watch_new(l, on_power_event, a, &a->watch) < 0)
		log_warning("the end of the guest's init cannot be watched");
	if (r == 0) {
		sessions_set_link(a->sessions, a->link);
		containers_set_link(a->containers, a->link);
		r = link_start(a->link);
	}
	if (r < 0) {
		agent_free(a);
		return r;
	}
	*ret = a;
	return 0;
}

struct agent *agent_free(struct agent *a)
{
	if (!a)
		return NULL;
	containers_free(a->containers);
	sessions_free(a->sessions);
	trim_free(a->trim);
	freeze_free(a->freeze);
	power_watch_free(a->watch);
	link_free(a->link);
	strv_done(&a->environment);
	free(a->error);
	free(a);
	return NULL;
}

void agent_reaped(struct agent *a, pid_t pid, int wait_status)
{
	if (pid == a->sync)
		a->sync = 0;
	else if (!containers_reaped(a->containers, pid, wait_status))
		(void)sessions_reaped(a->sessions, pid, wait_status);
}
