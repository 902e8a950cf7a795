/* Bytes from the other side of a ttrpc connection: frames, and the envelopes in them. What decodes must encode to the same again. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wire/ttrpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void take_request(const struct ttrpc_frame *f)
{
	_cleanup_buf_ struct buf out = { 0 };
	struct ttrpc_request q, again;
	struct ttrpc_frame back;
	size_t used;

	if (ttrpc_request_decode(f, &q) < 0)
		return;
	check(strlen(q.service) <= f->len && strlen(q.method) <= f->len && q.payload_len <= f->len);
	if (ttrpc_request_encode(&out, f->stream_id, q.service, q.method, q.payload, q.payload_len, q.timeout_ns) ==
	    0) {
		check(ttrpc_decode(&out, &back, &used) == 1 && used == out.len);
		check(ttrpc_request_decode(&back, &again) == 0);
		check(strcmp(q.service, again.service) == 0 && strcmp(q.method, again.method) == 0);
		check(q.payload_len == again.payload_len && q.timeout_ns == again.timeout_ns);
		ttrpc_request_done(&again);
	}
	ttrpc_request_done(&q);
}

static void take_response(const struct ttrpc_frame *f)
{
	struct ttrpc_response a;

	if (ttrpc_response_decode(f, &a) < 0)
		return;
	check(a.message && a.payload_len <= f->len);
	check(ttrpc_code_to_errno(a.code) <= 0);
	ttrpc_response_done(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_buf_ struct buf in = { 0 };
	struct ttrpc_frame f;
	size_t used;

	buf_add(&in, data, size);
	while (ttrpc_decode(&in, &f, &used) == 1) {
		check(used <= in.len && f.len == used - TTRPC_HEADER_SIZE && f.stream_id != 0);
		take_request(&f);
		take_response(&f);
		buf_consume(&in, used);
	}
	return 0;
}
