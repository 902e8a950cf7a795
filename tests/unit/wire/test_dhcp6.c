/* DHCP for IPv6: every message of a client, and what nobody sane sends. */
#include "wire/dhcp6.h"

#include "test.h"

static const uint8_t ours[] = { 0, 3, 0, 1, 2, 0x5c, 0xe4, 0xff, 0, 1 };
static const uint8_t client[] = { 0, 3, 0, 1, 2, 0, 0, 0, 0, 9 };

static struct told usual(void)
{
	return (struct told){ .own_mac = { 2, 0x5c, 0xe4, 0xff, 0, 1 },
			      .domains = { "example.org" },
			      .n_domains = 1,
			      .sixes = { { { 0xfd, [15] = 2 }, 64 }, { { 0xfd, [15] = 3 }, 64 } },
			      .n_sixes = 2,
			      .dns6 = { { 0xfe, 0x80, [15] = 1 } },
			      .n_dns6 = 1 };
}

struct text {
	uint8_t p[1500];
	size_t n;
};

static void add(struct text *t, uint16_t code, const void *p, size_t n)
{
	const uint8_t head[] = { (uint8_t)(code >> 8), (uint8_t)code, (uint8_t)(n >> 8), (uint8_t)n };

	memcpy(t->p + t->n, head, 4);
	memcpy(t->p + t->n + 4, p, n);
	t->n += 4 + n;
}

static struct text message(enum dhcp6_type type, bool with_server)
{
	struct text t = { .p = { (uint8_t)type, 1, 2, 3 }, .n = 4 };

	add(&t, 1, client, sizeof(client));
	if (with_server)
		add(&t, 2, ours, sizeof(ours));
	return t;
}

/* An association with one address, or none. */
static void add_association(struct text *t, uint16_t code, uint8_t id, uint8_t last)
{
	struct text inner = { .p = { 0, 0, 0, id }, .n = 12 };
	uint8_t address[24] = { 0xfd, [15] = last };

	if (last)
		add(&inner, 5, address, sizeof(address));
	add(t, code, inner.p, inner.n);
}

static const uint8_t *option(const uint8_t *p, size_t n, size_t at, uint16_t code, size_t *ret_n)
{
	while (at + 4 <= n) {
		size_t size = (size_t)p[at + 2] << 8 | p[at + 3];

		if ((p[at] << 8 | p[at + 1]) == code) {
			*ret_n = size;
			return p + at + 4;
		}
		at += 4 + size;
	}
	return NULL;
}

static size_t answer(const struct text *m, const struct told *t, uint8_t *p, size_t size)
{
	struct dhcp6_request q;

	ASSERT(dhcp6_read(m->p, m->n, &q));
	return dhcp6_answer(&q, t, p, size);
}

TEST(a_client_gets_all_addresses_of_its_interface)
{
	static const enum dhcp6_type types[] = { DHCP6_SOLICIT, DHCP6_REQUEST, DHCP6_RENEW, DHCP6_REBIND };
	struct told t = usual();
	uint8_t p[DHCP6_MAX];

	for (size_t i = 0; i < 4; i++) {
		struct text m = message(types[i], types[i] == DHCP6_REQUEST || types[i] == DHCP6_RENEW);
		const uint8_t *o, *a;
		size_t n, size, inner;

		/* With an address that it never had: that one ends. */
		add_association(&m, 3, 7, 0x99);
		n = answer(&m, &t, p, sizeof(p));
		ASSERT(n > 0);
		ASSERT_EQ(p[0], types[i] == DHCP6_SOLICIT ? DHCP6_ADVERTISE : DHCP6_REPLY);
		ASSERT_MEMEQ(p + 1, "\1\2\3", 3);
		o = option(p, n, 4, 1, &size);
		ASSERT(o && size == sizeof(client) && memcmp(o, client, size) == 0);
		o = option(p, n, 4, 2, &size);
		ASSERT(o && size == sizeof(ours) && memcmp(o, ours, size) == 0);
		o = option(p, n, 4, 3, &size);
		ASSERT(o && size == 12 + 3 * 28 && memcmp(o, "\0\0\0\7\xff\xff\xff\xff\xff\xff\xff\xff", 12) == 0);
		a = option(o, size, 12, 5, &inner);
		ASSERT(a && inner == 24 && a[0] == 0xfd && a[15] == 2 &&
		       memcmp(a + 16, "\xff\xff\xff\xff\xff\xff\xff\xff", 8) == 0);
		ASSERT(a[28] == 0xfd && a[28 + 15] == 3);
		ASSERT(a[56 + 15] == 0x99 && memcmp(a + 56 + 16, "\0\0\0\0\0\0\0\0", 8) == 0);
		o = option(p, n, 4, 23, &size);
		ASSERT(o && size == 16 && o[0] == 0xfe);
		o = option(p, n, 4, 24, &size);
		ASSERT(o && size == 13 && memcmp(o, "\7example\3org", 13) == 0);
		ASSERT_EQ(option(p, n, 4, 7, &size) != NULL, types[i] == DHCP6_SOLICIT);
	}
}

TEST(in_a_hurry_it_gets_them_at_once)
{
	struct told t = usual();
	struct text m = message(DHCP6_SOLICIT, false);
	uint8_t p[DHCP6_MAX];
	size_t n, size;

	add(&m, 14, "", 0);
	add_association(&m, 3, 7, 0);
	n = answer(&m, &t, p, sizeof(p));
	ASSERT(n > 0 && p[0] == DHCP6_REPLY);
	ASSERT(option(p, n, 4, 14, &size) && option(p, n, 4, 3, &size));
}

TEST(there_are_no_prefixes_and_the_addresses_only_once)
{
	struct told t = usual();
	struct text m = message(DHCP6_REQUEST, true);
	uint8_t p[DHCP6_MAX];
	const uint8_t *o, *status;
	size_t n, size, inner;

	add_association(&m, 25, 1, 0);
	add_association(&m, 3, 2, 0);
	add_association(&m, 3, 3, 0);
	n = answer(&m, &t, p, sizeof(p));
	o = option(p, n, 4, 25, &size);
	ASSERT(o && size == 12 + 6);
	status = option(o, size, 12, 13, &inner);
	ASSERT(status && inner == 2 && status[1] == 6);
	o = option(p, n, 4, 3, &size);
	ASSERT(o && size == 12 + 2 * 28 && o[3] == 2);
	o = option(o + size, (size_t)(p + n - o) - size, 0, 3, &size);
	ASSERT(o && o[3] == 3 && size == 12 + 6 && o[12 + 5] == 2);
}

TEST(is_it_still_right)
{
	struct told t = usual();
	struct text right = message(DHCP6_CONFIRM, false), wrong = message(DHCP6_CONFIRM, false),
		    empty = message(DHCP6_CONFIRM, false);
	const uint8_t *o;
	uint8_t p[DHCP6_MAX];
	size_t n, size;

	add_association(&right, 3, 1, 2);
	n = answer(&right, &t, p, sizeof(p));
	o = option(p, n, 4, 13, &size);
	ASSERT(o && o[1] == 0);
	add_association(&wrong, 3, 1, 0x44);
	n = answer(&wrong, &t, p, sizeof(p));
	o = option(p, n, 4, 13, &size);
	ASSERT(o && o[1] == 4);
	add_association(&empty, 3, 1, 0);
	ASSERT_EQ(answer(&empty, &t, p, sizeof(p)), 0);
}

TEST(what_is_given_back_and_what_is_only_asked)
{
	struct told t = usual();
	struct text release = message(DHCP6_RELEASE, true),
		    information = { .p = { DHCP6_INFORMATION, 1, 2, 3 }, .n = 4 };
	const uint8_t *o;
	uint8_t p[DHCP6_MAX];
	size_t n, size;

	add_association(&release, 3, 1, 2);
	n = answer(&release, &t, p, sizeof(p));
	o = option(p, n, 4, 13, &size);
	ASSERT(o && o[1] == 0 && !option(p, n, 4, 3, &size));
	n = answer(&information, &t, p, sizeof(p));
	ASSERT(n > 0 && option(p, n, 4, 23, &size) && !option(p, n, 4, 1, &size) && !option(p, n, 4, 3, &size));
}

TEST(what_is_against_the_rules_has_no_answer)
{
	static const enum dhcp6_type wants_no_server[] = { DHCP6_SOLICIT, DHCP6_CONFIRM, DHCP6_REBIND },
				     wants_server[] = { DHCP6_REQUEST, DHCP6_RENEW, DHCP6_RELEASE, DHCP6_DECLINE },
				     never[] = { 0, DHCP6_ADVERTISE, DHCP6_REPLY, 10, 12, 255 };
	struct told t = usual(), none = usual();
	struct text m = { .p = { DHCP6_SOLICIT }, .n = 4 };
	uint8_t p[DHCP6_MAX];

	none.n_sixes = 0;
	ASSERT_EQ(answer(&m, &t, p, sizeof(p)), 0);
	for (size_t i = 0; i < 3; i++) {
		m = message(wants_no_server[i], true);
		add_association(&m, 3, 1, 2);
		ASSERT_EQ(answer(&m, &t, p, sizeof(p)), 0);
	}
	for (size_t i = 0; i < 4; i++) {
		m = message(wants_server[i], false);
		ASSERT_EQ(answer(&m, &t, p, sizeof(p)), 0);
		add(&m, 2, client, sizeof(client));
		ASSERT_EQ(answer(&m, &t, p, sizeof(p)), 0);
		m = message(wants_server[i], true);
		ASSERT(answer(&m, &t, p, sizeof(p)) > 0);
		ASSERT_EQ(answer(&m, &none, p, sizeof(p)), 0);
		ASSERT_EQ(answer(&m, &t, p, 20), 0);
	}
	for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
		m = message(never[i], true);
		ASSERT_EQ(answer(&m, &t, p, sizeof(p)), 0);
	}
}

TEST(what_is_cut_short_is_none)
{
	struct text m = message(DHCP6_SOLICIT, false);
	struct dhcp6_request q;
	size_t whole = 4;

	add_association(&m, 3, 1, 2);
	for (size_t i = 0; i < m.n; i++)
		if (dhcp6_read(m.p, i, &q)) {
			/* Between options only. */
			ASSERT(i == whole || i == whole + 4 + sizeof(client));
		}
	/* Sizes that lie: of an association, of an address in it, of a name. */
	m.p[4 + 14 + 3] = 11;
	ASSERT(!dhcp6_read(m.p, 4 + 14 + 4 + 11, &q));
	m = message(DHCP6_SOLICIT, false);
	add_association(&m, 3, 1, 2);
	m.p[m.n - 25] = 23;
	ASSERT(!dhcp6_read(m.p, m.n, &q));
	m = (struct text){ .p = { DHCP6_SOLICIT }, .n = 4 };
	add(&m, 1, "ab", 2);
	ASSERT(!dhcp6_read(m.p, m.n, &q));
	/* As many as fit, and no more. */
	m = message(DHCP6_SOLICIT, false);
	for (uint8_t i = 0; i < 20; i++)
		add_association(&m, 3, i, 2);
	ASSERT(dhcp6_read(m.p, m.n, &q));
	ASSERT_EQ(q.n, DHCP6_ASSOCIATIONS_MAX);
}
