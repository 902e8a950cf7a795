/* A guest for tests of what goes on in one: this host, seen by a real agent. */
#pragma once

#include <sys/types.h>

#include "machine/client.h"

enum { LARGE = 6 << 20 };

/* Starts the agent ($SKERRY_INIT), which ends with the test. */
void connect_agent(struct client *c);
extern pid_t agent_pid;
/* LARGE bytes in which no two pieces are alike; owned by the caller. */
void *pattern(void);
