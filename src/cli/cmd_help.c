/* What skerry tells about itself: help, version, completion, and the hidden commands that shells and tests ask. */
#include "cli/command.h"

#include <errno.h>

#include "cli/commands.h"
#include "cli/completion.h"
#include "cli/help.h"
#include "cli/output.h"
#include "image/image.h"
#include "image/kernel.h"
#include "store/store.h"

static int run_help(const struct invocation *inv, struct error *err)
{
	_cleanup_buf_ struct buf out = {};
	const struct command *c = NULL, *group = NULL;

	if (!inv->n_operands) {
		help_overview(commands, &out);
		return output_text(out.p, out.len, err);
	}
	c = command_find(commands, inv->operands[0]);
	if (c && inv->n_operands > 1) {
		group = c;
		c = group->subcommands ? command_find(group->subcommands, inv->operands[1]) : NULL;
	}
	if (!c) {
		const char *near = command_of_docker(inv->operands[0]);

		if (!near)
			near = command_nearest(commands, inv->operands[0]);
		error_set_kind(err, ERROR_USAGE, EINVAL, "unknown command '%s%s%s'", inv->operands[0],
			       inv->n_operands > 1 ? " " : "", inv->n_operands > 1 ? inv->operands[1] : "");
		return error_hint(err, near && inv->n_operands == 1 ? "did you mean 'skerry help %s'?" : "skerry help",
				  near);
	}
	help_command(group, c, &out);
	return output_text(out.p, out.len, err);
}

const struct command help_command_entry = {
	.name = "help",
	.operands = "[COMMAND [COMMAND]]",
	.max_operands = 2,
	.complete = "command",
	.summary = "Show the commands, or one command's options and examples",
	.examples = { { "skerry help run", "Show what `run` takes" },
		      { "skerry help image build", "Show a command of a group" } },
	.run = run_help,
};

struct version_options {
	int format;
};

static const struct option version_option_table[] = {
	FORMAT_OPTION(version_options),
};

static int run_version(const struct invocation *inv, struct error *err)
{
	const struct version_options *o = inv->options;

	if (o->format == FORMAT_JSON) {
		_cleanup_json_ struct json *j = json_object();

		json_set_string(j, "version", SKERRY_VERSION);
		return output_json(j, err);
	}
	return output_line(err, "skerry %s", SKERRY_VERSION);
}

const struct command version_command = {
	.name = "version",
	.operands = "",
	.summary = "Show the version",
	.examples = { { "skerry version", "Show the version" } },
	.options = version_option_table,
	.n_options = ARRAY_SIZE(version_option_table),
	.options_size = sizeof(struct version_options),
	.run = run_version,
};

static int run_completion(const struct invocation *inv, struct error *err)
{
	static const char *const shells[] = { "bash", "zsh", "fish" };
	_cleanup_buf_ struct buf out = {};

	for (size_t i = 0; i < ARRAY_SIZE(shells); i++)
		if (streq(inv->operands[0], shells[i])) {
			completion_script(commands, (enum completion_shell)i, &out);
			return output_text(out.p, out.len, err);
		}
	return error_set_kind(err, ERROR_USAGE, EINVAL, "completion: unknown shell '%s', it takes bash, zsh or fish",
			      inv->operands[0]);
}

const struct command completion_command = {
	.name = "completion",
	.operands = "bash|zsh|fish",
	.min_operands = 1,
	.max_operands = 1,
	.complete = "shell",
	.summary = "Print the completion script of a shell",
	.description =
		"`make install` puts these scripts where the shells look for them; this prints them for other places.",
	.examples = { { "source <(skerry completion bash)", "Complete in the running bash" },
		      { "skerry completion fish > ~/.config/fish/completions/skerry.fish",
			"Install it for one fish user" } },
	.run = run_completion,
};

static int complete_images(const struct store *s, struct buf *out, struct error *err)
{
	struct image_index index = {};
	int r = image_index_load(s, &index, err);

	for (size_t i = 0; r >= 0 && i < index.n; i++) {
		const char *name = index.refs[i].name, *tag = strrchr(name, ':');

		buf_addf(out, "%.*s\n", (int)(tag && streq(tag, ":latest") ? tag - name : (ptrdiff_t)strlen(name)),
			 name);
	}
	image_index_done(&index);
	return r;
}

static int run_complete(const struct invocation *inv, struct error *err)
{
	static const struct {
		const char *kind, *names;
	} known[] = {
		{ "shell", "bash\nzsh\nfish" },
		{ "recipe", "tiny\ndebian" },
		{ "resource", "system\nhome\nconsole.log\nengine.log\nrun\nspec" },
	};
	const char *kind = inv->operands[0];
	_cleanup_store_ struct store s = {};
	_cleanup_strv_ struct strv names = {};
	_cleanup_buf_ struct buf out = {};
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (streq(kind, known[i].kind))
			return output_line(err, "%s", known[i].names);
	if (streq(kind, "command")) {
		for (const struct command *const *c = commands; *c; c++)
			if (!(*c)->hidden)
				buf_addf(&out, "%s\n", (*c)->name);
		return output_text(out.p, out.len, err);
	}
	r = store_open(&s, err);
	if (r < 0)
		return r;
	if (streq(kind, "machine"))
		r = store_machine_names(&s, &names, err);
	else if (streq(kind, "kernel"))
		r = kernel_names(&s, &names, err);
	else if (streq(kind, "image"))
		r = complete_images(&s, &out, err);
	else
		r = error_set_kind(err, ERROR_USAGE, EINVAL, "nothing is known of kind '%s'", kind);
	if (r < 0)
		return r;
	for (size_t i = 0; i < names.n; i++)
		buf_addf(&out, "%s\n", names.items[i]);
	return output_text(out.p, out.len, err);
}

const struct command complete_command = {
	.name = "__complete",
	.operands = "KIND",
	.min_operands = 1,
	.max_operands = 1,
	.summary = "Print names for a shell's completion",
	.hidden = true,
	.run = run_complete,
};

static int run_dump(const struct invocation *inv, struct error *err)
{
	_cleanup_json_ struct json *j = help_dump(commands);

	(void)inv;
	return output_json(j, err);
}

const struct command dump_command = {
	.name = "__dump",
	.operands = "",
	.summary = "Print the table of commands as JSON",
	.hidden = true,
	.run = run_dump,
};
