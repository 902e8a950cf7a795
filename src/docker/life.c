#include "docker/life.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "docker/box.h"
#include "docker/relay.h"
#include "machine/client.h"
#include "machine/machine.h"
#include "machine/terminal.h"
#include "monitor.pb-c.h"

/* How this works: the machine has a monitor as any other, a child of ours. What is here holds a connection to it that waits for the end, and one to
 * the console. A guest that reboots gets a new engine, and the console a new socket: then we join again. A monitor that dies is replaced by
 * the next connection, and the machine runs on. */

enum { CHUNK = 16 << 10, BACKLOG_MAX = 1 << 20 };
#define REJOIN_NS  (100 * NS_PER_MS)
#define FORWARD_NS (10 * NS_PER_SEC)
/* Of the time that there is to stop, what is left for the engine once the guest was asked. */
#define ENGINE_SHARE_NS (2 * NS_PER_SEC)

struct life {
	const struct store *store;
	const struct settings *settings;
	struct name name;
	struct loop *loop;
	struct client client;
	struct relay *relay;
	bool ended;
	unsigned signals; /* how often the end was asked for */
	struct loop_source *endings[3], *child, *rejoin;
	struct loop_source *input, *output;
	int console; /* -1 = not joined */
	struct loop_source *console_source;
	struct buf out; /* for standard output, which others may read slowly */
	struct buf in;  /* for the guest */
};

/* ---- Console ---- */

static void console_leave(struct life *l)
{
	l->console_source = loop_source_free(l->console_source);
	l->console = safe_close(l->console);
}

static void console_events(struct life *l)
{
	if (l->console_source)
		(void)loop_set_events(l->console_source, (l->out.len < BACKLOG_MAX ? (uint32_t)EPOLLIN : 0) |
								 (l->in.len ? (uint32_t)EPOLLOUT : 0));
	if (l->output)
		(void)loop_set_events(l->output, l->out.len ? (uint32_t)EPOLLOUT : 0);
}

/* Written when it can be, a piece at a time, so that a reader who has stopped does not stop us. */
static int on_output(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct life *l = data;
	size_t n = l->out.len < 4096 ? l->out.len
				     : 4096; /* PIPE_BUF: a pipe that is ready takes as much without blocking */
	ssize_t k;

	(void)source;
	(void)events;
	if (!n)
		return 0;
	k = write(fd, l->out.p, n);
	if (k < 0 && errno != EAGAIN && errno != EINTR)
		buf_truncate(&l->out, 0); /* nobody listens any more */
	else if (k > 0)
		buf_consume(&l->out, (size_t)k);
	console_events(l);
	return 0;
}

/* What led through it to the guest leads nowhere now. */
static void engine_gone(struct life *l)
{
	console_leave(l);
	if (l->relay)
		relay_forget(l->relay);
}

static int on_console(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct life *l = data;
	ssize_t n;

	(void)source;
	if ((events & EPOLLOUT) && l->in.len) {
		n = write(fd, l->in.p, l->in.len);
		if (n > 0)
			buf_consume(&l->in, (size_t)n);
	}
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		n = read(fd, buf_reserve(&l->out, CHUNK), CHUNK);
		if (n > 0)
			buf_commit(&l->out, (size_t)n);
		else if (n == 0 || (errno != EAGAIN && errno != EINTR))
			engine_gone(l);
	}
	console_events(l);
	return 0;
}

static void console_join(struct life *l)
{
	_cleanup_close_ int dir = -EBADF;

	if (l->console >= 0)
		return;
	dir = store_machine_run_dir(l->store, &l->name, NULL);
	l->console = dir < 0 ? -1 : unix_connect_at(dir, "console.sock");
	if (l->console >= 0 && loop_add_fd(l->loop, &l->console_source, l->console, EPOLLIN, on_console, l) < 0)
		console_leave(l);
	console_events(l);
}

static int on_input(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct life *l = data;
	char p[4096];
	ssize_t n;

	(void)source;
	(void)events;
	n = read(fd, p, sizeof(p));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		l->input = loop_source_free(l->input);
		return 0;
	}
	/* Typed faster than any guest reads: the rest is lost, as on a serial line. */
	if (l->in.len + (size_t)n <= BACKLOG_MAX)
		buf_add(&l->in, p, (size_t)n);
	console_events(l);
	return 0;
}

/* ---- The end ---- */

static void on_end(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct life *l = data;

	(void)payload;
	(void)len;
	/* Without an answer the monitor has died, and the machine may live. */
	l->ended = !err;
	loop_exit(l->loop, 0);
}

static void forget_answer(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	(void)err;
	(void)payload;
	(void)len;
	(void)data;
}

static void ask_to_stop(struct life *l)
{
	Skerry__Monitor__V1__StopRequest m = SKERRY__MONITOR__V1__STOP_REQUEST__INIT;
	uint8_t packed[32];
	size_t n;

	if (!l->client.rpc || !rpc_is_open(l->client.rpc))
		return;
	m.timeout_ns = l->settings->stop_ns > 2 * ENGINE_SHARE_NS ? l->settings->stop_ns - ENGINE_SHARE_NS
								  : l->settings->stop_ns / 2;
	n = skerry__monitor__v1__stop_request__pack(&m, packed);
	(void)rpc_call(l->client.rpc, MONITOR_SERVICE, l->signals > 1 ? "Kill" : "Stop", packed, l->signals > 1 ? 0 : n,
		       UINT64_MAX, forget_answer, NULL, NULL);
}

static int on_signal(struct loop_source *source, const struct signalfd_siginfo *si, void *data)
{
	struct life *l = data;

	(void)source;
	l->signals++;
	log_info("signal %u: the machine is %s", si->ssi_signo,
		 l->signals > 1 ? "ended at once" : "asked to power off");
	ask_to_stop(l);
	return 0;
}

/* Whatever else lands here: helpers of a monitor that died, and the monitors themselves. */
static int on_child(struct loop_source *source, const struct signalfd_siginfo *si, void *data)
{
	(void)source;
	(void)si;
	(void)data;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	return 0;
}

/* ---- Ports ---- */

struct wanted {
	struct life *life;
	uint64_t ticket;
};

static void on_forward(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	_cleanup_free_ struct wanted *w = data;
	Skerry__Monitor__V1__ForwardResponse *answer =
		err ? NULL : skerry__monitor__v1__forward_response__unpack(NULL, len, payload);

	if (err)
		log_warning("a port does not lead to the guest: %s", err->msg);
	if (w->life->relay)
		relay_resolved(w->life->relay, w->ticket, answer ? (uint16_t)answer->host_port : 0);
	skerry__monitor__v1__forward_response__free_unpacked(answer, NULL);
}

static void on_wanted(struct relay *r, uint64_t ticket, bool udp, uint16_t guest_port, void *data)
{
	struct life *l = data;
	Skerry__Monitor__V1__ForwardRequest m = SKERRY__MONITOR__V1__FORWARD_REQUEST__INIT;
	struct wanted *w = xnew(struct wanted);
	uint8_t packed[32];

	*w = (struct wanted){ l, ticket };
	m.udp = udp;
	m.guest_port = guest_port;
	if (!l->client.rpc || !rpc_is_open(l->client.rpc) ||
	    rpc_call(l->client.rpc, MONITOR_SERVICE, "Forward", packed,
		     skerry__monitor__v1__forward_request__pack(&m, packed), clock_monotonic_ns() + FORWARD_NS,
		     on_forward, w, NULL) < 0) {
		free(w);
		relay_resolved(r, ticket, 0);
	}
}

static void on_unwanted(bool udp, uint16_t guest_port, void *data)
{
	struct life *l = data;
	Skerry__Monitor__V1__ForwardRequest m = SKERRY__MONITOR__V1__FORWARD_REQUEST__INIT;
	uint8_t packed[32];

	m.udp = udp;
	m.guest_port = guest_port;
	if (l->client.rpc && rpc_is_open(l->client.rpc))
		(void)rpc_call(l->client.rpc, MONITOR_SERVICE, "Unforward", packed,
			       skerry__monitor__v1__forward_request__pack(&m, packed), UINT64_MAX, forget_answer, NULL,
			       NULL);
}

static void on_listening(struct relay *r, void *data)
{
	const char *notice = relay_notice(r);

	(void)data;
	if (notice)
		log_info("%s", notice);
}

static int listen_for_guest(struct life *l, struct error *err)
{
	struct relay_options o = {
		.ports = l->settings->ports.n ? &l->settings->ports : NULL,
		.kernel_memory_max = l->settings->ports.n ? 0 : l->settings->relay_bytes,
		.resolve = on_wanted,
		.release = on_unwanted,
		.listening = on_listening,
		.data = l,
	};

	return relay_new(l->loop, &o, &l->relay, err);
}

/* ---- All of it ---- */

/* The console's socket comes and goes with the engine; nothing announces it. */
static int on_rejoin(struct loop_source *source, void *data)
{
	struct life *l = data;

	console_join(l);
	return loop_set_deadline(source, clock_monotonic_ns() + REJOIN_NS);
}

static int watch_all(struct life *l)
{
	static const int endings[] = { SIGTERM, SIGINT, SIGQUIT };
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(endings); i++)
		r = loop_add_signal(l->loop, &l->endings[i], endings[i], on_signal, l);
	if (r >= 0)
		r = loop_add_signal(l->loop, &l->child, SIGCHLD, on_child, l);
	if (r >= 0)
		r = loop_add_timer(l->loop, &l->rejoin, 0, on_rejoin, l);
	if (r >= 0)
		r = loop_add_fd(l->loop, &l->output, STDOUT_FILENO, 0, on_output, l);
	if (r >= 0)
		(void)loop_add_fd(l->loop, &l->input, STDIN_FILENO, EPOLLIN, on_input, l);
	return r;
}

static void unwatch_all(struct life *l)
{
	console_leave(l);
	client_done(&l->client);
	l->relay = relay_free(l->relay);
	for (size_t i = 0; i < ARRAY_SIZE(l->endings); i++)
		l->endings[i] = loop_source_free(l->endings[i]);
	l->child = loop_source_free(l->child);
	l->rejoin = loop_source_free(l->rejoin);
	l->input = loop_source_free(l->input);
	l->output = loop_source_free(l->output);
	l->loop = loop_free(l->loop);
}

/* One connection to the monitor, from its start to its end. */
static int stay(struct life *l, struct error *err)
{
	Skerry__Monitor__V1__WaitRequest m = SKERRY__MONITOR__V1__WAIT_REQUEST__INIT;
	uint8_t packed[16];
	int r;

	client_done(&l->client);
	r = client_connect_in(l->loop, l->store, &l->name, &l->client, err);
	if (r < 0)
		return r;
	m.event = SKERRY__MONITOR__V1__WAIT_REQUEST__EVENT__EXIT;
	r = rpc_call(l->client.rpc, MONITOR_SERVICE, "Wait", packed,
		     skerry__monitor__v1__wait_request__pack(&m, packed), UINT64_MAX, on_end, l, err);
	if (r < 0)
		return r;
	if (l->signals)
		ask_to_stop(l);
	r = loop_run(l->loop);
	return r < 0 ? error_set_errno(err, r, "event loop") : 0;
}

/* What the guest said last is still on its way when the machine has ended. */
static void flush_output(struct life *l)
{
	if (l->out.len)
		(void)write_full(STDOUT_FILENO, l->out.p, l->out.len);
	buf_done(&l->out);
	buf_done(&l->in);
}

static int tell_end(const struct life *l)
{
	_cleanup_info_ struct machine_info info = {};
	_cleanup_error_ struct error e = {};

	if (machine_info_load(l->store, &l->name, &info, &e) < 0) {
		log_error("%s", e.msg);
		return 1;
	}
	if (!info.has_exit)
		return 0;
	if (info.exit.failed)
		log_error("the machine has ended: %s", info.exit.reason);
	else
		log_info("the machine has ended: %s", info.exit.reason);
	return info.exit.failed ? 1 : 0;
}

/* Sockets first: a port that cannot be had is told before anything runs. */
static int begin(struct life *l, struct error *err)
{
	struct start_options start = {};
	bool already;
	int r = name_parse(BOX_NAME, "machine name", &l->name, err);

	/* Whoever loses its parent in here becomes our child. */
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (r >= 0 && loop_new(&l->loop) < 0)
		r = error_set_errno(err, ENOMEM, "event loop");
	if (r >= 0)
		r = listen_for_guest(l, err);
	if (r >= 0)
		r = machine_start(l->store, &l->name, &start, &already, err);
	if (r >= 0 && watch_all(l) < 0)
		r = error_set_errno(err, EIO, "event loop");
	return r;
}

int life_run(const struct store *s, const struct settings *settings, struct error *err)
{
	_cleanup_raw_terminal_ struct raw_terminal raw = RAW_TERMINAL_INIT;
	struct life l = { .store = s, .settings = settings, .console = -1 };
	int r = begin(&l, err);

	if (r >= 0)
		r = raw_terminal_enter(&raw, STDIN_FILENO, err);
	while (r >= 0 && !l.ended) {
		_cleanup_error_ struct error e = {};

		r = stay(&l, &e);
		/* It ended while nobody looked. */
		if (r == -ESRCH)
			break;
		if (r < 0)
			error_move(err, &e);
	}
	flush_output(&l);
	unwatch_all(&l);
	raw_terminal_restore(&raw);
	return r < 0 && r != -ESRCH ? r : tell_end(&l);
}
