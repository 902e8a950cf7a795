/* The short questions before a blob is sent, whether it is there and where to send it, are asked one after the other, while those that are being
 * sent go on. */
#include "image/push.h"

#include <errno.h>
#include <stdio.h>

#include "base/fault.h"
#include "base/parse.h"
#include "image/address.h"
#include "image/blob.h"
#include "image/reference.h"
#include "image/transfers.h"

enum { LABEL_DIGITS = 12, ANSWER_MAX = 64 << 10, CHALLENGES_MAX = 2 };

struct push {
	struct registry *registry;    /* borrowed */
	const struct store *store;    /* borrowed */
	const char *from;             /* borrowed; NULL = there is nothing to take from, or we may not */
	struct progress_board *board; /* borrowed */
};

struct upload {
	struct transfer transfer;          /* first */
	struct push *push;                 /* borrowed */
	const struct oci_descriptor *blob; /* borrowed */
	size_t row;
	int fd;              /* owned; open once the registry has said that it has it not */
	char *url;           /* owned; where to send it, NULL = to be asked for */
	struct strv headers; /* owned */
	unsigned known, challenges;
};

static void on_sent(uint64_t bytes, void *data)
{
	struct upload *u = data;

	progress_board_update(u->push->board, u->row, bytes);
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

static int ask_for_place(struct registry *r, const char *url, struct http_answer *ret, struct error *err)
{
	struct http_request req = { .method = HTTP_POST, .url = url, .body_fd = -1, .limit = ANSWER_MAX };
	int k = fault_point("push-begin");

	return k < 0 ? error_set_errno(err, k, "cannot begin") : registry_exchange(r, &req, ret, err);
}

/* Has the blob taken over from the other repository: then 1. 0: it is to be sent, to *ret_location if that is set. We may be refused what is there,
 * and the registry may not know how: neither keeps us from sending it. */
static int take_over(struct push *p, const struct oci_descriptor *d, char **ret_location, struct error *err)
{
	_cleanup_free_ char *from = address_escape(p->from),
			    *url = registry_url(p->registry, "blobs/uploads/?mount=%s&from=%s", d->digest, from);
	_cleanup_answer_ struct http_answer a = {};
	_cleanup_error_ struct error e = {};
	int r = ask_for_place(registry_taking(p->registry), url, &a, &e);

	if (r < 0 && e.kind != ERROR_DENIED)
		return error_move(err, &e);
	if (r >= 0 && a.status == 201)
		return 1;
	if (r < 0 || a.status == 403)
		p->from = NULL;
	else if (a.status == 202)
		*ret_location = TAKE_PTR(a.location);
	return 0;
}

/* Opens an upload. *ret_location is owned by the caller. */
static int begin(struct push *p, char **ret_location, struct error *err)
{
	_cleanup_free_ char *url = registry_url(p->registry, "blobs/uploads/");
	_cleanup_answer_ struct http_answer a = {};
	int r = ask_for_place(p->registry, url, &a, err);

	if (r < 0)
		return r;
	if (a.status != 202)
		return registry_refuse(p->registry, &a, registry_noun(p->registry), err);
	if (!a.location)
		return error_set(err, EBADMSG, "%s: the registry does not say where to send it",
				 registry_noun(p->registry));
	*ret_location = TAKE_PTR(a.location);
	return 0;
}

static int check_digest(struct push *p, const struct http_answer *a, const char *digest, struct error *err)
{
	if (!a->digest || streq(a->digest, digest))
		return 0;
	return error_set(err, EBADMSG, "%s: the registry says that it received %.80s, not %s",
			 registry_noun(p->registry), a->digest, digest);
}

static void done(struct upload *u, const char *how)
{
	progress_board_end(u->push->board, u->row, how);
	u->fd = safe_close(u->fd);
	u->transfer.state = TRANSFER_DONE;
}

/* Returns 1 when the registry has it. */
static int open_unless_there(struct upload *u, struct error *err)
{
	struct push *p = u->push;
	uint64_t size = 0;
	int r = is_there(p, u->blob, err);

	if (r < 0)
		return r;
	if (r > 0) {
		done(u, "already there");
		return 1;
	}
	u->fd = blob_open(p->store, u->blob->digest, &size, err);
	if (u->fd < 0)
		return u->fd;
	if (size != u->blob->size)
		return error_set(err, EBADMSG, "blob %s: not as long as its manifest says", u->blob->digest);
	return 0;
}

/* Returns 1 when it need not be sent. */
static int find_place(struct upload *u, struct error *err)
{
	_cleanup_free_ char *location = NULL;
	struct push *p = u->push;
	int r = p->from && u->transfer.retry.failures == 0 ? take_over(p, u->blob, &location, err) : 0;

	if (r == 0 && !location)
		r = begin(p, &location, err);
	if (r > 0)
		done(u, "taken over from another repository");
	if (r == 0)
		u->url = xasprintf("%s%cdigest=%s", location, strchr(location, '?') ? '&' : '?', u->blob->digest);
	return r;
}

static int start(struct transfer *t, struct error *err)
{
	struct upload *u = (struct upload *)t;
	struct push *p = u->push;
	int r = u->fd < 0 ? open_unless_there(u, err) : 0;

	if (r == 0 && !u->url)
		r = find_place(u, err);
	if (r != 0)
		return r < 0 ? r : 0;
	t->req = (struct http_request){
		.method = HTTP_PUT,
		.url = u->url,
		.headers = &u->headers,
		.body_fd = u->fd,
		.body_bytes = u->blob->size,
		.limit = ANSWER_MAX,
		.on_sent = on_sent,
		.data = u,
	};
	u->known = registry_authorize(p->registry, &t->req);
	return transfer_begin(t, registry_http(p->registry), err);
}

/* An upload that broke off is not gone on with: a new one is begun. */
static bool again(struct transfer *t, uint64_t asked_ns)
{
	struct upload *u = (struct upload *)t;
	uint64_t wait_ns;

	if (!retry_again(&t->retry, asked_ns, &wait_ns))
		return false;
	free(u->url);
	u->url = NULL;
	u->challenges = 0;
	transfer_wait(t, wait_ns);
	progress_board_say(u->push->board, u->row, "broken off, trying again");
	return true;
}

static int answered(struct transfer *t, const struct http_answer *a, bool transient, struct error *err)
{
	struct upload *u = (struct upload *)t;
	struct registry *registry = u->push->registry;
	char size[16], text[64];
	int r;

	if (a->status == 401 && ++u->challenges < CHALLENGES_MAX) {
		/* The token has run out while all of it was sent. */
		r = registry_challenged(registry, a, u->known, err);
		transfer_wait(t, 0);
		return r < 0 ? r : 0;
	}
	if (a->status == 201 || a->status == 204) {
		(void)snprintf(text, sizeof(text), "sent, %s", format_bytes(u->blob->size, size, sizeof(size)));
		done(u, text);
		return check_digest(u->push, a, u->blob->digest, err);
	}
	if (transient && again(t, a->retry_after_ns))
		return 0;
	return registry_refuse(registry, a, registry_noun(registry), err);
}

static const struct transfer_ops upload_ops = { start, answered, again };

static void upload_done(struct upload *u)
{
	transfer_done(&u->transfer);
	u->fd = safe_close(u->fd);
	strv_done(&u->headers);
	free(u->url);
}

static int push_blobs(struct push *p, const struct oci_descriptor *const *blobs, size_t n, struct error *err)
{
	_cleanup_free_ struct transfer **transfers = xnew_n(struct transfer *, n);
	_cleanup_free_ struct upload *all = xnew_n(struct upload, n);
	int r;

	for (size_t i = 0; i < n; i++) {
		const char *hex = digest_hex(blobs[i]->digest);
		char label[LABEL_DIGITS + 1];

		(void)snprintf(label, sizeof(label), "%s", hex ? hex : "?");
		all[i] = (struct upload){ .push = p, .blob = blobs[i], .fd = -EBADF };
		all[i].row = progress_board_add(p->board, label, blobs[i]->size);
		strv_add(&all[i].headers, "Content-Type: application/octet-stream");
		transfers[i] = &all[i].transfer;
	}
	r = transfers_run(transfers, n, &upload_ops, registry_http(p->registry), NULL, err);
	for (size_t i = 0; i < n; i++)
		upload_done(&all[i]);
	return r;
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
	_cleanup_free_ const struct oci_descriptor **blobs = NULL;
	_cleanup_buf_ struct buf text = {};
	size_t n_blobs = 0;
	int n = blob_read(s, manifest->digest, OCI_DOCUMENT_MAX, &text, err);

	if (n >= 0)
		n = oci_manifest_parse(text.p ? text.p : "", text.len, manifest->digest, &m, err);
	if (n < 0)
		return n;
	blobs = xcalloc(m.n_layers + 1, sizeof(*blobs));
	for (size_t i = 0; i < m.n_layers; i++)
		if (!came_before(&m, i))
			blobs[n_blobs++] = &m.layers[i];
	blobs[n_blobs++] = &m.config;
	n = push_blobs(&p, blobs, n_blobs, err);
	return n < 0 ? n : push_manifest(&p, m.media_type, manifest->digest, &text, tag, err);
}
