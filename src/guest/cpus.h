/* Processors of the guest that are on and off. */
#pragma once

#include <stdint.h>

/* Puts on or off until @want of those that the kernel knows run, the lowest numbers first; the first one has no switch. @root_fd: a directory as
 * /sys/devices/system/cpu (Documentation/ABI/testing/sysfs-devices-system-cpu). *ret_online: how many run then, also after an error. Errors: the first
 * one of the kernel's. */
int cpus_set_online(int root_fd, uint32_t want, uint32_t *ret_online);
