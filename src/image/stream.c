#include "image/stream.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>

#include "base/memory.h"
#include "image/unpacker.h"

enum { PIECE = 256 << 10 };

struct stream {
	struct archive *archive; /* owned */
	char *what;              /* owned */
	uint64_t out;
	struct buf again; /* owned; given before what the archive has */
	bool empty, unread;
};

static int damaged(const struct stream *s, struct error *err)
{
	const char *why = archive_error_string(s->archive);

	return error_set(err, EBADMSG, "%s: damaged: %s", s->what, why ? why : "it cannot be unpacked");
}

int stream_new(int fd, const char *what, struct stream **ret, struct error *err)
{
	_cleanup_(stream_freep) struct stream *s = xnew(struct stream);
	struct archive_entry *e;
	int r;

	s->what = xstrdup(what);
	s->archive = archive_read_new();
	if (!s->archive)
		return error_set(err, ENOMEM, "%s: out of memory", what);
	(void)archive_read_support_filter_gzip(s->archive);
	(void)archive_read_support_filter_zstd(s->archive);
	(void)archive_read_support_filter_xz(s->archive);
	(void)archive_read_support_filter_bzip2(s->archive);
	(void)archive_read_support_format_raw(s->archive);
	(void)archive_read_support_format_empty(s->archive);
	if (archive_read_open_fd(s->archive, fd, PIECE) != ARCHIVE_OK)
		return damaged(s, err);
	r = archive_read_next_header(s->archive, &e);
	if (r != ARCHIVE_OK && r != ARCHIVE_WARN && r != ARCHIVE_EOF)
		return damaged(s, err);
	s->empty = r == ARCHIVE_EOF;
	*ret = TAKE_PTR(s);
	return 0;
}

/* What is packed twice is nobody's. */
static enum packing packing_of(const struct stream *s)
{
	if (archive_filter_count(s->archive) != 2)
		return PACKING_NONE;
	switch (archive_filter_code(s->archive, 0)) {
	case ARCHIVE_FILTER_ZSTD: return PACKING_ZSTD;
	case ARCHIVE_FILTER_XZ: return PACKING_XZ;
	default: return PACKING_GZIP;
	}
}

int stream_read(void *stream, const void **ret, size_t *ret_n, struct error *err)
{
	struct stream *s = stream;
	la_int64_t offset;
	int r;

	*ret_n = 0;
	if (s->unread) {
		s->unread = false;
		*ret = s->again.p;
		*ret_n = s->again.len;
		return 0;
	}
	if (s->empty)
		return 0;
	r = archive_read_data_block(s->archive, ret, ret_n, &offset);
	if (r == ARCHIVE_EOF) {
		*ret_n = 0;
		s->empty = true;
		return 0;
	}
	if (r != ARCHIVE_OK)
		return damaged(s, err);
	s->out += *ret_n;
	/* The last filter is the file itself. */
	return unpacker_check_ratio(packing_of(s), (uint64_t)archive_filter_bytes(s->archive, -1), s->out, err);
}

void stream_unread(struct stream *s, struct buf *bytes)
{
	buf_done(&s->again);
	s->again = *bytes;
	s->unread = s->again.len > 0;
	*bytes = (struct buf){};
}

struct stream *stream_free(struct stream *s)
{
	if (!s)
		return NULL;
	if (s->archive)
		(void)archive_read_free(s->archive);
	buf_done(&s->again);
	free(s->what);
	free(s);
	return NULL;
}
