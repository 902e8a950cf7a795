#include "shim/network.h"

#include <fcntl.h>

#include "agent.pb-c.h"
#include "base/fault.h"
#include "base/log.h"
#include "net/cni.h"

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
	record->cni_netns = xstrdup(netns);
	r = shim_record_write(bundle_fd, record, err);
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

static int take_over(struct vm_network *n, struct error *err)
{
	int r = net_takeover_inspect(n->netns_fd, NULL, &n->taken, err);

	if (r < 0 || !n->taken.n)
		return r < 0 ? r : 0;
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

int network_plan(struct vm_network *n, const struct spec_info *spec, int netns_fd, const char *netns, const char *id,
		 const char *machine_id, int log_fd, int bundle_fd, struct shim_record *record, struct error *err)
{
	int r = 0;

	*n = (struct vm_network){ .netns_fd = -EBADF };
	if (!spec->host_net && netns_fd >= 0) {
		n->netns_fd = fcntl(netns_fd, F_DUPFD_CLOEXEC, 3);
		if (n->netns_fd < 0)
			return error_set_errno(err, errno, "network namespace");
		r = take_over(n, err);
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
	n->fds = xnew_n(int, n->n + 1);
	for (size_t i = 0; i < n->n; i++)
		n->fds[i] = -EBADF;
	return 0;
}

int network_start(struct vm_network *n, pid_t *ret_helper_pid, int *ret_helper, struct error *err)
{
	*ret_helper = -1;
	*ret_helper_pid = 0;
	if (n->mode)
		return n->n ? n->mode->prepare(&n->request, &n->plan, &n->fds[0], ret_helper_pid, ret_helper, err) : 0;
	for (size_t i = 0; i < n->n; i++) {
		int r = fault_point("shim.takeover");

		r = r < 0 ? error_set_errno(err, r, "network")
			  : net_takeover_attach(n->netns_fd, &n->taken.nics[i], &n->fds[i], err);
		if (r < 0)
			return r;
	}
	return 0;
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
}

void network_close_fds(struct vm_network *n)
{
	for (size_t i = 0; i < n->n && n->fds; i++)
		n->fds[i] = safe_close(n->fds[i]);
}

void network_release(struct vm_network *n)
{
	_cleanup_error_ struct error e = {};

	network_close_fds(n);
	if (!n->mode && n->netns_fd >= 0 && net_takeover_release(n->netns_fd, &e) < 0)
		log_warning("network: %s, ignoring", e.msg);
	if (n->mode)
		n->mode->release(&n->request, &n->plan);
	net_plan_done(&n->plan);
	guest_interfaces_done(&n->guest);
	net_takeover_done(&n->taken);
	strv_done(&n->dns);
	strv_done(&n->search);
	free(n->interface);
	free(n->fds);
	safe_close(n->netns_fd);
	*n = (struct vm_network){ .netns_fd = -EBADF };
}
