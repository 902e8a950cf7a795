/* Block devices that are files (drivers/block/loop.c; loop(4)), for what mount(8) is asked for as "loop". */
#pragma once

#include <stdbool.h>

#include "base/error.h"

enum {
	LOOP_READ_ONLY = 1 << 0,
	LOOP_DIRECT = 1 << 1, /* past the cache of the file system that the file is in, where that one can do it */
};

/* Makes a device of @file that goes by itself when nothing uses it any more: hold the descriptor that is returned until it is mounted. @ret_node:
 * its path, owned by the caller. */
int loop_device_attach(const char *file, unsigned flags, char **ret_node, struct error *err);
