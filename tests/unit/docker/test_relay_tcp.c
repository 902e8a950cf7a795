/* Connections through the relay. */
#include "relay_bench.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/parse.h"
#include "test.h"

#define BULK (64u << 20)

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

/* The relay hears of the last end when it looks. */
static void until_none_is_joined(struct bench *b, struct relay_counts *ret)
{
	do {
		turn(b, 50 * NS_PER_MS);
		relay_count(b->relay, ret);
	} while (ret->connections);
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
	until_none_is_joined(&b, &n);
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

/* A connection from outside, seen from both of its ends. */
static void meet(int listen_fd, int *ret_client, int *ret_guest)
{
	*ret_client = dial(80);
	*ret_guest = accept(listen_fd, NULL, NULL);
	ASSERT_OK(*ret_guest);
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
	meet(listen_fd, &client, &guest);
	ASSERT_EQ(shutdown(guest, SHUT_WR), 0);
	hears_end(client);
	say(client, "later");
	hears(guest, "later");
	close(client);
	hears_end(guest);
	close(guest);
	/* The guest does, after it has. */
	meet(listen_fd, &client, &guest);
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
	struct pollfd gone = {};
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
	meet(listen_fd, &client, &guest);
	say(guest, "some");
	hears(client, "some");
	reset_close(guest);
	is_reset(client);
	close(client);
	/* The client resets. */
	meet(listen_fd, &client, &guest);
	say(client, "some");
	hears(guest, "some");
	reset_close(client);
	is_reset(guest);
	close(guest);
	/* It had ended its half before. */
	meet(listen_fd, &client, &guest);
	say(client, "some");
	ASSERT_EQ(shutdown(client, SHUT_WR), 0);
	hears(guest, "some");
	hears_end(guest);
	reset_close(client);
	gone.fd = guest;
	ASSERT_EQ(poll(&gone, 1, -1), 1);
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
	until_none_is_joined(&b, &n);
	ASSERT(n.refused >= 20);
	tear_down(&b);
}

static void hears_and_stays(int arg)
{
	int client = dial(80);

	(void)arg;
	hears(client, "all of it");
	hears_end(client);
	(void)pause();
}

TEST(a_guest_that_ended_and_is_gone_keeps_no_place)
{
	struct relay_options o = {};
	struct relay_counts n;
	struct bench b = {};
	int fd, guest;
	pid_t pid;

	own_network();
	fd = server(&b.leads_to[0]);
	set_up(&b, &o, "80:1000");
	ASSERT_EQ(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	pid = child(hears_and_stays, 0);
	while ((guest = accept(fd, NULL, NULL)) < 0)
		turn(&b, 50 * NS_PER_MS);
	say(guest, "all of it");
	ASSERT_EQ(shutdown(guest, SHUT_WR), 0);
	turn(&b, 100 * NS_PER_MS);
	relay_count(b.relay, &n);
	ASSERT_EQ(n.connections, 1);
	reset_close(guest);
	until_none_is_joined(&b, &n);
	ASSERT_EQ(kill(pid, SIGKILL), 0);
	ASSERT_EQ(waitpid(pid, NULL, 0), pid);
	tear_down(&b);
}

static void one_refused(int port)
{
	dial_reset((uint16_t)port);
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
	int fd;

	own_network();
	fd = server(&b.leads_to[0]);
	set_up(&b, &o, "80:1000");
	run_beside(&b, one_refused, 80);
	relay_count(b.relay, &n);
	ASSERT_EQ(n.refused, 1);
	/* Made up: nobody is there. What was asked is asked still. */
	ticket = b.ticket;
	relay_resolved(b.relay, ticket + 1, 1);
	relay_resolved(b.relay, 0, 1);
	run_beside(&b, one_refused, 80);
	ASSERT_EQ(b.asked, 1);
	/* Late, then twice: the first counts. */
	relay_resolved(b.relay, ticket, b.leads_to[0]);
	relay_resolved(b.relay, ticket, 1);
	run_beside(&b, one_served, fd);
	ASSERT_EQ(b.asked, 1);
	tear_down(&b);
}

TEST(what_is_made_after_all_who_waited_have_gone_is_released)
{
	struct relay_options o = { .wait_ns = 100 * NS_PER_MS, .targets = 2 };
	struct bench b = { .silent = true };
	struct relay_counts n;
	uint64_t tickets[2];

	own_network();
	set_up(&b, &o, "80-82:1000-1002");
	for (int i = 0; i < 2; i++) {
		run_beside(&b, one_refused, 80 + i);
		tickets[i] = b.ticket;
	}
	/* Nobody uses them, and both may be about to lead somewhere. */
	run_beside(&b, one_refused, 82);
	ASSERT_EQ(b.asked, 2);
	for (int i = 0; i < 2; i++)
		relay_resolved(b.relay, tickets[i], 40000);
	relay_count(b.relay, &n);
	ASSERT_EQ(n.targets, 2);
	ASSERT_EQ(b.released, 0);
	run_beside(&b, one_refused, 82);
	ASSERT_EQ(b.asked, 3);
	ASSERT_EQ(b.released, 1);
	tear_down(&b);
}

#define LATE_NS (300 * NS_PER_MS)

static int answer_late(struct loop_source *s, void *data)
{
	struct bench *b = data;

	/* Nobody has come yet. */
	if (!b->ticket)
		return loop_set_deadline(s, clock_monotonic_ns() + LATE_NS);
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
	ASSERT_OK(loop_add_timer(b.loop, &timer, clock_monotonic_ns() + LATE_NS, answer_late, &b));
	run_beside(&b, one_served, fd);
	ASSERT_EQ(b.asked, 1);
	loop_source_free(timer);
	tear_down(&b);
}

/* The relay hears of an end when it looks, which may be after the next one came. */
static int dial_until_let_in(int listen_fd)
{
	for (;;) {
		int fd = dial_type(SOCK_STREAM, "127.0.0.1", 80);
		struct pollfd p[] = { { .fd = listen_fd, .events = POLLIN }, { .fd = fd, .events = POLLIN } };

		if (fd == -ECONNRESET)
			continue;
		ASSERT_OK(fd);
		ASSERT(poll(p, 2, -1) > 0);
		if (p[0].revents)
			return fd;
		is_reset(fd);
		close(fd);
	}
}

static void more_than_fit(int listen_fd)
{
	int clients[4], guests[4];

	for (int i = 0; i < 4; i++) {
		clients[i] = dial(80);
		guests[i] = accept(listen_fd, NULL, NULL);
	}
	dial_reset(80);
	say(clients[0], "still here");
	hears(guests[0], "still here");
	close(clients[3]);
	hears_end(guests[3]);
	close(guests[3]);
	clients[3] = dial_until_let_in(listen_fd);
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
