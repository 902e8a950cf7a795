/* rtnetlink messages (rtnetlink(7), linux/rtnetlink.h): requests built with checked lengths, answers read with bounds. No I/O; host byte
 * order, as the kernel of this host speaks it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/cursor.h"

enum { NETLINK_REQUEST_MAX = 1024 };

/* One message. What does not fit sticks as a failure that netlink_end() reports. */
struct netlink_request {
	_Alignas(4) uint8_t bytes[NETLINK_REQUEST_MAX];
	size_t len;
	bool failed;
};

/* Begins a message of @type with its fixed header (struct ifinfomsg, ifaddrmsg, rtmsg, ndmsg, tcmsg). @flags: NLM_F_REQUEST and NLM_F_ACK are
 * added. */
void netlink_begin(struct netlink_request *q, uint16_t type, uint16_t flags, const void *header, size_t n);
void netlink_add(struct netlink_request *q, uint16_t type, const void *p, size_t n);
void netlink_add_u32(struct netlink_request *q, uint16_t type, uint32_t v);
void netlink_add_string(struct netlink_request *q, uint16_t type, const char *s);
/* Attributes inside an attribute: between the two; the second takes what the first gave. */
size_t netlink_nest(struct netlink_request *q, uint16_t type);
void netlink_nest_end(struct netlink_request *q, size_t nest);
/* Writes length and sequence number. Errors: -E2BIG. */
int netlink_end(struct netlink_request *q, uint32_t sequence);

/* All pointers are into what is read. */
struct netlink_message {
	uint16_t type, flags;
	uint32_t sequence;
	const uint8_t *p;
	size_t size;
};
struct netlink_attribute {
	uint16_t type; /* without the nested and byte order flags */
	const uint8_t *p;
	size_t size;
};

/* The next one of a datagram, or of several behind each other; of a message, or of an attribute that holds others. false at the end, and where
 * a length is wrong: then c->failed is set. */
bool netlink_next(struct cursor *c, struct netlink_message *ret);
bool netlink_next_attribute(struct cursor *c, struct netlink_attribute *ret);

/* Copies the fixed header of @m (@n bytes) and gives its attributes. false when it is too short. */
bool netlink_open(const struct netlink_message *m, void *header, size_t n, struct cursor *ret_attributes);
/* 0 when @a has not four bytes. */
uint32_t netlink_u32(const struct netlink_attribute *a);
/* Copies a NUL-terminated text; false when it does not fit @n bytes or has no end. */
bool netlink_string(const struct netlink_attribute *a, char *out, size_t n);
/* What NLMSG_ERROR or NLMSG_DONE says: 0 or -errno; -EBADMSG when it is neither or too short. */
int netlink_result(const struct netlink_message *m);
/* The kernel's own words behind an NLMSG_ERROR (NLMSGERR_ATTR_MSG); "" when there are none. */
void netlink_reason(const struct netlink_message *m, char *out, size_t n);
