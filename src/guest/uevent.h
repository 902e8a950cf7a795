/* Waiting for devices: the kernel says on a netlink socket when one has come. */
#pragma once

#include <stdint.h>

/* Descriptor (non-blocking) that reads the kernel's device events, or -errno. */
int uevent_open(void);
/* Blocks until an event whose text holds @part has come. Errors: -ETIMEDOUT. Events that were lost count as one that came. */
int uevent_wait(int fd, const char *part, uint64_t deadline_ns);
/* Whether one of the events that are there holds @part; does not block. */
int uevent_drain(int fd, const char *part);
