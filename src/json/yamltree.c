#include "json/yamltree.h"

#include <errno.h>
#include <yaml.h>

#include "base/parse.h"

enum { DEPTH_MAX = 16, NODES_MAX = 10000 };

struct reader {
	yaml_parser_t parser;
	const char *what;
	size_t nodes;
};

static int bad(const struct reader *y, size_t line, struct error *err, const char *why)
{
	return error_set_kind(err, ERROR_DATA, EBADMSG, "%s:%zu: %s", y->what, line + 1, why);
}

static int next(struct reader *y, yaml_event_t *event, struct error *err)
{
	if (yaml_parser_parse(&y->parser, event))
		return 0;
	*event = (yaml_event_t){};
	return bad(y, y->parser.problem_mark.line, err, y->parser.problem ? y->parser.problem : "no YAML");
}

static struct json *scalar(const yaml_event_t *e)
{
	const char *s = (const char *)e->data.scalar.value;
	uint64_t v;

	if (e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
		return json_new_string(s);
	if (streq(s, "true") || streq(s, "false"))
		return json_new_bool(streq(s, "true"));
	if (!*s || streq(s, "~") || streq(s, "null"))
		return json_null();
	if (parse_u64(s, 0, UINT64_MAX, &v) >= 0)
		return json_new_u64(v);
	return json_new_string(s);
}

static int value(struct reader *y, const yaml_event_t *e, unsigned depth, struct json **ret, struct error *err);

static int mapping(struct reader *y, unsigned depth, struct json **ret, struct error *err)
{
	_cleanup_json_ struct json *object = json_object();

	for (;;) {
		_cleanup_(yaml_event_delete) yaml_event_t key = {}, e = {};
		_cleanup_json_ struct json *v = NULL;
		const char *k;
		int r = next(y, &key, err);

		if (r < 0)
			return r;
		if (key.type == YAML_MAPPING_END_EVENT)
			break;
		if (key.type != YAML_SCALAR_EVENT)
			return bad(y, key.start_mark.line, err, "a key must be a word");
		k = (const char *)key.data.scalar.value;
		if (json_get(object, k))
			return bad(y, key.start_mark.line, err, "the key is there twice");
		r = next(y, &e, err);
		if (r >= 0)
			r = value(y, &e, depth + 1, &v, err);
		if (r < 0)
			return r;
		json_set(object, k, TAKE_PTR(v));
	}
	*ret = TAKE_PTR(object);
	return 0;
}

static int sequence(struct reader *y, unsigned depth, struct json **ret, struct error *err)
{
	_cleanup_json_ struct json *array = json_array();

	for (;;) {
		_cleanup_(yaml_event_delete) yaml_event_t e = {};
		_cleanup_json_ struct json *v = NULL;
		int r = next(y, &e, err);

		if (r < 0)
			return r;
		if (e.type == YAML_SEQUENCE_END_EVENT)
			break;
		r = value(y, &e, depth + 1, &v, err);
		if (r < 0)
			return r;
		json_append(array, TAKE_PTR(v));
	}
	*ret = TAKE_PTR(array);
	return 0;
}

static int value(struct reader *y, const yaml_event_t *e, unsigned depth, struct json **ret, struct error *err)
{
	if (depth > DEPTH_MAX || ++y->nodes > NODES_MAX)
		return bad(y, e->start_mark.line, err, "too deep or too large");
	if (e->type == YAML_SCALAR_EVENT) {
		*ret = scalar(e);
		return 0;
	}
	if (e->type == YAML_MAPPING_START_EVENT)
		return mapping(y, depth, ret, err);
	if (e->type == YAML_SEQUENCE_START_EVENT)
		return sequence(y, depth, ret, err);
	return bad(y, e->start_mark.line, err, "references are not understood here");
}

static int document(struct reader *y, struct json **ret, struct error *err)
{
	_cleanup_json_ struct json *tree = NULL;

	for (;;) {
		_cleanup_(yaml_event_delete) yaml_event_t e = {};
		int r = next(y, &e, err);

		if (r < 0)
			return r;
		if (e.type == YAML_STREAM_END_EVENT)
			break;
		if (e.type == YAML_STREAM_START_EVENT || e.type == YAML_DOCUMENT_END_EVENT)
			continue;
		if (e.type == YAML_DOCUMENT_START_EVENT) {
			if (tree)
				return bad(y, e.start_mark.line, err, "a second document");
			continue;
		}
		r = value(y, &e, 0, &tree, err);
		if (r < 0)
			return r;
	}
	*ret = tree ? TAKE_PTR(tree) : json_object();
	return 0;
}

int yaml_parse(const char *text, size_t len, const char *what, struct json **ret, struct error *err)
{
	struct reader y = { .what = what };
	int r;

	if (!yaml_parser_initialize(&y.parser))
		return error_set(err, ENOMEM, "%s: out of memory", what);
	yaml_parser_set_input_string(&y.parser, (const unsigned char *)text, len);
	r = document(&y, ret, err);
	yaml_parser_delete(&y.parser);
	return r;
}

int yaml_check(const char *text, size_t len, const char *what, struct error *err)
{
	struct reader y = { .what = what };
	bool ended = false;
	int r = 0;

	if (!yaml_parser_initialize(&y.parser))
		return error_set(err, ENOMEM, "%s: out of memory", what);
	yaml_parser_set_input_string(&y.parser, (const unsigned char *)text, len);
	while (r >= 0 && !ended) {
		_cleanup_(yaml_event_delete) yaml_event_t e = {};

		r = next(&y, &e, err);
		ended = e.type == YAML_STREAM_END_EVENT;
	}
	yaml_parser_delete(&y.parser);
	return r;
}
