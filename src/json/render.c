/* A tree as text. Control characters, those of Latin-1 too, are escaped: the text is shown on terminals. Bytes that are not UTF-8
 * become U+FFFD. */
#include "json/json.h"

#include <inttypes.h>

#include "json/jsonc.h"
#include "base/utf8.h"

struct render {
	struct buf *out;
	bool pretty;
	unsigned depth;
};

static void render_char(struct buf *out, unsigned char c)
{
	static const char named[] = "\b\f\n\r\t\"\\", letters[] = "bfnrt\"\\";
	const char *at = c ? strchr(named, c) : NULL;

	if (at)
		buf_addf(out, "\\%c", letters[at - named]);
	else if (c < 0x20 || c == 0x7f)
		buf_addf(out, "\\u%04x", c);
	else
		buf_addc(out, (char)c);
}

static void render_string(struct buf *out, const char *s, size_t len)
{
	buf_addc(out, '"');
	while (len) {
		size_t n = utf8_length(s, len);

		if (n == 1)
			render_char(out, (unsigned char)*s);
		else if (n == 2 && (unsigned char)s[0] == 0xc2 && (unsigned char)s[1] < 0xa0)
			buf_addf(out, "\\u%04x", (unsigned char)s[1]);
		else if (n)
			buf_add(out, s, n);
		else
			buf_adds(out, "\xef\xbf\xbd");
		n += n == 0;
		s += n;
		len -= n;
	}
	buf_addc(out, '"');
}

static void new_line(const struct render *r)
{
	if (!r->pretty)
		return;
	buf_addc(r->out, '\n');
	for (unsigned i = 0; i < r->depth; i++)
		buf_adds(r->out, "  ");
}

static void render_value(struct render *r, jsonc_object *o);

static void render_object(struct render *r, jsonc_object *o)
{
	const char *separator = "";

	if (!json_object_object_length(o)) {
		buf_adds(r->out, "{}");
		return;
	}
	buf_addc(r->out, '{');
	r->depth++;
	for (const struct lh_entry *e = json_object_get_object(o)->head; e; e = e->next) {
		const char *key = lh_entry_k(e);

		buf_adds(r->out, separator);
		separator = ",";
		new_line(r);
		render_string(r->out, key, strlen(key));
		buf_adds(r->out, r->pretty ? ": " : ":");
		render_value(r, lh_entry_v(e));
	}
	r->depth--;
	new_line(r);
	buf_addc(r->out, '}');
}

static void render_array(struct render *r, jsonc_object *o)
{
	size_t n = json_object_array_length(o);

	if (!n) {
		buf_adds(r->out, "[]");
		return;
	}
	buf_addc(r->out, '[');
	r->depth++;
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_addc(r->out, ',');
		new_line(r);
		render_value(r, json_object_array_get_idx(o, i));
	}
	r->depth--;
	new_line(r);
	buf_addc(r->out, ']');
}

static void render_value(struct render *r, jsonc_object *o)
{
	switch (json_object_get_type(o)) {
	case json_type_object: render_object(r, o); break;
	case json_type_array: render_array(r, o); break;
	case json_type_string:
		render_string(r->out, json_object_get_string(o), (size_t)json_object_get_string_len(o));
		break;
	case json_type_boolean: buf_adds(r->out, json_object_get_boolean(o) ? "true" : "false"); break;
	case json_type_int:
		if (json_object_get_int64(o) < 0)
			buf_addf(r->out, "%" PRId64, json_object_get_int64(o));
		else
			buf_addf(r->out, "%" PRIu64, json_object_get_uint64(o));
		break;
	case json_type_double: buf_adds(r->out, json_object_to_json_string(o)); break;
	case json_type_null: buf_adds(r->out, "null"); break;
	}
}

void json_render(const struct json *j, bool pretty, struct buf *out)
{
	struct render r = { .out = out, .pretty = pretty };

	render_value(&r, jsonc(j));
	if (pretty)
		buf_addc(out, '\n');
}
