#include <fcntl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "cgroups.pb-c.h"
#include "shim/host_stats.h"
#include "test.h"
#include "wire/message.h"

static void put(const char *directory, const char *name, const char *text)
{
	_cleanup_close_ int dir = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_free_ char *path = xasprintf("%s/%s", directory, name);

	ASSERT_OK(mkdir_parents_at(dir, directory, 0700));
	ASSERT_OK(file_write_at(dir, path, text, strlen(text), 0600, 0));
}

static Cgroups__Metrics *read_all(const char *const *directories, size_t n)
{
	_cleanup_strv_ struct strv all = {};
	_cleanup_buf_ struct buf out = {};

	for (size_t i = 0; i < n; i++)
		strv_addf(&all, "%s/%s", test_tmpdir(), directories[i]);
	if (!host_stats_pack(&all, &out))
		return NULL;
	return message_unpack(&cgroups__metrics__descriptor, (uint8_t *)out.p, out.len);
}

TEST(version_two_is_told_as_it_is)
{
	static const char *const dirs[] = { "a", "a/b" };
	_cleanup_message_ Cgroups__Metrics *m = NULL;

	put("a", "cgroup.controllers", "memory\n");
	put("a", "memory.current", "1\n");
	put("a/b", "cgroup.controllers", "memory\n");
	put("a/b", "memory.current", "4096\n");
	put("a/b", "memory.max", "max\n");
	put("a/b", "cpu.stat", "usage_usec 77\nuser_usec 7\n");
	put("a/b", "pids.current", "5\n");
	m = read_all(dirs, 2);
	ASSERT(m);
	ASSERT_EQ(m->memory->usage, 4096);
	ASSERT_EQ(m->memory->usage_limit, UINT64_MAX);
	ASSERT_EQ(m->cpu->usage_usec, 77);
	ASSERT_EQ(m->cpu->user_usec, 7);
	ASSERT_EQ(m->pids->current, 5);
}

TEST(version_one_is_put_in_the_others_words)
{
	static const char *const dirs[] = { "memory/x", "memory/x/c1", "cpu/x", "cpu/x/c1", "pids/x", "pids/x/c1" };
	_cleanup_message_ Cgroups__Metrics *m = NULL;

	put("memory/x", "memory.usage_in_bytes", "1\n");
	put("memory/x/c1", "memory.usage_in_bytes", "8192\n");
	put("memory/x/c1", "memory.stat", "cache 5\n");
	put("cpu/x/c1", "cpuacct.usage", "123456789\n");
	put("cpu/x/c1", "cpu.stat", "nr_periods 9\n");
	put("pids/x/c1", "pids.current", "7\n");
	m = read_all(dirs, 6);
	ASSERT(m);
	ASSERT_EQ(m->memory->usage, 8192);
	ASSERT_EQ(m->cpu->usage_usec, 123456);
	ASSERT_EQ(m->pids->current, 7);
}

TEST(where_there_is_nothing_nothing_is_told)
{
	static const char *const dirs[] = { "none", "none/c1" };

	ASSERT(!read_all(dirs, 0));
	ASSERT(!read_all(dirs, 2));
}
