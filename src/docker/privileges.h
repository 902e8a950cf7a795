/* What the container lets its first process do. */
#pragma once

#include <stdbool.h>

#include "base/memory.h"

/* Capability @number (CAP_…, linux/capability.h) is in force for this process. */
bool privileges_has(int number);
/* Appends a line for what is missing to run a machine at all, with what would help. */
void privileges_check(struct strv *problems);
