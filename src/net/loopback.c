#include "net/loopback.h"

#include <errno.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fdpass.h"
#include "base/memory.h"

enum { BACKLOG = 64, LISTENERS = 2 };

static int bpf(enum bpf_cmd cmd, union bpf_attr *a)
{
	int r = (int)syscall(SYS_bpf, cmd, a, sizeof(*a));

	return r < 0 ? -errno : r;
}

/* ---- The sockets ---- */

/* System calls only: it runs in a child between fork and _exit. */
static int listen_here(int family)
{
	const struct sockaddr_in a4 = { .sin_family = AF_INET };
	const struct sockaddr_in6 a6 = { .sin6_family = AF_INET6 };
	const struct sockaddr *a = family == AF_INET ? (const struct sockaddr *)&a4 : (const struct sockaddr *)&a6;
	socklen_t n = family == AF_INET ? sizeof(a4) : sizeof(a6);
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;

	if (fd < 0)
		return -errno;
	/* Without it the second one's port would be the first one's too. */
	if (family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (bind(fd, a, n) < 0 || listen(fd, BACKLOG) < 0) {
		int r = -errno;

		safe_close(fd);
		return r;
	}
	return fd;
}

/* In the namespace; the second one may be missing. */
static _noreturn_ void open_inside(int netns_fd, int report)
{
	int fds[LISTENERS], num = 0;
	size_t n = 0;

	if (setns(netns_fd, CLONE_NEWNET) < 0)
		num = errno;
	for (size_t i = 0; !num && i < LISTENERS; i++) {
		fds[n] = listen_here(i ? AF_INET6 : AF_INET);
		if (fds[n] >= 0)
			n++;
		else if (!i)
			num = -fds[n];
	}
	_exit(fdpass_send(report, &num, sizeof(num), fds, n) < 0);
}

static int open_listeners(int netns_fd, struct net_loopback *l)
{
	int pair[2], num = EPIPE, r;
	size_t n = 0;
	ssize_t got;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	pid = fork();
	r = -errno;
	if (pid == 0)
		open_inside(netns_fd, pair[1]);
	safe_close(pair[1]);
	if (pid < 0) {
		safe_close(pair[0]);
		return r;
	}
	got = fdpass_recv(pair[0], &num, sizeof(num), l->listeners, LISTENERS, &n);
	safe_close(pair[0]);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	for (size_t i = n; i < LISTENERS; i++)
		l->listeners[i] = -EBADF;
	if (got < 0)
		return (int)got;
	if ((size_t)got != sizeof(num))
		return -EPIPE;
	return num ? -num : n ? 0 : -EPIPE;
}

/* ---- The program ---- */

#define LOAD(dst, offset)                                                                                           \
	{                                                                                                           \
		.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = (dst), .src_reg = BPF_REG_6, .off = (int16_t)(offset) \
	}
#define MOVE(dst, src)                                                                  \
	{                                                                               \
		.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = (dst), .src_reg = (src) \
	}
#define SET(dst, value)                                                               \
	{                                                                             \
		.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = (dst), .imm = (value) \
	}
/* @at: the instruction's own number. */
#define JUMP_IF(at, op, dst, value, to)                                                                              \
	{                                                                                                            \
		.code = BPF_JMP32 | (op) | BPF_K, .dst_reg = (dst), .off = (int16_t)((to) - (at)-1), .imm = (value), \
	}
#define JUMP(at, to)                                                       \
	{                                                                  \
		.code = BPF_JMP | BPF_JA, .off = (int16_t)((to) - (at)-1), \
	}
#define CALL(function)                                        \
	{                                                     \
		.code = BPF_JMP | BPF_CALL, .imm = (function) \
	}
#define FIELD(name) offsetof(struct bpf_sk_lookup, name)

/* To which of the listeners of @map a connection goes; what is not for the loopback goes where it would. */
static int load_program(int map)
{
	enum { IPV6 = 10, LEAD = 19, LEAVE = 33 };
	const int32_t net = (int32_t)htonl(INADDR_LOOPBACK & IN_CLASSA_NET), mask = (int32_t)htonl(IN_CLASSA_NET);
	/* r6: what is asked; r7: the listener's number, then the listener. */
	const struct bpf_insn code[] = {
		MOVE(BPF_REG_6, BPF_REG_1),
		LOAD(BPF_REG_2, FIELD(protocol)),
		JUMP_IF(2, BPF_JNE, BPF_REG_2, IPPROTO_TCP, LEAVE),
		LOAD(BPF_REG_2, FIELD(family)),
		JUMP_IF(4, BPF_JEQ, BPF_REG_2, AF_INET6, IPV6),
		SET(BPF_REG_7, 0),
		LOAD(BPF_REG_2, FIELD(local_ip4)),
		{ .code = BPF_ALU | BPF_AND | BPF_K, .dst_reg = BPF_REG_2, .imm = mask },
		JUMP_IF(8, BPF_JNE, BPF_REG_2, net, LEAVE),
		JUMP(9, LEAD),
		[IPV6] = SET(BPF_REG_7, 1),
		LOAD(BPF_REG_2, FIELD(local_ip6)),
		JUMP_IF(12, BPF_JNE, BPF_REG_2, 0, LEAVE),
		LOAD(BPF_REG_2, FIELD(local_ip6) + 4),
		JUMP_IF(14, BPF_JNE, BPF_REG_2, 0, LEAVE),
		LOAD(BPF_REG_2, FIELD(local_ip6) + 8),
		JUMP_IF(16, BPF_JNE, BPF_REG_2, 0, LEAVE),
		LOAD(BPF_REG_2, FIELD(local_ip6) + 12),
		JUMP_IF(18, BPF_JNE, BPF_REG_2, (int32_t)htonl(1), LEAVE),
		[LEAD] = { .code = BPF_STX | BPF_MEM | BPF_W, .dst_reg = BPF_REG_10, .src_reg = BPF_REG_7, .off = -4 },
		{ .code = BPF_LD | BPF_IMM | BPF_DW, .dst_reg = BPF_REG_1, .src_reg = BPF_PSEUDO_MAP_FD, .imm = map },
		{}, /* its second half */
		MOVE(BPF_REG_2, BPF_REG_10),
		{ .code = BPF_ALU64 | BPF_ADD, .dst_reg = BPF_REG_2, .imm = -4 },
		CALL(BPF_FUNC_map_lookup_elem),
		{ .code = BPF_JMP | BPF_JEQ | BPF_K, .dst_reg = BPF_REG_0, .off = LEAVE - 26 },
		MOVE(BPF_REG_7, BPF_REG_0),
		MOVE(BPF_REG_1, BPF_REG_6),
		MOVE(BPF_REG_2, BPF_REG_7),
		SET(BPF_REG_3, 0),
		CALL(BPF_FUNC_sk_assign),
		MOVE(BPF_REG_1, BPF_REG_7),
		CALL(BPF_FUNC_sk_release),
		[LEAVE] = SET(BPF_REG_0, SK_PASS),
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr a = {};

	a.prog_type = BPF_PROG_TYPE_SK_LOOKUP;
	a.expected_attach_type = BPF_SK_LOOKUP;
	a.insns = (uintptr_t)code;
	a.insn_cnt = ARRAY_SIZE(code);
	a.license = (uintptr_t) "MIT";
	return bpf(BPF_PROG_LOAD, &a);
}

/* The map of the listeners, by number. */
static int make_map(const struct net_loopback *l)
{
	union bpf_attr a = {};
	int map;

	a.map_type = BPF_MAP_TYPE_SOCKMAP;
	a.key_size = sizeof(uint32_t);
	a.value_size = sizeof(uint64_t);
	a.max_entries = LISTENERS;
	map = bpf(BPF_MAP_CREATE, &a);
	for (uint32_t i = 0; map >= 0 && i < LISTENERS; i++) {
		uint64_t fd = (uint64_t)l->listeners[i];
		int r;

		if (l->listeners[i] < 0)
			continue;
		memset(&a, 0, sizeof(a));
		a.map_fd = (uint32_t)map;
		a.key = (uintptr_t)&i;
		a.value = (uintptr_t)&fd;
		r = bpf(BPF_MAP_UPDATE_ELEM, &a);
		if (r < 0) {
			safe_close(map);
			return r;
		}
	}
	return map;
}

static int attach(int netns_fd, const struct net_loopback *l)
{
	_cleanup_close_ int map = make_map(l), program = -EBADF;
	union bpf_attr a = {};

	if (map < 0)
		return map;
	program = load_program(map);
	if (program < 0)
		return program;
	a.link_create.prog_fd = (uint32_t)program;
	a.link_create.target_fd = (uint32_t)netns_fd;
	a.link_create.attach_type = BPF_SK_LOOKUP;
	return bpf(BPF_LINK_CREATE, &a);
}

int net_loopback_open(int netns_fd, struct net_loopback *ret, struct error *err)
{
	int r = fault_point("net.loopback");

	*ret = (struct net_loopback){ { -EBADF, -EBADF }, -EBADF };
	if (r >= 0)
		r = open_listeners(netns_fd, ret);
	if (r < 0) {
		net_loopback_close(ret);
		return error_set_errno(err, -r, "cannot listen on the network namespace's loopback");
	}
	ret->link = attach(netns_fd, ret);
	if (ret->link < 0) {
		r = ret->link;
		net_loopback_close(ret);
		return error_set_errno(err, -r, "cannot lead connections of the network namespace's loopback");
	}
	return 0;
}

void net_loopback_close(struct net_loopback *l)
{
	l->link = safe_close(l->link);
	for (size_t i = 0; i < LISTENERS; i++)
		l->listeners[i] = safe_close(l->listeners[i]);
}
