/* When and how long to wait before something that failed is tried again: doubled pauses with jitter, or what the other side asks for. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct retry {
	unsigned failures; /* in a row */
};

/* Statuses that may pass by themselves. */
bool retry_is_transient(long status);
/* Retry-After (RFC 9110, 10.2.3): seconds, or a date. Returns the span from @now_ns (CLOCK_REALTIME) on, or UINT64_MAX for what is neither. */
uint64_t retry_after_parse(const char *value, uint64_t now_ns);
/* Counts a failure. Returns true and how long to wait, or false when it is enough (or when @after_ns, what was asked for, UINT64_MAX = nothing, is
 * longer than anybody would wait). */
bool retry_again(struct retry *r, uint64_t after_ns, uint64_t *ret_wait_ns);
