/* A real machine behind interfaces that were taken over: its own program (takeover_guest.c) sets them up, and the outside speaks with it as if it
 * were the container. The kernel is $SKERRY_TEST_KERNEL. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/process.h"
#include "base/spawn.h"
#include "engine/accel.h"
#include "engine/engine.h"
#include "image/cpio.h"
#include "machine/guest_interfaces.h"
#include "net/takeover.h"
#include "netns.h"
#include "test.h"
#include "wire/message.h"

enum { TRANSFER_BYTES = 4 << 20, PIECE = 64 << 10, NICS = 2 };
#define DEADLINE_NS (300 * NS_PER_SEC)

struct vm {
	struct engine_plan plan;
	int run_dir, boot, pidfd, console;
	int taps[NICS];
	struct net_takeover taken;
	struct guest_interfaces guest;
	struct buf text; /* of the console */
};

/* ---- The machine ---- */

static void make_initrd(int dir)
{
	_cleanup_buf_ struct buf init = {}, out = {};
	struct cpio c;

	ASSERT_OK(file_read_at(AT_FDCWD, TAKEOVER_GUEST, 16 << 20, &init));
	cpio_begin(&c, &out);
	ASSERT_OK(cpio_add(&c, "dev", S_IFDIR | 0755, NULL, 0));
	ASSERT_OK(cpio_add_device(&c, "dev/console", S_IFCHR | 0600, 5, 1));
	ASSERT_OK(cpio_add(&c, "init", S_IFREG | 0755, init.p, init.len));
	cpio_end(&c);
	ASSERT_OK(file_write_at(dir, "initrd", out.p, out.len, 0444, 0));
}

static int boot_configuration(const struct guest_interfaces *g)
{
	Skerry__Agent__V1__BootConfig c;
	_cleanup_buf_ struct buf b = {};
	int fd = memfd_create("boot", MFD_CLOEXEC);

	ASSERT_OK(fd);
	skerry__agent__v1__boot_config__init(&c);
	c.interfaces = g->interfaces;
	c.n_interfaces = g->n;
	message_pack(&b, &c.base);
	ASSERT_OK(write_full(fd, b.p, b.len));
	return fd;
}

static int open_planned(const struct vm *vm, const struct engine_fd *f)
{
	int fd = -1;

	if (f->kind == ENGINE_FD_OPEN)
		fd = open(f->path, f->flags | O_CLOEXEC);
	else if (f->kind == ENGINE_FD_LISTEN)
		fd = unix_listen_at(vm->run_dir, f->path, 1);
	else if (f->kind == ENGINE_FD_BOOT)
		fd = vm->boot;
	else if (f->kind == ENGINE_FD_NIC)
		fd = vm->taps[f->index];
	if (fd < 0)
		test_fail(__FILE__, __LINE__, "%s: %s", f->path ? f->path : "a descriptor", strerror(errno));
	return fd;
}

static void start(struct vm *vm, enum engine_shape shape)
{
	const struct engine *engine = engine_find("qemu");
	const char *kernel = getenv("SKERRY_TEST_KERNEL");
	_cleanup_free_ char *program = NULL, *initrd = xasprintf("%s/initrd", test_tmpdir()),
			    *path = kernel ? realpath(kernel, NULL) : NULL;
	struct engine_request req = {
		.name = "takeover",
		.uuid = "01234567-89ab-cdef-0123-456789abcdef",
		.shape = shape,
		.accel = ACCEL_TCG,
		.cpus = 1,
		.memory_bytes = UINT64_C(192) << 20,
		.kernel_path = path,
		.initrd_path = initrd,
		.nics = vm->guest.nics,
		.n_nics = vm->guest.n,
		.run_dir = test_tmpdir(),
		.sandbox = true,
	};
	struct spawn s = SPAWN_INIT;
	struct spawn_fd fds[32];
	struct error e = {};

	if (!path)
		test_skip("no kernel: SKERRY_TEST_KERNEL is %s", kernel ? "not readable" : "not set");
	if (engine->find_program(&program, &e) < 0)
		test_skip("%s", e.msg);
	vm->run_dir = open(test_tmpdir(), O_DIRECTORY | O_CLOEXEC);
	make_initrd(vm->run_dir);
	if (engine->plan(&req, program, &vm->plan, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	ASSERT(vm->plan.n_fds <= ARRAY_SIZE(fds));
	for (size_t i = 0; i < vm->plan.n_fds; i++)
		fds[i] = (struct spawn_fd){ open_planned(vm, &vm->plan.fds[i]), vm->plan.fds[i].number };
	s.argv = (const char *const *)vm->plan.argv.items;
	s.fds = fds;
	s.n_fds = vm->plan.n_fds;
	s.stdio[2] = 2;
	s.death_signal = 9;
	/* As somebody who may not touch the network: the descriptor is all that it needs. */
	s.uid = s.gid = 65534;
	s.drop_privileges = true;
	if (spawn_start(&s, NULL, &vm->pidfd, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	for (size_t i = 0; i < vm->plan.n_fds; i++)
		close(fds[i].from);
	vm->console = unix_connect_at(vm->run_dir, engine->console_socket);
	ASSERT_OK(vm->console);
}

/* Reads the console until @text is there. */
static void until(struct vm *vm, const char *text)
{
	uint64_t deadline = clock_monotonic_ns() + DEADLINE_NS;

	while (!vm->text.p || !strstr(vm->text.p, text)) {
		struct pollfd p = { vm->console, POLLIN, 0 };
		ssize_t n = 0;

		if (poll(&p, 1, clock_poll_timeout(deadline)) > 0)
			n = read(vm->console, buf_reserve(&vm->text, 4096), 4096);
		if (n <= 0)
			test_fail(__FILE__, __LINE__, "'%s' did not come: %s", text, vm->text.p ? vm->text.p : "");
		buf_commit(&vm->text, (size_t)n);
	}
}

/* ---- Speaking with it ---- */

/* @source may be NULL. */
static int dial(int ns, const char *source, const char *address)
{
	bool six = strchr(address, ':');
	union {
		struct sockaddr any;
		struct sockaddr_in four;
		struct sockaddr_in6 six;
	} to = {}, from = {};
	socklen_t n = six ? sizeof(to.six) : sizeof(to.four);
	const struct timeval patience = { .tv_sec = 120 };
	uint64_t deadline = clock_monotonic_ns() + DEADLINE_NS;

	to.any.sa_family = from.any.sa_family = six ? AF_INET6 : AF_INET;
	to.four.sin_port = htons(7);
	ASSERT_EQ(inet_pton(to.any.sa_family, address, six ? (void *)&to.six.sin6_addr : (void *)&to.four.sin_addr), 1);
	if (source)
		ASSERT_EQ(inet_pton(to.any.sa_family, source,
				    six ? (void *)&from.six.sin6_addr : (void *)&from.four.sin_addr),
			  1);
	for (;;) {
		int before = netns_enter(ns), fd = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		netns_leave(before);
		ASSERT_OK(fd);
		if (source)
			ASSERT_EQ(bind(fd, &from.any, n), 0);
		ASSERT_EQ(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)), 0);
		if (connect(fd, &to.any, n) == 0)
			return fd;
		/* Three seconds are what the kernel gives a neighbour; a guest on a busy host may be slower. */
		if (errno != EHOSTUNREACH || clock_monotonic_ns() > deadline)
			test_fail(__FILE__, __LINE__, "cannot connect to %s: %s", address, strerror(errno));
		close(fd);
	}
}

/* Sends so many bytes and takes them back, at the same time. */
static void echo(int ns, const char *source, const char *address, size_t bytes)
{
	static uint8_t out[PIECE], in[PIECE];
	uint64_t begin = clock_monotonic_ns(), deadline = begin + DEADLINE_NS;
	size_t sent = 0, got = 0;
	int fd = dial(ns, source, address);

	ASSERT_OK(fcntl(fd, F_SETFL, O_NONBLOCK));
	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)(i * 31 + i / 251);
	while (got < bytes) {
		struct pollfd p = { fd, POLLIN | (sent < bytes ? POLLOUT : 0), 0 };
		ssize_t n;

		if (poll(&p, 1, clock_poll_timeout(deadline)) <= 0)
			test_fail(__FILE__, __LINE__, "%s: stuck after %zu bytes out, %zu back", address, sent, got);
		if (sent < bytes && (p.revents & POLLOUT)) {
			size_t at = sent % PIECE, want = PIECE - at < bytes - sent ? PIECE - at : bytes - sent;

			n = write(fd, out + at, want);
			ASSERT(n > 0 || errno == EAGAIN);
			sent += n > 0 ? (size_t)n : 0;
		}
		if (!(p.revents & (POLLIN | POLLHUP | POLLERR)))
			continue;
		n = read(fd, in, PIECE - got % PIECE);
		if (n <= 0)
			test_fail(__FILE__, __LINE__, "%s: %s after %zu bytes", address, n ? strerror(errno) : "end",
				  got);
		ASSERT_MEMEQ(in, out + got % PIECE, (size_t)n);
		got += (size_t)n;
	}
	close(fd);
	printf("# %s: %zu bytes there and back in %llu ms\n", address, bytes,
	       (unsigned long long)((clock_monotonic_ns() - begin) / NS_PER_MS));
}

static uint16_t checksum(const uint8_t *p, size_t n)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < n; i += 2)
		sum += (uint32_t)p[i] << 8 | (i + 1 < n ? p[i + 1] : 0);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* An echo request whose packet is @size bytes and may not be broken up; again each second, as one that waits too long for its neighbour is dropped. */
static void ping(int ns, const char *address, size_t size)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	int before = netns_enter(ns), fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP),
	    whole = IP_PMTUDISC_DO;
	uint64_t deadline = clock_monotonic_ns() + DEADLINE_NS;
	static uint8_t out[10000], in[10000];
	size_t n = size - 20;
	uint16_t sum;

	netns_leave(before);
	ASSERT_OK(fd);
	memset(out, 'x', sizeof(out));
	memcpy(out, "\x08\0\0\0\x12\x34\0\1", 8);
	sum = htons(checksum(out, n));
	memcpy(out + 2, &sum, sizeof(sum));
	ASSERT_EQ(setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &whole, sizeof(whole)), 0);
	ASSERT_EQ(inet_pton(AF_INET, address, &to.sin_addr), 1);
	for (bool asked = false;;) {
		struct pollfd p = { fd, POLLIN, 0 };
		ssize_t got;

		if (!asked && sendto(fd, out, n, 0, (const struct sockaddr *)&to, sizeof(to)) != (ssize_t)n)
			test_fail(__FILE__, __LINE__, "ping of %zu bytes: %s", size, strerror(errno));
		if (clock_monotonic_ns() > deadline)
			test_fail(__FILE__, __LINE__, "%s does not answer a ping of %zu bytes", address, size);
		asked = poll(&p, 1, 1000) > 0;
		if (!asked)
			continue;
		got = read(fd, in, sizeof(in));
		if (got == (ssize_t)size && in[20] == 0 && memcmp(in + 24, "\x12\x34", 2) == 0)
			break;
	}
	ASSERT_MEMEQ(in + 28, out + 8, n - 8);
	close(fd);
}

static void finish(struct vm *vm, int ns, const char *address)
{
	int fd = dial(ns, NULL, address), status = -1;

	ASSERT_EQ(write(fd, "q", 1), 1);
	ASSERT_OK(pidfd_wait_exit(vm->pidfd, clock_monotonic_ns() + DEADLINE_NS));
	ASSERT_OK(pidfd_reap(vm->pidfd, &status));
	ASSERT_EQ(status, 0);
	close(fd);
	close(vm->pidfd);
	close(vm->console);
	close(vm->run_dir);
	buf_done(&vm->text);
	engine_plan_done(&vm->plan);
	guest_interfaces_done(&vm->guest);
	net_takeover_done(&vm->taken);
}

static void take_over(struct vm *vm, int ns)
{
	struct error e = {};

	if (net_takeover_inspect(ns, NULL, &vm->taken, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	ASSERT(vm->taken.n <= NICS);
	for (size_t i = 0; i < vm->taken.n; i++)
		if (net_takeover_attach(ns, &vm->taken.nics[i], NULL, &vm->taps[i], &e) < 0)
			test_fail(__FILE__, __LINE__, "%s", e.msg);
	guest_interfaces_make(&vm->taken, &vm->guest);
	vm->boot = boot_configuration(&vm->guest);
}

/* ---- Tests ---- */

/* Two interfaces with MTUs of their own, IPv4 and IPv6, names that are the other way round than the kernel's. */
static void speaks_through_two_interfaces(enum engine_shape shape)
{
	int inside = netns_new(), outside = netns_new();
	_cleanup_free_ char *before = NULL, *after = NULL;
	struct vm vm = {};

	netns_run(outside, "ip link set lo up");
	netns_run(outside, "ip address add 192.0.2.9/32 dev lo");
	netns_run(outside, "ip address add 2001:db8::9/128 dev lo nodad");
	netns_pair(inside, "eth1", outside, "out0");
	netns_run(outside, "ip link set out0 mtu 1450");
	netns_run(inside, "ip link set eth1 mtu 1450");
	netns_run(outside, "ip address add 172.17.0.1/16 dev out0");
	netns_run(outside, "ip address add fd00::1/64 dev out0 nodad");
	netns_run(inside, "ip address add 172.17.0.2/16 dev eth1");
	netns_run(inside, "ip address add fd00::2/64 dev eth1 nodad");
	netns_run(inside, "ip route add default via 172.17.0.1");
	netns_run(inside, "ip -6 route add default via fd00::1");
	netns_pair(inside, "eth0", outside, "out1");
	netns_run(outside, "ip link set out1 mtu 9000");
	netns_run(inside, "ip link set eth0 mtu 9000");
	netns_run(outside, "ip address add 10.2.0.1/24 dev out1");
	netns_run(inside, "ip address add 10.2.0.2/24 dev eth0");
	netns_run(inside, "ip route add 10.66.0.0/16 via 10.2.0.1 metric 77 src 10.2.0.2 mtu 8000");
	before = netns_output(inside, "ip -4 address");
	take_over(&vm, inside);
	ASSERT_EQ(vm.taken.n, 2);
	start(&vm, shape);
	until(&vm, "\nready\r\n");
	ASSERT(!strstr(vm.text.p, "interface: ") && !strstr(vm.text.p, "again: "));
	ASSERT_CONTAINS(vm.text.p, "/sys/class/net/eth1/mtu\r\n1450");
	ASSERT_CONTAINS(vm.text.p, "/sys/class/net/eth0/mtu\r\n9000");
	ASSERT_CONTAINS(vm.text.p, "mtu to 10.66.0.1: 8000");
	ping(outside, "172.17.0.2", 100);
	ping(outside, "172.17.0.2", 1450);
	ping(outside, "10.2.0.2", 9000);
	/* From an address that only the default route leads back to. */
	echo(outside, "192.0.2.9", "172.17.0.2", TRANSFER_BYTES);
	echo(outside, "2001:db8::9", "fd00::2", TRANSFER_BYTES);
	echo(outside, NULL, "10.2.0.2", TRANSFER_BYTES);
	after = netns_output(inside, "ip -4 address");
	ASSERT_CONTAINS(after, "172.17.0.2/16");
	finish(&vm, outside, "172.17.0.2");
	ASSERT_OK(net_takeover_release(inside, NULL));
	free(after);
	after = netns_output(inside, "ip -4 address");
	ASSERT_STREQ(after, before);
	/* The namespace's own stack is back. */
	ping(outside, "172.17.0.2", 1450);
}

TEST(micro_speaks_through_two_interfaces)
{
	speaks_through_two_interfaces(SHAPE_MICRO);
}

TEST(full_speaks_through_two_interfaces)
{
	speaks_through_two_interfaces(SHAPE_FULL);
}

/* One address of its own, and a gateway outside of any network that answers to nobody: known by a permanent entry alone. */
TEST(a_gateway_outside_of_the_network_is_reached)
{
	int inside = netns_new(), outside = netns_new();
	struct vm vm = {};

	netns_run(outside, "ip address add 192.0.2.9/32 dev lo");
	netns_pair(inside, "eth0", outside, "cali0");
	netns_run(outside, "ip link set cali0 address ee:ee:ee:ee:ee:ee");
	netns_run(outside, "ip route add 10.244.1.7/32 dev cali0 scope link src 192.0.2.9");
	netns_run(inside, "ip address add 10.244.1.7/32 dev eth0");
	netns_run(inside, "ip route add 169.254.1.1 dev eth0 scope link");
	netns_run(inside, "ip route add default via 169.254.1.1 dev eth0");
	netns_run(inside, "ip neighbour add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent");
	take_over(&vm, inside);
	start(&vm, SHAPE_MICRO);
	until(&vm, "\nready\r\n");
	ASSERT(!strstr(vm.text.p, "interface: ") && !strstr(vm.text.p, "again: "));
	ASSERT_CONTAINS(vm.text.p, "169.254.1.1");
	ASSERT_CONTAINS(vm.text.p, "ee:ee:ee:ee:ee:ee");
	ping(outside, "10.244.1.7", 1500);
	echo(outside, "192.0.2.9", "10.244.1.7", TRANSFER_BYTES);
	finish(&vm, outside, "10.244.1.7");
	ASSERT_OK(net_takeover_release(inside, NULL));
}
