#include "cli/command.h"

#include <errno.h>
#include <string.h>

#include "base/parse.h"

enum { NEAR_ENOUGH = 2, NAME_LONGEST = 32 };

const struct command *command_find(const struct command *const *table, const char *name)
{
	for (; *table; table++) {
		if (streq((*table)->name, name))
			return *table;
		for (size_t i = 0; i < ALIASES_MAX && (*table)->aliases[i]; i++)
			if (streq((*table)->aliases[i], name))
				return *table;
	}
	return NULL;
}

/* Edits that turn @a into @b, two neighbours that changed places counting as one; NAME_LONGEST when either is too long to be a name. */
static size_t edit_distance(const char *a, const char *b)
{
	size_t rows[3][NAME_LONGEST + 1];
	size_t la = strlen(a), lb = strlen(b);

	if (la > NAME_LONGEST || lb > NAME_LONGEST)
		return NAME_LONGEST;
	for (size_t j = 0; j <= lb; j++)
		rows[0][j] = j;
	for (size_t i = 1; i <= la; i++) {
		size_t *row = rows[i % 3], *above = rows[(i - 1) % 3], *above2 = rows[(i + 1) % 3];

		row[0] = i;
		for (size_t j = 1; j <= lb; j++) {
			size_t d = above[j - 1] + (a[i - 1] != b[j - 1]);

			if (above[j] + 1 < d)
				d = above[j] + 1;
			if (row[j - 1] + 1 < d)
				d = row[j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && above2[j - 2] + 1 < d)
				d = above2[j - 2] + 1;
			row[j] = d;
		}
	}
	return rows[la % 3][lb];
}

static void consider(const char *candidate, const char *name, const char **best, size_t *best_distance)
{
	size_t d = edit_distance(candidate, name);

	if (strlen(name) >= 3 && after_prefix(candidate, name))
		d = 1;
	/* "x" is not a misspelt "cp": at least half of the name must be right. */
	if (d < *best_distance && d * 2 <= strlen(candidate)) {
		*best = candidate;
		*best_distance = d;
	}
}

const char *command_nearest(const struct command *const *table, const char *name)
{
	const char *best = NULL;
	size_t distance = NEAR_ENOUGH + 1;

	for (; *table; table++) {
		if ((*table)->hidden)
			continue;
		consider((*table)->name, name, &best, &distance);
		for (size_t i = 0; i < ALIASES_MAX && (*table)->aliases[i]; i++)
			consider((*table)->aliases[i], name, &best, &distance);
	}
	return best;
}

static const char *option_nearest(const struct command *c, const char *name)
{
	const char *best = NULL;
	size_t distance = NEAR_ENOUGH + 1;

	for (size_t i = 0; i < c->n_options; i++)
		consider(c->options[i].name, name, &best, &distance);
	consider("help", name, &best, &distance);
	return best;
}

const char *command_of_docker(const char *name)
{
	static const struct {
		const char *theirs, *ours;
	} words[] = {
		{ "attach", "console" },    { "build", "image build" },   { "history", "image history" },
		{ "images", "image list" }, { "import", "image import" }, { "info", "doctor" },
		{ "load", "image import" }, { "prune", "system prune" },  { "pull", "image pull" },
		{ "push", "image push" },   { "rmi", "image delete" },    { "save", "image save" },
		{ "tag", "image tag" },     { "top", "stats" },           { "unpause", "resume" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (streq(words[i].theirs, name))
			return words[i].ours;
	return NULL;
}

const struct option *option_find(const struct command *c, const char *name)
{
	for (size_t i = 0; i < c->n_options; i++)
		if (streq(c->options[i].name, name))
			return &c->options[i];
	return NULL;
}

char *command_full_name(const struct command *group, const struct command *c)
{
	return group ? xasprintf("%s %s", group->name, c->name) : xstrdup(c->name);
}

static int usage_error(const struct invocation *inv, struct error *err, const char *fmt, ...) _printf_(3, 4);
static int usage_error(const struct invocation *inv, struct error *err, const char *fmt, ...)
{
	_cleanup_free_ char *full = command_full_name(inv->group, inv->command), *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = xvasprintf(fmt, ap);
	va_end(ap);
	error_set_kind(err, ERROR_USAGE, EINVAL, "%s: %s", full, text);
	return error_hint(err, "skerry %s --help", full);
}

static int choice_index(const char *words, const char *value)
{
	size_t n = strlen(value);

	for (int i = 0; words; i++) {
		const char *end = strchrnul(words, '|');

		if ((size_t)(end - words) == n && memcmp(words, value, n) == 0)
			return i;
		words = *end ? end + 1 : NULL;
	}
	return -EINVAL;
}

static int option_store(const struct invocation *inv, const struct option *o, char *value, struct error *err)
{
	void *target = (char *)inv->options + o->offset;
	int r = 0;

	switch (o->type) {
	case OPTION_FLAG: *(bool *)target = true; return 0;
	case OPTION_TEXT: *(const char **)target = value; return 0;
	case OPTION_LIST: strv_add(target, value); return 0;
	case OPTION_CHOICE:
		r = choice_index(o->words, value);
		if (r < 0)
			return usage_error(inv, err, "--%s takes %s, not '%s'", o->name, o->words, value);
		*(int *)target = r;
		return 0;
	case OPTION_DURATION:
		r = parse_duration_ns(value, target);
		if (r < 0)
			return usage_error(inv, err, "--%s takes a time such as 90, 500ms or 2m, not '%s'", o->name,
					   value);
		return 0;
	case OPTION_BYTES:
		r = parse_bytes(value, UINT64_C(1) << 20, target);
		if (r < 0)
			return usage_error(inv, err, "--%s takes a size such as 512M or 2G, not '%s'", o->name, value);
		return 0;
	}
	return -EINVAL;
}

/* "--name", "--name=value", "--name value". @ret_taken: arguments used. */
static int parse_long(struct invocation *inv, char **argv, int left, int *ret_taken, struct error *err)
{
	char *text = argv[0] + 2, *equals = strchr(text, '=');
	_cleanup_free_ char *name = equals ? xstrndup(text, (size_t)(equals - text)) : xstrdup(text);
	const struct option *o = option_find(inv->command, name);

	*ret_taken = 1;
	if (!o && streq(name, "help") && !equals) {
		inv->help = true;
		return 0;
	}
	if (!o) {
		const char *near = option_nearest(inv->command, name);
		int r = usage_error(inv, err, "unknown option '--%s'%s%s%s", name, near ? ", did you mean '--" : "",
				    near ? near : "", near ? "'?" : "");

		return r;
	}
	if (o->type == OPTION_FLAG) {
		if (equals)
			return usage_error(inv, err, "--%s takes no value", name);
		return option_store(inv, o, NULL, err);
	}
	if (equals)
		return option_store(inv, o, equals + 1, err);
	if (left < 2)
		return usage_error(inv, err, "--%s needs a value (%s)", name, o->value);
	*ret_taken = 2;
	return option_store(inv, o, argv[1], err);
}

static int parse_letters(struct invocation *inv, char **argv, int left, int *ret_taken, struct error *err)
{
	*ret_taken = 1;
	for (char *p = argv[0] + 1; *p; p++) {
		const struct option *o = NULL;

		for (size_t i = 0; i < inv->command->n_options; i++)
			if (inv->command->options[i].letter == *p)
				o = &inv->command->options[i];
		if (!o && *p == 'h') {
			inv->help = true;
			continue;
		}
		if (!o)
			return usage_error(inv, err, "unknown option '-%c'", *p);
		if (o->type == OPTION_FLAG) {
			option_store(inv, o, NULL, err);
			continue;
		}
		if (p[1])
			return option_store(inv, o, p + 1, err);
		if (left < 2)
			return usage_error(inv, err, "-%c needs a value (%s)", *p, o->value);
		*ret_taken = 2;
		return option_store(inv, o, argv[1], err);
	}
	return 0;
}

static int parse_arguments(struct invocation *inv, int argc, char **argv, struct error *err)
{
	const struct command *c = inv->command;
	bool options = true;

	inv->operands = xnew_n(char *, (size_t)argc + 1);
	for (int i = 0; i < argc;) {
		int r = 0, taken = 1;

		if (options && streq(argv[i], "--")) {
			options = false;
		} else if (options && argv[i][0] == '-' && argv[i][1] == '-') {
			r = parse_long(inv, argv + i, argc - i, &taken, err);
		} else if (options && argv[i][0] == '-' && argv[i][1]) {
			r = parse_letters(inv, argv + i, argc - i, &taken, err);
		} else {
			inv->operands[inv->n_operands++] = argv[i];
			if (c->options_end_after && inv->n_operands == c->options_end_after)
				options = false;
		}
		if (r < 0 || inv->help)
			return r;
		i += taken;
	}
	if (inv->n_operands < c->min_operands)
		return usage_error(inv, err, "too few arguments, it takes %s", c->operands);
	if (inv->n_operands > c->max_operands) {
		if (!c->max_operands)
			return usage_error(inv, err, "unexpected argument '%s'", inv->operands[0]);
		return usage_error(inv, err, "unexpected argument '%s', it takes %s", inv->operands[c->max_operands],
				   c->operands);
	}
	return 0;
}

static int unknown_command(const struct command *const *table, const char *name, const struct command *group,
			   struct error *err)
{
	const char *near = group ? NULL : command_of_docker(name);
	const char *prefix = group ? group->name : "", *space = group ? " " : "";

	if (!near)
		near = command_nearest(table, name);
	if (name[0] == '-')
		error_set_kind(err, ERROR_USAGE, EINVAL, "unknown option '%s' where a command belongs", name);
	else
		error_set_kind(err, ERROR_USAGE, EINVAL, "unknown command '%s%s%s'", prefix, space, name);
	if (near)
		return error_hint(err, "did you mean 'skerry %s%s%s'?", prefix, space, near);
	return error_hint(err, "skerry %s%s--help", prefix, space);
}

int invocation_parse(const struct command *const *table, int argc, char **argv, struct invocation *ret,
		     struct error *err)
{
	*ret = (struct invocation){};
	if (argc < 1) {
		error_set_kind(err, ERROR_USAGE, EINVAL, "no command");
		return error_hint(err, "skerry --help");
	}
	if (streq(argv[0], "--help") || streq(argv[0], "-h")) {
		ret->help = true;
		return 0;
	}
	if (streq(argv[0], "--version") || streq(argv[0], "-V"))
		ret->command = command_find(table, "version");
	else
		ret->command = command_find(table, argv[0]);
	if (!ret->command)
		return unknown_command(table, argv[0], NULL, err);
	argc--;
	argv++;
	if (ret->command->subcommands) {
		const struct command *group = ret->command;

		if (argc < 1)
			return usage_error(ret, err, "a command of it is missing");
		if (streq(argv[0], "--help") || streq(argv[0], "-h")) {
			ret->help = true;
			return 0;
		}
		ret->command = command_find(group->subcommands, argv[0]);
		if (!ret->command)
			return unknown_command(group->subcommands, argv[0], group, err);
		ret->group = group;
		argc--;
		argv++;
	}
	ret->options = xcalloc(1, ret->command->options_size + 1);
	if (ret->command->defaults)
		memcpy(ret->options, ret->command->defaults, ret->command->options_size);
	return parse_arguments(ret, argc, argv, err);
}

void invocation_done(struct invocation *inv)
{
	for (size_t i = 0; inv->options && i < inv->command->n_options; i++)
		if (inv->command->options[i].type == OPTION_LIST)
			strv_done((struct strv *)(void *)((char *)inv->options + inv->command->options[i].offset));
	free(inv->options);
	free(inv->operands);
	*inv = (struct invocation){};
}
