/* What a guest is told about one of its interfaces by DHCP (wire/dhcp4.h, wire/dhcp6.h) and router advertisements (wire/ndp.h): plain data. Addresses
 * are in network order. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	TOLD_ADDRESSES_MAX = 32,
	TOLD_ROUTES_MAX = 32,
	TOLD_SERVERS_MAX = 3,
	TOLD_DOMAINS_MAX = 6,
	TOLD_DOMAIN_SIZE = 254, /* with the NUL: what 255 bytes on the wire can hold */
	TOLD_HOST_SIZE = 64,
};

struct told_four {
	uint8_t address[4];
	uint8_t prefix; /* 0..32 */
};
struct told_route {
	struct told_four to;
	uint8_t gateway[4]; /* zero = on the link */
};
struct told_six {
	uint8_t address[16];
	uint8_t prefix; /* 0..128 */
};

struct told {
	uint8_t mac[6];            /* whom it is for: nobody else is answered */
	uint8_t own_mac[6];        /* who answers */
	uint32_t mtu;              /* 0 = not told */
	char host[TOLD_HOST_SIZE]; /* "" = not told */
	char domains[TOLD_DOMAINS_MAX][TOLD_DOMAIN_SIZE];
	size_t n_domains;

	struct told_four fours[TOLD_ADDRESSES_MAX]; /* DHCP has room for the first one only */
	size_t n_fours;
	uint8_t server4[4];
	uint8_t gateway4[4];                       /* zero = none */
	struct told_route routes[TOLD_ROUTES_MAX]; /* all of them, the default one too; those on the link first */
	size_t n_routes;
	uint8_t dns4[TOLD_SERVERS_MAX][4];
	size_t n_dns4;

	struct told_six sixes[TOLD_ADDRESSES_MAX];
	size_t n_sixes;
	uint8_t own6[16]; /* link-local, of who answers */
	uint8_t router6
		[16];  /* link-local: whom the default route and @through lead to, and whom advertisements come from */
	bool default6; /* there is a default route */
	struct told_six links[TOLD_ROUTES_MAX]; /* on the link, beside what the addresses bring */
	size_t n_links;
	struct told_six through[TOLD_ROUTES_MAX]; /* networks behind the router */
	size_t n_through;
	uint8_t dns6[TOLD_SERVERS_MAX][16];
	size_t n_dns6;
};

/* Bytes that grow to an end that they do not pass: what does not fit leaves @failed. */
struct told_out {
	uint8_t *p;
	size_t n, size;
	bool failed;
};
void told_add(struct told_out *o, const void *p, size_t n);
void told_add8(struct told_out *o, uint8_t v);
void told_add16(struct told_out *o, uint16_t v);
void told_add32(struct told_out *o, uint32_t v);
/* All domains as RFC 1035, 3.1 has names, without compression. One that is none is left out. */
void told_add_domains(struct told_out *o, const struct told *t);
