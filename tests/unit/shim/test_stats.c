#include "agent.pb-c.h"
#include "base/memory.h"
#include "cgroups.pb-c.h"
#include "shim/stats.h"
#include "test.h"
#include "wire/message.h"

enum { FILES_MAX = 16 };

struct response {
	Skerry__Agent__V1__ContainerStatsResponse m;
	Skerry__Agent__V1__CgroupFile files[FILES_MAX], *list[FILES_MAX];
};

static void add(struct response *r, const char *name, const char *content)
{
	Skerry__Agent__V1__CgroupFile *f = &r->files[r->m.n_files];

	skerry__agent__v1__cgroup_file__init(f);
	f->name = (char *)(uintptr_t)name;
	f->content = (ProtobufCBinaryData){ strlen(content), (uint8_t *)(uintptr_t)content };
	r->list[r->m.n_files++] = f;
	r->m.files = r->list;
}

static Cgroups__Metrics *metrics(struct response *r)
{
	_cleanup_buf_ struct buf in = {}, out = {};
	Cgroups__Metrics *m;

	message_pack(&in, &r->m.base);
	stats_pack((uint8_t *)in.p, in.len, &out);
	m = message_unpack(&cgroups__metrics__descriptor, out.p, out.len);
	ASSERT(m && m->cpu && m->memory && m->pids && m->io && m->memory_events);
	return m;
}

TEST(files_of_a_cgroup_become_metrics)
{
	struct response r = { .m = SKERRY__AGENT__V1__CONTAINER_STATS_RESPONSE__INIT };
	Cgroups__Metrics *m;

	add(&r, "memory.current", "4096\n");
	add(&r, "memory.max", "max\n");
	add(&r, "memory.stat", "anon 17\nfile 18\nworkingset_refault_anon 5\npgfault 19\n");
	add(&r, "memory.events", "low 0\noom 2\noom_kill 1\n");
	add(&r, "cpu.stat", "usage_usec 100\nuser_usec 60\nsystem_usec 40\nnr_throttled 3\n");
	add(&r, "pids.current", "7\n");
	add(&r, "pids.max", "max\n");
	add(&r, "io.stat", "254:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n259:1 rbytes=5\n");
	m = metrics(&r);
	ASSERT_EQ(m->memory->usage, 4096);
	ASSERT(m->memory->usage_limit == UINT64_MAX);
	ASSERT_EQ(m->memory->anon, 17);
	ASSERT_EQ(m->memory->pgfault, 19);
	ASSERT_EQ(m->memory_events->oom_kill, 1);
	ASSERT_EQ(m->cpu->usage_usec, 100);
	ASSERT_EQ(m->cpu->system_usec, 40);
	ASSERT_EQ(m->cpu->nr_throttled, 3);
	ASSERT_EQ(m->pids->current, 7);
	ASSERT_EQ(m->pids->limit, 0);
	ASSERT_EQ(m->io->n_usage, 2);
	ASSERT_EQ(m->io->usage[0]->major, 254);
	ASSERT_EQ(m->io->usage[0]->wbytes, 20);
	ASSERT_EQ(m->io->usage[1]->minor, 1);
	ASSERT_EQ(m->io->usage[1]->rbytes, 5);
	message_free(m);
}

TEST(nonsense_counts_as_nothing)
{
	struct response r = { .m = SKERRY__AGENT__V1__CONTAINER_STATS_RESPONSE__INIT };
	_cleanup_buf_ struct buf out = {};
	Cgroups__Metrics *m;

	add(&r, "memory.current", "-5");
	add(&r, "memory.stat", "anon\nfile x\n\n \nslab 99999999999999999999999\n");
	add(&r, "io.stat", "::::\n8:0\nx");
	add(&r, "pids.current", "");
	add(&r, "cpu.stat", "usage_usec 12");
	m = metrics(&r);
	ASSERT_EQ(m->memory->usage, 0);
	ASSERT_EQ(m->memory->slab, 0);
	ASSERT_EQ(m->cpu->usage_usec, 12);
	message_free(m);
	/* Bytes that are no message at all. */
	stats_pack((const uint8_t *)"\xff\xff\xff", 3, &out);
	ASSERT(out.len > 0);
}
