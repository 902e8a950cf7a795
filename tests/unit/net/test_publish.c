#include "net/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test.h"

static struct net_publish parsed(const char *s)
{
	struct net_publish p = {};
	struct error e = {};

	if (net_publish_parse(s, &p, &e) < 0)
		test_fail(__FILE__, __LINE__, "'%s': %s", s, e.msg);
	return p;
}

TEST(two_ports_mean_tcp_on_the_loopback)
{
	struct net_publish p = parsed("8080:80");

	ASSERT_STREQ(p.ip, "127.0.0.1");
	ASSERT_EQ(p.host_port, 8080);
	ASSERT_EQ(p.guest_port, 80);
	ASSERT(!p.udp);
	ASSERT(parsed("53:53/udp").udp);
	ASSERT(!parsed("53:53/tcp").udp);
	ASSERT_EQ(parsed("0:65535").host_port, 0);
	ASSERT_EQ(parsed("0:65535").guest_port, 65535);
}

TEST(addresses_of_both_families_are_taken)
{
	ASSERT_STREQ(parsed("0.0.0.0:1:2").ip, "0.0.0.0");
	ASSERT_STREQ(parsed("192.0.2.7:1:2/udp").ip, "192.0.2.7");
	ASSERT_STREQ(parsed("[::1]:8080:80").ip, "::1");
	ASSERT_STREQ(parsed("[fd00::2]:8080:80/udp").ip, "fd00::2");
	ASSERT_STREQ(parsed("[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:1:2").ip,
		     "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255");
}

TEST(format_gives_the_same_back)
{
	static const char *const forms[] = { "127.0.0.1:8080:80", "[::1]:1:2/udp", "0.0.0.0:0:22" };

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		struct net_publish p = parsed(forms[i]);
		char *s = net_publish_format(&p);

		ASSERT_STREQ(s, forms[i]);
		free(s);
	}
}

TEST(bad_forms_are_usage_errors_that_name_the_part)
{
	static const struct {
		const char *text, *part;
	} cases[] = {
		{ "", "empty" },
		{ "80", "guest's port is missing" },
		{ ":80", "host's port" },
		{ "80:", "guest's port" },
		{ "80:0", "guest's port" },
		{ "65536:80", "host's port" },
		{ "-1:80", "host's port" },
		{ "+1:80", "host's port" },
		{ " 1:80", "host's port" },
		{ "80:80:80:80", "not an IPv4 address" },
		{ "256.0.0.1:80:80", "not an IPv4 address" },
		{ "localhost:80:80", "not an IPv4 address" },
		{ "::1:80:80", "not an IPv4 address" },
		{ "[::1:80:80", "'['" },
		{ "[::1]80:80", "'['" },
		{ "[127.0.0.1]:80:80", "brackets" },
		{ "[]:80:80", "brackets" },
		{ "[::1]:80", "guest's port is missing" },
		{ "80:80/sctp", "protocol" },
		{ "80:80/", "protocol" },
		{ "80:80/udp/tcp", "protocol" },
		{ "80:80 ", "guest's port" },
		{ "8,0:80", "host's port" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct net_publish p = { .guest_port = 7 };
		struct error e = {};

		ASSERT_EQ(net_publish_parse(cases[i].text, &p, &e), -EINVAL);
		ASSERT_EQ(e.kind, ERROR_USAGE);
		ASSERT_CONTAINS(e.msg, cases[i].part);
		ASSERT(e.hint);
		ASSERT_EQ(p.guest_port, 7);
		error_done(&e);
	}
	ASSERT_EQ(net_publish_parse("x", &(struct net_publish){}, NULL), -EINVAL);
}

TEST(a_long_text_is_refused_and_any_prefix_of_a_form_is_harmless)
{
	static const char form[] = "[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535:65535/udp";
	char text[4096];

	memset(text, '1', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	ASSERT_EQ(net_publish_parse(text, &(struct net_publish){}, NULL), -EINVAL);
	for (size_t n = 0; n < sizeof(form); n++) {
		struct net_publish p;

		memcpy(text, form, n);
		text[n] = 0;
		(void)net_publish_parse(text, &p, NULL);
		for (size_t k = 0; k < n; k++) {
			text[k] ^= 0x15;
			(void)net_publish_parse(text, &p, NULL);
			text[k] ^= 0x15;
		}
	}
}

/* @port 0 = a free one. <0: it is in use. */
static int bound_socket(int type, uint16_t port, uint16_t *ret_port)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_addr = { htonl(INADDR_LOOPBACK) },
				 .sin_port = htons(port) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		ASSERT_EQ(errno, EADDRINUSE);
		close(fd);
		return -EADDRINUSE;
	}
	if (type == SOCK_STREAM)
		ASSERT_OK(listen(fd, 1));
	ASSERT_OK(getsockname(fd, (struct sockaddr *)&a, &len));
	*ret_port = ntohs(a.sin_port);
	return fd;
}

/* One number of both protocols: what is free of one may be somebody's, or a closed connection's, of the other. */
static void bind_both(uint16_t *ret_port, int *ret_tcp, int *ret_udp)
{
	for (;;) {
		*ret_tcp = bound_socket(SOCK_STREAM, 0, ret_port);
		ASSERT_OK(*ret_tcp);
		*ret_udp = bound_socket(SOCK_DGRAM, *ret_port, ret_port);
		if (*ret_udp >= 0)
			return;
		close(*ret_tcp);
	}
}

TEST(a_busy_port_is_reported_for_its_protocol_only)
{
	struct net_publish p = parsed("1:80");
	struct error e = {};
	int tcp, udp;

	bind_both(&p.host_port, &tcp, &udp);
	close(udp);
	ASSERT_EQ(net_publish_resolve(&p, &e), -EADDRINUSE);
	ASSERT_EQ(e.kind, ERROR_BUSY);
	ASSERT_CONTAINS(e.msg, "127.0.0.1");
	error_done(&e);
	p.udp = true;
	ASSERT_OK(net_publish_resolve(&p, NULL));
	close(tcp);
	bind_both(&p.host_port, &tcp, &udp);
	close(tcp);
	ASSERT_EQ(net_publish_resolve(&p, NULL), -EADDRINUSE);
	p.udp = false;
	ASSERT_OK(net_publish_resolve(&p, NULL));
	close(udp);
}

TEST(host_port_zero_becomes_a_free_one)
{
	static const char *const forms[] = { "0:80", "0:80/udp", "0.0.0.0:0:80", "[::1]:0:80" };

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		struct net_publish p = parsed(forms[i]);

		ASSERT_OK(net_publish_resolve(&p, NULL));
		ASSERT(p.host_port != 0);
		ASSERT_OK(net_publish_resolve(&p, NULL));
	}
}

TEST(an_address_of_somebody_else_is_a_usage_error)
{
	struct net_publish p = parsed("203.0.113.77:0:80");
	struct error e = {};

	ASSERT_EQ(net_publish_resolve(&p, &e), -EADDRNOTAVAIL);
	ASSERT_EQ(e.kind, ERROR_USAGE);
	ASSERT_CONTAINS(e.msg, "203.0.113.77");
	error_done(&e);
}

TEST(a_low_port_without_the_right_is_denied_with_a_hint)
{
	struct net_publish p = parsed("1:80");
	struct error e = {};

	if (geteuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0))
		test_skip("cannot become another user");
	if (net_publish_resolve(&p, &e) >= 0)
		test_skip("every port is free for everybody here");
	ASSERT_EQ(e.kind, ERROR_DENIED);
	ASSERT_CONTAINS(e.hint, "1024");
	error_done(&e);
}
