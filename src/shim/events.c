#include "shim/events.h"

#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "containerd.pb-c.h"
#include "machine/rpc.h"
#include "wire/message.h"

#define EVENTS_SERVICE "containerd.services.events.ttrpc.v1.Events"

/* As containerd's own shims do: five times, after 1, 2, … seconds; 2048 at most wait. */
enum { TRIES = 5, QUEUE_MAX = 2048 };
#define CALL_DEADLINE_NS (5 * NS_PER_SEC)

struct event {
	struct buf packed; /* ForwardRequest */
	struct buf value;  /* the message itself, of those that are there once only */
	char *topic;
	unsigned tries;
	struct event *next;
};

struct events {
	struct loop *loop;
	char *path, *namespace;
	struct rpc *rpc;
	struct loop_source *timer;
	struct event *first, **last;
	unsigned n;
	bool sending;
	bool warned; /* that events are lost, since the queue was empty last */
};

static void send_next(struct events *e);

static void drop_first(struct events *e)
{
	struct event *ev = e->first;

	e->first = ev->next;
	if (!e->first)
		e->last = &e->first;
	e->n--;
	if (!e->n)
		e->warned = false;
	buf_done(&ev->packed);
	buf_done(&ev->value);
	free(ev->topic);
	free(ev);
}

static void try_later(struct events *e)
{
	struct event *ev = e->first;

	e->sending = false;
	if (!ev)
		return;
	if (++ev->tries > TRIES) {
		log_warning("event %s was not taken, giving it up", ev->topic);
		drop_first(e);
		send_next(e);
		return;
	}
	(void)loop_set_deadline(e->timer, clock_monotonic_ns() + ev->tries * NS_PER_SEC);
}

static void on_answer(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct events *e = data;

	(void)payload;
	(void)len;
	if (err) {
		log_debug("event %s: %s", e->first ? e->first->topic : "", err->msg);
		try_later(e);
		return;
	}
	e->sending = false;
	drop_first(e);
	send_next(e);
}

static void on_closed(struct rpc *r, int num, void *data)
{
	struct events *e = data;

	(void)num;
	e->rpc = NULL;
	rpc_free(r);
}

static int connect_daemon(struct events *e)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	size_t n = strlen(e->path);
	int fd, r;

	if (n >= sizeof(a.sun_path))
		return -ENAMETOOLONG;
	memcpy(a.sun_path, e->path, n);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	r = connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ? -errno
							      : rpc_new(e->loop, fd, NULL, on_closed, e, &e->rpc);
	if (r < 0)
		safe_close(fd);
	return r;
}

static void send_next(struct events *e)
{
	if (e->sending || !e->first)
		return;
	e->sending = true;
	if ((!e->rpc && connect_daemon(e) < 0) ||
	    rpc_call(e->rpc, EVENTS_SERVICE, "Forward", e->first->packed.p, e->first->packed.len,
		     clock_monotonic_ns() + CALL_DEADLINE_NS, on_answer, e, NULL) < 0)
		try_later(e);
}

static int on_timer(struct loop_source *s, void *data)
{
	(void)s;
	send_next(data);
	return 0;
}

int events_new(struct loop *l, const char *address, const char *namespace, struct events **ret)
{
	const char *path = after_prefix(address, "unix://");
	struct events *e = xnew(struct events);
	int r;

	*e = (struct events){ .loop = l, .path = xstrdup(path ? path : address), .namespace = xstrdup(namespace) };
	e->last = &e->first;
	r = loop_add_timer(l, &e->timer, UINT64_MAX, on_timer, e);
	if (r < 0) {
		events_free(e);
		return r;
	}
	*ret = e;
	return 0;
}

static bool is_waiting(const struct events *e, const char *topic, const struct buf *value)
{
	for (const struct event *ev = e->first; ev; ev = ev->next)
		if (streq(ev->topic, topic) && ev->value.len == value->len &&
		    memcmp(ev->value.p, value->p, value->len) == 0)
			return true;
	return false;
}

static void publish(struct events *e, const char *topic, const char *type, const struct ProtobufCMessage *m, bool once)
{
	_cleanup_buf_ struct buf value = {};
	_cleanup_free_ char *type_copy = xstrdup(type);
	uint64_t now = clock_realtime_ns();
	Containerd__Timestamp at = CONTAINERD__TIMESTAMP__INIT;
	Containerd__Any any = CONTAINERD__ANY__INIT;
	Containerd__Envelope envelope = CONTAINERD__ENVELOPE__INIT;
	Containerd__ForwardRequest req = CONTAINERD__FORWARD_REQUEST__INIT;
	struct event *ev;

	if (!*e->path)
		return;
	message_pack(&value, m);
	if (once && is_waiting(e, topic, &value))
		return;
	if (e->n >= (once ? QUEUE_MAX / 2 : QUEUE_MAX)) {
		if (!e->warned)
			log_warning("event %s is lost: too many wait", topic);
		e->warned = true;
		return;
	}
	at.seconds = (int64_t)(now / NS_PER_SEC);
	at.nanos = (int32_t)(now % NS_PER_SEC);
	any.type_url = type_copy;
	any.value = (ProtobufCBinaryData){ value.len, (uint8_t *)value.p };
	ev = xnew(struct event);
	ev->topic = xstrdup(topic);
	envelope.timestamp = &at;
	envelope.namespace_ = e->namespace;
	envelope.topic = ev->topic;
	envelope.event = &any;
	req.envelope = &envelope;
	message_pack(&ev->packed, &req.base);
	if (once)
		buf_add(&ev->value, value.p, value.len);
	*e->last = ev;
	e->last = &ev->next;
	e->n++;
	/* Behind another it waits its turn: that one may be waiting for its own next try, which a new event is no reason to make at once. */
	if (e->n == 1)
		send_next(e);
}

void events_publish(struct events *e, const char *topic, const char *type, const struct ProtobufCMessage *m)
{
	publish(e, topic, type, m, false);
}

void events_publish_once(struct events *e, const char *topic, const char *type, const struct ProtobufCMessage *m)
{
	publish(e, topic, type, m, true);
}

bool events_pending(const struct events *e)
{
	return e->first != NULL;
}

struct events *events_free(struct events *e)
{
	if (!e)
		return NULL;
	rpc_free(e->rpc);
	e->rpc = NULL;
	while (e->first)
		drop_first(e);
	loop_source_free(e->timer);
	free(e->path);
	free(e->namespace);
	free(e);
	return NULL;
}
