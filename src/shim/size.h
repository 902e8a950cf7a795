/* How large a virtual machine is at its start, and how large it may become. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "shim/config.h"

/* A guest's kernel has tables for its memory: 64 bytes for each page of 4096, which are nobody's to use. */
enum { SIZE_TABLES_PART = 64 };

/* What the host has. */
struct size_host {
	uint32_t cpus;
	uint64_t memory_bytes; /* 0 = not known */
};

struct vm_size {
	/* What its containers were promised. */
	uint32_t cpus;
	uint64_t memory_bytes;
	/* What it starts with: less when it is to follow its load. */
	uint32_t start_cpus;
	uint64_t start_memory_bytes;
	/* What it may become: the engine is told of this much. */
	uint32_t max_cpus;
	uint64_t max_memory_bytes;
};

/* Of what a container, or all of a pod's, ask for. */
struct size_demand {
	bool any;              /* there is a container */
	bool cpus_unlimited;   /* one of them has no quota */
	bool memory_unlimited; /* or no limit */
	uint64_t milli_cpus;   /* together */
	uint64_t memory_bytes;
};

void size_host_read(struct size_host *ret);
void size_choose(const struct spec_info *spec, const struct shim_config *c, const struct size_host *h,
		 struct vm_size *ret);
/* Adds what one container asks for. */
void size_add(struct size_demand *d, const struct spec_size *s);
/* What a machine that was started as @begin should be for @d. @keeps: it does not fall below its beginnings; so where its size was asked for by name, and
 * for a pod, whose containers come and go. Errors: kind CONFIG, one that it cannot become; @config_path names the file where that could be changed. */
int size_for(const struct size_demand *d, bool keeps, const struct shim_config *c, const struct size_host *h,
	     const struct vm_size *begin, struct vm_size *ret, struct error *err);
