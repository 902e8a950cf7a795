/* The scripts that teach a shell the table of commands. */
#pragma once

#include "base/buf.h"
#include "cli/command.h"

enum completion_shell { COMPLETION_BASH, COMPLETION_ZSH, COMPLETION_FISH };
#define COMPLETION_SHELLS "bash|zsh|fish"

void completion_script(const struct command *const *table, enum completion_shell shell, struct buf *out);
