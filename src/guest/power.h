/* The end of a guest: asking the image's own init for it, seeing it come, and doing it as PID 1. */
#pragma once

#include <stdbool.h>

#include "base/loop.h"

/* Tells PID 1, whatever it is, to shut down: systemd by its signals, others by their poweroff(8) or reboot(8). Does not wait. */
int power_ask_init(bool reboot);

/* Begins to write everything out, in a child that the caller reaps and that no signal but SIGKILL ends. Returns its pid or -errno. */
int power_sync_ahead(void);

/* Watches for systemd's end: PID 1 has become systemd-shutdown. @fn is called then, and with @clean when every file system on a disk was made
 * read-only or unmounted (maybe with the first call already). Costs a wake-up per mount and unmount, nothing else. Other inits end all
 * processes by SIGTERM: that is the caller's to heed. */
struct power_watch;
typedef void (*power_watch_fn)(bool reboot, bool clean, void *data);
int power_watch_new(struct loop *l, power_watch_fn fn, void *data, struct power_watch **ret);
struct power_watch *power_watch_free(struct power_watch *w);

/* Ends the machine by a reset at once. For a shape whose kernel cannot power off and would stop for ever. */
void power_reset(void);

/* As PID 1, when every other process is gone: writes all out, unmounts everything and ends the machine. Only returns when even that fails.
 * @before_end is called right before reboot(2). */
void power_off_now(bool reboot, bool reboot_to_power_off, void (*before_end)(void *data), void *data);
