/* The table of commands. It is the one truth: the parser, --help, the manual pages, the shells' completion and the JSON dump all read it.
 *
 * A command lives in the file of its family (cmd_*.c): a struct for its options, the options' table, the function, and the entry. Adding
 * one is that entry and its name in commands.c. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"

enum option_type {
	OPTION_FLAG,     /* bool */
	OPTION_TEXT,     /* const char *, borrowed from argv */
	OPTION_LIST,     /* struct strv: may be given again */
	OPTION_CHOICE,   /* int: index into .words */
	OPTION_DURATION, /* uint64_t nanoseconds */
	OPTION_BYTES,    /* uint64_t; plain numbers are MiB */
};

struct option {
	char letter; /* 0 = none */
	const char *name;
	const char *value; /* placeholder in the help; NULL for flags */
	enum option_type type;
	size_t offset;
	const char *help;     /* one line, no full stop */
	const char *words;    /* CHOICE: "table|json"; also what a shell offers for TEXT */
	const char *complete; /* kind of value for the shell: "machine", "image", "kernel", "file", "directory" */
};

#define FLAG(l, n, S, member, h)                                                                                   \
	{                                                                                                          \
		.letter = (l), .name = (n), .type = OPTION_FLAG, .offset = offsetof(struct S, member), .help = (h) \
	}
#define VALUE(t, l, n, v, S, member, h, ...)                                                                 \
	{                                                                                                    \
		.letter = (l), .name = (n), .value = (v), .type = (t), .offset = offsetof(struct S, member), \
		.help = (h), __VA_ARGS__                                                                     \
	}
#define TEXT(...)     VALUE(OPTION_TEXT, __VA_ARGS__)
#define LIST(...)     VALUE(OPTION_LIST, __VA_ARGS__)
#define CHOICE(...)   VALUE(OPTION_CHOICE, __VA_ARGS__)
#define DURATION(...) VALUE(OPTION_DURATION, __VA_ARGS__)
#define BYTES(...)    VALUE(OPTION_BYTES, __VA_ARGS__)

#define OPERANDS_ANY SIZE_MAX
#define ALIASES_MAX  3
#define EXAMPLES_MAX 4

struct example {
	const char *command; /* "skerry start web" */
	const char *what;    /* "Start one machine" */
};

struct invocation;

struct command {
	const char *name;
	const char *aliases[ALIASES_MAX];
	const char *operands; /* "NAME..." as shown; "" = none */
	size_t min_operands, max_operands;
	const char *
		complete; /* kinds of the operands, "image" or "machine+" (the last one repeats when it ends with '+') */
	const char *summary;     /* one line, no full stop */
	const char *description; /* a paragraph for --help and the manual page; may be NULL */
	struct example examples[EXAMPLES_MAX];
	const struct option *options;
	size_t n_options;
	size_t options_size;  /* sizeof the options' struct */
	const void *defaults; /* of that struct; NULL = zeros */
	/* After this many operands nothing is an option any more (0 = options may stand anywhere): what follows belongs to somebody else. */
	size_t options_end_after;
	bool own_status; /* gives a guest command's exit status: its own failures are 125 */
	bool hidden;
	/* Returns the exit status, or <0 with @err. */
	int (*run)(const struct invocation *inv, struct error *err);
	const struct command *const *subcommands; /* NULL-terminated; then run and options are unused */
};

struct invocation {
	const struct command *command;
	const struct command *group; /* the command that has it as a subcommand, or NULL */
	void *options;               /* owned: command->options_size bytes */
	char **operands;             /* owned vector, strings borrowed from argv */
	size_t n_operands;
	bool help; /* --help was asked for: nothing else was checked */
};

/* By name or alias; NULL when there is none. */
const struct command *command_find(const struct command *const *table, const char *name);
/* The name in the table that is nearest to @name, or NULL when none is near. */
const char *command_nearest(const struct command *const *table, const char *name);
/* What does here what Docker's command @name does there, by another name ("image pull"); NULL when nothing does. What is only spelled alike may do
 * something else altogether: `pull` is near `kill`. */
const char *command_of_docker(const char *name);
const struct option *option_find(const struct command *c, const char *name);

/* Reads argv after the program's name: command, subcommand, options in any place, "--flag value" and "--flag=value", letters in a cluster
 * ("-it", "-pVALUE"), "--" as the end of options. Errors: kind USAGE with a hint. On error *ret->command tells as far as it is known. */
int invocation_parse(const struct command *const *table, int argc, char **argv, struct invocation *ret,
		     struct error *err);
void invocation_done(struct invocation *inv);
#define _cleanup_invocation_ _cleanup_(invocation_done)

/* "image build" or "start": owned by the caller. */
char *command_full_name(const struct command *group, const struct command *c);
