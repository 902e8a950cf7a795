/* What a client asks by DHCP for IPv6: read, and answered with nothing but what is told, whatever it is. */
#include <stdlib.h>
#include <string.h>

#include "wire/dhcp6.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct told t = { .own_mac = { 2, 0x5c, 0xe4, 0xff, 0, 1 },
				.domains = { "example.org" },
				.n_domains = 1,
				.sixes = { { { 0xfd, [15] = 2 }, 64 } },
				.n_sixes = 1,
				.dns6 = { { 0xfe, 0x80, [15] = 1 } },
				.n_dns6 = 1 };
	struct dhcp6_request q, again;
	uint8_t out[DHCP6_MAX];
	size_t n;

	if (!dhcp6_read(data, size, &q))
		return 0;
	check(q.n <= DHCP6_ASSOCIATIONS_MAX);
	check(!q.client || (q.client >= data && q.client + q.client_size <= data + size));
	check(!q.server || (q.server >= data && q.server + q.server_size <= data + size));
	for (size_t i = 0; i < q.n; i++)
		check(q.associations[i].n <= TOLD_ADDRESSES_MAX);
	n = dhcp6_answer(&q, &t, out, sizeof(out));
	check(n <= sizeof(out));
	if (n)
		check(dhcp6_read(out, n, &again) && (again.type == DHCP6_REPLY || again.type == DHCP6_ADVERTISE) &&
		      memcmp(again.id, q.id, 3) == 0 && again.server);
	return 0;
}
