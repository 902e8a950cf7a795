/* Records by table: the tree is a hostile document until a field has been checked here. */
#include "json/json.h"

#include <assert.h>
#include <stdlib.h>

#include "json/jsonc.h"

/* No record of ours has more, and each entry of an array costs a struct. */
enum { ENTRIES_MAX = 65536 };

/* Where in the document we are: "disks[1].size". */
struct place {
	const char *what; /* borrowed */
	struct buf path;
	struct error *err;
};

static void *at(void *target, size_t offset)
{
	return (char *)target + offset;
}

static const void *at_const(const void *source, size_t offset)
{
	return (const char *)source + offset;
}

/* Text from the document, shortened and on one line. */
static void add_shown(struct buf *b, const char *s)
{
	for (size_t i = 0; s[i]; i++) {
		if (i == 40) {
			buf_adds(b, "…");
			return;
		}
		buf_addc(b, (unsigned char)s[i] < ' ' || s[i] == 0x7f ? '?' : s[i]);
	}
}

static void descend(struct place *pl, const char *key)
{
	if (pl->path.len)
		buf_addc(&pl->path, '.');
	add_shown(&pl->path, key);
}

static int wrong(struct place *pl, const char *text)
{
	return error_set(pl->err, EBADMSG, "%s: %s: %s", pl->what, pl->path.len ? pl->path.p : "document", text);
}

static int load_fields(struct place *pl, const struct json *tree, const struct json_field *fields, void *target);

static int load_number(struct place *pl, const struct json *j, uint64_t max, uint64_t *ret)
{
	int64_t negative;
	uint64_t v;

	if (!json_u64(j, &v)) {
		if (json_i64(j, &negative))
			return wrong(pl, "number out of range");
		return wrong(pl, "expected a number");
	}
	if (v > max)
		return wrong(pl, "number out of range");
	*ret = v;
	return 0;
}

static int load_strings(struct place *pl, const struct json *j, struct strv *to)
{
	_cleanup_strv_ struct strv v = {};

	if (!json_is_array(j))
		return wrong(pl, "expected an array of strings");
	for (size_t i = 0; i < json_length(j); i++) {
		const char *s = json_string(json_at(j, i));

		if (!s) {
			buf_addf(&pl->path, "[%zu]", i);
			return wrong(pl, "expected a string");
		}
		strv_add(&v, s);
	}
	strv_done(to);
	*to = v;
	v = (struct strv){};
	return 0;
}

static int load_map(struct place *pl, const struct json *j, struct strv *to)
{
	_cleanup_strv_ struct strv v = {};

	if (!json_is_object(j))
		return wrong(pl, "expected an object of strings");
	for (const struct lh_entry *e = json_object_get_object(jsonc(j))->head; e; e = e->next) {
		const char *key = lh_entry_k(e), *s = json_string(lh_entry_v(e));

		if (!s || !*key || strchr(key, '=')) {
			descend(pl, key);
			return wrong(pl, s ? "a key must not be empty or hold '='" : "expected a string");
		}
		strv_addf(&v, "%s=%s", key, s);
	}
	strv_done(to);
	*to = v;
	v = (struct strv){};
	return 0;
}

static int load_enum(struct place *pl, const struct json *j, const struct json_field *f, int *to)
{
	_cleanup_buf_ struct buf text = {};
	const char *s = json_string(j);

	if (!s)
		return wrong(pl, "expected a string");
	for (int i = 0; f->names[i]; i++)
		if (streq(f->names[i], s)) {
			*to = i;
			return 0;
		}
	buf_adds(&text, "unknown value '");
	add_shown(&text, s);
	buf_adds(&text, "', expected ");
	for (size_t i = 0; f->names[i]; i++)
		buf_addf(&text, "%s%s", i ? ", " : "", f->names[i]);
	return wrong(pl, text.p);
}

/* An array that stands in the struct as pointer and count. */
static void **array_pointer(const struct json_field *f, void *target)
{
	return at(target, f->offset);
}

static void array_done(const struct json_field *f, void *target)
{
	void **items = array_pointer(f, target);
	size_t *count = at(target, f->count_offset);

	for (size_t i = 0; *items && i < *count; i++)
		json_fields_done(f->fields, (char *)*items + i * f->element_size);
	free(*items);
	*items = NULL;
	*count = 0;
}

static int load_objects(struct place *pl, const struct json *j, const struct json_field *f, void *target)
{
	size_t n = json_length(j), len = pl->path.len;
	size_t *count = at(target, f->count_offset);
	void **items = array_pointer(f, target);

	if (!json_is_array(j))
		return wrong(pl, "expected an array of objects");
	if (n > ENTRIES_MAX)
		return wrong(pl, "too many entries");
	array_done(f, target);
	if (!n)
		return 0;
	*items = xcalloc(n, f->element_size);
	*count = n;
	for (size_t i = 0; i < n; i++) {
		int r;

		buf_addf(&pl->path, "[%zu]", i);
		r = load_fields(pl, json_at(j, i), f->fields, (char *)*items + i * f->element_size);
		if (r < 0)
			return r;
		buf_truncate(&pl->path, len);
	}
	return 0;
}

static int load_field(struct place *pl, const struct json *j, const struct json_field *f, void *target)
{
	void *to = at(target, f->offset);
	const char *s;
	uint64_t v;
	int r;

	switch (f->type) {
	case JSON_STRING:
		s = json_string(j);
		if (!s)
			return wrong(pl, "expected a string");
		free(*(char **)to);
		*(char **)to = xstrdup(s);
		return 0;
	case JSON_U64: return load_number(pl, j, UINT64_MAX, to);
	case JSON_U32:
		r = load_number(pl, j, UINT32_MAX, &v);
		if (r == 0)
			*(uint32_t *)to = (uint32_t)v;
		return r;
	case JSON_BOOL: return json_bool(j, to) ? 0 : wrong(pl, "expected true or false");
	case JSON_STRINGS: return load_strings(pl, j, to);
	case JSON_MAP: return load_map(pl, j, to);
	case JSON_ENUM: return load_enum(pl, j, f, to);
	case JSON_OBJECT: return load_fields(pl, j, f->fields, to);
	case JSON_OBJECTS: return load_objects(pl, j, f, target);
	}
	assert(!"field table with an unknown type");
	return -EINVAL;
}

static int load_fields(struct place *pl, const struct json *tree, const struct json_field *fields, void *target)
{
	size_t len = pl->path.len;

	if (!json_is_object(tree))
		return wrong(pl, "expected an object");
	for (const struct json_field *f = fields; f->key; f++) {
		const struct json *j = json_get(tree, f->key);
		int r;

		/* null is what other tools write for "not set". */
		if (!j && !(f->flags & JSON_REQUIRED))
			continue;
		descend(pl, f->key);
		r = j ? load_field(pl, j, f, target) : wrong(pl, "missing");
		if (r < 0)
			return r;
		buf_truncate(&pl->path, len);
	}
	return 0;
}

int json_load(const struct json *tree, const struct json_field *fields, void *target, const char *what,
	      struct error *err)
{
	struct place pl = { .what = what, .err = err };
	int r = load_fields(&pl, tree, fields, target);

	buf_done(&pl.path);
	return r;
}

static struct json *strings_tree(const struct strv *v)
{
	struct json *array = json_array();

	for (size_t i = 0; i < v->n; i++)
		json_append_string(array, v->items[i]);
	return array;
}

static struct json *map_tree(const struct strv *v)
{
	struct json *object = json_object();

	for (size_t i = 0; i < v->n; i++) {
		const char *equals = strchr(v->items[i], '=');
		_cleanup_free_ char *key = xstrndup(v->items[i], equals ? (size_t)(equals - v->items[i]) : SIZE_MAX);

		json_set_string(object, key, equals ? equals + 1 : "");
	}
	return object;
}

/* The entry of the old array that speaks of the same thing as @fresh, told by the table's first field: entries may have moved. */
static struct json *same_entry(const struct json *old, const struct json *fresh, const char *key)
{
	const struct json *want = json_get(fresh, key);

	for (size_t i = 0; want && i < json_length(old); i++) {
		const struct json *have = json_get(json_at(old, i), key);

		if (have && json_object_equal(jsonc(have), jsonc(want)))
			return json_at(old, i);
	}
	return NULL;
}

static struct json *objects_tree(const struct json *old, const struct json_field *f, const void *source)
{
	const void *items;
	size_t count;
	struct json *array = json_array();

	memcpy(&items, at_const(source, f->offset), sizeof(items));
	memcpy(&count, at_const(source, f->count_offset), sizeof(count));
	for (size_t i = 0; i < count; i++) {
		struct json *entry = json_object(), *before;
		const char *key;
		struct json *value;

		json_store(entry, f->fields, at_const(items, i * f->element_size));
		before = same_entry(old, entry, f->fields[0].key);
		for (size_t k = 0; before && json_member(before, k, &key, &value); k++) {
			const struct json_field *known = f->fields;

			while (known->key && !streq(known->key, key))
				known++;
			if (!known->key)
				json_set(entry, key, json_ref(value));
		}
		json_append(array, entry);
	}
	return array;
}

static void store_object(struct json *tree, const struct json_field *f, const void *from)
{
	struct json *object = json_get(tree, f->key);

	if (!json_is_object(object)) {
		object = json_object();
		json_set(tree, f->key, object);
	}
	json_store(object, f->fields, from);
}

static void store_field(struct json *tree, const struct json_field *f, const void *source)
{
	const void *from = at_const(source, f->offset);

	switch (f->type) {
	case JSON_STRING: {
		const char *s = *(char *const *)from;

		if (s)
			json_set_string(tree, f->key, s);
		else
			json_remove(tree, f->key);
		break;
	}
	case JSON_U64: json_set_u64(tree, f->key, *(const uint64_t *)from); break;
	case JSON_U32: json_set_u64(tree, f->key, *(const uint32_t *)from); break;
	case JSON_BOOL: json_set_bool(tree, f->key, *(const bool *)from); break;
	case JSON_STRINGS: json_set(tree, f->key, strings_tree(from)); break;
	case JSON_MAP: json_set(tree, f->key, map_tree(from)); break;
	case JSON_ENUM: json_set_string(tree, f->key, f->names[*(const int *)from]); break;
	case JSON_OBJECT: store_object(tree, f, from); break;
	case JSON_OBJECTS: json_set(tree, f->key, objects_tree(json_get(tree, f->key), f, source)); break;
	}
}

void json_store(struct json *tree, const struct json_field *fields, const void *source)
{
	for (const struct json_field *f = fields; f->key; f++)
		store_field(tree, f, source);
}

void json_fields_done(const struct json_field *fields, void *target)
{
	for (const struct json_field *f = fields; f->key; f++) {
		void *to = at(target, f->offset);

		switch (f->type) {
		case JSON_STRING:
			free(*(char **)to);
			*(char **)to = NULL;
			break;
		case JSON_STRINGS:
		case JSON_MAP: strv_done(to); break;
		case JSON_OBJECT: json_fields_done(f->fields, to); break;
		case JSON_OBJECTS: array_done(f, target); break;
		case JSON_U64:
		case JSON_U32:
		case JSON_BOOL:
		case JSON_ENUM: break;
		}
	}
}
