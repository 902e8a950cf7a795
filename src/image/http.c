/* A transfer is one easy handle in the one multi handle. Redirects are not libcurl's: a transfer that ends with one is set up again for the new
 * address, with credentials only where scheme, host and port are those of the first. */
#include "image/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <strings.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/parse.h"
#include "image/address.h"
#include "image/retry.h"

enum {
	REDIRECTS_MAX = 10,
	STALL_S = 60,
	CONNECT_TIMEOUT_S = 30,
	STALL_BYTES_PER_S = 64,
	HEADERS_MAX = 256 << 10,
	HEADER_VALUE_MAX = 8 << 10,
	ERROR_BODY_MAX = 16 << 10,
	CONNECTIONS_MAX = 8,
};

struct http {
	CURLM *multi;               /* owned */
	struct strv plain_hosts;    /* owned */
	char *ca_path, *certs_path; /* owned; may be NULL */
	unsigned stall_s;
	bool has_answered; /* somebody: a connection that fails afterwards may come back */
};

struct http_transfer {
	struct http *http;          /* borrowed */
	struct http_request req;    /* what it points at is borrowed */
	char *url;                  /* owned; changes with a redirect */
	CURL *easy;                 /* owned */
	struct curl_slist *headers; /* owned */
	struct http_answer answer;
	struct error error; /* of a callback of ours */
	char text[CURL_ERROR_SIZE];
	CURLcode code;
	unsigned redirects;
	size_t header_bytes;
	uint64_t sent;
	bool began, ended, body_cut;
};

void http_answer_done(struct http_answer *a)
{
	free(a->content_type);
	free(a->location);
	free(a->digest);
	free(a->etag);
	free(a->url);
	challenge_done(&a->challenge);
	buf_done(&a->body);
	*a = (struct http_answer){};
}

static void answer_reset(struct http_answer *a)
{
	http_answer_done(a);
	a->retry_after_ns = a->length = a->range_start = UINT64_MAX;
}

/* ---- where it may go ---- */

bool http_is_plain(const struct http *h, const char *host)
{
	for (size_t i = 0; i < h->plain_hosts.n; i++)
		if (strcasecmp(h->plain_hosts.items[i], host) == 0)
			return true;
	return false;
}

static int check_url(const struct http *h, const char *url, struct error *err)
{
	_cleanup_free_ char *host = address_host(url);

	if (!host)
		return error_set(err, EBADMSG, "the registry gave an address that is none");
	if (address_is_tls(url))
		return 0;
	if (strncasecmp(url, "http://", 7) != 0)
		return error_set(err, EBADMSG, "%s: neither https nor http", host);
	if (http_is_plain(h, host))
		return 0;
	error_set_kind(err, ERROR_DENIED, EPERM, "%s: an address without TLS", host);
	return error_hint(err, "if that is meant to be: --plain-http %s", host);
}

/* ---- what libcurl calls ---- */

static bool header_is(const char *line, size_t n, const char *name, char **ret_value)
{
	size_t len = strlen(name);

	if (n <= len || line[len] != ':' || strncasecmp(line, name, len) != 0)
		return false;
	line += len + 1;
	n -= len + 1;
	while (n && (*line == ' ' || *line == '\t')) {
		line++;
		n--;
	}
	while (n && strchr(" \t\r\n", line[n - 1]))
		n--;
	*ret_value = n <= HEADER_VALUE_MAX ? xstrndup(line, n) : xstrdup("");
	return true;
}

static void replace(char **slot, char **value)
{
	free(*slot);
	*slot = TAKE_PTR(*value);
}

/* "bytes 100-199/200" */
static uint64_t range_start(const char *value)
{
	const char *rest = after_prefix(value, "bytes ");
	_cleanup_free_ char *first = rest ? xstrndup(rest, strspn(rest, "0123456789")) : NULL;
	uint64_t start;

	return first && parse_u64(first, 0, INT64_MAX, &start) == 0 ? start : UINT64_MAX;
}

static size_t on_header(char *line, size_t size, size_t n, void *data)
{
	struct http_transfer *t = data;
	struct http_answer *a = &t->answer;
	_cleanup_free_ char *value = NULL;
	uint64_t length;

	(void)size;
	t->header_bytes += n;
	if (t->header_bytes > HEADERS_MAX)
		return 0;
	/* A new status line: what came before belongs to an interim answer, or to a proxy's. */
	if (n > 5 && memcmp(line, "HTTP/", 5) == 0)
		answer_reset(a);
	else if (header_is(line, n, "WWW-Authenticate", &value))
		challenge_add(value, &a->challenge);
	else if (header_is(line, n, "Location", &value))
		replace(&a->location, &value);
	else if (header_is(line, n, "Content-Type", &value))
		replace(&a->content_type, &value);
	else if (header_is(line, n, "Docker-Content-Digest", &value))
		replace(&a->digest, &value);
	else if (header_is(line, n, "ETag", &value) && value[0] == '"')
		replace(&a->etag, &value);
	else if (header_is(line, n, "Retry-After", &value))
		a->retry_after_ns = retry_after_parse(value, clock_realtime_ns());
	else if (header_is(line, n, "Content-Range", &value))
		a->range_start = range_start(value);
	else if (header_is(line, n, "Content-Length", &value) && parse_u64(value, 0, INT64_MAX, &length) == 0)
		a->length = length;
	return n;
}

static bool is_success(long status)
{
	return status >= 200 && status < 300;
}

/* The first byte of the body, or the end of an answer without one. */
static int begin_body(struct http_transfer *t)
{
	if (t->began)
		return 0;
	t->began = true;
	(void)curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &t->answer.status);
	if (!is_success(t->answer.status) || !t->req.on_answer)
		return 0;
	return t->req.on_answer(&t->answer, t->req.data, &t->error);
}

static size_t on_body(char *p, size_t size, size_t n, void *data)
{
	struct http_transfer *t = data;
	struct buf *kept = &t->answer.body;
	bool success;

	(void)size;
	if (begin_body(t) < 0)
		return 0;
	success = is_success(t->answer.status);
	if (success && t->req.on_data)
		return t->req.on_data(p, n, t->req.data, &t->error) < 0 ? 0 : n;
	if (kept->len + n > (success ? t->req.limit : (size_t)ERROR_BODY_MAX)) {
		_cleanup_free_ char *host = address_host(t->url);

		/* What goes with an error is for people: its beginning will do. */
		t->body_cut = !success;
		if (success)
			error_set_kind(&t->error, ERROR_DATA, EFBIG, "%s: the answer is longer than %zu bytes", host,
				       t->req.limit);
		return 0;
	}
	buf_add(kept, p, n);
	return n;
}

static size_t on_read(char *p, size_t size, size_t n, void *data)
{
	struct http_transfer *t = data;
	uint64_t left = t->req.body_bytes - t->sent;
	ssize_t got;

	n *= size;
	if (n > left)
		n = (size_t)left;
	if (!n)
		return 0;
	if (t->req.body) {
		memcpy(p, (const char *)t->req.body + t->sent, n);
		got = (ssize_t)n;
	} else {
		got = pread(t->req.body_fd, p, n, (off_t)t->sent);
	}
	if (got <= 0) {
		error_set_errno(&t->error, got < 0 ? errno : ENODATA, "cannot read what is to be sent");
		return CURL_READFUNC_ABORT;
	}
	t->sent += (uint64_t)got;
	if (t->req.on_sent)
		t->req.on_sent(t->sent, t->req.data);
	return (size_t)got;
}

static int on_seek(void *data, curl_off_t offset, int origin)
{
	struct http_transfer *t = data;

	if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > t->req.body_bytes)
		return CURL_SEEKFUNC_FAIL;
	t->sent = (uint64_t)offset;
	return CURL_SEEKFUNC_OK;
}

/* ---- one transfer ---- */

static bool use_if_there(CURL *easy, CURLoption option, const char *directory, const char *host, const char *file)
{
	_cleanup_free_ char *path = xasprintf("%s/%s/%s", directory, host, file);

	if (access(path, R_OK) < 0)
		return false;
	(void)curl_easy_setopt(easy, option, path);
	return true;
}

/* Docker's convention: HOST:PORT/ca.crt, and client.cert with client.key for who must identify themselves. The authorities that the system
 * trusts stay trusted: libcurl's directory of them is another setting than its file. */
static void set_certificates(const struct http *h, CURL *easy, const char *host)
{
	const char *const directories[] = { h->certs_path, "/etc/docker/certs.d", "/etc/containers/certs.d" };
	const char *file = getenv("SSL_CERT_FILE"), *directory = getenv("SSL_CERT_DIR");

	if (file && *file)
		(void)curl_easy_setopt(easy, CURLOPT_CAINFO, file);
	if (directory && *directory)
		(void)curl_easy_setopt(easy, CURLOPT_CAPATH, directory);
	for (size_t i = 0; i < ARRAY_SIZE(directories) && !strchr(host, '/') && host[0] != '.'; i++) {
		bool found = directories[i] && use_if_there(easy, CURLOPT_CAINFO, directories[i], host, "ca.crt");

		if (directories[i] && use_if_there(easy, CURLOPT_SSLKEY, directories[i], host, "client.key"))
			found |= use_if_there(easy, CURLOPT_SSLCERT, directories[i], host, "client.cert");
		if (found)
			break;
	}
	if (h->ca_path)
		(void)curl_easy_setopt(easy, CURLOPT_CAINFO, h->ca_path);
}

static void set_header(struct http_transfer *t, const char *line)
{
	struct curl_slist *more = curl_slist_append(t->headers, line);

	if (more)
		t->headers = more;
}

static void set_headers(struct http_transfer *t, bool with_credentials)
{
	const struct http_request *req = &t->req;

	curl_slist_free_all(TAKE_PTR(t->headers));
	/* A registry may take a while to say yes; libcurl would wait for it before each upload. */
	set_header(t, "Expect:");
	for (size_t i = 0; req->headers && i < req->headers->n; i++)
		set_header(t, req->headers->items[i]);
	if (req->offset) {
		_cleanup_free_ char *range = xasprintf("Range: bytes=%" PRIu64 "-", req->offset);

		set_header(t, range);
	}
	if (with_credentials && req->bearer) {
		_cleanup_free_ char *line = xasprintf("Authorization: Bearer %s", req->bearer);

		set_header(t, line);
	}
	if (with_credentials && req->user) {
		(void)curl_easy_setopt(t->easy, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
		(void)curl_easy_setopt(t->easy, CURLOPT_USERNAME, req->user);
		(void)curl_easy_setopt(t->easy, CURLOPT_PASSWORD, req->secret ? req->secret : "");
	}
	(void)curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers);
}

static void set_method(struct http_transfer *t)
{
	const struct http_request *req = &t->req;
	CURL *e = t->easy;

	switch (req->method) {
	case HTTP_GET: (void)curl_easy_setopt(e, CURLOPT_HTTPGET, 1L); return;
	case HTTP_HEAD: (void)curl_easy_setopt(e, CURLOPT_NOBODY, 1L); return;
	case HTTP_POST:
		(void)curl_easy_setopt(e, CURLOPT_POST, 1L);
		(void)curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)req->body_bytes);
		(void)curl_easy_setopt(e, CURLOPT_POSTFIELDS, req->body ? req->body : "");
		return;
	case HTTP_PUT:
		(void)curl_easy_setopt(e, CURLOPT_UPLOAD, 1L);
		(void)curl_easy_setopt(e, CURLOPT_INFILESIZE_LARGE, (curl_off_t)req->body_bytes);
		(void)curl_easy_setopt(e, CURLOPT_READFUNCTION, on_read);
		(void)curl_easy_setopt(e, CURLOPT_READDATA, t);
		(void)curl_easy_setopt(e, CURLOPT_SEEKFUNCTION, on_seek);
		(void)curl_easy_setopt(e, CURLOPT_SEEKDATA, t);
		return;
	}
}

/* Sets the handle up for the transfer's address, from nothing. */
static int set_up(struct http_transfer *t, struct error *err)
{
	_cleanup_free_ char *host = address_host(t->url);
	CURL *e = t->easy;
	int r = check_url(t->http, t->url, err);

	if (r < 0)
		return r;
	curl_easy_reset(e);
	answer_reset(&t->answer);
	t->began = t->body_cut = false;
	t->header_bytes = 0;
	t->sent = 0;
	t->text[0] = '\0';
	(void)curl_easy_setopt(e, CURLOPT_URL, t->url);
	(void)curl_easy_setopt(e, CURLOPT_PRIVATE, t);
	(void)curl_easy_setopt(e, CURLOPT_ERRORBUFFER, t->text);
	(void)curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "https,http");
	(void)curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
	(void)curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(e, CURLOPT_USERAGENT, "skerry/" SKERRY_VERSION);
	(void)curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_TIMEOUT_S);
	(void)curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, (long)STALL_BYTES_PER_S);
	(void)curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, (long)t->http->stall_s);
	(void)curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 1L);
	(void)curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 2L);
	(void)curl_easy_setopt(e, CURLOPT_BUFFERSIZE, 256L << 10);
	(void)curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
	(void)curl_easy_setopt(e, CURLOPT_HEADERDATA, t);
	(void)curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
	(void)curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
	set_certificates(t->http, e, host);
	set_method(t);
	set_headers(t, address_same_origin(t->url, t->req.url));
	return 0;
}

static struct http_transfer *transfer_free(struct http_transfer *t)
{
	if (!t)
		return NULL;
	if (t->easy) {
		(void)curl_multi_remove_handle(t->http->multi, t->easy);
		curl_easy_cleanup(t->easy);
	}
	curl_slist_free_all(t->headers);
	http_answer_done(&t->answer);
	error_done(&t->error);
	free(t->url);
	free(t);
	return NULL;
}
DEFINE_CLEANUP(struct http_transfer *, transfer_free);

int http_begin(struct http *h, const struct http_request *req, struct http_transfer **ret, struct error *err)
{
	_cleanup_(transfer_freep) struct http_transfer *t = xnew(struct http_transfer);
	int r;

	t->http = h;
	t->req = *req;
	t->url = xstrdup(req->url);
	t->easy = curl_easy_init();
	if (!t->easy)
		return error_set(err, ENOMEM, "out of memory");
	r = set_up(t, err);
	if (r < 0)
		return r;
	if (curl_multi_add_handle(h->multi, t->easy) != CURLM_OK)
		return error_set(err, ENOMEM, "out of memory");
	*ret = TAKE_PTR(t);
	return 0;
}

static bool is_redirect(const struct http_transfer *t)
{
	long s = t->answer.status;

	return (s == 301 || s == 302 || s == 303 || s == 307 || s == 308) && t->answer.location &&
	       (t->req.method == HTTP_GET || t->req.method == HTTP_HEAD);
}

/* Returns true when it goes on elsewhere. */
static bool follow(struct http_transfer *t)
{
	_cleanup_free_ char *to = address_resolve(t->url, t->answer.location);

	if (!to || ++t->redirects > REDIRECTS_MAX) {
		_cleanup_free_ char *host = address_host(t->url);

		error_set(&t->error, ELOOP,
			  to ? "%s: more redirects than anybody follows" : "%s: a redirect to no address", host);
		return false;
	}
	free(t->url);
	t->url = TAKE_PTR(to);
	if (set_up(t, &t->error) < 0)
		return false;
	return curl_multi_add_handle(t->http->multi, t->easy) == CURLM_OK;
}

static void end(struct http_transfer *t, CURLcode code)
{
	_cleanup_free_ char *location = NULL;

	(void)curl_multi_remove_handle(t->http->multi, t->easy);
	t->code = code == CURLE_WRITE_ERROR && t->body_cut ? CURLE_OK : code;
	if (t->code == CURLE_OK && !t->error.num && begin_body(t) < 0)
		t->code = CURLE_WRITE_ERROR;
	if (t->code == CURLE_OK) {
		t->http->has_answered = true;
		if (is_redirect(t) && follow(t))
			return;
	}
	location = t->answer.location ? address_resolve(t->url, t->answer.location) : NULL;
	replace(&t->answer.location, &location);
	t->ended = true;
}

int http_pump(struct http *h, int timeout_ms, struct error *err)
{
	int running, left;
	CURLMcode code = curl_multi_perform(h->multi, &running);
	CURLMsg *m;
	bool any = false;

	/* What has ended is told before waiting for more. */
	for (int i = 0; i < 2 && code == CURLM_OK; i++) {
		while ((m = curl_multi_info_read(h->multi, &left))) {
			struct http_transfer *t = NULL;

			if (m->msg != CURLMSG_DONE)
				continue;
			any = true;
			(void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &t);
			end(t, m->data.result);
		}
		if (any || i)
			break;
		code = curl_multi_poll(h->multi, NULL, 0, timeout_ms, NULL);
		if (code == CURLM_OK)
			code = curl_multi_perform(h->multi, &running);
	}
	return code == CURLM_OK ? 0 : error_set(err, EIO, "libcurl: %s", curl_multi_strerror(code));
}

bool http_has_ended(const struct http_transfer *t)
{
	return t->ended;
}

static bool is_transient_code(const struct http *h, CURLcode code)
{
	static const CURLcode codes[] = { CURLE_RECV_ERROR,   CURLE_SEND_ERROR,         CURLE_GOT_NOTHING,
					  CURLE_PARTIAL_FILE, CURLE_OPERATION_TIMEDOUT, CURLE_HTTP2,
					  CURLE_HTTP2_STREAM, CURLE_UPLOAD_FAILED };

	/* Who is not there at all is a mistake rather than a break, unless they were there before. */
	if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_SSL_CONNECT_ERROR)
		return h->has_answered;
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
		if (codes[i] == code)
			return true;
	return false;
}

static int explain(const struct http_transfer *t, struct error *err)
{
	_cleanup_free_ char *host = address_host(t->url);
	const char *text = t->text[0] ? t->text : curl_easy_strerror(t->code);

	switch ((int)t->code) {
	case CURLE_PEER_FAILED_VERIFICATION:
		error_set_kind(err, ERROR_DENIED, EPERM, "%s: its certificate is not trusted: %s", host, text);
		return error_hint(err,
				  "trust its authority with --tls-ca FILE, or for good as "
				  "/etc/docker/certs.d/%s/ca.crt",
				  host);
	case CURLE_SSL_CONNECT_ERROR:
		error_set(err, EPROTO, "%s: no TLS connection: %s", host, text);
		return error_hint(err, "if it is meant to have no TLS: --plain-http %s", host);
	case CURLE_COULDNT_RESOLVE_HOST: return error_set(err, EHOSTUNREACH, "%s: no such host", host);
	case CURLE_COULDNT_RESOLVE_PROXY: return error_set(err, EHOSTUNREACH, "%s", text);
	case CURLE_OPERATION_TIMEDOUT: return error_set(err, ETIMEDOUT, "%s: no answer in time", host);
	default: return error_set(err, EIO, "%s: %s", host, text);
	}
}

int http_end(struct http_transfer *t, struct http_answer *ret, bool *ret_transient, struct error *err)
{
	_cleanup_(transfer_freep) _unused_ struct http_transfer *owned = t;
	bool transient = false;
	int r = 0;

	*ret = (struct http_answer){};
	if (!t->ended)
		r = error_set(err, ECANCELED, "given up");
	else if (t->error.num)
		r = error_move(err, &t->error);
	else if (t->code != CURLE_OK) {
		transient = is_transient_code(t->http, t->code);
		r = explain(t, err);
	} else {
		*ret = t->answer;
		ret->url = TAKE_PTR(t->url);
		t->answer = (struct http_answer){};
		transient = retry_is_transient(ret->status);
	}
	if (ret_transient)
		*ret_transient = transient;
	return r;
}

int http_exchange(struct http *h, const struct http_request *req, struct http_answer *ret, bool *ret_transient,
		  struct error *err)
{
	struct http_transfer *t = NULL;
	int r = http_begin(h, req, &t, err);

	*ret = (struct http_answer){};
	if (ret_transient)
		*ret_transient = false;
	if (r < 0)
		return r;
	while (r >= 0 && !http_has_ended(t))
		r = http_pump(h, 1000, err);
	return http_end(t, ret, ret_transient, r < 0 ? NULL : err);
}

int http_wait(struct http *h, uint64_t wait_ns, struct error *err)
{
	uint64_t deadline_ns = clock_monotonic_ns() + wait_ns;
	int left_ms, r = 0;

	while (r >= 0 && (left_ms = clock_poll_timeout(deadline_ns)) > 0)
		r = http_pump(h, left_ms, err);
	return r;
}

int http_insist(struct http *h, const struct http_request *req, struct http_answer *ret, struct error *err)
{
	struct retry retry = {};

	for (;;) {
		_cleanup_error_ struct error e = {};
		uint64_t wait_ns;
		bool transient;
		int r = http_exchange(h, req, ret, &transient, &e);

		if (!transient || !retry_again(&retry, r < 0 ? UINT64_MAX : ret->retry_after_ns, &wait_ns))
			return r < 0 ? error_move(err, &e) : 0;
		http_answer_done(ret);
		r = http_wait(h, wait_ns, err);
		if (r < 0)
			return r;
	}
}

/* ---- all of them ---- */

int http_new(const struct http_settings *s, struct http **ret, struct error *err)
{
	_cleanup_(http_freep) struct http *h = xnew(struct http);

	if (s->ca_path && access(s->ca_path, R_OK) < 0)
		return error_set_kind(err, ERROR_USAGE, errno, "cannot read '%s': %s", s->ca_path, strerror(errno));
	if (s->plain_hosts)
		strv_copy(&h->plain_hosts, s->plain_hosts);
	h->ca_path = xstrdup(s->ca_path);
	h->certs_path = xstrdup(s->certs_path);
	h->stall_s = s->stall_s ? s->stall_s : STALL_S;
	h->multi = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? curl_multi_init() : NULL;
	if (!h->multi)
		return error_set(err, ENOMEM, "libcurl cannot be started");
	(void)curl_multi_setopt(h->multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long)CONNECTIONS_MAX);
	*ret = TAKE_PTR(h);
	return 0;
}

struct http *http_free(struct http *h)
{
	if (!h)
		return NULL;
	if (h->multi)
		(void)curl_multi_cleanup(h->multi);
	strv_done(&h->plain_hosts);
	free(h->ca_path);
	free(h->certs_path);
	free(h);
	return NULL;
}
