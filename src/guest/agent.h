/* The service skerry.agent.v1.Agent: what the host asks of a running guest. One event loop; nothing in it waits. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "base/memory.h"
#include "guest/link.h"

struct agent;

struct agent_options {
	struct link_target target;
	const struct strv *environment; /* copied: for every process; may be NULL */
	const char *error;              /* copied: what of the boot configuration failed; may be NULL */
	int root;                       /* borrowed: where /etc/passwd is looked up */
	bool reboot_to_power_off;
	/* As PID 1: begins the clean power-off; NULL: the image has an init of its own, which is asked. */
	void (*shut_down)(bool reboot, void *data);
	void *data;
};

int agent_new(struct loop *l, const struct agent_options *o, struct agent **ret);
struct agent *agent_free(struct agent *a);
/* To be called for every reaped child, whose ever it was. */
void agent_reaped(struct agent *a, pid_t pid, int wait_status);
/* The guest ends now: answers whoever waits for that, and gets it out. */
void agent_say_goodbye(struct agent *a, bool reboot);
