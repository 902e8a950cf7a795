/* What the table of commands looks like: to a person (--help), to a program (JSON), to scdoc (manual pages). */
#pragma once

#include "base/buf.h"
#include "cli/command.h"
#include "json/json.h"

/* All commands, by group. */
void help_overview(const struct command *const *table, struct buf *out);
/* One command: usage, options, examples. @group as in struct invocation. */
void help_command(const struct command *group, const struct command *c, struct buf *out);
/* The whole table; owned by the caller. */
struct json *help_dump(const struct command *const *table);
/* The source of a manual page. @fragment: hand-written sections, scdoc text to be put before the examples; may be NULL. @c NULL: skerry(1). */
void help_manual(const struct command *const *table, const struct command *c, const char *fragment, struct buf *out);
