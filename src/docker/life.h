/* From the start of the container's machine to its end: what PID 1 does. */
#pragma once

#include "docker/settings.h"
#include "store/store.h"

/* Starts the machine, shows its console on standard output (and passes standard input on), ends it when a signal asks for it, and reaps.
 * Returns the container's exit status: 0 the guest powered off, or ended as it was asked to; 1 it crashed, or its engine failed.
 * Errors: it could not be started. */
int life_run(const struct store *s, const struct settings *settings, struct error *err);
