/* OCI hooks that run on the host, in the runtime's namespaces (runtime specification, "POSIX-platform Hooks"): nerdctl sets up networks with them. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "json/json.h"

/* Runs all hooks of @kind ("prestart", "createRuntime", "poststart", "poststop") in order, each with the container's state on standard input.
 * Stops at the first that fails. A hook without a timeout of its own has 60 s. */
int hooks_run(const struct json *spec, const char *kind, const char *id, const char *status, pid_t pid,
	      const char *bundle, struct error *err);
/* In place of a shim that was killed: the poststop hooks of container @id, by the configuration in its bundle (open as @bundle_fd, at path @bundle),
 * until @deadline_ns. Errors: -ETIMEDOUT. */
int hooks_make_up(int bundle_fd, const char *bundle, const char *id, uint64_t deadline_ns, struct error *err);
