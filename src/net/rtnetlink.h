/* A conversation with the kernel about the network of a namespace (rtnetlink(7)). */
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "wire/netlink.h"

struct rtnetlink {
	int fd; /* owned; belongs to the namespace that it was opened in */
	uint32_t sequence;
	char reason[128]; /* the kernel's words about the last refusal, "" = none */
};

/* Opens it in the namespace of @netns_fd (borrowed; -1 = the own one), and, where @ret_tun_fd is not NULL, /dev/net/tun likewise: a child enters
 * the namespace and passes them back, this process never leaves its own. */
int rtnetlink_open(int netns_fd, struct rtnetlink *ret, int *ret_tun_fd, struct error *err);
void rtnetlink_close(struct rtnetlink *n);
#define _cleanup_rtnetlink_ _cleanup_(rtnetlink_close)

/* Sends @q and waits for the kernel's answer. Returns 0 or the kernel's -errno. */
int rtnetlink_do(struct rtnetlink *n, struct netlink_request *q);
/* Appends the messages of the answer to @q (begun with NLM_F_DUMP) to @out, for netlink_next(). A dump that was disturbed by a change is
 * taken again. Errors: -EFBIG, the kernel's. */
int rtnetlink_dump(struct rtnetlink *n, struct netlink_request *q, struct buf *out);
/* error_set_errno() with the kernel's words where there are any. Returns -num. */
int rtnetlink_refused(const struct rtnetlink *n, struct error *err, int num, const char *fmt, ...) _printf_(4, 5);
