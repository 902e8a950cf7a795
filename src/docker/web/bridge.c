#include <errno.h>
#include <sys/socket.h>

#include "base/fdpass.h"
#include "base/memory.h"
#include "docker/page.h"
#include "docker/web/web.h"

/* Beyond these the other side is not read from. The guest never waits for it: the monitor drops what a reader of the console leaves lying, and QEMU
 * sends a viewer newer pictures in place of those that it did not take. */
enum { TO_CLIENT_MAX = 64 << 10, TO_MACHINE_MAX = 16 << 10, CHUNK = 16 << 10, FRAME_MAX = 8 << 10 };
enum { RETRY_US = 250000 };

/* Frames of text tell how it stands with the console; frames of bytes are what it showed. */
static const char told_joined[] = "joined", told_gone[] = "gone";

enum want { WANT_NOTHING, WANT_SOCKET, WANT_ANSWER };

struct bridge {
	struct web *web;     /* borrowed: outlives us */
	struct lws *ws;      /* borrowed: we are its session */
	struct lws *machine; /* borrowed; NULL = not joined */
	bool display;
	bool ending; /* the websocket ends once it has everything */
	bool ws_paused, machine_paused;
	const char *tell; /* a text frame that is due */
	enum want want;
	lws_sorted_usec_list_t retry;
	struct buf to_client, to_machine;
	struct bridge *next;
};

struct bridge_session {
	struct bridge *bridge;
};

size_t bridge_session_size(void)
{
	return sizeof(struct bridge_session);
}

/* ---- The broker ---- */

/* One question at a time, the oldest first. */
static void ask_next(struct web *web)
{
	char what;

	for (struct bridge *b = web->bridges; b && !web->asking; b = b->next) {
		if (b->want != WANT_SOCKET)
			continue;
		what = b->display ? PAGE_ASK_DISPLAY : PAGE_ASK_CONSOLE;
		if (send(FD_BROKER, &what, 1, MSG_DONTWAIT | MSG_NOSIGNAL) != 1)
			return;
		b->want = WANT_ANSWER;
		web->asking = true;
		web->asked = b;
	}
}

static void want_socket(struct bridge *b)
{
	b->want = WANT_SOCKET;
	ask_next(b->web);
}

static void on_retry(lws_sorted_usec_list_t *sul)
{
	want_socket(lws_container_of(sul, struct bridge, retry));
}

/* A machine that starts again has its console back in a moment, and the browser stays. A viewer of the display connects anew: it has to
 * begin from the first picture. */
static void machine_gone(struct bridge *b)
{
	b->machine = NULL;
	b->machine_paused = false;
	buf_truncate(&b->to_machine, 0);
	/* What it was waited for is gone with it. */
	if (b->ws_paused) {
		b->ws_paused = false;
		(void)lws_rx_flow_control(b->ws, 1);
	}
	if (b->display) {
		b->ending = true;
	} else {
		b->tell = told_gone;
		lws_sul_schedule(b->web->context, 0, &b->retry, on_retry, RETRY_US);
	}
	(void)lws_callback_on_writable(b->ws);
}

static void join(struct bridge *b, int fd /* owned */)
{
	lws_adopt_desc_t d = { .vh = b->web->vhost,
			       .type = LWS_ADOPT_RAW_FILE_DESC,
			       .fd = { .filefd = fd },
			       .vh_prot_name = "machine",
			       .opaque = b };

	b->machine = lws_adopt_descriptor_vhost_via_info(&d);
	if (!b->machine) {
		machine_gone(b);
		return;
	}
	if (!b->display)
		b->tell = told_joined;
	if (b->to_machine.len)
		(void)lws_callback_on_writable(b->machine);
	(void)lws_callback_on_writable(b->ws);
}

int bridge_on_broker(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
	struct web *web = web_of(wsi);
	struct bridge *b = web->asked;
	int fd = -EBADF;
	size_t n_fds = 0;
	ssize_t n;
	char answer;

	(void)user;
	(void)in;
	(void)len;
	if (reason == LWS_CALLBACK_RAW_CLOSE_FILE) {
		web->ended = true;
		lws_cancel_service(web->context);
	}
	if (reason != LWS_CALLBACK_RAW_RX_FILE)
		return 0;
	n = fdpass_recv(FD_BROKER, &answer, 1, &fd, 1, &n_fds);
	if (n == -EAGAIN || n == -EINTR)
		return 0;
	if (n <= 0)
		return -1;
	web->asking = false;
	web->asked = NULL;
	if (b)
		b->want = WANT_NOTHING;
	if (b && n_fds)
		join(b, fd);
	else if (b)
		machine_gone(b);
	else if (n_fds)
		safe_close(fd);
	ask_next(web);
	return 0;
}

/* ---- The machine's side ---- */

static int machine_read(struct bridge *b, struct lws *wsi)
{
	ssize_t n = recv(lws_get_socket_fd(wsi), buf_reserve(&b->to_client, CHUNK), CHUNK, MSG_DONTWAIT);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		return -1;
	if (n > 0)
		buf_commit(&b->to_client, (size_t)n);
	if (b->to_client.len >= TO_CLIENT_MAX && !b->machine_paused) {
		b->machine_paused = true;
		(void)lws_rx_flow_control(wsi, 0);
	}
	(void)lws_callback_on_writable(b->ws);
	return 0;
}

static int machine_write(struct bridge *b, struct lws *wsi)
{
	ssize_t n = 0;

	if (b->to_machine.len)
		n = send(lws_get_socket_fd(wsi), b->to_machine.p, b->to_machine.len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return -1;
	if (n > 0)
		buf_consume(&b->to_machine, (size_t)n);
	if (b->to_machine.len)
		(void)lws_callback_on_writable(wsi);
	if (b->ws_paused && b->to_machine.len < TO_MACHINE_MAX) {
		b->ws_paused = false;
		(void)lws_rx_flow_control(b->ws, 1);
	}
	return 0;
}

int bridge_on_machine(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
	struct bridge *b = lws_get_opaque_user_data(wsi);

	(void)user;
	(void)in;
	(void)len;
	if (!b)
		return reason == LWS_CALLBACK_RAW_RX_FILE ? -1 : 0;
	switch ((int)reason) {
	case LWS_CALLBACK_RAW_RX_FILE: return machine_read(b, wsi);
	case LWS_CALLBACK_RAW_WRITEABLE_FILE: return machine_write(b, wsi);
	case LWS_CALLBACK_RAW_CLOSE_FILE: machine_gone(b); return 0;
	default: return 0;
	}
}

/* ---- The browser's side ---- */

static void bridge_open(struct bridge_session *s, struct lws *wsi, bool display)
{
	struct web *web = web_of(wsi);
	struct bridge *b = xnew(struct bridge), **end = &web->bridges;

	*b = (struct bridge){ .web = web, .ws = wsi, .display = display };
	while (*end)
		end = &(*end)->next;
	*end = b;
	s->bridge = b;
	*(display ? &web->n_displays : &web->n_consoles) += 1;
	want_socket(b);
}

static void bridge_close(struct bridge_session *s)
{
	struct bridge *b = s->bridge;
	struct web *web;

	if (!b)
		return;
	web = b->web;
	s->bridge = NULL;
	for (struct bridge **p = &web->bridges; *p; p = &(*p)->next)
		if (*p == b) {
			*p = b->next;
			break;
		}
	*(b->display ? &web->n_displays : &web->n_consoles) -= 1;
	if (web->asked == b)
		web->asked = NULL;
	lws_sul_cancel(&b->retry);
	if (b->machine) {
		lws_set_opaque_user_data(b->machine, NULL);
		lws_set_timeout(b->machine, PENDING_TIMEOUT_KILLED_BY_PARENT, LWS_TO_KILL_ASYNC);
	}
	buf_done(&b->to_client);
	buf_done(&b->to_machine);
	free(b);
}

/* Faster than the machine takes it: the browser has to wait. While nobody is there what is typed is lost, as on a line that is not connected. */
static int client_read(struct bridge *b, struct lws *wsi, const void *in, size_t len)
{
	if (!b->machine && !b->display)
		return 0;
	if (b->to_machine.len + len > 4 * TO_MACHINE_MAX)
		return -1;
	buf_add(&b->to_machine, in, len);
	if (b->to_machine.len >= TO_MACHINE_MAX && !b->ws_paused) {
		b->ws_paused = true;
		(void)lws_rx_flow_control(wsi, 0);
	}
	if (b->machine)
		(void)lws_callback_on_writable(b->machine);
	return 0;
}

static int client_write(struct bridge *b, struct lws *wsi)
{
	unsigned char frame[LWS_PRE + FRAME_MAX];
	size_t n = b->to_client.len < FRAME_MAX ? b->to_client.len : FRAME_MAX;
	enum lws_write_protocol kind = LWS_WRITE_BINARY;

	/* What the machine said before it went comes before the news of it. */
	if (!n && b->tell) {
		kind = LWS_WRITE_TEXT;
		n = strlen(b->tell);
		memcpy(frame + LWS_PRE, b->tell, n);
		b->tell = NULL;
	} else if (n) {
		memcpy(frame + LWS_PRE, b->to_client.p, n);
		buf_consume(&b->to_client, n);
	}
	if (n && lws_write(wsi, frame + LWS_PRE, n, kind) < (int)n)
		return -1;
	if (b->machine_paused && b->to_client.len < TO_CLIENT_MAX / 2) {
		b->machine_paused = false;
		(void)lws_rx_flow_control(b->machine, 1);
	}
	if (b->to_client.len || b->tell)
		(void)lws_callback_on_writable(wsi);
	else if (b->ending)
		return -1;
	return 0;
}

int bridge_on_websocket(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
	struct bridge_session *s = user;

	switch ((int)reason) {
	case LWS_CALLBACK_ESTABLISHED:
		server_forget(web_of(wsi), wsi);
		bridge_open(s, wsi, lws_get_protocol(wsi)->id == PROTOCOL_DISPLAY);
		return 0;
	case LWS_CALLBACK_RECEIVE: return client_read(s->bridge, wsi, in, len);
	case LWS_CALLBACK_SERVER_WRITEABLE: return client_write(s->bridge, wsi);
	case LWS_CALLBACK_CLOSED: bridge_close(s); return 0;
	default: return 0;
	}
}
