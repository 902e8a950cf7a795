/* What a hostile peer of the QMP client can send. The first byte is the size of the pieces in which the rest arrives; calls are in flight,
 * and a callback frees the client when an event says so. Every call must be answered exactly once. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/qemu/qmp.h"
#include "engine/qemu/schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CALLS 4

struct state {
	struct qmp *qmp;
	unsigned made, answered[CALLS], ready, closed;
};

struct slot {
	struct state *state;
	unsigned i;
};

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void on_answer(const struct error *err, struct json *value, void *userdata)
{
	struct slot *s = userdata;

	check(!err != !value);
	check(++s->state->answered[s->i] == 1);
	(void)qmp_schema_has(value, "migrate/uri");
}

static void on_event(const char *event, const struct json *data, void *userdata)
{
	struct state *s = userdata;

	(void)data;
	if (event[0] == 'F')
		s->qmp = qmp_free(s->qmp);
}

static void on_ready(const struct error *err, struct json *value, void *userdata)
{
	struct state *s = userdata;

	check(!err != !value);
	check(++s->ready == 1);
}

static void on_closed(const struct error *why, void *userdata)
{
	struct state *s = userdata;

	check(why && why->num > 0);
	check(++s->closed == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct state s = {};
	struct slot slots[CALLS];
	struct qmp_callbacks cb = { .event = on_event, .ready = on_ready, .closed = on_closed, .userdata = &s };
	struct loop *loop = NULL;
	size_t piece;
	int pair[2];

	if (size == 0)
		return 0;
	piece = data[0] ? data[0] : 1;
	data++;
	size--;
	if (loop_new(&loop) < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	if (qmp_new(loop, pair[0], &cb, UINT64_MAX, &s.qmp, NULL) < 0)
		abort();
	while (size > 0 && s.qmp) {
		size_t n = size < piece ? size : piece;

		if (s.ready == 1 && s.closed == 0 && s.made < CALLS) {
			slots[s.made] = (struct slot){ &s, s.made };
			qmp_call(s.qmp, "query-x", NULL, UINT64_MAX, on_answer, &slots[s.made]);
			s.made++;
		}
		if (s.qmp && qmp_feed(s.qmp, data, n) < 0)
			break;
		data += n;
		size -= n;
	}
	s.qmp = qmp_free(s.qmp);
	for (unsigned i = 0; i < s.made; i++)
		check(s.answered[i] == 1);
	close(pair[1]);
	loop_free(loop);
	return 0;
}
