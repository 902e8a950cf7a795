/* One JSON tree (json-c behind it, strict and UTF-8 checked), one builder, one loader driven by field tables.
 * Host only: the guest does not link this. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/memory.h"

struct json; /* reference counted inside; a value handed to a builder is owned by it from then on */

/* Strict RFC 8259: one value, valid UTF-8, no duplicate-key tolerance beyond "last wins", depth <= 64.
 * @what names the document in errors ("machines/web/machine.json"). Errors: -EBADMSG (kind DATA). */
int json_parse(const char *text, size_t len, const char *what, struct json **ret, struct error *err);
struct json *json_free(struct json *j); /* accepts NULL; returns NULL */
DEFINE_CLEANUP(struct json *, json_free);
#define _cleanup_json_ _cleanup_(json_freep)

/* Readers: borrowed results, NULL or false where the type differs or the key is absent. */
struct json *json_get(const struct json *object, const char *key);
size_t json_length(const struct json *array); /* 0 for anything else */
struct json *json_at(const struct json *array, size_t i);
const char *json_string(const struct json *j);
bool json_u64(const struct json *j, uint64_t *ret);
bool json_i64(const struct json *j, int64_t *ret);
bool json_bool(const struct json *j, bool *ret);
bool json_is_object(const struct json *j);
bool json_is_array(const struct json *j);
bool json_is_null(const struct json *j); /* also for NULL */
/* Iterates over an object: for (size_t i = 0; json_member(o, i, &k, &v); i++). O(n) per call is acceptable: documents are small. */
bool json_member(const struct json *object, size_t i, const char **ret_key, struct json **ret_value);

/* Builders. json_set* replace an existing key; a NULL string sets null. */
struct json *json_object(void);
struct json *json_array(void);
struct json *json_null(void);
struct json *json_new_string(const char *s);
struct json *json_new_u64(uint64_t v);
struct json *json_new_bool(bool v);
void json_set(struct json *object, const char *key, struct json *value /* consumed */);
void json_set_string(struct json *object, const char *key, const char *s);
void json_setf(struct json *object, const char *key, const char *fmt, ...) _printf_(3, 4);
void json_set_u64(struct json *object, const char *key, uint64_t v);
void json_set_i64(struct json *object, const char *key, int64_t v);
void json_set_bool(struct json *object, const char *key, bool v);
void json_remove(struct json *object, const char *key);
void json_append(struct json *array, struct json *value /* consumed */);
void json_append_string(struct json *array, const char *s);
struct json *json_ref(struct json *j);

/* Text, one line or indented by two spaces (with a final newline). */
void json_render(const struct json *j, bool pretty, struct buf *out);

/* Field tables: one table loads a record into a struct and stores it back. */
enum json_type {
	JSON_STRING,  /* char *, owned by the struct */
	JSON_U64,     /* uint64_t */
	JSON_U32,     /* uint32_t, range checked */
	JSON_BOOL,    /* bool */
	JSON_STRINGS, /* struct strv */
	JSON_MAP,     /* struct strv of "key=value", an object of strings in JSON */
	JSON_ENUM,    /* int; names in .names, NULL-terminated, value = index */
	JSON_OBJECT,  /* nested struct at the offset, .fields */
	JSON_OBJECTS, /* array of structs: T * at .offset, size_t count at .count_offset, .element_size, .fields */
};
enum { JSON_REQUIRED = 1 };

struct json_field {
	const char *key;
	enum json_type type;
	size_t offset;
	unsigned flags;
	const char *const *names;        /* ENUM */
	const struct json_field *fields; /* OBJECT(S); ends with a zeroed entry */
	size_t element_size;             /* OBJECTS */
	size_t count_offset;             /* OBJECTS */
};

/* Loads what is there; a missing optional key leaves the struct's value (its default); an unknown key is ignored (it stays in the
 * tree, so json_store() into the same tree keeps it). A wrong type is -EBADMSG (kind DATA) naming @what and the key's path:
 * "machine.json: disks[1].size: expected a number". On error the struct may be half filled; json_fields_done() releases it. */
int json_load(const struct json *tree, const struct json_field *fields, void *target, const char *what,
	      struct error *err);
/* Writes every field into @tree (an object), replacing those keys and keeping all others. NULL strings are left out (removed). */
void json_store(struct json *tree, const struct json_field *fields, const void *source);
/* The same, but lists and maps that are empty are left out (removed) too, unless JSON_REQUIRED: nothing is read sooner than what is not there. */
void json_store_short(struct json *tree, const struct json_field *fields, const void *source);
/* Frees what json_load() allocated. */
void json_fields_done(const struct json_field *fields, void *target);
