/* The name forwarder with real sockets on the loopback: the test turns the loop and plays guest and name servers. */
#include "docker/dns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "test.h"

#define HERE    "127.53.0.1"
#define STEP_NS (20 * NS_PER_MS)
enum { TURNS = 5000 };

struct bench {
	struct loop *loop;
	struct dns *dns;
	struct dns_options options;
	char *conf; /* owned */
	uint16_t port, server_port;
};

static struct sockaddr_in at(const char *address, uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };

	ASSERT_EQ(inet_pton(AF_INET, address, &a.sin_addr), 1);
	return a;
}

static int bound(int type, const char *address, uint16_t port)
{
	const struct sockaddr_in a = at(address, port);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;

	ASSERT_EQ(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
	if (bind(fd, (const struct sockaddr *)&a, sizeof(a)) < 0)
		test_fail(__FILE__, __LINE__, "%s:%u: %s", address, port, strerror(errno));
	if (type == SOCK_STREAM)
		ASSERT_EQ(listen(fd, 4), 0);
	return fd;
}

static void name_servers(const struct bench *b, const char *text)
{
	ASSERT_OK(file_write_at(AT_FDCWD, b->conf, text, strlen(text), 0644, 0));
}

/* Tests run beside each other: ports by the process. */
static void begin(struct bench *b, const char *servers)
{
	struct error e = {};

	b->port = (uint16_t)(20000 + getpid() % 10000);
	b->server_port = (uint16_t)(b->port + 10000);
	b->conf = xasprintf("%s/resolv.conf", test_tmpdir());
	name_servers(b, servers);
	b->options.port = b->port;
	b->options.server_port = b->server_port;
	b->options.resolv_conf = b->conf;
	b->options.address = at(HERE, 1).sin_addr;
	/* What a test does not say is none that it could reach. */
	if (!b->options.wait_ns)
		b->options.wait_ns = 100 * NS_PER_SEC;
	ASSERT_OK(loop_new(&b->loop));
	if (dns_new(b->loop, &b->options, &b->dns, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
}

static void end(struct bench *b)
{
	b->dns = dns_free(b->dns);
	b->loop = loop_free(b->loop);
	free(b->conf);
}

static void ask_from(const struct bench *b, int guest, const void *p, size_t n)
{
	const struct sockaddr_in to = at(HERE, b->port);

	ASSERT_EQ(sendto(guest, p, n, 0, (const struct sockaddr *)&to, sizeof(to)), (ssize_t)n);
}

static const char question[] = "\x12\x34\x01\0\0\1\0\0\0\0\0\0\3one\0\0\1\0\1";
static const char reply[] = "\x12\x34\x81\x80\0\1\0\1\0\0\0\0\3one\0\0\1\0\1 and so on";

/* Turns the loop until something is there. Its length, 0 = nothing came. */
static size_t got(struct bench *b, int fd, void *p, size_t n, struct sockaddr_in *ret_from)
{
	socklen_t size = sizeof(*ret_from);

	for (int i = 0; i < TURNS; i++) {
		ssize_t k = recvfrom(fd, p, n, MSG_DONTWAIT, (struct sockaddr *)ret_from, ret_from ? &size : NULL);

		if (k >= 0)
			return (size_t)k;
		ASSERT_OK(loop_step(b->loop, clock_monotonic_ns() + STEP_NS));
	}
	return 0;
}

static void serve(struct bench *b, int server)
{
	struct sockaddr_in from;
	char p[512];

	ASSERT_EQ(got(b, server, p, sizeof(p), &from), sizeof(question));
	ASSERT_MEMEQ(p, question, sizeof(question));
	ASSERT_EQ(sendto(server, reply, sizeof(reply), 0, (struct sockaddr *)&from, sizeof(from)), sizeof(reply));
}

static void assert_answered(struct bench *b, int guest)
{
	char p[512];

	ASSERT_EQ(got(b, guest, p, sizeof(p), NULL), sizeof(reply));
	ASSERT_MEMEQ(p, reply, sizeof(reply));
}

static void turn(struct bench *b, int times)
{
	for (int i = 0; i < times; i++)
		ASSERT_OK(loop_step(b->loop, clock_monotonic_ns() + STEP_NS));
}

/* Turns the loop until the other end is heard to have ended: 0 orderly, -ECONNRESET. */
static int end_heard(struct bench *b, int fd)
{
	char c;

	for (int i = 0; i < TURNS; i++) {
		ssize_t n = recv(fd, &c, 1, MSG_DONTWAIT);

		if (n >= 0 || errno != EAGAIN)
			return n < 0 ? -errno : (int)n;
		turn(b, 1);
	}
	return -EAGAIN;
}

TEST(what_the_guest_asks_is_asked_and_answered)
{
	struct bench b = {};
	int guest = bound(SOCK_DGRAM, "127.53.0.2", 0), server;

	begin(&b, "search lan\nnameserver 127.53.1.1\n");
	server = bound(SOCK_DGRAM, "127.53.1.1", b.server_port);
	ask_from(&b, guest, question, sizeof(question));
	serve(&b, server);
	assert_answered(&b, guest);
	end(&b);
}

TEST(the_next_server_is_asked_when_nobody_is_there_or_nobody_answers)
{
	struct bench b = { .options = { .wait_ns = NS_PER_SEC } };
	int guest = bound(SOCK_DGRAM, "127.53.0.2", 0), silent, server;

	begin(&b, "nameserver 127.53.1.1\nnameserver 127.53.1.2\nnameserver 127.53.1.3\n");
	silent = bound(SOCK_DGRAM, "127.53.1.2", b.server_port);
	server = bound(SOCK_DGRAM, "127.53.1.3", b.server_port);
	ask_from(&b, guest, question, sizeof(question));
	serve(&b, server);
	assert_answered(&b, guest);
	close(silent);
	end(&b);
}

TEST(when_no_server_answers_the_guest_is_told)
{
	struct bench b = { .options = { .wait_ns = 20 * NS_PER_MS } };
	int guest = bound(SOCK_DGRAM, "127.53.0.2", 0), silent;
	char p[512];

	begin(&b, "nameserver 127.53.1.1\n");
	silent = bound(SOCK_DGRAM, "127.53.1.1", b.server_port);
	ask_from(&b, guest, question, sizeof(question));
	ASSERT_EQ(got(&b, guest, p, sizeof(p), NULL), sizeof(question));
	ASSERT_MEMEQ(p, "\x12\x34\x81\x02", 4);
	/* Nor where there is none to ask. */
	name_servers(&b, "# nobody at all\n");
	ask_from(&b, guest, question, sizeof(question));
	ASSERT_EQ(got(&b, guest, p, sizeof(p), NULL), sizeof(question));
	ASSERT_MEMEQ(p, "\x12\x34\x81\x02", 4);
	close(silent);
	end(&b);
}

TEST(other_servers_are_asked_once_the_file_names_them)
{
	struct bench b = {};
	int guest = bound(SOCK_DGRAM, "127.53.0.2", 0), server;

	begin(&b, "nameserver 127.53.1.1\n");
	server = bound(SOCK_DGRAM, "127.53.1.22", b.server_port);
	name_servers(&b, "nameserver 127.53.1.22\n");
	ask_from(&b, guest, question, sizeof(question));
	serve(&b, server);
	assert_answered(&b, guest);
	end(&b);
}

TEST(others_than_the_guest_and_what_is_no_question_get_nothing)
{
	struct bench b = {};
	int guest = bound(SOCK_DGRAM, "127.53.0.2", 0), other = bound(SOCK_DGRAM, "127.53.0.3", 0), server;
	char p[512], large[5000] = "\x12\x34";
	struct sockaddr_in from;

	b.options.guests[b.options.n_guests++] = at("127.53.0.2", 1).sin_addr;
	begin(&b, "nameserver 127.53.1.1\n");
	server = bound(SOCK_DGRAM, "127.53.1.1", b.server_port);
	ask_from(&b, other, question, sizeof(question));
	ask_from(&b, guest, "", 0);
	ask_from(&b, guest, "\x12\x34\1", 3);
	ask_from(&b, guest, reply, sizeof(reply));
	ask_from(&b, guest, large, sizeof(large));
	ask_from(&b, guest, question, sizeof(question));
	/* The first thing that comes is the last. */
	ASSERT_EQ(got(&b, server, p, sizeof(p), &from), sizeof(question));
	/* An answer to something else, one that is none, and one that is too short. */
	ASSERT_EQ(sendto(server, "\x12\x35\x81\x80\0\1\0\0\0\0\0\0", 12, 0, (struct sockaddr *)&from, sizeof(from)),
		  12);
	ASSERT_EQ(sendto(server, question, sizeof(question), 0, (struct sockaddr *)&from, sizeof(from)),
		  sizeof(question));
	ASSERT_EQ(sendto(server, "x", 1, 0, (struct sockaddr *)&from, sizeof(from)), 1);
	ASSERT_EQ(sendto(server, reply, sizeof(reply), 0, (struct sockaddr *)&from, sizeof(from)), sizeof(reply));
	assert_answered(&b, guest);
	ASSERT_EQ(recv(other, p, sizeof(p), MSG_DONTWAIT), -1);
	end(&b);
}

TEST(of_too_many_questions_the_oldest_makes_room)
{
	struct bench b = { .options = { .questions = 2 } };
	int guest = bound(SOCK_DGRAM, "127.53.0.2", 0), server;
	struct sockaddr_in from[3];
	char p[512];

	begin(&b, "nameserver 127.53.1.1\n");
	server = bound(SOCK_DGRAM, "127.53.1.1", b.server_port);
	for (int i = 0; i < 3; i++) {
		ask_from(&b, guest, question, sizeof(question));
		ASSERT(got(&b, server, p, sizeof(p), &from[i]) > 0);
	}
	(void)sendto(server, reply, sizeof(reply), 0, (struct sockaddr *)&from[0], sizeof(from[0]));
	turn(&b, 5);
	ASSERT_EQ(recv(guest, p, sizeof(p), MSG_DONTWAIT), -1);
	for (int i = 1; i < 3; i++) {
		ASSERT_EQ(sendto(server, reply, sizeof(reply), 0, (struct sockaddr *)&from[i], sizeof(from[i])),
			  sizeof(reply));
		assert_answered(&b, guest);
	}
	end(&b);
}

static int connection(const struct bench *b, const char *from)
{
	const struct sockaddr_in to = at(HERE, b->port), own = at(from, 0);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ASSERT_EQ(bind(fd, (const struct sockaddr *)&own, sizeof(own)), 0);
	ASSERT_EQ(connect(fd, (const struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

static int accepted(struct bench *b, int listener)
{
	for (int i = 0; i < TURNS; i++) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd >= 0)
			return fd;
		turn(b, 1);
	}
	test_fail(__FILE__, __LINE__, "nobody connects");
}

TEST(a_connection_is_joined_to_one_to_a_server)
{
	struct bench b = {};
	static char large[60000];
	int listener, guest, server;
	size_t have = 0;
	char p[4096];

	/* At the first nobody listens. */
	begin(&b, "nameserver 127.53.1.1\nnameserver 127.53.1.2\n");
	listener = bound(SOCK_STREAM, "127.53.1.2", b.server_port);
	guest = connection(&b, "127.53.0.2");
	ASSERT_EQ(send(guest, question, sizeof(question), 0), sizeof(question));
	server = accepted(&b, listener);
	ASSERT_EQ(got(&b, server, p, sizeof(p), NULL), sizeof(question));
	ASSERT_EQ(send(server, large, sizeof(large), 0), sizeof(large));
	while (have < sizeof(large)) {
		size_t n = got(&b, guest, p, sizeof(p), NULL);

		ASSERT(n > 0);
		have += n;
	}
	/* One end closes, then the other. */
	ASSERT_EQ(shutdown(guest, SHUT_WR), 0);
	ASSERT_EQ(end_heard(&b, server), 0);
	close(server);
	ASSERT_EQ(end_heard(&b, guest), 0);
	close(guest);
	end(&b);
}

TEST(the_next_server_is_connected_to_when_the_first_is_silent)
{
	struct bench b = { .options = { .wait_ns = NS_PER_SEC } };
	int silent, fillers[4], listener, guest, server;
	struct sockaddr_in first;
	char p[512];

	begin(&b, "nameserver 127.53.1.1\nnameserver 127.53.1.2\n");
	/* Its queue is full: who connects is not even refused. */
	silent = bound(SOCK_STREAM, "127.53.1.1", b.server_port);
	ASSERT_EQ(listen(silent, 0), 0);
	first = at("127.53.1.1", b.server_port);
	for (size_t i = 0; i < ARRAY_SIZE(fillers); i++) {
		fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		(void)connect(fillers[i], (const struct sockaddr *)&first, sizeof(first));
	}
	listener = bound(SOCK_STREAM, "127.53.1.2", b.server_port);
	guest = connection(&b, "127.53.0.2");
	ASSERT_EQ(send(guest, question, sizeof(question), 0), sizeof(question));
	server = accepted(&b, listener);
	ASSERT_EQ(got(&b, server, p, sizeof(p), NULL), sizeof(question));
	/* Joined: silence is the guest's own affair now. */
	turn(&b, 10);
	ASSERT_EQ(send(server, reply, sizeof(reply), 0), sizeof(reply));
	assert_answered(&b, guest);
	for (size_t i = 0; i < ARRAY_SIZE(fillers); i++)
		close(fillers[i]);
	close(silent);
	close(listener);
	close(server);
	close(guest);
	end(&b);
}

TEST(connections_of_others_too_many_and_to_nobody_end_at_once)
{
	struct bench b = { .options = { .connections = 1 } };
	int listener, other, first, second, third, r;
	char p[16];

	b.options.guests[b.options.n_guests++] = at("127.53.0.2", 1).sin_addr;
	begin(&b, "nameserver 127.53.1.1\n");
	listener = bound(SOCK_STREAM, "127.53.1.1", b.server_port);
	other = connection(&b, "127.53.0.3");
	ASSERT_EQ(end_heard(&b, other), 0);
	first = connection(&b, "127.53.0.2");
	turn(&b, 3);
	ASSERT_EQ(recv(first, p, sizeof(p), MSG_DONTWAIT), -1);
	second = connection(&b, "127.53.0.2");
	ASSERT_EQ(end_heard(&b, second), 0);
	close(first);
	close(listener);
	turn(&b, 3);
	third = connection(&b, "127.53.0.2");
	r = end_heard(&b, third);
	ASSERT(r == 0 || r == -ECONNRESET);
	close(other);
	close(second);
	close(third);
	end(&b);
}
