/* What resolv.conf says. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/memory.h"

struct resolv {
	bool server;         /* it names one at all */
	struct strv servers; /* the first three, as the resolver takes them, without zones */
	bool first_direct;   /* the first is an IPv4 address that is not this host's loopback */
	char direct[16];     /* the first such address; "" = none */
	struct strv search;
};

/* Reads the text of a resolv.conf into the zeroed @ret. Search domains: the last "search" or "domain" line, at most 6 that look like domain
 * names. Anything else is skipped. */
void resolv_parse(const char *text, size_t len, struct resolv *ret);
void resolv_done(struct resolv *r);
