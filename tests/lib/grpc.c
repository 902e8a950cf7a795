#include "grpc.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "base/parse.h"
#include "wire/message.h"

enum { PREFIX = 5, ANSWER_MAX = 16 << 20 };

struct call {
	struct buf body;
	int status;
	struct buf text;
};

void grpc_answer_done(struct grpc_answer *a)
{
	message_free(a->m);
	free(a->text);
	*a = (struct grpc_answer){};
}

static size_t on_body(char *p, size_t size, size_t n, void *data)
{
	struct call *c = data;

	if (c->body.len + size * n > ANSWER_MAX)
		return 0;
	buf_add(&c->body, p, size * n);
	return size * n;
}

static void percent_decode(const char *s, size_t n, struct buf *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		const char *high = i + 2 < n ? strchr(digits, s[i + 1] | 0x20) : NULL,
			   *low = i + 2 < n ? strchr(digits, s[i + 2] | 0x20) : NULL;

		if (s[i] == '%' && high && low) {
			buf_add(out, &(char){ (char)((high - digits) << 4 | (low - digits)) }, 1);
			i += 2;
		} else {
			buf_add(out, &s[i], 1);
		}
	}
}

/* Trailers come as headers do; an answer without a message has them in their place. */
static size_t on_header(char *p, size_t size, size_t n, void *data)
{
	struct call *c = data;
	size_t len = size * n, name = 0;
	uint64_t v;

	while (len && (p[len - 1] == '\r' || p[len - 1] == '\n'))
		len--;
	while (name < len && p[name] != ':')
		name++;
	if (name == 11 && strncasecmp(p, "grpc-status", name) == 0) {
		_cleanup_free_ char *value = xstrndup(p + name + 1, len - name - 1);

		if (parse_u64(value + strspn(value, " "), 0, 255, &v) >= 0)
			c->status = (int)v;
	} else if (name == 12 && strncasecmp(p, "grpc-message", name) == 0) {
		const char *value = p + name + 1, *end = p + len;

		while (value < end && *value == ' ')
			value++;
		buf_truncate(&c->text, 0);
		percent_decode(value, (size_t)(end - value), &c->text);
	}
	return size * n;
}

static void pack(const struct ProtobufCMessage *m, struct buf *out)
{
	uint8_t prefix[PREFIX] = {};
	size_t n;

	buf_add(out, prefix, sizeof(prefix));
	message_pack(out, m);
	n = out->len - PREFIX;
	for (int i = 0; i < 4; i++)
		out->p[1 + i] = (char)(n >> (24 - 8 * i));
}

/* One message, not compressed, and nothing after it. */
static struct ProtobufCMessage *unpack(const struct buf *body, const struct ProtobufCMessageDescriptor *type)
{
	const uint8_t *p = (const uint8_t *)body->p;
	size_t n;

	if (body->len < PREFIX || p[0])
		return NULL;
	n = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
	return n == body->len - PREFIX ? message_unpack(type, p + PREFIX, n) : NULL;
}

static CURLcode perform(const char *path, const char *method, const struct buf *request, unsigned timeout_s,
			struct call *c)
{
	_cleanup_free_ char *url = xasprintf("http://localhost%s", method);
	struct curl_slist *headers = NULL;
	CURL *curl = curl_easy_init();
	CURLcode r;

	if (!curl)
		return CURLE_FAILED_INIT;
	headers = curl_slist_append(headers, "content-type: application/grpc");
	headers = curl_slist_append(headers, "te: trailers");
	(void)curl_easy_setopt(curl, CURLOPT_URL, url);
	(void)curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, path);
	(void)curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE);
	(void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(curl, CURLOPT_PROXY, "");
	(void)curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)timeout_s);
	(void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	(void)curl_easy_setopt(curl, CURLOPT_POST, 1L);
	(void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->p);
	(void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)request->len);
	(void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
	(void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, c);
	(void)curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
	(void)curl_easy_setopt(curl, CURLOPT_HEADERDATA, c);
	r = curl_easy_perform(curl);
	curl_slist_free_all(headers);
	curl_easy_cleanup(curl);
	return r;
}

struct grpc_answer grpc_call(const char *path, const char *method, const struct ProtobufCMessage *request,
			     const struct ProtobufCMessageDescriptor *type, unsigned timeout_s)
{
	_cleanup_buf_ struct buf packed = {};
	struct call c = { .status = -1 };
	struct grpc_answer a = {};
	CURLcode r;

	pack(request, &packed);
	r = perform(path, method, &packed, timeout_s, &c);
	a.status = r == CURLE_OK ? c.status : -1;
	if (a.status == 0 && !(a.m = unpack(&c.body, type)))
		a.status = -1;
	if (r != CURLE_OK)
		a.text = xstrdup(curl_easy_strerror(r));
	else if (c.text.len)
		a.text = xstrdup(c.text.p);
	else
		a.text = xstrdup(a.status < 0 ? "no answer of gRPC" : "");
	buf_done(&c.body);
	buf_done(&c.text);
	return a;
}
