/* OCI hooks that run on the host, in the runtime's namespaces (runtime specification, "POSIX-platform Hooks"): nerdctl sets up networks with them. */
#pragma once

#include <sys/types.h>

#include "base/error.h"
#include "json/json.h"

/* Runs all hooks of @kind ("prestart", "createRuntime", "poststart", "poststop") in order, each with the container's state on standard input.
 * Stops at the first that fails. A hook without a timeout of its own has 60 s. */
int hooks_run(const struct json *spec, const char *kind, const char *id, const char *status, pid_t pid,
	      const char *bundle, struct error *err);
