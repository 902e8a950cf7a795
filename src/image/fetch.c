/* Each blob is a small machine: it waits (for a place among those that run, for a pause to end, for another process that fetches the same blob),
 * runs, and is done. All of them are looked at after each round of transfers. */
#include "image/fetch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/parse.h"
#include "image/blob.h"
#include "image/reference.h"
#include "image/retry.h"

enum { PARALLEL = 4, CHALLENGES_MAX = 3, LABEL_DIGITS = 12, ROUND_MS = 500 };
/* So much has come since the last break that the next one is the first of its kind. */
#define GOOD_PART_BYTES (UINT64_C(1) << 20)
/* flock(2) announces nothing: how often another process' blob is looked at. */
#define LOOK_NS (NS_PER_SEC / 5)

enum fetch_state { FETCH_WAITS, FETCH_RUNS, FETCH_DONE };

struct fetch {
	enum fetch_state state;
	const struct oci_descriptor *blob; /* borrowed */
	struct registry *registry;         /* borrowed */
	const struct store *store;         /* borrowed */
	struct progress_board *board;      /* borrowed */
	size_t row;
	struct blob_writer *writer;     /* owned; NULL while another process may write it */
	struct http_transfer *transfer; /* owned while it runs */
	struct http_request req;
	char *url; /* owned */
	struct retry retry;
	uint64_t deadline_ns; /* when waiting ends */
	uint64_t mark;        /* how much was there at the last break */
	uint64_t began_ns;
	unsigned known, challenges;
	bool resumed; /* its beginning is from an earlier try, which may have been damaged since */
};

static const char *short_digest(const struct fetch *f, char out[LABEL_DIGITS + 1])
{
	const char *hex = digest_hex(f->blob->digest);

	(void)snprintf(out, LABEL_DIGITS + 1, "%s", hex ? hex : "?");
	return out;
}

/* Says which one. */
static int prefix(const struct fetch *f, struct error *err)
{
	char text[LABEL_DIGITS + 1];

	return error_prefix(err, "%s: blob %s", registry_noun(f->registry), short_digest(f, text));
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
		have = f->mark = 0;
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

static void wait_for(struct fetch *f, uint64_t span_ns)
{
	f->state = FETCH_WAITS;
	f->deadline_ns = clock_monotonic_ns() + span_ns;
}

static void done(struct fetch *f, const char *how)
{
	char size[16], text[64];

	if (!how) {
		(void)snprintf(text, sizeof(text), "done, %s", format_bytes(f->blob->size, size, sizeof(size)));
		how = text;
	}
	progress_board_end(f->board, f->row, how);
	f->writer = blob_writer_free(f->writer);
	f->state = FETCH_DONE;
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
	wait_for(f, 0);
	return 0;
}

/* Returns 1 when it must wait for another process. */
static int open_writer(struct fetch *f, struct error *err)
{
	_cleanup_error_ struct error e = {};
	int r = blob_writer_try(f->store, f->blob->digest, f->blob->size, &f->writer, &e);

	if (r == -EBUSY) {
		progress_board_say(f->board, f->row, "waiting for another pull of it");
		wait_for(f, LOOK_NS);
		return 1;
	}
	if (r < 0)
		return error_move(err, &e);
	if (r == 1) {
		done(f, "already here");
		return 1;
	}
	f->mark = blob_writer_offset(f->writer);
	f->resumed = f->mark > 0;
	return 0;
}

static int start(struct fetch *f, struct error *err)
{
	int r = f->writer ? 0 : open_writer(f, err);

	if (r != 0)
		return r < 0 ? r : 0;
	if (blob_writer_offset(f->writer) == f->blob->size)
		return finish(f, err);
	r = fault_point("fetch-begin");
	if (r < 0)
		return error_set_errno(err, r, "cannot begin");
	f->req = (struct http_request){
		.method = HTTP_GET,
		.url = f->url,
		.body_fd = -1,
		.offset = blob_writer_offset(f->writer),
		.on_answer = on_answer,
		.on_data = on_data,
		.data = f,
	};
	f->known = registry_authorize(f->registry, &f->req);
	r = http_begin(registry_http(f->registry), &f->req, &f->transfer, err);
	if (r < 0)
		return r;
	f->state = FETCH_RUNS;
	progress_board_update(f->board, f->row, f->req.offset);
	return 0;
}

/* After a break: a pause, unless it is enough. Returns 1 when it is. */
static int pause_after(struct fetch *f, uint64_t asked_ns)
{
	uint64_t wait_ns, have = blob_writer_offset(f->writer);
	char text[64];

	if (have >= f->mark + GOOD_PART_BYTES)
		f->retry = (struct retry){};
	f->mark = have;
	if (!retry_again(&f->retry, asked_ns, &wait_ns))
		return 1;
	if (wait_ns >= NS_PER_SEC) {
		(void)snprintf(text, sizeof(text), "trying again in %" PRIu64 " s", wait_ns / NS_PER_SEC);
		progress_board_say(f->board, f->row, text);
	}
	wait_for(f, wait_ns);
	return 0;
}

static int answered(struct fetch *f, const struct http_answer *a, bool transient, struct error *err)
{
	int r;

	if (a->status == 401) {
		r = ++f->challenges > CHALLENGES_MAX ? registry_refuse(f->registry, a, "blob", err)
						     : registry_challenged(f->registry, a, f->known, err);
		if (r >= 0)
			wait_for(f, 0);
		return r;
	}
	f->challenges = 0;
	if (a->status == 416 && f->req.offset) {
		wait_for(f, 0);
		f->mark = 0;
		f->resumed = false;
		return blob_writer_restart(f->writer, err);
	}
	if (a->status == 200 || a->status == 206) {
		if (blob_writer_offset(f->writer) == f->blob->size)
			return finish(f, err);
		/* Without a length an early end looks like an end. */
		return pause_after(f, UINT64_MAX) ? error_set(err, EIO, "the registry breaks off again and again") : 0;
	}
	if (transient && !pause_after(f, a->retry_after_ns))
		return 0;
	return registry_refuse(f->registry, a, "blob", err);
}

static int ended(struct fetch *f, struct error *err)
{
	_cleanup_error_ struct error e = {};
	_cleanup_answer_ struct http_answer a = {};
	bool transient;
	int r = http_end(TAKE_PTR(f->transfer), &a, &transient, &e);

	if (r >= 0)
		return answered(f, &a, transient, err);
	if (transient && !pause_after(f, UINT64_MAX))
		return 0;
	return error_move(err, &e);
}

/* ---- all of them ---- */

static int look_at(struct fetch *f, size_t *running, struct error *err)
{
	int r = 0;

	if (f->state == FETCH_RUNS && http_has_ended(f->transfer)) {
		r = ended(f, err);
		*running -= f->state != FETCH_RUNS;
	}
	if (r >= 0 && f->state == FETCH_WAITS && *running < PARALLEL && clock_monotonic_ns() >= f->deadline_ns) {
		r = start(f, err);
		*running += f->state == FETCH_RUNS;
	}
	return r < 0 ? prefix(f, err) : 0;
}

/* Until the next one of them wants to be looked at. */
static int round_ms(const struct fetch *all, size_t n, size_t running)
{
	int ms = ROUND_MS;

	for (size_t i = 0; i < n; i++)
		if (all[i].state == FETCH_WAITS && running < PARALLEL) {
			int left_ms = clock_poll_timeout(all[i].deadline_ns);

			ms = left_ms < ms ? left_ms : ms;
		}
	return ms;
}

static int run(struct fetch *all, size_t n, struct http *h, struct error *err)
{
	size_t running = 0;
	bool left = true;
	int r = 0;

	while (r >= 0 && left) {
		left = false;
		for (size_t i = 0; r >= 0 && i < n; i++) {
			r = look_at(&all[i], &running, err);
			left |= all[i].state != FETCH_DONE;
		}
		if (r >= 0 && left)
			r = http_pump(h, round_ms(all, n, running), err);
	}
	return r;
}

int fetch_blobs(struct registry *r, const struct store *s, const struct fetch_source *blobs, size_t n,
		struct progress_board *board, struct error *err)
{
	struct fetch *all = xnew_n(struct fetch, n + 1);
	char text[LABEL_DIGITS + 1];
	int ret;

	for (size_t i = 0; i < n; i++) {
		struct fetch *f = &all[i];

		f->blob = blobs[i].blob;
		f->registry = r;
		f->store = s;
		f->board = board;
		f->url = blobs[i].url ? xstrdup(blobs[i].url) : registry_url(r, "blobs/%s", f->blob->digest);
		f->row = progress_board_add(board, short_digest(f, text), f->blob->size);
	}
	ret = run(all, n, registry_http(r), err);
	for (size_t i = 0; i < n; i++) {
		struct http_answer a = {};

		if (all[i].transfer)
			(void)http_end(all[i].transfer, &a, NULL, NULL);
		http_answer_done(&a);
		(void)blob_writer_free(all[i].writer);
		free(all[i].url);
	}
	free(all);
	return ret;
}
