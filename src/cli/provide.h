/* Things that are made at first use by the heavy program, skerry-image:
 *   skerry-image build-image RECIPE [--name NAME[:TAG]] [--packages A,B] [--disk BYTES]
 *   skerry-image pull-image REFERENCE
 *   skerry-image import-kernel PATH|debian [--name NAME] [--replace]
 *   skerry-image build-kernel [--name NAME] [--replace]
 * It reports on standard error as skerry does, exit statuses included, and writes one result line to standard output. */
#pragma once

#include "base/error.h"
#include "store/store.h"

/* Runs skerry-image with @args (NULL-terminated) on this terminal, its result line on @out_fd (-1 = nowhere). Returns its exit status, or <0.
 * What asks us to end (SIGINT, SIGTERM, SIGHUP) ends it, and is then told in one line. */
int provide_run(const char *const *args, int out_fd, struct error *err);
/* The same with standard input from @in_fd (-1 = none). */
int provide_run_from(const char *const *args, int in_fd, int out_fd, struct error *err);
enum provide_pull { PROVIDE_MISSING, PROVIDE_ALWAYS, PROVIDE_NEVER };
/* When the image is missing: a recipe of that name is built, with one line on standard error; any other is pulled from its registry. ALWAYS pulls
 * also what is there, unless a recipe made it. Returns 0, <0, or the exit status of the program that has told by itself what is wrong. */
int provide_image(const struct store *s, const char *image, enum provide_pull pull, struct error *err);
/* When there is no kernel at all, imports Debian's, with one line on standard error. @name: the one asked for, NULL = any. */
int provide_kernel(const struct store *s, const char *name, struct error *err);
