/* Starting a process of a session: as which user, with which terminal or pipes. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/memory.h"
#include "guest/account.h"

struct launch {
	char *const *argv; /* NULL-terminated; NULL: @run is called instead */
	int (*run)(
		void *data); /* in the child, as root, standard input and output connected; its value is the exit status */
	void *data;
	const struct account *account;
	const struct strv *env; /* whole */
	const char *cwd;        /* "" = the account's home, or / */
	bool terminal;
	uint16_t rows, cols;
	bool stdin_open; /* else /dev/null */
};

struct launched {
	pid_t pid;  /* its own session and process group */
	int in;     /* owned, as all: writes to its standard input; -EBADF none */
	int out[2]; /* standard output (or the terminal) and standard error (-EBADF with a terminal); all non-blocking */
};

/* What cannot be executed is told on its standard error and by its exit status: 127 not found, 126 otherwise. */
int launch(const struct launch *l, struct launched *ret, struct error *err);
