#include "engine/accel.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/spawn.h"
#include "engine/kvm_probe.h"
#include "test.h"

#define DEADLINE_NS (100 * NS_PER_SEC)

/* The probe's payload in a real QEMU: memory image at 0, a firmware whose reset vector jumps to it, steps on a debug console. Returns the
 * bytes that came. */
static size_t run_in_qemu(const char *accel, const char *cpu, unsigned char *steps, size_t n, uint64_t timeout_ns)
{
	static unsigned char mem[KVM_PROBE_MEMORY_BYTES], bios[65536];
	_cleanup_free_ char *qemu = program_find("qemu-system-x86_64");
	_cleanup_buf_ struct buf err = {}, out = {};
	struct spawn s = SPAWN_INIT;
	char path[4][256];
	int dir, status = 0;

	if (!qemu)
		test_skip("qemu-system-x86_64 is not installed");
	snprintf(path[0], sizeof(path[0]), "%s/bios", test_tmpdir());
	snprintf(path[1], sizeof(path[1]), "loader,file=%s/mem,addr=0,force-raw=on", test_tmpdir());
	snprintf(path[2], sizeof(path[2]), "file,id=steps,path=%s/steps", test_tmpdir());
	const char *const argv[] = { qemu,
				     "-nodefaults",
				     "-no-user-config",
				     "-display",
				     "none",
				     "-no-reboot",
				     "-machine",
				     "microvm,acpi=off",
				     "-accel",
				     accel,
				     "-cpu",
				     cpu,
				     "-m",
				     "16M",
				     "-bios",
				     path[0],
				     "-device",
				     path[1],
				     "-chardev",
				     path[2],
				     "-device",
				     "isa-debugcon,iobase=0xe9,chardev=steps",
				     "-device",
				     "isa-debug-exit,iobase=0xea,iosize=2",
				     NULL };

	memset(mem, 0, sizeof(mem));
	kvm_probe_memory(mem);
	memset(bios, 0xf4, sizeof(bios));
	memcpy(bios + 0xfff0, (unsigned char[]){ 0xea, KVM_PROBE_START & 0xff, KVM_PROBE_START >> 8, 0, 0 }, 5);
	dir = open(test_tmpdir(), O_DIRECTORY | O_CLOEXEC);
	/* Not the whole: the end of the first MiB is the firmware. */
	ASSERT_OK(file_write_at(dir, "mem", mem, 0x80000, 0600, 0));
	ASSERT_OK(file_write_at(dir, "bios", bios, sizeof(bios), 0600, 0));
	s.argv = argv;
	(void)spawn_run(&s, NULL, NULL, &err, 4096, timeout_ns, &status, NULL);
	ASSERT_OK(file_read_at(dir, "steps", 64, &out));
	close(dir);
	if (out.len > n)
		out.len = n;
	if (out.len)
		memcpy(steps, out.p, out.len);
	return out.len;
}

static void in_order(const unsigned char *steps, size_t n)
{
	for (size_t i = 0; i < n; i++)
		ASSERT_EQ(steps[i], (int)i + 1);
}

TEST(the_payload_passes_every_step_on_an_emulated_processor)
{
	unsigned char steps[32];
	size_t n = run_in_qemu("tcg", "max", steps, sizeof(steps), DEADLINE_NS);

	ASSERT_EQ(n, KVM_PROBE_STEPS);
	in_order(steps, n);
}

static void need_kvm(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		test_skip("/dev/kvm cannot be opened: %s", strerror(errno));
	close(fd);
}

TEST(the_cpu_model_found_by_trying_runs_the_payload_under_kvm)
{
	_cleanup_free_ char *qemu = program_find("qemu-system-x86_64");
	unsigned char steps[32];
	struct kvm_probe p;
	char model[64];
	size_t n;

	need_kvm();
	accel_find_cpu_model(qemu, model, sizeof(model));
	if (!model[0])
		test_skip("QEMU starts with no CPU model under KVM here");
	/* Where the probe stops early, so does the payload in QEMU, at the same step; it is killed there. Who was held up before that is given
	 * longer. */
	for (uint64_t limit_ns = 2 * NS_PER_SEC;; limit_ns *= 2) {
		bool all = kvm_probe_run("/dev/kvm", limit_ns, &p);

		n = run_in_qemu("kvm", model, steps, sizeof(steps), all ? DEADLINE_NS : limit_ns);
		if ((n == p.steps && n >= 3) || limit_ns > DEADLINE_NS / 10)
			break;
	}
	ASSERT(n >= 3);
	in_order(steps, n);
	ASSERT_EQ(n, p.steps);
}

TEST(the_probe_tells_a_device_that_is_not_there_or_no_kvm)
{
	struct kvm_probe p;

	ASSERT(!kvm_probe_run("/nonexistent/kvm", NS_PER_SEC, &p));
	ASSERT(p.setup);
	ASSERT_EQ(p.failed_num, ENOENT);
	ASSERT(!kvm_probe_run("/dev/null", NS_PER_SEC, &p));
	ASSERT(p.setup && !p.timed_out);
	ASSERT_EQ(p.steps, 0);
	ASSERT_STREQ(kvm_probe_step_name(KVM_PROBE_STEPS + 1), "?");
	for (unsigned i = 0; i <= KVM_PROBE_STEPS; i++)
		ASSERT(strlen(kvm_probe_step_name(i)) > 4);
}

TEST(the_probe_keeps_its_deadline)
{
	uint64_t begin = clock_monotonic_ns();
	struct kvm_probe p;

	need_kvm();
	ASSERT(!kvm_probe_run("/dev/kvm", 0, &p) || p.finished);
	ASSERT(clock_monotonic_ns() - begin < 5 * NS_PER_SEC);
}

TEST(an_answer_is_whole_and_cached)
{
	_cleanup_free_ char *qemu = program_find("qemu-system-x86_64");
	struct accel_probe a, b, c;
	_cleanup_buf_ struct buf text = {};
	uint64_t begin, fastest = UINT64_MAX;
	int dir = open(test_tmpdir(), O_DIRECTORY | O_CLOEXEC);

	accel_probe(dir, qemu, &a);
	ASSERT(a.kvm_usable == (a.why[0] == 0));
	ASSERT(!a.kvm_usable || a.cpu_model[0]);
	ASSERT_OK(file_read_at(dir, "accel.json", 8192, &text));
	for (int i = 0; i < 50; i++) {
		begin = clock_monotonic_ns();
		accel_probe(dir, qemu, &b);
		if (clock_monotonic_ns() - begin < fastest)
			fastest = clock_monotonic_ns() - begin;
	}
	ASSERT_EQ(a.kvm_usable, b.kvm_usable);
	ASSERT_STREQ(a.why, b.why);
	ASSERT_STREQ(a.cpu_model, b.cpu_model);
	ASSERT_EQ(a.tsc_khz, b.tsc_khz);
	printf("# read from the cache in %llu us\n", (unsigned long long)fastest / 1000);
	/* Another program: another answer is looked for, though it may be the same. The rate is measured anew. */
	accel_probe(dir, NULL, &c);
	ASSERT_EQ(a.tsc_khz == 0, c.tsc_khz == 0);
	if (a.tsc_khz) {
		int64_t diff = (int64_t)a.tsc_khz - (int64_t)c.tsc_khz;

		ASSERT((diff < 0 ? -diff : diff) < a.tsc_khz / 1000);
	}
	close(dir);
}

TEST(a_damaged_or_foreign_cache_is_not_believed)
{
	static const char *const texts[] = { "",
					     "{",
					     "[]",
					     "{\"key\":7}",
					     "{\"key\":\"x\",\"kvm_usable\":true}",
					     "{\"kvm_usable\":true,\"cpu_model\":\"evil\"}" };
	int dir = open(test_tmpdir(), O_DIRECTORY | O_CLOEXEC);
	struct accel_probe want, got;

	accel_probe(-1, NULL, &want);
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		ASSERT_OK(file_write_at(dir, "accel.json", texts[i], strlen(texts[i]), 0600, 0));
		accel_probe(dir, NULL, &got);
		ASSERT_EQ(got.kvm_usable, want.kvm_usable);
		ASSERT_STREQ(got.cpu_model, "");
	}
	close(dir);
}

TEST(auto_falls_back_and_kvm_does_not)
{
	struct accel_probe no = { .why = "/dev/kvm: gone" }, yes = { .kvm_usable = true };
	enum accel a = ACCEL_MAX;
	struct error e = {};

	ASSERT_OK(accel_resolve(ACCEL_AUTO, &no, &a, &e));
	ASSERT_EQ(a, ACCEL_TCG);
	ASSERT_OK(accel_resolve(ACCEL_AUTO, &yes, &a, &e));
	ASSERT_EQ(a, ACCEL_KVM);
	ASSERT_OK(accel_resolve(ACCEL_TCG, &yes, &a, &e));
	ASSERT_EQ(a, ACCEL_TCG);
	ASSERT_OK(accel_resolve(ACCEL_KVM, &yes, &a, &e));
	ASSERT_EQ(a, ACCEL_KVM);
	ASSERT_EQ(accel_resolve(ACCEL_KVM, &no, &a, &e), -ENOTSUP);
	ASSERT_EQ(e.kind, ERROR_UNAVAILABLE);
	ASSERT_CONTAINS(e.msg, "/dev/kvm: gone");
	ASSERT_CONTAINS(e.hint, "tcg");
	error_done(&e);
}
