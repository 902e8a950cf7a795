/* The network mode "container", in namespaces that the test makes: what a machine is planned with, and what is refused. */
#include <arpa/inet.h>
#include <errno.h>

#include "agent.pb-c.h"
#include "disk/seed.h"
#include "machine/plan.h"
#include "netns.h"
#include "plan_sample.h"
#include "test.h"

enum { MANY = 7 };

static void make_input(struct machine_spec *s, struct plan_facts *f)
{
	sample_spec(s);
	sample_facts(f);
	free(s->net);
	s->net = xstrdup("container");
}

/* Networks 10.0.0.0/24 and so on; the first has the default route. */
static int with_networks(int n)
{
	int inside = netns_new(), outside = netns_new();

	for (int i = 0; i < n; i++) {
		_cleanup_free_ char *name = xasprintf("eth%d", i), *peer = xasprintf("out%d", i);

		netns_pair(inside, name, outside, peer);
		netns_run(inside, "ip address add 10.0.%d.2/24 dev eth%d", i, i);
	}
	if (n)
		netns_run(inside, "ip route add default via 10.0.0.1");
	return inside;
}

static void refused(int ns, const char *hint)
{
	_cleanup_spec_ struct machine_spec spec = {};
	_cleanup_facts_ struct plan_facts facts = {};
	_cleanup_plan_ struct plan p = {};
	struct error e = {};
	int before = netns_enter(ns);

	make_input(&spec, &facts);
	ASSERT(plan_make(&spec, &facts, &p, &e) < 0);
	ASSERT_EQ(e.kind, ERROR_CONFIG);
	ASSERT_CONTAINS(e.hint, hint);
	error_done(&e);
	netns_leave(before);
}

static Skerry__Agent__V1__BootConfig *boot_config(const struct machine_spec *spec, const struct plan_facts *f,
						  const struct plan *p)
{
	_cleanup_(boot_secrets_done) struct boot_secrets secrets = { .token = "0123456789abcde" };
	_cleanup_buf_ struct buf packed = {};
	Skerry__Agent__V1__BootConfig *c;

	plan_boot_config(spec, f, p, &secrets, &packed);
	c = skerry__agent__v1__boot_config__unpack(NULL, packed.len, (const uint8_t *)packed.p);
	ASSERT(c != NULL);
	return c;
}

static void plan_with(int n, enum engine_shape shape)
{
	_cleanup_spec_ struct machine_spec spec = {};
	_cleanup_facts_ struct plan_facts facts = {};
	_cleanup_(boot_secrets_done) struct boot_secrets secrets = {};
	_cleanup_seed_ struct seed seed = {};
	_cleanup_plan_ struct plan p = {};
	Skerry__Agent__V1__BootConfig *c;
	struct error e = {};
	int before = netns_enter(with_networks(n));

	make_input(&spec, &facts);
	if (plan_make(&spec, &facts, &p, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	ASSERT_EQ(p.shape, shape);
	ASSERT_EQ(net_plan_nics(&p.net_plan), n);
	c = boot_config(&spec, &facts, &p);
	ASSERT_EQ(c->n_interfaces, n);
	ASSERT_STREQ(c->interfaces[0]->addresses[0], "10.0.0.2/24");
	ASSERT_STREQ(c->interfaces[0]->addresses[1], "169.254.255.2/30");
	ASSERT_STREQ(c->interfaces[0]->routes[0]->gateway, "10.0.0.1");
	ASSERT_EQ(c->n_dns_servers, 1);
	ASSERT_STREQ(c->dns_servers[0], "169.254.255.1");
	skerry__agent__v1__boot_config__free_unpacked(c, NULL);
	plan_seed(&spec, &facts, &p, &secrets, NULL, &seed);
	ASSERT_EQ(seed.n_interfaces, n);
	ASSERT_STREQ(seed.interfaces[0].mac, p.net_plan.taken.nics[0].mac);
	ASSERT_STREQ(seed.interfaces[0].routes[0].to, "0.0.0.0/0");
	ASSERT_STREQ(seed.interfaces[n - 1].dns.items[0], "169.254.255.1");
	netns_leave(before);
}

TEST(an_interface_becomes_the_guests)
{
	plan_with(1, SHAPE_MICRO);
}

TEST(more_interfaces_than_micro_has_places_for_take_the_other_shape)
{
	plan_with(MANY, SHAPE_FULL);
}

TEST(without_a_network_and_on_a_host_it_is_refused)
{
	int host = with_networks(1);

	refused(with_networks(0), "docker run --network");
	netns_run(host, "ip link add name docker0 type bridge");
	netns_run(host, "ip address add 172.17.0.1/16 dev docker0");
	netns_run(host, "ip link set docker0 up");
	refused(host, "--network host");
}
