/* Routers and neighbours: what is asked, what is told, what is forged. */
#include "wire/ndp.h"

#include "test.h"

static struct told usual(void)
{
	return (struct told){ .mtu = 1400,
			      .domains = { "example.org", "x.example.org" },
			      .n_domains = 2,
			      .sixes = { { { 0xfd, 1, [15] = 2 }, 64 }, { { 0xfd, 2, [15] = 2 }, 128 } },
			      .n_sixes = 2,
			      .default6 = true,
			      .links = { { { 0xfd, 3 }, 48 } },
			      .n_links = 1,
			      .through = { { { 0x20, 1 }, 48 }, { { 0x20, 2, [15] = 1 }, 128 } },
			      .n_through = 2,
			      .dns6 = { { 0xfe, 0x80, [15] = 1 } },
			      .n_dns6 = 1 };
}

/* The n-th option of that kind. */
static const uint8_t *option(const uint8_t *p, size_t n, uint8_t type, unsigned which)
{
	for (size_t at = 16; at + 8 <= n; at += (size_t)p[at + 1] * 8) {
		if (p[at + 1] == 0)
			break;
		if (p[at] == type && which-- == 0)
			return p + at;
	}
	return NULL;
}

TEST(who_asks_by_the_rules_is_heard)
{
	uint8_t p[16] = { NDP_ROUTER_SOLICITATION, [8] = 1, [9] = 1 };

	ASSERT(ndp_is_router_solicitation(p, 8, 255));
	ASSERT(ndp_is_router_solicitation(p, 16, 255));
	/* From farther away, cut short, with an option that has no size or too much. */
	ASSERT(!ndp_is_router_solicitation(p, 16, 254));
	ASSERT(!ndp_is_router_solicitation(p, 7, 255));
	ASSERT(!ndp_is_router_solicitation(p, 12, 255));
	p[9] = 0;
	ASSERT(!ndp_is_router_solicitation(p, 16, 255));
	p[9] = 2;
	ASSERT(!ndp_is_router_solicitation(p, 16, 255));
	p[9] = 1;
	p[1] = 1;
	ASSERT(!ndp_is_router_solicitation(p, 16, 255));
	p[1] = 0;
	p[0] = NDP_ROUTER_ADVERTISEMENT;
	ASSERT(!ndp_is_router_solicitation(p, 16, 255));
}

TEST(a_router_tells_all_that_addresses_are_not)
{
	static const uint8_t mac[] = { 2, 1, 1, 1, 1, 1 };
	struct told t = usual();
	const uint8_t *o;
	uint8_t p[NDP_MAX];
	size_t n = ndp_write_router_advertisement(&t, mac, p, sizeof(p));

	ASSERT(n > 0 && n % 8 == 0);
	/* Managed, and for so long. */
	ASSERT(p[0] == 134 && p[1] == 0 && p[4] == 64 && p[5] == 0xc0 && (p[6] << 8 | p[7]) == 9000);
	o = option(p, n, 1, 0);
	ASSERT(o && memcmp(o + 2, mac, 6) == 0);
	o = option(p, n, 5, 0);
	ASSERT(o && memcmp(o + 4, "\0\0\5\x78", 4) == 0);
	/* On the link, no address is made from it; of an address alone there is none. */
	o = option(p, n, 3, 0);
	ASSERT(o && o[2] == 64 && o[3] == 0x80 && memcmp(o + 16, "\xfd\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16) == 0);
	o = option(p, n, 3, 1);
	ASSERT(o && o[2] == 48 && memcmp(o + 16, "\xfd\3", 2) == 0);
	ASSERT(!option(p, n, 3, 2));
	o = option(p, n, 24, 0);
	ASSERT(o && o[1] == 2 && o[2] == 48 && memcmp(o + 8, "\x20\1", 2) == 0);
	o = option(p, n, 24, 1);
	ASSERT(o && o[1] == 3 && o[2] == 128 && o[8 + 15] == 1);
	o = option(p, n, 25, 0);
	ASSERT(o && o[1] == 3 && o[8] == 0xfe);
	o = option(p, n, 31, 0);
	ASSERT(o && o[1] == 5 && memcmp(o + 8, "\7example\3org\0\1x\7example\3org\0", 28) == 0);
	/* Without a default route it is no router for the rest, and asks to be asked for its hardware address. */
	t.default6 = false;
	n = ndp_write_router_advertisement(&t, NULL, p, sizeof(p));
	ASSERT(p[6] == 0 && p[7] == 0 && !option(p, n, 1, 0) && option(p, n, 24, 0));
	/* An MTU that IPv6 does not know. */
	t.mtu = 1000;
	n = ndp_write_router_advertisement(&t, NULL, p, sizeof(p));
	ASSERT(!option(p, n, 5, 0));
}

TEST(what_does_not_fit_is_nothing_but_names)
{
	struct told t = usual();
	uint8_t p[NDP_MAX];
	size_t n, most = 0;

	for (size_t size = 0; size < 400; size++) {
		n = ndp_write_router_advertisement(&t, NULL, p, size);
		ASSERT(n <= size);
		most = n > most ? n : most;
	}
	ASSERT(option(p, most, 31, 0) != NULL);
	/* Domains of 6 * 254 bytes are left out. */
	for (t.n_domains = 0; t.n_domains < TOLD_DOMAINS_MAX; t.n_domains++)
		for (int i = 0; i < 253; i++)
			t.domains[t.n_domains][i] = i % 50 == 49 ? '.' : 'a';
	n = ndp_write_router_advertisement(&t, NULL, p, sizeof(p));
	ASSERT(n > 0 && option(p, n, 3, 0) && !option(p, n, 31, 0));
}

TEST(a_neighbour_is_asked_for_and_answered)
{
	static const uint8_t mac[] = { 2, 1, 1, 1, 1, 1 };
	uint8_t p[32] = { NDP_NEIGHBOUR_SOLICITATION, [8] = 0xfe, [9] = 0x80, [23] = 1, [24] = 1, [25] = 1 },
		target[16], out[32];

	ASSERT(ndp_read_neighbour_solicitation(p, 32, 255, target));
	ASSERT_MEMEQ(target, p + 8, 16);
	ASSERT(ndp_read_neighbour_solicitation(p, 24, 255, target));
	for (size_t i = 0; i < 24; i++)
		ASSERT(!ndp_read_neighbour_solicitation(p, i, 255, target));
	ASSERT(!ndp_read_neighbour_solicitation(p, 32, 64, target));
	ASSERT_EQ(ndp_write_neighbour_advertisement(target, mac, true, out, sizeof(out)), 32);
	ASSERT(out[0] == 136 && out[4] == 0xe0 && memcmp(out + 8, target, 16) == 0 && out[24] == 2 &&
	       memcmp(out + 26, mac, 6) == 0);
	ASSERT_EQ(ndp_write_neighbour_advertisement(target, mac, true, out, 31), 0);
}
