/* PORTS: what is taken is a range of ports of one kind that overlaps no other, and what is not is told in one line each. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "docker/relay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = xstrndup((const char *)data, size);
	_cleanup_relay_ports_ struct relay_ports ports = {}, except = {};
	_cleanup_strv_ struct strv wrong = {};

	relay_ports_add(&except, false, 8006);
	if (relay_ports_parse(text, &except, &ports, &wrong) != (int)wrong.n)
		abort();
	for (size_t i = 0; i < ports.n; i++) {
		const struct relay_range *r = &ports.items[i];

		if (r->first == 0 || r->last < r->first || r->guest_first == 0 ||
		    r->guest_first + (r->last - r->first) > UINT16_MAX || strlen(r->ip) >= sizeof(r->ip) ||
		    !relay_ports_has(&ports, r->udp, r->last))
			abort();
	}
	if (relay_ports_has(&ports, false, 8006))
		abort();
	for (size_t i = 0; i < wrong.n; i++)
		if (strchr(wrong.items[i], '\n'))
			abort();
	return 0;
}
