/* Datagrams through the relay. */
#include "relay_bench.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "test.h"

/* The guest's end of datagrams: says who asked and what. */
static void echo_datagrams(int fd)
{
	for (;;) {
		struct sockaddr_in from;
		socklen_t len = sizeof(from);
		char buf[65536];
		ssize_t n = recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len);

		ASSERT(n >= 0);
		ASSERT_EQ(sendto(fd, buf, (size_t)n, 0, (struct sockaddr *)&from, len), n);
	}
}

static void two_askers(const char *ip)
{
	int one = dial_type(SOCK_DGRAM, ip, 53), two = dial_type(SOCK_DGRAM, ip, 53);
	static char large[60000], back[65536];

	for (int i = 0; i < 50; i++) {
		say(one, "first");
		say(two, "second");
		hears(two, "second");
		hears(one, "first");
	}
	/* Nothing is a datagram too, and so is very much. */
	ASSERT_EQ(send(one, "", 0, 0), 0);
	ASSERT_EQ(recv(one, back, sizeof(back), 0), 0);
	memset(large, 'x', sizeof(large));
	ASSERT_EQ(send(two, large, sizeof(large), 0), sizeof(large));
	ASSERT_EQ(recv(two, back, sizeof(back), 0), sizeof(large));
	ASSERT_MEMEQ(large, back, sizeof(large));
}

static void askers(int fd)
{
	pid_t pid = child(echo_datagrams, fd);

	/* A connected socket takes answers from the address that it asked only. */
	two_askers("127.0.0.1");
	two_askers("127.1.2.3");
	two_askers("::1");
	kill(pid, SIGKILL);
}

static void askers_of_four(int fd)
{
	pid_t pid = child(echo_datagrams, fd);

	two_askers("127.1.2.3");
	kill(pid, SIGKILL);
}

TEST(datagrams_go_both_ways)
{
	struct relay_options o = {};
	struct relay_counts n;
	struct bench b = {};
	int fd;

	own_network();
	fd = local_socket(SOCK_DGRAM, &b.leads_to[0]);
	set_up(&b, &o, "53:1000/udp");
	run_beside(&b, askers, fd);
	relay_count(b.relay, &n);
	ASSERT_EQ(n.udp_sessions, 6);
	ASSERT_EQ(b.asked, 1);
	tear_down(&b);
}

TEST(an_address_of_its_own_is_listened_on_alone)
{
	struct relay_options o = {};
	struct bench b = {};
	int fd;

	own_network();
	fd = local_socket(SOCK_DGRAM, &b.leads_to[0]);
	set_up(&b, &o, "127.1.2.3:53:1000/udp,127.1.2.3:80:1000");
	ASSERT_EQ(dial_type(SOCK_STREAM, "127.0.0.1", 80), -ECONNREFUSED);
	run_beside(&b, askers_of_four, fd);
	tear_down(&b);
}

/* From here, so that the answer and what is counted then are of one moment; asked again should its session have ended meanwhile. */
static void ask_and_count(struct bench *b, struct relay_counts *ret)
{
	int client = dial_type(SOCK_DGRAM, "127.0.0.1", 53);
	char text[8];

	*ret = (struct relay_counts){};
	do {
		if (!ret->udp_sessions)
			say(client, "x");
		ASSERT_OK(loop_step(b->loop, clock_monotonic_ns() + 50 * NS_PER_MS));
		relay_count(b->relay, ret);
	} while (recv(client, text, sizeof(text), MSG_DONTWAIT) != 1);
	close(client);
}

TEST(sessions_that_are_idle_end)
{
	struct relay_options o = { .udp_idle_ns = 3 * NS_PER_SEC };
	struct relay_counts n;
	struct bench b = {};
	pid_t pid;
	int fd;

	own_network();
	fd = local_socket(SOCK_DGRAM, &b.leads_to[0]);
	set_up(&b, &o, "53:1000/udp");
	pid = child(echo_datagrams, fd);
	ask_and_count(&b, &n);
	ASSERT_EQ(n.udp_sessions, 1);
	while (n.udp_sessions) {
		turn(&b, 100 * NS_PER_MS);
		relay_count(b.relay, &n);
	}
	ask_and_count(&b, &n);
	ASSERT_EQ(n.udp_sessions, 1);
	ASSERT_EQ(kill(pid, SIGKILL), 0);
	tear_down(&b);
}

static void flood(int unused)
{
	(void)unused;
	for (int i = 0; i < 100; i++) {
		int fd = dial_type(SOCK_DGRAM, "127.0.0.1", 53);

		say(fd, "x");
		close(fd);
	}
}

static void ask_in_a_flood(int fd)
{
	pid_t pid = child(echo_datagrams, fd);
	int client = dial_type(SOCK_DGRAM, "127.0.0.1", 53);

	say(client, "x");
	hears(client, "x");
	kill(pid, SIGSTOP);
	flood(0);
	kill(pid, SIGCONT);
	/* Its session was answered and outlived those that were not. */
	say(client, "y");
	hears(client, "y");
	kill(pid, SIGKILL);
}

TEST(sessions_are_bounded_and_the_stalest_makes_room)
{
	struct relay_options o = { .udp_sessions = 8 };
	struct relay_counts n;
	struct bench b = {};
	int fd;

	own_network();
	fd = local_socket(SOCK_DGRAM, &b.leads_to[0]);
	set_up(&b, &o, "53:1000/udp");
	run_beside(&b, ask_in_a_flood, fd);
	relay_count(b.relay, &n);
	ASSERT_EQ(n.udp_sessions, 8);
	tear_down(&b);
}

TEST(datagrams_that_nobody_answers_for_do_not_pile_up)
{
	struct relay_options o = { .wait_ns = 50 * NS_PER_MS };
	struct bench b = { .silent = true };

	own_network();
	set_up(&b, &o, "53:1000/udp");
	run_beside(&b, flood, 0);
	turn(&b, 100 * NS_PER_MS);
	relay_resolved(b.relay, b.ticket, 0);
	tear_down(&b);
}
