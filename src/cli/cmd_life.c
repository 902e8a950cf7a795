/* create, start, stop, restart, kill, pause, resume, wait, delete. */
#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/create.h"
#include "cli/output.h"
#include "cli/provide.h"
#include "cli/target.h"
#include "image/image.h"
#include "monitor.pb-c.h"

#define STOP_TIMEOUT_NS  (60 * NS_PER_SEC)
#define AGENT_TIMEOUT_NS (120 * NS_PER_SEC)
#define REPLY_TIMEOUT_NS (30 * NS_PER_SEC)
/* What ending takes after the guest's time is over: quit, TERM, KILL, and the release. */
#define STOP_EXTRA_NS (30 * NS_PER_SEC)
/* How often a machine is asked to end whose monitor dies of it. */
enum { END_TRIES = 4 };

/* ---- create ---- */

struct create_command_options {
	struct create_options create;
	const char *image;
	int pull;
};

static const struct option create_table[] = {
	TEXT('i', "image", "IMAGE", create_command_options, image, "What to make it from", .complete = "image"),
	CHOICE(0, "pull", "WHEN", create_command_options, pull, "When to fetch the image from its registry",
	       .words = "missing|always|never"),
	CREATE_OPTIONS(create_command_options),
};

static int run_create(const struct invocation *inv, struct error *err)
{
	const struct create_command_options *o = inv->options;
	_cleanup_store_ struct store s = {};
	_cleanup_spec_ struct machine_spec spec = {};
	struct name name;
	int r = name_parse(inv->operands[0], "machine name", &name, err);

	if (r >= 0)
		r = store_open(&s, err);
	if (r >= 0)
		r = create_spec(&s, &o->create, o->image, &spec, err);
	if (r < 0)
		return r;
	/* What makes an image tells by itself why it did not, and how that ended. */
	r = provide_image(&s, spec.image, (enum provide_pull)o->pull, err);
	if (r)
		return r;
	r = create_check_image(&s, &o->create, &spec, err);
	if (r < 0)
		return r;
	spec.name = xstrdup(name.s);
	r = machine_create(&s, &spec, true, err);
	return r < 0 ? r : output_line(err, "%s", name.s);
}

const struct command create_command = {
	.name = "create",
	.operands = "NAME",
	.min_operands = 1,
	.max_operands = 1,
	.summary = "Make a machine without starting it",
	.description = "The machine gets a thin disk of its own over the image, which never changes. What is not said "
		       "comes from SKERRY_CPUS and the like in "
		       "the environment, then from config.yaml, then from what is built in.",
	.examples = { { "skerry create web --image debian --cpus 2 --memory 1G --publish 8080:80",
			"A Debian machine with a published port" },
		      { "skerry create db --image debian --home 10G --restart on-failure",
			"With a home disk, started again when it crashes" } },
	.options = create_table,
	.n_options = ARRAY_SIZE(create_table),
	.options_size = sizeof(struct create_command_options),
	.run = run_create,
};

/* ---- start ---- */

struct start_command_options {
	bool wait;
	uint64_t timeout_ns, lock_wait_ns;
};

static const struct option start_table[] = {
	FLAG('w', "wait", start_command_options, wait, "Return when the guest answers, not when it only runs"),
	DURATION('t', "timeout", "TIME", start_command_options, timeout_ns,
		 "With --wait: how long at most (120s; 0 = no limit)"),
	DURATION(0, "lock-wait", "TIME", start_command_options, lock_wait_ns,
		 "Wait when another command holds the machine"),
};

static int start_one(const struct store *s, const struct name *name, const void *options, struct error *err)
{
	const struct start_command_options *o = options;
	struct start_options start = { .lock_wait_ns = o->lock_wait_ns };
	_cleanup_info_ struct machine_info info = {};
	bool already = false, agent;
	int r = machine_info_load(s, name, &info, err);

	if (r < 0)
		return r;
	agent = !target_lacks_agent(s, &info.spec);
	r = agent ? provide_kernel(s, info.spec.kernel, err) : 0;
	if (r >= 0)
		r = machine_start(s, name, &start, &already, err);
	if (r < 0)
		return r;
	if (already)
		output_notice("machine '%s' runs already", name->s);
	if (o->wait) {
		_cleanup_client_ struct client c = {};

		r = client_connect(s, name, &c, err);
		if (r >= 0 && agent)
			r = target_need_agent(s, name, err);
		if (r >= 0 && agent)
			r = client_wait_agent(&c, o->timeout_ns, err);
		else if (r >= 0)
			r = target_wait_ssh(s, name, &c, target_deadline(o->timeout_ns), err);
		if (r < 0)
			return r;
	}
	return output_line(err, "%s", name->s);
}

static int run_start(const struct invocation *inv, struct error *err)
{
	_cleanup_store_ struct store s = {};
	int r = store_open(&s, err);

	return r < 0 ? r : target_each(inv, &s, start_one, err);
}

const struct command start_command = {
	.name = "start",
	.operands = "NAME...",
	.min_operands = 1,
	.max_operands = OPERANDS_ANY,
	.complete = "machine+",
	.summary = "Start machines",
	.description = "Returns as soon as the machine runs; with --wait when the guest's agent answers, or the ssh "
		       "server of an image that boots by itself. A machine that runs already is left alone.",
	.examples = { { "skerry start web", "Start a machine" },
		      { "skerry start --wait web db", "Start two and wait until both answer" } },
	.options = start_table,
	.n_options = ARRAY_SIZE(start_table),
	.options_size = sizeof(struct start_command_options),
	.defaults = &(const struct start_command_options){ .timeout_ns = AGENT_TIMEOUT_NS },
	.run = run_start,
};

/* ---- stop, restart, kill ---- */

struct stop_options {
	uint64_t timeout_ns;
};

static const struct option stop_table[] = {
	DURATION('t', "timeout", "TIME", stop_options, timeout_ns,
		 "How long the guest may take before its power is cut (60s)"),
};

/* Has its monitor do @method ("Stop", "Kill"), whose answer is the machine's end. A monitor may go before that has come through, or die of its
 * own with the machine still running: only who looks again knows, and what runs on is adopted and asked once more. -ESRCH: it did not run. */
static int end_machine(const struct store *s, const struct name *name, const char *method,
		       const struct ProtobufCMessage *message, uint64_t timeout_ns, struct error *err)
{
	int r = 0;

	for (int i = 0; i < END_TRIES; i++) {
		_cleanup_client_ struct client c = {};
		_cleanup_error_ struct error e = {};

		r = client_connect(s, name, &c, &e);
		/* It has ended; one that was started with --rm is gone with its end. */
		if (i > 0 && (r == -ESRCH || r == -ENOENT))
			return 0;
		if (r >= 0)
			r = client_call(&c, MONITOR_SERVICE, method, message, timeout_ns, NULL, &e);
		if (r >= 0)
			return 0;
		if ((r != -ECONNRESET && r != -EPIPE) || i == END_TRIES - 1)
			return error_move(err, &e);
	}
	return r;
}

/* Ends it and waits until everything is released. *ret_ran: it was running. */
static int stop_machine(const struct store *s, const struct name *name, uint64_t timeout_ns, bool *ret_ran,
			struct error *err)
{
	Skerry__Monitor__V1__StopRequest m = SKERRY__MONITOR__V1__STOP_REQUEST__INIT;
	_cleanup_error_ struct error e = {};
	struct machine_info info = {};
	int r;

	m.timeout_ns = timeout_ns;
	r = end_machine(s, name, "Stop", &m.base, timeout_ns + STOP_EXTRA_NS, &e);
	*ret_ran = r >= 0;
	if (r == -ESRCH) {
		/* A machine that was never there is another matter. */
		r = machine_info_load(s, name, &info, err);
		machine_info_done(&info);
		return r;
	}
	return r < 0 ? error_move(err, &e) : 0;
}

static int stop_one(const struct store *s, const struct name *name, const void *options, struct error *err)
{
	const struct stop_options *o = options;
	bool ran;
	int r = stop_machine(s, name, o->timeout_ns, &ran, err);

	if (r < 0)
		return r;
	if (!ran)
		output_notice("machine '%s' does not run", name->s);
	return output_line(err, "%s", name->s);
}

static int run_stop(const struct invocation *inv, struct error *err)
{
	_cleanup_store_ struct store s = {};
	int r = store_open(&s, err);

	return r < 0 ? r : target_each(inv, &s, stop_one, err);
}

const struct command stop_command = {
	.name = "stop",
	.operands = "NAME...",
	.min_operands = 1,
	.max_operands = OPERANDS_ANY,
	.complete = "machine+",
	.summary = "Stop machines in an orderly way",
	.description = "The guest is asked to power off; when it has not done so in time its power is cut. --timeout 0 "
		       "cuts it at once.",
	.examples = { { "skerry stop web", "Stop a machine" },
		      { "skerry stop --timeout 5 web", "Give it five seconds" } },
	.options = stop_table,
	.n_options = ARRAY_SIZE(stop_table),
	.options_size = sizeof(struct stop_options),
	.defaults = &(const struct stop_options){ .timeout_ns = STOP_TIMEOUT_NS },
	.run = run_stop,
};

static int restart_one(const struct store *s, const struct name *name, const void *options, struct error *err)
{
	const struct stop_options *o = options;
	/* The monitor keeps the lock a moment longer than its last answer. */
	struct start_options start = { .lock_wait_ns = STOP_EXTRA_NS };
	_cleanup_info_ struct machine_info info = {};
	bool ran, already;
	int r = machine_info_load(s, name, &info, err);

	if (r >= 0 && info.spec.remove)
		return error_set_kind(err, ERROR_USAGE, EINVAL,
				      "machine '%s' was started with --rm: stopped, it is gone", name->s);
	if (r >= 0)
		r = stop_machine(s, name, o->timeout_ns, &ran, err);
	if (r >= 0)
		r = machine_start(s, name, &start, &already, err);
	return r < 0 ? r : output_line(err, "%s", name->s);
}

static int run_restart(const struct invocation *inv, struct error *err)
{
	_cleanup_store_ struct store s = {};
	int r = store_open(&s, err);

	return r < 0 ? r : target_each(inv, &s, restart_one, err);
}

const struct command restart_command = {
	.name = "restart",
	.operands = "NAME...",
	.min_operands = 1,
	.max_operands = OPERANDS_ANY,
	.complete = "machine+",
	.summary = "Stop machines and start them again",
	.examples = { { "skerry restart web", "Restart a machine" } },
	.options = stop_table,
	.n_options = ARRAY_SIZE(stop_table),
	.options_size = sizeof(struct stop_options),
	.defaults = &(const struct stop_options){ .timeout_ns = STOP_TIMEOUT_NS },
	.run = run_restart,
};

static int simple_call(const struct store *s, const struct name *name, const char *method, struct error *err)
{
	_cleanup_client_ struct client c = {};
	int r = client_connect(s, name, &c, err);

	if (r >= 0)
		r = client_call(&c, MONITOR_SERVICE, method, NULL, REPLY_TIMEOUT_NS, NULL, err);
	return r < 0 ? r : output_line(err, "%s", name->s);
}

static int kill_one(const struct store *s, const struct name *name, const void *options, struct error *err)
{
	_cleanup_error_ struct error e = {};
	int r = end_machine(s, name, "Kill", NULL, REPLY_TIMEOUT_NS, &e);

	(void)options;
	/* Without a monitor there is nobody to ask; the power can be cut all the same. */
	if (r < 0 && (r == -ESRCH || machine_end(s, name, NULL) < 0))
		return error_move(err, &e);
	return output_line(err, "%s", name->s);
}

static int pause_one(const struct store *s, const struct name *name, const void *options, struct error *err)
{
	(void)options;
	return simple_call(s, name, "Pause", err);
}

static int resume_one(const struct store *s, const struct name *name, const void *options, struct error *err)
{
	(void)options;
	return simple_call(s, name, "Resume", err);
}

static int run_kill(const struct invocation *inv, struct error *err)
{
	_cleanup_store_ struct store s = {};
	int r = store_open(&s, err);

	return r < 0 ? r : target_each(inv, &s, kill_one, err);
}

static int run_pause(const struct invocation *inv, struct error *err)
{
	_cleanup_store_ struct store s = {};
	int r = store_open(&s, err);

	return r < 0 ? r : target_each(inv, &s, pause_one, err);
}

static int run_resume(const struct invocation *inv, struct error *err)
{
	_cleanup_store_ struct store s = {};
	int r = store_open(&s, err);

	return r < 0 ? r : target_each(inv, &s, resume_one, err);
}

const struct command kill_command = {
	.name = "kill",
	.operands = "NAME...",
	.min_operands = 1,
	.max_operands = OPERANDS_ANY,
	.complete = "machine+",
	.summary = "Cut the power of machines",
	.examples = { { "skerry kill web", "End a machine that does not react" } },
	.run = run_kill,
};

const struct command pause_command = {
	.name = "pause",
	.operands = "NAME...",
	.min_operands = 1,
	.max_operands = OPERANDS_ANY,
	.complete = "machine+",
	.summary = "Freeze machines",
	.examples = { { "skerry pause web", "Freeze a machine: its memory stays, its CPUs stand still" } },
	.run = run_pause,
};

const struct command resume_command = {
	.name = "resume",
	.operands = "NAME...",
	.min_operands = 1,
	.max_operands = OPERANDS_ANY,
	.complete = "machine+",
	.summary = "Let paused machines go on",
	.examples = { { "skerry resume web", "Let it go on; its clock is set right" } },
	.run = run_resume,
};

/* ---- wait ---- */

enum wait_for { WAIT_RUNNING, WAIT_SSH, WAIT_AGENT, WAIT_EXIT };

#define NOT_GIVEN UINT64_MAX

struct wait_options {
	int what;
	uint64_t timeout_ns;
};

static const struct option wait_table[] = {
	CHOICE(0, "for", "WHAT", wait_options, what, "What to wait for (exit unless given)",
	       .words = "running|ssh|agent|exit"),
	DURATION('t', "timeout", "TIME", wait_options, timeout_ns,
		 "Give up after that long (120s unless given, no limit for exit; 0 = no limit)"),
};

static int print_exit(const struct store *s, const struct name *name, struct error *err)
{
	_cleanup_info_ struct machine_info info = {};
	/* With --rm the record goes with the machine: then there is nothing to tell. */
	int r = machine_info_load(s, name, &info, NULL);

	if (r >= 0 && info.has_exit && info.exit.has_status)
		return output_line(err, "%" PRIu64, info.exit.status);
	return 0;
}

static int run_wait(const struct invocation *inv, struct error *err)
{
	const struct wait_options *o = inv->options;
	Skerry__Monitor__V1__WaitRequest m = SKERRY__MONITOR__V1__WAIT_REQUEST__INIT;
	_cleanup_store_ struct store s = {};
	_cleanup_client_ struct client c = {};
	_cleanup_error_ struct error e = {};
	_cleanup_buf_ struct buf out = {};
	struct name name;
	/* A machine may run for years; that it starts takes no longer than this. */
	uint64_t usual_ns = o->what == WAIT_EXIT ? 0 : AGENT_TIMEOUT_NS;
	uint64_t timeout_ns = o->timeout_ns == NOT_GIVEN ? usual_ns : o->timeout_ns;
	int r = store_open(&s, err);

	if (r >= 0)
		r = target_connect(&s, inv->operands[0], &name, &c, &e);
	else
		return r;
	if (r == -ESRCH && o->what == WAIT_EXIT)
		return print_exit(&s, &name, err);
	if (r < 0)
		return error_move(err, &e);
	if (o->what == WAIT_AGENT || o->what == WAIT_SSH) {
		if (o->what == WAIT_SSH)
			return target_wait_ssh(&s, &name, &c, target_deadline(timeout_ns), err);
		r = target_need_agent(&s, &name, err);
		return r < 0 ? r : client_wait_agent(&c, timeout_ns, err);
	}
	m.event = SKERRY__MONITOR__V1__WAIT_REQUEST__EVENT__RUNNING;
	if (o->what == WAIT_EXIT)
		r = client_wait_end(&s, &name, &c, timeout_ns, &out, &e);
	else
		r = client_call(&c, MONITOR_SERVICE, "Wait", &m.base, timeout_ns, NULL, &e);
	if (r == -ETIMEDOUT)
		return error_set(err, ETIMEDOUT, "machine '%s' has not got there in time", name.s);
	if (r < 0)
		return error_move(err, &e);
	return o->what == WAIT_EXIT ? print_exit(&s, &name, err) : 0;
}

const struct command wait_command = {
	.name = "wait",
	.operands = "NAME",
	.min_operands = 1,
	.max_operands = 1,
	.complete = "machine",
	.summary = "Wait until a machine has ended, runs, or answers",
	.description = "Waiting for the end prints the exit status of the machine's main process, where it had one.",
	.examples = { { "skerry wait web", "Wait for its end" },
		      { "skerry wait --for ssh --timeout 60 web", "Wait until one can log in" } },
	.options = wait_table,
	.n_options = ARRAY_SIZE(wait_table),
	.options_size = sizeof(struct wait_options),
	.defaults = &(const struct wait_options){ .what = WAIT_EXIT, .timeout_ns = NOT_GIVEN },
	.run = run_wait,
};

/* ---- delete ---- */

struct delete_options {
	bool force, yes;
	uint64_t lock_wait_ns;
};

static const struct option delete_table[] = {
	FLAG('f', "force", delete_options, force, "Cut the power of a running machine first, and do not ask"),
	FLAG('y', "yes", delete_options, yes, "Do not ask"),
	DURATION(0, "lock-wait", "TIME", delete_options, lock_wait_ns, "Wait when another command holds the machine"),
};

/* A machine that never ran holds nothing that its image does not hold. */
static bool has_data(const struct store *s, const struct name *name)
{
	_cleanup_info_ struct machine_info info = {};

	return machine_info_load(s, name, &info, NULL) < 0 || info.status != MACHINE_CREATED;
}

static int delete_one(const struct store *s, const struct name *name, const void *options, struct error *err)
{
	const struct delete_options *o = options;
	_cleanup_close_ int dir = store_machine_open(s, name, err);
	int r;

	if (dir < 0)
		return dir;
	if (!o->yes && !o->force && has_data(s, name)) {
		_cleanup_free_ char *question = xasprintf("Delete machine '%s' with its disks?", name->s);

		if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO)) {
			error_set_kind(err, ERROR_USAGE, EINVAL,
				       "machine '%s' has disks with data, and there is nobody to ask", name->s);
			return error_hint(err, "skerry delete -y %s", name->s);
		}
		if (!output_confirm(question))
			return error_set(err, ECANCELED, "machine '%s' stays", name->s);
	}
	r = machine_delete(s, name, o->force, o->lock_wait_ns, err);
	return r < 0 ? r : output_line(err, "%s", name->s);
}

static int run_delete(const struct invocation *inv, struct error *err)
{
	_cleanup_store_ struct store s = {};
	int r = store_open(&s, err);

	return r < 0 ? r : target_each(inv, &s, delete_one, err);
}

const struct command delete_command = {
	.name = "delete",
	.aliases = { "rm" },
	.operands = "NAME...",
	.min_operands = 1,
	.max_operands = OPERANDS_ANY,
	.complete = "machine+",
	.summary = "Delete machines with their disks",
	.description = "Asks on a terminal when the machine ever ran; without a terminal -y is needed then.",
	.examples = { { "skerry delete web", "Delete a stopped machine" },
		      { "skerry delete --force web db", "Running or not, without a question" } },
	.options = delete_table,
	.n_options = ARRAY_SIZE(delete_table),
	.options_size = sizeof(struct delete_options),
	.run = run_delete,
};
