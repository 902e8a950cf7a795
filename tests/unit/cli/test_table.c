/* Rules that the table of commands keeps, whoever adds to it. */
#include <ctype.h>

#include "cli/commands.h"
#include "cli/completion.h"
#include "cli/help.h"
#include "test.h"

static void each(void (*fn)(const struct command *group, const struct command *c))
{
	for (const struct command *const *c = commands; *c; c++) {
		fn(NULL, *c);
		for (const struct command *const *s = (*c)->subcommands; s && *s; s++)
			fn(*c, *s);
	}
}

static bool plain_word(const char *s)
{
	for (; *s; s++)
		if (!islower((unsigned char)*s) && !isdigit((unsigned char)*s) && *s != '-' && *s != '_')
			return false;
	return true;
}

static void check_command(const struct command *group, const struct command *c)
{
	_cleanup_free_ char *name = command_full_name(group, c);

	printf("# %s\n", name);
	ASSERT(plain_word(c->name));
	ASSERT(c->operands && c->summary);
	ASSERT(isupper((unsigned char)c->summary[0]));
	ASSERT(c->summary[strlen(c->summary) - 1] != '.');
	ASSERT(c->subcommands ? !c->run : !!c->run);
	ASSERT(c->max_operands >= c->min_operands);
	ASSERT(!c->n_options || c->options_size);
	if (c->hidden)
		return;
	/* An example shows how the command is used: it names it. */
	ASSERT(c->examples[0].command);
	for (size_t i = 0; i < EXAMPLES_MAX && c->examples[i].command; i++) {
		_cleanup_free_ char *call = xasprintf("skerry %s", name);

		ASSERT(c->examples[i].what && *c->examples[i].what);
		if (!c->subcommands)
			ASSERT_CONTAINS(c->examples[i].command, call);
	}
}

TEST(every_command_has_a_summary_and_an_example)
{
	each(check_command);
}

static void check_options(const struct command *group, const struct command *c)
{
	_cleanup_free_ char *name = command_full_name(group, c);

	for (size_t i = 0; i < c->n_options; i++) {
		const struct option *o = &c->options[i];

		printf("# %s --%s\n", name, o->name);
		ASSERT(plain_word(o->name));
		ASSERT(o->help && *o->help);
		ASSERT(o->help[strlen(o->help) - 1] != '.');
		ASSERT_EQ(!o->value, o->type == OPTION_FLAG);
		ASSERT(o->type != OPTION_CHOICE || o->words);
		ASSERT(o->offset < c->options_size);
		ASSERT(!streq(o->name, "help") && o->letter != 'h');
		for (size_t k = 0; k < i; k++) {
			ASSERT(!streq(c->options[k].name, o->name));
			ASSERT(!o->letter || c->options[k].letter != o->letter);
		}
	}
}

TEST(options_are_described_and_unique)
{
	each(check_options);
}

static void check_help(const struct command *group, const struct command *c)
{
	_cleanup_buf_ struct buf out = {};

	help_command(group, c, &out);
	ASSERT_CONTAINS(out.p, c->summary);
	for (size_t i = 0; i < c->n_options; i++)
		ASSERT_CONTAINS(out.p, c->options[i].name);
	if (!c->hidden)
		ASSERT_CONTAINS(out.p, c->examples[0].command);
}

TEST(help_shows_every_option_and_an_example)
{
	each(check_help);
}

static void check_manual(const struct command *group, const struct command *c)
{
	_cleanup_buf_ struct buf out = {};

	if (c->hidden)
		return;
	help_manual(commands, group ? group : c, NULL, &out);
	for (size_t i = 0; i < c->n_options; i++) {
		_cleanup_free_ char *option = xasprintf("*--%s*", c->options[i].name);

		ASSERT_CONTAINS(out.p, option);
	}
	if (!group) {
		/* The list of pages is meson's: a command without a page is a mistake there. */
		_cleanup_free_ char *page = xasprintf("%s/skerry-%s.1", getenv("SKERRY_TEST_MANUAL"), c->name);
		FILE *f = fopen(page, "re");

		printf("# %s\n", page);
		ASSERT(f);
		fclose(f);
	}
}

TEST(the_manual_has_every_command_and_option)
{
	ASSERT(getenv("SKERRY_TEST_MANUAL"));
	each(check_manual);
}

TEST(the_overview_lists_what_is_not_hidden)
{
	_cleanup_buf_ struct buf out = {};

	help_overview(commands, &out);
	for (const struct command *const *c = commands; *c; c++) {
		_cleanup_free_ char *line = xasprintf("\n  %s ", (*c)->name);

		ASSERT_EQ(strstr(out.p, line) != NULL, !(*c)->hidden);
	}
}

TEST(the_dump_is_the_table)
{
	_cleanup_json_ struct json *j = help_dump(commands);
	struct json *list = json_get(j, "commands");
	size_t n = 0;

	for (const struct command *const *c = commands; *c; c++, n++) {
		struct json *e = json_at(list, n);

		ASSERT_STREQ(json_string(json_get(e, "name")), (*c)->name);
		ASSERT_EQ(json_length(json_get(e, "options")), (*c)->n_options);
	}
	ASSERT_EQ(json_length(list), n);
}
