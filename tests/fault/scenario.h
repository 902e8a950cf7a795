/* What the fault tests share: one machine's life, step by step, and what must hold after any of it was broken off. */
#pragma once

#include "cli.h"

#define MACHINE "m"

struct step {
	const char *name;
	const char *argv[8]; /* after `skerry` */
	int tolerated;       /* a repetition may also end with this: the broken-off try had done it */
};

/* create, start, exec, stop, start, commit, exec, delete --force, image delete, image prune */
extern const struct step life[];
extern const size_t life_steps;

/* cli_home(), and cgroups of the test's own where the host lets us have some: they are removed when its process ends. */
const char *scenario_home(bool needs_store);
/* Runs step @i. */
struct cli run_step(size_t i);
/* Runs step @i again after it failed: it must succeed, or end as tolerated. @why goes into the failure's message. */
void repeat_step(size_t i, const char *why);
/* A failure is one line, says what, and is no crash. */
void assert_clean_failure(const struct cli *r, const char *why);
/* Nothing of any machine is left: no process, no record, no socket. Deletes MACHINE first, and has leftovers collected. */
void assert_nothing_left(const char *why);
/* MACHINE starts, runs a command and stops again. */
void assert_usable(const char *why);
