/* What the guest is told: by the boot configuration that the agent reads, or by a seed where the image boots by itself. */
#include "agent.pb-c.h"
#include "disk/seed.h"
#include "machine/image_config.h"
#include "machine/plan.h"
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
	if (p->net_plan.kind == NET_ATTACH_NONE)
		return;
	ret->n_interfaces = 1;
	ret->interfaces = xnew(struct seed_interface);
	ret->interfaces[0].mac = xstrdup(p->net_plan.mac);
	/* What DHCP gives is left to it: the host's name servers may change, and the seed is to stay the same. */
	if (p->net_plan.dhcp)
		return;
	strv_copy(&ret->interfaces[0].addresses, &p->net_plan.addresses);
	ret->interfaces[0].gateway = xstrdup(p->net_plan.gateway);
	ret->interfaces[0].gateway6 = xstrdup(p->net_plan.gateway6);
	ret->interfaces[0].mtu = p->net_plan.mtu;
	strv_copy(&ret->interfaces[0].dns, &p->net_plan.dns);
	strv_copy(&ret->interfaces[0].search, &p->net_plan.search);
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
	c.interfaces = ifaces;
	c.n_interfaces = p->net_plan.kind == NET_ATTACH_NONE ? 0 : 1;
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
