/* One time type: unsigned nanoseconds. */
#pragma once

#include <stdint.h>

#define NS_PER_SEC UINT64_C(1000000000)
#define NS_PER_MS  UINT64_C(1000000)

uint64_t clock_monotonic_ns(void);
uint64_t clock_realtime_ns(void);
/* Milliseconds for poll(2) until @deadline_ns (CLOCK_MONOTONIC; UINT64_MAX = never gives -1), rounded up, 0 when past. */
int clock_poll_timeout(uint64_t deadline_ns);
/* RFC 3339 in UTC with seconds, "2026-01-31T12:00:00Z"; @out needs 21 bytes. */
const char *clock_format_rfc3339(uint64_t realtime_ns, char *out, unsigned n);
