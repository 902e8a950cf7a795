/* What a starting monitor tells the command that waits for it: one message over a pipe, success or the exact error. */
#pragma once

#include <stdint.h>

#include "base/error.h"

/* @err NULL or num 0 = the machine runs. */
void report_send(int fd, const struct error *err);
/* Errors: the monitor's; -ETIMEDOUT; -ECHILD when the monitor ended without a word. */
int report_receive(int fd, uint64_t deadline_ns, struct error *err);
