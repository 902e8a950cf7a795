/* Records of machines and what can be concluded from them without touching anything. */
#include <fcntl.h>

#include "base/file.h"
#include "machine/machine.h"
#include "machine/record.h"

static const char *const status_names[] = { "created",  "starting", "running", "paused",
					    "stopping", "stopped",  "failed",  NULL };

const char *machine_status_name(enum machine_status s)
{
	return status_names[s < MACHINE_STATUS_MAX ? s : MACHINE_FAILED];
}

#define STATE(k, t, m, ...)                                            \
	{                                                              \
		k, t, offsetof(struct machine_state, m), ##__VA_ARGS__ \
	}
const struct json_field machine_state_fields[] = {
	STATE("boot_id", JSON_STRING, boot_id, JSON_REQUIRED),
	STATE("status", JSON_ENUM, status, .names = status_names),
	STATE("monitor_pid", JSON_U64, monitor_pid),
	STATE("monitor_start", JSON_U64, monitor_start),
	STATE("engine_pid", JSON_U64, engine_pid),
	STATE("engine_start", JSON_U64, engine_start),
	STATE("helper_pid", JSON_U64, helper_pid),
	STATE("helper_start", JSON_U64, helper_start),
	STATE("engine", JSON_STRING, engine),
	STATE("accel", JSON_STRING, accel),
	STATE("accel_why", JSON_STRING, accel_why),
	STATE("shape", JSON_STRING, shape),
	STATE("kernel", JSON_STRING, kernel),
	STATE("net", JSON_STRING, net),
	STATE("publish", JSON_STRINGS, publish),
	STATE("cgroups", JSON_STRINGS, cgroups),
	STATE("forwards", JSON_STRINGS, forwards),
	STATE("token", JSON_STRING, token),
	STATE("vsock_cid", JSON_U64, vsock_cid),
	STATE("uid", JSON_U64, uid),
	STATE("started_ns", JSON_U64, started_ns),
	STATE("ready_ns", JSON_U64, ready_ns),
	STATE("stop_until_ns", JSON_U64, stop_until_ns),
	STATE("restarts", JSON_U64, restarts),
	STATE("policy_restarts", JSON_U64, policy_restarts),
	STATE("agent_ready", JSON_BOOL, agent_ready),
	STATE("held", JSON_BOOL, held),
	STATE("paused_why", JSON_STRING, paused_why),
	{},
};

#define EXIT(k, t, m, ...)                                            \
	{                                                             \
		k, t, offsetof(struct machine_exit, m), ##__VA_ARGS__ \
	}
const struct json_field machine_exit_fields[] = {
	EXIT("ended_ns", JSON_U64, ended_ns),
	EXIT("started_ns", JSON_U64, started_ns),
	EXIT("status", JSON_U64, status),
	EXIT("has_status", JSON_BOOL, has_status),
	EXIT("failed", JSON_BOOL, failed),
	EXIT("reason", JSON_STRING, reason),
	{},
};

void machine_state_done(struct machine_state *s)
{
	json_fields_done(machine_state_fields, s);
	*s = (struct machine_state){};
}

void machine_exit_done(struct machine_exit *e)
{
	json_fields_done(machine_exit_fields, e);
	*e = (struct machine_exit){};
}

void machine_info_done(struct machine_info *i)
{
	machine_spec_done(&i->spec);
	machine_state_done(&i->state);
	machine_exit_done(&i->exit);
	*i = (struct machine_info){};
}

struct process_id machine_process(uint64_t pid, uint64_t start)
{
	return (struct process_id){ .pid = (pid_t)pid, .start_time = start };
}

bool machine_recorded_alive(uint64_t pid, uint64_t start)
{
	struct process_id id = machine_process(pid, start);

	return pid > 1 && pid <= INT32_MAX && process_alive(&id);
}

int machine_spec_load(int machine_fd, const char *name, struct machine_spec *ret, struct json **tree, struct error *err)
{
	_cleanup_free_ char *what = xasprintf("machines/%s/machine.json", name);
	int r;

	machine_spec_init(ret);
	r = record_read(machine_fd, "machine.json", what, machine_spec_fields, ret, tree, err);
	if (r == -EBADMSG)
		error_hint(err, "mend the file, or remove the machine with `skerry delete --force %s`", name);
	return r;
}

int machine_state_load(const struct store *s, const char *name, struct machine_state *ret, struct error *err)
{
	_cleanup_free_ char *what = xasprintf("run/%s/state.json", name);
	_cleanup_json_ struct json *tree = NULL;

	*ret = (struct machine_state){};
	return record_read(s->run_fd, what + strlen("run/"), what, machine_state_fields, ret, &tree, err);
}

/* What is true now, from what a monitor recorded. Fills status; leaves it alone when the machine does not run. */
static void conclude(struct machine_info *i)
{
	const struct machine_state *st = &i->state;
	bool engine;

	if (*boot_id() && !streq(st->boot_id, boot_id())) {
		i->status = MACHINE_FAILED;
		return;
	}
	i->monitor_alive = machine_recorded_alive(st->monitor_pid, st->monitor_start);
	engine = machine_recorded_alive(st->engine_pid, st->engine_start);
	if (i->monitor_alive || engine)
		i->status = (enum machine_status)st->status;
	else
		i->status = MACHINE_FAILED;
}

/* @reason: taken over. */
static void end_unseen(struct machine_info *i, uint64_t started_ns, char *reason)
{
	machine_exit_done(&i->exit);
	i->exit.failed = true;
	i->exit.started_ns = started_ns;
	i->exit.reason = reason;
	i->has_exit = true;
}

int machine_info_load(const struct store *s, const struct name *name, struct machine_info *ret, struct error *err)
{
	_cleanup_close_ int dir = store_machine_open(s, name, err);
	_cleanup_(machine_begun_done) struct machine_begun begun = {};
	_cleanup_json_ struct json *tree = NULL, *exit_tree = NULL;
	int r;

	*ret = (struct machine_info){};
	if (dir < 0)
		return dir;
	r = machine_spec_load(dir, name->s, &ret->spec, &tree, err);
	if (r < 0)
		return r;
	ret->status = MACHINE_CREATED;
	/* Most machines of a long list have neither: no words are made for what is not there. */
	r = record_read(dir, "exit.json", "exit.json", machine_exit_fields, &ret->exit, &exit_tree, NULL);
	if (r >= 0) {
		ret->has_exit = true;
		ret->status = ret->exit.failed ? MACHINE_FAILED : MACHINE_STOPPED;
	} else if (r != -ENOENT) {
		_cleanup_free_ char *what = xasprintf("machines/%s/exit.json", name->s);

		return record_read(dir, "exit.json", what, machine_exit_fields, &ret->exit, &exit_tree, err);
	}
	r = machine_state_load(s, name->s, &ret->state, NULL);
	if (r == -ENOENT && machine_begun_load(dir, ret->has_exit ? &ret->exit : NULL, &begun)) {
		/* It may have begun just now, and its run directory may be another one than ours. */
		r = machine_begun_state(s, name->s, &begun, &ret->state, NULL);
		if (r < 0) {
			ret->status = MACHINE_FAILED;
			end_unseen(ret, begun.started_ns, machine_begun_reason(&begun));
			return 0;
		}
	}
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return machine_state_load(s, name->s, &ret->state, err);
	conclude(ret);
	/* What a crash or a reboot ended; the next start cleans up and records it. */
	if (ret->status == MACHINE_FAILED && !ret->monitor_alive)
		end_unseen(ret, ret->state.started_ns,
			   xstrdup(streq(ret->state.boot_id, boot_id()) ? "its monitor and engine were killed"
									: "the host was restarted"));
	return 0;
}
