/* The modules that a guest needs from a modular kernel, with what they depend on. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/memory.h"

struct kernel_module {
	char *name; /* owned; as the kernel says it: "virtio_blk" */
	bool wanted, done;
	struct buf content;
	struct strv depends;
};
struct kernel_modules {
	struct kernel_module *items; /* owned */
	size_t n;
};
/* Fills in the wanted names, without content. */
void kernel_modules_init(struct kernel_modules *m);
void kernel_modules_done(struct kernel_modules *m);
/* The module of a file below lib/modules that is wanted and not there yet, or NULL: "…/virtio-rng.ko.xz" is virtio_rng. */
struct kernel_module *kernel_modules_match(struct kernel_modules *m, const char *path);
/* Takes a module's content (unpacked here when packed) and adds what it depends on to the wanted ones. */
int kernel_modules_set(struct kernel_modules *m, struct kernel_module *module, const char *path,
		       const struct buf *content, struct error *err);
/* How many names are wanted by a module but have no content. */
size_t kernel_modules_missing(const struct kernel_modules *m);
/* The modules that are there, dependencies first, one file name a line. */
void kernel_modules_order(struct kernel_modules *m, struct buf *load);
