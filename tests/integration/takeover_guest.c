/* The first process of the machine that test_takeover starts: sets up the interfaces as the guest's own program does, says what has become of
 * them on the console, and then gives back whatever comes by TCP on port 7, until a connection brings the byte 'q' alone. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "base/file.h"
#include "base/memory.h"
#include "guest/bootconfig.h"
#include "guest/fwcfg.h"
#include "guest/network.h"

enum { PIECE = 64 << 10, CONNECTIONS = 8 };

struct connection {
	int fd;
	size_t n, at;
	uint64_t taken; /* bytes, of all pieces */
	char piece[PIECE];
};

static void say_file(const char *path)
{
	_cleanup_buf_ struct buf b = { 0 };

	printf("== %s\n", path);
	if (file_read_at(AT_FDCWD, path, 1 << 20, &b) == 0)
		fwrite(b.p, 1, b.len, stdout);
}

/* What goes into one packet on the way there; a socket asks its route. */
static void say_path_mtu(const char *address)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9) };
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t n = sizeof(int);
	int mtu = 0;

	if (inet_pton(AF_INET, address, &to.sin_addr) == 1 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0 &&
	    getsockopt(fd, IPPROTO_IP, IP_MTU, &mtu, &n) == 0)
		printf("mtu to %s: %d\n", address, mtu);
}

static void configure(void)
{
	_cleanup_buf_ struct buf b = { 0 };
	Skerry__Agent__V1__BootConfig *c;
	struct error e = { 0 };
	int r = fwcfg_read(BOOTCONFIG_ITEM, BOOTCONFIG_BYTES_MAX, &b);

	if (r < 0 || bootconfig_parse(b.p, b.len, &c, &e) < 0) {
		printf("no configuration: %d %s\n", r, e.msg ? e.msg : "");
		return;
	}
	if (network_loopback(&e) < 0)
		printf("loopback: %s\n", e.msg);
	for (size_t i = 0; i < c->n_interfaces; i++) {
		_cleanup_free_ char *mtu = xasprintf("/sys/class/net/%s/mtu", c->interfaces[i]->name);

		error_done(&e);
		if (network_apply(c->interfaces[i], &e) < 0)
			printf("interface: %s\n", e.msg);
		/* What is there already is fine. */
		if (network_apply(c->interfaces[i], &e) < 0)
			printf("interface again: %s\n", e.msg);
		say_file(mtu);
	}
	say_path_mtu("10.66.0.1");
	say_file("/proc/net/route");
	say_file("/proc/net/ipv6_route");
	say_file("/proc/net/arp");
}

static int serve(void)
{
	const struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(7) };
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || bind(fd, (const struct sockaddr *)&any, sizeof(any)) < 0 || listen(fd, CONNECTIONS) < 0)
		printf("cannot serve: %d\n", errno);
	return fd;
}

/* true when it is over. */
static bool pump(struct connection *c, short events, bool *quit)
{
	ssize_t n;

	if (c->at == c->n) {
		n = read(c->fd, c->piece, sizeof(c->piece));
		if (n <= 0)
			return n == 0 || errno != EAGAIN;
		c->taken += (uint64_t)n;
		*quit = c->taken == 1 && c->piece[0] == 'q';
		c->n = (size_t)n;
		c->at = 0;
	}
	(void)events;
	n = write(c->fd, c->piece + c->at, c->n - c->at);
	if (n < 0)
		return errno != EAGAIN;
	c->at += (size_t)n;
	return false;
}

int main(void)
{
	static struct connection connections[CONNECTIONS];
	bool quit = false;
	int server;

	(void)mkdir("/proc", 0755);
	(void)mkdir("/sys", 0755);
	(void)mount("proc", "/proc", "proc", 0, NULL);
	(void)mount("sysfs", "/sys", "sysfs", 0, NULL);
	for (size_t i = 0; i < CONNECTIONS; i++)
		connections[i].fd = -1;
	configure();
	server = serve();
	printf("ready\n");
	fflush(stdout);
	while (!quit) {
		struct pollfd p[CONNECTIONS + 1];

		for (size_t i = 0; i < CONNECTIONS; i++) {
			const struct connection *c = &connections[i];

			p[i] = (struct pollfd){ c->fd, c->at < c->n ? POLLOUT : POLLIN, 0 };
		}
		p[CONNECTIONS] = (struct pollfd){ server, POLLIN, 0 };
		if (poll(p, CONNECTIONS + 1, -1) < 0)
			continue;
		for (size_t i = 0; i < CONNECTIONS; i++)
			if (p[i].revents && pump(&connections[i], p[i].revents, &quit)) {
				close(connections[i].fd);
				connections[i] = (struct connection){ .fd = -1 };
			}
		for (size_t i = 0; i < CONNECTIONS && (p[CONNECTIONS].revents & POLLIN); i++)
			if (connections[i].fd < 0) {
				connections[i].fd = accept4(server, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
				break;
			}
	}
	printf("end\n");
	fflush(stdout);
	(void)reboot(RB_AUTOBOOT);
	return 1;
}
