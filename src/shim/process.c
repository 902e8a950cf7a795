#include <inttypes.h>

#include "agent.pb-c.h"
#include "base/clock.h"
#include "base/log.h"
#include "machine/client.h"
#include "shim/shim.h"
#include "wire/message.h"

enum { STATUS_KILLED = 137, STATUS_UNKNOWN = 255 };

static int call_until(struct shim *s, const char *method, const struct ProtobufCMessage *m, uint64_t deadline_ns,
		      rpc_done_fn done, void *data, struct error *err)
{
	struct rpc *agent = vm_agent(s->vm);
	_cleanup_buf_ struct buf packed = {};
	int r;

	if (!agent)
		return error_set(err, ENOTCONN, "the virtual machine %s", s->vm_ended ? s->vm_reason : "is not ready");
	if (m)
		message_pack(&packed, m);
	r = rpc_call(agent, AGENT_SERVICE, method, packed.p, packed.len, deadline_ns, done, data, err);
	return r;
}

int guest_call(struct shim *s, const char *method, const struct ProtobufCMessage *m, rpc_done_fn done, void *data,
	       struct error *err)
{
	return call_until(s, method, m, clock_monotonic_ns() + s->limits.answer_ns, done, data, err);
}

int guest_signal(struct shim *s, const struct ProtobufCMessage *m, rpc_done_fn done, void *data, struct error *err)
{
	return call_until(s, "KillContainer", m, clock_monotonic_ns() + s->limits.signal_ns, done, data, err);
}

int guest_wait(struct shim *s, const char *method, const struct ProtobufCMessage *m, rpc_done_fn done, void *data,
	       struct error *err)
{
	return call_until(s, method, m, UINT64_MAX, done, data, err);
}

bool guest_lost(const struct shim *s, const struct error *err)
{
	/* The agent's connection ends before the engine does, and only that tells the reason. */
	return err && (s->vm_ended || !vm_agent(s->vm));
}

void guest_error(const struct shim *s, const struct error *err, const char *doing, struct error *ret)
{
	if (err->num == ETIMEDOUT)
		error_set(ret, ETIMEDOUT, "the guest did not %s within %" PRIu64 " s", doing,
			  s->limits.answer_ns / NS_PER_SEC);
	else
		error_set(ret, err->num, "%s", err->msg);
}

void guest_cancel(struct shim *s, int call)
{
	if (s->vm && call > 0)
		vm_cancel(s->vm, call);
}

Containerd__Timestamp *process_timestamp(uint64_t ns, Containerd__Timestamp *t)
{
	containerd__timestamp__init(t);
	t->seconds = (int64_t)(ns / NS_PER_SEC);
	t->nanos = (int32_t)(ns % NS_PER_SEC);
	return ns ? t : NULL;
}

struct process *process_new(struct container *k, const char *exec_id, bool terminal, const char *in, const char *out,
			    const char *err_)
{
	struct process *p = xnew(struct process);

	*p = (struct process){ .container = k,
			       .exec_id = xstrdup(exec_id),
			       .session = xasprintf("p%u", ++k->shim->last_session),
			       .stdin_path = xstrdup(in),
			       .stdout_path = xstrdup(out),
			       .stderr_path = xstrdup(err_),
			       .terminal = terminal,
			       .status = CONTAINERD__STATUS__CREATED,
			       .next = k->processes };
	k->processes = p;
	return p;
}

static void answer_waiter(struct process *p, struct call *c)
{
	Containerd__WaitResponse r = CONTAINERD__WAIT_RESPONSE__INIT;
	Containerd__Timestamp t;

	r.exit_status = p->exit_status;
	r.exited_at = process_timestamp(p->exited_ns, &t);
	call_reply(c, &r.base);
}

static bool others_live(const struct process *init)
{
	for (const struct process *p = init->container->processes; p; p = p->next)
		if (p != init && p->started && !p->published)
			return true;
	return false;
}

/* Those of them that the guest has not said the end of. */
static bool others_run(const struct process *init)
{
	for (const struct process *p = init->container->processes; p; p = p->next)
		if (p != init && p->started && !p->exited)
			return true;
	return false;
}

static void answer_waiters(struct process *p)
{
	struct waiter *w;

	while ((w = p->waiters)) {
		p->waiters = w->next;
		answer_waiter(p, w->call);
		free(w);
	}
}

/* Its end is told when everything before it was: its start, its output, and, for the container's first, the end of those that joined it. */
static void publish_exit(struct process *p)
{
	struct container *k = p->container;
	Containerd__TaskExit e = CONTAINERD__TASK_EXIT__INIT;
	Containerd__Timestamp t;

	if (p->published || !p->exited || (p->io && !p->drained) || p->start || (!*p->exec_id && others_live(p)))
		return;
	p->published = true;
	p->kill_timer = loop_source_free(p->kill_timer);
	p->status = CONTAINERD__STATUS__STOPPED;
	e.container_id = k->id;
	e.id = *p->exec_id ? p->exec_id : k->id;
	e.pid = p->pid;
	e.exit_status = p->exit_status;
	e.exited_at = process_timestamp(p->exited_ns, &t);
	events_publish(k->shim->events, "/tasks/exit", "containerd.events.TaskExit", &e.base);
	answer_waiters(p);
	if (*p->exec_id) {
		struct process *init = container_init(k);

		if (init)
			publish_exit(init);
	}
}

static void on_drained(void *data)
{
	struct process *p = data;

	/* The streams stay until the process is freed: this is called by one of them. */
	p->drained = true;
	publish_exit(p);
}

static void on_killed_rest(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	(void)err;
	(void)payload;
	(void)len;
	(void)data;
}

static void watch_end(struct process *p);

void process_exited(struct process *p, uint32_t status)
{
	struct container *k = p->container;

	if (p->exited)
		return;
	p->exited = true;
	p->exit_status = status;
	p->exited_ns = clock_realtime_ns();
	p->kill_timer = loop_source_free(p->kill_timer);
	if (p->io)
		streams_process_gone(p->io);
	if (!*p->exec_id && others_live(p) && k->made && vm_agent(k->shim->vm)) {
		/* Without a PID namespace of its own the others would live on. */
		Skerry__Agent__V1__KillContainerRequest q = SKERRY__AGENT__V1__KILL_CONTAINER_REQUEST__INIT;

		q.id = k->id;
		q.signal = SIGKILL;
		q.all = true;
		(void)guest_call(k->shim, "KillContainer", &q.base, on_killed_rest, NULL, NULL);
	}
	publish_exit(p);
	/* Those that it waits for are to end in time, too. */
	if (!*p->exec_id && !p->published)
		watch_end(p);
}

static void on_wait(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct process *p = data;
	_cleanup_message_ Skerry__Agent__V1__WaitResponse *r = NULL;

	p->wait_call = 0;
	if (guest_lost(p->container->shim, err))
		return;
	if (!err)
		r = message_unpack(&skerry__agent__v1__wait_response__descriptor, payload, len);
	process_exited(p, r ? (uint32_t)r->status & 0xff : STATUS_UNKNOWN);
}

int process_watch(struct process *p, struct error *err)
{
	Skerry__Agent__V1__IdRequest q = SKERRY__AGENT__V1__ID_REQUEST__INIT;
	struct shim *s = p->container->shim;

	q.id = p->session;
	if (p->io)
		streams_start(p->io, vm_agent(s->vm), on_drained, p);
	p->wait_call = guest_wait(s, "Wait", &q.base, on_wait, p, err);
	return p->wait_call < 0 ? p->wait_call : 0;
}

static void answer_state(const struct process *p, struct call *c)
{
	Containerd__StateResponse r = CONTAINERD__STATE_RESPONSE__INIT;
	Containerd__Timestamp t;

	r.id = p->container->id;
	r.bundle = p->container->bundle;
	r.pid = p->pid;
	r.status = p->status == CONTAINERD__STATUS__RUNNING && p->container->paused ? CONTAINERD__STATUS__PAUSED
										    : p->status;
	r.stdin = p->stdin_path;
	r.stdout = p->stdout_path;
	r.stderr = p->stderr_path;
	r.terminal = p->terminal;
	if (p->published) {
		r.exit_status = p->exit_status;
		r.exited_at = process_timestamp(p->exited_ns, &t);
	}
	r.exec_id = p->exec_id;
	call_reply(c, &r.base);
}

static void answer_asked(struct process *p)
{
	struct waiter *w;

	while ((w = p->asked)) {
		p->asked = w->next;
		answer_state(p, w->call);
		free(w);
	}
}

/* containerd's restart monitor looks every ten seconds, and kills what should run and is "created": so whoever asks in between is told afterwards. */
void process_state(struct process *p, struct call *c)
{
	struct waiter *w;

	if (!p->start || p->start_call <= 0) {
		answer_state(p, c);
		return;
	}
	w = xnew(struct waiter);
	*w = (struct waiter){ .call = c, .next = p->asked };
	p->asked = w;
}

static void started(struct process *p)
{
	struct container *k = p->container;
	struct call *c = p->start;
	Containerd__StartResponse r = CONTAINERD__START_RESPONSE__INIT;

	p->status = CONTAINERD__STATUS__RUNNING;
	p->started = true;
	if (*p->exec_id) {
		Containerd__TaskExecStarted e = CONTAINERD__TASK_EXEC_STARTED__INIT;

		e.container_id = k->id;
		e.exec_id = p->exec_id;
		e.pid = p->pid;
		events_publish(k->shim->events, "/tasks/exec-started", "containerd.events.TaskExecStarted", &e.base);
	} else {
		Containerd__TaskStart e = CONTAINERD__TASK_START__INIT;

		e.container_id = k->id;
		e.pid = p->pid;
		events_publish(k->shim->events, "/tasks/start", "containerd.events.TaskStart", &e.base);
	}
	p->start = NULL;
	p->start_call = 0;
	r.pid = p->pid;
	call_reply(c, &r.base);
	answer_asked(p);
	publish_exit(p);
}

void process_start_failed(struct process *p, const struct error *err)
{
	struct call *c = p->start;

	p->start = NULL;
	p->start_call = 0;
	call_fail(c, err);
	answer_asked(p);
	if (p->made) {
		publish_exit(p);
		return;
	}
	/* There never was such a process: clients delete what has stopped. */
	p->io = streams_free(p->io);
	if (*p->exec_id) {
		p->exited = p->published = true;
		p->exit_status = STATUS_UNKNOWN;
		p->exited_ns = clock_realtime_ns();
		p->status = CONTAINERD__STATUS__STOPPED;
		answer_waiters(p);
	} else {
		process_exited(p, STATUS_UNKNOWN);
	}
}

static void on_started(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct process *p = data;
	struct container *k = p->container;
	_cleanup_error_ struct error e = {};

	(void)payload;
	(void)len;
	p->start_call = 0;
	if (guest_lost(k->shim, err))
		return;
	if (err) {
		guest_error(k->shim, err, "start the container", &e);
		process_start_failed(p, &e);
		return;
	}
	if (hooks_run(k->spec, "poststart", k->id, "running", k->holder.pid, k->bundle, &e) < 0)
		log_warning("%s: %s, ignoring", k->id, e.msg);
	started(p);
}

static void on_exec_started(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct process *p = data;
	_cleanup_message_ Skerry__Agent__V1__ExecResponse *r = NULL;
	_cleanup_error_ struct error e = {};

	p->start_call = 0;
	if (guest_lost(p->container->shim, err))
		return;
	if (err) {
		guest_error(p->container->shim, err, "start the process", &e);
		process_start_failed(p, &e);
		return;
	}
	r = message_unpack(&skerry__agent__v1__exec_response__descriptor, payload, len);
	p->pid = r ? r->pid : 0;
	p->made = true;
	if (process_watch(p, &e) < 0) {
		process_start_failed(p, &e);
		return;
	}
	if (!process_kill_made(p))
		started(p);
}

static int open_streams(struct process *p, struct error *err)
{
	struct streams_request q = {
		.in = p->stdin_path,
		.out = p->stdout_path,
		.err = p->stderr_path,
		.terminal = p->terminal,
		.id = p->container->id,
		.namespace = p->container->shim->namespace,
		.session = p->session,
		.silent_ns = p->container->shim->limits.silent_ns,
	};
	int r = streams_open(p->container->shim->loop, &q, &p->io, err);

	if (r >= 0 && p->input_ended)
		streams_close_input(p->io);
	return r;
}

int process_open_streams(struct process *p, struct error *err)
{
	return open_streams(p, err);
}

static int start_exec(struct process *p, struct error *err)
{
	Skerry__Agent__V1__ExecContainerRequest q = SKERRY__AGENT__V1__EXEC_CONTAINER_REQUEST__INIT;

	q.id = p->container->id;
	q.session = p->session;
	q.process = (ProtobufCBinaryData){ p->spec.len, (uint8_t *)p->spec.p };
	q.open_stdin = streams_has_input(p->io);
	q.terminal = p->terminal;
	return guest_call(p->container->shim, "ExecContainer", &q.base, on_exec_started, p, err);
}

/* Its start, if one is under way, has come to nothing. */
static void give_up_start(struct process *p)
{
	struct call *c = p->start;

	p->start = NULL;
	if (c)
		call_failf(c, ECANCELED, "it was killed before it was started");
	answer_asked(p);
}

bool process_kill_early(struct process *p, uint32_t sig)
{
	struct container *k = p->container;

	if (k->sandbox) {
		process_exited(p, 128 + sig);
		return true;
	}
	if (p->made || (*p->exec_id && !p->start))
		return false;
	if (*p->exec_id || k->create || k->making) {
		p->kill_wanted = sig;
		return true;
	}
	/* What the guest never saw is over at once, and its streams never had anything to say. */
	give_up_start(p);
	p->io = streams_free(p->io);
	process_exited(p, 128 + sig);
	return true;
}

bool process_kill_made(struct process *p)
{
	Skerry__Agent__V1__KillContainerRequest q = SKERRY__AGENT__V1__KILL_CONTAINER_REQUEST__INIT;

	if (!p->kill_wanted)
		return false;
	give_up_start(p);
	q.id = p->container->id;
	q.session = p->session;
	q.signal = (int32_t)p->kill_wanted;
	(void)guest_call(p->container->shim, "KillContainer", &q.base, on_killed_rest, NULL, NULL);
	if (p->kill_wanted == SIGKILL)
		process_must_end(p);
	return true;
}

/* Whether its end costs others theirs. */
static bool machine_is_shared(const struct container *k)
{
	for (const struct container *o = k->shim->containers; o; o = o->next)
		if (o != k && !o->sandbox && container_init(o) && !container_init(o)->exited)
			return true;
	return false;
}

static uint64_t end_ns(const struct process *p)
{
	const struct shim_limits *l = &p->container->shim->limits;

	return *p->exec_id || machine_is_shared(p->container) ? l->kill_shared_ns : l->kill_ns;
}

/* A process that joined is not worth the machine that the container lives in: whoever waits for it is told that it has ended. */
static void give_up(struct process *p)
{
	struct container *k = p->container;

	log_warning("process '%s' of container '%s' did not end when it was killed: it is given up", p->exec_id, k->id);
	guest_cancel(k->shim, p->wait_call);
	p->wait_call = 0;
	process_exited(p, STATUS_KILLED);
}

static int on_kill_overdue(struct loop_source *src, void *data)
{
	struct process *p = data;
	struct container *k = p->container;
	_cleanup_free_ char *reason = NULL;

	if (*p->exec_id) {
		give_up(p);
		return 0;
	}
	/* Only output is left, which goes at the pace of those who take it. */
	if (p->exited && !others_run(p))
		return loop_set_deadline(src, clock_monotonic_ns() + end_ns(p));
	reason = xasprintf(p->exited ? "processes of container '%s' did not end with its first: the virtual machine was"
				     : "container '%s' did not end when it was killed: the virtual machine was",
			   k->id);
	p->kill_timer = loop_source_free(p->kill_timer);
	vm_end(k->shim->vm, reason);
	return 0;
}

static void watch_end(struct process *p)
{
	struct shim *s = p->container->shim;

	if (p->kill_timer || !s->vm || s->vm_ended)
		return;
	if (loop_add_timer(s->loop, &p->kill_timer, clock_monotonic_ns() + end_ns(p), on_kill_overdue, p) < 0)
		log_warning("%s: its end cannot be watched, ignoring", p->container->id);
}

void process_must_end(struct process *p)
{
	if (!p->exited)
		watch_end(p);
}

void process_start_made(struct process *p)
{
	Skerry__Agent__V1__ContainerRequest q = SKERRY__AGENT__V1__CONTAINER_REQUEST__INIT;
	_cleanup_error_ struct error e = {};

	q.id = p->container->id;
	p->start_call = guest_call(p->container->shim, "StartContainer", &q.base, on_started, p, &e);
	if (p->start_call < 0)
		process_start_failed(p, &e);
}

void process_start(struct process *p, struct call *c)
{
	struct container *k = p->container;
	_cleanup_error_ struct error e = {};
	int r;

	if (p->status != CONTAINERD__STATUS__CREATED || p->start || p->exited ||
	    (!k->made && !k->sandbox && (!k->deferred || *p->exec_id))) {
		call_failf(c, EBUSY, "cannot start: it is not in state created");
		return;
	}
	p->start = c;
	if (k->sandbox) {
		started(p);
		return;
	}
	r = *p->exec_id ? open_streams(p, &e) : 0;
	if (r >= 0)
		r = streams_open_input(p->io, &e);
	if (r >= 0 && !*p->exec_id && k->made) {
		process_start_made(p);
		return;
	}
	if (r >= 0)
		r = *p->exec_id ? start_exec(p, &e) : container_need_vm(k, &e);
	if (r < 0)
		process_start_failed(p, &e);
	else if (*p->exec_id)
		p->start_call = r;
}

void process_wait(struct process *p, struct call *c)
{
	struct waiter *w;

	if (p->published) {
		answer_waiter(p, c);
		return;
	}
	w = xnew(struct waiter);
	*w = (struct waiter){ .call = c, .next = p->waiters };
	p->waiters = w;
}

void process_vm_ended(struct process *p)
{
	if (p->io)
		streams_guest_gone(p->io);
	if (p->start) {
		_cleanup_error_ struct error e = {};

		error_set(&e, ENOTCONN, "%s", p->container->shim->vm_reason);
		process_start_failed(p, &e);
	}
	/* One that was never made has nothing to end. */
	if (*p->exec_id && !p->made)
		return;
	process_exited(p, STATUS_KILLED);
}

void process_free(struct process *p)
{
	struct shim *s = p->container->shim;

	for (struct process **q = &p->container->processes; *q; q = &(*q)->next)
		if (*q == p) {
			*q = p->next;
			break;
		}
	answer_waiters(p);
	loop_source_free(p->kill_timer);
	guest_cancel(s, p->wait_call);
	guest_cancel(s, p->start_call);
	if (p->start)
		call_failf(p->start, ENOENT, "the process is gone");
	answer_asked(p);
	streams_free(p->io);
	if (p->made && vm_agent(s->vm)) {
		Skerry__Agent__V1__IdRequest q = SKERRY__AGENT__V1__ID_REQUEST__INIT;

		q.id = p->session;
		(void)guest_call(s, "Release", &q.base, NULL, NULL, NULL);
	}
	buf_done(&p->spec);
	free(p->exec_id);
	free(p->session);
	free(p->stdin_path);
	free(p->stdout_path);
	free(p->stderr_path);
	free(p);
}
