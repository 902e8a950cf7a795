/* What this QEMU can do, by its own description (query-qmp-schema) instead of version numbers. */
#pragma once

#include <stdbool.h>

#include "json/json.h"

/* True when @schema (the array that query-qmp-schema returned) knows @path: a command or event ("migrate", "SHUTDOWN"), followed by members,
 * enum values or variants, separated by '/': "blockdev-add/discard", "netdev_add/type/stream", "set-numa-node/type/dist/val". Arrays are
 * walked through. False for anything else, and for a schema that is not one. */
bool qmp_schema_has(const struct json *schema, const char *path);
