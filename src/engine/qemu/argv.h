/* The command line of QEMU. Pure: a request in, words and a list of descriptors out; nothing on the host is touched or asked. */
#pragma once

#include "engine/engine.h"

#define QEMU_QMP_SOCKET     "qmp.sock"
#define QEMU_CONSOLE_SOCKET "console-engine.sock"
#define QEMU_AGENT_SOCKET   "agent.sock"

/* As engine.plan(). */
int qemu_argv(const struct engine_request *req, const char *program, struct engine_plan *ret, struct error *err);
