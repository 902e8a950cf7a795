#include "cli/output.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "cli/filter.h"

int output_all(const char *text, size_t len)
{
	while (len) {
		struct pollfd p = { .fd = STDOUT_FILENO, .events = POLLOUT };
		ssize_t n = write(STDOUT_FILENO, text, len);

		if (n >= 0) {
			text += n;
			len -= (size_t)n;
		} else if (errno == EAGAIN) {
			(void)poll(&p, 1, -1);
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

int output_text(const char *text, size_t len, struct error *err)
{
	int r = output_all(text, len);

	return r < 0 ? error_set_errno(err, r, "cannot write to standard output") : 0;
}

int output_line(struct error *err, const char *fmt, ...)
{
	_cleanup_buf_ struct buf b = {};
	va_list ap;

	va_start(ap, fmt);
	buf_vaddf(&b, fmt, ap);
	va_end(ap);
	buf_addc(&b, '\n');
	return output_text(b.p, b.len, err);
}

int output_json(const struct json *j, struct error *err)
{
	_cleanup_buf_ struct buf b = {};

	json_render(j, true, &b);
	return output_text(b.p, b.len, err);
}

static struct json *cell_json(const struct table_cell *c)
{
	char time[32];

	if (!c->set)
		return json_null();
	switch (c->type) {
	case TABLE_TEXT: return c->text ? json_new_string(c->text) : json_null();
	case TABLE_NUMBER:
	case TABLE_BYTES: return json_new_u64(c->number);
	case TABLE_BOOL: return json_new_bool(c->number != 0);
	case TABLE_TIME: return json_new_string(clock_format_rfc3339(c->number, time, sizeof(time)));
	}
	return json_null();
}

int output_table(const struct table *t, const struct table_column *columns, size_t n_columns, int format, bool quiet,
		 struct error *err)
{
	_cleanup_buf_ struct buf b = {};

	if (quiet) {
		for (size_t i = 0; i < table_rows(t); i++) {
			const char *text = table_cell(t, i, 0)->text;

			buf_addf(&b, "%s\n", text ? text : "");
		}
		return output_text(b.p, b.len, err);
	}
	if (format == FORMAT_JSON) {
		_cleanup_json_ struct json *list = json_array();

		for (size_t i = 0; i < table_rows(t); i++) {
			struct json *row = json_object();

			for (size_t k = 0; k < n_columns; k++)
				json_set(row, columns[k].key, cell_json(table_cell(t, i, k)));
			json_append(list, row);
		}
		return output_json(list, err);
	}
	table_render(t, true, &b);
	return output_text(b.p, b.len, err);
}

/* One line, whatever is in it. */
static void add_line(const char *prefix, const char *text, bool keep_newlines, struct buf *out)
{
	struct filter f = {};
	size_t start;

	buf_adds(out, prefix);
	start = out->len;
	filter_add(&f, text, strlen(text), out);
	for (size_t i = start; i < out->len && !keep_newlines; i++)
		if (out->p[i] == '\n')
			out->p[i] = ' ';
	buf_addc(out, '\n');
}

void output_notice(const char *fmt, ...)
{
	_cleanup_buf_ struct buf text = {}, b = {};
	va_list ap;

	va_start(ap, fmt);
	buf_vaddf(&text, fmt, ap);
	va_end(ap);
	add_line("skerry: ", text.p ? text.p : "", false, &b);
	(void)write_full(STDERR_FILENO, b.p, b.len);
}

void output_error(const struct error *err)
{
	_cleanup_buf_ struct buf b = {};

	add_line("skerry: ", err->msg ? err->msg : "failed", false, &b);
	if (err->hint)
		add_line("hint: ", err->hint, true, &b);
	(void)write_full(STDERR_FILENO, b.p, b.len);
}

bool output_confirm(const char *question)
{
	char answer[16];
	size_t n = 0;

	(void)write_full(STDERR_FILENO, question, strlen(question));
	(void)write_full(STDERR_FILENO, " [y/N] ", 7);
	for (;;) {
		char c;
		ssize_t r = read(STDIN_FILENO, &c, 1);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0) {
			/* Nobody has ended the line. */
			(void)write_full(STDERR_FILENO, "\n", 1);
			break;
		}
		if (c == '\n')
			break;
		if (n + 1 < sizeof(answer))
			answer[n++] = c;
	}
	answer[n] = '\0';
	return streq(answer, "y") || streq(answer, "Y") || streq(answer, "yes");
}
