#include "shim/network.h"

#include <fcntl.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "net/cni.h"
#include "net/netns.h"
#include "shim/holder.h"
#include "shim/lease.h"

#define DEL_NS (10 * NS_PER_SEC)

/* Calls the plugins of a configured network, if there is one. Returns 1 when it did, 0 when none is configured. */
static int call_cni(struct vm_network *n, const char *netns, const char *id, int bundle_fd, struct shim_record *record,
		    struct error *err)
{
	_cleanup_json_ struct json *network = NULL, *result = NULL;
	_cleanup_buf_ struct buf text = {};
	_cleanup_error_ struct error none = {};
	struct cni_attachment a = { .id = id, .netns = netns, .interface = "eth0" };
	int r = cni_network(&(struct cni){}, NULL, &network, &none);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return error_move(err, &none);
	a.network = network;
	json_render(network, false, &text);
	record->cni_network = xstrdup(text.p);
	record->cni_id = xstrdup(id);
	r = shim_record_write(bundle_fd, record, err);
	if (r >= 0)
		lease_forget(id);
	if (r >= 0 && fault_point("shim.cni") < 0)
		r = error_set(err, EIO, "fault");
	if (r >= 0)
		r = cni_add(&(struct cni){}, &a, &result, err);
	if (r < 0)
		return r;
	buf_truncate(&text, 0);
	json_render(result, false, &text);
	record->cni_result = xstrdup(text.p);
	cni_dns(result, &n->dns, &n->search);
	r = shim_record_write(bundle_fd, record, err);
	return r < 0 ? r : 1;
}

/* "/proc/PID/ns/net" of another process than one that only holds a machine's: it has the network that would be taken away. */
static bool has_owner(const char *netns)
{
	const char *pid = netns ? after_prefix(netns, "/proc/") : NULL, *end = pid ? strchr(pid, '/') : NULL;
	_cleanup_free_ char *path = end ? xasprintf("/proc/%.*s/comm", (int)(end - pid), pid) : NULL;
	_cleanup_buf_ struct buf name = {};

	if (!end || !streq(end, "/ns/net") || file_read_at(AT_FDCWD, path, 64, &name) < 0 || !name.len)
		return false;
	return !streq(name.p, HOLDER_NAME "\n");
}

static int take_over(struct vm_network *n, struct error *err)
{
	int r = net_takeover_inspect(n->netns_fd, NULL, &n->taken, err);

	if (r < 0 || !n->taken.n)
		return r < 0 ? r : 0;
	if (has_owner(n->netns))
		return error_set_kind(
			err, ERROR_CONFIG, EINVAL,
			"network namespace %s is a process's: a virtual machine would take its interfaces "
			"away from it",
			n->netns);
	r = net_takeover_free(n->netns_fd, err);
	if (r < 0)
		return error_prefix(err, "network namespace %s", n->netns ? n->netns : "of its own");
	guest_interfaces_make(&n->taken, &n->guest);
	n->nics = n->guest.nics;
	n->n = n->guest.n;
	return 1;
}

static int plan_mode(struct vm_network *n, const char *name, const char *machine_id, int log_fd, struct error *err)
{
	int r;

	n->mode = net_mode_find(name);
	n->request = (struct net_request){ .machine_id = machine_id, .run_dir = "", .log_fd = log_fd };
	r = n->mode->plan(&n->request, &n->plan, err);
	if (r < 0)
		return r;
	n->nic = (struct engine_nic){
		.mac = n->plan.mac,
		.kind = n->plan.kind == NET_ATTACH_STREAM ? NIC_STREAM
			: n->plan.kind == NET_ATTACH_TAP  ? NIC_TAP
							  : NIC_USER,
	};
	n->nics = &n->nic;
	n->n = n->plan.kind == NET_ATTACH_NONE ? 0 : 1;
	strv_copy(&n->dns, &n->plan.dns);
	strv_copy(&n->search, &n->plan.search);
	return 0;
}

void network_find_host(struct spec_info *info)
{
	if (!info->netns || !netns_is_own(info->netns))
		return;
	free(info->netns);
	info->netns = NULL;
	info->host_net = true;
}

int network_plan(struct vm_network *n, const struct spec_info *spec, int netns_fd, const char *netns, const char *id,
		 const char *machine_id, int log_fd, int bundle_fd, struct shim_record *record, struct error *err)
{
	int r = 0;

	*n = (struct vm_network){
		.netns_fd = -EBADF, .netns = xstrdup(spec->netns), .bundle_fd = bundle_fd, .record = record
	};
	if (!spec->host_net && netns_fd >= 0) {
		n->netns_fd = fcntl(netns_fd, F_DUPFD_CLOEXEC, 3);
		if (n->netns_fd < 0)
			return error_set_errno(err, errno, "network namespace");
		r = spec->no_net ? 0 : take_over(n, err);
		/* Its policies are kept by its interfaces. */
		if (r > 0 && spec->user_net)
			return error_set_kind(err, ERROR_CONFIG, EINVAL,
					      "annotation io.skerry.network: 'user' would lead round the interfaces of "
					      "the network namespace that it is given");
		/* A namespace that somebody made and left empty is meant to be empty; one that we made for it is for us to fill. */
		if (r == 0 && !spec->no_net && !spec->user_net && !spec->netns && netns) {
			r = call_cni(n, netns, id, bundle_fd, record, err);
			if (r > 0)
				r = take_over(n, err);
		}
	}
	if (r == 0)
		r = plan_mode(n, spec->no_net || spec->netns ? "none" : "user", machine_id, log_fd, err);
	if (r < 0)
		return r;
	if (spec->dns.n) {
		strv_done(&n->dns);
		strv_done(&n->search);
		strv_copy(&n->dns, &spec->dns);
		strv_copy(&n->search, &spec->dns_search);
		strv_copy(&n->dns_options, &spec->dns_options);
	}
	n->fds = xnew_n(int, n->n + 1);
	for (size_t i = 0; i < n->n; i++)
		n->fds[i] = -EBADF;
	return 0;
}

/* Nothing was taken over, or all was given back: what is in that namespace from now on is another's. */
static void forget(struct vm_network *n)
{
	n->began = false;
	free(n->record->netns);
	n->record->netns = NULL;
}

/* From here on there is something to give back, to a namespace that does not go with us. */
static int begin(struct vm_network *n, struct error *err)
{
	int r;

	if (n->netns) {
		n->record->netns = xstrdup(n->netns);
		r = shim_record_write(n->bundle_fd, n->record, err);
		if (r < 0) {
			forget(n);
			return r;
		}
	}
	n->began = true;
	r = fault_point("shim.takeover");
	return r < 0 ? error_set_errno(err, r, "network") : 0;
}

int network_start(struct vm_network *n, pid_t *ret_helper_pid, int *ret_helper, struct error *err)
{
	int r;

	*ret_helper = -1;
	*ret_helper_pid = 0;
	if (n->mode)
		return n->n ? n->mode->prepare(&n->request, &n->plan, n->fds, ret_helper_pid, ret_helper, err) : 0;
	r = begin(n, err);
	for (size_t i = 0; i < n->n && r >= 0; i++) {
		r = net_takeover_attach(n->netns_fd, &n->taken.nics[i], NULL, &n->fds[i], err);
		if (r < 0 && i == 0) {
			forget(n);
			(void)shim_record_write(n->bundle_fd, n->record, NULL);
		}
	}
	return r;
}

void network_tell(struct vm_network *n, struct Skerry__Agent__V1__BootConfig *c)
{
	if (!n->mode) {
		c->interfaces = n->guest.interfaces;
		c->n_interfaces = n->guest.n;
	} else if (n->n) {
		n->interface = xnew(Skerry__Agent__V1__Interface);
		skerry__agent__v1__interface__init(n->interface);
		n->interface->mac = n->plan.mac;
		n->interface->addresses = n->plan.addresses.items;
		n->interface->n_addresses = n->plan.addresses.n;
		n->interface->gateway = n->plan.gateway;
		n->interface->gateway6 = n->plan.gateway6;
		n->interface->mtu = n->plan.mtu;
		c->interfaces = &n->interface;
		c->n_interfaces = 1;
	}
	c->dns_servers = n->dns.items;
	c->n_dns_servers = n->dns.n;
	c->dns_search = n->search.items;
	c->n_dns_search = n->search.n;
	c->dns_options = n->dns_options.items;
	c->n_dns_options = n->dns_options.n;
}

void network_close_fds(struct vm_network *n)
{
	for (size_t i = 0; i < n->n && n->fds; i++)
		n->fds[i] = safe_close(n->fds[i]);
}

/* While the namespace is there: plugins look in it for what they have to undo elsewhere. What they refuse is on record beside the bundle. */
static void call_del(struct vm_network *n)
{
	_cleanup_free_ char *netns = xasprintf("/proc/%d/fd/%d", (int)getpid(), n->netns_fd);
	struct shim_record *r = n->record;
	_cleanup_error_ struct error e = {};

	if (!r || !r->cni_network)
		return;
	if (lease_release(r, netns, clock_monotonic_ns() + DEL_NS, &e) < 0)
		log_warning("%s, ignoring", e.msg);
	free(r->cni_network);
	free(r->cni_id);
	free(r->cni_result);
	r->cni_network = r->cni_id = r->cni_result = NULL;
}

void network_release(struct vm_network *n)
{
	_cleanup_error_ struct error e = {};

	network_close_fds(n);
	if (n->began && net_takeover_release(n->netns_fd, &e) < 0)
		log_warning("network: %s, ignoring", e.msg);
	else if (n->began)
		forget(n);
	call_del(n);
	if (n->mode)
		n->mode->release(&n->request);
	net_plan_done(&n->plan);
	guest_interfaces_done(&n->guest);
	net_takeover_done(&n->taken);
	strv_done(&n->dns_options);
	strv_done(&n->dns);
	strv_done(&n->search);
	free(n->interface);
	free(n->netns);
	free(n->fds);
	safe_close(n->netns_fd);
	*n = (struct vm_network){ .netns_fd = -EBADF };
}
