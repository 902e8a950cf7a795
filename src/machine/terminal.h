/* The terminal in raw mode for as long as a scope lasts. */
#pragma once

#include <termios.h>

#include "base/error.h"

struct raw_terminal {
	int fd; /* borrowed; -1 = not changed */
	struct termios before;
};
#define RAW_TERMINAL_INIT \
	{                 \
		.fd = -1  \
	}

/* Nothing happens when @fd is no terminal. Whoever calls this ends by return, signals included: SIGTERM and SIGHUP belong into the loop. */
int raw_terminal_enter(struct raw_terminal *t, int fd, struct error *err);
void raw_terminal_restore(struct raw_terminal *t);
#define _cleanup_raw_terminal_ _cleanup_(raw_terminal_restore)
