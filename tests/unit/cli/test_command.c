/* The parser: where options may stand, what they take, and what is said about mistakes. */
#include <errno.h>

#include "cli/command.h"
#include "cli/commands.h"
#include "test.h"

struct options {
	bool all, verbose;
	const char *name;
	struct strv env;
	int format;
	uint64_t timeout_ns, size_bytes;
};

static const struct option options[] = {
	FLAG('a', "all", options, all, "All"),
	FLAG('v', "verbose", options, verbose, "Verbose"),
	TEXT('n', "name", "NAME", options, name, "Name"),
	LIST('e', "env", "K=V", options, env, "Environment"),
	CHOICE(0, "format", "FORMAT", options, format, "Format", .words = "table|json"),
	DURATION('t', "timeout", "TIME", options, timeout_ns, "Timeout"),
	BYTES(0, "size", "SIZE", options, size_bytes, "Size"),
};

static int run_nothing(const struct invocation *inv, struct error *err)
{
	(void)inv;
	(void)err;
	return 0;
}

#define COMMON                                                                                       \
	.operands = "X...", .summary = "Test", .options = options, .n_options = ARRAY_SIZE(options), \
	.options_size = sizeof(struct options), .run = run_nothing
static const struct command free_command = {
	.name = "free", .aliases = { "fr" }, .min_operands = 1, .max_operands = 3, COMMON
};
static const struct command strict_command = {
	.name = "strict", .max_operands = OPERANDS_ANY, .options_end_after = 1, COMMON
};
static const struct command none_command = { .name = "none", .operands = "", .summary = "Test", .run = run_nothing };
static const struct command defaults_command = { .name = "defaults",
						 .max_operands = 1,
						 COMMON,
						 .defaults = &(const struct options){ .timeout_ns = 7, .format = 1 } };
static const struct command *const subcommands[] = { &free_command, &none_command, NULL };
static const struct command group_command = {
	.name = "group", .operands = "free, none", .summary = "Test", .subcommands = subcommands
};
static const struct command hidden_command = {
	.name = "secret", .operands = "", .hidden = true, .summary = "Test", .run = run_nothing
};
static const struct command *const table[] = { &free_command,  &strict_command, &none_command, &defaults_command,
					       &group_command, &hidden_command, NULL };

/* Splits at spaces; '_' alone stands for an empty word. */
static int parse(const char *line, struct invocation *inv, struct error *err)
{
	static char copy[1024];
	static char *argv[64];
	char *rest = copy, *word;
	int argc = 0;

	snprintf(copy, sizeof(copy), "%s", line);
	while ((word = strsep(&rest, " ")) && argc < 63)
		if (*word)
			argv[argc++] = streq(word, "_") ? word + 1 : word;
	argv[argc] = NULL;
	return invocation_parse(table, argc, argv, inv, err);
}

static void refused(const char *line, const char *message)
{
	_cleanup_invocation_ struct invocation inv = {};
	_cleanup_error_ struct error err = {};

	ASSERT_EQ(parse(line, &inv, &err), -EINVAL);
	ASSERT_EQ(error_exit_status(&err), 64);
	ASSERT_CONTAINS(err.msg, message);
	ASSERT(err.hint);
}

TEST(options_stand_anywhere)
{
	_cleanup_invocation_ struct invocation inv = {};
	const struct options *o;

	ASSERT_OK(parse("free one -a two --name=x --timeout 90", &inv, NULL));
	o = inv.options;
	ASSERT(inv.command == &free_command);
	ASSERT(o->all && !o->verbose);
	ASSERT_STREQ(o->name, "x");
	ASSERT_EQ(o->timeout_ns, 90 * NS_PER_SEC);
	ASSERT_EQ(inv.n_operands, 2);
	ASSERT_STREQ(inv.operands[1], "two");
}

TEST(letters_cluster_and_carry_values)
{
	_cleanup_invocation_ struct invocation inv = {};
	const struct options *o;

	ASSERT_OK(parse("free -avnjoe x -e A=1 -eB=2", &inv, NULL));
	o = inv.options;
	ASSERT(o->all && o->verbose);
	ASSERT_STREQ(o->name, "joe");
	ASSERT_EQ(o->env.n, 2);
	ASSERT_STREQ(o->env.items[0], "A=1");
	ASSERT_STREQ(o->env.items[1], "B=2");
}

TEST(values_are_checked)
{
	_cleanup_invocation_ struct invocation inv = {};
	const struct options *o;

	ASSERT_OK(parse("free x --format json --size 2 --timeout=500ms", &inv, NULL));
	o = inv.options;
	ASSERT_EQ(o->format, 1);
	ASSERT_EQ(o->size_bytes, 2 << 20);
	ASSERT_EQ(o->timeout_ns, 500 * NS_PER_MS);
	refused("free x --format yaml", "--format takes table|json, not 'yaml'");
	refused("free x --format tablet", "--format takes");
	refused("free x --size lots", "--size takes a size");
	refused("free x --timeout -1", "--timeout takes a time");
}

TEST(empty_values_are_values)
{
	_cleanup_invocation_ struct invocation inv = {};

	ASSERT_OK(parse("free --name= _", &inv, NULL));
	ASSERT_STREQ(((const struct options *)inv.options)->name, "");
	ASSERT_EQ(inv.n_operands, 1);
	ASSERT_STREQ(inv.operands[0], "");
}

TEST(two_dashes_end_options)
{
	_cleanup_invocation_ struct invocation inv = {};

	ASSERT_OK(parse("free -a -- -v --name", &inv, NULL));
	ASSERT(!((const struct options *)inv.options)->verbose);
	ASSERT_EQ(inv.n_operands, 2);
	ASSERT_STREQ(inv.operands[0], "-v");
}

TEST(a_dash_alone_is_an_operand)
{
	_cleanup_invocation_ struct invocation inv = {};

	ASSERT_OK(parse("free -", &inv, NULL));
	ASSERT_STREQ(inv.operands[0], "-");
}

TEST(options_end_after_the_first_operand_where_the_rest_is_a_command)
{
	_cleanup_invocation_ struct invocation inv = {};

	ASSERT_OK(parse("strict -a image ls -v --name x --help", &inv, NULL));
	ASSERT(((const struct options *)inv.options)->all);
	ASSERT(!((const struct options *)inv.options)->verbose);
	ASSERT(!inv.help);
	ASSERT_EQ(inv.n_operands, 6);
	ASSERT_STREQ(inv.operands[2], "-v");
}

TEST(defaults_apply_until_given)
{
	_cleanup_invocation_ struct invocation a = {}, b = {};

	ASSERT_OK(parse("defaults", &a, NULL));
	ASSERT_EQ(((const struct options *)a.options)->timeout_ns, 7);
	ASSERT_EQ(((const struct options *)a.options)->format, 1);
	ASSERT_OK(parse("defaults --timeout 0 --format table", &b, NULL));
	ASSERT_EQ(((const struct options *)b.options)->timeout_ns, 0);
	ASSERT_EQ(((const struct options *)b.options)->format, 0);
}

TEST(help_is_understood_everywhere_and_checks_nothing)
{
	static const char *const lines[] = { "free --help", "free -h", "free --all --help x y z z", "group free --help",
					     "none -h" };

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		_cleanup_invocation_ struct invocation inv = {};

		ASSERT_OK(parse(lines[i], &inv, NULL));
		ASSERT(inv.help && inv.command);
	}
	{
		_cleanup_invocation_ struct invocation inv = {};

		ASSERT_OK(parse("group --help", &inv, NULL));
		ASSERT(inv.help && inv.command == &group_command);
	}
	{
		_cleanup_invocation_ struct invocation inv = {};

		ASSERT_OK(parse("--help", &inv, NULL));
		ASSERT(inv.help && !inv.command);
	}
}

TEST(mistakes_are_named)
{
	refused("", "no command");
	refused("nothing", "unknown command 'nothing'");
	refused("--nothing", "unknown option '--nothing'");
	refused("-x", "unknown option '-x'");
	refused("group -x", "unknown option '-x'");
	refused("free --nope x", "unknown option '--nope'");
	refused("free -z x", "unknown option '-z'");
	refused("free --all=yes x", "--all takes no value");
	refused("free x --name", "--name needs a value (NAME)");
	refused("free x -n", "-n needs a value (NAME)");
	refused("free", "too few arguments");
	refused("free 1 2 3 4", "unexpected argument '4'");
	refused("none x", "unexpected argument 'x'");
	refused("group", "a command of it is missing");
	refused("group nope", "unknown command 'group nope'");
}

TEST(the_nearest_name_is_suggested)
{
	_cleanup_invocation_ struct invocation a = {}, b = {};
	_cleanup_error_ struct error ea = {}, eb = {};

	ASSERT_STREQ(command_nearest(table, "fere"), "free");
	ASSERT_STREQ(command_nearest(table, "strcit"), "strict");
	ASSERT_STREQ(command_nearest(table, "def"), "defaults");
	ASSERT(!command_nearest(table, "x"));
	ASSERT(!command_nearest(table, "completely-different-and-very-long-indeed-so-it-is-none"));
	ASSERT(!command_nearest(table, "secre"));
	ASSERT_EQ(parse("group fre", &a, &ea), -EINVAL);
	ASSERT_STREQ(ea.hint, "did you mean 'skerry group free'?");
	ASSERT_EQ(parse("free --timeuot 3", &b, &eb), -EINVAL);
	ASSERT_CONTAINS(eb.msg, "did you mean '--timeout'?");
}

/* By the spelling alone it would be kill, pause, rm, … */
TEST(habits_lead_to_the_command_that_does_it)
{
	static const struct {
		const char *word, *group, *command;
	} cases[] = {
		{ "pull", "image", "pull" },       { "push", "image", "push" },     { "build", "image", "build" },
		{ "rmi", "image", "delete" },      { "images", "image", "list" },   { "save", "image", "save" },
		{ "load", "image", "import" },     { "import", "image", "import" }, { "tag", "image", "tag" },
		{ "history", "image", "history" }, { "info", NULL, "doctor" },      { "top", NULL, "stats" },
		{ "attach", NULL, "console" },     { "unpause", NULL, "resume" },   { "prune", "system", "prune" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *hint =
			xasprintf("did you mean 'skerry %s%s%s'?", cases[i].group ? cases[i].group : "",
				  cases[i].group ? " " : "", cases[i].command);
		char *argv[] = { (char *)(uintptr_t)cases[i].word, (char *)(uintptr_t) "x" };
		const struct command *group = cases[i].group ? command_find(commands, cases[i].group) : NULL;
		_cleanup_invocation_ struct invocation inv = {};
		_cleanup_error_ struct error e = {};

		ASSERT_EQ(invocation_parse(commands, 2, argv, &inv, &e), -EINVAL);
		ASSERT_STREQ(e.hint, hint);
		ASSERT(command_find(group ? group->subcommands : commands, cases[i].command));
	}
	{
		char *argv[] = { (char *)(uintptr_t) "ps", (char *)(uintptr_t) "-a" };
		_cleanup_invocation_ struct invocation inv = {};

		ASSERT_OK(invocation_parse(commands, 2, argv, &inv, NULL));
	}
}

TEST(aliases_are_commands)
{
	_cleanup_invocation_ struct invocation inv = {};

	ASSERT_OK(parse("fr x", &inv, NULL));
	ASSERT(inv.command == &free_command);
	ASSERT(command_find(commands, "rm") == command_find(commands, "delete"));
	ASSERT(command_find(commands, "ps") == command_find(commands, "list"));
	ASSERT(command_find(commands, "ls") == command_find(commands, "list"));
}
