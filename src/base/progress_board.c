#include "base/progress_board.h"

#include <stdlib.h>
#include <sys/ioctl.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/utf8.h"

enum { WIDTH_DEFAULT = 80, HEIGHT_DEFAULT = 24 };

enum row_state { ROW_HIDDEN, ROW_MOVES, ROW_SAYS, ROW_ENDED };

struct row {
	enum row_state state;
	struct buf label, text; /* shown as they are */
	size_t label_width, text_width;
	uint64_t total_bytes, done_bytes;
};

struct progress_board {
	int fd; /* borrowed */
	bool live;
	struct row *rows;
	size_t n;
	size_t drawn; /* lines on the terminal that are to be drawn again */
	uint64_t drawn_ns;
};

struct progress_board *progress_board_new(int fd)
{
	struct progress_board *b = xnew(struct progress_board);
	const char *term = getenv("TERM");

	b->fd = fd;
	b->live = fd >= 0 && isatty(fd) && !(term && streq(term, "dumb"));
	return b;
}

/* Where progress cannot be shown there is nobody to tell so. */
static void show(const struct progress_board *b, const struct buf *text)
{
	if (b->fd >= 0 && text->len)
		(void)write_full(b->fd, text->p, text->len);
}

static void add_row(const struct row *r, size_t width, struct buf *out)
{
	const char *label = r->label.p ? r->label.p : "";

	if (r->state == ROW_MOVES) {
		progress_line(out, label, r->label_width, r->done_bytes, r->total_bytes, width);
	} else if (r->label_width + 2 + r->text_width <= width) {
		buf_addf(out, "%s  %s", label, r->text.p ? r->text.p : "");
	}
	buf_adds(out, "\033[K\n");
}

/* Draws @above (may be NULL) for good where the bars began, and the bars below it. */
static void draw(struct progress_board *b, const struct buf *above)
{
	_cleanup_buf_ struct buf out = {};
	size_t width = WIDTH_DEFAULT, height = HEIGHT_DEFAULT;
	struct winsize ws;

	if (ioctl(b->fd, TIOCGWINSZ, &ws) == 0 && ws.ws_col && ws.ws_row) {
		width = ws.ws_col;
		height = ws.ws_row;
	}
	if (b->drawn)
		buf_addf(&out, "\033[%zuA", b->drawn);
	buf_adds(&out, "\r");
	if (above)
		buf_add(&out, above->p, above->len);
	b->drawn = 0;
	for (size_t i = 0; i < b->n && b->drawn + 1 < height; i++) {
		if (b->rows[i].state != ROW_MOVES && b->rows[i].state != ROW_SAYS)
			continue;
		add_row(&b->rows[i], width - 1, &out);
		b->drawn++;
	}
	buf_adds(&out, "\033[J");
	show(b, &out);
	b->drawn_ns = clock_monotonic_ns();
}

struct progress_board *progress_board_free(struct progress_board *b)
{
	if (!b)
		return NULL;
	for (size_t i = 0; i < b->n; i++)
		b->rows[i].state = ROW_ENDED;
	if (b->live && b->drawn)
		draw(b, NULL);
	for (size_t i = 0; i < b->n; i++) {
		buf_done(&b->rows[i].label);
		buf_done(&b->rows[i].text);
	}
	free(b->rows);
	free(b);
	return NULL;
}

size_t progress_board_add(struct progress_board *b, const char *label, uint64_t total_bytes)
{
	struct row *r;

	if (!b)
		return 0;
	b->rows = xrealloc_array(b->rows, b->n + 1, sizeof(*b->rows));
	r = &b->rows[b->n];
	*r = (struct row){ .total_bytes = total_bytes };
	r->label_width = utf8_add_shown(&r->label, label);
	return b->n++;
}

void progress_board_update(struct progress_board *b, size_t row, uint64_t done_bytes)
{
	bool changed;

	if (!b)
		return;
	changed = b->rows[row].state != ROW_MOVES;
	b->rows[row].state = ROW_MOVES;
	b->rows[row].done_bytes = done_bytes;
	if (b->live && (changed || clock_monotonic_ns() - b->drawn_ns >= 100 * NS_PER_MS))
		draw(b, NULL);
}

static void set_text(struct row *r, const char *text)
{
	buf_truncate(&r->text, 0);
	r->text_width = utf8_add_shown(&r->text, text);
}

void progress_board_say(struct progress_board *b, size_t row, const char *text)
{
	_cleanup_buf_ struct buf line = {};
	struct row *r;

	if (!b)
		return;
	r = &b->rows[row];
	if (r->state == ROW_SAYS && r->text.p && streq(r->text.p, text))
		return;
	r->state = ROW_SAYS;
	set_text(r, text);
	buf_addf(&line, "%s: %s\n", r->label.p ? r->label.p : "", text);
	if (b->live)
		draw(b, NULL);
	else
		show(b, &line);
}

void progress_board_end(struct progress_board *b, size_t row, const char *text)
{
	_cleanup_buf_ struct buf line = {};
	struct row *r;

	if (!b)
		return;
	r = &b->rows[row];
	r->state = ROW_ENDED;
	set_text(r, text);
	buf_addf(&line, "%s: %s%s\n", r->label.p ? r->label.p : "", r->text.p ? r->text.p : "",
		 b->live ? "\033[K" : "");
	if (b->live)
		draw(b, &line);
	else
		show(b, &line);
}
