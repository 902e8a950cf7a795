#include "image/push.h"

#include <errno.h>
#include <stdio.h>

#include "base/fault.h"
#include "base/parse.h"
#include "image/address.h"
#include "image/blob.h"
#include "image/reference.h"
#include "image/retry.h"

enum { LABEL_DIGITS = 12, ANSWER_MAX = 64 << 10, CHALLENGES_MAX = 2 };

struct push {
	struct registry *registry;    /* borrowed */
	const struct store *store;    /* borrowed */
	const char *from;             /* borrowed; may be NULL */
	struct progress_board *board; /* borrowed */
	size_t row;
};

static void on_sent(uint64_t bytes, void *data)
{
	struct push *p = data;

	progress_board_update(p->board, p->row, bytes);
}

/* 1 when the registry has it. */
static int is_there(struct push *p, const struct oci_descriptor *d, struct error *err)
{
	_cleanup_free_ char *url = registry_url(p->registry, "blobs/%s", d->digest);
	_cleanup_answer_ struct http_answer a = {};
	struct http_request req = { .method = HTTP_HEAD, .url = url, .body_fd = -1 };
	int r = registry_exchange(p->registry, &req, &a, err);

	if (r < 0)
		return r;
	if (a.status == 404)
		return 0;
	return a.status == 200 ? 1 : registry_refuse(p->registry, &a, registry_noun(p->registry), err);
}

/* Opens an upload, or has the blob taken over from another repository: then 1. *ret_location is owned by the caller. */
static int begin(struct push *p, const struct oci_descriptor *d, bool mount, char **ret_location, struct error *err)
{
	_cleanup_free_ char *from = p->from && mount ? address_escape(p->from) : NULL,
			    *url = from ? registry_url(p->registry, "blobs/uploads/?mount=%s&from=%s", d->digest, from)
					: registry_url(p->registry, "blobs/uploads/");
	_cleanup_answer_ struct http_answer a = {};
	struct http_request req = { .method = HTTP_POST, .url = url, .body_fd = -1, .limit = ANSWER_MAX };
	int r = fault_point("push-begin");

	if (r < 0)
		return error_set_errno(err, r, "cannot begin");
	r = registry_exchange(p->registry, &req, &a, err);
	if (r < 0)
		return r;
	if (a.status == 201 && from)
		return 1;
	if (a.status != 202)
		return registry_refuse(p->registry, &a, registry_noun(p->registry), err);
	if (!a.location)
		return error_set(err, EBADMSG, "%s: the registry does not say where to send it",
				 registry_noun(p->registry));
	*ret_location = TAKE_PTR(a.location);
	return 0;
}

/* One try to send it. Returns 1 when another one may help. */
static int send_once(struct push *p, const struct oci_descriptor *d, int fd, const char *url, struct http_answer *a,
		     struct error *err)
{
	struct http_request req = {
		.method = HTTP_PUT,
		.url = url,
		.body_fd = fd,
		.body_bytes = d->size,
		.limit = ANSWER_MAX,
		.on_sent = on_sent,
		.data = p,
	};
	_cleanup_strv_ struct strv headers = {};
	bool transient = false;

	strv_add(&headers, "Content-Type: application/octet-stream");
	req.headers = &headers;
	for (int i = 0; i < CHALLENGES_MAX; i++) {
		unsigned known = registry_authorize(p->registry, &req);
		int r = http_exchange(registry_http(p->registry), &req, a, &transient, err);

		if (r < 0)
			return transient ? 1 : r;
		if (a->status != 401)
			break;
		/* The token has run out while all of it was sent. */
		r = registry_challenged(p->registry, a, known, err);
		if (r < 0)
			return r;
		http_answer_done(a);
	}
	if (a->status == 201 || a->status == 204)
		return 0;
	return transient ? 1 : registry_refuse(p->registry, a, registry_noun(p->registry), err);
}

static int check_digest(struct push *p, const struct http_answer *a, const char *digest, struct error *err)
{
	if (!a->digest || streq(a->digest, digest))
		return 0;
	return error_set(err, EBADMSG, "%s: the registry says that it received %.80s, not %s",
			 registry_noun(p->registry), a->digest, digest);
}

/* An upload that broke off is not gone on with: a new one is begun. */
static int upload(struct push *p, const struct oci_descriptor *d, int fd, struct error *err)
{
	struct retry retry = {};

	for (;;) {
		_cleanup_free_ char *location = NULL, *url = NULL;
		_cleanup_answer_ struct http_answer a = {};
		_cleanup_error_ struct error e = {};
		uint64_t wait_ns;
		int r = begin(p, d, retry.failures == 0, &location, err);

		if (r != 0) {
			if (r > 0)
				progress_board_end(p->board, p->row, "taken over from another repository");
			return r < 0 ? r : 0;
		}
		url = xasprintf("%s%cdigest=%s", location, strchr(location, '?') ? '&' : '?', d->digest);
		r = send_once(p, d, fd, url, &a, &e);
		if (r == 0) {
			char size[16], text[64];

			(void)snprintf(text, sizeof(text), "sent, %s", format_bytes(d->size, size, sizeof(size)));
			progress_board_end(p->board, p->row, text);
			return check_digest(p, &a, d->digest, err);
		}
		if (r < 0 || !retry_again(&retry, e.num ? UINT64_MAX : a.retry_after_ns, &wait_ns))
			return e.num ? error_move(err, &e)
				     : registry_refuse(p->registry, &a, registry_noun(p->registry), err);
		progress_board_say(p->board, p->row, "broken off, trying again");
		r = http_wait(registry_http(p->registry), wait_ns, err);
		if (r < 0)
			return r;
	}
}

static int push_blob(struct push *p, const struct oci_descriptor *d, struct error *err)
{
	const char *hex = digest_hex(d->digest);
	char label[LABEL_DIGITS + 1];
	_cleanup_close_ int fd = -EBADF;
	uint64_t size = 0;
	int r;

	(void)snprintf(label, sizeof(label), "%s", hex ? hex : "?");
	p->row = progress_board_add(p->board, label, d->size);
	r = is_there(p, d, err);
	if (r != 0) {
		if (r > 0)
			progress_board_end(p->board, p->row, "already there");
		return r < 0 ? r : 0;
	}
	fd = blob_open(p->store, d->digest, &size, err);
	if (fd < 0)
		return fd;
	if (size != d->size)
		return error_set(err, EBADMSG, "blob %s: not as long as its manifest says", d->digest);
	return upload(p, d, fd, err);
}

static int push_manifest(struct push *p, const char *media_type, const char *digest, const struct buf *text,
			 const char *tag, struct error *err)
{
	_cleanup_free_ char *url = registry_url(p->registry, "manifests/%s", tag);
	_cleanup_answer_ struct http_answer a = {};
	_cleanup_strv_ struct strv headers = {};
	struct http_request req = {
		.method = HTTP_PUT,
		.url = url,
		.headers = &headers,
		.body = text->p,
		.body_bytes = text->len,
		.body_fd = -1,
		.limit = ANSWER_MAX,
	};
	int r = fault_point("push-manifest");

	if (r < 0)
		return error_set_errno(err, r, "cannot send the manifest");
	strv_addf(&headers, "Content-Type: %s", media_type);
	r = registry_exchange(p->registry, &req, &a, err);
	if (r < 0)
		return r;
	if (a.status != 201 && a.status != 200)
		return registry_refuse(p->registry, &a, registry_noun(p->registry), err);
	return check_digest(p, &a, digest, err);
}

static bool came_before(const struct oci_manifest *m, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (streq(m->layers[k].digest, m->layers[i].digest))
			return true;
	return streq(m->config.digest, m->layers[i].digest);
}

int push_image(struct registry *r, const struct store *s, const struct oci_descriptor *manifest, const char *tag,
	       const char *from, struct progress_board *board, struct error *err)
{
	struct push p = { .registry = r, .store = s, .from = from, .board = board };
	_cleanup_(oci_manifest_done) struct oci_manifest m = {};
	_cleanup_buf_ struct buf text = {};
	int n = blob_read(s, manifest->digest, OCI_DOCUMENT_MAX, &text, err);

	if (n >= 0)
		n = oci_manifest_parse(text.p ? text.p : "", text.len, manifest->digest, &m, err);
	for (size_t i = 0; n >= 0 && i < m.n_layers; i++)
		if (!came_before(&m, i))
			n = push_blob(&p, &m.layers[i], err);
	if (n >= 0)
		n = push_blob(&p, &m.config, err);
	return n < 0 ? n : push_manifest(&p, m.media_type, manifest->digest, &text, tag, err);
}
