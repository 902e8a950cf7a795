#include "machine/client.h"

#include <fcntl.h>
#include <protobuf-c/protobuf-c.h>

#include "base/clock.h"
#include "base/file.h"
#include "machine/machine.h"
#include "machine/record.h"
#include "monitor.pb-c.h"

enum { CONSOLE_TAIL = 2048, CONSOLE_LINES = 6, MONITORS_MAX = 16 };
/* How long one look may wait for the lock, and how long somebody may hold it without a monitor that answers. */
#define LOOK_NS    (50 * NS_PER_MS)
#define CONNECT_NS (10 * NS_PER_SEC)

static void on_closed(struct rpc *r, int num, void *data)
{
	struct client *c = data;

	(void)r;
	(void)num;
	c->rpc = rpc_free(c->rpc);
}

static int not_running(const struct store *s, const struct name *name, struct error *err)
{
	struct machine_info info;
	int r = machine_info_load(s, name, &info, err);

	if (r >= 0) {
		if (info.status == MACHINE_FAILED && info.exit.reason)
			error_set_kind(err, ERROR_FAILED, ESRCH, "machine '%s' is not running: %s", name->s,
				       info.exit.reason);
		else
			error_set_kind(err, ERROR_FAILED, ESRCH, "machine '%s' is not running", name->s);
		error_hint(err, "skerry start %s", name->s);
		r = -ESRCH;
	}
	machine_info_done(&info);
	return r;
}

/* No monitor answers: either nothing runs, or an engine lost its monitor and gets a new one. -EBUSY: or one is about to be there. */
static int adopt(const struct store *s, const struct name *name, struct error *err)
{
	_cleanup_close_ int dir = store_machine_open(s, name, err), lock = -EBADF;
	enum recovery found;
	int r;

	if (dir < 0)
		return dir;
	lock = store_machine_lock(s, name, LOOK_NS, err);
	if (lock < 0)
		return lock;
	r = machine_recover(s, name, dir, &found, err);
	if (r < 0)
		return r;
	if (found != RECOVERY_ADOPT)
		return not_running(s, name, err);
	return monitor_spawn(name, lock, true, false, err);
}

/* -ENOENT or -ECONNREFUSED: nobody listens. */
static int connect_monitor(const char *run_path)
{
	_cleanup_close_ int run = open(run_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	return run < 0 ? -errno : unix_connect_at(run, "control.sock");
}

/* A monitor that starts holds the lock before it listens: the lock is never waited for without looking for its socket again. */
static int find_monitor(const struct store *s, const struct name *name, struct error *err)
{
	uint64_t deadline = clock_monotonic_ns() + CONNECT_NS;

	for (;;) {
		_cleanup_error_ struct error e = {};
		_cleanup_free_ char *run_path = machine_run_path(s, name);
		int r, fd = connect_monitor(run_path);

		if (fd != -ENOENT && fd != -ECONNREFUSED)
			return fd < 0 ? error_set_errno(err, fd, "machine '%s': cannot reach its monitor", name->s)
				      : fd;
		if (access(run_path, F_OK) < 0)
			return not_running(s, name, err);
		r = adopt(s, name, &e);
		if (r >= 0 && clock_monotonic_ns() >= deadline)
			return error_set(err, ETIMEDOUT, "machine '%s': its monitors do not stay", name->s);
		if (r < 0 && (r != -EBUSY || clock_monotonic_ns() >= deadline))
			return error_move(err, &e);
	}
}

int client_connect(const struct store *s, const struct name *name, struct client *ret, struct error *err)
{
	return client_connect_in(NULL, s, name, ret, err);
}

int client_connect_in(struct loop *l, const struct store *s, const struct name *name, struct client *ret,
		      struct error *err)
{
	_cleanup_close_ int fd = -EBADF, dir = store_machine_open(s, name, err);
	int r;

	*ret = (struct client){ .loop = l, .loop_given = l };
	if (dir < 0)
		return dir;
	fd = find_monitor(s, name, err);
	if (fd < 0)
		return fd;
	r = l ? 0 : loop_new(&ret->loop);
	if (r >= 0)
		r = rpc_new(ret->loop, TAKE_FD(fd), NULL, on_closed, ret, &ret->rpc);
	if (r < 0) {
		client_done(ret);
		return error_set_errno(err, r, "cannot make an event loop");
	}
	ret->name = xstrdup(name->s);
	return 0;
}

void client_done(struct client *c)
{
	c->rpc = rpc_free(c->rpc);
	if (!c->loop_given)
		c->loop = loop_free(c->loop);
	free(c->name);
	*c = (struct client){};
}

struct waiter {
	bool done;
	int result;
	struct buf *out;
	struct error *err;
};

static void on_answer(const struct error *e, const uint8_t *payload, size_t len, void *data)
{
	struct waiter *w = data;

	w->done = true;
	if (e) {
		w->result = -e->num;
		error_set_kind(w->err, e->kind, e->num, "%s", e->msg);
	} else if (w->out) {
		buf_add(w->out, payload, len);
	}
}

int client_call(struct client *c, const char *service, const char *method, const struct ProtobufCMessage *message,
		uint64_t timeout_ns, struct buf *out, struct error *err)
{
	_cleanup_free_ uint8_t *packed = NULL;
	struct waiter w = { .out = out, .err = err };
	size_t n = message ? protobuf_c_message_get_packed_size(message) : 0;
	int r;

	if (!c->rpc)
		return error_set(err, ECONNRESET, "machine '%s' has ended", c->name);
	if (n) {
		packed = xcalloc(1, n);
		protobuf_c_message_pack(message, packed);
	}
	r = rpc_call(c->rpc, service, method, packed, n, timeout_ns ? clock_monotonic_ns() + timeout_ns : UINT64_MAX,
		     on_answer, &w, err);
	if (r < 0)
		return error_prefix(err, "machine '%s'", c->name);
	while (!w.done) {
		r = loop_step(c->loop, UINT64_MAX);
		if (r < 0)
			return error_set_errno(err, r, "machine '%s'", c->name);
	}
	return w.result < 0 ? error_prefix(err, "machine '%s'", c->name) : 0;
}

/* In the loop that it has: what watches there stays. */
static int reconnect(const struct store *s, const struct name *name, struct client *c, struct error *err)
{
	struct loop *l = c->loop;
	bool given = c->loop_given;
	int r;

	c->loop_given = true;
	client_done(c);
	r = client_connect_in(l, s, name, c, err);
	if (r < 0 && !c->name)
		c->name = xstrdup(name->s);
	c->loop = l;
	c->loop_given = given;
	return r;
}

int client_wait_end(const struct store *s, const struct name *name, struct client *c, uint64_t timeout_ns,
		    struct buf *out, struct error *err)
{
	Skerry__Monitor__V1__WaitRequest req = SKERRY__MONITOR__V1__WAIT_REQUEST__INIT;
	uint64_t deadline = timeout_ns ? clock_monotonic_ns() + timeout_ns : UINT64_MAX;

	req.event = SKERRY__MONITOR__V1__WAIT_REQUEST__EVENT__EXIT;
	for (int i = 0;; i++) {
		_cleanup_error_ struct error e = {};
		uint64_t now = clock_monotonic_ns(), left = deadline > now ? deadline - now : 1;
		int r = client_call(c, MONITOR_SERVICE, "Wait", &req.base, timeout_ns ? left : 0, out, &e);

		if (r >= 0)
			return 0;
		if ((r != -ECONNRESET && r != -EPIPE) || i == MONITORS_MAX)
			return error_move(err, &e);
		error_done(&e);
		r = reconnect(s, name, c, &e);
		if (r == -ESRCH || r == -ENOENT)
			return 0;
		if (r < 0)
			return error_move(err, &e);
	}
}

/* -EBADF when there is none. */
static int console_open(const char *name)
{
	_cleanup_(store_done) struct store s = {};
	_cleanup_free_ char *path = xasprintf("%s/console.log", name);

	return store_open(&s, NULL) < 0 ? -EBADF : openat(s.machines_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

/* Up to CONSOLE_LINES last lines of the console log, without what could drive a terminal. NULL when it is empty. */
static char *console_tail(int fd)
{
	char raw[CONSOLE_TAIL];
	struct buf b = {};
	off_t size;
	ssize_t n;
	int lines = 0, from;

	if (fd < 0 || (size = lseek(fd, 0, SEEK_END)) <= 0)
		return NULL;
	n = pread(fd, raw, sizeof(raw), size > (off_t)sizeof(raw) ? size - (off_t)sizeof(raw) : 0);
	while (n > 0 && (raw[n - 1] == '\n' || raw[n - 1] == '\r'))
		n--;
	for (from = (int)n; from > 0 && lines < CONSOLE_LINES; from--)
		lines += raw[from - 1] == '\n';
	if (lines == CONSOLE_LINES)
		from++;
	for (int i = from; i < n; i++)
		if (raw[i] == '\n' || (raw[i] >= 0x20 && raw[i] < 0x7f))
			buf_addc(&b, raw[i]);
	return b.len ? buf_take(&b) : NULL;
}

int client_wait_agent(struct client *c, uint64_t timeout_ns, struct error *err)
{
	Skerry__Monitor__V1__WaitRequest req = SKERRY__MONITOR__V1__WAIT_REQUEST__INIT;
	_cleanup_error_ struct error e = {};
	_cleanup_free_ char *tail = NULL;
	/* A machine that is deleted at its end takes the file's name along. */
	_cleanup_close_ int console = console_open(c->name);
	int r;

	req.event = SKERRY__MONITOR__V1__WAIT_REQUEST__EVENT__AGENT;
	r = client_call(c, MONITOR_SERVICE, "Wait", &req.base, timeout_ns, NULL, &e);
	if (r >= 0)
		return 0;
	tail = console_tail(console);
	if (r != -ETIMEDOUT) {
		if (tail)
			error_hint(&e, "the console's last lines:\n%s", tail);
		return error_move(err, &e);
	}
	error_set(err, ETIMEDOUT, "machine '%s': the guest did not answer within %llu s", c->name,
		  (unsigned long long)(timeout_ns / NS_PER_SEC));
	if (tail)
		return error_hint(err, "the console's last lines (skerry logs %s):\n%s", c->name, tail);
	return error_hint(err, "nothing was printed on the console; see `skerry logs --engine %s`", c->name);
}
