/* How containerd starts a shim (containerd, docs/runtime-v2.md): flags as Go's flag package reads them, then the action. */
#pragma once

#include <stdbool.h>

#include "base/error.h"

struct shim_args {
	const char *namespace, *id, *address, *publish_binary, *bundle,
		*socket; /* borrowed from argv; "" when not given */
	bool debug, info, version;
	const char *action; /* "start", "delete", "serve", "" */
};

/* Accepts -x v, --x v, -x=v, and the action anywhere after the flags it follows. Errors: kind USAGE. */
int shim_args_parse(int argc, char **argv, struct shim_args *ret, struct error *err);
