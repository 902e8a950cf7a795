#include "wire/dhcp6.h"

#include <string.h>

#include "wire/cursor.h"

/* RFC 8415, 21; the last two RFC 3646. */
enum {
	CLIENT = 1,
	SERVER = 2,
	ADDRESSES = 3,
	ADDRESS = 5,
	PREFERENCE = 7,
	STATUS = 13,
	RAPID = 14,
	PREFIXES = 25,
	NAME_SERVERS = 23,
	DOMAINS = 24,
};

/* RFC 8415, 21.13 */
enum { SUCCESS = 0, NO_ADDRESSES = 2, NOT_ON_LINK = 4, NO_PREFIXES = 6 };

enum { DUID_LINK = 3, DUID_SIZE = 10, ASSOCIATION_HEAD = 12, ADDRESS_HEAD = 24, MOST_PREFERRED = 255 };

struct option {
	uint16_t code;
	struct cursor c;
};

static bool next_option(struct cursor *c, struct option *ret)
{
	const uint8_t *p;
	uint16_t n;

	if (!cursor_left(c))
		return false;
	ret->code = cursor_u16be(c);
	n = cursor_u16be(c);
	p = cursor_bytes(c, n);
	ret->c = cursor_of(p, p ? n : 0);
	return p != NULL;
}

/* ---- Reading ---- */

static bool read_association(struct option *o, struct dhcp6_request *ret)
{
	struct dhcp6_association *a = &ret->associations[ret->n];
	const uint8_t *id;
	struct option inner;

	if (ret->n == DHCP6_ASSOCIATIONS_MAX)
		return true;
	*a = (struct dhcp6_association){ .prefixes = o->code == PREFIXES };
	id = cursor_bytes(&o->c, 4);
	(void)cursor_bytes(&o->c, ASSOCIATION_HEAD - 4);
	if (o->c.failed)
		return false;
	memcpy(a->id, id, 4);
	while (next_option(&o->c, &inner)) {
		const uint8_t *address;

		if (inner.code != ADDRESS || a->prefixes)
			continue;
		address = cursor_bytes(&inner.c, ADDRESS_HEAD);
		if (!address)
			return false;
		if (a->n < TOLD_ADDRESSES_MAX)
			memcpy(a->addresses[a->n++], address, 16);
	}
	if (o->c.failed)
		return false;
	ret->n++;
	return true;
}

static bool read_duid(const struct option *o, const uint8_t **ret, size_t *ret_size)
{
	*ret = o->c.p;
	*ret_size = cursor_left(&o->c);
	return *ret_size >= 3 && *ret_size <= DHCP6_DUID_MAX;
}

bool dhcp6_read(const void *p, size_t n, struct dhcp6_request *ret)
{
	struct cursor c = cursor_of(p, n);
	const uint8_t *head = cursor_bytes(&c, 4);
	struct option o;
	bool ok = true;

	*ret = (struct dhcp6_request){};
	if (!head)
		return false;
	ret->type = (enum dhcp6_type)head[0];
	memcpy(ret->id, head + 1, 3);
	while (ok && next_option(&c, &o)) {
		if (o.code == CLIENT)
			ok = read_duid(&o, &ret->client, &ret->client_size);
		else if (o.code == SERVER)
			ok = read_duid(&o, &ret->server, &ret->server_size);
		else if (o.code == RAPID)
			ret->rapid = true;
		else if (o.code == ADDRESSES || o.code == PREFIXES)
			ok = read_association(&o, ret);
	}
	return ok && !c.failed;
}

/* ---- Answering ---- */

static void make_duid(const struct told *t, uint8_t ret[DUID_SIZE])
{
	static const uint8_t head[] = { 0, DUID_LINK, 0, 1 };

	memcpy(ret, head, sizeof(head));
	memcpy(ret + sizeof(head), t->own_mac, 6);
}

static void add_option(struct told_out *o, uint16_t code, const void *p, size_t n)
{
	told_add16(o, code);
	told_add16(o, (uint16_t)n);
	told_add(o, p, n);
}

static void add_status(struct told_out *o, uint16_t status)
{
	const uint8_t p[] = { (uint8_t)(status >> 8), (uint8_t)status };

	add_option(o, STATUS, p, sizeof(p));
}

/* An option whose size is known when it is full. */
static size_t begin(struct told_out *o, uint16_t code)
{
	told_add16(o, code);
	told_add16(o, 0);
	return o->n;
}

static void end(struct told_out *o, size_t at)
{
	size_t n = o->n - at;

	if (o->failed)
		return;
	o->p[at - 2] = (uint8_t)(n >> 8);
	o->p[at - 1] = (uint8_t)n;
}

static void add_address(struct told_out *o, const uint8_t address[16], uint32_t lifetime)
{
	size_t at = begin(o, ADDRESS);

	told_add(o, address, 16);
	told_add32(o, lifetime); /* preferred */
	told_add32(o, lifetime); /* valid */
	end(o, at);
}

static bool has(const struct told *t, const uint8_t address[16])
{
	for (size_t i = 0; i < t->n_sixes; i++)
		if (memcmp(t->sixes[i].address, address, 16) == 0)
			return true;
	return false;
}

/* @gives: this one gets the addresses; they are there only once. What the client thinks it has beside them ends. */
static void add_association(struct told_out *o, const struct dhcp6_association *a, const struct told *t, bool gives)
{
	size_t at = begin(o, a->prefixes ? PREFIXES : ADDRESSES);

	told_add(o, a->id, 4);
	/* T1 and T2: never, as the addresses last. */
	told_add32(o, gives ? UINT32_MAX : 0);
	told_add32(o, gives ? UINT32_MAX : 0);
	for (size_t i = 0; gives && i < t->n_sixes; i++)
		add_address(o, t->sixes[i].address, UINT32_MAX);
	for (size_t i = 0; !a->prefixes && i < a->n; i++)
		if (!gives || !has(t, a->addresses[i]))
			add_address(o, a->addresses[i], 0);
	if (!gives)
		add_status(o, a->prefixes ? NO_PREFIXES : NO_ADDRESSES);
	end(o, at);
}

static void add_associations(struct told_out *o, const struct dhcp6_request *q, const struct told *t)
{
	bool given = false;

	for (size_t i = 0; i < q->n; i++) {
		bool gives = !q->associations[i].prefixes && !given && t->n_sixes > 0;

		add_association(o, &q->associations[i], t, gives);
		given = given || gives;
	}
}

static void add_settings(struct told_out *o, const struct told *t)
{
	size_t at;

	if (t->n_dns6)
		add_option(o, NAME_SERVERS, t->dns6, t->n_dns6 * 16);
	if (!t->n_domains)
		return;
	at = begin(o, DOMAINS);
	told_add_domains(o, t);
	end(o, at);
}

/* RFC 8415, 18.3.3: are they fit for this link? -1 = there are none, and no answer. */
static int on_link(const struct dhcp6_request *q, const struct told *t)
{
	bool any = false;

	for (size_t i = 0; i < q->n; i++)
		for (size_t k = 0; k < q->associations[i].n; k++) {
			any = true;
			if (!has(t, q->associations[i].addresses[k]))
				return 0;
		}
	return any ? 1 : -1;
}

/* RFC 8415, 16: what must be there, and what must not. */
static bool is_valid(const struct dhcp6_request *q, const uint8_t duid[DUID_SIZE])
{
	bool ours = q->server && q->server_size == DUID_SIZE && memcmp(q->server, duid, DUID_SIZE) == 0;

	switch (q->type) {
	case DHCP6_SOLICIT:
	case DHCP6_CONFIRM:
	case DHCP6_REBIND: return q->client && !q->server;
	case DHCP6_REQUEST:
	case DHCP6_RENEW:
	case DHCP6_RELEASE:
	case DHCP6_DECLINE: return q->client && ours;
	case DHCP6_INFORMATION: return (!q->server || ours) && q->n == 0;
	case DHCP6_ADVERTISE:
	case DHCP6_REPLY:
	default: return false;
	}
}

size_t dhcp6_answer(const struct dhcp6_request *q, const struct told *t, uint8_t *out, size_t size)
{
	struct told_out o = { .p = out, .size = size < DHCP6_MAX ? size : DHCP6_MAX };
	const uint8_t preference = MOST_PREFERRED;
	bool rapid = q->type == DHCP6_SOLICIT && q->rapid;
	uint8_t duid[DUID_SIZE];
	int confirmed = 0;

	make_duid(t, duid);
	if (!t->n_sixes || !is_valid(q, duid))
		return 0;
	if (q->type == DHCP6_CONFIRM) {
		confirmed = on_link(q, t);
		if (confirmed < 0)
			return 0;
	}
	told_add8(&o, q->type == DHCP6_SOLICIT && !rapid ? DHCP6_ADVERTISE : DHCP6_REPLY);
	told_add(&o, q->id, sizeof(q->id));
	if (q->client)
		add_option(&o, CLIENT, q->client, q->client_size);
	add_option(&o, SERVER, duid, sizeof(duid));
	if (q->type == DHCP6_CONFIRM) {
		add_status(&o, confirmed ? SUCCESS : NOT_ON_LINK);
	} else if (q->type == DHCP6_RELEASE || q->type == DHCP6_DECLINE) {
		add_status(&o, SUCCESS);
	} else {
		if (q->type == DHCP6_SOLICIT)
			add_option(&o, PREFERENCE, &preference, 1);
		if (rapid)
			add_option(&o, RAPID, NULL, 0);
		add_associations(&o, q, t);
		add_settings(&o, t);
	}
	return o.failed ? 0 : o.n;
}
