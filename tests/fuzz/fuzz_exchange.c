/* Frames of a guest, and packets of the stack: what comes of them is whole, and from nobody but us. The first byte says how the rest is to be taken: as it
 * is, or as what a right UDP datagram or ICMPv6 message holds. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "docker/exchange.h"
#include "net/net.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SIZE = 4096 };
static const uint8_t guest[6] = { 2, 0x42, 0xac, 0x11, 0, 2 }, own[6] = NET_CONTROL_MAC;

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void make(struct exchange *x)
{
	*x = (struct exchange){ .control = true, .knows_gateway = true };
	memcpy(x->told.mac, guest, 6);
	memcpy(x->told.own_mac, own, 6);
	x->told.mtu = 1500;
	x->told.fours[x->told.n_fours++] = (struct told_four){ { 172, 17, 0, 2 }, 16 };
	x->told.sixes[x->told.n_sixes++] = (struct told_six){ { 0xfd, [15] = 2 }, 64 };
	(void)inet_pton(AF_INET, NET_CONTROL_HOST, x->told.server4);
	(void)inet_pton(AF_INET6, NET_CONTROL_SIX, x->told.own6);
	(void)inet_pton(AF_INET6, NET_CONTROL_ROUTER, x->told.router6);
}

static size_t dress(uint8_t how, const uint8_t *data, size_t size, uint8_t *frame)
{
	struct packet_ends e = { .to = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff }, .source_port = 68, .port = 67 };

	memcpy(e.from, guest, 6);
	if (how % 4 == 1)
		return packet_write_udp(&e, data, size, frame, SIZE);
	e.six = true;
	e.source[0] = 0xfe;
	e.source[1] = 0x80;
	(void)inet_pton(AF_INET6, NET_CONTROL_SIX, e.destination);
	e.source_port = 546;
	e.port = how & 4 ? 53 : 547;
	return how % 4 == 2 ? packet_write_udp(&e, data, size, frame, SIZE)
			    : packet_write_icmp6(&e, data, size, frame, SIZE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t frame[SIZE], out[SIZE], packet[SIZE];
	struct exchange x;
	struct packet p;
	size_t n, k;

	if (size < 1 || size > SIZE - 100)
		return 0;
	make(&x);
	if (data[0] % 4 == 0) {
		n = size - 1;
		memcpy(frame, data + 1, n);
	} else {
		n = dress(data[0], data + 1, size - 1, frame);
	}
	switch (exchange_from_guest(&x, frame, n, out, sizeof(out), &k)) {
	case EXCHANGE_TO_GUEST: check(k > 0 && packet_read(out, k, &p) && memcmp(p.from, own, 6) == 0); break;
	case EXCHANGE_TO_STACK:
		/* From nobody but whom the stack knows to be the guest. */
		check(k >= 20 && out[0] >> 4 == 4 && memcmp(out + 12, "\xa9\xfe\xff", 3) == 0 &&
		      (out[15] == 5 || out[15] == 6) && memcmp(out + 16, x.told.server4, 4) == 0);
		break;
	case EXCHANGE_NOWHERE: break;
	}
	memcpy(packet, data, size);
	k = exchange_from_stack(&x, packet, size, out, sizeof(out));
	check(k <= sizeof(out) && (!k || memcmp(out + 6, own, 6) == 0));
	return 0;
}
