#include <fcntl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "shim/config.h"
#include "test.h"

#define MIB UINT64_C(1048576)

static int load(const char *text, struct shim_config *ret, struct error *err)
{
	shim_config_init(ret);
	return shim_config_parse(text, strlen(text), "/c.yaml", ret, err);
}

TEST(nothing_said_is_what_is_built_in)
{
	static const char *const texts[] = { "", "# nothing\n", "containerd:\n", "cpus: 7\nmemory: 9G\nnet: none\n",
					     "containerd:\n  cpus:\n  cpu_hotplug: {}\n" };

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		_cleanup_shim_config_ struct shim_config c;

		ASSERT_OK(load(texts[i], &c, NULL));
		ASSERT(!c.kernel && !c.has_shape && !c.cpus && !c.memory_bytes);
		ASSERT_EQ(c.overhead_bytes, 96 * MIB);
		ASSERT(!c.cpu_hotplug.enable && !c.memory_hotplug.enable);
		ASSERT_EQ(c.cpu_hotplug.up_threshold, 80);
		ASSERT_EQ(c.memory_hotplug.step, 128 * MIB);
	}
}

TEST(every_key_is_taken)
{
	_cleanup_shim_config_ struct shim_config c;

	ASSERT_OK(load(
		"containerd:\n  kernel: mine\n  shape: full\n  accel: tcg\n  cpus: 3\n  memory: 700\n"
		"  overhead: 64M\n  max_cpus: 4\n  max_memory: 2G\n"
		"  cpu_hotplug:\n    enable: true\n    monitor_interval: 500ms\n    scale_up_cooldown: 1m\n"
		"    scale_down_cooldown: 2h\n    scale_up_threshold: 90\n    scale_down_threshold: 10\n"
		"    scale_up_stability: 1\n    scale_down_stability: 9\n    enable_scale_down: no\n    min_cpus: 2\n"
		"  memory_hotplug:\n    enable: yes\n    min_memory: 256M\n    increment_size: 64M\n"
		"    oom_safety_margin: 32M\n",
		&c, NULL));
	ASSERT_STREQ(c.kernel, "mine");
	ASSERT(c.has_shape);
	ASSERT_EQ(c.shape, SHAPE_FULL);
	ASSERT_EQ(c.accel, ACCEL_TCG);
	ASSERT_EQ(c.cpus, 3);
	ASSERT_EQ(c.memory_bytes, 700 * MIB);
	ASSERT_EQ(c.overhead_bytes, 64 * MIB);
	ASSERT_EQ(c.max_cpus, 4);
	ASSERT_EQ(c.max_memory_bytes, 2048 * MIB);
	ASSERT(c.cpu_hotplug.enable && !c.cpu_hotplug.enable_down);
	ASSERT_EQ(c.cpu_hotplug.interval_ns, 500 * NS_PER_MS);
	ASSERT_EQ(c.cpu_hotplug.up_cooldown_ns, 60 * NS_PER_SEC);
	ASSERT_EQ(c.cpu_hotplug.down_cooldown_ns, 7200 * NS_PER_SEC);
	ASSERT_EQ(c.cpu_hotplug.up_threshold, 90);
	ASSERT_EQ(c.cpu_hotplug.down_threshold, 10);
	ASSERT_EQ(c.cpu_hotplug.up_stability, 1);
	ASSERT_EQ(c.cpu_hotplug.down_stability, 9);
	ASSERT_EQ(c.cpu_hotplug.min, 2);
	ASSERT(c.memory_hotplug.enable && c.memory_hotplug.enable_down);
	ASSERT_EQ(c.memory_hotplug.min, 256 * MIB);
	ASSERT_EQ(c.memory_hotplug.step, 64 * MIB);
	ASSERT_EQ(c.memory_hotplug.margin, 32 * MIB);
}

TEST(the_example_is_right)
{
	_cleanup_buf_ struct buf text = {};
	_cleanup_shim_config_ struct shim_config c, plain;

	ASSERT_OK(file_read_at(AT_FDCWD, SOURCE_DIR "/deploy/containerd/config.yaml", 1 << 16, &text));
	ASSERT_OK(load(text.p, &c, NULL));
	ASSERT(c.cpu_hotplug.enable && c.memory_hotplug.enable);
	/* It says that it tells what is built in. */
	shim_config_init(&plain);
	plain.cpu_hotplug.enable = plain.memory_hotplug.enable = true;
	ASSERT_MEMEQ(&c.cpu_hotplug, &plain.cpu_hotplug, sizeof(plain.cpu_hotplug));
	ASSERT_MEMEQ(&c.memory_hotplug, &plain.memory_hotplug, sizeof(plain.memory_hotplug));
	ASSERT_EQ(c.overhead_bytes, plain.overhead_bytes);
	ASSERT_EQ(c.accel, plain.accel);
}

TEST(what_is_said_of_the_host_holds_for_containers)
{
	_cleanup_shim_config_ struct shim_config c, d;
	_cleanup_spec_ struct spec_info plain = {}, asks = { .accel = ACCEL_TCG };

	ASSERT_OK(load("accel: kvm\nkernel: one\nshape: full\n", &c, NULL));
	ASSERT_OK(shim_config_apply(&c, &plain, NULL));
	ASSERT_EQ(plain.accel, ACCEL_KVM);
	ASSERT_STREQ(plain.kernel, "one");
	ASSERT(plain.has_shape);
	ASSERT_EQ(plain.shape, SHAPE_FULL);
	ASSERT_OK(load("kernel: one\ncontainerd:\n  kernel: two\n", &d, NULL));
	asks.kernel = xstrdup("three");
	ASSERT_OK(shim_config_apply(&d, &asks, NULL));
	ASSERT_EQ(asks.accel, ACCEL_TCG);
	ASSERT_STREQ(asks.kernel, "three");
	ASSERT_STREQ(d.kernel, "two");
}

TEST(annotations_do_not_overrule_what_the_owner_refuses)
{
	static const struct {
		const char *text;
		enum accel asked;
		bool refused;
	} cases[] = {
		{ "accel: kvm\n", ACCEL_TCG, true },
		{ "containerd:\n  accel: kvm\n", ACCEL_TCG, true },
		{ "accel: kvm\ncontainerd:\n  accel: auto\n", ACCEL_TCG, false },
		{ "accel: kvm\n", ACCEL_AUTO, false },
		{ "accel: tcg\n", ACCEL_KVM, false },
		{ "", ACCEL_TCG, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_shim_config_ struct shim_config c;
		_cleanup_error_ struct error e = {};
		struct spec_info spec = { .accel = cases[i].asked };

		ASSERT_OK(load(*cases[i].text ? cases[i].text : "{}\n", &c, NULL));
		c.path = xstrdup("/c.yaml");
		ASSERT_EQ(shim_config_apply(&c, &spec, &e), cases[i].refused ? -EPERM : 0);
		ASSERT_EQ(e.kind == ERROR_DENIED, cases[i].refused);
		if (cases[i].refused)
			ASSERT_STREQ(e.msg,
				     "annotation io.skerry.accel: 'tcg' is not permitted, /c.yaml says 'accel: kvm'");
		spec_info_done(&spec);
	}
}

TEST(sizes_by_annotation_end_where_the_owner_says)
{
	_cleanup_shim_config_ struct shim_config c, none;
	struct spec_info large = { .fixed_cpus = true,
				   .fixed_memory = true,
				   .cpus = 64,
				   .max_cpus = 64,
				   .memory_bytes = 8192 * MIB,
				   .max_memory_bytes = 8192 * MIB },
			 small = { .cpus = 8, .max_memory_bytes = 500 * MIB }, free = large;

	ASSERT_OK(load("containerd:\n  max_cpus: 4\n  max_memory: 1G\n  overhead: 24M\n", &c, NULL));
	ASSERT_OK(shim_config_apply(&c, &large, NULL));
	ASSERT_EQ(large.cpus, 4);
	ASSERT_EQ(large.max_cpus, 4);
	/* With what comes on top of it (size.h) it is all that the machine may have. */
	ASSERT(large.memory_bytes + large.memory_bytes / 64 + 24 * MIB <= 1024 * MIB);
	ASSERT(large.memory_bytes + large.memory_bytes / 64 + 25 * MIB > 1024 * MIB);
	ASSERT_EQ(large.max_memory_bytes, 1024 * MIB);
	ASSERT_OK(shim_config_apply(&c, &small, NULL));
	ASSERT_EQ(small.cpus, 8); /* its limits, not its wish */
	ASSERT_EQ(small.max_cpus, 0);
	ASSERT_EQ(small.memory_bytes, 0);
	ASSERT_EQ(small.max_memory_bytes, 500 * MIB);
	shim_config_init(&none);
	ASSERT_OK(shim_config_apply(&none, &free, NULL));
	ASSERT_EQ(free.cpus, 64);
	ASSERT_EQ(free.max_memory_bytes, 8192 * MIB);
}

TEST(a_wrong_file_is_one_line_that_names_the_key)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{ "containerd: 5\n", "/c.yaml: containerd: expected keys below it" },
		{ "containerd:\n  nope: 1\n", "/c.yaml: unknown key 'containerd.nope'" },
		{ "containerd:\n  cpu_hotplug:\n    nope: 1\n", "unknown key 'containerd.cpu_hotplug.nope'" },
		{ "containerd:\n  cpu_hotplug: yes\n", "containerd.cpu_hotplug: expected keys below it" },
		{ "containerd:\n  cpus: 0\n", "containerd.cpus: expected a number from 1 to 255" },
		{ "containerd:\n  cpus: [1]\n", "containerd.cpus: expected a number from 1 to 255" },
		{ "containerd:\n  memory: much\n", "containerd.memory: expected a size" },
		{ "containerd:\n  memory: 1k\n", "containerd.memory: expected a size" },
		{ "containerd:\n  shape: round\n", "containerd.shape: expected micro or full" },
		{ "shape: round\n", "/c.yaml: shape: expected micro or full" },
		{ "containerd:\n  accel: fast\n", "containerd.accel: expected auto, kvm or tcg" },
		{ "containerd:\n  kernel: ''\n", "containerd.kernel: expected a word" },
		{ "containerd:\n  cpu_hotplug:\n    scale_up_threshold: 101\n",
		  "containerd.cpu_hotplug.scale_up_threshold: expected a number from 1 to 100" },
		{ "containerd:\n  cpu_hotplug:\n    scale_up_threshold: 50\n",
		  "containerd.cpu_hotplug.scale_down_threshold: expected less than scale_up_threshold" },
		{ "containerd:\n  memory_hotplug:\n    monitor_interval: 1ms\n",
		  "containerd.memory_hotplug.monitor_interval: expected a time" },
		{ "containerd:\n  memory_hotplug:\n    enable: perhaps\n",
		  "containerd.memory_hotplug.enable: expected true or false" },
		{ "containerd:\n  memory_hotplug:\n    min_cpus: 1\n",
		  "unknown key 'containerd.memory_hotplug.min_cpus'" },
		{ "containerd:\n  cpus: 4\n  max_cpus: 2\n", "containerd.max_cpus: expected no less than cpus" },
		{ "containerd:\n  memory: 4G\n  max_memory: 2G\n", "containerd.max_memory: expected no less" },
		{ "containerd: [\n", "/c.yaml:" },
		{ "- 1\n", "/c.yaml: expected 'key: value' lines" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_shim_config_ struct shim_config c;
		_cleanup_error_ struct error e = {};

		ASSERT(load(cases[i].text, &c, &e) < 0);
		ASSERT_CONTAINS(e.msg, cases[i].says);
		ASSERT_EQ(error_exit_status(&e), 78);
		ASSERT(!strchr(e.msg, '\n'));
	}
}

TEST(the_file_is_where_the_environment_says)
{
	_cleanup_shim_config_ struct shim_config c;
	_cleanup_error_ struct error e = {};
	_cleanup_close_ int dir = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_free_ char *path = xasprintf("%s/other.yaml", test_tmpdir());
	static const char first[] = "containerd:\n  cpus: 1\n", other[] = "containerd:\n  cpus: 2\n";

	setenv("SKERRY_HOME", test_tmpdir(), 1);
	unsetenv("SKERRY_CONFIG");
	ASSERT_OK(shim_config_load(&c, NULL));
	ASSERT_EQ(c.cpus, 0);
	shim_config_done(&c);
	ASSERT_OK(mkdir_parents_at(dir, "config", 0700));
	ASSERT_OK(file_write_at(dir, "config/config.yaml", first, strlen(first), 0600, 0));
	ASSERT_OK(shim_config_load(&c, NULL));
	ASSERT_EQ(c.cpus, 1);
	shim_config_done(&c);
	setenv("SKERRY_CONFIG", path, 1);
	ASSERT(shim_config_load(&c, &e) < 0);
	ASSERT_CONTAINS(e.msg, "other.yaml");
	ASSERT_OK(file_write_at(dir, "other.yaml", other, strlen(other), 0600, 0));
	ASSERT_OK(shim_config_load(&c, NULL));
	ASSERT_EQ(c.cpus, 2);
}
