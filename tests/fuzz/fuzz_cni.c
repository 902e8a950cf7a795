/* A network's configuration, and the same bytes as a plugin's result: what passes has programs that stay in their directory, and addresses that
 * are some. */
#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "net/cni.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_json_ struct json *network = NULL, *result = NULL;
	_cleanup_strv_ struct strv servers = {}, search = {};
	struct error e = {};
	uint8_t bytes[16];

	if (cni_network_parse((const char *)data, size, "fuzz", &network, &e) < 0) {
		check(e.kind == ERROR_DATA && e.msg && !network);
		error_done(&e);
	} else {
		const struct json *plugins = json_get(network, "plugins");

		check(json_length(plugins) >= 1 && json_length(plugins) <= 32);
		check(json_string(json_get(network, "name")) && json_string(json_get(network, "cniVersion")));
		for (size_t i = 0; i < json_length(plugins); i++) {
			const char *type = json_string(json_get(json_at(plugins, i), "type"));

			check(type && *type && !strchr(type, '/') && type[0] != '.');
		}
	}
	if (json_parse((const char *)data, size, "fuzz", &result, NULL) < 0)
		return 0;
	cni_dns(result, &servers, &search);
	for (size_t i = 0; i < servers.n; i++)
		check(inet_pton(strchr(servers.items[i], ':') ? AF_INET6 : AF_INET, servers.items[i], bytes) == 1);
	for (size_t i = 0; i < search.n; i++)
		check(search.items[i][0] && !strpbrk(search.items[i], " \n/"));
	return 0;
}
