/* What an interface that is to be taken over has: read from network namespaces that the tests make. */
#include "net/takeover.h"

#include "netns.h"
#include "takeover_pair.h"
#include "test.h"

static void refused(int ns, const struct strv *names, enum error_kind kind, const char *text)
{
	struct net_takeover t = {};
	struct error e = {};

	ASSERT(net_takeover_inspect(ns, names, &t, &e) < 0);
	ASSERT_EQ(e.kind, kind);
	ASSERT_CONTAINS(e.msg, text);
	error_done(&e);
}

static bool has_route(const struct net_takeover_nic *nic, const char *destination, const char *gateway,
		      const char *source, uint32_t metric)
{
	for (size_t i = 0; i < nic->n_routes; i++) {
		const struct net_route *r = &nic->routes[i];

		if (streq(r->destination, destination) && streq(r->gateway, gateway) && streq(r->source, source) &&
		    r->metric == metric)
			return true;
	}
	return false;
}

TEST(what_was_set_is_what_is_read)
{
	struct takeover_pair p = takeover_pair();
	struct net_takeover t;
	struct net_takeover_nic *nic;

	netns_run(p.inside, "ip link set eth0 mtu 1450");
	netns_run(p.inside, "ip address add 10.9.0.7/24 dev eth0");
	netns_run(p.inside, "ip route add 10.0.0.0/8 via 172.17.0.9 metric 50 src 10.9.0.7");
	netns_run(p.inside, "ip route add 192.0.2.0/24 dev eth0");
	netns_run(p.inside, "ip route add default via 172.17.0.8 metric 200 mtu 1400");
	netns_run(p.inside, "ip route add 198.51.100.0/24 nexthop via 172.17.0.3 nexthop via 172.17.0.4");
	netns_run(p.inside, "ip route add blackhole 203.0.113.0/24");
	netns_run(p.inside, "ip route add 10.77.0.0/16 via 172.17.0.1 table 77");
	netns_run(p.inside, "ip -6 route add 2001:db8::/32 via fe80::99 dev eth0 metric 33");
	netns_run(p.inside, "ip route add 203.0.113.128/25 via inet6 fe80::98 dev eth0");
	netns_run(p.inside, "ip neighbour add 172.17.0.1 lladdr 0a:00:00:00:00:01 dev eth0 nud permanent");
	netns_run(p.inside, "ip neighbour add 172.17.0.5 lladdr 0a:00:00:00:00:05 dev eth0 nud stale");
	free(takeover_settled(p.inside, "eth0"));
	t = takeover_inspected(p.inside);
	ASSERT_EQ(t.n, 1);
	nic = &t.nics[0];
	ASSERT_STREQ(nic->name, "eth0");
	ASSERT_STREQ(nic->mac, "02:42:ac:11:00:02");
	ASSERT_EQ(nic->mtu, 1450);
	ASSERT_EQ(nic->addresses.n, 3);
	ASSERT(strv_has(&nic->addresses, "172.17.0.2/16"));
	ASSERT(strv_has(&nic->addresses, "10.9.0.7/24"));
	ASSERT(strv_has(&nic->addresses, "fd00::2/64"));
	ASSERT_STREQ(nic->gateway, "172.17.0.1");
	ASSERT_STREQ(nic->gateway6, "fd00::1");
	ASSERT(has_route(nic, "0.0.0.0/0", "172.17.0.1", "", 0));
	ASSERT(has_route(nic, "0.0.0.0/0", "172.17.0.8", "", 200));
	ASSERT(has_route(nic, "10.0.0.0/8", "172.17.0.9", "10.9.0.7", 50));
	ASSERT(has_route(nic, "192.0.2.0/24", "", "", 0));
	ASSERT(has_route(nic, "198.51.100.0/24", "172.17.0.3", "", 0));
	ASSERT(has_route(nic, "::/0", "fd00::1", "", 1024));
	ASSERT(has_route(nic, "2001:db8::/32", "fe80::99", "", 33));
	ASSERT(has_route(nic, "203.0.113.128/25", "fe80::98", "", 0));
	ASSERT_EQ(nic->n_routes, 8);
	for (size_t i = 0; i < nic->n_routes; i++)
		ASSERT_EQ(nic->routes[i].mtu, nic->routes[i].metric == 200 ? 1400 : 0);
	ASSERT_STREQ(nic->routes[0].gateway, "");
	ASSERT_EQ(nic->n_neighbours, 1);
	ASSERT_STREQ(nic->neighbours[0].address, "172.17.0.1");
	ASSERT_STREQ(nic->neighbours[0].mac, "0a:00:00:00:00:01");
	net_takeover_done(&t);
}

TEST(a_gateway_outside_of_the_network_comes_behind_the_way_to_it)
{
	struct takeover_pair p = { netns_new(), netns_new() };
	struct net_takeover t;

	/* As Calico does it: one address, everything by a gateway that only answers for others. */
	netns_pair(p.inside, "eth0", p.outside, "cali0");
	netns_run(p.inside, "ip address add 10.244.1.7/32 dev eth0");
	netns_run(p.inside, "ip route add 169.254.1.1 dev eth0 scope link");
	netns_run(p.inside, "ip route add default via 169.254.1.1 dev eth0");
	t = takeover_inspected(p.inside);
	ASSERT_EQ(t.n, 1);
	ASSERT_EQ(t.nics[0].addresses.n, 1);
	ASSERT_STREQ(t.nics[0].addresses.items[0], "10.244.1.7/32");
	ASSERT_EQ(t.nics[0].n_routes, 2);
	ASSERT_STREQ(t.nics[0].routes[0].destination, "169.254.1.1/32");
	ASSERT_STREQ(t.nics[0].routes[0].gateway, "");
	ASSERT_STREQ(t.nics[0].routes[1].destination, "0.0.0.0/0");
	ASSERT_STREQ(t.nics[0].routes[1].gateway, "169.254.1.1");
	ASSERT_STREQ(t.nics[0].gateway, "169.254.1.1");
	net_takeover_done(&t);
}

TEST(the_other_end_of_an_address_is_a_route)
{
	struct takeover_pair p = { netns_new(), netns_new() };
	struct net_takeover t;

	netns_pair(p.inside, "eth0", p.outside, "out0");
	netns_run(p.inside, "ip address add 10.1.1.2 peer 10.1.1.1/32 dev eth0");
	t = takeover_inspected(p.inside);
	ASSERT_EQ(t.nics[0].addresses.n, 1);
	ASSERT_STREQ(t.nics[0].addresses.items[0], "10.1.1.2/32");
	ASSERT_EQ(t.nics[0].n_routes, 1);
	ASSERT(has_route(&t.nics[0], "10.1.1.1/32", "", "10.1.1.2", 0));
	net_takeover_done(&t);
}

TEST(several_interfaces_are_all_found_or_those_that_are_named)
{
	struct takeover_pair p = takeover_pair();
	_cleanup_strv_ struct strv names = {};
	struct net_takeover t;
	struct error e = {};

	netns_pair(p.inside, "net1", p.outside, "out1");
	netns_run(p.inside, "ip address add 10.2.0.2/24 dev net1");
	netns_pair(p.inside, "bare", p.outside, "out2");
	t = takeover_inspected(p.inside);
	ASSERT_EQ(t.n, 2);
	ASSERT_STREQ(t.nics[0].name, "eth0");
	ASSERT_STREQ(t.nics[1].name, "net1");
	ASSERT_EQ(t.nics[1].n_routes, 0);
	ASSERT(t.nics[0].index < t.nics[1].index);
	net_takeover_done(&t);
	strv_add(&names, "bare");
	ASSERT_OK(net_takeover_inspect(p.inside, &names, &t, &e));
	ASSERT_EQ(t.n, 1);
	ASSERT_STREQ(t.nics[0].name, "bare");
	ASSERT_EQ(t.nics[0].addresses.n, 0);
	net_takeover_done(&t);
	strv_add(&names, "nothing");
	refused(p.inside, &names, ERROR_NOT_FOUND, "interface 'nothing' does not exist");
}

TEST(a_namespace_with_nothing_holds_nothing)
{
	struct net_takeover t = takeover_inspected(netns_new());

	ASSERT_EQ(t.n, 0);
	net_takeover_done(&t);
}

TEST(what_cannot_be_handed_over_is_named)
{
	struct takeover_pair p = takeover_pair();
	_cleanup_strv_ struct strv names = {};

	netns_run(p.inside, "ip link set eth0 arp off");
	refused(p.inside, NULL, ERROR_CONFIG, "'eth0' cannot be handed to a guest: it does not resolve");
	netns_run(p.inside, "ip link set eth0 arp on");
	strv_add(&names, "lo");
	refused(p.inside, &names, ERROR_CONFIG, "'lo' cannot be handed to a guest: it is the loopback");
	netns_run(p.inside, "ip link set eth0 down");
	strv_done(&names);
	strv_add(&names, "eth0");
	refused(p.inside, &names, ERROR_CONFIG, "it is down");
	netns_run(p.inside, "ip link set eth0 up");
	netns_run(p.inside, "ip tuntap add vpn0 mode tun");
	netns_run(p.inside, "ip link set vpn0 up");
	netns_run(p.inside, "ip address add 10.8.0.2/24 dev vpn0");
	refused(p.inside, NULL, ERROR_CONFIG, "'vpn0' cannot be handed to a guest: it is no Ethernet");
}

TEST(two_with_one_hardware_address_are_refused)
{
	struct takeover_pair p = takeover_pair();

	netns_pair(p.inside, "net1", p.outside, "out1");
	netns_run(p.inside, "ip link set net1 address 02:42:ac:11:00:02");
	netns_run(p.inside, "ip address add 10.2.0.2/24 dev net1");
	refused(p.inside, NULL, ERROR_CONFIG, "same hardware address");
}

TEST(an_ipvlan_that_routes_is_refused_one_that_switches_is_not)
{
	struct takeover_pair p = { netns_new(), netns_new() };
	struct net_takeover t;

	netns_pair(p.inside, "base0", p.outside, "out0");
	if (netns_try(p.inside, "ip link add link base0 name ipvl0 type ipvlan mode l3") != 0)
		test_skip("this kernel has no ipvlan");
	netns_run(p.inside, "ip link set ipvl0 up");
	netns_run(p.inside, "ip address add 10.3.0.2/24 dev ipvl0");
	refused(p.inside, NULL, ERROR_CONFIG, "mode l3");
	netns_run(p.inside, "ip link set ipvl0 type ipvlan mode l2");
	t = takeover_inspected(p.inside);
	ASSERT_EQ(t.n, 1);
	net_takeover_done(&t);
}
