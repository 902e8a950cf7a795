/* The boot configuration as PID 1 of the guest reads it: whatever passes the check must be fit for use without another look. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent.pb-c.h"
#include "guest/bootconfig.h"
#include "wire/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void check_interface(const Skerry__Agent__V1__Interface *i)
{
	uint8_t bytes[16], prefix;
	int family;

	check(bootconfig_mac(i->mac, bytes) == 0);
	for (size_t k = 0; k < i->n_addresses; k++)
		check(bootconfig_address(i->addresses[k], &family, bytes, &prefix) == 0);
	for (size_t k = 0; k < i->n_routes; k++) {
		const Skerry__Agent__V1__Route *route = i->routes[k];

		check(bootconfig_address(route->destination, &family, bytes, &prefix) == 0);
		check(!route->gateway[0] || bootconfig_address(route->gateway, &family, bytes, &prefix) == 0);
		check(!route->source[0] || bootconfig_address(route->source, &family, bytes, &prefix) == 0);
	}
	for (size_t k = 0; k < i->n_neighbours; k++) {
		check(bootconfig_address(i->neighbours[k]->address, &family, bytes, &prefix) == 0);
		check(bootconfig_mac(i->neighbours[k]->mac, bytes) == 0);
	}
	check(strlen(i->name) < 16 && !strchr(i->name, '/'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Skerry__Agent__V1__BootConfig *c;
	struct error err = { 0 };

	if (bootconfig_parse(data, size, &c, &err) < 0) {
		check(err.num != 0 && err.msg);
		error_done(&err);
		return 0;
	}
	check(c->token.len == 0 || c->token.len == 16);
	check(!strchr(c->hostname, '/') && !strchr(c->hostname, '\n'));
	for (size_t i = 0; i < c->n_disks; i++)
		check(c->disks[i]->mount[0] == '/' && !strstr(c->disks[i]->mount, "/../"));
	for (size_t i = 0; i < c->n_interfaces; i++)
		check_interface(c->interfaces[i]);
	for (size_t i = 0; i < c->n_users; i++) {
		check(c->users[i]->name[0] && !strpbrk(c->users[i]->name, "/:\n"));
		for (size_t k = 0; k < c->users[i]->n_authorized_keys; k++)
			check(!strchr(c->users[i]->authorized_keys[k], '\n'));
	}
	for (size_t i = 0; i < c->n_ssh_host_keys; i++)
		check(!strchr(c->ssh_host_keys[i]->name, '/'));
	message_free(c);
	return 0;
}
