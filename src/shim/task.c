/* containerd.task.v2.Task and containerd.task.v3.Task (containerd, api/runtime/task): the messages are the same on the wire. */
#include "agent.pb-c.h"
#include "base/log.h"
#include "machine/client.h"
#include "shim/sandbox.h"
#include "shim/shim.h"
#include "shim/stats.h"
#include "wire/message.h"

static struct container *find(struct shim *s, const char *id, struct call *c)
{
	struct container *k = shim_find(s, id);

	if (!k)
		call_failf(c, ENOENT, "container '%s': not found", id);
	return k;
}

static struct process *find_process(struct shim *s, const char *id, const char *exec_id, struct call *c)
{
	struct container *k = find(s, id, c);
	struct process *p = k ? container_process(k, exec_id) : NULL;

	if (k && !p)
		call_failf(c, ENOENT, "process '%s' of container '%s': not found", exec_id, id);
	return p;
}

static void handle_create(void *data, struct call *c, const void *request)
{
	container_create(data, request, c);
}

static void handle_start(void *data, struct call *c, const void *request)
{
	const Containerd__TaskRequest *q = request;
	struct process *p = find_process(data, q->id, q->exec_id, c);

	if (p)
		process_start(p, c);
}

static void handle_delete(void *data, struct call *c, const void *request)
{
	const Containerd__TaskRequest *q = request;
	struct process *p = find_process(data, q->id, q->exec_id, c);
	Containerd__DeleteResponse r = CONTAINERD__DELETE_RESPONSE__INIT;
	Containerd__Timestamp t;

	if (!p)
		return;
	if (!*q->exec_id) {
		container_delete(p->container, c);
		return;
	}
	if (((p->started || (p->made && p->kill_wanted)) && !p->published) || p->start) {
		call_failf(c, EBUSY, "process '%s': cannot delete a running process", q->exec_id);
		return;
	}
	r.pid = p->pid;
	r.exit_status = p->exit_status;
	r.exited_at = process_timestamp(p->exited_ns, &t);
	call_reply(c, &r.base);
	process_free(p);
}

static void handle_state(void *data, struct call *c, const void *request)
{
	const Containerd__TaskRequest *q = request;
	struct process *p = find_process(data, q->id, q->exec_id, c);

	if (!p)
		return;
	/* Not a task before it is made: containerd asks from the moment on that there is a shim, and its restart monitor would kill what it sees. */
	if (p->container->create)
		call_failf(c, ENOENT, "container '%s': not found: it is being created", q->id);
	else
		process_state(p, c);
}

/* Those who are told of the guest's answer with an empty message. */
static void on_done(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	(void)payload;
	(void)len;
	if (err)
		call_fail(data, err);
	else
		call_reply(data, NULL);
}

/* A guest that stands still gets the signal when it goes on, and one that is going itself needs none: who sends it must not wait with it, for the next
 * one, SIGKILL, does not need the guest. */
static void on_killed(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	(void)payload;
	(void)len;
	if (err && err->num != ECONNRESET && err->num != ETIMEDOUT)
		call_fail(data, err);
	else
		call_reply(data, NULL);
}

static void ask(struct shim *s, struct call *c, const char *method, const struct ProtobufCMessage *m)
{
	_cleanup_error_ struct error e = {};

	if (guest_call(s, method, m, on_done, c, &e) < 0)
		call_fail(c, &e);
}

static void handle_kill(void *data, struct call *c, const void *request)
{
	const Containerd__KillRequest *q = request;
	struct process *p = find_process(data, q->id, q->exec_id, c);
	Skerry__Agent__V1__KillContainerRequest g = SKERRY__AGENT__V1__KILL_CONTAINER_REQUEST__INIT;
	_cleanup_error_ struct error e = {};

	if (!p)
		return;
	if (p->exited) {
		call_failf(c, ESRCH, "process already finished: not found");
		return;
	}
	if (process_kill_early(p, q->signal & 0x7f)) {
		call_reply(c, NULL);
		return;
	}
	if (!p->made) {
		call_failf(c, EBUSY, "process '%s' of container '%s' is not started", q->exec_id, q->id);
		return;
	}
	g.id = p->container->id;
	g.session = p->session;
	g.signal = (int32_t)q->signal;
	g.all = q->all;
	if (q->signal == SIGKILL)
		process_must_end(p);
	if (guest_signal(data, &g.base, on_killed, c, &e) >= 0)
		return;
	if (q->signal == SIGKILL)
		call_reply(c, NULL);
	else
		call_fail(c, &e);
}

static void handle_exec(void *data, struct call *c, const void *request)
{
	const Containerd__ExecProcessRequest *q = request;
	struct shim *s = data;
	struct container *k = find(s, q->id, c);
	_cleanup_json_ struct json *spec = NULL;
	_cleanup_error_ struct error e = {};
	Containerd__TaskExecAdded added = CONTAINERD__TASK_EXEC_ADDED__INIT;
	struct process *p;

	if (!k)
		return;
	if (!*q->exec_id || container_process(k, q->exec_id)) {
		call_failf(c, *q->exec_id ? EEXIST : EINVAL, "process '%s': %s", q->exec_id,
			   *q->exec_id ? "exists" : "has no name");
		return;
	}
	if (k->sandbox || !q->spec ||
	    json_parse((const char *)q->spec->value.data, q->spec->value.len, "process", &spec, &e) < 0) {
		call_failf(c, EINVAL, "%s", e.msg ? e.msg : "there is nothing to run");
		return;
	}
	p = process_new(k, q->exec_id, q->terminal, q->stdin, q->stdout, q->stderr);
	spec_process_for_guest(spec, q->terminal, &p->spec);
	added.container_id = k->id;
	added.exec_id = p->exec_id;
	events_publish(s->events, "/tasks/exec-added", "containerd.events.TaskExecAdded", &added.base);
	call_reply(c, NULL);
}

static void handle_pids(void *data, struct call *c, const void *request)
{
	const Containerd__TaskRequest *q = request;
	struct container *k = find(data, q->id, c);
	Containerd__ProcessInfo info = CONTAINERD__PROCESS_INFO__INIT, *all[] = { &info };
	Containerd__PidsResponse r = CONTAINERD__PIDS_RESPONSE__INIT;

	if (!k)
		return;
	/* Pids of the host: those of the guest would be somebody else's here. */
	info.pid = container_pid(k);
	r.processes = all;
	r.n_processes = 1;
	call_reply(c, &r.base);
}

/* The container may be deleted before the guest answers. */
struct freezing {
	struct shim *s;
	char *id;
	struct call *c;
	bool pause;
};

static void freezing_free(struct freezing *f)
{
	free(f->id);
	free(f);
}

static void on_frozen(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct freezing *f = data;
	struct container *k = shim_find(f->s, f->id);
	Containerd__TaskContainer e = CONTAINERD__TASK_CONTAINER__INIT;

	(void)payload;
	(void)len;
	if (err) {
		call_fail(f->c, err);
	} else if (!k) {
		call_failf(f->c, ENOENT, "container '%s': not found", f->id);
	} else {
		k->paused = f->pause;
		e.container_id = k->id;
		if (f->pause)
			events_publish(f->s->events, "/tasks/paused", "containerd.events.TaskPaused", &e.base);
		else
			events_publish(f->s->events, "/tasks/resumed", "containerd.events.TaskResumed", &e.base);
		call_reply(f->c, NULL);
	}
	freezing_free(f);
}

static void freeze(struct shim *s, struct call *c, const char *id, bool pause)
{
	struct container *k = find(s, id, c);
	Skerry__Agent__V1__ContainerRequest g = SKERRY__AGENT__V1__CONTAINER_REQUEST__INIT;
	_cleanup_error_ struct error e = {};
	struct freezing *f;

	if (!k)
		return;
	if (k->sandbox || !container_init(k)->started || container_init(k)->exited) {
		call_failf(c, EBUSY, "container '%s' is not running", id);
		return;
	}
	f = xnew(struct freezing);
	*f = (struct freezing){ s, xstrdup(id), c, pause };
	g.id = k->id;
	if (guest_call(s, pause ? "PauseContainer" : "ResumeContainer", &g.base, on_frozen, f, &e) < 0) {
		call_fail(c, &e);
		freezing_free(f);
	}
}

static void handle_pause(void *data, struct call *c, const void *request)
{
	freeze(data, c, ((const Containerd__TaskRequest *)request)->id, true);
}

static void handle_resume(void *data, struct call *c, const void *request)
{
	freeze(data, c, ((const Containerd__TaskRequest *)request)->id, false);
}

static void handle_checkpoint(void *data, struct call *c, const void *request)
{
	(void)data;
	(void)request;
	call_failf(c, ENOSYS, "checkpoint is not implemented");
}

static void handle_resize(void *data, struct call *c, const void *request)
{
	const Containerd__ResizePtyRequest *q = request;
	struct process *p = find_process(data, q->id, q->exec_id, c);
	Skerry__Agent__V1__ResizeRequest g = SKERRY__AGENT__V1__RESIZE_REQUEST__INIT;

	if (!p)
		return;
	if (!p->made || p->exited || !p->terminal) {
		/* Clients tell the size at any time. */
		call_reply(c, NULL);
		return;
	}
	g.id = p->session;
	g.rows = q->height;
	g.cols = q->width;
	ask(data, c, "Resize", &g.base);
}

static void handle_close_io(void *data, struct call *c, const void *request)
{
	const Containerd__CloseIORequest *q = request;
	struct process *p = find_process(data, q->id, q->exec_id, c);

	if (!p)
		return;
	/* A client whose input is empty says so before it starts the process. */
	p->input_ended |= q->stdin;
	if (q->stdin && p->io)
		streams_close_input(p->io);
	call_reply(c, NULL);
}

static void handle_update(void *data, struct call *c, const void *request)
{
	const Containerd__UpdateTaskRequest *q = request;
	struct container *k = find(data, q->id, c);
	_cleanup_json_ struct json *resources = NULL;
	_cleanup_error_ struct error e = {};

	if (!k)
		return;
	if (k->sandbox) {
		call_reply(c, NULL);
		return;
	}
	if (!q->resources || json_parse((const char *)q->resources->value.data, q->resources->value.len, "resources",
					&resources, &e) < 0) {
		call_failf(c, EINVAL, "%s", e.msg ? e.msg : "there are no resources");
		return;
	}
	if (!k->made || !k->shim->resize) {
		call_failf(c, EBUSY, "container '%s' is not made yet", q->id);
		return;
	}
	resize_update(k->shim->resize, k, resources, c);
}

static void handle_wait(void *data, struct call *c, const void *request)
{
	const Containerd__TaskRequest *q = request;
	struct process *p = find_process(data, q->id, q->exec_id, c);

	if (p)
		process_wait(p, c);
}

static void on_stats(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	char type[] = "io.containerd.cgroups.v2.Metrics";
	Containerd__StatsResponse r = CONTAINERD__STATS_RESPONSE__INIT;
	Containerd__Any any = CONTAINERD__ANY__INIT;
	_cleanup_buf_ struct buf packed = {};

	if (err) {
		call_fail(data, err);
		return;
	}
	stats_pack(payload, len, &packed);
	any.type_url = type;
	any.value = (ProtobufCBinaryData){ packed.len, (uint8_t *)packed.p };
	r.stats = &any;
	call_reply(data, &r.base);
}

static void handle_stats(void *data, struct call *c, const void *request)
{
	struct container *k = find(data, ((const Containerd__TaskRequest *)request)->id, c);
	Skerry__Agent__V1__ContainerRequest g = SKERRY__AGENT__V1__CONTAINER_REQUEST__INIT;
	_cleanup_error_ struct error e = {};

	if (!k)
		return;
	if (k->sandbox) {
		/* It has no process, so it uses nothing. */
		on_stats(NULL, NULL, 0, c);
		return;
	}
	g.id = k->id;
	if (guest_call(data, "ContainerStats", &g.base, on_stats, c, &e) < 0)
		call_fail(c, &e);
}

static void handle_connect(void *data, struct call *c, const void *request)
{
	struct shim *s = data;
	const char *id = ((const Containerd__TaskRequest *)request)->id;
	struct container *k = shim_find(s, id);
	Containerd__ConnectResponse r = CONTAINERD__CONNECT_RESPONSE__INIT;

	/* A restarted containerd asks of each shim that it finds. One whose container it had not come to create is of no use to anybody: told so, it
	 * cleans up; otherwise it would keep the shim and have no task to delete it by. */
	if (!k && !(s->sandbox_id && streq(id, s->sandbox_id))) {
		call_failf(c, ENOENT, "container '%s': not found", id);
		return;
	}
	r.shim_pid = (uint32_t)getpid();
	r.task_pid = k ? container_pid(k) : 0;
	call_reply(c, &r.base);
}

static void handle_shutdown(void *data, struct call *c, const void *request)
{
	const Containerd__ShutdownRequest *q = request;
	struct shim *s = data;

	/* containerd says so after each container's end; the VM is the others' too, and a sandbox stays without any. */
	if ((!s->containers && !s->sandbox_id) || q->now)
		shim_shut_down(s);
	/* After its address has gone: who is answered may start the next one at once. */
	call_reply(c, NULL);
}

#define TASK(name, type, handler)                                                           \
	{ "containerd.task.v2.Task", name, &containerd__##type##__descriptor, handler },    \
	{                                                                                   \
		"containerd.task.v3.Task", name, &containerd__##type##__descriptor, handler \
	}
#define SANDBOX(name, type, handler)                                                                      \
	{                                                                                                 \
		"containerd.runtime.sandbox.v1.Sandbox", name, &containerd__##type##__descriptor, handler \
	}

const struct server_method shim_methods[] = {
	TASK("Create", create_task_request, handle_create),
	TASK("Start", task_request, handle_start),
	TASK("Delete", task_request, handle_delete),
	TASK("State", task_request, handle_state),
	TASK("Kill", kill_request, handle_kill),
	TASK("Exec", exec_process_request, handle_exec),
	TASK("Pids", task_request, handle_pids),
	TASK("Pause", task_request, handle_pause),
	TASK("Resume", task_request, handle_resume),
	TASK("Checkpoint", checkpoint_task_request, handle_checkpoint),
	TASK("ResizePty", resize_pty_request, handle_resize),
	TASK("CloseIO", close_iorequest, handle_close_io),
	TASK("Update", update_task_request, handle_update),
	TASK("Wait", task_request, handle_wait),
	TASK("Stats", task_request, handle_stats),
	TASK("Connect", task_request, handle_connect),
	TASK("Shutdown", shutdown_request, handle_shutdown),
	SANDBOX("CreateSandbox", create_sandbox_request, sandbox_create),
	SANDBOX("StartSandbox", sandbox_request, sandbox_start),
	SANDBOX("Platform", sandbox_request, sandbox_platform),
	SANDBOX("StopSandbox", stop_sandbox_request, sandbox_stop),
	SANDBOX("WaitSandbox", sandbox_request, sandbox_wait),
	SANDBOX("SandboxStatus", sandbox_status_request, sandbox_status),
	SANDBOX("PingSandbox", sandbox_request, sandbox_ping),
	SANDBOX("ShutdownSandbox", sandbox_request, sandbox_shutdown),
	SANDBOX("SandboxMetrics", sandbox_request, sandbox_metrics),
	{},
};
