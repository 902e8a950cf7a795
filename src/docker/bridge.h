/* NETWORK=bridge: the guest has the container's own addresses.
 *
 * The machine's network mode "container" (net/container.c) takes over the interfaces. What is left to do here: saying beforehand which flag is
 * missing, answering the guest's questions for names (docker/dns.h), which only this side of the container can ask Docker, and telling a guest that asks
 * what its interfaces are to be (docker/teller.h). */
#pragma once

#include "base/error.h"
#include "base/loop.h"
#include "base/memory.h"

#define BRIDGE_MODE "container" /* the machine's network mode */

struct dns;
struct settings;
struct teller;

struct bridge {
	struct dns *dns;       /* owned */
	struct teller *teller; /* owned */
};

/* Appends a line for each thing that the container lacks, naming the flag that adds it. */
void bridge_check(struct strv *problems);
/* Answers the guest's questions from now on: for names, at the container's control address, and how its interfaces are to be set up. Before its machine is
 * started. @host: its name. Errors: those of network mode "container"; on failure bridge_done() is due. */
int bridge_serve(struct loop *loop, const struct settings *settings, const char *host, struct bridge *ret,
		 struct error *err);
/* A zeroed one is fine. */
void bridge_done(struct bridge *b);
