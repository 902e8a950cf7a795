/* The relay with real sockets, in a network namespace of its own: the test's process turns the loop, children are the clients and, on loopback
 * ports, the guest. */
#include "docker/relay.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/parse.h"
#include "test.h"

#define BULK (64u << 20)

struct bench {
	struct loop *loop;
	struct relay *relay;
	uint16_t leads_to[3]; /* loopback ports of guest's ports 1000, 1001, …; 0 = nothing */
	bool silent;          /* resolve is not answered */
	uint64_t ticket;      /* the last that was asked for */
	unsigned asked, released;
	bool listening;
	uint16_t later; /* what the second question is answered with, 0 = as the first */
};

static void on_resolve(struct relay *r, uint64_t ticket, bool udp, uint16_t guest_port, void *data)
{
	struct bench *b = data;

	(void)udp;
	b->ticket = ticket;
	b->asked++;
	if (b->silent)
		return;
	if (b->asked > 1 && b->later)
		relay_resolved(r, ticket, b->later);
	else
		relay_resolved(r, ticket, guest_port < 1003 ? b->leads_to[guest_port - 1000] : b->leads_to[0]);
}

static void on_release(bool udp, uint16_t guest_port, void *data)
{
	struct bench *b = data;

	(void)udp;
	(void)guest_port;
	b->released++;
}

static void own_network(void)
{
	struct ifreq lo = { .ifr_name = "lo" };
	int fd;

	if (unshare(geteuid() == 0 ? CLONE_NEWNET : CLONE_NEWUSER | CLONE_NEWNET) < 0)
		test_skip("no network namespace: %s", strerror(errno));
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	lo.ifr_flags = IFF_UP | IFF_RUNNING;
	ASSERT_EQ(ioctl(fd, SIOCSIFFLAGS, &lo), 0);
	close(fd);
}

/* Container ports 80 and so on lead to guest ports 1000 and so on. */
static void set_up(struct bench *b, struct relay_options *o, const char *list)
{
	_cleanup_relay_ports_ struct relay_ports ports = {};
	_cleanup_strv_ struct strv wrong = {};
	struct error e = {};

	ASSERT_OK(loop_new(&b->loop));
	ASSERT_EQ(relay_ports_parse(list, NULL, &ports, &wrong), 0);
	o->ports = &ports;
	o->resolve = on_resolve;
	o->release = on_release;
	o->data = b;
	if (relay_new(b->loop, o, &b->relay, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
}

static void tear_down(struct bench *b)
{
	b->relay = relay_free(b->relay);
	b->loop = loop_free(b->loop);
}

static pid_t child(void (*fn)(int), int arg)
{
	pid_t pid = fork();

	ASSERT(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fn(arg);
		exit(0);
	}
	return pid;
}

static int on_child(struct loop_source *s, int pidfd, void *data)
{
	(void)s;
	(void)pidfd;
	loop_exit(data, 0);
	return 0;
}

/* Turns the loop until the child has ended, which has to have gone well. */
static void run_beside(struct bench *b, void (*fn)(int), int arg)
{
	struct loop_source *s;
	pid_t pid = child(fn, arg);
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0), status;

	ASSERT_OK(loop_add_child(b->loop, &s, pidfd, on_child, b->loop));
	ASSERT_OK(loop_run(b->loop));
	loop_source_free(s);
	close(pidfd);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
}

/* Turns the loop for a while. */
static void turn(struct bench *b, uint64_t ns)
{
	uint64_t end = clock_monotonic_ns() + ns;

	while (clock_monotonic_ns() < end)
		ASSERT_OK(loop_step(b->loop, end));
}

static int local_socket(int type, uint16_t *ret_port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	ASSERT_EQ(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	ASSERT_EQ(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	*ret_port = ntohs(a.sin_port);
	return fd;
}

static int server(uint16_t *ret_port)
{
	int fd = local_socket(SOCK_STREAM, ret_port);

	ASSERT_EQ(listen(fd, 2048), 0);
	return fd;
}

static int dial_type(int type, const char *ip, uint16_t port)
{
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons(port) };
	bool is_six = inet_pton(AF_INET6, ip, &six.sin6_addr) == 1;
	int fd = socket(is_six ? AF_INET6 : AF_INET, type | SOCK_CLOEXEC, 0);

	ASSERT(is_six || inet_pton(AF_INET, ip, &four.sin_addr) == 1);
	if (connect(fd, is_six ? (struct sockaddr *)&six : (struct sockaddr *)&four,
		    is_six ? sizeof(six) : sizeof(four)) < 0) {
		int num = errno;

		close(fd);
		return -num;
	}
	return fd;
}

static int dial(uint16_t port)
{
	int fd = dial_type(SOCK_STREAM, "127.0.0.1", port);

	ASSERT_OK(fd);
	return fd;
}

static void say(int fd, const char *text)
{
	ASSERT_EQ(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* The peer's words, to the letter. */
static void hears(int fd, const char *text)
{
	char buf[256] = "";

	ASSERT(strlen(text) < sizeof(buf));
	ASSERT_EQ(recv(fd, buf, strlen(text), MSG_WAITALL), strlen(text));
	ASSERT_STREQ(buf, text);
}

static void hears_end(int fd)
{
	char c;

	ASSERT_EQ(recv(fd, &c, 1, 0), 0);
}

static void is_reset(int fd)
{
	char c;

	ASSERT_EQ(recv(fd, &c, 1, 0), -1);
	ASSERT_EQ(errno, ECONNRESET);
}

/* Bytes that no shift or repetition of themselves resembles. */
static uint64_t next_word(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void send_bulk(int fd, uint64_t seed, size_t total)
{
	static uint64_t words[8192];

	for (size_t sent = 0; sent < total; sent += sizeof(words)) {
		for (size_t i = 0; i < 8192; i++)
			words[i] = next_word(&seed);
		for (size_t at = 0; at < sizeof(words);) {
			ssize_t n = send(fd, (char *)words + at, sizeof(words) - at, MSG_NOSIGNAL);

			ASSERT(n > 0);
			at += (size_t)n;
		}
	}
	ASSERT_EQ(shutdown(fd, SHUT_WR), 0);
}

static void receive_bulk(int fd, uint64_t seed, size_t total)
{
	static uint64_t words[8192], wanted[8192];

	for (size_t got = 0; got < total; got += sizeof(words)) {
		ASSERT_EQ(recv(fd, words, sizeof(words), MSG_WAITALL), sizeof(words));
		for (size_t i = 0; i < 8192; i++)
			wanted[i] = next_word(&seed);
		ASSERT_MEMEQ(words, wanted, sizeof(words));
	}
	hears_end(fd);
}

static void both_ways(int fd, uint64_t sends, uint64_t receives)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		send_bulk(fd, sends, BULK);
		exit(0);
	}
	receive_bulk(fd, receives, BULK);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
}

static void bulk_peers(int listen_fd)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		both_ways(accept(listen_fd, NULL, NULL), 1, 2);
		exit(0);
	}
	both_ways(dial(80), 2, 1);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
}

TEST(sixty_four_mebibytes_go_both_ways_at_once)
{
	struct relay_options o = {};
	struct bench b = {};
	int fd;

	own_network();
	fd = server(&b.leads_to[0]);
	set_up(&b, &o, "80:1000");
	run_beside(&b, bulk_peers, fd);
	tear_down(&b);
}

enum { MANY = 1000 };

static void many_peers(int listen_fd)
{
	static int clients[MANY], guests[MANY];
	char text[16];

	for (int i = 0; i < MANY; i++) {
		clients[i] = dial(80);
		snprintf(text, sizeof(text), "hello %04d", i);
		say(clients[i], text);
	}
	for (int i = 0; i < MANY; i++) {
		int fd = accept(listen_fd, NULL, NULL);
		uint64_t n;

		ASSERT_OK(fd);
		ASSERT_EQ(recv(fd, text, 10, MSG_WAITALL), 10);
		text[10] = '\0';
		ASSERT_OK(parse_u64(text + 6, 0, MANY - 1, &n));
		guests[n] = fd;
	}
	for (int i = 0; i < MANY; i++) {
		snprintf(text, sizeof(text), "to %4d", i);
		say(guests[i], text);
	}
	for (int i = MANY - 1; i >= 0; i--) {
		snprintf(text, sizeof(text), "to %4d", i);
		hears(clients[i], text);
		close(clients[i]);
		hears_end(guests[i]);
		close(guests[i]);
	}
}

TEST(a_thousand_connections_at_a_time)
{
	struct relay_options o = {};
	struct relay_counts n;
	struct bench b = {};
	int fd;

	own_network();
	fd = server(&b.leads_to[0]);
	set_up(&b, &o, "80:1000");
	run_beside(&b, many_peers, fd);
	turn(&b, 100 * NS_PER_MS);
	relay_count(b.relay, &n);
	ASSERT_EQ(n.connections, 0);
	ASSERT_EQ(n.refused, 0);
	ASSERT_EQ(n.targets, 1);
	ASSERT_EQ(b.asked, 1);
	tear_down(&b);
}

enum { BURST = 200 };

static void burst_peers(int listen_fd)
{
	static int clients[BURST];
	uint64_t began = clock_monotonic_ns();

	for (int i = 0; i < BURST; i++)
		clients[i] = dial(80);
	for (int i = 0; i < BURST; i++)
		ASSERT_OK(accept(listen_fd, NULL, NULL));
	printf("# %d connections in %llu ms\n", BURST,
	       (unsigned long long)((clock_monotonic_ns() - began) / NS_PER_MS));
	for (int i = 0; i < BURST; i++)
		close(clients[i]);
}

TEST(a_burst_fits_through_an_engine_that_has_room_for_one)
{
	struct relay_options o = {};
	struct bench b = {};
	int fd;

	own_network();
	fd = local_socket(SOCK_STREAM, &b.leads_to[0]);
	ASSERT_EQ(listen(fd, 1), 0);
	set_up(&b, &o, "80:1000");
	run_beside(&b, burst_peers, fd);
	tear_down(&b);
}

static void half_closing_peers(int listen_fd)
{
	int client = dial(80), guest = accept(listen_fd, NULL, NULL);

	/* The client ends first, and still hears all that is said. */
	say(client, "question");
	ASSERT_EQ(shutdown(client, SHUT_WR), 0);
	hears(guest, "question");
	hears_end(guest);
	say(guest, "answer");
	hears(client, "answer");
	close(guest);
	hears_end(client);
	close(client);
	/* The guest does, before it has said anything, and still hears. */
	client = dial(80);
	guest = accept(listen_fd, NULL, NULL);
	ASSERT_EQ(shutdown(guest, SHUT_WR), 0);
	hears_end(client);
	say(client, "later");
	hears(guest, "later");
	close(client);
	hears_end(guest);
	close(guest);
	/* The guest does, after it has. */
	client = dial(80);
	guest = accept(listen_fd, NULL, NULL);
	say(guest, "all of it");
	ASSERT_EQ(shutdown(guest, SHUT_WR), 0);
	hears(client, "all of it");
	hears_end(client);
	say(client, "thanks");
	ASSERT_EQ(shutdown(client, SHUT_WR), 0);
	hears(guest, "thanks");
	hears_end(guest);
}

TEST(a_half_that_ends_leaves_the_other)
{
	struct relay_options o = {};
	struct bench b = {};
	int fd;

	own_network();
	fd = server(&b.leads_to[0]);
	set_up(&b, &o, "80:1000");
	run_beside(&b, half_closing_peers, fd);
	tear_down(&b);
}

static void reset_close(int fd)
{
	const struct linger now = { .l_onoff = 1 };

	ASSERT_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	close(fd);
}

static void resetting_peers(int listen_fd)
{
	int client, guest;

	for (int i = 0; i < 20; i++) {
		/* As the engine does when the guest refuses: it had accepted, and gives up. With and without something that was sent. */
		client = dial(80);
		if (i % 2)
			say(client, "GET / HTTP/1.0\r\n\r\n");
		guest = accept(listen_fd, NULL, NULL);
		if (i % 2)
			hears(guest, "GET / HTTP/1.0\r\n\r\n");
		close(guest);
		is_reset(client);
		close(client);
	}
	/* In the middle. */
	client = dial(80);
	guest = accept(listen_fd, NULL, NULL);
	say(guest, "some");
	hears(client, "some");
	reset_close(guest);
	is_reset(client);
	close(client);
	/* The client resets. */
	client = dial(80);
	guest = accept(listen_fd, NULL, NULL);
	say(client, "some");
	hears(guest, "some");
	reset_close(client);
	is_reset(guest);
	close(guest);
}

TEST(who_resets_or_refuses_resets_the_other)
{
	struct relay_options o = {};
	struct relay_counts n;
	struct bench b = {};
	int fd;

	own_network();
	fd = server(&b.leads_to[0]);
	set_up(&b, &o, "80:1000");
	run_beside(&b, resetting_peers, fd);
	turn(&b, 50 * NS_PER_MS);
	relay_count(b.relay, &n);
	ASSERT_EQ(n.connections, 0);
	ASSERT(n.refused >= 20);
	tear_down(&b);
}

static void one_refused(int port)
{
	is_reset(dial((uint16_t)port));
}

static void one_served(int listen_fd)
{
	int client = dial(80), guest = accept(listen_fd, NULL, NULL);

	say(client, "here");
	hears(guest, "here");
	close(guest);
}

TEST(a_port_that_leads_nowhere_is_reset)
{
	struct relay_options o = {};
	struct bench b = {};

	own_network();
	set_up(&b, &o, "80:1000");
	run_beside(&b, one_refused, 80);
	ASSERT_EQ(b.asked, 1);
	/* Nothing is remembered of it. */
	run_beside(&b, one_refused, 80);
	ASSERT_EQ(b.asked, 2);
	/* Something is said to lead there, but nobody listens: it is asked for once more. */
	close(server(&b.leads_to[0]));
	run_beside(&b, one_refused, 80);
	ASSERT_EQ(b.asked, 4);
	tear_down(&b);
}

TEST(an_engine_that_was_started_anew_is_asked_again)
{
	struct relay_options o = {};
	struct bench b = {};
	int fd;

	own_network();
	close(server(&b.leads_to[0]));
	fd = server(&b.later);
	set_up(&b, &o, "80:1000");
	run_beside(&b, one_served, fd);
	ASSERT_EQ(b.asked, 2);
	run_beside(&b, one_served, fd);
	ASSERT_EQ(b.asked, 2);
	relay_forget(b.relay);
	run_beside(&b, one_served, fd);
	ASSERT_EQ(b.asked, 3);
	tear_down(&b);
}

TEST(nobody_waits_without_end)
{
	struct relay_options o = { .wait_ns = 200 * NS_PER_MS };
	struct relay_counts n;
	struct bench b = { .silent = true };
	uint64_t ticket;

	own_network();
	set_up(&b, &o, "80:1000");
	run_beside(&b, one_refused, 80);
	relay_count(b.relay, &n);
	ASSERT_EQ(n.refused, 1);
	/* Too late, made up, and twice: nobody is there. */
	ticket = b.ticket;
	relay_resolved(b.relay, ticket, 1);
	relay_resolved(b.relay, 12345, 1);
	relay_resolved(b.relay, 0, 1);
	run_beside(&b, one_refused, 80);
	ASSERT_EQ(b.asked, 2);
	ASSERT(b.ticket != ticket);
	tear_down(&b);
}

static int answer_late(struct loop_source *s, void *data)
{
	struct bench *b = data;

	(void)s;
	relay_resolved(b->relay, b->ticket, b->leads_to[0]);
	return 0;
}

TEST(who_came_before_the_answer_is_served)
{
	struct relay_options o = {};
	struct bench b = { .silent = true };
	struct loop_source *timer;
	int fd;

	own_network();
	fd = server(&b.leads_to[0]);
	set_up(&b, &o, "80:1000");
	ASSERT_OK(loop_add_timer(b.loop, &timer, clock_monotonic_ns() + 300 * NS_PER_MS, answer_late, &b));
	run_beside(&b, one_served, fd);
	ASSERT_EQ(b.asked, 1);
	loop_source_free(timer);
	tear_down(&b);
}

static void more_than_fit(int listen_fd)
{
	int clients[4], guests[4];

	for (int i = 0; i < 4; i++) {
		clients[i] = dial(80);
		guests[i] = accept(listen_fd, NULL, NULL);
	}
	is_reset(dial(80));
	say(clients[0], "still here");
	hears(guests[0], "still here");
	close(clients[3]);
	hears_end(guests[3]);
	close(guests[3]);
	clients[3] = dial(80);
	guests[3] = accept(listen_fd, NULL, NULL);
	say(guests[3], "room again");
	hears(clients[3], "room again");
}

TEST(connections_are_bounded)
{
	struct relay_options o = { .connections = 4 };
	struct bench b = {};
	int fd;

	own_network();
	fd = server(&b.leads_to[0]);
	set_up(&b, &o, "80:1000");
	run_beside(&b, more_than_fit, fd);
	tear_down(&b);
}

static void slow_reader(int listen_fd)
{
	int client = dial(80), guest = accept(listen_fd, NULL, NULL);
	static char chunk[65536];
	size_t sent = 0, got = 0;
	struct pollfd p = { .fd = guest, .events = POLLOUT };

	/* Nothing is taken at the other end: it stops. */
	while (poll(&p, 1, 1000) > 0) {
		ssize_t n = send(guest, chunk, sizeof(chunk), MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN)
			continue;
		ASSERT(n > 0);
		sent += (size_t)n;
		ASSERT(sent < (256u << 20));
	}
	/* Even who gives up at once has said it all. */
	close(guest);
	for (ssize_t n; (n = recv(client, chunk, sizeof(chunk), 0)) > 0;)
		got += (size_t)n;
	ASSERT_EQ(got, sent);
}

TEST(who_reads_slowly_slows_the_writer)
{
	struct relay_options o = {};
	struct bench b = {};
	int fd;

	own_network();
	fd = server(&b.leads_to[0]);
	set_up(&b, &o, "80:1000");
	run_beside(&b, slow_reader, fd);
	tear_down(&b);
}

/* The guest's server is open in this process already. */
static void one_of_three(int port_and_fd)
{
	int listen_fd = port_and_fd >> 16, client = dial((uint16_t)port_and_fd), guest = accept(listen_fd, NULL, NULL);

	say(client, "x");
	hears(guest, "x");
}

TEST(ports_that_are_not_needed_make_room)
{
	struct relay_options o = { .targets = 2 };
	struct relay_counts n;
	struct bench b = {};
	int fd;

	own_network();
	fd = server(&b.leads_to[0]);
	b.leads_to[1] = b.leads_to[2] = b.leads_to[0];
	set_up(&b, &o, "80-82:1000-1002");
	for (int port = 80; port < 83; port++) {
		run_beside(&b, one_of_three, fd << 16 | port);
		/* Until the relay has seen the end of it. */
		do {
			ASSERT_OK(loop_step(b.loop, clock_monotonic_ns() + 10 * NS_PER_MS));
			relay_count(b.relay, &n);
		} while (n.connections);
	}
	relay_count(b.relay, &n);
	ASSERT_EQ(n.targets, 2);
	ASSERT_EQ(b.released, 1);
	tear_down(&b);
}

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

static void ask_once(int fd)
{
	pid_t pid = child(echo_datagrams, fd);
	int client = dial_type(SOCK_DGRAM, "127.0.0.1", 53);

	say(client, "x");
	hears(client, "x");
	kill(pid, SIGKILL);
}

TEST(sessions_that_are_idle_end)
{
	struct relay_options o = { .udp_idle_ns = 300 * NS_PER_MS };
	struct relay_counts n;
	struct bench b = {};
	int fd;

	own_network();
	fd = local_socket(SOCK_DGRAM, &b.leads_to[0]);
	set_up(&b, &o, "53:1000/udp");
	run_beside(&b, ask_once, fd);
	relay_count(b.relay, &n);
	ASSERT_EQ(n.udp_sessions, 1);
	turn(&b, 500 * NS_PER_MS);
	relay_count(b.relay, &n);
	ASSERT_EQ(n.udp_sessions, 0);
	run_beside(&b, ask_once, fd);
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
	ASSERT_EQ(dial_type(SOCK_STREAM, "127.0.0.1", 40000), -ECONNREFUSED);
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
