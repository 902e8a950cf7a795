#include "net/modes.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"
#include "base/spawn.h"
#include "net/resolv.h"

/* How this works: a machine has a private network of two, itself (10.0.2.15) and a gateway that is no host (10.0.2.2), whichever program
 * plays the gateway. passt does it as a process beside the engine, over a socket pair: it starts while the engine starts (20 to 60 ms, but
 * a machine is up only 10 ms later for it), turns connections into the host's own, and does not let the guest reach what listens on the host's
 * loopback. QEMU's own user networking needs nothing but QEMU; with it, 10.0.2.2 IS the host's loopback, and QEMU 7.2 has no way to forbid
 * that other than forbidding everything. So passt where it can work, which needs a default route, user namespaces and a name server that is not
 * on the host's loopback; else QEMU's, and the log says why. Builds of passt before 2024 (Debian 12 has one) leave the last packet of an incoming connection's handshake out until the
 * client sends something: with protocols in which the server speaks first (MySQL, SMTP, VNC) both sides would wait without end. With such a
 * build, machines that publish TCP ports get QEMU's networking too.
 *
 * passt ends when the engine closes its end of the socket pair: nothing is left to release. */

#define GUEST_ADDRESS "10.0.2.15"
#define GUEST_PREFIX  "24"
#define GATEWAY       "10.0.2.2"
#define NAME_SERVER   "10.0.2.3"
#define STREAM_MTU    65520
#define QEMU_MTU      1500
#define ROUTES_LIMIT  (1u << 20)
#define RESOLV_LIMIT  65536
#define PROGRAM_LIMIT (8u << 20)
#define HELPER_FD     3
#define NOBODY        65534

/* The start of the @n-th word from here on the same line; NULL when there are fewer. */
static const char *word_at(const char *line, unsigned n)
{
	for (;;) {
		line += strspn(line, " \t");
		if (!*line || *line == '\n')
			return NULL;
		if (n-- == 0)
			return line;
		line += strcspn(line, " \t\n");
	}
}

/* A line of /proc/net/route whose destination and mask are 0: "eth0 00000000 010200C0 0003 0 0 0 00000000 …". */
static bool has_default_route(void)
{
	_cleanup_buf_ struct buf text = {};
	const char *line;

	if (file_read_at(AT_FDCWD, "/proc/net/route", ROUTES_LIMIT, &text) < 0 || text.len == 0)
		return false;
	for (line = strchr(text.p, '\n'); line; line = strchr(line + 1, '\n')) {
		const char *dest = word_at(line + 1, 1), *mask = word_at(line + 1, 7);

		if (dest && mask && after_prefix(dest, "00000000") && after_prefix(mask, "00000000"))
			return true;
	}
	return false;
}

/* passt isolates itself in namespaces of its own and refuses to run where it cannot; as root it becomes nobody first. The child only makes
 * system calls. */
static bool namespaces_work(void)
{
	pid_t pid = fork();
	int status = 0;

	if (pid < 0)
		return false;
	if (pid == 0) {
		if (geteuid() == 0 && (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
				       setresuid(NOBODY, NOBODY, NOBODY) < 0))
			_exit(1);
		_exit(unshare(CLONE_NEWUSER) < 0 || unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS) < 0);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return false;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* The repaired builds are told from the others by an option that came soon after: "unknown version" is what they call themselves. */
static bool completes_handshakes(const char *passt)
{
	static const char option[] = "map-host-loopback";
	_cleanup_buf_ struct buf program = {};

	return file_read_at(AT_FDCWD, passt, PROGRAM_LIMIT, &program) >= 0 && program.len > 0 &&
	       memmem(program.p, program.len, option, sizeof(option) - 1);
}

static bool publishes_tcp(const struct net_request *req)
{
	for (size_t i = 0; i < req->n_publish; i++)
		if (!req->publish[i].udp)
			return true;
	return false;
}

static bool publishes_privileged(const struct net_request *req)
{
	for (size_t i = 0; i < req->n_publish; i++)
		if (net_publish_is_privileged(&req->publish[i]))
			return true;
	return false;
}

/* The program, owned by the caller; NULL with a reason where passt cannot be used. */
static char *find_passt(const struct net_request *req, const char **ret_why)
{
	_cleanup_free_ char *path = program_find("passt");

	if (req->forwards)
		*ret_why = "ports are led to the guest while it runs, which passt does not do";
	else if (!path)
		*ret_why = "passt is not installed";
	else if (!has_default_route())
		*ret_why = "passt needs a default route, and this host has none";
	else if (publishes_tcp(req) && !completes_handshakes(path))
		*ret_why = "this build of passt cannot serve published TCP ports whose server speaks first";
	else if (geteuid() == 0 && publishes_privileged(req))
		*ret_why =
			"passt becomes nobody where root starts it, who may not open published ports as low as these";
	else if (!namespaces_work())
		*ret_why = "passt needs user namespaces, and this host allows none here";
	else
		return TAKE_PTR(path);
	return NULL;
}

static void plan_passt(const struct net_request *req, char *passt, struct net_plan *plan)
{
	static const char *const fixed[] = { "--foreground", "--quiet",       "--fd",      "%FD%",        "--ipv4-only",
					     "-a",           GUEST_ADDRESS,   "-n",        GUEST_PREFIX,  "-g",
					     GATEWAY,        "--dns-forward", NAME_SERVER, "--no-map-gw", "--no-dhcpv6",
					     "--no-ndp",     "--no-ra" };

	plan->kind = NET_ATTACH_STREAM;
	plan->mtu = STREAM_MTU;
	(void)snprintf(plan->helper_name, sizeof(plan->helper_name), "passt");
	strv_add(&plan->helper_argv, passt);
	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
		strv_add(&plan->helper_argv, fixed[i]);
	if (!req->guest_dhcp)
		strv_add(&plan->helper_argv, "--no-dhcp");
	for (size_t i = 0; i < req->n_publish; i++) {
		const struct net_publish *p = &req->publish[i];

		strv_add(&plan->helper_argv, p->udp ? "-u" : "-t");
		strv_addf(&plan->helper_argv, "%s/%u:%u", p->ip, p->host_port, p->guest_port);
	}
}

static void plan_qemu(const struct net_request *req, struct net_plan *plan)
{
	plan->kind = NET_ATTACH_USER;
	plan->mtu = QEMU_MTU;
	plan->privileged_ports = publishes_privileged(req);
	for (size_t i = 0; i < req->n_publish; i++) {
		const struct net_publish *p = &req->publish[i];

		strv_addf(&plan->host_forwards, "%s:%s:%u-:%u", p->udp ? "udp" : "tcp", p->ip, p->host_port,
			  p->guest_port);
	}
}

static void read_resolv(const char *path, struct resolv *ret)
{
	_cleanup_buf_ struct buf text = {};

	/* Without the file there is no name server to pass on. */
	if (file_read_at(AT_FDCWD, path, RESOLV_LIMIT, &text) >= 0 && text.len > 0)
		resolv_parse(text.p, text.len, ret);
}

static int user_plan(const struct net_request *req, struct net_plan *ret, struct error *err)
{
	_cleanup_(resolv_done) struct resolv conf = {};
	_cleanup_free_ char *passt = NULL;
	struct net_plan plan = {};
	const char *why = NULL;

	for (size_t i = 0; i < req->n_publish; i++)
		if (strchr(req->publish[i].ip, ':')) {
			error_set_kind(err, ERROR_CONFIG, EAFNOSUPPORT,
				       "publish: [%s]:%u: network mode 'user' is IPv4 only", req->publish[i].ip,
				       req->publish[i].host_port);
			error_hint(err, "publish on an IPv4 address: 127.0.0.1, 0.0.0.0");
			return -EAFNOSUPPORT;
		}
	net_mac_from_id(req->machine_id, 0, plan.mac);
	strv_add(&plan.addresses, GUEST_ADDRESS "/" GUEST_PREFIX);
	(void)snprintf(plan.gateway, sizeof(plan.gateway), GATEWAY);
	plan.dhcp = req->guest_dhcp;
	read_resolv("/etc/resolv.conf", &conf);
	/* A local cache: whom it asks stands here where systemd-resolved is the cache. */
	if (conf.server && !conf.direct[0]) {
		_cleanup_(resolv_done) struct resolv upstream = {};

		read_resolv("/run/systemd/resolve/resolv.conf", &upstream);
		memcpy(conf.direct, upstream.direct, sizeof(conf.direct));
	}
	if (conf.server && !conf.direct[0])
		why = "passt cannot ask the host's name server, which is on its loopback or has no IPv4 address";
	else
		passt = find_passt(req, &why);
	if (conf.server)
		strv_add(&plan.dns, passt && !conf.first_direct ? conf.direct : NAME_SERVER);
	strv_copy(&plan.search, &conf.search);
	if (passt) {
		plan_passt(req, passt, &plan);
	} else {
		log_info("network: QEMU's own user networking: %s; the guest can reach services on this host's "
			 "loopback at " GATEWAY,
			 why);
		plan_qemu(req, &plan);
	}
	*ret = plan;
	return 0;
}

static int user_prepare(const struct net_request *req, const struct net_plan *plan, int *ret_fds, pid_t *ret_helper_pid,
			int *ret_helper_pidfd, struct error *err)
{
	_cleanup_close_ int ours = -EBADF, theirs = -EBADF;
	_cleanup_strv_ struct strv argv = {};
	struct spawn s = SPAWN_INIT;
	struct spawn_fd pass;
	int pair[2], r;

	ret_fds[0] = -1;
	*ret_helper_pid = -1;
	*ret_helper_pidfd = -1;
	if (plan->helper_argv.n == 0)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return error_set_errno(err, errno, "network: cannot create a socket pair");
	ours = pair[0];
	theirs = pair[1];
	for (size_t i = 0; i < plan->helper_argv.n; i++)
		if (streq(plan->helper_argv.items[i], "%FD%"))
			strv_addf(&argv, "%d", HELPER_FD);
		else
			strv_add(&argv, plan->helper_argv.items[i]);
	pass = (struct spawn_fd){ .from = theirs, .to = HELPER_FD };
	s.argv = (const char *const *)argv.items;
	s.stdio[1] = req->log_fd;
	s.stdio[2] = req->log_fd;
	s.fds = &pass;
	s.n_fds = 1;
	s.cwd = "/";
	s.new_session = true;
	r = spawn_start(&s, ret_helper_pid, ret_helper_pidfd, err);
	if (r < 0)
		return error_prefix(err, "network");
	ret_fds[0] = TAKE_FD(ours);
	return 0;
}

static void user_release(const struct net_request *req)
{
	(void)req;
}

const struct net_mode net_mode_user = {
	.name = "user",
	.plan = user_plan,
	.prepare = user_prepare,
	.release = user_release,
};
