/* YAML read into the same tree as JSON, so that one field table checks both. Documents for people: no anchors, no tags, no second document. */
#pragma once

#include "json/json.h"

/* Plain true/false, null, ~ and unsigned decimal numbers become what they say; everything else is a string. Duplicate keys, aliases and more than
 * one document are refused. An empty document is an empty object. Errors: -EBADMSG (kind DATA) as "@what:LINE: why". */
int yaml_parse(const char *text, size_t len, const char *what, struct json **ret, struct error *err);
/* Only whether it is YAML: everything that YAML allows is allowed. Errors: as above. */
int yaml_check(const char *text, size_t len, const char *what, struct error *err);
