/* What the relay listens on: a list, or everything. */
#include "relay_bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test.h"

TEST(ports_of_a_list_that_cannot_be_had_are_all_named)
{
	_cleanup_relay_ports_ struct relay_ports ports = {};
	_cleanup_strv_ struct strv wrong = {};
	struct relay_options o = { .ports = &ports, .resolve = on_resolve };
	struct relay *relay = NULL;
	_cleanup_error_ struct error e = {};
	char text[128];
	struct loop *loop;
	uint16_t one, two;
	int a, c;

	own_network();
	a = server(&one);
	c = local_socket(SOCK_DGRAM, &two);
	ASSERT_OK(loop_new(&loop));
	snprintf(text, sizeof(text), "80,%u:80,%u:80/udp,192.0.2.1:90:90", one, two);
	ASSERT_EQ(relay_ports_parse(text, NULL, &ports, &wrong), 0);
	ASSERT(relay_new(loop, &o, &relay, &e) < 0);
	ASSERT_EQ(e.kind, ERROR_CONFIG);
	snprintf(text, sizeof(text), "%u/tcp is in use, %u/udp is in use, 192.0.2.1 90/tcp is on no address", one, two);
	ASSERT_CONTAINS(e.msg, text);
	ASSERT(e.hint);
	loop_free(loop);
	close(a);
	close(c);
}

static void tries_everywhere(int arg)
{
	(void)arg;
	for (unsigned port = 1; port < 1024; port += 93)
		close(dial((uint16_t)port));
	close(dial_type(SOCK_STREAM, "::1", 22));
	ASSERT_EQ(dial_type(SOCK_STREAM, "127.0.0.1", 8), -ECONNREFUSED);
	/* Odd: the kernel gives even ones to who connects, and who got this very one would be connected to itself. */
	ASSERT_EQ(dial_type(SOCK_STREAM, "127.0.0.1", 40001), -ECONNREFUSED);
}

static void on_listening(struct relay *r, void *data)
{
	struct bench *b = data;

	(void)r;
	b->listening = true;
}

/* With @limit descriptors, of which the test has few. */
static void everywhere(unsigned limit, uint64_t memory_max, bool at_once, struct relay_counts *ret, char **ret_notice)
{
	_cleanup_relay_ports_ struct relay_ports except = {};
	struct rlimit l = { limit, limit };
	struct relay_options o = { .except = &except, .kernel_memory_max = memory_max, .resolve = on_resolve };
	struct bench b = {};
	struct error e = {};
	struct sockaddr_in busy = { .sin_family = AF_INET, .sin_port = htons(7) };
	int fd;

	own_network();
	if (setrlimit(RLIMIT_NOFILE, &l) < 0)
		test_skip("no %u descriptors", limit);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ASSERT_EQ(bind(fd, (struct sockaddr *)&busy, sizeof(busy)), 0);
	ASSERT_EQ(listen(fd, 1), 0);
	relay_ports_add(&except, false, 8);
	ASSERT_OK(loop_new(&b.loop));
	o.data = &b;
	o.listening = at_once ? NULL : on_listening;
	if (relay_new(b.loop, &o, &b.relay, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	ASSERT(at_once || !relay_notice(b.relay));
	while (!at_once && !b.listening)
		ASSERT_OK(loop_step(b.loop, UINT64_MAX));
	b.silent = true;
	run_beside(&b, tries_everywhere, 0);
	relay_count(b.relay, ret);
	*ret_notice = xstrdup(relay_notice(b.relay));
	tear_down(&b);
	close(fd);
}

TEST(all_ports_as_far_as_descriptors_go)
{
	_cleanup_free_ char *notice = NULL;
	struct relay_counts n;

	everywhere(4000, 0, false, &n, &notice);
	ASSERT(n.tcp_ports + n.udp_ports > 3400 && n.tcp_ports + n.udp_ports <= 4000 - 512);
	ASSERT_EQ(n.udp_ports, 1023);
	ASSERT_CONTAINS(notice, "udp 1024-65535");
	ASSERT_CONTAINS(notice, "-65535; udp");
	ASSERT_CONTAINS(notice, "--ulimit nofile=");
	ASSERT(!strstr(notice, " 7,") && !strstr(notice, " 8,"));
}

TEST(all_ports_as_far_as_memory_goes)
{
	_cleanup_free_ char *notice = NULL;
	struct relay_counts n;

	everywhere(10000, 8 << 20, true, &n, &notice);
	ASSERT_EQ(n.udp_ports, 1023);
	ASSERT_EQ(((uint64_t)n.tcp_ports * RELAY_TCP_PORT_BYTES + n.udp_ports * RELAY_UDP_PORT_BYTES) >> 20, 7);
	ASSERT_CONTAINS(notice, "memory");
}

/* The host has no more, and connections want some. */
TEST(what_the_host_has_no_more_of_is_left_for_work)
{
	_cleanup_free_ char *notice = NULL;
	struct relay_counts n;

	setenv("SKERRY_FAULT", "relay.watch:4000=ENOSPC", 1);
	everywhere(10000, 0, false, &n, &notice);
	ASSERT_EQ(n.tcp_ports + n.udp_ports, 3999 - 512);
	ASSERT_EQ(n.udp_ports, 1023);
	ASSERT_CONTAINS(notice, "2467-65535");
	ASSERT_CONTAINS(notice, "fs.epoll.max_user_watches");
}

TEST(few_descriptors_are_left_for_work)
{
	_cleanup_free_ char *notice = NULL;
	struct relay_counts n;

	everywhere(1700, 0, false, &n, &notice);
	ASSERT(n.tcp_ports > 1000 && n.tcp_ports < 1023);
	ASSERT(n.udp_ports < 200);
}

TEST(it_may_end_before_it_listens_everywhere)
{
	struct bench b = {};
	struct relay_options o = { .resolve = on_resolve, .listening = on_listening, .data = &b };
	struct error e = {};

	own_network();
	ASSERT_OK(loop_new(&b.loop));
	if (relay_new(b.loop, &o, &b.relay, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	ASSERT_OK(loop_step(b.loop, UINT64_MAX));
	ASSERT_OK(loop_step(b.loop, UINT64_MAX));
	ASSERT(!b.listening);
	tear_down(&b);
}
