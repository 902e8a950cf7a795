#include "docker/life.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "docker/box.h"
#include "docker/bridge.h"
#include "docker/output.h"
#include "docker/page.h"
#include "docker/relay.h"
#include "machine/client.h"
#include "machine/machine.h"
#include "machine/terminal.h"
#include "monitor.pb-c.h"

/* How this works: the machine has a monitor as any other, a child of ours. What is here holds a connection to it that waits for the end, and one to
 * the console. A guest that reboots gets a new engine, and the console a new socket: then we join again. A monitor that dies is replaced by
 * the next connection, and the machine runs on. */

enum { CHUNK = 16 << 10, TYPED_MAX = 1 << 20 };
#define REJOIN_NS (100 * NS_PER_MS)
/* Of a reader who takes nothing for so long, nothing is expected at the end. */
#define LAST_WORDS_NS NS_PER_SEC
/* Of the time that there is to stop, what is left for the engine once the guest was asked. */
#define ENGINE_SHARE_NS (2 * NS_PER_SEC)

struct life {
	const struct store *store;
	const struct settings *settings;
	struct name name;
	struct loop *loop;
	struct client client;
	struct relay *relay;  /* NETWORK=nat */
	struct bridge bridge; /* NETWORK=bridge */
	struct page *page;    /* CONSOLE=web */
	bool ended;
	unsigned signals; /* how often the end was asked for */
	struct loop_source *endings[3], *child, *rejoin;
	struct loop_source *input;
	struct output *output;
	int console; /* -1 = not joined */
	struct loop_source *console_source;
	struct buf in; /* for the guest */
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
		(void)loop_set_events(l->console_source, (output_has_room(l->output) ? (uint32_t)EPOLLIN : 0) |
								 (l->in.len ? (uint32_t)EPOLLOUT : 0));
}

static void on_room(void *data)
{
	console_events(data);
}

/* What led through it to the guest leads nowhere now. */
static void engine_gone(struct life *l)
{
	console_leave(l);
	if (l->relay)
		relay_forget(l->relay);
	(void)loop_set_deadline(l->rejoin, clock_monotonic_ns() + REJOIN_NS);
}

static int on_console(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct life *l = data;
	ssize_t n;

	(void)source;
	if ((events & EPOLLOUT) && l->in.len) {
		n = send(fd, l->in.p, l->in.len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n > 0)
			buf_consume(&l->in, (size_t)n);
	}
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		n = recv(fd, buf_reserve(output_buf(l->output), CHUNK), CHUNK, MSG_DONTWAIT);
		if (n > 0)
			buf_commit(output_buf(l->output), (size_t)n);
		else if (n == 0 || (errno != EAGAIN && errno != EINTR))
			engine_gone(l);
		output_added(l->output);
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
	l->console = dir < 0 ? -1 : unix_connect_now_at(dir, "console.sock");
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
	if (l->in.len + (size_t)n <= TYPED_MAX)
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

/* Without a deadline: what is made when nobody waits any more has to be known, so that it can be given up. A connection to the monitor that ends
 * answers everything that was asked over it. */
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
		     skerry__monitor__v1__forward_request__pack(&m, packed), UINT64_MAX, on_forward, w, NULL) < 0) {
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
	struct relay_ports except = {};
	struct relay_options o = {
		.ports = l->settings->ports.n ? &l->settings->ports : NULL,
		.except = &except,
		.kernel_memory_max = l->settings->relay_bytes,
		.resolve = on_wanted,
		.release = on_unwanted,
		.listening = on_listening,
		.data = l,
	};

	int r;

	if (l->page)
		relay_ports_add(&except, false, l->settings->console_port);
	r = relay_new(l->loop, &o, &l->relay, err);
	relay_ports_done(&except);
	return r;
}

static int show_page(struct life *l, struct error *err)
{
	_cleanup_info_ struct machine_info info = {};
	int r = machine_info_load(l->store, &l->name, &info, err);

	return r < 0 ? r : page_new(l->loop, l->store, l->settings, &l->name, info.spec.display, &l->page, err);
}

static int take_place(struct life *l, struct error *err)
{
	_cleanup_info_ struct machine_info info = {};
	int r = machine_info_load(l->store, &l->name, &info, err);

	return r < 0 ? r : bridge_serve(l->loop, l->settings, info.spec.hostname, &l->bridge, err);
}

/* ---- All of it ---- */

/* The console's socket comes and goes with the engine; nothing announces it. Once joined, nobody is woken for it. */
static int on_rejoin(struct loop_source *source, void *data)
{
	struct life *l = data;

	console_join(l);
	return loop_set_deadline(source, l->console < 0 ? clock_monotonic_ns() + REJOIN_NS : UINT64_MAX);
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
		r = output_new(l->loop, STDOUT_FILENO, on_room, l, &l->output);
	if (r >= 0)
		(void)loop_add_fd(l->loop, &l->input, STDIN_FILENO, EPOLLIN, on_input, l);
	return r;
}

static void unwatch_all(struct life *l)
{
	console_leave(l);
	client_done(&l->client);
	l->relay = relay_free(l->relay);
	bridge_done(&l->bridge);
	l->page = page_free(l->page);
	for (size_t i = 0; i < ARRAY_SIZE(l->endings); i++)
		l->endings[i] = loop_source_free(l->endings[i]);
	l->child = loop_source_free(l->child);
	l->rejoin = loop_source_free(l->rejoin);
	l->input = loop_source_free(l->input);
	l->output = output_free(l->output);
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
	struct buf *out = l->output ? output_buf(l->output) : NULL;
	ssize_t n;

	while (out && l->console >= 0 && (n = recv(l->console, buf_reserve(out, CHUNK), CHUNK, MSG_DONTWAIT)) > 0)
		buf_commit(out, (size_t)n);
	if (out)
		output_finish(l->output, clock_monotonic_ns() + LAST_WORDS_NS);
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
	if (r >= 0 && l->settings->console_page)
		r = show_page(l, err);
	if (r >= 0 && l->settings->network == NETWORK_BRIDGE)
		r = take_place(l, err);
	else if (r >= 0)
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
