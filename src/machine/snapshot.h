/* Snapshots of a machine's disk: qcow2's own, inside of the delta (docs/interop/qcow2.txt of QEMU), so that one takes as much room as what has changed
 * since. Beside it, machines/NAME/snapshots/SNAPSHOT.json says that it is there; the record is written before the snapshot is begun, and what
 * it calls unfinished is removed by whoever comes next. Going back is a wish on record (machines/NAME/revert.json), fulfilled before the engine
 * starts, however often that takes. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "store/name.h"
#include "store/store.h"

struct snapshot {
	char *name;
	uint64_t created_ns; /* CLOCK_REALTIME */
	int stage;           /* enum snapshot_stage */
	bool running;        /* the machine was */
	bool frozen;         /* and its guest had written out everything; else the disk is as after a power failure */
};
enum snapshot_stage { SNAPSHOT_SAVING, SNAPSHOT_SAVED, SNAPSHOT_DELETING };
void snapshot_done(struct snapshot *s);

/* As names of machines. A machine that runs goes on running. *ret_frozen (may be NULL) as above. Errors: kind EXISTS. */
int snapshot_save(const struct store *s, const struct name *machine, const struct name *name, bool *ret_frozen,
		  struct error *err);
/* Those that can be gone back to, the oldest first. Owned by the caller. */
int snapshot_list(const struct store *s, const struct name *machine, struct snapshot **ret, size_t *ret_n,
		  struct error *err);
void snapshot_list_free(struct snapshot *list, size_t n);
/* Errors: kind NOT_FOUND, with those that there are. */
int snapshot_delete(const struct store *s, const struct name *machine, const struct name *name, struct error *err);
/* What the disk has become since is lost. A machine that runs is ended like in a power failure and started again. */
int snapshot_restore(const struct store *s, const struct name *machine, const struct name *name, struct error *err);

/* For the monitor, which holds the machine's lock: fulfils the wish, if there is one, and takes it off the record. */
int snapshot_revert_pending(const struct store *s, const struct name *machine, int machine_fd, struct error *err);
