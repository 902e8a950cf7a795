/* Between the parts of net/takeover.h: takeover_read.c, what the kernel's answers mean; takeover_filters.c, which way frames go; takeover.c, all
 * else that is asked of it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "net/takeover.h"

struct rtnetlink;

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

#define TAKEOVER_TUN "sktun"
/* "skask2" for interface 2. */
void takeover_aside_name(unsigned index, char ret[16]);
/* One of those that net_takeover_aside(), _attach() and _control() make. */
bool takeover_is_ours(const struct takeover_link *l);
/* "sktap2" for interface 2: the longest one has 15 characters. */
void takeover_tap_name(unsigned index, char ret[16]);
/* Whether @name is such a name, and of which interface. */
bool takeover_tap_index(const char *name, unsigned *ret_index);

/* The number of the interface of that name. */
int takeover_index_of(struct rtnetlink *n, const char *name, unsigned *ret, struct error *err);
/* Appends what a dump of @type gives; @what is for the error. */
int takeover_dump(struct rtnetlink *n, uint16_t type, const void *header, size_t size, const char *what,
		  struct buf *out, struct error *err);
/* 1 = it has one at its ingress. */
int takeover_has_qdisc(struct rtnetlink *n, unsigned index, struct error *err);
/* 1 = somebody else has filters there. */
int takeover_has_foreign_filters(struct rtnetlink *n, unsigned index, struct error *err);
int takeover_add_qdisc(struct rtnetlink *n, unsigned index, const char *name, struct error *err);
int takeover_delete_qdisc(struct rtnetlink *n, unsigned index);
/* All of ours; the interface has a queueing discipline. Having none is success. Goes on after a failure and returns the first. */
int takeover_delete_filters(struct rtnetlink *n, unsigned index);
/* Whatever arrives at @from, and no filter before said otherwise, goes out at @to. */
int takeover_add_redirect(struct rtnetlink *n, unsigned from, unsigned to, const char *name, struct error *err);
/* The filters that come before it, where something stays with the stack. */
int takeover_keep_outside(struct rtnetlink *n, unsigned interface, unsigned tap, const struct net_takeover_keep *keep,
			  const char *name, struct error *err);
int takeover_keep_inside(struct rtnetlink *n, unsigned tap, const struct net_takeover_keep *keep, unsigned aside,
			 const char *name, struct error *err);
/* What is led aside, and what must not be answered by others. */
int takeover_ask_aside(struct rtnetlink *n, unsigned tap, unsigned aside, const char *name, struct error *err);
int takeover_hush_outside(struct rtnetlink *n, unsigned interface, const char *name, struct error *err);
/* The host's stack has nothing to say there of its own accord; and it is given its MTU (0 = the kernel's) and set up. */
int takeover_silence(struct rtnetlink *n, unsigned index);
/* @mac: NULL = it keeps its own. */
int takeover_set_up(struct rtnetlink *n, unsigned index, uint32_t mtu, const uint8_t *mac, const char *alias);
/* keep->control in numbers, host order; false: it is no CIDR of IPv4. */
bool takeover_control(const struct net_takeover_keep *keep, uint32_t *ret_address, uint8_t *ret_prefix);
