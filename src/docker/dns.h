/* Names for the guest: whatever it asks is asked of the container's name servers, as resolv.conf has them, and the answer is handed back.
 *
 * Docker's own server is 127.0.0.11, which exists inside the container's network namespace only. Messages pass as they are, over UDP and TCP; nothing
 * is kept. resolv.conf is read again when it has changed.
 *
 *   dns.c      questions over UDP
 *   dns_tcp.c  connections */
#pragma once

#include <netinet/in.h>
#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"

enum { DNS_PORT = 53, DNS_GUESTS_MAX = 3 };

struct dns_options {
	struct in_addr address;                /* listened on; need not be there yet */
	struct in_addr guests[DNS_GUESTS_MAX]; /* nobody else is answered; none = everybody is */
	size_t n_guests;
	uint16_t port;
	const char *resolv_conf; /* borrowed */
	/* 0 = what is said here */
	uint16_t server_port; /* 53 */
	uint64_t wait_ns;     /* for one server, before the next is asked: 2 s */
	unsigned questions;   /* at a time, 256; the oldest makes room */
	unsigned connections; /* at a time, 32 */
};

struct dns;

/* Errors: kind BUSY the port is taken; DENIED. */
int dns_new(struct loop *loop, const struct dns_options *options, struct dns **ret, struct error *err);
/* Accepts NULL; returns NULL. */
struct dns *dns_free(struct dns *d);
