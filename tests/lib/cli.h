/* Runs the built programs as a user would, in a data directory of the test's own. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "test.h"

/* A script, where a user would write one: CLI_SHELL, "SCRIPT". */
#define CLI_SHELL "sh", "-c" /* lint: as a user would */

/* What one command did. Strings are owned by the result; cli_done() releases them. */
struct cli {
	int status; /* exit status, 128+N after a signal, -1 after the deadline (it was killed then) */
	char *out;  /* standard output, NUL-terminated */
	char *err;  /* standard error */
	uint64_t wall_ns;
};
void cli_done(struct cli *r);
#define _cleanup_cli_ __attribute__((cleanup(cli_done)))

/* A fresh SKERRY_HOME for this test's process: the images and kernels of the prepared store (SKERRY_TEST_STORE; the test is skipped visibly when
 * there is none and @needs_store) and no machines. At the end of the test's process whatever runs in it is killed. Borrowed string. */
const char *cli_home(bool needs_store);

/* The number that the first @key has in @json, which must have one; digits only. */
uint64_t cli_number(const char *json, const char *key);
/* A pid from `skerry inspect MACHINE`, told under @key. */
int cli_inspect_pid(const char *machine, const char *key);
/* kill -9, and until the process has really gone. */
void cli_kill(int pid);

/* Engines that are started from here on do nothing until the other is called. */
void cli_hold_engines(void);
void cli_let_engines_go(void);

/* Path of the `skerry` under test: $SKERRY_TEST_BIN. Borrowed. */
const char *cli_skerry(void);

/* Environment for the commands that follow: "K=V"; "K=" with an empty value removes it. */
void cli_setenv(const char *assignment);

/* Runs `skerry` with these words (the last one NULL). Default deadline 300 s, which is longer than any of its own: CLI_TIMEOUT_S. */
struct cli cli(const char *first, ...) __attribute__((sentinel));
/* Any program, with standard input text (may be NULL). argv is NULL-terminated. */
struct cli cli_argv(const char *const *argv, const char *input, unsigned timeout_s);
/* Starts without waiting; the pid. Output goes to /dev/null when @quiet. */
int cli_spawn(const char *const *argv);
/* Waits for it: exit status as in struct cli. */
int cli_wait(int pid, unsigned timeout_s);

/* Fails the test, printing both streams, unless the status is @status. */
#define ASSERT_STATUS(r, expected)                                                                                \
	do {                                                                                                      \
		if ((r).status != (expected))                                                                     \
			test_fail(__FILE__, __LINE__, "status %d, expected %d\n# out: %s\n# err: %s", (r).status, \
				  (expected), (r).out, (r).err);                                                  \
	} while (0)

/* Processes whose environment names this test's SKERRY_HOME (monitors, engines, helpers), this process excluded. @names collects
 * "PID NAME" lines (may be NULL). Needs root or the same user. */
unsigned cli_processes(char *names, size_t n);
/* Waits (event by event, at most @timeout_s) until there are none, nor any that has begun to end and may hold files or locks yet. */
bool cli_processes_gone(unsigned timeout_s);
/* Waits until every process that has begun to end has ended, with its files, sockets and locks; those that run may go on. */
bool cli_endings_over(unsigned timeout_s);
/* Entries below a directory of the home ("run", "machines"), "." names of locks left out; -1 when there is no such directory. */
int cli_entries(const char *directory, char *names, size_t n);
