/* Port lists as docker writes them. */
#include "docker/relay.h"
#include "test.h"

static void takes(const char *text, const char *ip, bool udp, unsigned first, unsigned last, unsigned guest_first)
{
	_cleanup_relay_ports_ struct relay_ports p = {};
	_cleanup_strv_ struct strv wrong = {};

	if (relay_ports_parse(text, NULL, &p, &wrong) != 0)
		test_fail(__FILE__, __LINE__, "%s: %s", text, wrong.items[0]);
	ASSERT_EQ(p.n, 1);
	ASSERT_STREQ(p.items[0].ip, ip);
	ASSERT_EQ(p.items[0].udp, udp);
	ASSERT_EQ(p.items[0].first, first);
	ASSERT_EQ(p.items[0].last, last);
	ASSERT_EQ(p.items[0].guest_first, guest_first);
}

static void refuses(const char *text, const char *why)
{
	_cleanup_relay_ports_ struct relay_ports p = {};
	_cleanup_strv_ struct strv wrong = {};

	ASSERT_EQ(relay_ports_parse(text, NULL, &p, &wrong), 1);
	ASSERT_EQ(p.n, 0);
	ASSERT_EQ(wrong.n, 1);
	ASSERT_CONTAINS(wrong.items[0], why);
	ASSERT_CONTAINS(wrong.items[0], "; ");
}

TEST(every_form_of_docker)
{
	takes("80", "", false, 80, 80, 80);
	takes("8080:80", "", false, 8080, 8080, 80);
	takes("53/udp", "", true, 53, 53, 53);
	takes("53:5353/UDP", "", true, 53, 53, 5353);
	takes("443/tcp", "", false, 443, 443, 443);
	takes("127.0.0.1:8080:80", "127.0.0.1", false, 8080, 8080, 80);
	takes("0.0.0.0:8080:80", "", false, 8080, 8080, 80);
	takes("172.17.0.2::80", "172.17.0.2", false, 80, 80, 80);
	takes("[::1]:8080:80", "::1", false, 8080, 8080, 80);
	takes("[::]:8080:80/tcp", "", false, 8080, 8080, 80);
	takes("8000-8010", "", false, 8000, 8010, 8000);
	takes("8000-8010:9000-9010/udp", "", true, 8000, 8010, 9000);
	takes("1-65535", "", false, 1, 65535, 1);
	takes(":80", "", false, 80, 80, 80);
}

TEST(several_between_commas_or_white_space)
{
	_cleanup_relay_ports_ struct relay_ports p = {};
	_cleanup_strv_ struct strv wrong = {};

	ASSERT_EQ(relay_ports_parse(" 22:22, 80\n53/udp,,22:22,\t8000-8010 ", NULL, &p, &wrong), 0);
	ASSERT_EQ(p.n, 4);
	ASSERT(relay_ports_has(&p, false, 22));
	ASSERT(relay_ports_has(&p, true, 53));
	ASSERT(!relay_ports_has(&p, false, 53));
	ASSERT(relay_ports_has(&p, false, 8000) && relay_ports_has(&p, false, 8010));
	ASSERT(!relay_ports_has(&p, false, 7999) && !relay_ports_has(&p, false, 8011));
}

TEST(nothing_is_no_port)
{
	_cleanup_relay_ports_ struct relay_ports p = {};
	_cleanup_strv_ struct strv wrong = {};

	ASSERT_EQ(relay_ports_parse("", NULL, &p, &wrong), 0);
	ASSERT_EQ(relay_ports_parse(" ,\n", NULL, &p, &wrong), 0);
	ASSERT_EQ(p.n, 0);
}

TEST(each_mistake_is_named)
{
	refuses("0", "guest's port");
	refuses("65536", "guest's port");
	refuses("x", "guest's port");
	refuses("80:", "guest's port");
	refuses("x:80", "container's port");
	refuses("0:80", "container's port");
	refuses("-1:80", "container's port");
	refuses("80-70", "guest's port");
	refuses("80-", "guest's port");
	refuses("8000-8010:80", "not of one length");
	refuses("80/sctp", "only tcp and udp");
	refuses("80/", "only tcp and udp");
	refuses("80/tcp/udp", "only tcp and udp");
	refuses("1.2.3:8080:80", "no IPv4 address");
	refuses("example.org:8080:80", "no IPv4 address");
	refuses("::1:8080:80", "no IPv4 address");
	refuses("[::1]8080:80", "after '['");
	refuses("[::1", "after '['");
	refuses("[1.2.3.4]:80:80", "no IPv6 address");
	refuses("1.2.3.4:1:2:3", "more parts");
	refuses("111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111",
		"too long");
}

TEST(all_mistakes_are_reported_at_once)
{
	_cleanup_relay_ports_ struct relay_ports p = {};
	_cleanup_strv_ struct strv wrong = {};

	ASSERT_EQ(relay_ports_parse("22,x,80/sctp,99999:80,443", NULL, &p, &wrong), 3);
	ASSERT_EQ(p.n, 2);
	ASSERT_EQ(wrong.n, 3);
	ASSERT_CONTAINS(wrong.items[0], "'x'");
	ASSERT_CONTAINS(wrong.items[1], "'80/sctp'");
	ASSERT_CONTAINS(wrong.items[2], "'99999:80'");
}

TEST(a_port_leads_to_one_place)
{
	_cleanup_relay_ports_ struct relay_ports p = {};
	_cleanup_strv_ struct strv wrong = {};

	ASSERT_EQ(relay_ports_parse("8080:80,8080:81,8000-9000,8080:80/udp,127.0.0.1:8080:82", NULL, &p, &wrong), 3);
	ASSERT_CONTAINS(wrong.items[0], "8080/tcp");
	ASSERT_CONTAINS(wrong.items[1], "8080/tcp");
	ASSERT_CONTAINS(wrong.items[2], "8080/tcp");
	ASSERT_EQ(p.n, 2);
	strv_done(&wrong);
	relay_ports_done(&p);
	ASSERT_EQ(relay_ports_parse("127.0.0.1:80:80,127.0.0.2:80:81", NULL, &p, &wrong), 0);
}

TEST(what_the_container_uses_is_not_given_away)
{
	_cleanup_relay_ports_ struct relay_ports p = {}, own = {};
	_cleanup_strv_ struct strv wrong = {};

	relay_ports_add(&own, false, 8006);
	ASSERT_EQ(relay_ports_parse("8006:80,8000-8010,8006:80/udp,80:8006", &own, &p, &wrong), 2);
	ASSERT_CONTAINS(wrong.items[0], "8006/tcp");
	ASSERT_CONTAINS(wrong.items[1], "container itself");
	ASSERT_EQ(p.n, 2);
}
