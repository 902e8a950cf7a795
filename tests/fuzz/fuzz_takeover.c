/* What a kernel says of a namespace's network: whatever is made of it must be fit for a guest's boot configuration. */
#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "net/takeover_parts.h"
#include "wire/netlink.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static bool is_address(const char *s)
{
	uint8_t bytes[16];

	return inet_pton(strchr(s, ':') ? AF_INET6 : AF_INET, s, bytes) == 1;
}

static bool is_cidr(const char *s)
{
	_cleanup_free_ char *copy = xstrdup(s);
	char *slash = strchr(copy, '/');

	if (!slash || strspn(slash + 1, "0123456789") != strlen(slash + 1))
		return false;
	*slash = '\0';
	return is_address(copy);
}

static void check_nic(const struct net_takeover_nic *n)
{
	bool by_gateway = false;

	check(n->name[0] && strlen(n->name) < 16 && strlen(n->mac) == 17 && strlen(n->tap) < 16);
	check(n->mtu <= 65521 && n->addresses.n <= 32 && n->n_routes <= 512 && n->n_neighbours <= 512);
	for (size_t i = 0; i < n->addresses.n; i++)
		check(is_cidr(n->addresses.items[i]));
	for (size_t i = 0; i < n->n_routes; i++) {
		const struct net_route *r = &n->routes[i];

		check(is_cidr(r->destination) && (!r->gateway[0] || is_address(r->gateway)));
		check(!r->source[0] || is_address(r->source));
		check(!by_gateway || r->gateway[0]);
		by_gateway = r->gateway[0];
	}
	for (size_t i = 0; i < n->n_neighbours; i++)
		check(is_address(n->neighbours[i].address) && strlen(n->neighbours[i].mac) == 17);
	check(!n->gateway[0] || (is_address(n->gateway) && !strchr(n->gateway, ':')));
	check(!n->gateway6[0] || (is_address(n->gateway6) && strchr(n->gateway6, ':')));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cursor c = cursor_of(data, size);
	struct net_takeover t = {};
	struct netlink_message m;
	struct error e = {};
	char text[64];

	while (netlink_next(&c, &m)) {
		check(netlink_result(&m) <= 0);
		netlink_reason(&m, text, sizeof(text));
		check(strlen(text) < sizeof(text));
	}
	if (takeover_read(data, size, NULL, &t, &e) < 0) {
		check(e.num != 0 && e.msg);
		error_done(&e);
		return 0;
	}
	check(t.n <= 16);
	for (size_t i = 0; i < t.n; i++)
		check_nic(&t.nics[i]);
	net_takeover_done(&t);
	return 0;
}
