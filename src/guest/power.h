/* The end of a guest: asking the image's own init for it, seeing it come, and doing it as PID 1. */
#pragma once

#include <stdbool.h>

#include "base/loop.h"

/* Tells PID 1, whatever it is, to shut down: systemd by its signals, others by their poweroff(8) or reboot(8). Does not wait. */
int power_ask_init(bool reboot);

/* Calls @fn once when the image's init is about to end the guest: PID 1 has become systemd-shutdown, or the root file system was made
 * read-only. Costs a wake-up per mount and unmount, nothing else. */
struct power_watch;
int power_watch_new(struct loop *l, void (*fn)(bool reboot, void *data), void *data, struct power_watch **ret);
struct power_watch *power_watch_free(struct power_watch *w);

/* As PID 1, when every other process is gone: writes all out, unmounts everything and ends the machine. Only returns when even that fails.
 * @before_end is called right before reboot(2). */
void power_off_now(bool reboot, bool reboot_to_power_off, void (*before_end)(void *data), void *data);
