/* exec and cp: into a running machine through its agent. */
#include <errno.h>

#include "cli/commands.h"
#include "cli/output.h"
#include "cli/target.h"
#include "machine/attach.h"

#define AGENT_TIMEOUT_NS (120 * NS_PER_SEC)

struct exec_command_options {
	bool interactive, terminal;
	const char *user, *cwd;
	struct strv env;
	uint64_t timeout_ns;
};

static const struct option exec_table[] = {
	FLAG('i', "interactive", exec_command_options, interactive, "Pass standard input on to the command"),
	FLAG('t', "tty", exec_command_options, terminal, "Give the command a terminal"),
	TEXT('u', "user", "USER[:GROUP]", exec_command_options, user, "Who runs it (the machine's user unless given)"),
	TEXT('w', "workdir", "DIR", exec_command_options, cwd, "Where it runs"),
	LIST('e', "env", "KEY=VALUE", exec_command_options, env, "Environment of the command"),
	DURATION(0, "timeout", "TIME", exec_command_options, timeout_ns,
		 "How long the guest may take until it answers (120s; 0 = no limit)"),
};

static int run_exec(const struct invocation *inv, struct error *err)
{
	const struct exec_command_options *o = inv->options;
	_cleanup_store_ struct store s = {};
	_cleanup_client_ struct client c = {};
	_cleanup_info_ struct machine_info info = {};
	_cleanup_strv_ struct strv args = {};
	_cleanup_free_ char *user = NULL, *workdir = NULL;
	struct exec_options e = {
		.args = &args, .env = &o->env, .cwd = o->cwd, .terminal = o->terminal, .interactive = o->interactive
	};
	size_t first = inv->n_operands > 1 && streq(inv->operands[1], "--") ? 2 : 1;
	struct name name;
	int r, status = 0;

	for (size_t i = 0; i < o->env.n; i++)
		if (!strchr(o->env.items[i], '=') || o->env.items[i][0] == '=')
			return error_set_kind(err, ERROR_USAGE, EINVAL, "exec: --env '%s': expected KEY=VALUE",
					      o->env.items[i]);
	for (size_t i = first; i < inv->n_operands; i++)
		strv_add(&args, inv->operands[i]);
	if (!args.n)
		return error_set_kind(err, ERROR_USAGE, EINVAL, "exec: no command was given");
	r = store_open(&s, err);
	if (r >= 0)
		r = target_connect(&s, inv->operands[0], &name, &c, err);
	if (r >= 0)
		r = machine_info_load(&s, &name, &info, err);
	if (r >= 0)
		r = target_need_agent(&s, &name, err);
	if (r >= 0)
		r = client_wait_agent(&c, o->timeout_ns, err);
	if (r < 0)
		return r;
	user = o->user ? xstrdup(o->user) : target_user(&s, &info.spec);
	e.user = user;
	workdir = target_workdir(&s, &info.spec);
	if (!e.cwd)
		e.cwd = workdir;
	r = exec_run(&c, &e, &status, err);
	if (r < 0 && r != -EINTR && status > 0) {
		/* Which of the three it is stands in the status. */
		output_error(err);
		return status;
	}
	return r < 0 ? r : status;
}

const struct command exec_command = {
	.name = "exec",
	.operands = "NAME CMD [ARG...]",
	.min_operands = 2,
	.max_operands = OPERANDS_ANY,
	.complete = "machine",
	.summary = "Run a command in a running machine",
	.description = "Needs no network and no ssh server in the guest. The exit status is the command's; 125 when "
		       "skerry failed, 126 when the command cannot be "
		       "executed, 127 when there is none.",
	.examples = { { "skerry exec web systemctl status", "A command" },
		      { "skerry exec -it -u root web bash", "A shell as root" },
		      { "skerry exec -i db psql < dump.sql", "With standard input" } },
	.options = exec_table,
	.n_options = ARRAY_SIZE(exec_table),
	.options_size = sizeof(struct exec_command_options),
	.defaults = &(const struct exec_command_options){ .timeout_ns = AGENT_TIMEOUT_NS },
	.options_end_after = 1,
	.own_status = true,
	.run = run_exec,
};

/* "NAME:/path": the name's length, or 0 for a path of this host ("./a:b" is one). */
static size_t machine_part(const char *s)
{
	size_t n = strcspn(s, ":/");

	return s[n] == ':' ? n : 0;
}

static int run_cp(const struct invocation *inv, struct error *err)
{
	const char *from = inv->operands[0], *to = inv->operands[1];
	size_t from_n = machine_part(from), to_n = machine_part(to);
	const char *guest = from_n ? from + from_n + 1 : to + to_n + 1;
	_cleanup_free_ char *machine = from_n ? xstrndup(from, from_n) : xstrndup(to, to_n);
	_cleanup_store_ struct store s = {};
	_cleanup_client_ struct client c = {};
	struct name name;
	int r;

	if (!from_n == !to_n) {
		error_set_kind(err, ERROR_USAGE, EINVAL,
			       from_n ? "cp: from one machine to another is not possible"
				      : "cp: neither side is a machine");
		return error_hint(err, "skerry cp FILE NAME:/path, or skerry cp NAME:/path FILE");
	}
	if (guest[0] != '/') {
		error_set_kind(err, ERROR_USAGE, EINVAL, "cp: '%s:%s': a path in the guest begins with /", machine,
			       guest);
		return error_hint(err, "%s:/%s", machine, guest);
	}
	r = store_open(&s, err);
	if (r >= 0)
		r = target_connect(&s, machine, &name, &c, err);
	if (r >= 0)
		r = target_need_agent(&s, &name, err);
	if (r >= 0)
		r = client_wait_agent(&c, AGENT_TIMEOUT_NS, err);
	if (r < 0)
		return r;
	return from_n ? copy_out(&c, guest, to, err) : copy_in(&c, from, guest, err);
}

const struct command cp_command = {
	.name = "cp",
	.operands = "SRC DST",
	.min_operands = 2,
	.max_operands = 2,
	.complete = "path path",
	.summary = "Copy files and trees into a running machine and out of it",
	.description =
		"One side is NAME:/path, the other a path of this host. Trees are copied whole, with modes, "
		"times and links; holes stay holes. Into a "
		"directory that exists, else to that name. A link is copied as one, with a slash behind it what it "
		"leads to. What is copied in belongs to root; set-id bits do not come along.",
	.examples = { { "skerry cp site web:/var/www", "A tree into a machine" },
		      { "skerry cp web:/etc/hostname .", "A file out of it" } },
	.run = run_cp,
};
