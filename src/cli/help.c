#include "cli/help.h"

#include <string.h>

enum { HELP_WIDTH = 80, OPTION_COLUMN = 30 };

static void add_padding(struct buf *out, size_t n)
{
	for (size_t i = 0; i < n; i++)
		buf_addc(out, ' ');
}

/* Words of @text in lines of at most HELP_WIDTH; the first begins at column @at, the others at @indent. */
static void add_wrapped(struct buf *out, const char *text, size_t at, size_t indent)
{
	size_t column = at;

	while (*text) {
		size_t n = strcspn(text, " ");

		if (column > indent && column + n + 1 > HELP_WIDTH) {
			buf_addc(out, '\n');
			add_padding(out, indent);
			column = indent;
		} else if (column > indent) {
			buf_addc(out, ' ');
			column++;
		}
		buf_add(out, text, n);
		column += n;
		text += n;
		text += strspn(text, " ");
	}
	buf_addc(out, '\n');
}

void help_overview(const struct command *const *table, struct buf *out)
{
	buf_adds(out, "Usage: skerry COMMAND [OPTIONS] [ARGUMENTS]\n\n"
		      "Virtual machines that are as easy to use as containers.\n\nCommands:\n");
	for (; *table; table++) {
		size_t n = strlen((*table)->name);

		if ((*table)->hidden)
			continue;
		buf_addf(out, "  %s", (*table)->name);
		add_padding(out, n < 12 ? 12 - n : 1);
		buf_addf(out, "%s\n", (*table)->summary);
	}
	buf_adds(out, "\nskerry COMMAND --help shows a command's options and examples.\n"
		      "\nExamples:\n"
		      "  skerry run --rm tiny uname -a      a command in a fresh machine\n"
		      "  skerry run -d --name web debian    a Debian machine that stays\n"
		      "  skerry ssh web                     a login in it\n");
}

static void add_option(struct buf *out, char letter, const char *name, const char *value, const char *help,
		       const char *words)
{
	_cleanup_buf_ struct buf left = {};

	buf_adds(&left, "  ");
	if (letter)
		buf_addf(&left, "-%c, ", letter);
	else
		buf_adds(&left, "    ");
	buf_addf(&left, "--%s", name);
	if (value)
		buf_addf(&left, " %s", value);
	buf_add(out, left.p, left.len);
	if (left.len + 2 > OPTION_COLUMN) {
		buf_addc(out, '\n');
		add_padding(out, OPTION_COLUMN);
	} else {
		add_padding(out, OPTION_COLUMN - left.len);
	}
	if (words && value && !streq(words, value)) {
		_cleanup_free_ char *text = xasprintf("%s (%s)", help, words);

		add_wrapped(out, text, OPTION_COLUMN, OPTION_COLUMN);
	} else {
		add_wrapped(out, help, OPTION_COLUMN, OPTION_COLUMN);
	}
}

static void add_usage(const struct command *group, const struct command *c, struct buf *out)
{
	buf_addf(out, "skerry %s%s%s", group ? group->name : "", group ? " " : "", c->name);
	if (c->subcommands)
		buf_adds(out, " COMMAND");
	else
		buf_adds(out, c->n_options ? " [OPTIONS]" : "");
	if (c->operands[0] && !c->subcommands)
		buf_addf(out, " %s", c->operands);
}

static void add_examples(const struct command *c, struct buf *out)
{
	if (!c->examples[0].command)
		return;
	buf_adds(out, c->examples[1].command ? "\nExamples:\n" : "\nExample:\n");
	for (size_t i = 0; i < EXAMPLES_MAX && c->examples[i].command; i++) {
		buf_addf(out, "  %s\n", c->examples[i].command);
		buf_addf(out, "      %s\n", c->examples[i].what);
	}
}

void help_command(const struct command *group, const struct command *c, struct buf *out)
{
	buf_adds(out, "Usage: ");
	add_usage(group, c, out);
	buf_addf(out, "\n\n%s.\n", c->summary);
	if (c->description) {
		buf_addc(out, '\n');
		add_wrapped(out, c->description, 0, 0);
	}
	if (c->aliases[0]) {
		buf_adds(out, "\nAlso:");
		for (size_t i = 0; i < ALIASES_MAX && c->aliases[i]; i++)
			buf_addf(out, "%s skerry %s", i ? "," : "", c->aliases[i]);
		buf_addc(out, '\n');
	}
	if (c->subcommands) {
		buf_adds(out, "\nCommands:\n");
		for (const struct command *const *s = c->subcommands; *s; s++) {
			size_t n = strlen((*s)->name) + strlen((*s)->operands) + 1;

			buf_addf(out, "  %s %s", (*s)->name, (*s)->operands);
			add_padding(out, n < 24 ? 24 - n : 1);
			buf_addf(out, "%s\n", (*s)->summary);
		}
	} else {
		buf_adds(out, "\nOptions:\n");
		for (size_t i = 0; i < c->n_options; i++) {
			const struct option *o = &c->options[i];

			add_option(out, o->letter, o->name, o->value, o->help, o->words);
		}
		add_option(out, option_find(c, "host") ? '\0' : 'h', "help", NULL, "Show this help", NULL);
	}
	add_examples(c, out);
}

static struct json *dump_command(const struct command *c);

static struct json *dump_table(const struct command *const *table)
{
	struct json *list = json_array();

	for (; *table; table++)
		json_append(list, dump_command(*table));
	return list;
}

static struct json *dump_command(const struct command *c)
{
	struct json *j = json_object(), *aliases = json_array(), *options = json_array(), *examples = json_array();

	json_set_string(j, "name", c->name);
	for (size_t i = 0; i < ALIASES_MAX && c->aliases[i]; i++)
		json_append_string(aliases, c->aliases[i]);
	json_set(j, "aliases", aliases);
	json_set_string(j, "operands", c->operands);
	json_set_string(j, "summary", c->summary);
	json_set_bool(j, "hidden", c->hidden);
	for (size_t i = 0; i < c->n_options; i++) {
		const struct option *o = &c->options[i];
		struct json *e = json_object();
		char letter[2] = { o->letter, '\0' };

		json_set_string(e, "name", o->name);
		json_set_string(e, "letter", letter);
		json_set_string(e, "value", o->value);
		json_set_string(e, "help", o->help);
		json_append(options, e);
	}
	json_set(j, "options", options);
	for (size_t i = 0; i < EXAMPLES_MAX && c->examples[i].command; i++) {
		struct json *e = json_object();

		json_set_string(e, "command", c->examples[i].command);
		json_set_string(e, "what", c->examples[i].what);
		json_append(examples, e);
	}
	json_set(j, "examples", examples);
	json_set(j, "commands", c->subcommands ? dump_table(c->subcommands) : json_array());
	return j;
}

struct json *help_dump(const struct command *const *table)
{
	struct json *j = json_object();

	json_set_string(j, "program", "skerry");
	json_set_string(j, "version", SKERRY_VERSION);
	json_set(j, "commands", dump_table(table));
	return j;
}

/* Text that scdoc must take literally. */
static void add_scdoc(struct buf *out, const char *text)
{
	for (; *text; text++) {
		if (strchr("_*\\#`", *text))
			buf_addc(out, '\\');
		buf_addc(out, *text);
	}
}

/* An operands line: words in capitals are underlined. */
static void add_scdoc_operands(struct buf *out, const char *text)
{
	while (*text) {
		size_t n = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");

		if (n) {
			buf_addc(out, '_');
			buf_add(out, text, n);
			buf_addc(out, '_');
			text += n;
			/* An underline next to a letter would not close. */
			continue;
		}
		add_scdoc(out, (char[]){ *text, '\0' });
		text++;
	}
}

static void manual_options(const struct command *c, struct buf *out)
{
	for (size_t i = 0; i < c->n_options; i++) {
		const struct option *o = &c->options[i];

		if (o->letter)
			buf_addf(out, "*-%c*, ", o->letter);
		buf_addf(out, "*--%s*", o->name);
		if (o->value) {
			buf_addc(out, ' ');
			add_scdoc_operands(out, o->value);
		}
		buf_adds(out, "\n\t");
		add_scdoc(out, o->help);
		if (o->words && o->value && !streq(o->words, o->value)) {
			buf_adds(out, " (");
			add_scdoc(out, o->words);
			buf_addc(out, ')');
		}
		buf_adds(out, ".\n\n");
	}
	buf_adds(out, "*--help*\n\tShow a short help.\n\n");
}

static void manual_synopsis(const struct command *group, const struct command *c, struct buf *out)
{
	buf_adds(out, "*skerry ");
	if (group)
		buf_addf(out, "%s ", group->name);
	buf_addf(out, "%s*", c->name);
	if (c->n_options)
		buf_adds(out, " [_OPTIONS_]");
	if (c->operands[0]) {
		buf_addc(out, ' ');
		add_scdoc_operands(out, c->operands);
	}
}

static void manual_examples(const struct command *c, struct buf *out)
{
	for (size_t i = 0; i < EXAMPLES_MAX && c->examples[i].command; i++) {
		add_scdoc(out, c->examples[i].what);
		buf_addf(out, ":\n\n```\n%s\n```\n\n", c->examples[i].command);
	}
}

static void manual_status(const struct command *c, struct buf *out)
{
	buf_adds(out, "# EXIT STATUS\n\n");
	if (c && c->own_status)
		buf_adds(out, "The status of the command in the guest, or *125* when skerry itself failed, *126* when "
			      "the command could not be "
			      "executed, *127* when it was not found.\n\n");
	else
		buf_adds(out,
			 "*0* done, *1* failed, *64* wrong usage, *65* bad input data, *69* something needed is "
			 "missing on the host, "
			 "*73* cannot create, *75* busy, try again, *77* not permitted, *78* bad configuration.\n\n");
}

static void manual_command(const struct command *c, const char *fragment, struct buf *out)
{
	buf_addf(out, "skerry-%s(1)\n\n# NAME\n\nskerry-%s - ", c->name, c->name);
	add_scdoc(out, c->summary);
	buf_adds(out, "\n\n# SYNOPSIS\n\n");
	if (c->subcommands) {
		for (const struct command *const *s = c->subcommands; *s; s++) {
			manual_synopsis(c, *s, out);
			buf_adds(out, "++\n");
		}
		buf_truncate(out, out->len - 3);
	} else {
		manual_synopsis(NULL, c, out);
	}
	buf_adds(out, "\n\n# DESCRIPTION\n\n");
	add_scdoc(out, c->description ? c->description : c->summary);
	buf_adds(out, c->description ? "\n\n" : ".\n\n");
	if (c->aliases[0]) {
		buf_adds(out, "Other names:");
		for (size_t i = 0; i < ALIASES_MAX && c->aliases[i]; i++)
			buf_addf(out, "%s *skerry %s*", i ? "," : "", c->aliases[i]);
		buf_adds(out, ".\n\n");
	}
	if (c->subcommands) {
		buf_adds(out, "# COMMANDS\n\n");
		for (const struct command *const *s = c->subcommands; *s; s++) {
			buf_addf(out, "## %s %s\n\n", c->name, (*s)->name);
			add_scdoc(out, (*s)->summary);
			buf_adds(out, ".\n\n");
			if ((*s)->description) {
				add_scdoc(out, (*s)->description);
				buf_adds(out, "\n\n");
			}
			manual_options(*s, out);
		}
	} else {
		buf_adds(out, "# OPTIONS\n\n");
		manual_options(c, out);
	}
	if (fragment)
		buf_addf(out, "%s\n", fragment);
	buf_adds(out, "# EXAMPLES\n\n");
	manual_examples(c, out);
	for (const struct command *const *s = c->subcommands; s && *s; s++)
		manual_examples(*s, out);
	manual_status(c, out);
	buf_adds(out, "# SEE ALSO\n\n*skerry*(1)\n");
}

void help_manual(const struct command *const *table, const struct command *c, const char *fragment, struct buf *out)
{
	if (c) {
		manual_command(c, fragment, out);
		return;
	}
	buf_adds(out, "skerry(1)\n\n# NAME\n\nskerry - virtual machines that are as easy to use as containers\n\n"
		      "# SYNOPSIS\n\n*skerry* _COMMAND_ [_OPTIONS_] [_ARGUMENTS_]\n\n# COMMANDS\n\n");
	for (; *table; table++) {
		if ((*table)->hidden)
			continue;
		buf_addf(out, "*skerry-%s*(1)\n\t", (*table)->name);
		add_scdoc(out, (*table)->summary);
		buf_adds(out, ".\n\n");
	}
	if (fragment)
		buf_addf(out, "%s\n", fragment);
	manual_status(NULL, out);
}
