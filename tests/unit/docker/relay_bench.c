#include "relay_bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "test.h"

void on_resolve(struct relay *r, uint64_t ticket, bool udp, uint16_t guest_port, void *data)
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

void own_network(void)
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
void set_up(struct bench *b, struct relay_options *o, const char *list)
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
	/* What a test does not say is none that it could reach. */
	if (!o->wait_ns)
		o->wait_ns = 100 * NS_PER_SEC;
	if (relay_new(b->loop, o, &b->relay, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
}

void tear_down(struct bench *b)
{
	b->relay = relay_free(b->relay);
	b->loop = loop_free(b->loop);
}

pid_t child(void (*fn)(int), int arg)
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
void run_beside(struct bench *b, void (*fn)(int), int arg)
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
void turn(struct bench *b, uint64_t ns)
{
	uint64_t end = clock_monotonic_ns() + ns;

	while (clock_monotonic_ns() < end)
		ASSERT_OK(loop_step(b->loop, end));
}

int local_socket(int type, uint16_t *ret_port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	ASSERT_EQ(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	ASSERT_EQ(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	*ret_port = ntohs(a.sin_port);
	return fd;
}

int server(uint16_t *ret_port)
{
	int fd = local_socket(SOCK_STREAM, ret_port);

	ASSERT_EQ(listen(fd, 2048), 0);
	return fd;
}

int dial_type(int type, const char *ip, uint16_t port)
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

int dial(uint16_t port)
{
	int fd = dial_type(SOCK_STREAM, "127.0.0.1", port);

	ASSERT_OK(fd);
	return fd;
}

void say(int fd, const char *text)
{
	ASSERT_EQ(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* The peer's words, to the letter. */
void hears(int fd, const char *text)
{
	char buf[256] = "";

	ASSERT(strlen(text) < sizeof(buf));
	ASSERT_EQ(recv(fd, buf, strlen(text), MSG_WAITALL), strlen(text));
	ASSERT_STREQ(buf, text);
}

void hears_end(int fd)
{
	char c;

	ASSERT_EQ(recv(fd, &c, 1, 0), 0);
}

void is_reset(int fd)
{
	char c;

	ASSERT_EQ(recv(fd, &c, 1, 0), -1);
	ASSERT_EQ(errno, ECONNRESET);
}

void dial_reset(uint16_t port)
{
	int fd = dial_type(SOCK_STREAM, "127.0.0.1", port);

	/* The kernel lets in before the relay resets: connect() may see either. */
	if (fd == -ECONNRESET)
		return;
	ASSERT_OK(fd);
	is_reset(fd);
	close(fd);
}
