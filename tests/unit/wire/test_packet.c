/* Frames: what is written is read again, what is cut short or wrong is not. */
#include "wire/packet.h"

#include "test.h"

static const struct packet_ends four = { .to = { 1, 2, 3, 4, 5, 6 },
					 .from = { 2, 0, 0, 0, 0, 1 },
					 .source = { 10, 0, 0, 1 },
					 .destination = { 10, 0, 0, 2 },
					 .source_port = 67,
					 .port = 68 };
static const struct packet_ends six = { .to = { 1, 2, 3, 4, 5, 6 },
					.from = { 2, 0, 0, 0, 0, 1 },
					.six = true,
					.source = { 0xfe, 0x80, [15] = 1 },
					.destination = { 0xfe, 0x80, [15] = 2 },
					.source_port = 547,
					.port = 546 };

static void comes_back(const struct packet_ends *e)
{
	static const char text[] = "an odd one.";
	uint8_t frame[200];
	struct packet p;
	size_t n = packet_write_udp(e, text, sizeof(text) - 1, frame, sizeof(frame));

	ASSERT(packet_read(frame, n, &p));
	ASSERT_EQ(p.kind, e->six ? PACKET_KIND_SIX : PACKET_KIND_FOUR);
	ASSERT_MEMEQ(p.to, e->to, 6);
	ASSERT_MEMEQ(p.from, e->from, 6);
	ASSERT_MEMEQ(p.source, e->source, e->six ? 16 : 4);
	ASSERT_MEMEQ(p.destination, e->destination, e->six ? 16 : 4);
	ASSERT_EQ(p.source_port, e->source_port);
	ASSERT_EQ(p.port, e->port);
	ASSERT_EQ(p.n, sizeof(text) - 1);
	ASSERT_MEMEQ(p.p, text, p.n);
	/* What fills up a short frame does not belong to it. */
	ASSERT(packet_read(frame, n + 7, &p));
	ASSERT_EQ(p.n, sizeof(text) - 1);
	for (size_t i = 0; i < n; i++)
		ASSERT(!packet_read(frame, i, &p));
	/* No bit of what a checksum covers may be another. */
	for (size_t i = e->six ? 22 : 14; i < n; i++) {
		frame[i] ^= 0x10;
		ASSERT(!packet_read(frame, n, &p) || (!e->six && i == 23) || p.protocol != PACKET_UDP);
		frame[i] ^= 0x10;
	}
	for (size_t i = 0; i < n; i++)
		ASSERT_EQ(packet_write_udp(e, text, sizeof(text) - 1, frame, i), 0);
}

TEST(what_is_written_is_read_again)
{
	comes_back(&four);
	comes_back(&six);
}

TEST(a_checksum_of_zero_is_none_for_ipv4_only)
{
	uint8_t frame[100];
	struct packet p;
	size_t n = packet_write_udp(&four, "x", 1, frame, sizeof(frame));

	frame[40] = frame[41] = 0;
	ASSERT(packet_read(frame, n, &p));
	n = packet_write_udp(&six, "x", 1, frame, sizeof(frame));
	frame[60] = frame[61] = 0;
	ASSERT(!packet_read(frame, n, &p));
}

TEST(lengths_that_lie_are_refused)
{
	uint8_t frame[100];
	struct packet p;
	size_t n = packet_write_udp(&four, "x", 1, frame, sizeof(frame));

	/* UDP's own. */
	frame[39] = 200;
	ASSERT(!packet_read(frame, n, &p));
	frame[39] = 7;
	ASSERT(!packet_read(frame, n, &p));
	/* A header of IP that is shorter than one, or longer than the packet. */
	n = packet_write_udp(&four, "x", 1, frame, sizeof(frame));
	frame[14] = 0x44;
	ASSERT(!packet_read(frame, n, &p));
	frame[14] = 0x4f;
	ASSERT(!packet_read(frame, n, &p));
	n = packet_write_udp(&six, "x", 1, frame, sizeof(frame));
	frame[19] = 200;
	ASSERT(!packet_read(frame, n, &p));
	memset(frame, 0xff, sizeof(frame));
	ASSERT(!packet_read(frame, sizeof(frame), &p));
}

TEST(of_a_fragment_only_the_header_is_looked_at)
{
	uint8_t frame[100];
	struct packet p;
	size_t n = packet_write_udp(&four, "x", 1, frame, sizeof(frame));

	/* More of them; the header's checksum is mended by hand. */
	frame[20] = 0x20;
	frame[24] = (uint8_t)(frame[24] + 0x20);
	ASSERT(packet_read(frame, n, &p));
	ASSERT(p.fragment);
	ASSERT_EQ(p.port, 0);
}

TEST(who_has_it_is_answered)
{
	static const uint8_t mac[] = { 2, 9, 9, 9, 9, 9 };
	uint8_t question[60] = "\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x02\x08\x06\0\x01\x08\0\x06\x04\0\x01\x02\0\0\0\0"
			       "\x02\x0a\0\0\x02\0\0\0\0\0\0\x0a\0\0\x01",
		answer[60];
	struct packet p, a;
	size_t n;

	ASSERT(packet_read(question, sizeof(question), &p));
	ASSERT_EQ(p.kind, PACKET_KIND_ARP);
	ASSERT(p.question);
	n = packet_write_arp(&p, mac, answer, sizeof(answer));
	ASSERT(packet_read(answer, n, &a));
	ASSERT(!a.question);
	ASSERT_MEMEQ(a.source, "\x0a\0\0\x01", 4);
	ASSERT_MEMEQ(a.destination, "\x0a\0\0\x02", 4);
	ASSERT_MEMEQ(a.from, mac, 6);
	ASSERT_MEMEQ(answer + 22, mac, 6);
	ASSERT_EQ(packet_write_arp(&p, mac, answer, 41), 0);
	question[16] = 0x86;
	ASSERT(!packet_read(question, sizeof(question), &p));
}

TEST(another_address_keeps_the_checksums_right)
{
	static const uint8_t other[] = { 169, 254, 255, 5 };
	uint8_t frame[100];
	struct packet p;
	/* 0xffff where the sum would be zero, and every other value of it. */
	for (unsigned i = 0; i < 70000; i += 7) {
		const uint8_t text[] = { (uint8_t)(i >> 8), (uint8_t)i, (uint8_t)(i >> 16) };
		size_t n = packet_write_udp(&four, text, sizeof(text), frame, sizeof(frame));

		packet_readdress(frame + 14, n - 14, i % 2, other);
		ASSERT(packet_read(frame, n, &p));
		ASSERT_MEMEQ(i % 2 ? p.source : p.destination, other, 4);
		ASSERT_EQ(p.n, sizeof(text));
	}
}

TEST(a_packet_becomes_one_of_the_other_protocol_and_back)
{
	static const uint8_t a[4] = { 169, 254, 255, 6 }, b[4] = { 169, 254, 255, 1 };
	uint8_t frame[100], other[100], whole[100];
	struct packet p;
	size_t n = packet_write_udp(&six, "question", 8, frame, sizeof(frame)), k;

	k = packet_six_to_four(frame + 14, n - 14, a, b, other, sizeof(other));
	ASSERT_EQ(k, n - 14 - 20);
	k = packet_write_ip(four.to, four.from, other, k, whole, sizeof(whole));
	ASSERT(packet_read(whole, k, &p));
	ASSERT_MEMEQ(p.source, a, 4);
	ASSERT_EQ(p.port, 546);
	ASSERT_MEMEQ(p.p, "question", 8);
	k = packet_four_to_six(whole + 14, k - 14, six.source, six.destination, other, sizeof(other));
	ASSERT_EQ(k, n - 14);
	k = packet_write_ip(four.to, four.from, other, k, whole, sizeof(whole));
	ASSERT_EQ(k, n);
	ASSERT_MEMEQ(whole, frame, n);
	/* No room, and no such protocol. */
	ASSERT_EQ(packet_six_to_four(frame + 14, n - 14, a, b, other, 20), 0);
	frame[20] = PACKET_ICMP6;
	ASSERT_EQ(packet_six_to_four(frame + 14, n - 14, a, b, other, sizeof(other)), 0);
}
