#include "base/memory.h"
#include "shim/size.h"
#include "test.h"

#define MIB UINT64_C(1048576)

static const struct size_host host = { .cpus = 16, .memory_bytes = 8192 * MIB };

TEST(limits_make_the_size)
{
	static const struct {
		uint32_t cpus, max_cpus_asked;
		uint64_t memory, max_memory_asked;
		struct vm_size is;
	} cases[] = {
		{ 0, 0, 0, 0, { 16, 2048 * MIB, 16, 2048 * MIB, 16, 2048 * MIB } },
		{ 1, 0, 256 * MIB, 0, { 1, 356 * MIB, 1, 356 * MIB, 8, 356 * MIB } },
		{ 200, 0, 1, 0, { 16, 128 * MIB, 16, 128 * MIB, 16, 128 * MIB } },
		{ 2, 1, 256 * MIB, 4096 * MIB, { 2, 356 * MIB, 2, 356 * MIB, 2, 4096 * MIB } },
		{ 2, 200, 256 * MIB, 1, { 2, 356 * MIB, 2, 356 * MIB, 16, 356 * MIB } },
		{ 1, 1, INT64_MAX, 0, { 1, 8192 * MIB, 1, 8192 * MIB, 1, 8192 * MIB } },
	};
	_cleanup_shim_config_ struct shim_config c;

	shim_config_init(&c);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct spec_info spec = { .cpus = cases[i].cpus,
					  .memory_bytes = cases[i].memory,
					  .max_cpus = cases[i].max_cpus_asked,
					  .max_memory_bytes = cases[i].max_memory_asked };
		struct vm_size is;

		size_choose(&spec, &c, &host, &is);
		ASSERT_EQ(is.cpus, cases[i].is.cpus);
		ASSERT_EQ(is.start_cpus, cases[i].is.start_cpus);
		ASSERT_EQ(is.max_cpus, cases[i].is.max_cpus);
		ASSERT_EQ(is.memory_bytes, cases[i].is.memory_bytes);
		ASSERT_EQ(is.start_memory_bytes, cases[i].is.start_memory_bytes);
		ASSERT_EQ(is.max_memory_bytes, cases[i].is.max_memory_bytes);
	}
}

TEST(what_follows_its_load_starts_small)
{
	_cleanup_shim_config_ struct shim_config c;
	struct spec_info spec = { .cpus = 4 };
	struct vm_size is;

	shim_config_init(&c);
	c.cpu_hotplug.enable = c.memory_hotplug.enable = true;
	size_choose(&spec, &c, &host, &is);
	ASSERT_EQ(is.start_cpus, 1);
	ASSERT_EQ(is.cpus, 4);
	ASSERT_EQ(is.start_memory_bytes, 512 * MIB);
	ASSERT_EQ(is.max_memory_bytes, 2048 * MIB);
	/* And what is small stays so. */
	spec = (struct spec_info){ .cpus = 1, .memory_bytes = 64 * MIB };
	c.cpu_hotplug.min = 3;
	size_choose(&spec, &c, &host, &is);
	ASSERT_EQ(is.start_cpus, 1);
	ASSERT_EQ(is.start_memory_bytes, 161 * MIB);
}

TEST(the_owner_of_the_host_has_a_say)
{
	_cleanup_shim_config_ struct shim_config c;
	struct spec_info spec = {};
	struct vm_size is;

	shim_config_init(&c);
	c.cpus = 2;
	c.max_cpus = 3;
	c.memory_bytes = 700 * MIB;
	c.max_memory_bytes = 1000 * MIB;
	c.overhead_bytes = 10 * MIB;
	size_choose(&spec, &c, &host, &is);
	ASSERT_EQ(is.cpus, 2);
	ASSERT_EQ(is.max_cpus, 3);
	ASSERT_EQ(is.memory_bytes, 700 * MIB);
	ASSERT_EQ(is.max_memory_bytes, 1000 * MIB);
	spec.memory_bytes = 200 * MIB;
	size_choose(&spec, &c, &host, &is);
	ASSERT_EQ(is.memory_bytes, 214 * MIB);
}

static const struct vm_size begin = { 2, 356 * MIB, 2, 356 * MIB, 8, 1024 * MIB };

static struct vm_size want(const struct spec_size *sizes, size_t n, bool keeps)
{
	_cleanup_shim_config_ struct shim_config c;
	struct size_demand d = {};
	struct vm_size is;

	shim_config_init(&c);
	for (size_t i = 0; i < n; i++)
		size_add(&d, &sizes[i]);
	ASSERT_OK(size_for(&d, keeps, &c, &host, &begin, &is, NULL));
	return is;
}

TEST(a_machine_is_as_large_as_its_containers_together)
{
	static const struct spec_size two[] = { { 500, 100 * MIB }, { 2501, 200 * MIB } },
				      no_quota[] = { { 500, 100 * MIB }, { 0, 0 } }, one[] = { { 200, 64 * MIB } };
	struct vm_size is = want(two, 2, false);

	ASSERT_EQ(is.cpus, 4);
	ASSERT_EQ(is.memory_bytes, 401 * MIB);
	ASSERT_EQ(is.max_cpus, 8);
	is = want(no_quota, 2, false);
	ASSERT_EQ(is.cpus, 2);
	ASSERT_EQ(is.memory_bytes, 356 * MIB);
	is = want(one, 1, false);
	ASSERT_EQ(is.cpus, 1);
	ASSERT_EQ(is.memory_bytes, 161 * MIB);
	is = want(one, 1, true);
	ASSERT_EQ(is.cpus, 2);
	ASSERT_EQ(is.memory_bytes, 356 * MIB);
	is = want(NULL, 0, false);
	ASSERT_EQ(is.cpus, 2);
}

TEST(what_a_machine_cannot_become_is_said_in_one_line)
{
	_cleanup_shim_config_ struct shim_config c;
	_cleanup_error_ struct error e = {}, f = {};
	struct size_demand cpus = { .any = true, .milli_cpus = 9000, .memory_bytes = MIB },
			   memory = { .any = true, .milli_cpus = 10, .memory_bytes = UINT64_MAX / 4 };
	struct vm_size is;

	shim_config_init(&c);
	c.path = xstrdup("/x.yaml");
	ASSERT(size_for(&cpus, false, &c, &host, &begin, &is, &e) < 0);
	ASSERT_CONTAINS(e.msg, "9 processors: the machine can have 8");
	ASSERT_CONTAINS(e.msg, "containerd.max_cpus in /x.yaml");
	ASSERT(size_for(&memory, false, &c, &host, &begin, &is, &f) < 0);
	ASSERT_CONTAINS(f.msg, "8192 MiB of memory: the machine can have 1024");
}

TEST(sums_do_not_wrap)
{
	struct size_demand d = {};
	struct spec_size huge = { 255000, INT64_MAX };

	for (int i = 0; i < 100; i++)
		size_add(&d, &huge);
	ASSERT_EQ(d.memory_bytes, INT64_MAX);
	ASSERT_EQ(d.milli_cpus, 25500000);
}
