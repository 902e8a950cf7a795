/* run: a machine for one command, or a new machine in one step. */
#include <errno.h>
#include <signal.h>
#include <sys/random.h>

#include "base/process.h"
#include "cli/commands.h"
#include "cli/create.h"
#include "cli/output.h"
#include "cli/provide.h"
#include "cli/target.h"
#include "image/image.h"
#include "machine/attach.h"
#include "monitor.pb-c.h"

enum { STATUS_OWN_FAILURE = 125, STATUS_INTERRUPTED = 130, NAME_TRIES = 64 };
#define AGENT_TIMEOUT_NS (120 * NS_PER_SEC)
#define END_TIMEOUT_NS   (120 * NS_PER_SEC)
#define STOP_TIMEOUT_NS  (60 * NS_PER_SEC)

struct run_options {
	struct create_options create;
	const char *name, *entrypoint;
	int pull;
	bool detach, interactive, terminal, remove;
	uint64_t timeout_ns;
};

static const struct option run_table[] = {
	FLAG(0, "rm", run_options, remove, "Delete the machine when it has ended"),
	FLAG('d', "detach", run_options, detach, "Leave it running and print its name"),
	FLAG('i', "interactive", run_options, interactive, "Pass standard input on to the command"),
	FLAG('t', "tty", run_options, terminal, "Give the command a terminal"),
	TEXT(0, "name", "NAME", run_options, name, "The machine's name; one is made up unless given"),
	TEXT(0, "entrypoint", "PROGRAM", run_options, entrypoint, "Instead of the image's entrypoint; \"\" for none"),
	CHOICE(0, "pull", "WHEN", run_options, pull, "When to fetch the image from its registry",
	       .words = "missing|always|never"),
	DURATION(0, "timeout", "TIME", run_options, timeout_ns,
		 "How long the guest may take until it answers (120s; 0 = no limit)"),
	CREATE_OPTIONS(run_options),
};

/* Names for machines that nobody named: two short words, checked to be free. */
static char *random_name(void)
{
	static const char *const first[] = { "amber", "bold",  "brisk", "calm",   "clear", "cool",  "deep",
					     "eager", "fair",  "fresh", "gentle", "grand", "keen",  "lively",
					     "mild",  "noble", "proud", "quick",  "quiet", "ready", "sharp",
					     "still", "swift", "tidy",  "true",   "warm",  "wild",  "wise" };
	static const char *const second[] = { "auk",    "bay",     "brill",  "cliff", "cod",     "coral",  "cove",
					      "crab",   "current", "dune",   "eider", "fjord",   "foam",   "gannet",
					      "gull",   "harbour", "heron",  "kelp",  "lagoon",  "limpet", "otter",
					      "pebble", "plover",  "puffin", "reef",  "sandbar", "seal",   "shoal",
					      "skua",   "tern",    "tide",   "whelk" };
	uint32_t r[2];

	if (getrandom(r, sizeof(r), 0) != (ssize_t)sizeof(r))
		r[0] = r[1] = (uint32_t)clock_realtime_ns();
	return xasprintf("%s-%s", first[r[0] % ARRAY_SIZE(first)], second[r[1] % ARRAY_SIZE(second)]);
}

/* Somebody else may take a name between the look and the creation: then the next one is tried. */
static int create_unnamed(const struct store *s, struct machine_spec *spec, bool durable, struct error *err)
{
	int r = -EEXIST;

	for (int i = 0; i < NAME_TRIES && r == -EEXIST; i++) {
		_cleanup_error_ struct error e = {};

		free(spec->name);
		spec->name = random_name();
		if (i > NAME_TRIES / 2) {
			_cleanup_free_ char *plain = spec->name;

			spec->name = xasprintf("%s-%llx", plain, (unsigned long long)clock_realtime_ns() & 0xffff);
		}
		r = machine_create(s, spec, durable, &e);
		if (r < 0 && (r != -EEXIST || i + 1 == NAME_TRIES))
			return error_move(err, &e);
	}
	return r;
}

static bool is_shell(const struct strv *command)
{
	const char *base = command->n ? strrchr(command->items[0], '/') : NULL;

	base = base ? base + 1 : command->n ? command->items[0] : "";
	return streq(base, "sh") || streq(base, "bash");
}

/* What the machine is for. */
static int choose_command(const struct store *s, const struct invocation *inv, const struct run_options *o,
			  struct machine_spec *spec, struct error *err)
{
	_cleanup_strv_ struct strv whole = {};
	struct image_meta image = {};
	size_t first = 1;
	int r;

	if (inv->n_operands > 1 && streq(inv->operands[1], "--"))
		first = 2;
	for (size_t i = first; i < inv->n_operands; i++)
		strv_add(&spec->command, inv->operands[i]);
	r = image_find(s, spec->image, &image, err);
	if (r < 0)
		return r;
	/* The rules of other tools: what is given takes the place of the image's command; another entrypoint takes both their places. */
	if (o->entrypoint && *o->entrypoint)
		strv_add(&whole, o->entrypoint);
	else if (!o->entrypoint)
		strv_copy(&whole, &image.entrypoint);
	/* A shell that nobody talks to would end at once, and the machine with it. */
	if (!spec->command.n && !o->entrypoint && !(o->detach && !whole.n && is_shell(&image.command)))
		strv_copy(&spec->command, &image.command);
	strv_copy(&whole, &spec->command);
	strv_done(&spec->command);
	spec->command = whole;
	whole = (struct strv){};
	/* With a terminal and nothing to run in it, people want a shell. */
	if (!spec->command.n && o->terminal && !o->detach && image.boot != IMAGE_BOOT_FIRMWARE) {
		strv_add(&spec->command, "/bin/sh");
		strv_add(&spec->command, "-l");
	}
	image_meta_done(&image);
	return 0;
}

static int make_machine(const struct store *s, const struct invocation *inv, struct machine_spec *spec,
			struct error *err)
{
	const struct run_options *o = inv->options;
	struct name name;
	int r = o->name ? name_parse(o->name, "machine name", &name, err) : 0;

	if (r >= 0)
		r = create_spec(s, &o->create, inv->operands[0], spec, err);
	if (r >= 0)
		r = provide_image(s, spec->image, (enum provide_pull)o->pull, err);
	/* Ended by a signal, it says so; every other failure is one of run's own. */
	if (r > 0)
		return r > 128 ? r : STATUS_OWN_FAILURE;
	if (r >= 0)
		r = create_check_image(s, &o->create, spec, err);
	if (r == 0)
		r = provide_kernel(s, spec->kernel, err);
	if (r >= 0)
		r = choose_command(s, inv, o, spec, err);
	if (r < 0)
		return r;
	spec->terminal = o->terminal;
	spec->interactive = o->interactive;
	spec->remove = o->remove;
	if (!o->name)
		return create_unnamed(s, spec, !o->remove, err);
	spec->name = xstrdup(name.s);
	return machine_create(s, spec, !o->remove, err);
}

/* How everything ended. */
struct ending {
	int status; /* the main process's, -1 when there is none to be known */
	char *reason;
	bool failed; /* nobody meant it */
};

static void ending_done(struct ending *e)
{
	free(e->reason);
}

/* What the record says; a machine that is gone with its end leaves nothing to be known. */
static void read_end(const struct store *s, const struct name *name, struct ending *ret)
{
	_cleanup_info_ struct machine_info info = {};

	if (machine_info_load(s, name, &info, NULL) < 0 || !info.has_exit)
		return;
	ret->status = info.exit.has_status ? (int)info.exit.status : -1;
	ret->reason = TAKE_PTR(info.exit.reason);
	ret->failed = info.exit.failed;
}

static int wait_end(const struct store *s, const struct name *name, struct client *c, uint64_t timeout_ns,
		    struct ending *ret, struct error *err)
{
	Skerry__Monitor__V1__WaitResponse *answer;
	_cleanup_buf_ struct buf out = {};
	int r;

	*ret = (struct ending){ .status = -1 };
	r = client_wait_end(s, name, c, timeout_ns, &out, err);
	if (r < 0)
		return r;
	if (!out.len) {
		read_end(s, name, ret);
		return 0;
	}
	answer = skerry__monitor__v1__wait_response__unpack(NULL, out.len, (const uint8_t *)out.p);
	if (answer) {
		ret->status = answer->exit_status;
		ret->reason = *answer->reason ? xstrdup(answer->reason) : NULL;
		ret->failed = answer->failed;
	}
	skerry__monitor__v1__wait_response__free_unpacked(answer, NULL);
	return 0;
}

static void cut_power(struct client *c)
{
	(void)client_call(c, MONITOR_SERVICE, "Kill", NULL, END_TIMEOUT_NS, NULL, NULL);
}

static const int interrupts[] = { SIGINT, SIGTERM, SIGHUP };

struct interrupts {
	struct client *client;
	unsigned n;
	struct loop_source *sources[ARRAY_SIZE(interrupts)];
};

static void interrupts_done(struct interrupts *in)
{
	for (size_t i = 0; i < ARRAY_SIZE(in->sources); i++)
		in->sources[i] = loop_source_free(in->sources[i]);
}

static int watch_interrupts(struct interrupts *in, loop_signal_fn fn, struct error *err)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(in->sources); i++)
		if (!signal_ignored(interrupts[i]))
			r = loop_add_signal(in->client->loop, &in->sources[i], interrupts[i], fn, in);
	return r < 0 ? error_set_errno(err, r, "cannot wait for signals") : 0;
}

static void forget_answer(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	(void)err;
	(void)payload;
	(void)len;
	(void)data;
}

/* From here on they wait until somebody looks: what is being started is not to be left behind by a command that is gone. */
static void hold_interrupts(void)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(interrupts); i++)
		if (!signal_ignored(interrupts[i]))
			sigaddset(&set, interrupts[i]);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
}

/* Whether one came while they were held. */
static bool interrupted(void)
{
	sigset_t set;

	if (sigpending(&set) < 0)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(interrupts); i++)
		if (sigismember(&set, interrupts[i]) == 1)
			return true;
	return false;
}

/* Nobody is in there to pass it on to: the first asks the machine to power off, the second does not ask. */
static int on_interrupt(struct loop_source *source, const struct signalfd_siginfo *si, void *data)
{
	struct interrupts *in = data;
	Skerry__Monitor__V1__StopRequest m = SKERRY__MONITOR__V1__STOP_REQUEST__INIT;
	uint8_t packed[32];
	size_t n;

	(void)source;
	(void)si;
	if (!in->client->rpc)
		return 0;
	m.timeout_ns = STOP_TIMEOUT_NS;
	n = skerry__monitor__v1__stop_request__pack(&m, packed);
	(void)rpc_call(in->client->rpc, MONITOR_SERVICE, in->n ? "Kill" : "Stop", packed, in->n ? 0 : n, UINT64_MAX,
		       forget_answer, NULL, NULL);
	in->n++;
	return 0;
}

/* There is no process yet that could be told. */
static int on_early_interrupt(struct loop_source *source, const struct signalfd_siginfo *si, void *data)
{
	struct interrupts *in = data;

	(void)source;
	(void)si;
	in->n++;
	if (in->client->rpc)
		(void)rpc_call(in->client->rpc, MONITOR_SERVICE, "Kill", NULL, 0, UINT64_MAX, forget_answer, NULL,
			       NULL);
	return 0;
}

/* Until the guest answers. An interrupt cuts the machine's power. */
static int wait_ready(struct client *c, uint64_t timeout_ns, struct error *err)
{
	_cleanup_(interrupts_done) struct interrupts in = { .client = c };
	_cleanup_error_ struct error e = {};
	int r = watch_interrupts(&in, on_early_interrupt, &e);

	if (r >= 0)
		r = client_wait_agent(c, timeout_ns, &e);
	interrupts_done(&in);
	if (r >= 0 && !in.n)
		return 0;
	cut_power(c);
	return in.n ? STATUS_INTERRUPTED : error_move(err, &e);
}

/* Its end is the beginning of the next run: nobody can wait for one. */
static bool comes_back(const struct machine_spec *spec, int attached, int status)
{
	return spec->restart == RESTART_ALWAYS ||
	       (spec->restart == RESTART_ON_FAILURE && (attached < 0 || status != 0));
}

/* Only its monitor is gone. */
static bool runs_on(const struct store *s, const struct name *name)
{
	_cleanup_info_ struct machine_info info = {};

	return machine_info_load(s, name, &info, NULL) >= 0 &&
	       (info.status == MACHINE_RUNNING || info.status == MACHINE_PAUSED || info.status == MACHINE_STOPPING);
}

/* Nobody stays with it any more. What goes with its end has nothing to lose; what stays powers off, as by `skerry stop`, which its monitor goes
 * on with when this process is killed. The next interrupt does not ask. */
static void end_run(const struct store *s, const struct name *name, struct client *c, bool stays)
{
	_cleanup_(interrupts_done) struct interrupts in = { .client = c };
	_cleanup_(ending_done) struct ending end = {};

	if (!stays) {
		cut_power(c);
		return;
	}
	(void)watch_interrupts(&in, on_interrupt, NULL);
	(void)on_interrupt(NULL, NULL, &in);
	if (in.n)
		(void)wait_end(s, name, c, END_TIMEOUT_NS, &end, NULL);
}

static int stay_with_main(const struct store *s, const struct name *name, struct client *c,
			  const struct machine_spec *spec, struct error *err)
{
	_cleanup_(interrupts_done) struct interrupts in = { .client = c };
	_cleanup_(ending_done) struct ending end = {};
	_cleanup_error_ struct error e = {};
	uint64_t timeout_ns = END_TIMEOUT_NS;
	int status = STATUS_OWN_FAILURE;
	int r = attach_run(c, "main", spec->terminal, spec->interactive, &status, &e);

	/* Without a terminal these were three Ctrl-C. */
	if (r == -EINTR) {
		end_run(s, name, c, spec->terminal && !spec->remove);
		return STATUS_INTERRUPTED;
	}
	if (r < 0 && r != -ECONNRESET && r != -ENOENT) {
		end_run(s, name, c, !spec->remove);
		return error_move(err, &e);
	}
	if (comes_back(spec, r, status)) {
		output_notice("machine '%s' begins again, as its restart policy says; `skerry stop %s` ends it",
			      c->name, c->name);
		return r < 0 ? error_move(err, &e) : status;
	}
	if (r < 0 && !c->rpc && runs_on(s, name)) {
		output_notice("machine '%s' has lost its monitor and gets another one; what the command prints from "
			      "now on is in `skerry logs %s`",
			      name->s, name->s);
		timeout_ns = 0;
	}
	/* The command is done, or out of reach: there is nobody to pass an interrupt on to. */
	if (watch_interrupts(&in, on_interrupt, err) < 0 || wait_end(s, name, c, timeout_ns, &end, err) < 0)
		return -ETIMEDOUT;
	if (in.n)
		return STATUS_INTERRUPTED;
	if (r >= 0)
		return status;
	/* It could not be started, or the machine ended below it. */
	if (end.reason)
		output_notice("%s", end.reason);
	else if (end.status < 0)
		return error_move(err, &e);
	return end.status >= 0 ? end.status : STATUS_OWN_FAILURE;
}

/* A machine without a main process lives until it powers off. */
static int stay_with_machine(const struct store *s, const struct name *name, struct client *c, bool agent,
			     struct error *err)
{
	_cleanup_(interrupts_done) struct interrupts in = { .client = c };
	_cleanup_(ending_done) struct ending end = {};
	int r;

	output_notice("machine '%s' runs; Ctrl-C powers it off, %s%s%s`skerry ssh %s` goes in", c->name,
		      agent ? "`skerry exec " : "", agent ? c->name : "", agent ? " CMD` or " : "", c->name);
	r = watch_interrupts(&in, on_interrupt, err);
	if (r >= 0)
		r = wait_end(s, name, c, 0, &end, err);
	if (r >= 0 && end.failed)
		r = error_set(err, EIO, "machine '%s': %s", c->name, end.reason ? end.reason : "it failed");
	return r < 0 ? r : 0;
}

/* What was made for a command that is not wanted any more. A machine that somebody named stays, without its power. */
static int call_off(const struct store *s, const struct name *name, const struct run_options *o)
{
	_cleanup_client_ struct client c = {};

	if (o->remove || !o->name)
		(void)machine_delete(s, name, true, 0, NULL);
	else if (client_connect(s, name, &c, NULL) >= 0)
		cut_power(&c);
	return STATUS_INTERRUPTED;
}

static int run_run(const struct invocation *inv, struct error *err)
{
	const struct run_options *o = inv->options;
	_cleanup_store_ struct store s = {};
	_cleanup_spec_ struct machine_spec spec = {};
	_cleanup_client_ struct client c = {};
	struct start_options start = {};
	struct name name;
	bool already;
	int r = store_open(&s, err);

	if (r >= 0)
		r = make_machine(&s, inv, &spec, err);
	if (r == 0)
		r = name_parse(spec.name, "machine name", &name, err);
	if (r != 0)
		return r;
	start.hold_main = !o->detach && spec.command.n;
	hold_interrupts();
	r = machine_start(&s, &name, &start, &already, err);
	if (r < 0) {
		/* A machine that was only made for this command goes with it. */
		if (o->remove || !o->name)
			(void)machine_delete(&s, &name, true, 0, NULL);
		return r;
	}
	if (o->detach)
		return interrupted() ? call_off(&s, &name, o) : output_line(err, "%s", name.s);
	r = client_connect(&s, &name, &c, err);
	if (r < 0)
		return r;
	if (!spec.command.n)
		return stay_with_machine(&s, &name, &c, !target_lacks_agent(&s, &spec), err);
	r = wait_ready(&c, o->timeout_ns, err);
	return r ? r : stay_with_main(&s, &name, &c, &spec, err);
}

const struct command run_command = {
	.name = "run",
	.operands = "IMAGE [CMD [ARG...]]",
	.min_operands = 1,
	.max_operands = OPERANDS_ANY,
	.complete = "image",
	.summary = "Run a command in a new machine",
	.description =
		"Makes a machine, starts it, runs CMD in it and gives CMD's exit status; the machine ends with CMD. "
		"Without CMD the image's own command "
		"is taken, or a shell with -t; else the machine stays until it powers off. CMD is given to the "
		"image's entrypoint where it has one. The images tiny and debian, and a kernel, are made at first use; "
		"any other image that is not there is pulled from its registry. Without -t, Ctrl-C goes to CMD; three "
		"times within two seconds cuts the machine's power.",
	.examples = { { "skerry run --rm tiny uname -a", "A command in a machine that is gone afterwards" },
		      { "skerry run --rm -it debian", "A shell in a fresh Debian" },
		      { "skerry run -d --name web --publish 8080:80 debian", "A machine that stays" },
		      { "tar c . | skerry run --rm -i tiny tar t", "With standard input" } },
	.options = run_table,
	.n_options = ARRAY_SIZE(run_table),
	.options_size = sizeof(struct run_options),
	.defaults = &(const struct run_options){ .timeout_ns = AGENT_TIMEOUT_NS },
	.options_end_after = 1,
	.own_status = true,
	.run = run_run,
};
