/* What is really allocated on disk: a file that has several names counts once, a hole not at all. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct usage_seen {
	dev_t dev;
	ino_t ino;
};

struct usage {
	struct usage_seen *seen; /* owned; files with several names that were counted, a hash table */
	size_t n, slots;
};
void usage_done(struct usage *u);

/* Bytes that @name below @dirfd takes, with all below it; what this @u has counted before adds nothing. What cannot be read counts as nothing. Symbolic
 * links are not followed. */
uint64_t usage_add(struct usage *u, int dirfd, const char *name);
