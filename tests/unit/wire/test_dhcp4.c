/* DHCP for IPv4: every state of a client, what does not fit, and what nobody sane sends. */
#include "wire/dhcp4.h"

#include "test.h"

static struct told usual(void)
{
	return (struct told){ .mac = { 2, 0x42, 0xac, 0x11, 0, 2 },
			      .mtu = 1400,
			      .host = "box",
			      .domains = { "example.org", "lan.example.org" },
			      .n_domains = 2,
			      .fours = { { { 172, 17, 0, 2 }, 16 } },
			      .n_fours = 1,
			      .server4 = { 169, 254, 255, 1 },
			      .gateway4 = { 172, 17, 0, 1 },
			      .routes = { { { { 169, 254, 255, 1 }, 32 }, { 0 } },
					  { { { 0 }, 0 }, { 172, 17, 0, 1 } } },
			      .n_routes = 2,
			      .dns4 = { { 169, 254, 255, 1 } },
			      .n_dns4 = 1 };
}

static struct dhcp4_request request(enum dhcp4_type type)
{
	return (struct dhcp4_request){ .type = type, .id = { 1, 2, 3, 4 }, .mac = { 2, 0x42, 0xac, 0x11, 0, 2 } };
}

/* A message as clients send it: its options follow, ended. */
static size_t message(uint8_t *p, const void *options, size_t n)
{
	memset(p, 0, 240);
	memcpy(p, "\1\1\6\0\1\2\3\4", 8);
	p[10] = 0x80;
	memcpy(p + 28, "\2\x42\xac\x11\0\2", 6);
	memcpy(p + 236, "\x63\x82\x53\x63", 4);
	memcpy(p + 240, options, n);
	return 240 + n;
}

/* The value of an option, with its size; NULL = it is not there. Pieces are not put together. */
static const uint8_t *option(const uint8_t *p, size_t n, uint8_t code, size_t *ret_n)
{
	size_t at = 240;

	while (at + 1 < n && p[at] != 255) {
		if (p[at] == 0) {
			at++;
			continue;
		}
		if (p[at] == code) {
			*ret_n = p[at + 1];
			return p + at + 2;
		}
		at += 2U + p[at + 1];
	}
	return NULL;
}

static void has_option(const uint8_t *p, size_t n, uint8_t code, const char *value, size_t size)
{
	size_t got = 0;
	const uint8_t *v = option(p, n, code, &got);

	if (!v || got != size || memcmp(v, value, size) != 0)
		test_fail(__FILE__, __LINE__, "option %u: %s, %zu bytes", code, v ? "another" : "missing", got);
}

TEST(a_request_is_read)
{
	static const char options[] = "\x35\1\3\0\0\x32\4\xac\x11\0\2\x36\4\xa9\xfe\xff\1\x39\2\5\xdc\x50\0\x37\4\1\3"
				      "\x79\xf9\x3d\3\0ab\xff\x35\1\1";
	struct dhcp4_request q;
	uint8_t p[400];
	size_t n = message(p, options, sizeof(options) - 1);

	ASSERT(dhcp4_read(p, n, &q));
	ASSERT_EQ(q.type, DHCP4_REQUEST);
	ASSERT(q.broadcast && q.rapid && q.wants_old_routes);
	ASSERT_MEMEQ(q.wanted, "\xac\x11\0\2", 4);
	ASSERT_MEMEQ(q.server, "\xa9\xfe\xff\1", 4);
	ASSERT_MEMEQ(q.max, "\5\xdc", 2);
	ASSERT_MEMEQ(q.id, "\1\2\3\4", 4);
	ASSERT_EQ(q.client_id_size, 3);
	/* In the places of names that have no other use. */
	n = message(p, "\x34\1\3\xff", 4);
	memcpy(p + 108, "\x35\1\1\xff", 4);
	memcpy(p + 44, "\x32\4\1\2\3\4\xff", 7);
	ASSERT(dhcp4_read(p, n, &q));
	ASSERT_EQ(q.type, DHCP4_DISCOVER);
	ASSERT_MEMEQ(q.wanted, "\1\2\3\4", 4);
}

TEST(what_is_no_request_of_a_client_is_not)
{
	struct dhcp4_request q;
	uint8_t p[400];
	size_t n = message(p, "\x35\1\1\xff", 4);

	for (size_t i = 0; i < n - 1; i++)
		ASSERT(!dhcp4_read(p, i, &q));
	ASSERT(dhcp4_read(p, n, &q));
	/* An answer, another kind of hardware, through a relay, no DHCP at all. */
	for (size_t i = 0; i < 4; i++) {
		static const size_t at[] = { 0, 1, 24, 236 };

		p[at[i]] ^= 2;
		ASSERT(!dhcp4_read(p, n, &q));
		p[at[i]] ^= 2;
	}
	n = message(p, "\xff", 1);
	ASSERT(!dhcp4_read(p, n, &q));
	n = message(p, "\x35\1\2\xff", 4);
	ASSERT(dhcp4_read(p, n, &q));
	n = message(p, "\x35\1\x0d\xff", 4);
	ASSERT(!dhcp4_read(p, n, &q));
	/* An option that is longer than the message. */
	n = message(p, "\x35\1\1\x3d\xff", 5);
	ASSERT(!dhcp4_read(p, n, &q));
}

TEST(a_client_is_offered_its_address_with_all_that_goes_with_it)
{
	struct told t = usual();
	struct dhcp4_request q = request(DHCP4_DISCOVER);
	enum dhcp4_type type = 0;
	uint8_t p[DHCP4_MAX];
	size_t n = dhcp4_answer(&q, &t, p, sizeof(p), &type), size;

	ASSERT_EQ(type, DHCP4_OFFER);
	ASSERT(n >= 300);
	ASSERT_MEMEQ(p, "\2\1\6\0\1\2\3\4", 8);
	ASSERT_MEMEQ(p + 16, "\xac\x11\0\2", 4);
	ASSERT_MEMEQ(p + 28, t.mac, 6);
	has_option(p, n, 53, "\2", 1);
	has_option(p, n, 54, "\xa9\xfe\xff\1", 4);
	has_option(p, n, 51, "\xff\xff\xff\xff", 4);
	has_option(p, n, 1, "\xff\xff\0\0", 4);
	has_option(p, n, 3, "\xac\x11\0\1", 4);
	has_option(p, n, 6, "\xa9\xfe\xff\1", 4);
	has_option(p, n, 26, "\5\x78", 2);
	has_option(p, n, 12, "box", 3);
	has_option(p, n, 15, "example.org", 11);
	has_option(p, n, 121, "\x20\xa9\xfe\xff\1\0\0\0\0\0\xac\x11\0\1", 14);
	has_option(p, n, 119, "\7example\3org\0\3lan\7example\3org\0", 30);
	ASSERT(!option(p, n, 249, &size) && !option(p, n, 80, &size));
	/* At once, and with routes as older systems have them. */
	q.rapid = q.wants_old_routes = true;
	n = dhcp4_answer(&q, &t, p, sizeof(p), &type);
	ASSERT_EQ(type, DHCP4_ACK);
	has_option(p, n, 53, "\5", 1);
	has_option(p, n, 80, "", 0);
	ASSERT(option(p, n, 249, &size));
	ASSERT_EQ(size, 14);
}

TEST(each_state_of_a_client_has_its_answer)
{
	struct told t = usual();
	uint8_t p[DHCP4_MAX];
	size_t size;
	/* wanted, server, own: 0 = not said, 1 = ours, 2 = another. */
	static const struct {
		enum dhcp4_type type;
		int wanted, server, own;
		enum dhcp4_type answer; /* 0 = none */
	} cases[] = {
		{ DHCP4_REQUEST, 1, 1, 0, DHCP4_ACK },                                        /* it takes the offer */
		{ DHCP4_REQUEST, 1, 2, 0, 0 },                                                /* somebody else's */
		{ DHCP4_REQUEST, 2, 1, 0, DHCP4_NAK }, { DHCP4_REQUEST, 1, 0, 0, DHCP4_ACK }, /* it starts again */
		{ DHCP4_REQUEST, 2, 0, 0, DHCP4_NAK }, { DHCP4_REQUEST, 0, 0, 1, DHCP4_ACK }, /* it goes on */
		{ DHCP4_REQUEST, 0, 0, 2, DHCP4_NAK }, { DHCP4_REQUEST, 0, 0, 0, DHCP4_NAK },
		{ DHCP4_INFORM, 0, 0, 1, DHCP4_ACK },  { DHCP4_RELEASE, 0, 1, 1, 0 },
		{ DHCP4_DECLINE, 1, 1, 0, 0 },         { DHCP4_OFFER, 0, 0, 0, 0 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct dhcp4_request q = request(cases[i].type);
		enum dhcp4_type type = 0;
		size_t n;

		memcpy(q.wanted, cases[i].wanted == 1 ? "\xac\x11\0\2" : cases[i].wanted ? "\1\1\1\1" : "\0\0\0\0", 4);
		memcpy(q.server,
		       cases[i].server == 1 ? "\xa9\xfe\xff\1"
		       : cases[i].server    ? "\1\1\1\1"
					    : "\0\0\0\0",
		       4);
		memcpy(q.client, cases[i].own == 1 ? "\xac\x11\0\2" : cases[i].own ? "\1\1\1\1" : "\0\0\0\0", 4);
		n = dhcp4_answer(&q, &t, p, sizeof(p), &type);
		ASSERT_EQ(n > 0, cases[i].answer != 0);
		if (n)
			ASSERT_EQ(type, cases[i].answer);
		if (n && type == DHCP4_NAK)
			ASSERT(p[10] == 0x80 && memcmp(p + 16, "\0\0\0\0", 4) == 0 && !option(p, n, 1, &size));
		/* Who only asks has its address already. */
		if (n && cases[i].type == DHCP4_INFORM)
			ASSERT(memcmp(p + 16, "\0\0\0\0", 4) == 0 && !option(p, n, 51, &size) &&
			       option(p, n, 6, &size));
	}
}

TEST(nobody_else_is_answered)
{
	struct told t = usual();
	struct dhcp4_request q = request(DHCP4_DISCOVER);
	enum dhcp4_type type;
	uint8_t p[DHCP4_MAX];

	q.mac[5]++;
	ASSERT_EQ(dhcp4_answer(&q, &t, p, sizeof(p), &type), 0);
	q.mac[5]--;
	t.n_fours = 0;
	ASSERT_EQ(dhcp4_answer(&q, &t, p, sizeof(p), &type), 0);
}

TEST(what_does_not_fit_is_left_out_and_what_is_long_comes_in_pieces)
{
	struct told t = usual();
	struct dhcp4_request q = request(DHCP4_DISCOVER);
	enum dhcp4_type type;
	uint8_t p[DHCP4_MAX];
	size_t n, size;

	for (t.n_routes = 0; t.n_routes < TOLD_ROUTES_MAX; t.n_routes++)
		t.routes[t.n_routes] =
			(struct told_route){ { { 10, 1, (uint8_t)t.n_routes, 1 }, 32 }, { 172, 17, 0, 1 } };
	/* 576 bytes with all headers: the routes do not fit, the domains after them do. */
	n = dhcp4_answer(&q, &t, p, sizeof(p), &type);
	ASSERT(n > 0 && n <= 548);
	ASSERT(!option(p, n, 121, &size));
	ASSERT(option(p, n, 119, &size));
	memcpy(q.max, "\5\x78", 2);
	n = dhcp4_answer(&q, &t, p, sizeof(p), &type);
	ASSERT(n > 548 && n <= 1400 - 28);
	ASSERT(option(p, n, 121, &size));
	ASSERT_EQ(size, 255);
	ASSERT_EQ(p[n - 1], 255);
	/* As much as it likes is not more than the link takes. */
	memcpy(q.max, "\xff\xff", 2);
	ASSERT(dhcp4_answer(&q, &t, p, sizeof(p), &type) <= 1400 - 28);
	memcpy(q.max, "\0\1", 2);
	ASSERT(dhcp4_answer(&q, &t, p, sizeof(p), &type) <= 548);
	ASSERT_EQ(dhcp4_answer(&q, &t, p, 300, &type), 0);
	/* Names that are none. */
	memset(t.domains[0], 'a', TOLD_DOMAIN_SIZE - 1);
	memcpy(t.domains[1], "a..b", 5);
	n = dhcp4_answer(&q, &t, p, sizeof(p), &type);
	ASSERT(n > 0 && !option(p, n, 119, &size));
}
