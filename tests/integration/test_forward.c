/* Ports that a running QEMU leads to the guest: made, refused and undone. No guest is needed for who listens. */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/process.h"
#include "base/spawn.h"
#include "engine/engine.h"
#include "test.h"

#define DEADLINE_NS (120 * NS_PER_SEC)

struct outcome {
	bool done;
	int num;
};

static void on_event(enum engine_event ev, const char *detail, void *data)
{
	(void)ev;
	(void)detail;
	(void)data;
}

static void on_done(const struct error *err, uint64_t value, void *data)
{
	struct outcome *o = data;

	(void)value;
	o->done = true;
	o->num = err ? -err->num : 0;
}

static int await(struct loop *l, struct outcome *o)
{
	uint64_t deadline = clock_monotonic_ns() + DEADLINE_NS;

	while (!o->done && clock_monotonic_ns() < deadline)
		ASSERT_OK(loop_step(l, deadline));
	ASSERT(o->done);
	o->done = false;
	return o->num;
}

/* A port that is nobody's now may be somebody's a moment later: a namespace of our own has all of them. The host's, where there is none to be had. */
static void have_own_ports(void)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd;

	if (unshare(CLONE_NEWNET) < 0)
		return;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ASSERT_EQ(ioctl(fd, SIOCSIFFLAGS, &lo), 0);
	close(fd);
}

static uint16_t free_port(int type)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	ASSERT_EQ(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	ASSERT_EQ(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	close(fd);
	return ntohs(a.sin_port);
}

/* 0 = nobody has it. */
static int bind_there(int type, uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				 .sin_port = htons(port) };
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), r;

	r = bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ? -errno : 0;
	close(fd);
	return r;
}

TEST(a_port_is_led_while_it_runs_and_no_more)
{
	const struct engine *engine = engine_find("qemu");
	_cleanup_free_ char *program = NULL;
	_cleanup_error_ struct error e = {};
	struct outcome o = {};
	struct engine_vm *vm = NULL;
	struct loop *loop;
	int pair[2], status;
	pid_t pid;

	if (engine->find_program(&program, &e) < 0)
		test_skip("%s", e.msg);
	have_own_ports();
	ASSERT_OK(loop_new(&loop));
	ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	pid = fork();
	if (pid == 0) {
		ASSERT_EQ(dup2(pair[1], 3), 3);
		execl(program, program, "-M", "none", "-nodefaults", "-display", "none", "-S", "-netdev",
		      "user,id=net0,ipv6=off", "-chardev", "socket,id=q,fd=3", "-mon", "chardev=q,mode=control",
		      (char *)NULL);
		_exit(127);
	}
	close(pair[1]);
	ASSERT_OK(engine->connect(loop, pair[0], on_event, on_done, &o, &vm, &e));
	ASSERT_OK(await(loop, &o));
	for (int udp = 0; udp < 2; udp++) {
		int type = udp ? SOCK_DGRAM : SOCK_STREAM;
		struct engine_forward f = { .udp = udp, .host_port = free_port(type), .guest_port = 22 };

		engine->forward(vm, &f, on_done, &o);
		ASSERT_OK(await(loop, &o));
		ASSERT_EQ(bind_there(type, f.host_port), -EADDRINUSE);
		/* It is taken, by itself. */
		engine->forward(vm, &f, on_done, &o);
		ASSERT_EQ(await(loop, &o), -EADDRINUSE);
		/* Undone, and once more. */
		f.undo = true;
		engine->forward(vm, &f, on_done, &o);
		ASSERT_OK(await(loop, &o));
		ASSERT_OK(bind_there(type, f.host_port));
		engine->forward(vm, &f, on_done, &o);
		ASSERT_OK(await(loop, &o));
		/* A network that the engine does not have. */
		f.undo = false;
		f.nic = 7;
		engine->forward(vm, &f, on_done, &o);
		ASSERT(await(loop, &o) < 0);
	}
	engine->quit(vm, on_done, &o);
	ASSERT_OK(await(loop, &o));
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	vm = engine->vm_free(vm);
	loop_free(loop);
}
