#include "wire/netlink.h"

#include <errno.h>
#include <linux/netlink.h>
#include <string.h>

/* Room for @n bytes after what is there, aligned and zeroed; NULL and failed when there is none. */
static uint8_t *append(struct netlink_request *q, size_t n)
{
	size_t at = NLMSG_ALIGN(q->len);

	if (q->failed || n > NETLINK_REQUEST_MAX || NLMSG_ALIGN(n) > NETLINK_REQUEST_MAX - at) {
		q->failed = true;
		return NULL;
	}
	memset(q->bytes + q->len, 0, at - q->len);
	memset(q->bytes + at, 0, NLMSG_ALIGN(n));
	q->len = at + n;
	return q->bytes + at;
}

void netlink_begin(struct netlink_request *q, uint16_t type, uint16_t flags, const void *header, size_t n)
{
	const struct nlmsghdr h = { .nlmsg_type = type, .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags) };
	uint8_t *to;

	q->len = 0;
	q->failed = false;
	memcpy(append(q, sizeof(h)), &h, sizeof(h));
	to = append(q, n);
	if (to)
		memcpy(to, header, n);
}

void netlink_add(struct netlink_request *q, uint16_t type, const void *p, size_t n)
{
	struct nlattr a = { .nla_type = type };
	uint8_t *to = n <= NETLINK_REQUEST_MAX ? append(q, NLA_HDRLEN + n) : NULL;

	if (!to) {
		q->failed = true;
		return;
	}
	a.nla_len = (uint16_t)(NLA_HDRLEN + n);
	memcpy(to, &a, sizeof(a));
	if (n)
		memcpy(to + NLA_HDRLEN, p, n);
}

void netlink_add_u32(struct netlink_request *q, uint16_t type, uint32_t v)
{
	netlink_add(q, type, &v, sizeof(v));
}

void netlink_add_string(struct netlink_request *q, uint16_t type, const char *s)
{
	netlink_add(q, type, s, strlen(s) + 1);
}

size_t netlink_nest(struct netlink_request *q, uint16_t type)
{
	size_t at = NLMSG_ALIGN(q->len);

	netlink_add(q, type, NULL, 0);
	return at;
}

void netlink_nest_end(struct netlink_request *q, size_t nest)
{
	uint16_t len;

	if (q->failed)
		return;
	len = (uint16_t)(NLMSG_ALIGN(q->len) - nest);
	(void)append(q, 0);
	memcpy(q->bytes + nest + offsetof(struct nlattr, nla_len), &len, sizeof(len));
}

int netlink_end(struct netlink_request *q, uint32_t sequence)
{
	uint32_t len = (uint32_t)q->len;

	if (q->failed)
		return -E2BIG;
	memcpy(q->bytes + offsetof(struct nlmsghdr, nlmsg_len), &len, sizeof(len));
	memcpy(q->bytes + offsetof(struct nlmsghdr, nlmsg_seq), &sequence, sizeof(sequence));
	return 0;
}

/* Skips what fills a message or an attribute of @n bytes up to the next; the last one may lack it. */
static void skip_padding(struct cursor *c, size_t n)
{
	size_t padding = NLMSG_ALIGN(n) - n;

	(void)cursor_bytes(c, padding < cursor_left(c) ? padding : cursor_left(c));
}

bool netlink_next(struct cursor *c, struct netlink_message *ret)
{
	const uint8_t *p;
	struct nlmsghdr h;

	if (c->failed || cursor_left(c) == 0)
		return false;
	p = cursor_bytes(c, sizeof(h));
	if (!p)
		return false;
	memcpy(&h, p, sizeof(h));
	if (h.nlmsg_len < sizeof(h)) {
		c->failed = true;
		return false;
	}
	ret->size = h.nlmsg_len - sizeof(h);
	ret->p = cursor_bytes(c, ret->size);
	if (!ret->p)
		return false;
	ret->type = h.nlmsg_type;
	ret->flags = h.nlmsg_flags;
	ret->sequence = h.nlmsg_seq;
	skip_padding(c, h.nlmsg_len);
	return true;
}

bool netlink_next_attribute(struct cursor *c, struct netlink_attribute *ret)
{
	const uint8_t *p;
	struct nlattr a;

	if (c->failed || cursor_left(c) == 0)
		return false;
	p = cursor_bytes(c, sizeof(a));
	if (!p)
		return false;
	memcpy(&a, p, sizeof(a));
	if (a.nla_len < sizeof(a)) {
		c->failed = true;
		return false;
	}
	ret->size = a.nla_len - sizeof(a);
	ret->p = cursor_bytes(c, ret->size);
	if (!ret->p)
		return false;
	ret->type = a.nla_type & NLA_TYPE_MASK;
	skip_padding(c, a.nla_len);
	return true;
}

bool netlink_open(const struct netlink_message *m, void *header, size_t n, struct cursor *ret_attributes)
{
	struct cursor c = cursor_of(m->p, m->size);
	const uint8_t *p = cursor_bytes(&c, n);

	if (!p)
		return false;
	memcpy(header, p, n);
	skip_padding(&c, n);
	*ret_attributes = c;
	return true;
}

uint32_t netlink_u32(const struct netlink_attribute *a)
{
	uint32_t v = 0;

	if (a->size == sizeof(v))
		memcpy(&v, a->p, sizeof(v));
	return v;
}

bool netlink_string(const struct netlink_attribute *a, char *out, size_t n)
{
	size_t len = strnlen((const char *)a->p, a->size);

	if (len == a->size || len >= n)
		return false;
	memcpy(out, a->p, len + 1);
	return true;
}

int netlink_result(const struct netlink_message *m)
{
	int32_t num;

	if ((m->type != NLMSG_ERROR && m->type != NLMSG_DONE) || m->size < sizeof(num))
		return -EBADMSG;
	memcpy(&num, m->p, sizeof(num));
	/* No errno lies outside: nothing that a caller could take for a success. */
	return num > 0 || num < -4095 ? -EBADMSG : num;
}

void netlink_reason(const struct netlink_message *m, char *out, size_t n)
{
	struct netlink_attribute a;
	struct nlmsgerr e;
	struct cursor c;

	out[0] = '\0';
	if (m->type != NLMSG_ERROR || !(m->flags & NLM_F_ACK_TLVS) || !netlink_open(m, &e, sizeof(e), &c))
		return;
	/* The request is repeated behind its header, unless the kernel was asked not to. */
	if (!(m->flags & NLM_F_CAPPED) &&
	    (e.msg.nlmsg_len < sizeof(e.msg) || !cursor_bytes(&c, NLMSG_ALIGN(e.msg.nlmsg_len - sizeof(e.msg)))))
		return;
	while (netlink_next_attribute(&c, &a))
		if (a.type == NLMSGERR_ATTR_MSG && !netlink_string(&a, out, n))
			out[0] = '\0';
}
