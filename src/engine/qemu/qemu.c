#include "engine/qemu/qemu.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/spawn.h"
#include "engine/qemu/argv.h"
#include "engine/qemu/qmp.h"

#define READY_TIMEOUT_NS   (30 * NS_PER_SEC)
#define COMMAND_TIMEOUT_NS (10 * NS_PER_SEC)
/* First it writes out what it holds of the disks, with whatever else the host is writing. */
#define PAUSE_TIMEOUT_NS (25 * NS_PER_SEC)
/* Every cluster of the disk is counted once more. */
#define SNAPSHOT_TIMEOUT_NS (300 * NS_PER_SEC)

/* How this works: an engine_vm is a QMP client and the little that QEMU does not tell in its events: whether the vCPUs have run before
 * (RESUME after that is "resumed", else "started") and whether the end was announced (QEMU stops the vCPUs on its way out, which is no
 * pause). A monitor may connect late, so the state of that moment is asked for before the connection counts as ready. */

struct engine_vm {
	struct qmp *qmp; /* owned */
	engine_event_fn fn;
	engine_done_fn ready; /* NULL once called */
	void *data;
	bool started;
	bool ended;
	char *failure; /* owned: of a disk, since the guest went on the last time, for which QEMU stops it */
	unsigned busy;
	bool freed;
};

static void vm_enter(struct engine_vm *vm)
{
	vm->busy++;
}

/* Callbacks may free the connection that called them. */
static void vm_leave(struct engine_vm *vm)
{
	if (--vm->busy == 0 && vm->freed) {
		free(vm->failure);
		free(vm);
	}
}

static void vm_event(struct engine_vm *vm, enum engine_event ev, const char *detail)
{
	if (vm->fn && !vm->freed)
		vm->fn(ev, detail, vm->data);
}

static void vm_ready(struct engine_vm *vm, const struct error *err, uint64_t value)
{
	engine_done_fn ready = vm->ready;

	vm->ready = NULL;
	if (ready && !vm->freed)
		ready(err, value, vm->data);
}

static void vm_runs(struct engine_vm *vm)
{
	bool again = vm->started;

	vm->started = true;
	free(vm->failure);
	vm->failure = NULL;
	vm_event(vm, again ? ENGINE_EVENT_RESUMED : ENGINE_EVENT_STARTED, NULL);
}

/* QEMU may stop the guest for it, which it tells apart (STOP). */
static void on_block_error(struct engine_vm *vm, const struct json *data)
{
	const char *node = json_string(json_get(data, "node-name")), *device = json_string(json_get(data, "device")),
		   *operation = json_string(json_get(data, "operation")),
		   *action = json_string(json_get(data, "action")), *reason = json_string(json_get(data, "reason"));
	_cleanup_free_ char *what = xasprintf("disk '%.64s': %.16s failed: %.200s",
					      device && *device ? device
					      : node            ? node
								: "?",
					      operation ? operation : "I/O", reason ? reason : "no reason given");

	log_error("%s (%.16s)", what, action ? action : "?");
	if (action && streq(action, "stop") && !vm->failure)
		vm->failure = TAKE_PTR(what);
}

/* A guest that QEMU stopped of its own, for want of space say, goes on by the same command as one that somebody paused. */
static bool is_paused(const char *status)
{
	return streq(status, "paused") || streq(status, "io-error") || streq(status, "internal-error");
}

static void on_event(const char *event, const struct json *data, void *userdata)
{
	struct engine_vm *vm = userdata;

	vm_enter(vm);
	if (streq(event, "SHUTDOWN")) {
		vm->ended = true;
		vm_event(vm, ENGINE_EVENT_SHUTDOWN, json_string(json_get(data, "reason")));
	} else if (streq(event, "RESET")) {
		vm_event(vm, ENGINE_EVENT_RESET, json_string(json_get(data, "reason")));
	} else if (streq(event, "GUEST_PANICKED")) {
		vm_event(vm, ENGINE_EVENT_PANIC, json_string(json_get(data, "action")));
	} else if (streq(event, "STOP")) {
		if (!vm->ended)
			vm_event(vm, ENGINE_EVENT_PAUSED, vm->failure);
	} else if (streq(event, "RESUME")) {
		vm_runs(vm);
	} else if (streq(event, "BLOCK_IO_ERROR")) {
		on_block_error(vm, data);
	}
	vm_leave(vm);
}

static void on_closed(const struct error *why, void *userdata)
{
	struct engine_vm *vm = userdata;

	vm_enter(vm);
	vm_ready(vm, why, 0);
	vm_event(vm, ENGINE_EVENT_DISCONNECTED, why->msg);
	vm_leave(vm);
}

static void on_status(const struct error *err, struct json *value, void *userdata)
{
	struct engine_vm *vm = userdata;
	const char *status;

	if (err && err->num == ECANCELED)
		return; /* vm_free() */
	vm_enter(vm);
	status = json_string(json_get(value, "status"));
	if (err) {
		vm_ready(vm, err, 0);
	} else {
		/* An event that overtook this reply has told it already. */
		if (status && streq(status, "running") && !vm->started) {
			vm_runs(vm);
		} else if (status && is_paused(status)) {
			vm->started = true;
			vm_event(vm, ENGINE_EVENT_PAUSED, streq(status, "paused") ? NULL : status);
		} else if (status && streq(status, "guest-panicked")) {
			vm->started = true;
			vm_event(vm, ENGINE_EVENT_PANIC, NULL);
		} else if (status && streq(status, "shutdown") && !vm->ended) {
			vm->started = vm->ended = true;
			vm_event(vm, ENGINE_EVENT_SHUTDOWN, NULL);
		}
		vm_ready(vm, NULL, 0);
	}
	vm_leave(vm);
}

static void on_negotiated(const struct error *err, struct json *value, void *userdata)
{
	struct engine_vm *vm = userdata;

	(void)value;
	vm_enter(vm);
	if (err)
		vm_ready(vm, err, 0);
	else
		qmp_call(vm->qmp, "query-status", NULL, READY_TIMEOUT_NS, on_status, vm);
	vm_leave(vm);
}

static struct engine_vm *qemu_vm_free(struct engine_vm *vm)
{
	if (!vm || vm->freed)
		return NULL;
	vm_enter(vm);
	/* First the calls in flight are answered, as promised; events and ready stay silent from here on. */
	vm->fn = NULL;
	vm->ready = NULL;
	vm->qmp = qmp_free(vm->qmp);
	vm->freed = true;
	vm_leave(vm);
	return NULL;
}

static int qemu_connect(struct loop *loop, int fd, engine_event_fn fn, engine_done_fn ready, void *data,
			struct engine_vm **ret, struct error *err)
{
	struct engine_vm *vm = xnew(struct engine_vm);
	struct qmp_callbacks cb = { .event = on_event, .ready = on_negotiated, .closed = on_closed, .userdata = vm };
	int r;

	vm->fn = fn;
	vm->ready = ready;
	vm->data = data;
	r = qmp_new(loop, fd, &cb, READY_TIMEOUT_NS, &vm->qmp, err);
	if (r < 0) {
		free(vm);
		return r;
	}
	*ret = vm;
	return 0;
}

/* One command in flight: what to do with its answer. */
struct call {
	engine_done_fn done; /* may be NULL */
	void *data;
	uint64_t (*extract)(const struct json *value); /* NULL = 0 */
	/* NULL = every answer is success */
	int (*refused)(const struct json *value, struct error *err);
	uint64_t timeout_ns; /* 0 = COMMAND_TIMEOUT_NS */
};

static void call_answer(const struct error *err, struct json *value, void *userdata)
{
	struct call *c = userdata;
	_cleanup_error_ struct error refused = {};

	if (!err && c->refused && c->refused(value, &refused) < 0)
		err = &refused;
	if (c->done)
		c->done(err, !err && c->extract ? c->extract(value) : 0, c->data);
	free(c);
}

/* @call is copied. */
static void vm_command(struct engine_vm *vm, const char *command, struct json *arguments, const struct call *call)
{
	struct call *c = xmemdup(call, sizeof(*call));

	vm_enter(vm);
	qmp_call(vm->qmp, command, arguments, call->timeout_ns ? call->timeout_ns : COMMAND_TIMEOUT_NS, call_answer, c);
	vm_leave(vm);
}

static void vm_call(struct engine_vm *vm, const char *command, engine_done_fn done, void *data,
		    uint64_t (*extract)(const struct json *))
{
	vm_command(vm, command, NULL, &(struct call){ .done = done, .data = data, .extract = extract });
}

static void qemu_power_button(struct engine_vm *vm, engine_done_fn done, void *data)
{
	vm_call(vm, "system_powerdown", done, data, NULL);
}

static void qemu_quit(struct engine_vm *vm, engine_done_fn done, void *data)
{
	vm_call(vm, "quit", done, data, NULL);
}

static void qemu_pause(struct engine_vm *vm, engine_done_fn done, void *data)
{
	vm_command(vm, "stop", NULL, &(struct call){ .done = done, .data = data, .timeout_ns = PAUSE_TIMEOUT_NS });
}

static void qemu_resume(struct engine_vm *vm, engine_done_fn done, void *data)
{
	vm_call(vm, "cont", done, data, NULL);
}

static uint64_t actual_bytes(const struct json *value)
{
	uint64_t v = 0;

	json_u64(json_get(value, "actual"), &v);
	return v;
}

static void qemu_balloon_bytes(struct engine_vm *vm, engine_done_fn done, void *data)
{
	vm_call(vm, "query-balloon", done, data, actual_bytes);
}

static void qemu_set_balloon(struct engine_vm *vm, uint64_t bytes, engine_done_fn done, void *data)
{
	struct json *arguments = json_object();

	json_set_u64(arguments, "value", bytes);
	vm_command(vm, "balloon", arguments, &(struct call){ .done = done, .data = data });
}

static uint64_t transferred(const struct json *value)
{
	uint64_t read_mib = 0, written_mib = 0;

	for (size_t i = 0, n = json_length(value); i < n; i++) {
		const struct json *stats = json_get(json_at(value, i), "stats");
		uint64_t rd = 0, wr = 0;

		json_u64(json_get(stats, "rd_bytes"), &rd);
		json_u64(json_get(stats, "wr_bytes"), &wr);
		read_mib += rd >> 20;
		written_mib += wr >> 20;
	}
	if (read_mib > UINT32_MAX)
		read_mib = UINT32_MAX;
	if (written_mib > UINT32_MAX)
		written_mib = UINT32_MAX;
	return read_mib << 32 | written_mib;
}

static void qemu_block_stats(struct engine_vm *vm, engine_done_fn done, void *data)
{
	vm_call(vm, "query-blockstats", done, data, transferred);
}

/* The human monitor says nothing when it has done it, and the reason when it has not. */
static int is_refusal(const struct json *value, struct error *err)
{
	const char *said = json_string(value);

	return said && *said ? error_set_kind(err, ERROR_BUSY, EADDRINUSE, "forward: %.200s", said) : 0;
}

/* QMP has no command for it. What is undone is answered with a sentence either way. */
static void qemu_forward(struct engine_vm *vm, const struct engine_forward *f, engine_done_fn done, void *data)
{
	struct json *arguments = json_object();
	const char *protocol = f->udp ? "udp" : "tcp";

	if (f->undo)
		json_setf(arguments, "command-line", "hostfwd_remove net%zu %s:127.0.0.1:%u", f->nic, protocol,
			  f->host_port);
	else
		json_setf(arguments, "command-line", "hostfwd_add net%zu %s:127.0.0.1:%u-:%u", f->nic, protocol,
			  f->host_port, f->guest_port);
	vm_command(vm, "human-monitor-command", arguments,
		   &(struct call){ .done = done, .data = data, .refused = f->undo ? NULL : is_refusal });
}

static void qemu_snapshot(struct engine_vm *vm, const struct engine_snapshot *s, engine_done_fn done, void *data)
{
	struct json *arguments = json_object();

	json_set_string(arguments, "device", s->disk);
	json_set_string(arguments, "name", s->name);
	vm_command(vm, s->drop ? "blockdev-snapshot-delete-internal-sync" : "blockdev-snapshot-internal-sync",
		   arguments, &(struct call){ .done = done, .data = data, .timeout_ns = SNAPSHOT_TIMEOUT_NS });
}

static int qemu_find_program(char **ret, struct error *err)
{
	char *path = program_find("qemu-system-x86_64");

	if (!path) {
		error_set_kind(err, ERROR_UNAVAILABLE, ENOENT, "qemu-system-x86_64: not installed");
		error_hint(err, "apt install qemu-system-x86");
		return -ENOENT;
	}
	*ret = path;
	return 0;
}

const struct engine engine_qemu = {
	.name = "qemu",
	.find_program = qemu_find_program,
	.plan = qemu_argv,
	.connect = qemu_connect,
	.control_socket = QEMU_QMP_SOCKET,
	.console_socket = QEMU_CONSOLE_SOCKET,
	.agent_socket = QEMU_AGENT_SOCKET,
	.power_button = qemu_power_button,
	.quit = qemu_quit,
	.pause = qemu_pause,
	.resume = qemu_resume,
	.balloon_bytes = qemu_balloon_bytes,
	.set_balloon = qemu_set_balloon,
	.block_stats = qemu_block_stats,
	.forward = qemu_forward,
	.snapshot = qemu_snapshot,
	.vm_free = qemu_vm_free,
};
