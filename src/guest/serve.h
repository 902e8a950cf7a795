/* The long-running half of skerry-init: the agent beside an init of the image, or the agent as PID 1. */
#pragma once

#include <stdbool.h>

#include "guest/agent.h"

struct serve_options {
	struct agent_options agent; /* shut_down and data are filled in here */
	bool is_init;               /* PID 1: reaps everything, heeds signals, ends the machine */
};

/* Runs the loop. Returns when a plain descriptor's host went away (0), or -errno; as PID 1 it does not return but ends the machine. */
int serve(const struct serve_options *o);
