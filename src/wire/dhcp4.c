#include "wire/dhcp4.h"

#include <string.h>

#include "wire/cursor.h"

enum {
	BOOT_REQUEST = 1,
	BOOT_REPLY = 2,
	FLAG_BROADCAST = 0x8000,
	FILE_SIZE = 128,
	NAME_SIZE = 64,
	OPTION_MAX = 255,
	/* RFC 2131, 2: what every client takes, less the headers of IP and UDP. */
	SIZE_ALWAYS = 576 - 28,
	FIRST_OPTION = 240,
	BOOTP_SIZE = 300, /* shorter answers are dropped by some (RFC 1542, 2.1) */
};

/* Options; RFC 2132 but for those whose own is named in the header. */
enum {
	PAD = 0,
	MASK = 1,
	ROUTERS = 3,
	SERVERS = 6,
	HOST_NAME = 12,
	DOMAIN_NAME = 15,
	MTU = 26,
	WANTED = 50,
	LEASE = 51,
	OVERLOAD = 52,
	TYPE = 53,
	SERVER = 54,
	PARAMETERS = 55,
	MAX_SIZE = 57,
	CLIENT_ID = 61,
	RAPID = 80,
	DOMAINS = 119,
	ROUTES = 121,
	OLD_ROUTES = 249,
	END = 255,
};

static const uint8_t cookie[] = { 0x63, 0x82, 0x53, 0x63 };

/* ---- Reading ---- */

static void read_option(uint8_t code, const uint8_t *p, size_t n, struct dhcp4_request *ret, uint8_t *overload)
{
	if (code == TYPE && n == 1)
		ret->type = (enum dhcp4_type)p[0];
	else if (code == OVERLOAD && n == 1)
		*overload = p[0];
	else if (code == WANTED && n == 4)
		memcpy(ret->wanted, p, 4);
	else if (code == SERVER && n == 4)
		memcpy(ret->server, p, 4);
	else if (code == MAX_SIZE && n == 2)
		memcpy(ret->max, p, 2);
	else if (code == RAPID && n == 0)
		ret->rapid = true;
	else if (code == PARAMETERS)
		ret->wants_old_routes = memchr(p, OLD_ROUTES, n) != NULL;
	else if (code == CLIENT_ID && n > 0) {
		memcpy(ret->client_id, p, n);
		ret->client_id_size = n;
	}
}

static bool read_options(struct cursor c, struct dhcp4_request *ret, uint8_t *overload)
{
	while (cursor_left(&c)) {
		uint8_t code = cursor_u8(&c), n;
		const uint8_t *p;

		if (code == END)
			break;
		if (code == PAD)
			continue;
		n = cursor_u8(&c);
		p = cursor_bytes(&c, n);
		if (c.failed)
			return false;
		read_option(code, p, n, ret, overload);
	}
	return true;
}

bool dhcp4_read(const void *p, size_t n, struct dhcp4_request *ret)
{
	static const uint8_t nobody[4];
	struct cursor c = cursor_of(p, n);
	const uint8_t *head = cursor_bytes(&c, 4), *id = cursor_bytes(&c, 4), *addresses, *hardware, *name, *file,
		      *magic;
	uint8_t overload = 0;
	uint16_t flags;

	*ret = (struct dhcp4_request){};
	(void)cursor_u16be(&c); /* seconds */
	flags = cursor_u16be(&c);
	addresses = cursor_bytes(&c, 16);
	hardware = cursor_bytes(&c, 16);
	name = cursor_bytes(&c, NAME_SIZE);
	file = cursor_bytes(&c, FILE_SIZE);
	magic = cursor_bytes(&c, sizeof(cookie));
	if (c.failed || memcmp(magic, cookie, sizeof(cookie)) != 0)
		return false;
	if (head[0] != BOOT_REQUEST || head[1] != 1 || head[2] != 6 || memcmp(addresses + 12, nobody, 4) != 0)
		return false;
	memcpy(ret->id, id, 4);
	ret->broadcast = flags & FLAG_BROADCAST;
	memcpy(ret->client, addresses, 4);
	memcpy(ret->mac, hardware, 6);
	if (!read_options(c, ret, &overload))
		return false;
	if ((overload & 1) && !read_options(cursor_of(file, FILE_SIZE), ret, &overload))
		return false;
	if ((overload & 2) && !read_options(cursor_of(name, NAME_SIZE), ret, &overload))
		return false;
	return ret->type >= DHCP4_DISCOVER && ret->type <= DHCP4_INFORM;
}

/* ---- Answering ---- */

/* Whole or not at all; in pieces where it is long (RFC 3396). One byte stays for the end. */
static void add_option(struct told_out *o, uint8_t code, const void *p, size_t n)
{
	size_t pieces = n ? (n + OPTION_MAX - 1) / OPTION_MAX : 1;
	const uint8_t *from = p;

	if (o->failed || o->size - o->n < n + 2 * pieces + 1)
		return;
	for (size_t i = 0; i < pieces; i++) {
		size_t now = n - i * OPTION_MAX < OPTION_MAX ? n - i * OPTION_MAX : OPTION_MAX;

		told_add8(o, code);
		told_add8(o, (uint8_t)now);
		if (now)
			told_add(o, from + i * OPTION_MAX, now);
	}
}

static bool is_zero(const uint8_t p[4])
{
	return !(p[0] | p[1] | p[2] | p[3]);
}

static void add_routes(struct told_out *o, uint8_t code, const struct told *t)
{
	uint8_t bytes[TOLD_ROUTES_MAX * 9];
	struct told_out routes = { .p = bytes, .size = sizeof(bytes) };

	for (size_t i = 0; i < t->n_routes; i++) {
		const struct told_route *r = &t->routes[i];

		told_add8(&routes, r->to.prefix);
		told_add(&routes, r->to.address, (size_t)(r->to.prefix + 7) / 8);
		told_add(&routes, r->gateway, 4);
	}
	if (routes.n)
		add_option(o, code, bytes, routes.n);
}

static void add_domains(struct told_out *o, const struct told *t)
{
	uint8_t bytes[TOLD_DOMAINS_MAX * (TOLD_DOMAIN_SIZE + 1)];
	struct told_out domains = { .p = bytes, .size = sizeof(bytes) };

	told_add_domains(&domains, t);
	if (domains.n)
		add_option(o, DOMAINS, bytes, domains.n);
}

/* The most needed first. */
static void add_settings(struct told_out *o, const struct dhcp4_request *q, const struct told *t)
{
	uint32_t mask = t->fours[0].prefix ? UINT32_MAX << (32 - t->fours[0].prefix) : 0;
	const uint8_t mask_bytes[] = { (uint8_t)(mask >> 24), (uint8_t)(mask >> 16), (uint8_t)(mask >> 8),
				       (uint8_t)mask };
	const uint8_t mtu[] = { (uint8_t)(t->mtu >> 8), (uint8_t)t->mtu };

	add_option(o, MASK, mask_bytes, sizeof(mask_bytes));
	if (!is_zero(t->gateway4))
		add_option(o, ROUTERS, t->gateway4, 4);
	if (t->n_dns4)
		add_option(o, SERVERS, t->dns4, t->n_dns4 * 4);
	/* RFC 2132, 5.1: less than 68 is none. */
	if (t->mtu >= 68 && t->mtu <= UINT16_MAX)
		add_option(o, MTU, mtu, sizeof(mtu));
	if (t->host[0])
		add_option(o, HOST_NAME, t->host, strlen(t->host));
	if (t->n_domains)
		add_option(o, DOMAIN_NAME, t->domains[0], strlen(t->domains[0]));
	add_routes(o, ROUTES, t);
	if (q->wants_old_routes)
		add_routes(o, OLD_ROUTES, t);
	add_domains(o, t);
}

/* What becomes of a request (RFC 2131, 4.3); 0 = no answer. */
static enum dhcp4_type judge(const struct dhcp4_request *q, const struct told *t)
{
	const uint8_t *address = t->fours[0].address, *claimed = is_zero(q->wanted) ? q->client : q->wanted;

	if (q->type == DHCP4_DISCOVER)
		return q->rapid ? DHCP4_ACK : DHCP4_OFFER;
	if (q->type == DHCP4_INFORM)
		return DHCP4_ACK;
	if (q->type != DHCP4_REQUEST)
		return 0;
	/* It took somebody else's offer. */
	if (!is_zero(q->server) && memcmp(q->server, t->server4, 4) != 0)
		return 0;
	return memcmp(claimed, address, 4) == 0 ? DHCP4_ACK : DHCP4_NAK;
}

static size_t room(const struct dhcp4_request *q, const struct told *t, size_t size)
{
	size_t max = (size_t)q->max[0] << 8 | q->max[1], link = t->mtu > 576 ? t->mtu - 28 : SIZE_ALWAYS;

	/* RFC 2132, 9.10: with the headers of IP and UDP, which not every client counts. */
	max = max > SIZE_ALWAYS + 28 ? max - 28 : SIZE_ALWAYS;
	if (max > link)
		max = link;
	return max < size ? max : size;
}

size_t dhcp4_answer(const struct dhcp4_request *q, const struct told *t, uint8_t *out, size_t size,
		    enum dhcp4_type *ret_type)
{
	static const uint8_t for_ever[] = { 0xff, 0xff, 0xff, 0xff };
	struct told_out o = { .p = out, .size = room(q, t, size) };
	enum dhcp4_type type = t->n_fours && memcmp(q->mac, t->mac, 6) == 0 ? judge(q, t) : 0;
	const uint8_t type_byte = (uint8_t)type;
	bool leased = type != DHCP4_NAK && q->type != DHCP4_INFORM;

	if (!type || o.size < SIZE_ALWAYS)
		return 0;
	memset(out, 0, FIRST_OPTION);
	out[0] = BOOT_REPLY;
	out[1] = 1;
	out[2] = 6;
	memcpy(out + 4, q->id, 4);
	/* RFC 2131, table 3: a refusal is for everybody on the link. */
	out[10] = q->broadcast || type == DHCP4_NAK ? FLAG_BROADCAST >> 8 : 0;
	if (type != DHCP4_NAK)
		memcpy(out + 12, q->client, 4);
	if (leased)
		memcpy(out + 16, t->fours[0].address, 4);
	memcpy(out + 28, q->mac, 6);
	memcpy(out + FIRST_OPTION - sizeof(cookie), cookie, sizeof(cookie));
	o.n = FIRST_OPTION;
	add_option(&o, TYPE, &type_byte, 1);
	add_option(&o, SERVER, t->server4, 4);
	/* RFC 6842 */
	if (q->client_id_size)
		add_option(&o, CLIENT_ID, q->client_id, q->client_id_size);
	if (leased)
		add_option(&o, LEASE, for_ever, sizeof(for_ever));
	if (q->type == DHCP4_DISCOVER && type == DHCP4_ACK)
		add_option(&o, RAPID, NULL, 0);
	if (type != DHCP4_NAK)
		add_settings(&o, q, t);
	told_add8(&o, END);
	while (o.n < BOOTP_SIZE)
		told_add8(&o, PAD);
	*ret_type = type;
	return o.failed ? 0 : o.n;
}
