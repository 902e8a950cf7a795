#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "docker/web/web.h"

/* Seconds that a file may take: a phone far away is slow. */
enum { SEND_S = 60, ACCEPTS = 16, CHUNK = 16 << 10, VALUE_MAX = 512 };

/* What a visit is sent. */
struct visit {
	const struct asset *asset;
	size_t sent;
};

size_t server_session_size(void)
{
	return sizeof(struct visit);
}

/* ---- Who is there ---- */

void server_forget(struct web *web, const struct lws *wsi)
{
	for (size_t i = 0; i < web->n_visitors; i++)
		if (web->visitors[i] == wsi) {
			memmove(web->visitors + i, web->visitors + i + 1,
				(web->n_visitors - i - 1) * sizeof(web->visitors[0]));
			web->n_visitors--;
			return;
		}
}

static void welcome(struct web *web, int fd /* owned */)
{
	static const int on = 1;
	struct lws *wsi;

	/* Who opens connections and says nothing does not keep others out. */
	if (web->n_visitors >= VISITORS_MAX) {
		wsi = web->visitors[0];
		server_forget(web, wsi);
		lws_set_timeout(wsi, PENDING_TIMEOUT_KILLED_BY_PARENT, LWS_TO_KILL_SYNC);
	}
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	wsi = lws_adopt_socket_vhost(web->vhost, fd);
	if (wsi)
		web->visitors[web->n_visitors++] = wsi;
}

int server_on_listener(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
	struct web *web = web_of(wsi);

	(void)user;
	(void)in;
	(void)len;
	if (reason != LWS_CALLBACK_RAW_RX_FILE)
		return 0;
	for (unsigned i = 0; i < ACCEPTS; i++) {
		int fd = accept4(FD_LISTEN, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0)
			break;
		welcome(web, fd);
	}
	return 0;
}

/* ---- Who may ---- */

enum verdict { VERDICT_YES, VERDICT_YES_BY_TOKEN, VERDICT_WRONG_TOKEN, VERDICT_NOTHING_SHOWN };

/* A header that is longer than any of ours is none. */
static bool header(struct lws *wsi, enum lws_token_indexes token, char value[VALUE_MAX])
{
	int n = lws_hdr_copy(wsi, value, VALUE_MAX, token);

	if (n <= 0)
		*value = '\0';
	return n > 0;
}

static enum verdict judge(struct lws *wsi)
{
	const struct access *a = &web_of(wsi)->access;
	char value[VALUE_MAX], cookies[4 * VALUE_MAX];
	int n;

	for (int i = 0; (n = lws_hdr_copy_fragment(wsi, value, sizeof(value), WSI_TOKEN_HTTP_URI_ARGS, i)) != -1; i++) {
		/* -2: too long for any of ours. */
		if (n < 6 || strncmp(value, "token=", 6) != 0)
			continue;
		return access_token_fits(a, value + 6) ? VERDICT_YES_BY_TOKEN : VERDICT_WRONG_TOKEN;
	}
	/* Other programs of the same host leave theirs too. */
	n = lws_hdr_copy(wsi, cookies, sizeof(cookies), WSI_TOKEN_HTTP_COOKIE);
	return n > 0 && access_cookie_fits(a, cookies) ? VERDICT_YES : VERDICT_NOTHING_SHOWN;
}

/* ---- Answers ---- */

static int add(struct lws *wsi, const char *name, const char *value, unsigned char **p, unsigned char *end)
{
	return lws_add_http_header_by_name(wsi, (const unsigned char *)name, (const unsigned char *)value,
					   (int)strlen(value), p, end);
}

/* Scripts and styles are files of ours and nothing else; noVNC draws its pointer from data. */
static int begin(struct lws *wsi, unsigned status, const char *type, size_t n, bool cookie, const char *cache)
{
	static const char *const always[][2] = {
		{ "content-security-policy:", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' "
					      "data: blob:; connect-src 'self'; "
					      "form-action 'self'; base-uri 'none'; frame-ancestors 'none'" },
		{ "x-content-type-options:", "nosniff" },
		{ "x-frame-options:", "DENY" },
		{ "referrer-policy:", "no-referrer" },
		{ "cross-origin-opener-policy:", "same-origin" },
		{ "cross-origin-resource-policy:", "same-origin" },
	};
	unsigned char buf[LWS_PRE + 2048], *start = buf + LWS_PRE, *p = start, *end = buf + sizeof(buf) - 1;
	const struct access *a = &web_of(wsi)->access;
	char set[160];

	if (lws_add_http_common_headers(wsi, status, type, (lws_filepos_t)n, &p, end) ||
	    add(wsi, "cache-control:", cache, &p, end))
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(always); i++)
		if (add(wsi, always[i][0], always[i][1], &p, end))
			return -1;
	if (cookie) {
		(void)snprintf(set, sizeof(set), "%s=%s; Path=/; HttpOnly; SameSite=Strict", a->name, a->cookie);
		if (add(wsi, "set-cookie:", set, &p, end))
			return -1;
	}
	return lws_finalize_write_http_header(wsi, start, &p, end) ? -1 : 0;
}

/* Something short, whole; the connection ends with it. */
static int say(struct lws *wsi, unsigned status, const char *type, const char *text)
{
	unsigned char buf[LWS_PRE + 1024];
	size_t n = strlen(text);

	if (n > sizeof(buf) - LWS_PRE || begin(wsi, status, type, n, false, "no-store") < 0)
		return -1;
	memcpy(buf + LWS_PRE, text, n);
	if (lws_write(wsi, buf + LWS_PRE, n, LWS_WRITE_HTTP_FINAL) < (int)n)
		return -1;
	return lws_http_transaction_completed(wsi) ? -1 : 0;
}

#define PLAIN "text/plain; charset=utf-8"

/* For people: what is missing, and where it is to be had. */
static int turn_away(struct lws *wsi, bool wrong)
{
	static const char begin_of_page[] =
		"<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" "
		"content=\"width=device-width\"><title>Token wanted</title><h1>";
	static const char end_of_page[] =
		"</h1><p>The console of this machine opens with its token. The address with it is in the container's "
		"log: "
		"<code>docker logs CONTAINER 2&gt;&amp;1 | grep token</code></p><form method=\"get\" "
		"action=\"/\"><input "
		"name=\"token\" autocomplete=\"off\" aria-label=\"Token\"> <button>Open</button></form></html>\n";
	char text[1024];

	(void)snprintf(text, sizeof(text), "%s%s%s", begin_of_page, wrong ? "This token is wrong" : "A token is wanted",
		       end_of_page);
	return say(wsi, wrong ? HTTP_STATUS_FORBIDDEN : HTTP_STATUS_UNAUTHORIZED, "text/html; charset=utf-8", text);
}

static int send_more(struct lws *wsi, struct visit *v)
{
	unsigned char buf[LWS_PRE + CHUNK];
	size_t left, n;

	if (!v || !v->asset)
		return 0;
	left = v->asset->n - v->sent;
	n = left < CHUNK ? left : CHUNK;
	if (n)
		memcpy(buf + LWS_PRE, v->asset->p + v->sent, n);
	if (lws_write(wsi, buf + LWS_PRE, n, n == left ? LWS_WRITE_HTTP_FINAL : LWS_WRITE_HTTP) < (int)n)
		return -1;
	v->sent += n;
	if (n < left) {
		(void)lws_callback_on_writable(wsi);
		return 0;
	}
	v->asset = NULL;
	return lws_http_transaction_completed(wsi) ? -1 : 0;
}

static int serve(struct lws *wsi, struct visit *v, const char *path)
{
	const struct web *web = web_of(wsi);
	enum verdict verdict = judge(wsi);
	const struct asset *asset;
	int n, method = lws_http_get_uri_and_method(wsi, &(char *){ NULL }, &n);

	if (method != LWSHUMETH_GET) {
		(void)say(wsi, HTTP_STATUS_METHOD_NOT_ALLOWED, PLAIN, "only GET\n");
		return -1;
	}
	if (verdict == VERDICT_WRONG_TOKEN || verdict == VERDICT_NOTHING_SHOWN)
		return turn_away(wsi, verdict == VERDICT_WRONG_TOKEN);
	if (strcmp(path, "/features") == 0)
		return say(wsi, HTTP_STATUS_OK, PLAIN, web->display ? "console display\n" : "console\n");
	asset = assets_find(&web->assets, strcmp(path, "/") == 0 ? "/index.html" : path);
	if (!asset)
		return say(wsi, HTTP_STATUS_NOT_FOUND, PLAIN, "there is no such file\n");
	/* What is in directories is others' and seldom changes. */
	if (begin(wsi, HTTP_STATUS_OK, asset->type, asset->n, verdict == VERDICT_YES_BY_TOKEN,
		  strchr(path + 1, '/') ? "private, max-age=3600" : "no-store") < 0)
		return -1;
	*v = (struct visit){ .asset = asset };
	lws_set_timeout(wsi, PENDING_TIMEOUT_HTTP_CONTENT, SEND_S);
	(void)lws_callback_on_writable(wsi);
	return 0;
}

/* ---- Websockets ---- */

static int refuse(struct lws *wsi, unsigned status, const char *why)
{
	return lws_return_http_status(wsi, status, why) ? -1 : 1;
}

/* 0: it may. A page of elsewhere cannot have it, even where the browser has our cookie; programs that are no browsers name no origin. */
static int confirm(struct lws *wsi, const char *upgrade)
{
	const struct web *web = web_of(wsi);
	char path[VALUE_MAX], protocol[VALUE_MAX], origin[VALUE_MAX], host[VALUE_MAX];
	bool display;

	if (strcasecmp(upgrade, "websocket") != 0)
		return -1;
	if (!header(wsi, WSI_TOKEN_GET_URI, path) || !header(wsi, WSI_TOKEN_PROTOCOL, protocol))
		return refuse(wsi, HTTP_STATUS_BAD_REQUEST, "no such protocol");
	switch (judge(wsi)) {
	case VERDICT_YES:
	case VERDICT_YES_BY_TOKEN: break;
	case VERDICT_WRONG_TOKEN: return refuse(wsi, HTTP_STATUS_FORBIDDEN, "wrong token");
	case VERDICT_NOTHING_SHOWN: return refuse(wsi, HTTP_STATUS_UNAUTHORIZED, "a token is wanted");
	}
	(void)header(wsi, WSI_TOKEN_HOST, host);
	if (lws_hdr_total_length(wsi, WSI_TOKEN_ORIGIN) > 0 &&
	    (!header(wsi, WSI_TOKEN_ORIGIN, origin) || !access_origin_fits(origin, host)))
		return refuse(wsi, HTTP_STATUS_FORBIDDEN, "wrong origin");
	display = strcmp(path, "/display") == 0;
	if ((!display && strcmp(path, "/console") != 0) || strcmp(protocol, path + 1) != 0 ||
	    (display && !web->display))
		return refuse(wsi, HTTP_STATUS_NOT_FOUND, "no such protocol");
	if (display ? web->n_displays >= DISPLAYS_MAX : web->n_consoles >= CONSOLES_MAX)
		return refuse(wsi, HTTP_STATUS_SERVICE_UNAVAILABLE, "too many are looking");
	return 0;
}

int server_on_http(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
	(void)len;
	switch ((int)reason) {
	case LWS_CALLBACK_HTTP: return serve(wsi, user, in);
	case LWS_CALLBACK_HTTP_WRITEABLE: return send_more(wsi, user);
	case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE: return confirm(wsi, in);
	case LWS_CALLBACK_WSI_DESTROY: server_forget(web_of(wsi), wsi); return 0;
	/* Bodies are for nobody here; and CONNECT makes a connection raw, and would leave it open. */
	case LWS_CALLBACK_HTTP_BODY:
	case LWS_CALLBACK_RAW_ADOPT:
	case LWS_CALLBACK_RAW_RX: return -1;
	default: return 0;
	}
}
