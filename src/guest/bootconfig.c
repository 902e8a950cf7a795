#include "guest/bootconfig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "agent.pb-c.h"
#include "base/memory.h"
#include "base/parse.h"
#include "wire/message.h"
#include "wire/sync.h"

enum {
	DISKS_MAX = 16,
	INTERFACES_MAX = 16,
	ADDRESSES_MAX = 32,
	ROUTES_MAX = 512,
	NEIGHBOURS_MAX = 512,
	INTERFACE_NAME_MAX = 15,
	DNS_MAX = 16,
	USERS_MAX = 64,
	KEYS_MAX = 256,
	KEY_BYTES_MAX = 16 << 10,
	HOST_KEYS_MAX = 16,
	ENVIRONMENT_MAX = 1024,
	DIRECTORIES_MAX = 256,
	PATH_BYTES_MAX = 4095,
	SEED_BYTES_MAX = 512,
	MTU_MAX = 65535,
};

#define LOWER  "abcdefghijklmnopqrstuvwxyz"
#define UPPER  "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

static int bad(struct error *err, const char *field)
{
	return error_set(err, EBADMSG, "boot configuration: %s is not valid", field);
}

/* 1..@max bytes out of @set. */
static bool consists_of(const char *s, const char *set, size_t max)
{
	size_t n = strlen(s);

	return n >= 1 && n <= max && strspn(s, set) == n;
}

static bool is_line(const char *s, size_t max)
{
	size_t n = strlen(s);

	if (n < 1 || n > max)
		return false;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] < ' ' || s[i] == 0x7f)
			return false;
	return true;
}

static bool is_domain(const char *s)
{
	return consists_of(s, LOWER UPPER DIGITS "-._", 253) && s[0] != '-' && s[0] != '.';
}

/* Absolute, and without a component that leads elsewhere. */
static bool is_mount_point(const char *s)
{
	if (s[0] != '/' || !is_line(s, 1024))
		return false;
	if (streq(s, "/"))
		return true;
	for (const char *p = s; *p;) {
		size_t n = strcspn(++p, "/");

		if (n == 0 || n > 255 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
			return false;
		p += n;
	}
	return true;
}

int bootconfig_mac(const char *s, uint8_t ret[6])
{
	if (strlen(s) != 17)
		return -EINVAL;
	for (size_t i = 0; i < 17; i++) {
		const char *digits = "0123456789abcdef";
		char c = s[i] >= 'A' && s[i] <= 'F' ? (char)(s[i] - 'A' + 'a') : s[i];
		const char *at = strchr(digits, c);

		if (i % 3 == 2) {
			if (c != ':')
				return -EINVAL;
			continue;
		}
		if (!at)
			return -EINVAL;
		if (i % 3 == 0)
			ret[i / 3] = (uint8_t)((at - digits) << 4);
		else
			ret[i / 3] |= (uint8_t)(at - digits);
	}
	return 0;
}

int bootconfig_address(const char *s, int *ret_family, uint8_t ret_address[16], uint8_t *ret_prefix)
{
	char text[INET6_ADDRSTRLEN];
	size_t n = strcspn(s, "/");
	uint64_t prefix;

	if (n == 0 || n >= sizeof(text))
		return -EINVAL;
	memcpy(text, s, n);
	text[n] = '\0';
	*ret_family = strchr(text, ':') ? AF_INET6 : AF_INET;
	if (inet_pton(*ret_family, text, ret_address) != 1)
		return -EINVAL;
	prefix = *ret_family == AF_INET ? 32 : 128;
	if (s[n] && parse_u64(s + n + 1, 0, prefix, &prefix) < 0)
		return -EINVAL;
	*ret_prefix = (uint8_t)prefix;
	return 0;
}

static bool is_address(const char *s, int family)
{
	uint8_t bytes[16];

	return inet_pton(family, s, bytes) == 1;
}

static int check_disk(const Skerry__Agent__V1__Disk *d, struct error *err)
{
	if (!consists_of(d->serial, LOWER UPPER DIGITS "-_.", 20))
		return bad(err, "a disk's serial");
	if (!is_mount_point(d->mount))
		return bad(err, "a disk's mount point");
	if (!streq(d->fstype, "ext4") && !streq(d->fstype, "erofs"))
		return bad(err, "a disk's file system type");
	if (d->upper[0] && (!consists_of(d->upper, LOWER UPPER DIGITS "-_.", 20) || !streq(d->mount, "/")))
		return bad(err, "the disk above a disk");
	return 0;
}

/* dev_valid_name() of the kernel, and no control characters. */
static bool is_interface_name(const char *s)
{
	return is_line(s, INTERFACE_NAME_MAX) && !strpbrk(s, "/: ") && !streq(s, ".") && !streq(s, "..");
}

static bool is_any_address(const char *s)
{
	return is_address(s, AF_INET) || is_address(s, AF_INET6);
}

static int check_route(const Skerry__Agent__V1__Route *route, struct error *err)
{
	uint8_t bytes[16], prefix;
	int family;

	if (!strchr(route->destination, '/') || bootconfig_address(route->destination, &family, bytes, &prefix) < 0)
		return bad(err, "a route's destination");
	/* IPv4 may be reached by way of IPv6, never the other way. */
	if (route->gateway[0] && !is_address(route->gateway, AF_INET6) &&
	    (family == AF_INET6 || !is_address(route->gateway, AF_INET)))
		return bad(err, "a route's gateway");
	if (route->source[0] && !is_address(route->source, family))
		return bad(err, "a route's source");
	return 0;
}

static int check_routes(const Skerry__Agent__V1__Interface *i, struct error *err)
{
	uint8_t bytes[6];
	int r = 0;

	if (i->n_routes > ROUTES_MAX || i->n_neighbours > NEIGHBOURS_MAX)
		return bad(err, "the number of an interface's routes or neighbours");
	for (size_t k = 0; k < i->n_routes && r == 0; k++)
		r = check_route(i->routes[k], err);
	for (size_t k = 0; k < i->n_neighbours && r == 0; k++)
		if (!is_any_address(i->neighbours[k]->address) || bootconfig_mac(i->neighbours[k]->mac, bytes) < 0)
			r = bad(err, "a neighbour");
	return r;
}

static int check_interface(const Skerry__Agent__V1__Interface *i, struct error *err)
{
	uint8_t bytes[16], prefix;
	int family;

	if (bootconfig_mac(i->mac, bytes) < 0)
		return bad(err, "an interface's hardware address");
	if (i->n_addresses > ADDRESSES_MAX)
		return bad(err, "the number of an interface's addresses");
	for (size_t k = 0; k < i->n_addresses; k++)
		if (bootconfig_address(i->addresses[k], &family, bytes, &prefix) < 0)
			return bad(err, "an interface's address");
	if ((i->gateway[0] && !is_address(i->gateway, AF_INET)) ||
	    (i->gateway6[0] && !is_address(i->gateway6, AF_INET6)))
		return bad(err, "an interface's gateway");
	if (i->mtu > MTU_MAX || (i->mtu && i->mtu < 68))
		return bad(err, "an interface's mtu");
	if (i->name[0] && !is_interface_name(i->name))
		return bad(err, "an interface's name");
	return check_routes(i, err);
}

static int check_user(const Skerry__Agent__V1__User *u, struct error *err)
{
	if (!consists_of(u->name, LOWER UPPER DIGITS "_-.", 32) || strspn(u->name, "-.") > 0)
		return bad(err, "a user's name");
	if (u->n_authorized_keys > KEYS_MAX)
		return bad(err, "the number of a user's keys");
	for (size_t i = 0; i < u->n_authorized_keys; i++)
		if (!is_line(u->authorized_keys[i], KEY_BYTES_MAX))
			return bad(err, "a user's key");
	return 0;
}

static int check_host_key(const Skerry__Agent__V1__SshHostKey *k, struct error *err)
{
	size_t n = strlen(k->name);

	if (!consists_of(k->name, LOWER DIGITS "_", 64) || !after_prefix(k->name, "ssh_host_") || n < 5 ||
	    !streq(k->name + n - 4, "_key"))
		return bad(err, "the name of a host key");
	if (k->private_key.len == 0 || k->private_key.len > KEY_BYTES_MAX || k->public_key.len > KEY_BYTES_MAX)
		return bad(err, "a host key");
	return 0;
}

static int check_names(const Skerry__Agent__V1__BootConfig *c, struct error *err)
{
	if (c->token.len != 0 && c->token.len != SYNC_TOKEN_SIZE)
		return bad(err, "the token");
	if (c->hostname[0] && (!is_domain(c->hostname) || strlen(c->hostname) > 64))
		return bad(err, "the host name");
	if (c->machine_id[0] && (strlen(c->machine_id) != 32 || !consists_of(c->machine_id, DIGITS "abcdef", 32)))
		return bad(err, "the machine id");
	if (c->n_dns_servers > DNS_MAX || c->n_dns_search > DNS_MAX || c->n_dns_options > DNS_MAX)
		return bad(err, "the number of name servers");
	for (size_t i = 0; i < c->n_dns_servers; i++)
		if (!is_any_address(c->dns_servers[i]))
			return bad(err, "a name server");
	for (size_t i = 0; i < c->n_dns_search; i++)
		if (!is_domain(c->dns_search[i]))
			return bad(err, "a search domain");
	for (size_t i = 0; i < c->n_dns_options; i++)
		if (!consists_of(c->dns_options[i], LOWER UPPER DIGITS "-_.:", 64))
			return bad(err, "an option of the resolver");
	if (c->n_environment > ENVIRONMENT_MAX)
		return bad(err, "the environment");
	for (size_t i = 0; i < c->n_environment; i++)
		if (!strchr(c->environment[i], '=') || c->environment[i][0] == '=')
			return bad(err, "the environment");
	if (c->n_directories > DIRECTORIES_MAX)
		return bad(err, "the number of directories");
	for (size_t i = 0; i < c->n_directories; i++)
		if (c->directories[i][0] != '/' || strlen(c->directories[i]) > PATH_BYTES_MAX)
			return bad(err, "a directory");
	if (c->random_seed.len > SEED_BYTES_MAX)
		return bad(err, "the random seed");
	return 0;
}

static int check_shares(const Skerry__Agent__V1__BootConfig *c, struct error *err)
{
	for (size_t i = 0; i < c->n_shares; i++) {
		const Skerry__Agent__V1__Share *s = c->shares[i];

		if (!consists_of(s->tag, LOWER DIGITS "-:", 36) || !is_mount_point(s->target))
			return bad(err, "a share");
		if ((s->fstype[0] && !streq(s->fstype, "9p")) || (s->options[0] && !is_line(s->options, 256)))
			return bad(err, "a share's file system");
	}
	if (c->timezone[0] && (!consists_of(c->timezone, LOWER UPPER DIGITS "/_+-", 64) || c->timezone[0] == '/'))
		return bad(err, "the time zone");
	return 0;
}

static int check(const Skerry__Agent__V1__BootConfig *c, struct error *err)
{
	int r = check_names(c, err);

	if (r < 0)
		return r;
	if (c->n_disks > DISKS_MAX || c->n_shares > DISKS_MAX || c->n_interfaces > INTERFACES_MAX ||
	    c->n_users > USERS_MAX || c->n_ssh_host_keys > HOST_KEYS_MAX)
		return bad(err, "the number of disks, interfaces, users or keys");
	for (size_t i = 0; i < c->n_disks && r == 0; i++)
		r = check_disk(c->disks[i], err);
	for (size_t i = 0; i < c->n_interfaces && r == 0; i++)
		r = check_interface(c->interfaces[i], err);
	for (size_t i = 0; i < c->n_users && r == 0; i++)
		r = check_user(c->users[i], err);
	for (size_t i = 0; i < c->n_ssh_host_keys && r == 0; i++)
		r = check_host_key(c->ssh_host_keys[i], err);
	return r == 0 ? check_shares(c, err) : r;
}

int bootconfig_parse(const void *p, size_t n, Skerry__Agent__V1__BootConfig **ret, struct error *err)
{
	Skerry__Agent__V1__BootConfig *c;
	int r;

	if (n > BOOTCONFIG_BYTES_MAX)
		return bad(err, "its size");
	c = message_unpack(&skerry__agent__v1__boot_config__descriptor, p, n);
	if (!c)
		return error_set(err, EBADMSG, "boot configuration: cannot be decoded");
	r = check(c, err);
	if (r < 0) {
		message_free(c);
		return r;
	}
	*ret = c;
	return 0;
}
