#include "shim/size.h"

#include <inttypes.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#define MIB UINT64_C(1048576)
/* A container without limits gets what the host can give without harm; memory is the host's until the guest touches it. */
#define DEFAULT_BYTES  (2048 * MIB)
#define SMALLEST_BYTES (128 * MIB)
/* A processor that is never used costs the guest a few hundred KiB: on hosts with very many not each is held ready. */
enum { SPARE_CPUS = 8, MILLI = 1000 };

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

void size_host_read(struct size_host *ret)
{
	long online = sysconf(_SC_NPROCESSORS_ONLN);
	struct sysinfo si = {};

	(void)sysinfo(&si);
	ret->cpus = online > 0 ? (uint32_t)online : 1;
	ret->memory_bytes = (uint64_t)si.totalram * si.mem_unit;
}

/* Whole MiB within reason. */
static uint64_t memory_for(uint64_t bytes, const struct size_host *h)
{
	if (h->memory_bytes)
		bytes = min_u64(bytes, h->memory_bytes);
	return (max_u64(bytes, SMALLEST_BYTES) + MIB - 1) / MIB * MIB;
}

/* For limits of @bytes together. */
static uint64_t memory_beside(uint64_t bytes, const struct shim_config *c)
{
	return bytes + bytes / SIZE_TABLES_PART + c->overhead_bytes;
}

static uint64_t unlimited_memory(const struct shim_config *c, const struct size_host *h)
{
	if (c->memory_bytes)
		return c->memory_bytes;
	return h->memory_bytes ? min_u64(DEFAULT_BYTES, h->memory_bytes / 2) : DEFAULT_BYTES;
}

void size_choose(const struct spec_info *spec, const struct shim_config *c, const struct size_host *h,
		 struct vm_size *ret)
{
	uint64_t max_cpus = spec->max_cpus ? spec->max_cpus : c->max_cpus,
		 max_memory = spec->max_memory_bytes ? spec->max_memory_bytes : c->max_memory_bytes;

	/* More processors than the host has would only wait for each other. */
	ret->cpus = (uint32_t)min_u64(spec->cpus ? spec->cpus : c->cpus ? c->cpus : h->cpus, h->cpus);
	ret->max_cpus = (uint32_t)max_u64(min_u64(max_cpus ? max_cpus : SPARE_CPUS, h->cpus), ret->cpus);
	ret->start_cpus = (uint32_t)(c->cpu_hotplug.enable ? min_u64(c->cpu_hotplug.min, ret->cpus) : ret->cpus);

	ret->memory_bytes =
		memory_for(spec->memory_bytes ? memory_beside(spec->memory_bytes, c) : unlimited_memory(c, h), h);
	/* Not more than it starts with unless somebody says so: a guest's tables for memory take 1.6 % of what may ever come, and the balloon that
	 * holds the rest takes time to fill. */
	ret->max_memory_bytes = max_u64(max_memory ? memory_for(max_memory, h) : 0, ret->memory_bytes);
	ret->start_memory_bytes = c->memory_hotplug.enable
					  ? min_u64(memory_for(c->memory_hotplug.min, h), ret->memory_bytes)
					  : ret->memory_bytes;
}

void size_add(struct size_demand *d, const struct spec_size *s)
{
	d->any = true;
	d->cpus_unlimited = d->cpus_unlimited || !s->milli_cpus;
	d->memory_unlimited = d->memory_unlimited || !s->memory_bytes;
	d->milli_cpus = min_u64(d->milli_cpus + s->milli_cpus, UINT32_MAX);
	d->memory_bytes = min_u64(d->memory_bytes + s->memory_bytes, INT64_MAX);
}

int size_for(const struct size_demand *d, bool keeps, const struct shim_config *c, const struct size_host *h,
	     const struct vm_size *begin, struct vm_size *ret, struct error *err)
{
	uint64_t cpus = min_u64((d->milli_cpus + MILLI - 1) / MILLI, h->cpus),
		 memory = memory_for(memory_beside(d->memory_bytes, c), h);

	if (keeps || d->cpus_unlimited || !d->any)
		cpus = max_u64(cpus, begin->cpus);
	if (keeps || d->memory_unlimited || !d->any)
		memory = max_u64(memory, begin->memory_bytes);
	if (cpus > begin->max_cpus)
		return error_set_kind(
			err, ERROR_CONFIG, EINVAL,
			"%" PRIu64 " processors: the machine can have %" PRIu32
			" (containerd.max_cpus in %s, or the annotation io.skerry.max_cpus, before it starts)",
			cpus, begin->max_cpus, c->path);
	if (memory > begin->max_memory_bytes)
		return error_set_kind(
			err, ERROR_CONFIG, EINVAL,
			"%" PRIu64 " MiB of memory: the machine can have %" PRIu64
			" (containerd.max_memory in %s, or the annotation io.skerry.max_memory, before it starts)",
			memory / MIB, begin->max_memory_bytes / MIB, c->path);
	*ret = *begin;
	ret->cpus = (uint32_t)max_u64(cpus, 1);
	ret->memory_bytes = memory;
	return 0;
}
