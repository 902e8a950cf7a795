/* Shared by the files that make QEMU's command line. */
#pragma once

#include "engine/qemu/argv.h"

#define MEMORY_QUANTUM (UINT64_C(1) << 20)

struct builder {
	const struct engine_request *req;
	struct engine_plan *plan;
	bool micro;
	bool tcg;
	bool acpi;
	bool firmware;
	bool flash; /* it is UEFI, which lies in flash memory with its variables */
	bool cdrom; /* there is one */
};

/* Whether the request of @b can be put into words. Errors: kind CONFIG (-EINVAL), with a hint where there is one. */
int argv_check(const struct builder *b, const char *program, struct error *err);
