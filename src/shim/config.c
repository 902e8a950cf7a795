#include "shim/config.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/parse.h"
#include "json/yamltree.h"
#include "store/store.h"
#include "shim/size.h"

#define MIB UINT64_C(1048576)
enum { FILE_LIMIT = 64 << 10, CPUS_MAX = 255, SAMPLES_MAX = 1000 };

enum kind { WORD, COUNT, CPUS, PERCENT, SIZE, SPAN, FLAG, SHAPE, ACCEL, SECTION };

struct key {
	const char *name;
	enum kind kind;
	size_t offset;
	const struct key *section;
};

#define KEY(name, kind, type, field)                    \
	{                                               \
		name, kind, offsetof(type, field), NULL \
	}
#define HOTPLUG(name, kind, field) KEY(name, kind, struct hotplug_policy, field)
#define HOTPLUG_KEYS                                                                     \
	HOTPLUG("enable", FLAG, enable), HOTPLUG("monitor_interval", SPAN, interval_ns), \
		HOTPLUG("scale_up_cooldown", SPAN, up_cooldown_ns),                      \
		HOTPLUG("scale_down_cooldown", SPAN, down_cooldown_ns),                  \
		HOTPLUG("scale_up_threshold", PERCENT, up_threshold),                    \
		HOTPLUG("scale_down_threshold", PERCENT, down_threshold),                \
		HOTPLUG("scale_up_stability", COUNT, up_stability),                      \
		HOTPLUG("scale_down_stability", COUNT, down_stability),                  \
		HOTPLUG("enable_scale_down", FLAG, enable_down)

static const struct key cpu_keys[] = { HOTPLUG_KEYS, HOTPLUG("min_cpus", CPUS, min), {} };
static const struct key memory_keys[] = { HOTPLUG_KEYS,
					  HOTPLUG("min_memory", SIZE, min),
					  HOTPLUG("increment_size", SIZE, step),
					  HOTPLUG("oom_safety_margin", SIZE, margin),
					  {} };
static const struct key keys[] = {
	KEY("kernel", WORD, struct shim_config, kernel),
	KEY("shape", SHAPE, struct shim_config, shape),
	KEY("accel", ACCEL, struct shim_config, accel),
	KEY("cpus", CPUS, struct shim_config, cpus),
	KEY("memory", SIZE, struct shim_config, memory_bytes),
	KEY("overhead", SIZE, struct shim_config, overhead_bytes),
	KEY("max_cpus", CPUS, struct shim_config, max_cpus),
	KEY("max_memory", SIZE, struct shim_config, max_memory_bytes),
	{ "cpu_hotplug", SECTION, offsetof(struct shim_config, cpu_hotplug), cpu_keys },
	{ "memory_hotplug", SECTION, offsetof(struct shim_config, memory_hotplug), memory_keys },
	{},
};
/* Of the keys for machines: what is said of the host holds for containers, too. */
static const char *const inherited[] = { "kernel", "shape", "accel" };

void shim_config_init(struct shim_config *c)
{
	*c = (struct shim_config){
		.overhead_bytes = 96 * MIB,
		.cpu_hotplug = { .enable_down = true,
				 .interval_ns = 5 * NS_PER_SEC,
				 .up_cooldown_ns = 10 * NS_PER_SEC,
				 .down_cooldown_ns = 30 * NS_PER_SEC,
				 .up_threshold = 80,
				 .down_threshold = 50,
				 .up_stability = 2,
				 .down_stability = 6,
				 .min = 1,
				 .step = 1 },
		.memory_hotplug = { .enable_down = true,
				    .interval_ns = 10 * NS_PER_SEC,
				    .up_cooldown_ns = 30 * NS_PER_SEC,
				    .down_cooldown_ns = 60 * NS_PER_SEC,
				    .up_threshold = 85,
				    .down_threshold = 60,
				    .up_stability = 3,
				    .down_stability = 6,
				    .min = 512 * MIB,
				    .step = 128 * MIB,
				    .margin = 128 * MIB },
	};
}

void shim_config_done(struct shim_config *c)
{
	free(c->path);
	free(c->kernel);
	*c = (struct shim_config){};
}

/* ---- One key ---- */

/* Numbers are words here: "2G" is one, and whether YAML saw a number in "2" is no matter. Owned by the caller, NULL when it is neither. */
static char *text_of(const struct json *value)
{
	uint64_t n;
	bool flag;

	if (json_string(value))
		return xstrdup(json_string(value));
	if (json_u64(value, &n))
		return xasprintf("%llu", (unsigned long long)n);
	if (json_bool(value, &flag))
		return xstrdup(flag ? "yes" : "no");
	return NULL;
}

static int parse_number(enum kind kind, const char *s, uint64_t *ret)
{
	int r;

	if (kind == SPAN) {
		r = parse_duration_ns(s, ret);
		return r >= 0 && (*ret < 100 * NS_PER_MS || *ret > UINT64_C(86400) * NS_PER_SEC) ? -ERANGE : r;
	}
	if (kind == SIZE) {
		r = parse_bytes(s, MIB, ret);
		return r >= 0 && (*ret < MIB || *ret > UINT64_C(1) << 46) ? -ERANGE : r;
	}
	return parse_u64(s, 1, kind == CPUS ? CPUS_MAX : kind == PERCENT ? 100 : SAMPLES_MAX, ret);
}

static int take_value(const struct key *k, const char *s, void *target, struct shim_config *c)
{
	if (k->kind == WORD) {
		if (!*s)
			return -EINVAL;
		free(*(char **)target);
		*(char **)target = xstrdup(s);
		return 0;
	}
	if (k->kind == SHAPE) {
		c->has_shape = true;
		return engine_shape_parse(s, target);
	}
	if (k->kind == ACCEL)
		return accel_parse(s, target);
	return k->kind == FLAG ? parse_bool(s, target) : parse_number(k->kind, s, target);
}

static const char *expected(enum kind k)
{
	static const char *const texts[] = { [WORD] = "a word",
					     [COUNT] = "a number from 1 to 1000",
					     [CPUS] = "a number from 1 to 255",
					     [PERCENT] = "a number from 1 to 100",
					     [SIZE] = "a size, as 512M or 2G",
					     [SPAN] = "a time from 100ms to 24h, as 5s or 2m",
					     [FLAG] = "true or false",
					     [SHAPE] = "micro or full",
					     [ACCEL] = "auto, kvm or tcg",
					     [SECTION] = "keys below it" };

	return texts[k];
}

static int wrong(const char *path, const char *prefix, const struct key *k, struct error *err)
{
	return error_set_kind(err, ERROR_CONFIG, EINVAL, "%s: %s%s: expected %s", path, prefix, k->name,
			      expected(k->kind));
}

static int take_section(const struct json *tree, const struct key *table, const char *path, const char *prefix,
			void *target, struct shim_config *c, struct error *err)
{
	const char *name;
	struct json *value;

	for (size_t i = 0; json_member(tree, i, &name, &value); i++) {
		const struct key *k = table;
		void *field;

		while (k->name && !streq(k->name, name))
			k++;
		if (!k->name)
			return error_set_kind(err, ERROR_CONFIG, EINVAL, "%s: unknown key '%s%.64s'", path, prefix,
					      name);
		if (json_is_null(value))
			continue;
		field = (char *)target + k->offset;
		if (k->kind == SECTION) {
			_cleanup_free_ char *below = xasprintf("%s%s.", prefix, name);
			int r;

			if (!json_is_object(value))
				return wrong(path, prefix, k, err);
			r = take_section(value, k->section, path, below, field, c, err);
			if (r < 0)
				return r;
		} else {
			_cleanup_free_ char *text = text_of(value);

			if (!text || take_value(k, text, field, c) < 0)
				return wrong(path, prefix, k, err);
		}
	}
	return 0;
}

/* ---- The whole ---- */

static int check_hotplug(const struct hotplug_policy *p, const char *path, const char *name, struct error *err)
{
	if (p->down_threshold >= p->up_threshold)
		return error_set_kind(err, ERROR_CONFIG, EINVAL,
				      "%s: containerd.%s.scale_down_threshold: expected less than scale_up_threshold",
				      path, name);
	return 0;
}

static int check(const struct shim_config *c, const char *path, struct error *err)
{
	int r = check_hotplug(&c->cpu_hotplug, path, "cpu_hotplug", err);

	if (r >= 0)
		r = check_hotplug(&c->memory_hotplug, path, "memory_hotplug", err);
	if (r >= 0 && c->max_cpus && c->cpus > c->max_cpus)
		r = error_set_kind(err, ERROR_CONFIG, EINVAL, "%s: containerd.max_cpus: expected no less than cpus",
				   path);
	if (r >= 0 && c->max_memory_bytes && c->memory_bytes > c->max_memory_bytes)
		r = error_set_kind(err, ERROR_CONFIG, EINVAL, "%s: containerd.max_memory: expected no less than memory",
				   path);
	return r;
}

static int take_inherited(const struct json *tree, const char *path, struct shim_config *c, struct error *err)
{
	_cleanup_json_ struct json *some = json_object();

	for (size_t i = 0; i < ARRAY_SIZE(inherited); i++) {
		struct json *value = json_get(tree, inherited[i]);

		if (value)
			json_set(some, inherited[i], json_ref(value));
	}
	return take_section(some, keys, path, "", c, c, err);
}

int shim_config_parse(const char *text, size_t len, const char *path, struct shim_config *ret, struct error *err)
{
	_cleanup_json_ struct json *tree = NULL;
	const struct json *own;
	int r = yaml_parse(text, len, path, &tree, err);

	if (r < 0) {
		if (err)
			err->kind = ERROR_CONFIG;
		return r;
	}
	if (!json_is_object(tree))
		return error_set_kind(err, ERROR_CONFIG, EINVAL, "%s: expected 'key: value' lines", path);
	r = take_inherited(tree, path, ret, err);
	own = json_get(tree, "containerd");
	if (r >= 0 && own && !json_is_null(own) && !json_is_object(own))
		r = error_set_kind(err, ERROR_CONFIG, EINVAL, "%s: containerd: expected keys below it", path);
	if (r >= 0 && json_is_object(own))
		r = take_section(own, keys, path, "containerd.", ret, ret, err);
	return r < 0 ? r : check(ret, path, err);
}

int shim_config_load(struct shim_config *ret, struct error *err)
{
	_cleanup_store_ struct store s = {};
	_cleanup_buf_ struct buf text = {};
	const char *named = getenv("SKERRY_CONFIG");
	int r;

	shim_config_init(ret);
	named = named && *named ? named : NULL;
	r = store_open(&s, err);
	if (r < 0)
		return r;
	ret->path = named ? xstrdup(named) : xasprintf("%s/config.yaml", s.config_path);
	if (!named && s.config_fd < 0)
		return 0;
	r = file_read_at(named ? AT_FDCWD : s.config_fd, named ? named : "config.yaml", FILE_LIMIT, &text);
	if (r == -ENOENT && !named)
		return 0;
	if (r < 0)
		r = error_set_kind(err, ERROR_CONFIG, -r, "cannot read %s: %s", ret->path, strerror(-r));
	else
		r = shim_config_parse(text.p ? text.p : "", text.len, ret->path, ret, err);
	if (r < 0)
		shim_config_done(ret);
	return r;
}

static uint64_t at_most(uint64_t n, uint64_t limit)
{
	return limit && n > limit ? limit : n;
}

int shim_config_apply(const struct shim_config *c, struct spec_info *i, struct error *err)
{
	uint64_t room = c->max_memory_bytes > c->overhead_bytes
				? (c->max_memory_bytes - c->overhead_bytes) / (SIZE_TABLES_PART + 1) * SIZE_TABLES_PART
				: MIB;

	/* Emulation isolates by the engine's code alone: who wants none of it on the host is not overruled by who brings a container. */
	if (c->accel == ACCEL_KVM && i->accel == ACCEL_TCG)
		return error_set_kind(err, ERROR_DENIED, EPERM,
				      "annotation io.skerry.accel: 'tcg' is not permitted, %s says 'accel: kvm'",
				      c->path);
	if (i->accel == ACCEL_AUTO)
		i->accel = c->accel;
	if (!i->kernel)
		i->kernel = xstrdup(c->kernel);
	if (!i->has_shape && c->has_shape) {
		i->has_shape = true;
		i->shape = c->shape;
	}
	if (i->fixed_cpus)
		i->cpus = (uint32_t)at_most(i->cpus, c->max_cpus);
	i->max_cpus = (uint32_t)at_most(i->max_cpus, c->max_cpus);
	if (i->fixed_memory && c->max_memory_bytes)
		i->memory_bytes = at_most(i->memory_bytes, room);
	i->max_memory_bytes = at_most(i->max_memory_bytes, c->max_memory_bytes);
	return 0;
}
