#include "image/fetch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/parse.h"
#include "image/blob.h"
#include "image/reference.h"
#include "image/transfers.h"

enum { CHALLENGES_MAX = 3, LABEL_DIGITS = 12 };
/* So much more has come than ever before that the next break is the first of its kind. */
#define GOOD_PART_BYTES (UINT64_C(1) << 20)
/* flock(2) announces nothing: how often another process' blob is looked at. */
#define LOOK_NS (NS_PER_SEC / 5)

struct fetch {
	struct transfer transfer;          /* first */
	const struct oci_descriptor *blob; /* borrowed */
	struct registry *registry;         /* borrowed */
	const struct store *store;         /* borrowed */
	struct arrivals *arrivals;         /* borrowed; may be NULL */
	struct progress_board *board;      /* borrowed */
	size_t row;
	struct blob_writer *writer; /* owned; NULL while another process may write it */
	char *url;                  /* owned */
	uint64_t farthest;          /* how much was there at any break: what comes once more is no progress */
	unsigned known, challenges;
	bool resumed; /* its beginning is from an earlier try, which may have been damaged since */
};

static const char *short_digest(const struct fetch *f, char out[LABEL_DIGITS + 1])
{
	const char *hex = digest_hex(f->blob->digest);

	(void)snprintf(out, LABEL_DIGITS + 1, "%s", hex ? hex : "?");
	return out;
}

/* ---- what arrives ---- */

/* The answer's head decides where in the blob its body belongs. */
static int on_answer(const struct http_answer *a, void *data, struct error *err)
{
	struct fetch *f = data;
	uint64_t have = blob_writer_offset(f->writer), left;
	int r = fault_point("fetch-answer");

	if (r < 0)
		return error_set_errno(err, r, "cannot take it");
	if (have && a->status == 206 && a->range_start != have)
		return error_set(err, EBADMSG, "the registry sends another part than it was asked for");
	if (have && a->status != 206) {
		/* It knows no ranges: all of it comes again. */
		r = blob_writer_restart(f->writer, err);
		if (r < 0)
			return r;
		have = 0;
		f->resumed = false;
	}
	left = f->blob->size - have;
	if (a->length != UINT64_MAX && a->length != left)
		return error_set(err, EBADMSG, "the registry sends %" PRIu64 " bytes, the manifest says %" PRIu64,
				 a->length, left);
	return 0;
}

static int on_data(const void *p, size_t n, void *data, struct error *err)
{
	struct fetch *f = data;
	int r = fault_point("fetch-data");

	if (r >= 0)
		r = blob_writer_write(f->writer, p, n, err);
	else
		r = error_set_errno(err, r, "cannot write");
	if (r >= 0)
		progress_board_update(f->board, f->row, blob_writer_offset(f->writer));
	return r;
}

/* ---- one blob ---- */

/* @how NULL: just fetched. */
static void done(struct fetch *f, const char *how)
{
	char size[16], text[64];

	arrivals_add(f->arrivals, f->blob->digest, !how);
	if (!how) {
		(void)snprintf(text, sizeof(text), "done, %s", format_bytes(f->blob->size, size, sizeof(size)));
		how = text;
	}
	progress_board_end(f->board, f->row, how);
	f->writer = blob_writer_free(f->writer);
	f->transfer.state = TRANSFER_DONE;
}

/* All bytes are there. */
static int finish(struct fetch *f, struct error *err)
{
	_cleanup_error_ struct error e = {};
	int r = blob_writer_finish(f->writer, NULL, &e);

	if (r >= 0) {
		done(f, NULL);
		return 0;
	}
	f->writer = blob_writer_free(f->writer);
	if (r != -EBADMSG || !f->resumed)
		return error_move(err, &e);
	/* What an earlier try left may have suffered, by a power cut for one: once from the start. */
	f->resumed = false;
	transfer_wait(&f->transfer, 0);
	return 0;
}

/* Returns 1 when it must wait for another process. */
static int open_writer(struct fetch *f, struct error *err)
{
	_cleanup_error_ struct error e = {};
	int r = blob_writer_try(f->store, f->blob->digest, f->blob->size, &f->writer, &e);

	if (r == -EBUSY) {
		progress_board_say(f->board, f->row, "waiting for another pull of it");
		transfer_wait(&f->transfer, LOOK_NS);
		return 1;
	}
	if (r < 0)
		return error_move(err, &e);
	if (r == 1) {
		done(f, "already here");
		return 1;
	}
	f->farthest = blob_writer_offset(f->writer);
	f->resumed = f->farthest > 0;
	return 0;
}

static int start(struct transfer *t, struct error *err)
{
	struct fetch *f = (struct fetch *)t;
	int r = f->writer ? 0 : open_writer(f, err);

	if (r != 0)
		return r < 0 ? r : 0;
	if (blob_writer_offset(f->writer) == f->blob->size)
		return finish(f, err);
	r = fault_point("fetch-begin");
	if (r < 0)
		return error_set_errno(err, r, "cannot begin");
	t->req = (struct http_request){
		.method = HTTP_GET,
		.url = f->url,
		.body_fd = -1,
		.offset = blob_writer_offset(f->writer),
		.on_answer = on_answer,
		.on_data = on_data,
		.data = f,
	};
	f->known = registry_authorize(f->registry, &t->req);
	r = transfer_begin(t, registry_http(f->registry), err);
	if (r >= 0)
		progress_board_update(f->board, f->row, t->req.offset);
	return r;
}

static bool again(struct transfer *t, uint64_t asked_ns)
{
	struct fetch *f = (struct fetch *)t;
	uint64_t wait_ns, have = blob_writer_offset(f->writer);
	char text[64];

	if (have >= f->farthest + GOOD_PART_BYTES)
		t->retry = (struct retry){};
	if (have > f->farthest)
		f->farthest = have;
	if (!retry_again(&t->retry, asked_ns, &wait_ns))
		return false;
	if (wait_ns >= NS_PER_SEC) {
		(void)snprintf(text, sizeof(text), "trying again in %" PRIu64 " s", wait_ns / NS_PER_SEC);
		progress_board_say(f->board, f->row, text);
	}
	transfer_wait(t, wait_ns);
	return true;
}

static int answered(struct transfer *t, const struct http_answer *a, bool transient, struct error *err)
{
	struct fetch *f = (struct fetch *)t;
	int r;

	if (a->status == 401) {
		r = ++f->challenges > CHALLENGES_MAX ? registry_refuse(f->registry, a, "blob", err)
						     : registry_challenged(f->registry, a, f->known, err);
		if (r >= 0)
			transfer_wait(&f->transfer, 0);
		return r;
	}
	f->challenges = 0;
	if (a->status == 416 && t->req.offset) {
		transfer_wait(&f->transfer, 0);
		f->resumed = false;
		return blob_writer_restart(f->writer, err);
	}
	if (a->status == 200 || a->status == 206) {
		if (blob_writer_offset(f->writer) == f->blob->size)
			return finish(f, err);
		/* Without a length an early end looks like an end. */
		return again(t, UINT64_MAX) ? 0 : error_set(err, EIO, "the registry breaks off again and again");
	}
	if (transient && again(t, a->retry_after_ns))
		return 0;
	return registry_refuse(f->registry, a, "blob", err);
}

static const struct transfer_ops fetch_ops = { start, answered, again };

/* ---- all of them ---- */

int fetch_blobs(struct registry *r, const struct store *s, const struct fetch_source *blobs, size_t n,
		struct arrivals *arrivals, struct progress_board *board, struct error *err)
{
	_cleanup_free_ struct transfer **transfers = xnew_n(struct transfer *, n + 1);
	_cleanup_free_ struct fetch *all = xnew_n(struct fetch, n + 1);
	char text[LABEL_DIGITS + 1];
	int ret;

	for (size_t i = 0; i < n; i++) {
		struct fetch *f = &all[i];

		f->blob = blobs[i].blob;
		f->registry = r;
		f->store = s;
		f->arrivals = arrivals;
		f->board = board;
		f->url = blobs[i].url ? xstrdup(blobs[i].url) : registry_url(r, "blobs/%s", f->blob->digest);
		f->row = progress_board_add(board, short_digest(f, text), f->blob->size);
		f->transfer.what = xasprintf("%s: blob %s", registry_noun(r), text);
		transfers[i] = &f->transfer;
	}
	ret = transfers_run(transfers, n, &fetch_ops, registry_http(r), arrivals_stop_flag(arrivals), err);
	for (size_t i = 0; i < n; i++) {
		transfer_done(&all[i].transfer);
		(void)blob_writer_free(all[i].writer);
		free(all[i].url);
	}
	return ret;
}
