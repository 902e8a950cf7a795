/* struct json is json-c's object under another name; JSON's null is the NULL pointer, as there. json-c's strict mode lets a good deal
 * through that is not JSON, so lexical.c looks first; and our own renderer writes the text, because json-c would keep a copy of it in
 * the object, and because what comes out must be valid UTF-8 whatever was put in. */
#include "json/json.h"

#include <limits.h>
#include <stdlib.h>

#include "json/jsonc.h"
#include "json/lexical.h"
#include "base/utf8.h"

static struct json *wrap(jsonc_object *o)
{
	return (struct json *)o;
}

static jsonc_object *made(jsonc_object *o)
{
	if (!o)
		abort();
	return o;
}

static int syntax_error(const char *text, size_t offset, const char *what, const char *wrong, struct error *err)
{
	size_t line = 1;

	for (size_t i = 0; i < offset; i++)
		line += text[i] == '\n';
	return error_set(err, EBADMSG, "%s: not valid JSON: line %zu: %s", what, line, wrong);
}

int json_parse(const char *text, size_t len, const char *what, struct json **ret, struct error *err)
{
	json_tokener *tokener;
	jsonc_object *o;
	enum json_tokener_error e;
	const char *wrong;
	size_t offset;

	if (len >= INT_MAX)
		return error_set(err, EBADMSG, "%s: larger than 2 GiB", what);
	wrong = json_lexical_check(text, len, &offset);
	if (wrong)
		return syntax_error(text, offset, what, wrong, err);
	tokener = json_tokener_new_ex(JSON_DEPTH_MAX + 2);
	if (!tokener)
		return error_set_errno(err, ENOMEM, "%s", what);
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	o = json_tokener_parse_ex(tokener, text, (int)len);
	e = json_tokener_get_error(tokener);
	offset = json_tokener_get_parse_end(tokener);
	if (e == json_tokener_continue) {
		/* A number ends only where something else begins. */
		o = json_tokener_parse_ex(tokener, "", 1);
		e = json_tokener_get_error(tokener);
		offset = len;
	}
	json_tokener_free(tokener);
	if (e != json_tokener_success)
		return syntax_error(text, offset < len ? offset : len, what, json_tokener_error_desc(e), err);
	*ret = wrap(o);
	return 0;
}

struct json *json_free(struct json *j)
{
	(void)json_object_put(jsonc(j));
	return NULL;
}

struct json *json_ref(struct json *j)
{
	return wrap(json_object_get(jsonc(j)));
}

struct json *json_get(const struct json *object, const char *key)
{
	jsonc_object *v = NULL;

	if (!json_is_object(object) || !json_object_object_get_ex(jsonc(object), key, &v))
		return NULL;
	return wrap(v);
}

size_t json_length(const struct json *array)
{
	return json_is_array(array) ? json_object_array_length(jsonc(array)) : 0;
}

struct json *json_at(const struct json *array, size_t i)
{
	return i < json_length(array) ? wrap(json_object_array_get_idx(jsonc(array), i)) : NULL;
}

const char *json_string(const struct json *j)
{
	return json_object_is_type(jsonc(j), json_type_string) ? json_object_get_string(jsonc(j)) : NULL;
}

bool json_u64(const struct json *j, uint64_t *ret)
{
	if (!json_object_is_type(jsonc(j), json_type_int) || json_object_get_int64(jsonc(j)) < 0)
		return false;
	*ret = json_object_get_uint64(jsonc(j));
	return true;
}

bool json_i64(const struct json *j, int64_t *ret)
{
	/* A negative number reads as 0 here. */
	if (!json_object_is_type(jsonc(j), json_type_int) || json_object_get_uint64(jsonc(j)) > INT64_MAX)
		return false;
	*ret = json_object_get_int64(jsonc(j));
	return true;
}

bool json_bool(const struct json *j, bool *ret)
{
	if (!json_object_is_type(jsonc(j), json_type_boolean))
		return false;
	*ret = json_object_get_boolean(jsonc(j));
	return true;
}

bool json_is_object(const struct json *j)
{
	return json_object_is_type(jsonc(j), json_type_object);
}

bool json_is_array(const struct json *j)
{
	return json_object_is_type(jsonc(j), json_type_array);
}

bool json_is_null(const struct json *j)
{
	return !j;
}

bool json_member(const struct json *object, size_t i, const char **ret_key, struct json **ret_value)
{
	struct lh_entry *e;

	if (!json_is_object(object))
		return false;
	e = json_object_get_object(jsonc(object))->head;
	while (e && i--)
		e = e->next;
	if (!e)
		return false;
	*ret_key = lh_entry_k(e);
	*ret_value = lh_entry_v(e);
	return true;
}

struct json *json_object(void)
{
	return wrap(made(json_object_new_object()));
}

struct json *json_array(void)
{
	return wrap(made(json_object_new_array()));
}

struct json *json_null(void)
{
	return NULL;
}

struct json *json_new_string(const char *s)
{
	return s ? wrap(made(json_object_new_string(s))) : NULL;
}

struct json *json_new_u64(uint64_t v)
{
	/* json-c keeps small numbers signed when it parses them; equal numbers shall compare equal. */
	return wrap(made(v <= INT64_MAX ? json_object_new_int64((int64_t)v) : json_object_new_uint64(v)));
}

struct json *json_new_bool(bool v)
{
	return wrap(made(json_object_new_boolean(v)));
}

void json_set(struct json *object, const char *key, struct json *value)
{
	if (json_object_object_add(jsonc(object), key, jsonc(value)) < 0)
		abort();
}

void json_set_string(struct json *object, const char *key, const char *s)
{
	json_set(object, key, json_new_string(s));
}

void json_setf(struct json *object, const char *key, const char *fmt, ...)
{
	_cleanup_free_ char *s = NULL;
	va_list ap;

	va_start(ap, fmt);
	s = xvasprintf(fmt, ap);
	va_end(ap);
	json_set_string(object, key, s);
}

void json_set_u64(struct json *object, const char *key, uint64_t v)
{
	json_set(object, key, json_new_u64(v));
}

void json_set_i64(struct json *object, const char *key, int64_t v)
{
	json_set(object, key, wrap(made(json_object_new_int64(v))));
}

void json_set_bool(struct json *object, const char *key, bool v)
{
	json_set(object, key, json_new_bool(v));
}

void json_remove(struct json *object, const char *key)
{
	json_object_object_del(jsonc(object), key);
}

void json_append(struct json *array, struct json *value)
{
	if (json_object_array_add(jsonc(array), jsonc(value)) < 0)
		abort();
}

void json_append_string(struct json *array, const char *s)
{
	json_append(array, json_new_string(s));
}
