/* Between the two halves of net/takeover.h: what the kernel's answers mean, and what is asked of it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/takeover.h"

struct takeover_link {
	unsigned index;
	uint32_t flags; /* IFF_ */
	uint16_t type;  /* ARPHRD_ */
	bool has_mac;
	uint16_t ipvlan_mode;
	uint32_t mtu;
	char name[16];
	char kind[16]; /* of the driver: "veth", "ipvlan"; "" = it has none */
	char mac[18];
	char alias[64]; /* cut when longer */
};

/* The links among the messages of @n bytes, in their order; *ret is owned by the caller. Errors: -EBADMSG the bytes are no messages. */
int takeover_links(const void *messages, size_t n, struct takeover_link **ret, size_t *ret_n);
/* What net_takeover_inspect() makes of links, addresses, routes and neighbours, in any order. */
int takeover_read(const void *messages, size_t n, const struct strv *names, struct net_takeover *ret,
		  struct error *err);

/* "sktap2" for interface 2: the longest one has 15 characters. */
void takeover_tap_name(unsigned index, char ret[16]);
/* Whether @name is such a name, and of which interface. */
bool takeover_tap_index(const char *name, unsigned *ret_index);
