/* A program on a pseudo-terminal, driven as by somebody who sits at it. */
#pragma once

#include <stddef.h>
#include <sys/types.h>
#include <termios.h>

struct terminal {
	int master, slave;
	pid_t pid;
	struct termios before;
	char text[1 << 16];
	size_t n;
};

/* Starts it (argv is NULL-terminated) with a terminal of 30 rows and 90 columns as its own. */
void terminal_begin(struct terminal *s, const char *const *argv);
/* Reads until @text is on the screen; what stood before it is dropped. */
void terminal_expect(struct terminal *s, const char *text, unsigned timeout_s);
void terminal_type(struct terminal *s, const char *text);
/* The program in front is told by its kernel (SIGWINCH). */
void terminal_resize(struct terminal *s, unsigned short rows, unsigned short columns);
/* A shell of root's is on it that was just started: its size is known there, also when it changes, and Ctrl-C is a key for what is in its foreground only.
 * Each step within @timeout_s. */
void terminal_try_shell(struct terminal *s, unsigned timeout_s);
/* Waits for its end with @status; the terminal must be as it was found. */
void terminal_end(struct terminal *s, int status);
/* Kills the program, as a window that is closed may: the terminal goes with it. */
void terminal_kill(struct terminal *s);
