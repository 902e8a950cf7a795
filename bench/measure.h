/* Whole commands, timed from outside. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { SAMPLES_MAX = 100 };

struct samples {
	uint64_t v[SAMPLES_MAX];
	size_t n;
};
void samples_add(struct samples *s, uint64_t v);
/* Sorts. Zero samples give 0. */
uint64_t samples_median(struct samples *s);
uint64_t samples_min(const struct samples *s);
uint64_t samples_max(const struct samples *s);

/* Runs argv (NULL-terminated) to its end, output thrown away; wall time in *ret_ns. Errors: a status other than 0, with the last line of its
 * standard error; ten minutes are over. */
int measure_command(const char *const *argv, uint64_t *ret_ns, struct error *err);
/* The same, and the most memory that one of its processes had at a time. */
int measure_peak(const char *const *argv, uint64_t *ret_ns, uint64_t *ret_bytes, struct error *err);

/* A program that serves while it is measured. */
struct server {
	int pid, pidfd;
	char *scratch; /* owned; directory of its own, removed at the end */
};
/* Starts argv; waits until the unix socket @socket accepts a connection, 20 s at most. */
int server_start(struct server *s, const char *const *argv, const char *socket, struct error *err);
void server_stop(struct server *s);
/* A directory that was made for measuring, with all that is in it. An absolute path. */
void scratch_remove(const char *path);
