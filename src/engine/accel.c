#include "engine/accel.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <x86intrin.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/process.h"
#include "base/spawn.h"
#include "engine/kvm_probe.h"
#include "json/json.h"

#define KVM_DEVICE       "/dev/kvm"
#define CACHE_NAME       "accel.json"
#define CACHE_LIMIT      8192
#define CACHE_VERSION    2 /* rises when the proof changes */
#define PROBE_TIMEOUT_NS (200 * NS_PER_MS)
#define MODEL_TIMEOUT_NS (5 * NS_PER_SEC)
#define TSC_SPAN_NS      (20 * NS_PER_MS)

static const char *const accel_names[ACCEL_MAX] = { [ACCEL_AUTO] = "auto", [ACCEL_KVM] = "kvm", [ACCEL_TCG] = "tcg" };

const char *accel_name(enum accel a)
{
	return (unsigned)a < ACCEL_MAX ? accel_names[a] : "?";
}

int accel_parse(const char *s, enum accel *ret)
{
	for (unsigned i = 0; i < ACCEL_MAX; i++)
		if (streq(s, accel_names[i])) {
			*ret = (enum accel)i;
			return 0;
		}
	return -EINVAL;
}

int accel_resolve(enum accel wanted, const struct accel_probe *probe, enum accel *ret, struct error *err)
{
	if (wanted == ACCEL_KVM && !probe->kvm_usable) {
		error_set_kind(err, ERROR_UNAVAILABLE, ENOTSUP, "KVM cannot be used here: %s",
			       probe->why[0] ? probe->why : "unknown reason");
		error_hint(err, "--accel tcg runs machines in software: slower, and not an isolation boundary");
		return -ENOTSUP;
	}
	*ret = wanted == ACCEL_AUTO ? (probe->kvm_usable ? ACCEL_KVM : ACCEL_TCG) : wanted;
	return 0;
}

/* One instant by both clocks. A preemption between the two readings would spoil it: the narrowest of some tries counts. */
struct instant {
	uint64_t tsc;
	uint64_t ns;
};

static struct instant instant_now(void)
{
	struct instant best = {};
	uint64_t narrowest = UINT64_MAX;

	for (int i = 0; i < 8; i++) {
		uint64_t before = __rdtsc(), after;
		struct timespec t;

		clock_gettime(CLOCK_MONOTONIC_RAW, &t);
		after = __rdtsc();
		if (after - before < narrowest) {
			narrowest = after - before;
			best.tsc = before + (after - before) / 2;
			best.ns = (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
		}
	}
	return best;
}

static bool tsc_steady(void)
{
	unsigned a, b, c, d;

	return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & 1 << 8);
}

static uint32_t tsc_rate_since(struct instant from)
{
	struct instant to;
	uint64_t khz;

	if (!tsc_steady())
		return 0;
	/* The probe of KVM took most of the span already; the rest is measured through. */
	do
		to = instant_now();
	while (to.ns - from.ns < TSC_SPAN_NS);
	khz = (uint64_t)((unsigned __int128)(to.tsc - from.tsc) * 1000000 / (to.ns - from.ns));
	return khz >= 100000 && khz <= 20000000 ? (uint32_t)khz : 0;
}

static void add_command(struct buf *out, const char *name)
{
	_cleanup_json_ struct json *j = json_object();

	json_set_string(j, "execute", name);
	json_render(j, false, out);
	buf_addc(out, '\n');
}

static bool model_starts(const char *qemu_path, const char *model)
{
	const char *const argv[] = { qemu_path,
				     "-nodefaults",
				     "-no-user-config",
				     "-display",
				     "none",
				     "-S",
				     "-machine",
				     "microvm,acpi=off",
				     "-accel",
				     "kvm",
				     "-m",
				     "8M",
				     "-cpu",
				     model,
				     "-qmp",
				     "stdio",
				     NULL };
	struct spawn s = SPAWN_INIT;
	_cleanup_buf_ struct buf in = {}, out = {}, errout = {};
	int status = -1;

	s.argv = argv;
	s.death_signal = 9;
	add_command(&in, "qmp_capabilities");
	add_command(&in, "quit");
	if (spawn_run(&s, &in, &out, &errout, 65536, MODEL_TIMEOUT_NS, &status, NULL) < 0)
		return false;
	if (status != 0)
		log_debug("CPU model %s: %.200s", model, errout.len ? errout.p : "failed");
	return status == 0;
}

void accel_find_cpu_model(const char *qemu_path, char *ret, size_t n)
{
	static const char *const models[] = { "host", "host,-arch-capabilities", "Nehalem", "qemu64" };

	ret[0] = 0;
	for (size_t i = 0; i < ARRAY_SIZE(models); i++)
		if (model_starts(qemu_path, models[i])) {
			(void)snprintf(ret, n, "%s", models[i]);
			return;
		}
}

static void explain(const struct kvm_probe *p, char *why, size_t n)
{
	const char *step = kvm_probe_step_name(p->steps + 1);

	if (p->setup && p->failed_num == EACCES)
		(void)snprintf(why, n, KVM_DEVICE ": Permission denied (join group 'kvm')");
	else if (p->setup && p->failed_num == ENOENT)
		(void)snprintf(why, n,
			       KVM_DEVICE
			       ": not there (no hardware virtualization, or its kernel module is not loaded)");
	else if (p->setup)
		(void)snprintf(why, n, KVM_DEVICE ": %s: %s", p->failed,
			       p->failed_num ? strerrordesc_np(p->failed_num) : "failed");
	else if (p->timed_out)
		(void)snprintf(why, n, KVM_DEVICE ": a vCPU did not %s in 200 ms", step);
	else
		(void)snprintf(why, n, KVM_DEVICE ": a vCPU could not %s: %s", step, p->failed ? p->failed : "failed");
}

static void probe_now(const char *qemu_path, struct accel_probe *ret)
{
	struct instant begin = instant_now();
	struct kvm_probe p;

	*ret = (struct accel_probe){};
	ret->kvm_usable = kvm_probe_run(KVM_DEVICE, PROBE_TIMEOUT_NS, &p);
	/* The answer is kept until the next boot: a host that was merely busy gets a second chance. */
	if (p.timed_out)
		ret->kvm_usable = kvm_probe_run(KVM_DEVICE, PROBE_TIMEOUT_NS, &p);
	ret->tsc_khz = tsc_rate_since(begin);
	if (!ret->kvm_usable) {
		explain(&p, ret->why, sizeof(ret->why));
		return;
	}
	if (!qemu_path)
		return;
	accel_find_cpu_model(qemu_path, ret->cpu_model, sizeof(ret->cpu_model));
	if (!ret->cpu_model[0]) {
		ret->kvm_usable = false;
		(void)snprintf(ret->why, sizeof(ret->why), KVM_DEVICE ": QEMU starts with no CPU model");
	}
}

static void add_identity(struct buf *key, const char *path, bool content)
{
	struct stat st;

	if (!path || stat(path, &st) < 0) {
		buf_adds(key, " -");
		return;
	}
	buf_addf(key, " %ju:%ju:%ju:%o:%u:%u", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino, (uintmax_t)st.st_rdev,
		 (unsigned)st.st_mode, st.st_uid, st.st_gid);
	if (content)
		buf_addf(key, ":%jd:%jd.%09ld", (intmax_t)st.st_size, (intmax_t)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

/* Everything that the answer depends on. access(2) stands for groups and capabilities. */
static char *cache_key(const char *qemu_path)
{
	struct buf key = {};

	buf_addf(&key, "%d %s %u %d", CACHE_VERSION, boot_id(), geteuid(),
		 faccessat(AT_FDCWD, KVM_DEVICE, R_OK | W_OK, AT_EACCESS) == 0);
	add_identity(&key, KVM_DEVICE, false);
	add_identity(&key, qemu_path, true);
	return buf_take(&key);
}

struct cache_record {
	char *key;
	bool usable;
	char *why;
	char *cpu_model;
	uint32_t tsc_khz;
};

static const struct json_field cache_fields[] = {
	{ .key = "key", .type = JSON_STRING, .offset = offsetof(struct cache_record, key) },
	{ .key = "kvm_usable", .type = JSON_BOOL, .offset = offsetof(struct cache_record, usable) },
	{ .key = "why", .type = JSON_STRING, .offset = offsetof(struct cache_record, why) },
	{ .key = "cpu_model", .type = JSON_STRING, .offset = offsetof(struct cache_record, cpu_model) },
	{ .key = "tsc_khz", .type = JSON_U32, .offset = offsetof(struct cache_record, tsc_khz) },
	{},
};

static bool cache_read(int dirfd, const char *key, struct accel_probe *ret)
{
	_cleanup_buf_ struct buf text = {};
	_cleanup_json_ struct json *tree = NULL;
	struct cache_record rec = {};
	bool hit = false;

	if (file_read_at(dirfd, CACHE_NAME, CACHE_LIMIT, &text) < 0 || text.len == 0 ||
	    json_parse(text.p, text.len, CACHE_NAME, &tree, NULL) < 0)
		return false;
	/* Of a length that fits only: the file may be anything. */
	if (json_load(tree, cache_fields, &rec, CACHE_NAME, NULL) >= 0 && rec.key && streq(rec.key, key) &&
	    (!rec.why || strlen(rec.why) < sizeof(ret->why)) &&
	    (!rec.cpu_model || strlen(rec.cpu_model) < sizeof(ret->cpu_model))) {
		*ret = (struct accel_probe){ .kvm_usable = rec.usable, .tsc_khz = rec.tsc_khz };
		(void)snprintf(ret->why, sizeof(ret->why), "%s", rec.why ? rec.why : "");
		(void)snprintf(ret->cpu_model, sizeof(ret->cpu_model), "%s", rec.cpu_model ? rec.cpu_model : "");
		hit = true;
	}
	json_fields_done(cache_fields, &rec);
	return hit;
}

static void cache_write(int dirfd, char *key, struct accel_probe *p)
{
	struct cache_record rec = {
		.key = key, .usable = p->kvm_usable, .why = p->why, .cpu_model = p->cpu_model, .tsc_khz = p->tsc_khz
	};
	_cleanup_json_ struct json *tree = json_object();
	_cleanup_buf_ struct buf text = {};

	json_store(tree, cache_fields, &rec);
	json_render(tree, true, &text);
	/* A cache that cannot be written costs time, nothing else. */
	if (file_write_at(dirfd, CACHE_NAME, text.p, text.len, 0600, 0) < 0)
		log_debug(CACHE_NAME ": cannot be written, ignoring");
}

void accel_probe(int cache_dirfd, const char *qemu_path, struct accel_probe *ret)
{
	_cleanup_free_ char *key = cache_key(qemu_path);

	if (cache_dirfd >= 0 && cache_read(cache_dirfd, key, ret))
		return;
	probe_now(qemu_path, ret);
	if (cache_dirfd >= 0)
		cache_write(cache_dirfd, key, ret);
}
