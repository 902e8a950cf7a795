/* What becomes of a container's interface in the words of DHCP and of advertisements. */
#include <arpa/inet.h>

#include "docker/teller.h"
#include "test.h"

static struct net_route *routes(size_t n, const struct net_route *from)
{
	struct net_route *r = xnew_n(struct net_route, n);

	memcpy(r, from, n * sizeof(*from));
	return r;
}

/* As docker makes it. */
static struct net_takeover_nic usual(void)
{
	static const struct net_route ways[] = {
		{ .destination = "10.8.0.0/16" },
		{ .destination = "fd09::/48" },
		{ .destination = "0.0.0.0/0", .gateway = "172.30.0.1" },
		{ .destination = "::/0", .gateway = "fd00:30::1" },
		{ .destination = "2001:db8:1::/48", .gateway = "fd00:30::1" },
		{ .destination = "2001:db8:2::/48", .gateway = "fd00:30::9" },
		{ .destination = "10.9.0.0/16", .gateway = "fd00:30::1" },
	};
	struct net_takeover_nic nic = {
		.mac = "02:42:ac:1e:00:0b", .mtu = 1400, .gateway = "172.30.0.1", .gateway6 = "fd00:30::1"
	};

	nic.routes = routes(sizeof(ways) / sizeof(ways[0]), ways);
	nic.n_routes = sizeof(ways) / sizeof(ways[0]);
	strv_add(&nic.addresses, "172.30.0.11/16");
	strv_add(&nic.addresses, "fd00:30::11/64");
	strv_add(&nic.addresses, NET_CONTROL_GUEST "/" NET_CONTROL_PREFIX);
	return nic;
}

static void done(struct net_takeover_nic *nic)
{
	strv_done(&nic->addresses);
	free(nic->routes);
}

static bool is(const uint8_t *p, const char *text)
{
	uint8_t bytes[16];
	bool six = strchr(text, ':') != NULL;

	ASSERT_EQ(inet_pton(six ? AF_INET6 : AF_INET, text, bytes), 1);
	return memcmp(p, bytes, six ? 16 : 4) == 0;
}

TEST(an_interface_of_docker_s)
{
	struct net_takeover_nic nic = usual();
	struct net_plan plan = {};
	struct teller_options o = { .plan = &plan, .host = "box" };
	struct told t;
	const char *gateway = NULL;
	bool control = false;

	strv_add(&plan.search, "example.org");
	told_from_nic(&nic, &o, &t, &control, &gateway);
	ASSERT(control);
	ASSERT_MEMEQ(t.mac, "\2\x42\xac\x1e\0\x0b", 6);
	ASSERT_EQ(t.mtu, 1400);
	ASSERT_STREQ(t.host, "box");
	ASSERT_EQ(t.n_domains, 1);
	ASSERT_STREQ(t.domains[0], "example.org");
	/* The control address is for guests that know where it leads. */
	ASSERT_EQ(t.n_fours, 1);
	ASSERT(is(t.fours[0].address, "172.30.0.11") && t.fours[0].prefix == 16);
	ASSERT(is(t.gateway4, "172.30.0.1") && is(t.server4, NET_CONTROL_HOST));
	ASSERT_EQ(t.n_routes, 3);
	ASSERT(is(t.routes[0].to.address, NET_CONTROL_HOST) && t.routes[0].to.prefix == 32 &&
	       is(t.routes[0].gateway, "0.0.0.0"));
	ASSERT(is(t.routes[1].to.address, "10.8.0.0") && is(t.routes[1].gateway, "0.0.0.0"));
	ASSERT(t.routes[2].to.prefix == 0 && is(t.routes[2].gateway, "172.30.0.1"));
	ASSERT_EQ(t.n_sixes, 1);
	ASSERT(is(t.sixes[0].address, "fd00:30::11") && t.sixes[0].prefix == 64);
	/* A router must have a link-local address: ours stands in. */
	ASSERT(t.default6 && is(t.router6, NET_CONTROL_ROUTER) && is(t.own6, NET_CONTROL_SIX));
	ASSERT_STREQ(gateway, "fd00:30::1");
	ASSERT(t.n_links == 1 && is(t.links[0].address, "fd09::"));
	ASSERT(t.n_through == 1 && is(t.through[0].address, "2001:db8:1::"));
	ASSERT(t.n_dns4 == 1 && is(t.dns4[0], NET_CONTROL_HOST));
	ASSERT(t.n_dns6 == 1 && is(t.dns6[0], NET_CONTROL_SIX));
	strv_done(&plan.search);
	done(&nic);
}

TEST(a_router_that_has_a_link_local_address_is_told_as_it_is)
{
	struct net_takeover_nic nic = usual();
	struct net_plan plan = {};
	struct strv dns = {}, search = {};
	struct teller_options o = { .plan = &plan, .dns = &dns, .search = &search };
	struct told t;
	const char *gateway = "x";
	bool control;

	strv_add(&dns, "192.0.2.53");
	strv_add(&dns, "2001:db8::53");
	strv_add(&search, "corp.example");
	(void)snprintf(nic.gateway6, sizeof(nic.gateway6), "fe80::1");
	told_from_nic(&nic, &o, &t, &control, &gateway);
	ASSERT(!gateway && is(t.router6, "fe80::1"));
	/* What the user names, instead of what the network has. */
	ASSERT(t.n_dns4 == 1 && is(t.dns4[0], "192.0.2.53"));
	ASSERT(t.n_dns6 == 1 && is(t.dns6[0], "2001:db8::53"));
	ASSERT_STREQ(t.domains[0], "corp.example");
	ASSERT_STREQ(t.host, "");
	strv_done(&dns);
	strv_done(&search);
	done(&nic);
}

TEST(an_interface_without_anything_around_it)
{
	struct net_takeover_nic nic = { .mac = "02:00:00:00:00:01" };
	struct net_plan plan = {};
	struct teller_options o = { .plan = &plan };
	struct told t;
	const char *gateway;
	bool control;

	for (int i = 0; i < 40; i++)
		strv_addf(&nic.addresses, "10.0.0.%d/24", i + 1);
	told_from_nic(&nic, &o, &t, &control, &gateway);
	ASSERT(!control && !gateway && !t.default6 && t.n_routes == 0 && t.n_dns4 == 0 && t.n_sixes == 0);
	ASSERT_EQ(t.n_fours, TOLD_ADDRESSES_MAX);
	ASSERT(is(t.router6, NET_CONTROL_SIX) && is(t.gateway4, "0.0.0.0"));
	strv_done(&nic.addresses);
}
