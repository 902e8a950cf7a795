/* Records by table: the tree is a hostile document until a field has been checked here. */
#include "json/json.h"

#include <assert.h>
#include <stdlib.h>

#include "json/jsonc.h"

/* No record of ours has more, and each entry of an array costs a struct. */
enum { ENTRIES_MAX = 65536 };

/* Where in the document we are: "disks[1].size", from its end; written down only for an error. All borrowed. */
struct place {
	const char *what;
	struct error *err;
	const struct place *up; /* NULL = the document itself */
	const char *key;        /* NULL = an entry of an array */
	size_t index;
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

static struct place below(const struct place *pl, const char *key, size_t index)
{
	return (struct place){ .what = pl->what, .err = pl->err, .up = pl, .key = key, .index = index };
}

static void add_path(struct buf *b, const struct place *pl)
{
	if (!pl->up)
		return;
	add_path(b, pl->up);
	if (!pl->key) {
		buf_addf(b, "[%zu]", pl->index);
		return;
	}
	if (b->len)
		buf_addc(b, '.');
	add_shown(b, pl->key);
}

static int wrong(const struct place *pl, const char *text)
{
	_cleanup_buf_ struct buf path = {};

	add_path(&path, pl);
	return error_set(pl->err, EBADMSG, "%s: %s: %s", pl->what, path.len ? path.p : "document", text);
}

static int load_fields(const struct place *pl, const struct json *tree, const struct json_field *fields, void *target);

static int load_number(const struct place *pl, const struct json *j, uint64_t max, uint64_t *ret)
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

static int load_strings(const struct place *pl, const struct json *j, struct strv *to)
{
	_cleanup_strv_ struct strv v = {};

	if (!json_is_array(j))
		return wrong(pl, "expected an array of strings");
	for (size_t i = 0; i < json_length(j); i++) {
		const char *s = json_string(json_at(j, i));

		if (!s) {
			struct place entry = below(pl, NULL, i);

			return wrong(&entry, "expected a string");
		}
		strv_add(&v, s);
	}
	strv_done(to);
	*to = v;
	v = (struct strv){};
	return 0;
}

static int load_map(const struct place *pl, const struct json *j, struct strv *to)
{
	_cleanup_strv_ struct strv v = {};

	if (!json_is_object(j))
		return wrong(pl, "expected an object of strings");
	for (const struct lh_entry *e = json_object_get_object(jsonc(j))->head; e; e = e->next) {
		const char *key = lh_entry_k(e), *s = json_string(lh_entry_v(e));

		if (!s || !*key || strchr(key, '=')) {
			struct place entry = below(pl, key, 0);

			return wrong(&entry, s ? "a key must not be empty or hold '='" : "expected a string");
		}
		strv_addf(&v, "%s=%s", key, s);
	}
	strv_done(to);
	*to = v;
	v = (struct strv){};
	return 0;
}

static int load_enum(const struct place *pl, const struct json *j, const struct json_field *f, int *to)
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

static int load_objects(const struct place *pl, const struct json *j, const struct json_field *f, void *target)
{
	size_t n = json_length(j);
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
		struct place entry = below(pl, NULL, i);
		int r = load_fields(&entry, json_at(j, i), f->fields, (char *)*items + i * f->element_size);

		if (r < 0)
			return r;
	}
	return 0;
}

static int load_field(const struct place *pl, const struct json *j, const struct json_field *f, void *target)
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

static int load_fields(const struct place *pl, const struct json *tree, const struct json_field *fields, void *target)
{
	if (!json_is_object(tree))
		return wrong(pl, "expected an object");
	for (const struct json_field *f = fields; f->key; f++) {
		const struct json *j = json_get(tree, f->key);
		struct place field = below(pl, f->key, 0);
		int r;

		/* null is what other tools write for "not set". */
		if (!j && !(f->flags & JSON_REQUIRED))
			continue;
		r = j ? load_field(&field, j, f, target) : wrong(&field, "missing");
		if (r < 0)
			return r;
	}
	return 0;
}

int json_load(const struct json *tree, const struct json_field *fields, void *target, const char *what,
	      struct error *err)
{
	struct place pl = { .what = what, .err = err };

	return load_fields(&pl, tree, fields, target);
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

static void store(struct json *tree, const struct json_field *fields, const void *source, bool brief);

static struct json *objects_tree(const struct json *old, const struct json_field *f, const void *source, bool brief)
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

		store(entry, f->fields, at_const(items, i * f->element_size), brief);
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

static void store_object(struct json *tree, const struct json_field *f, const void *from, bool brief)
{
	struct json *object = json_get(tree, f->key);

	if (!json_is_object(object)) {
		object = json_object();
		json_set(tree, f->key, object);
	}
	store(object, f->fields, from, brief);
}

static bool is_empty(const struct json_field *f, const void *source)
{
	size_t n = 1;

	if (f->type == JSON_STRINGS || f->type == JSON_MAP)
		n = ((const struct strv *)at_const(source, f->offset))->n;
	else if (f->type == JSON_OBJECTS)
		memcpy(&n, at_const(source, f->count_offset), sizeof(n));
	return n == 0;
}

static void store_field(struct json *tree, const struct json_field *f, const void *source, bool brief)
{
	const void *from = at_const(source, f->offset);

	if (brief && !(f->flags & JSON_REQUIRED) && is_empty(f, source)) {
		json_remove(tree, f->key);
		return;
	}
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
	case JSON_OBJECT: store_object(tree, f, from, brief); break;
	case JSON_OBJECTS: json_set(tree, f->key, objects_tree(json_get(tree, f->key), f, source, brief)); break;
	}
}

static void store(struct json *tree, const struct json_field *fields, const void *source, bool brief)
{
	for (const struct json_field *f = fields; f->key; f++)
		store_field(tree, f, source, brief);
}

void json_store(struct json *tree, const struct json_field *fields, const void *source)
{
	store(tree, fields, source, false);
}

void json_store_short(struct json *tree, const struct json_field *fields, const void *source)
{
	store(tree, fields, source, true);
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
