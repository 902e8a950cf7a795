/* What the files of skerry-web share; nobody else includes this.
 *
 * skerry-web shows the machine's console, and its display where there is one, to a browser. It is started by the first process of the container
 * (docker/page.h), reads what strangers send, and therefore can do nothing itself: the socket that it accepts from is given to it, and each
 * connection to the machine is asked for over a second one, the broker's.
 *
 *   main.c     stages: token -> page read into memory -> descriptors, system calls confined -> service
 *   server.c   connections, requests for files, who may have a websocket
 *   bridge.c   a websocket joined to a socket of the machine's
 *   access.c   token, cookie, origin
 *   assets.c   the files
 *   confine.c  what this process may do */
#pragma once

#include <libwebsockets.h>

#include "base/buf.h"
#include "docker/web/access.h"
#include "docker/web/assets.h"

/* VISITORS_MAX: connections that have no websocket (yet); the oldest makes room for one more. The monitor takes 32 consoles, and others want one too. */
enum { VISITORS_MAX = 128, CONSOLES_MAX = 24, DISPLAYS_MAX = 8, FDS_MAX = 256 };
enum { FD_LISTEN = 3, FD_BROKER };

/* As the first protocol and so on, in this order. */
enum web_protocol {
	PROTOCOL_HTTP,
	PROTOCOL_CONSOLE,
	PROTOCOL_DISPLAY,
	PROTOCOL_LISTENER,
	PROTOCOL_BROKER,
	PROTOCOL_MACHINE
};

struct bridge;

struct web {
	struct access access;
	struct assets assets;
	bool display;
	bool ended;                         /* nobody is left to serve for */
	struct lws_context *context;        /* owned */
	struct lws_vhost *vhost;            /* the context's */
	struct lws *visitors[VISITORS_MAX]; /* oldest first */
	size_t n_visitors;
	struct bridge *bridges; /* owned by their websockets; newest last */
	unsigned n_consoles, n_displays;
	bool asking;          /* the broker owes an answer */
	struct bridge *asked; /* for whom; NULL = has gone since */
};

static inline struct web *web_of(struct lws *wsi)
{
	return lws_context_user(lws_get_context(wsi));
}

/* server.c: requests, and the socket that connections come from. */
int server_on_http(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len);
int server_on_listener(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len);
size_t server_session_size(void);
void server_forget(struct web *web, const struct lws *wsi);

/* bridge.c: websockets, the broker, and sockets of the machine. */
int bridge_on_websocket(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len);
int bridge_on_broker(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len);
int bridge_on_machine(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len);
size_t bridge_session_size(void);
