/* This terminal, joined to a machine's console. */
#pragma once

#include "base/error.h"
#include "store/name.h"
#include "store/store.h"

enum console_end {
	CONSOLE_ENDED,       /* the machine's run is over, or its monitor has gone */
	CONSOLE_LEFT,        /* by Ctrl-]: the machine runs on */
	CONSOLE_INTERRUPTED, /* by a signal, likewise */
};
/* First what it wrote last, then both ways, until the end. Returns enum console_end. Errors: -ENOENT, -ECONNREFUSED: it does not run. */
int console_join(const struct store *s, const struct name *name, struct error *err);
