/* The verbs of skerry-image, one file for each family. The interface between skerry, which parses its users' command lines, and this program
 * is small and may change. A verb writes one result line to standard output; what is for people goes to standard error. */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "store/store.h"

struct verb {
	const char *name;
	const char *usage;
	bool without_store; /* @s is NULL */
	/* @argv[0] is the verb; optind is 1, so that getopt_long(3) can start. Errors: kind USAGE for a wrong command line. */
	int (*run)(const struct store *s, int argc, char **argv, struct error *err);
};

extern const struct verb image_adopt_verbs[];    /* image_adopt.c: adopt-disk */
extern const struct verb image_build_verbs[];    /* image_build.c: list-recipes, build-image */
extern const struct verb image_commit_verbs[];   /* image_commit.c: commit-disk */
extern const struct verb image_fetch_verbs[];    /* image_fetch.c: fetch-disk */
extern const struct verb image_firmware_verbs[]; /* image_firmware.c: write-seed, write-answers, seal-image */
extern const struct verb image_import_verbs[];   /* image_import.c: import-image, save-image, unpack-disk */
extern const struct verb image_kernel_verbs[];   /* image_kernel.c: build-kernel, import-kernel */
extern const struct verb image_registry_verbs[]; /* image_registry.c: login, logout, pull-image, push-image */

/* A wrong command line. */
int verb_usage(struct error *err, const char *what);
/* Standard error when that is a terminal, else -1. */
int verb_progress_fd(void);
