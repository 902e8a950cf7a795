#include "base/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/parse.h"
#include "base/utf8.h"

enum { BAR_MAX = 30, BAR_MIN = 5, WIDTH_DEFAULT = 80 };

struct progress {
	int fd;           /* borrowed */
	bool live;        /* a terminal that can redraw a line */
	struct buf label; /* shown as it is */
	size_t label_width;
	uint64_t total_bytes, done_bytes, began_ns, drawn_ns;
};

/* Where progress cannot be shown there is nobody to tell so. */
static void show(const struct progress *p, const struct buf *line)
{
	(void)write_full(p->fd, line->p, line->len);
}

static size_t terminal_width(int fd)
{
	struct winsize ws;

	return ioctl(fd, TIOCGWINSZ, &ws) == 0 && ws.ws_col ? ws.ws_col : WIDTH_DEFAULT;
}

static void add_bar(struct buf *b, size_t width, unsigned percent)
{
	size_t full = width * percent / 100;

	buf_adds(b, "  [");
	for (size_t i = 0; i < width; i++)
		buf_addc(b, i < full ? '#' : ' ');
	buf_addc(b, ']');
}

void progress_line(struct buf *out, const char *label, size_t label_width, uint64_t done_bytes, uint64_t total_bytes,
		   size_t width)
{
	_cleanup_buf_ struct buf amount = {};
	char done[16], total[16];
	size_t used = label_width;
	unsigned percent = 0;

	format_bytes(done_bytes, done, sizeof(done));
	if (total_bytes) {
		/* Divided before multiplied: an image may be larger than 2^64 / 100. */
		if (done_bytes >= total_bytes)
			percent = 100;
		else
			percent = (unsigned)(total_bytes > UINT64_MAX / 100 ? done_bytes / (total_bytes / 100)
									    : done_bytes * 100 / total_bytes);
		buf_addf(&amount, "  %3u%%  %s / %s", percent, done, format_bytes(total_bytes, total, sizeof(total)));
	} else {
		buf_addf(&amount, "  %s", done);
	}
	if (used > width)
		return;
	buf_adds(out, label);
	if (total_bytes && used + amount.len + 4 + BAR_MIN <= width) {
		size_t room = width - used - amount.len - 4;

		room = room < BAR_MAX ? room : BAR_MAX;
		add_bar(out, room, percent);
		used += room + 4;
	}
	if (used + amount.len <= width)
		buf_add(out, amount.p, amount.len);
}

static void draw(struct progress *p)
{
	_cleanup_buf_ struct buf line = {};

	buf_adds(&line, "\r");
	progress_line(&line, p->label.p ? p->label.p : "", p->label_width, p->done_bytes, p->total_bytes,
		      terminal_width(p->fd) - 1);
	buf_adds(&line, "\033[K");
	show(p, &line);
}

struct progress *progress_new(int fd, const char *label, uint64_t total_bytes)
{
	struct progress *p = xnew(struct progress);
	const char *term = getenv("TERM");

	p->fd = fd;
	p->total_bytes = total_bytes;
	p->began_ns = p->drawn_ns = clock_monotonic_ns();
	p->live = isatty(fd) && !(term && streq(term, "dumb"));
	p->label_width = utf8_add_shown(&p->label, label);
	if (p->live) {
		draw(p);
	} else {
		_cleanup_buf_ struct buf line = {};

		buf_addf(&line, "%s\n", p->label.p ? p->label.p : "");
		show(p, &line);
	}
	return p;
}

void progress_update(struct progress *p, uint64_t done_bytes)
{
	uint64_t now_ns;

	if (!p)
		return;
	p->done_bytes = done_bytes;
	if (!p->live)
		return;
	now_ns = clock_monotonic_ns();
	if (now_ns - p->drawn_ns < 100 * NS_PER_MS)
		return;
	p->drawn_ns = now_ns;
	draw(p);
}

struct progress *progress_finish(struct progress *p, bool ok)
{
	_cleanup_buf_ struct buf line = {};
	char bytes[16], age[16];

	if (!p)
		return NULL;
	buf_addf(&line, "%s%s: ", p->live ? "\r\033[K" : "", p->label.p ? p->label.p : "");
	if (!ok)
		buf_adds(&line, "failed\n");
	else if (p->done_bytes)
		buf_addf(&line, "done, %s in %s\n", format_bytes(p->done_bytes, bytes, sizeof(bytes)),
			 format_age((clock_monotonic_ns() - p->began_ns) / NS_PER_SEC, age, sizeof(age)));
	else
		buf_addf(&line, "done in %s\n",
			 format_age((clock_monotonic_ns() - p->began_ns) / NS_PER_SEC, age, sizeof(age)));
	show(p, &line);
	buf_done(&p->label);
	free(p);
	return NULL;
}
