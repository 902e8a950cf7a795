#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "net/modes.h"
#include "net/resolv.h"

/* How this works: the machine has all interfaces of the network namespace that the monitor runs in, a container's (net/takeover.h). The
 * namespace's own stack keeps its way to name servers: Docker's is on the loopback in here, where no guest gets, and asks others from in here. So
 * the guest asks the stack at its control address, where whoever runs the machine answers (docker/dns.h). By the same way the guest can be
 * reached from in here, whose own addresses lead nowhere else. */

#define RESOLV_LIMIT 65536
/* Only the first namespace has it: it sets what is not divided among namespaces. */
#define HOSTS_OWN "/proc/sys/net/core/netdev_budget"

/* The NIC that the control address is on: the one that most goes through. */
static struct net_takeover_nic *main_nic(const struct net_takeover *t)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->nics[i].gateway[0] || t->nics[i].gateway6[0])
			return &t->nics[i];
	return &t->nics[0];
}

static int hosts_own(struct error *err)
{
	error_set_kind(err, ERROR_CONFIG, EPERM,
		       "network mode 'container': this is the network of a host, which no guest gets");
	return error_hint(err, "a container has one of its own unless it was made with --network host");
}

static int check(const struct net_request *req, struct error *err)
{
	if (req->n_publish > 0)
		return error_set_kind(err, ERROR_CONFIG, EINVAL,
				      "publish: in network mode 'container' the container's ports are the guest's");
	return access(HOSTS_OWN, F_OK) == 0 ? hosts_own(err) : 0;
}

/* What other containers hang on belongs to a host, or to what plays one in a namespace of its own. */
static bool has_bridge(const struct net_takeover *t)
{
	for (size_t i = 0; i < t->n; i++)
		if (streq(t->nics[i].kind, "bridge"))
			return true;
	return false;
}

bool net_is_hosts(void)
{
	_cleanup_(net_takeover_done) struct net_takeover t = {};

	return access(HOSTS_OWN, F_OK) == 0 || (net_takeover_inspect(-1, NULL, &t, NULL) >= 0 && has_bridge(&t));
}

static int check_taken(const struct net_takeover *t, struct error *err)
{
	if (t->n == 0) {
		error_set_kind(err, ERROR_CONFIG, ENODEV, "network mode 'container': no interface here has an address");
		return error_hint(err, "connect the container to a network: docker run --network");
	}
	return has_bridge(t) ? hosts_own(err) : 0;
}

static int container_plan(const struct net_request *req, struct net_plan *ret, struct error *err)
{
	struct net_plan plan = { .kind = NET_ATTACH_TAP };
	_cleanup_(resolv_done) struct resolv conf = {};
	_cleanup_buf_ struct buf text = {};
	int r = check(req, err);

	if (r == 0)
		r = net_takeover_inspect(-1, NULL, &plan.taken, err);
	if (r == 0)
		r = check_taken(&plan.taken, err);
	if (r < 0) {
		net_plan_done(&plan);
		return r;
	}
	strv_add(&main_nic(&plan.taken)->addresses, NET_CONTROL_GUEST "/" NET_CONTROL_PREFIX);
	strv_add(&plan.dns, NET_CONTROL_HOST);
	if (file_read_at(AT_FDCWD, "/etc/resolv.conf", RESOLV_LIMIT, &text) >= 0 && text.len > 0)
		resolv_parse(text.p, text.len, &conf);
	strv_copy(&plan.search, &conf.search);
	*ret = plan;
	return 0;
}

static void container_release(const struct net_request *req)
{
	_cleanup_error_ struct error e = {};

	(void)req;
	if (net_takeover_release(-1, &e) < 0)
		log_warning("network: %s, ignoring", e.msg);
}

static int container_prepare(const struct net_request *req, const struct net_plan *plan, int *ret_fds,
			     pid_t *ret_helper_pid, int *ret_helper_pidfd, struct error *err)
{
	int r = 0;

	*ret_helper_pid = -1;
	*ret_helper_pidfd = -1;
	for (size_t i = 0; i < plan->taken.n; i++)
		ret_fds[i] = -EBADF;
	for (size_t i = 0; i < plan->taken.n && r >= 0; i++) {
		const struct net_takeover_nic *nic = &plan->taken.nics[i];
		const struct net_takeover_keep keep = {
			.control = nic == main_nic(&plan->taken) ? NET_CONTROL_HOST "/" NET_CONTROL_PREFIX : NULL,
			.names = true,
			.ports = &req->kept_port,
			.n_ports = req->kept_port ? 1 : 0,
		};

		r = fault_point("net.takeover");
		r = r < 0 ? error_set_errno(err, r, "network") : net_takeover_attach(-1, nic, &keep, &ret_fds[i], err);
	}
	if (r >= 0)
		return 0;
	for (size_t i = 0; i < plan->taken.n; i++)
		ret_fds[i] = safe_close(ret_fds[i]);
	container_release(req);
	return r;
}

const struct net_mode net_mode_container = {
	.name = "container",
	.plan = container_plan,
	.prepare = container_prepare,
	.release = container_release,
};
