/* json-c beside our own names: it calls types json_object, json_type and json_bool. Private to this room. */
#pragma once

#define json_object jsonc_object
#define json_type   jsonc_type
#define json_bool   jsonc_bool
#include <json-c/json.h>
#undef json_object
#undef json_type
#undef json_bool

#include <string.h>

struct json;

/* json-c reads through pointers that are not const. */
static inline jsonc_object *jsonc(const struct json *j)
{
	jsonc_object *o;

	memcpy(&o, &j, sizeof(o));
	return o;
}
