/* What the guest is told: by the boot configuration that the agent reads, or by a seed where the image boots by itself. */
#include "agent.pb-c.h"
#include "disk/seed.h"
#include "machine/image_config.h"
#include "machine/plan.h"
#include "machine/share.h"
#include "wire/sync.h"

void boot_secrets_done(struct boot_secrets *b)
{
	buf_done(&b->host_key);
	buf_done(&b->host_key_public);
	free(b->client_key);
	if (b->password)
		explicit_bzero(b->password, strlen(b->password));
	free(b->password);
	explicit_bzero(b, sizeof(*b));
}

static void authorized_keys(const struct machine_spec *spec, const struct boot_secrets *secrets, struct strv *ret)
{
	strv_copy(ret, &spec->ssh_keys);
	if (secrets->client_key)
		strv_add(ret, secrets->client_key);
}

/* The default routes are among the routes, with their metrics. Names are for the guest to give; it finds interfaces by their addresses. */
static void seed_taken(const struct net_plan *net, struct seed *ret)
{
	const struct net_takeover *t = &net->taken;

	ret->interfaces = xnew_n(struct seed_interface, t->n);
	ret->n_interfaces = t->n;
	for (size_t i = 0; i < t->n; i++) {
		const struct net_takeover_nic *n = &t->nics[i];
		struct seed_interface *to = &ret->interfaces[i];

		to->mac = xstrdup(n->mac);
		to->mtu = n->mtu;
		strv_copy(&to->addresses, &n->addresses);
		strv_copy(&to->dns, &net->dns);
		strv_copy(&to->search, &net->search);
		to->routes = xnew_n(struct seed_route, n->n_routes + 1);
		to->n_routes = n->n_routes;
		for (size_t k = 0; k < n->n_routes; k++)
			to->routes[k] = (struct seed_route){
				.to = xstrdup(n->routes[k].destination),
				.via = n->routes[k].gateway[0] ? xstrdup(n->routes[k].gateway) : NULL,
				.metric = n->routes[k].metric,
			};
	}
}

void plan_seed(const struct machine_spec *spec, const struct plan_facts *f, const struct plan *p,
	       const struct boot_secrets *secrets, const char *user_data, struct seed *ret)
{
	_cleanup_free_ char *account = image_config_account(&f->image, spec);

	*ret = (struct seed){
		.hostname = xstrdup(spec->hostname ? spec->hostname : spec->name),
		.password = xstrdup(secrets->password),
		/* root is there without being made. */
		.user = account && !streq(account, "root") ? TAKE_PTR(account) : NULL,
		/* A system that was installed with its home knows where that is. */
		.home = f->home_base && !(spec->home_digest && streq(spec->home_digest, spec->image_digest)),
		.host_key = xstrdup(secrets->host_key.p),
		.host_key_public = xstrdup(secrets->host_key_public.p),
		.user_data = xstrdup(user_data),
	};
	authorized_keys(spec, secrets, &ret->authorized_keys);
	ret->timezone = xstrdup(spec->timezone);
	for (size_t i = 0; i < spec->shares.n; i++) {
		_cleanup_(share_done) struct share share = {};
		_cleanup_free_ char *tag = share_tag((unsigned)i);

		if (share_parse(spec->shares.items[i], &share, NULL) >= 0)
			strv_addf(&ret->shares, "%s:%s", tag, share.target);
	}
	if (p->net_plan.kind == NET_ATTACH_NONE)
		return;
	if (p->net_plan.taken.n) {
		seed_taken(&p->net_plan, ret);
		return;
	}
	ret->n_interfaces = 1;
	ret->interfaces = xnew(struct seed_interface);
	ret->interfaces[0].mac = xstrdup(p->net_plan.mac);
	/* What DHCP gives is left to it: the host's name servers may change, and the seed is to stay the same. */
	if (p->net_plan.dhcp) {
		strv_copy(&ret->interfaces[0].dns, &spec->dns);
		strv_copy(&ret->interfaces[0].search, &spec->dns_search);
		return;
	}
	strv_copy(&ret->interfaces[0].addresses, &p->net_plan.addresses);
	ret->interfaces[0].gateway = xstrdup(p->net_plan.gateway);
	ret->interfaces[0].gateway6 = xstrdup(p->net_plan.gateway6);
	ret->interfaces[0].mtu = p->net_plan.mtu;
	strv_copy(&ret->interfaces[0].dns, &p->net_plan.dns);
	strv_copy(&ret->interfaces[0].search, &p->net_plan.search);
}

/* What the message points at. */
struct told_shares {
	Skerry__Agent__V1__Share *list, **pointers;
	struct share *shares;
	size_t n;
};

static void tell_shares(const struct machine_spec *spec, struct told_shares *t, Skerry__Agent__V1__BootConfig *c)
{
	t->list = xnew_n(Skerry__Agent__V1__Share, spec->shares.n + 1);
	t->pointers = xnew_n(Skerry__Agent__V1__Share *, spec->shares.n + 1);
	t->shares = xnew_n(struct share, spec->shares.n + 1);
	for (size_t i = 0; i < spec->shares.n; i++) {
		Skerry__Agent__V1__Share *m = &t->list[t->n];

		if (share_parse(spec->shares.items[i], &t->shares[t->n], NULL) < 0)
			continue;
		*m = (Skerry__Agent__V1__Share)SKERRY__AGENT__V1__SHARE__INIT;
		m->tag = share_tag((unsigned)i);
		m->target = t->shares[t->n].target;
		m->fstype = (char *)(uintptr_t)SHARE_FSTYPE;
		m->options = (char *)(uintptr_t)SHARE_OPTIONS;
		t->pointers[t->n++] = m;
	}
	c->shares = t->pointers;
	c->n_shares = t->n;
}

static void told_shares_done(struct told_shares *t)
{
	for (size_t i = 0; i < t->n; i++) {
		free(t->list[i].tag);
		share_done(&t->shares[i]);
	}
	free(t->list);
	free(t->pointers);
	free(t->shares);
}

static void forget_bytes(ProtobufCBinaryData *b)
{
	explicit_bzero(b->data, b->len);
	free(b->data);
}

static void describe_interface(const struct plan *p, Skerry__Agent__V1__Interface *iface)
{
	iface->mac = xstrdup(p->net_plan.mac);
	iface->addresses = p->net_plan.addresses.items;
	iface->n_addresses = p->net_plan.addresses.n;
	iface->gateway = xstrdup(p->net_plan.gateway);
	iface->gateway6 = xstrdup(p->net_plan.gateway6);
	iface->mtu = p->net_plan.mtu;
}

static void interface_done(Skerry__Agent__V1__Interface *iface)
{
	free(iface->mac);
	free(iface->gateway);
	free(iface->gateway6);
}

void plan_boot_config(const struct machine_spec *spec, const struct plan_facts *f, const struct plan *p,
		      const struct boot_secrets *secrets, struct buf *out)
{
	typedef Skerry__Agent__V1__Disk Disk;
	Skerry__Agent__V1__BootConfig c = SKERRY__AGENT__V1__BOOT_CONFIG__INIT;
	Disk system = SKERRY__AGENT__V1__DISK__INIT, home = SKERRY__AGENT__V1__DISK__INIT;
	Disk *disks[2] = { &system, &home };
	Skerry__Agent__V1__Interface iface = SKERRY__AGENT__V1__INTERFACE__INIT, *ifaces[1] = { &iface };
	Skerry__Agent__V1__User user = SKERRY__AGENT__V1__USER__INIT, *users[1] = { &user };
	Skerry__Agent__V1__SshHostKey key = SKERRY__AGENT__V1__SSH_HOST_KEY__INIT, *keys[1] = { &key };
	_cleanup_(told_shares_done) struct told_shares shares = {};
	_cleanup_strv_ struct strv authorized = {};
	_cleanup_strv_ struct strv environment = {}, directories = {};
	_cleanup_free_ char *account = image_config_account(&f->image, spec);
	char slash[] = "/", slash_home[] = "/home", ext4[] = "ext4", system_id[] = "system", home_id[] = "home",
	     image_id[] = "image", key_name[] = "ssh_host_ed25519_key";
	size_t n;

	c.token = (ProtobufCBinaryData){ sizeof(secrets->token), xmemdup(secrets->token, sizeof(secrets->token)) };
	c.random_seed = (ProtobufCBinaryData){ sizeof(secrets->seed), xmemdup(secrets->seed, sizeof(secrets->seed)) };
	c.hostname = spec->hostname ? spec->hostname : spec->name;
	c.machine_id = spec->id;
	system.serial = system_id;
	system.mount = slash;
	system.fstype = f->image.fstype ? f->image.fstype : ext4;
	system.grow = true;
	if (f->blank_disk) {
		system.serial = image_id;
		system.read_only = true;
		system.upper = system_id;
	}
	home.serial = home_id;
	home.mount = slash_home;
	home.fstype = ext4;
	home.grow = true;
	c.disks = disks;
	c.n_disks = f->home_base ? 2 : 1;
	describe_interface(p, &iface);
	c.interfaces = p->taken.n ? p->taken.interfaces : ifaces;
	c.n_interfaces = net_plan_nics(&p->net_plan);
	c.dns_servers = p->net_plan.dns.items;
	c.n_dns_servers = p->net_plan.dns.n;
	c.dns_search = p->net_plan.search.items;
	c.n_dns_search = p->net_plan.search.n;
	authorized_keys(spec, secrets, &authorized);
	user.name = account;
	user.create = user.sudo = spec->user && !streq(account, "root");
	user.authorized_keys = authorized.items;
	user.n_authorized_keys = authorized.n;
	if (secrets->password)
		user.password = secrets->password;
	c.users = users;
	c.n_users = f->image.ssh ? 1 : 0;
	key.name = key_name;
	key.private_key = (ProtobufCBinaryData){ secrets->host_key.len, (uint8_t *)secrets->host_key.p };
	key.public_key = (ProtobufCBinaryData){ secrets->host_key_public.len, (uint8_t *)secrets->host_key_public.p };
	c.ssh_host_keys = keys;
	c.n_ssh_host_keys = secrets->host_key.len ? 1 : 0;
	image_config_env(&f->image, spec, &environment);
	c.environment = environment.items;
	c.n_environment = environment.n;
	image_config_directories(&f->image, spec, &directories);
	c.directories = directories.items;
	c.n_directories = directories.n;
	tell_shares(spec, &shares, &c);
	if (spec->timezone)
		c.timezone = spec->timezone;
	c.realtime_ns = secrets->realtime_ns;
	c.init = f->image.init == IMAGE_INIT_SYSTEM ? SKERRY__AGENT__V1__BOOT_CONFIG__INIT__IMAGE
						    : SKERRY__AGENT__V1__BOOT_CONFIG__INIT__AGENT;
	c.reboot_to_power_off = p->exec.reboot_powers_off;
	c.vsock_port = p->vsock_cid;
	n = skerry__agent__v1__boot_config__get_packed_size(&c);
	skerry__agent__v1__boot_config__pack(&c, buf_reserve(out, n));
	buf_commit(out, n);
	forget_bytes(&c.token);
	forget_bytes(&c.random_seed);
	interface_done(&iface);
}
