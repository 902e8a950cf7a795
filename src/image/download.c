/* How this works: NAME.part holds the first bytes, and NAME.part.json says of which address and of which version of it (its ETag) they are.
 * What is asked for next is the rest of that version (If-Range, RFC 9110, 13.1.5); a server that has another one, or cannot say, sends all of
 * it, and it begins anew. */
#include "image/download.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "image/address.h"
#include "image/digest.h"
#include "image/retry.h"
#include "json/json.h"
#include "store/store.h"

enum { CHUNK = 1 << 20 };

struct part {
	char *url, *etag;
	uint64_t total; /* 0 = not known */
};

static const struct json_field part_fields[] = {
	{ "url", JSON_STRING, offsetof(struct part, url), JSON_REQUIRED },
	{ "etag", JSON_STRING, offsetof(struct part, etag), 0 },
	{ "total", JSON_U64, offsetof(struct part, total), 0 },
	{},
};

struct transfer {
	const struct download *d;
	char *part_name, *record_name, *host; /* owned */
	struct part part;                     /* owned: what is on record */
	int fd;                               /* owned: the part */
	uint64_t bytes;                       /* in it */
};

static void transfer_done(struct transfer *t)
{
	safe_close(t->fd);
	free(t->part_name);
	free(t->record_name);
	free(t->host);
	json_fields_done(part_fields, &t->part);
}

static int cannot(const struct transfer *t, int num, struct error *err)
{
	return error_set_errno(err, num, "%s: cannot keep what comes", t->host);
}

/* What there is of it: nothing unless the record says what it is a part of. */
static int open_part(struct transfer *t, struct error *err)
{
	_cleanup_json_ struct json *tree = NULL;
	struct stat st;
	int dir = t->d->dir_fd;

	t->fd = openat(dir, t->part_name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (t->fd < 0 || fstat(t->fd, &st) < 0)
		return cannot(t, errno, err);
	if (record_read(dir, t->record_name, t->record_name, part_fields, &t->part, &tree, NULL) < 0 ||
	    !streq(t->part.url, t->d->url) || !t->part.etag) {
		json_fields_done(part_fields, &t->part);
		t->part = (struct part){};
		return 0;
	}
	t->bytes = (uint64_t)st.st_size;
	return 0;
}

static int record(struct transfer *t, struct error *err)
{
	_cleanup_json_ struct json *tree = NULL;
	int r = fault_point("download.record");

	if (r < 0)
		return cannot(t, r, err);
	return record_write(t->d->dir_fd, t->record_name, t->record_name, part_fields, &t->part, &tree, 0, err);
}

static int check_room(const struct transfer *t, uint64_t bytes, struct error *err)
{
	struct statvfs fs;
	uint64_t room;

	if (fstatvfs(t->fd, &fs) < 0)
		return 0;
	room = (uint64_t)fs.f_bavail * fs.f_frsize;
	if (bytes <= room)
		return 0;
	return error_set_kind(err, ERROR_CANTCREATE, ENOSPC,
			      "%s: it is %" PRIu64 " MiB more, and there is room for %" PRIu64, t->host, bytes >> 20,
			      room >> 20);
}

static int on_answer(const struct http_answer *a, void *data, struct error *err)
{
	struct transfer *t = data;
	bool goes_on = a->status == 206 && t->bytes && a->range_start == t->bytes;
	int r = 0;

	if (a->status == 206 && !goes_on)
		return error_set(err, EBADMSG, "%s: it sends another part than was asked for", t->host);
	if (a->length != UINT64_MAX)
		r = check_room(t, a->length, err);
	if (r < 0 || goes_on)
		return r;
	/* The record first: bytes that it does not fit would be taken for others. */
	json_fields_done(part_fields, &t->part);
	t->part = (struct part){ .url = xstrdup(t->d->url),
				 .etag = xstrdup(a->etag),
				 .total = a->length == UINT64_MAX ? 0 : a->length };
	t->bytes = 0;
	if (ftruncate(t->fd, 0) < 0)
		return cannot(t, errno, err);
	return record(t, err);
}

static int on_data(const void *p, size_t n, void *data, struct error *err)
{
	struct transfer *t = data;
	int r = fault_point("download.write");

	if (r >= 0)
		r = pwrite_full(t->fd, p, n, t->bytes);
	if (r < 0)
		return cannot(t, r, err);
	t->bytes += n;
	if (t->d->progress)
		t->d->progress(t->bytes, t->part.total ? t->part.total : UINT64_MAX, t->d->data);
	return 0;
}

/* Asks for what is missing, once. 1 = all of it is there; 0 = it may help to try again, with *ret_after_ns as in struct http_answer. */
static int ask(struct http *h, struct transfer *t, uint64_t *ret_after_ns, struct error *err)
{
	_cleanup_strv_ struct strv headers = {};
	_cleanup_answer_ struct http_answer a = {};
	_cleanup_error_ struct error e = {};
	struct http_request q = {
		.method = HTTP_GET,
		.url = t->d->url,
		.headers = &headers,
		.body_fd = -1,
		.offset = t->bytes,
		.on_answer = on_answer,
		.on_data = on_data,
		.data = t,
	};
	bool transient = false;
	int r;

	if (t->bytes)
		strv_addf(&headers, "If-Range: %s", t->part.etag);
	r = http_exchange(h, &q, &a, &transient, &e);
	*ret_after_ns = r < 0 ? UINT64_MAX : a.retry_after_ns;
	if (r >= 0 && (a.status == 200 || a.status == 206))
		return 1;
	if (r >= 0 && a.status == 416 && t->bytes) {
		/* There is no rest of what we have: from the beginning, then. */
		t->bytes = 0;
		transient = true;
	}
	if (r >= 0)
		error_set_kind(&e, a.status == 404 || a.status == 410 ? ERROR_NOT_FOUND : ERROR_FAILED, EIO,
			       "%s: it answers with status %ld", t->host, a.status);
	error_move(err, &e);
	return transient ? 0 : -EIO;
}

static int transfer(struct http *h, struct transfer *t, struct error *err)
{
	struct retry tries = {};
	uint64_t farthest = t->bytes;

	for (;;) {
		_cleanup_error_ struct error e = {};
		uint64_t after_ns, wait_ns;
		int r;

		if (t->part.total && t->bytes == t->part.total)
			return 0;
		r = ask(h, t, &after_ns, &e);
		if (r > 0)
			return 0;
		/* What comes once more, from a server that knows no ranges, is no progress. */
		if (t->bytes > farthest) {
			tries = (struct retry){};
			farthest = t->bytes;
		}
		/* What cannot be gone on with begins anew. */
		if (!t->part.etag)
			t->bytes = 0;
		if (r < 0 || !retry_again(&tries, after_ns, &wait_ns))
			return error_move(err, &e);
		r = http_wait(h, wait_ns, err);
		if (r < 0)
			return r;
	}
}

static int file_digest(struct transfer *t, char **ret, struct error *err)
{
	_cleanup_(digest_freep) struct digest *d = digest_new();
	_cleanup_free_ char *p = xcalloc(1, CHUNK);

	for (uint64_t at = 0; at < t->bytes;) {
		size_t n = t->bytes - at < CHUNK ? (size_t)(t->bytes - at) : CHUNK;
		int r = pread_full(t->fd, p, n, at);

		if (r < 0)
			return error_set_errno(err, r, "%s: cannot read what came", t->host);
		digest_add(d, p, n);
		at += n;
	}
	*ret = digest_text(d);
	return 0;
}

static int finish(struct transfer *t, char **ret_digest, struct error *err)
{
	int dir = t->d->dir_fd, r = file_digest(t, ret_digest, err);

	if (r < 0)
		return r;
	if (t->d->digest && !streq(t->d->digest, *ret_digest)) {
		(void)unlinkat(dir, t->record_name, 0);
		(void)unlinkat(dir, t->part_name, 0);
		return error_set_kind(err, ERROR_DATA, EBADMSG, "%s: what it sends is %s, and not %s", t->host,
				      *ret_digest, t->d->digest);
	}
	r = fault_point("download.rename");
	if (r >= 0 && (ftruncate(t->fd, (off_t)t->bytes) < 0 || fsync(t->fd) < 0 ||
		       renameat(dir, t->part_name, dir, t->d->name) < 0))
		r = -errno;
	if (r >= 0)
		r = fsync_dir(dir);
	if (r < 0)
		return cannot(t, r, err);
	(void)unlinkat(dir, t->record_name, 0);
	return 0;
}

int download_file(struct http *h, const struct download *d, char **ret_digest, uint64_t *ret_bytes, struct error *err)
{
	_cleanup_(transfer_done) struct transfer t = {
		.d = d,
		.fd = -EBADF,
		.part_name = xasprintf("%s.part", d->name),
		.record_name = xasprintf("%s.part.json", d->name),
		.host = address_host(d->url),
	};
	_cleanup_free_ char *digest = NULL;
	int r;

	if (!t.host)
		return error_set_kind(err, ERROR_USAGE, EINVAL, "'%.200s' is no address", d->url);
	r = open_part(&t, err);
	if (r >= 0)
		r = transfer(h, &t, err);
	if (r >= 0)
		r = finish(&t, &digest, err);
	if (r < 0)
		return r;
	*ret_digest = TAKE_PTR(digest);
	*ret_bytes = t.bytes;
	return 0;
}
