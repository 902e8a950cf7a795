/* Shared inside the room: the half of snapshots that needs the disk alone. */
#pragma once

#include "base/error.h"
#include "store/name.h"
#include "store/store.h"

#define SNAPSHOT_DIRECTORY "snapshots" /* of machines/NAME */
#define SNAPSHOT_WISH      "revert.json"
/* In the disk they have names that cannot be the numbers which QEMU gives them, and which it takes for names too. */
#define SNAPSHOT_TAG "skerry-"

/* `qemu-img snapshot OPTION NAME`: -c makes it, -d removes it, -a goes back to it. The machine does not run. */
int snapshot_disk_do(const struct store *s, const struct name *machine, const char *option, const char *name,
		     struct error *err);
/* Is it in the disk? 1 or 0; also of a machine that runs. */
int snapshot_disk_has(const struct store *s, const struct name *machine, const char *name, struct error *err);
/* The wish of snapshot_revert_pending(). */
int snapshot_wish(int machine_fd, const struct name *name, struct error *err);
/* Takes a wish for @name off the record, if there is one: no start could fulfil it any more. The caller holds the lock of the machine's snapshots. */
int snapshot_unwish(int machine_fd, const struct name *name, struct error *err);
