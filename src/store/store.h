/* Where everything lives on disk (design: "On disk"). */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "json/json.h"
#include "store/name.h"

/* Layout below the data directory (SKERRY_HOME, /var/lib/skerry as root, else ${XDG_DATA_HOME:-~/.local/share}/skerry):
 *   images/index.json, images/blobs/sha256/, images/disks/HEX/{disk.raw,meta.json}, HEX-FSTYPE for a
 *   disk of another kind
 *   kernels/NAME/{vmlinux,initrd,modules/,meta.json}
 *   machines/NAME/{machine.json,begun.json,exit.json,lock,system.qcow2,home.qcow2,ssh/}   machines/.lock for names
 * config, cache and run directories follow XDG, or are SKERRY_HOME/{config,cache,run}; SKERRY_RUN_DIR (absolute) overrides the
 * last. All are mode 0700. */
struct store {
	char *home_path, *config_path, *cache_path, *run_path; /* owned, absolute */
	int home_fd, config_fd, cache_fd,
		run_fd; /* owned; directories, created when missing; config, cache: -EBADF where that cannot be */
	int machines_fd, images_fd, kernels_fd; /* owned */
};

/* Opens (and creates) the directories. Errors: kind CANTCREATE or DENIED, naming the directory. */
int store_open(struct store *ret, struct error *err);
void store_done(struct store *s);
#define _cleanup_store_ _cleanup_(store_done)

/* config_fd, for who writes there: why there is none is an error then, as of store_open(). */
int store_config(const struct store *s, struct error *err);

/* Machine directories. open: -ENOENT (kind NOT_FOUND, "no machine named 'x'"). create makes it empty: -EEXIST (kind EXISTS).
 * Both return a directory descriptor. run_dir creates run/NAME when missing. */
int store_machine_open(const struct store *s, const struct name *name, struct error *err);
int store_machine_create(const struct store *s, const struct name *name, struct error *err);
int store_machine_run_dir(const struct store *s, const struct name *name, struct error *err);
/* All machine names, sorted. */
int store_machine_names(const struct store *s, struct strv *ret, struct error *err);
/* The lock of one machine, and that of the name space. Returned descriptors as lock_acquire(). */
int store_machine_lock(const struct store *s, const struct name *name, uint64_t wait_ns, struct error *err);
int store_names_lock(const struct store *s, uint64_t wait_ns, struct error *err);

/* Records: a JSON file with a field table. @tree keeps unknown keys between read and write; *tree may start NULL.
 * read: -ENOENT without a file; -EBADMSG for a damaged one (the message names path and key). limit 4 MiB. */
int record_read(int dirfd, const char *name, const char *what, const struct json_field *fields, void *target,
		struct json **tree, struct error *err);
enum record_flags { RECORD_DURABLE = 1, RECORD_EXCLUSIVE = 2 };
int record_write(int dirfd, const char *name, const char *what, const struct json_field *fields, const void *source,
		 struct json **tree, unsigned flags, struct error *err);
