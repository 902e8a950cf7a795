#include "shim/stats.h"

#include <string.h>

#include "agent.pb-c.h"
#include "base/memory.h"
#include "base/parse.h"
#include "cgroups.pb-c.h"
#include "wire/message.h"

/* "max" is how a cgroup says that there is no limit (cgroup-v2.rst); in the metrics that is the greatest number. */
static uint64_t number(const char *s, size_t n)
{
	char text[24];
	uint64_t v;

	while (n && (s[n - 1] == '\n' || s[n - 1] == ' '))
		n--;
	if (n == 3 && memcmp(s, "max", 3) == 0)
		return UINT64_MAX;
	if (n == 0 || n >= sizeof(text))
		return 0;
	memcpy(text, s, n);
	text[n] = '\0';
	return parse_u64(text, 0, UINT64_MAX, &v) < 0 ? 0 : v;
}

struct row {
	const char *key;
	size_t offset;
};

/* Lines of "key value". */
static void flat(const char *s, size_t n, const struct row *rows, size_t n_rows, void *target)
{
	const char *end = s + n;

	while (s < end) {
		const char *eol = memchr(s, '\n', (size_t)(end - s)), *space;

		eol = eol ? eol : end;
		space = memchr(s, ' ', (size_t)(eol - s));
		for (size_t i = 0; space && i < n_rows; i++) {
			size_t k = strlen(rows[i].key);

			if ((size_t)(space - s) == k && memcmp(rows[i].key, s, k) == 0) {
				uint64_t v = number(space + 1, (size_t)(eol - space - 1));

				memcpy((char *)target + rows[i].offset, &v, sizeof(v));
			}
		}
		s = eol + 1;
	}
}

#define CPU(field)                                        \
	{                                                 \
#field, offsetof(Cgroups__CPUStat, field) \
	}
#define MEM(field)                                           \
	{                                                    \
#field, offsetof(Cgroups__MemoryStat, field) \
	}
#define EVENT(field)                                           \
	{                                                      \
#field, offsetof(Cgroups__MemoryEvents, field) \
	}

static const struct row cpu_rows[] = { CPU(usage_usec), CPU(user_usec),    CPU(system_usec),
				       CPU(nr_periods), CPU(nr_throttled), CPU(throttled_usec) };
static const struct row memory_rows[] = {
	MEM(anon),
	MEM(file),
	MEM(kernel_stack),
	MEM(slab),
	MEM(sock),
	MEM(shmem),
	MEM(file_mapped),
	MEM(file_dirty),
	MEM(file_writeback),
	MEM(anon_thp),
	MEM(inactive_anon),
	MEM(active_anon),
	MEM(inactive_file),
	MEM(active_file),
	MEM(unevictable),
	MEM(slab_reclaimable),
	MEM(slab_unreclaimable),
	MEM(pgfault),
	MEM(pgmajfault),
	MEM(pgrefill),
	MEM(pgscan),
	MEM(pgsteal),
	MEM(pgactivate),
	MEM(pgdeactivate),
	MEM(pglazyfree),
	MEM(pglazyfreed),
	MEM(thp_fault_alloc),
	MEM(thp_collapse_alloc),
};
static const struct row event_rows[] = { EVENT(low), EVENT(high), EVENT(max), EVENT(oom), EVENT(oom_kill) };

enum { DEVICES_MAX = 64 };

/* Lines of "MAJ:MIN rbytes=… wbytes=… rios=… wios=…". */
static void io(const char *s, size_t n, Cgroups__IOEntry *entries, size_t *ret_n)
{
	_cleanup_free_ char *text = xstrndup(s, n);
	char *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line && *ret_n < DEVICES_MAX;
	     line = strtok_r(NULL, "\n", &save)) {
		static const struct row keys[] = { { "rbytes=", offsetof(Cgroups__IOEntry, rbytes) },
						   { "wbytes=", offsetof(Cgroups__IOEntry, wbytes) },
						   { "rios=", offsetof(Cgroups__IOEntry, rios) },
						   { "wios=", offsetof(Cgroups__IOEntry, wios) } };
		Cgroups__IOEntry *e = &entries[*ret_n];
		size_t major = strcspn(line, ":"), minor;

		if (!line[major])
			continue;
		minor = strcspn(line + major + 1, " ");
		cgroups__ioentry__init(e);
		e->major = number(line, major);
		e->minor = number(line + major + 1, minor);
		for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
			const char *at = strstr(line, keys[i].key);
			uint64_t v;

			if (!at)
				continue;
			at += strlen(keys[i].key);
			v = number(at, strcspn(at, " "));
			memcpy((char *)e + keys[i].offset, &v, sizeof(v));
		}
		(*ret_n)++;
	}
}

void stats_pack(const uint8_t *payload, size_t len, struct buf *out)
{
	_cleanup_message_ Skerry__Agent__V1__ContainerStatsResponse *r =
		message_unpack(&skerry__agent__v1__container_stats_response__descriptor, payload, len);
	_cleanup_free_ Cgroups__IOEntry *entries = xnew_n(Cgroups__IOEntry, DEVICES_MAX);
	Cgroups__IOEntry *list[DEVICES_MAX];
	Cgroups__Metrics m = CGROUPS__METRICS__INIT;
	Cgroups__PidsStat pids = CGROUPS__PIDS_STAT__INIT;
	Cgroups__CPUStat cpu = CGROUPS__CPUSTAT__INIT;
	Cgroups__MemoryStat memory = CGROUPS__MEMORY_STAT__INIT;
	Cgroups__MemoryEvents events = CGROUPS__MEMORY_EVENTS__INIT;
	Cgroups__IOStat iostat = CGROUPS__IOSTAT__INIT;
	size_t n_entries = 0;

	for (size_t i = 0; r && i < r->n_files; i++) {
		const char *name = r->files[i]->name, *s = (const char *)r->files[i]->content.data;
		size_t n = r->files[i]->content.len;

		if (!n)
			continue;
		if (streq(name, "memory.current"))
			memory.usage = number(s, n);
		else if (streq(name, "memory.max"))
			memory.usage_limit = number(s, n);
		else if (streq(name, "memory.swap.current"))
			memory.swap_usage = number(s, n);
		else if (streq(name, "memory.stat"))
			flat(s, n, memory_rows, ARRAY_SIZE(memory_rows), &memory);
		else if (streq(name, "memory.events"))
			flat(s, n, event_rows, ARRAY_SIZE(event_rows), &events);
		else if (streq(name, "cpu.stat"))
			flat(s, n, cpu_rows, ARRAY_SIZE(cpu_rows), &cpu);
		else if (streq(name, "pids.current"))
			pids.current = number(s, n);
		else if (streq(name, "pids.max"))
			pids.limit = number(s, n);
		else if (streq(name, "io.stat"))
			io(s, n, entries, &n_entries);
	}
	/* No limit of pids is 0 here (containerd/cgroups, cgroup2). */
	if (pids.limit == UINT64_MAX)
		pids.limit = 0;
	for (size_t i = 0; i < n_entries; i++)
		list[i] = &entries[i];
	iostat.usage = list;
	iostat.n_usage = n_entries;
	m.pids = &pids;
	m.cpu = &cpu;
	m.memory = &memory;
	m.memory_events = &events;
	m.io = &iostat;
	message_pack(out, &m.base);
}
