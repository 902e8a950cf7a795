#include "engine/qemu/schema.h"

#include <stddef.h>
#include <string.h>

#include "base/memory.h"

/* Types refer to each other by number and may do so in circles: this bounds a walk in a hostile or broken document. */
#define SCHEMA_STEPS_MAX 2000

struct walk {
	const struct json *schema;
	unsigned steps;
};

static const struct json *entity(struct walk *w, const char *name)
{
	if (!name)
		return NULL;
	for (size_t i = 0, n = json_length(w->schema); i < n; i++) {
		const struct json *e = json_at(w->schema, i);
		const char *s = json_string(json_get(e, "name"));

		if (s && streq(s, name))
			return e;
	}
	return NULL;
}

static bool has(struct walk *w, const struct json *type, const char *path);

static const struct json *type_of(struct walk *w, const struct json *holder, const char *key)
{
	return entity(w, json_string(json_get(holder, key)));
}

static bool string_in(const struct json *array, const char *word, size_t len)
{
	for (size_t i = 0, n = json_length(array); i < n; i++) {
		const char *s = json_string(json_at(array, i));

		if (s && strlen(s) == len && memcmp(s, word, len) == 0)
			return true;
	}
	return false;
}

static bool object_has(struct walk *w, const struct json *type, const char *path)
{
	size_t len = strcspn(path, "/");
	const char *rest = path[len] ? path + len + 1 : "";
	const struct json *list = json_get(type, "members");

	for (size_t i = 0, n = json_length(list); i < n; i++) {
		const struct json *m = json_at(list, i);
		const char *name = json_string(json_get(m, "name"));

		if (name && strlen(name) == len && memcmp(name, path, len) == 0 &&
		    (!*rest || has(w, type_of(w, m, "type"), rest)))
			return true;
	}
	list = json_get(type, "variants");
	for (size_t i = 0, n = json_length(list); i < n; i++)
		if (has(w, type_of(w, json_at(list, i), "type"), path))
			return true;
	return false;
}

static bool has(struct walk *w, const struct json *type, const char *path)
{
	const char *meta = json_string(json_get(type, "meta-type"));
	const struct json *list;

	if (!meta || ++w->steps > SCHEMA_STEPS_MAX)
		return false;
	if (streq(meta, "object"))
		return object_has(w, type, path);
	if (streq(meta, "enum"))
		return !strchr(path, '/') && string_in(json_get(type, "values"), path, strlen(path));
	if (streq(meta, "array"))
		return has(w, type_of(w, type, "element-type"), path);
	if (!streq(meta, "alternate"))
		return false;
	list = json_get(type, "members");
	for (size_t i = 0, n = json_length(list); i < n; i++)
		if (has(w, type_of(w, json_at(list, i), "type"), path))
			return true;
	return false;
}

bool qmp_schema_has(const struct json *schema, const char *path)
{
	size_t len = strcspn(path, "/");
	_cleanup_free_ char *name = xstrndup(path, len);
	struct walk w = { .schema = schema };
	const struct json *e = entity(&w, name);
	const char *meta = json_string(json_get(e, "meta-type"));

	/* Types have names too ("42"), which mean nothing to a caller. */
	if (!meta || (!streq(meta, "command") && !streq(meta, "event")))
		return false;
	return !path[len] || has(&w, type_of(&w, e, "arg-type"), path + len + 1);
}
