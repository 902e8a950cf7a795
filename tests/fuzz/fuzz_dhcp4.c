/* What a client asks by DHCP: read, and answered within what it takes, whatever it is. */
#include <stdlib.h>
#include <string.h>

#include "wire/dhcp4.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct told t = { .mtu = 1500,
			  .host = "box",
			  .domains = { "example.org", "lan.example.org" },
			  .n_domains = 2,
			  .fours = { { { 172, 17, 0, 2 }, 16 } },
			  .n_fours = 1,
			  .server4 = { 169, 254, 255, 1 },
			  .gateway4 = { 172, 17, 0, 1 },
			  .dns4 = { { 169, 254, 255, 1 } },
			  .n_dns4 = 1 };
	struct dhcp4_request q, again;
	enum dhcp4_type type = 0;
	uint8_t out[DHCP4_MAX];
	size_t n;

	if (!dhcp4_read(data, size, &q))
		return 0;
	check(q.type >= DHCP4_DISCOVER && q.type <= DHCP4_INFORM && q.client_id_size <= sizeof(q.client_id));
	memcpy(t.mac, q.mac, sizeof(t.mac));
	/* So many routes that they fit, or do not. */
	for (size_t i = 0; i < (size_t)q.id[0] % (TOLD_ROUTES_MAX + 1); i++)
		t.routes[t.n_routes++] =
			(struct told_route){ { { 10, 1, 2, 3 }, (uint8_t)(q.id[1] % 33) }, { 172, 17, 0, 1 } };
	n = dhcp4_answer(&q, &t, out, sizeof(out), &type);
	check(n <= sizeof(out));
	if (n) {
		check(n >= 300 && (type == DHCP4_OFFER || type == DHCP4_ACK || type == DHCP4_NAK));
		check(out[0] == 2 && memcmp(out + 4, q.id, 4) == 0);
		/* Its options are whole ones. */
		out[0] = 1;
		check(dhcp4_read(out, n, &again) && again.type == type);
	}
	t.mac[0] ^= 1;
	check(dhcp4_answer(&q, &t, out, sizeof(out), &type) == 0);
	return 0;
}
