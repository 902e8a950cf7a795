/* The disk that the container's machine is a delta over; or the installer that it is installed from. */
#pragma once

#include "docker/settings.h"
#include "store/store.h"

struct base {
	char *path;   /* absolute */
	char *digest; /* of the image that it is in the store: "sha256:…"; NULL for an installer */
	uint64_t virtual_bytes;
	bool file_system; /* booted by a kernel of ours; else it boots by firmware */
	bool installer;   /* an ISO: it goes into the CD drive of a machine whose own disk is empty at first */
	/* What tells cheaply that it is the same file as last time. */
	uint64_t bytes, changed_ns, inode;
	uint64_t status_ns; /* of the inode: no program sets it back, as some do with the other */
};
void base_done(struct base *b);
#define _cleanup_base_ _cleanup_(base_done)

/* Finds it (settings: BOOT; else the one in /image or /disk), makes it known to the store, and remembers its digest, so that a large one is read
 * once. What BOOT names by its address is fetched first, once, into the volume. Errors: -ENODATA (kind CONFIG) when nothing was named and there
 * is none; kind CONFIG for more than one, naming where it was looked for; kind DATA for a file that is no disk. */
int base_find(const struct store *s, const struct settings *settings, struct base *ret, struct error *err);
