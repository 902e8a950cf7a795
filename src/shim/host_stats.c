#include "shim/host_stats.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "base/file.h"
#include "base/parse.h"
#include "shim/stats.h"
#include "wire/message.h"

enum { FILE_LIMIT = 64 << 10, FILES_MAX = 32, NS_PER_USEC = 1000 };

struct files {
	Skerry__Agent__V1__CgroupFile files[FILES_MAX], *list[FILES_MAX];
	char *texts[FILES_MAX]; /* owned */
	size_t n;
};

static void add(struct files *f, const char *name, char *text /* consumed */)
{
	Skerry__Agent__V1__CgroupFile *file = &f->files[f->n];

	skerry__agent__v1__cgroup_file__init(file);
	file->name = (char *)(uintptr_t)name;
	file->content = (ProtobufCBinaryData){ strlen(text), (uint8_t *)text };
	f->texts[f->n] = text;
	f->list[f->n++] = file;
}

static char *content(int dir, const char *name)
{
	struct buf text = {};

	if (file_read_at(dir, name, FILE_LIMIT, &text) < 0 || !text.p) {
		buf_done(&text);
		return NULL;
	}
	return buf_take(&text);
}

/* @name here is called @as in version 2. */
static void take(struct files *f, int dir, const char *name, const char *as)
{
	char *text = f->n < FILES_MAX ? content(dir, name) : NULL;

	if (text)
		add(f, as, text);
}

/* Nanoseconds there (cgroup-v1/cpuacct.rst), "usage_usec N" in version 2. */
static void take_cpu_time(struct files *f, int dir)
{
	_cleanup_free_ char *text = content(dir, "cpuacct.usage");
	uint64_t ns;

	if (!text || f->n == FILES_MAX)
		return;
	text[strcspn(text, "\n")] = '\0';
	if (parse_u64(text, 0, UINT64_MAX, &ns) >= 0)
		add(f, "cpu.stat", xasprintf("usage_usec %" PRIu64 "\n", ns / NS_PER_USEC));
}

static void read_one(struct files *f, const char *directory)
{
	static const char *const names[] = { "memory.current", "memory.max",   "memory.stat", "memory.events",
					     "cpu.stat",       "pids.current", "pids.max",    "io.stat" };
	_cleanup_close_ int dir = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0)
		return;
	if (faccessat(dir, "cgroup.controllers", F_OK, 0) == 0) {
		for (size_t i = 0; i < ARRAY_SIZE(names); i++)
			take(f, dir, names[i], names[i]);
		return;
	}
	take(f, dir, "memory.usage_in_bytes", "memory.current");
	take(f, dir, "pids.current", "pids.current");
	take_cpu_time(f, dir);
}

bool host_stats_pack(const struct strv *cgroups, struct buf *out)
{
	Skerry__Agent__V1__ContainerStatsResponse m = SKERRY__AGENT__V1__CONTAINER_STATS_RESPONSE__INIT;
	struct files f = {};
	_cleanup_buf_ struct buf packed = {};

	for (size_t i = 0; i < cgroups->n; i++) {
		const char *d = cgroups->items[i];

		/* Of each hierarchy the innermost. */
		if (i + 1 < cgroups->n && after_prefix(cgroups->items[i + 1], d) &&
		    cgroups->items[i + 1][strlen(d)] == '/')
			continue;
		read_one(&f, d);
	}
	m.files = f.list;
	m.n_files = f.n;
	message_pack(&packed, &m.base);
	if (f.n)
		stats_pack((uint8_t *)packed.p, packed.len, out);
	for (size_t i = 0; i < f.n; i++)
		free(f.texts[i]);
	return f.n > 0;
}
