#include "shim/resize.h"

#include <inttypes.h>

#include "agent.pb-c.h"
#include "base/clock.h"
#include "base/log.h"
#include "shim/shim.h"
#include "wire/message.h"

#define MIB           UINT64_C(1048576)
#define SAMPLE_MIN_NS (50 * NS_PER_MS)
#define SAMPLE_MAX_NS (UINT64_MAX / 4)
enum { MILLI = 1000 };

/* Watches one resource and sets it. */
struct follower {
	struct resize *r;
	struct hotplug_policy policy;
	struct hotplug_state state;
	struct loop_source *timer;
	bool busy; /* a sample is on its way */
	/* The last sample: */
	bool primed;               /* processors: these two are of the number that runs now */
	uint64_t busy_ns, idle_ns; /* of all of them */
	uint64_t available_bytes;  /* memory */
};

typedef void (*cpus_done_fn)(const struct error *err, void *data);

/* A number of processors that somebody wants; one after the other. */
struct wish {
	uint32_t cpus;
	cpus_done_fn done; /* may be NULL */
	void *data;
	struct wish *next;
};

struct resize {
	struct shim *s; /* borrowed */
	const struct shim_config *config;
	struct size_host host;
	struct vm_size begin, now;
	bool keeps;
	uint32_t cpus; /* that run */
	uint64_t memory_bytes;
	struct wish *wishes;
	bool asking; /* the first wish is on its way */
	struct follower cpu, memory;
};

/* ---- Processors ---- */

static void ask_next(struct resize *r);

static void answer_wish(struct resize *r, const struct error *err)
{
	struct wish *w = r->wishes;

	r->wishes = w->next;
	r->asking = false;
	if (err)
		log_warning("processors: %s", err->msg);
	if (w->done)
		w->done(err, w->data);
	free(w);
	ask_next(r);
}

static void on_cpus(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct resize *r = data;
	uint32_t before = r->cpus, want = r->wishes->cpus;
	_cleanup_message_ Skerry__Agent__V1__SetCpusResponse *m = NULL;
	_cleanup_error_ struct error e = {};

	if (!err) {
		m = message_unpack(&skerry__agent__v1__set_cpus_response__descriptor, payload, len);
		if (!m || m->online < 1 || m->online > r->begin.max_cpus) {
			error_set(&e, EPROTO, "the guest's answer makes no sense");
		} else {
			r->cpus = m->online;
			if (m->online != want)
				error_set(&e, EIO, "the guest runs %" PRIu32 " and not %" PRIu32, m->online, want);
		}
	}
	r->cpu.primed = false;
	if (r->cpus != before)
		log_info("processors: %" PRIu32 " of %" PRIu32, r->cpus, r->begin.max_cpus);
	answer_wish(r, err ? err : e.num ? &e : NULL);
}

static void ask_next(struct resize *r)
{
	Skerry__Agent__V1__SetCpusRequest q = SKERRY__AGENT__V1__SET_CPUS_REQUEST__INIT;
	_cleanup_error_ struct error e = {};

	if (r->asking || !r->wishes)
		return;
	r->asking = true;
	q.online = r->wishes->cpus;
	if (guest_call(r->s, "SetCpus", &q.base, on_cpus, r, &e) < 0)
		answer_wish(r, &e);
}

static void set_cpus(struct resize *r, uint32_t cpus, cpus_done_fn done, void *data)
{
	struct wish **last = &r->wishes, *w;

	if (!*last && cpus == r->cpus) {
		if (done)
			done(NULL, data);
		return;
	}
	w = xnew(struct wish);
	*w = (struct wish){ cpus, done, data, NULL };
	while (*last)
		last = &(*last)->next;
	*last = w;
	ask_next(r);
}

/* ---- Memory ---- */

static void set_memory(struct resize *r, uint64_t bytes)
{
	if (bytes == r->memory_bytes)
		return;
	log_info("memory: %" PRIu64 " MiB of %" PRIu64 " MiB", bytes / MIB, r->begin.max_memory_bytes / MIB);
	r->memory_bytes = bytes;
	vm_set_memory(r->s->vm, bytes);
}

/* ---- By load ---- */

static bool follows(const struct follower *f)
{
	return f->timer;
}

static void on_cpu_sample(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct follower *f = data;
	struct resize *r = f->r;
	_cleanup_message_ Skerry__Agent__V1__StatsResponse *m = NULL;
	uint64_t size = (uint64_t)r->cpus * MILLI, busy, idle, next, used;
	bool primed = f->primed;

	f->busy = false;
	m = err ? NULL : message_unpack(&skerry__agent__v1__stats_response__descriptor, payload, len);
	if (!m || !follows(f) || r->wishes)
		return;
	busy = m->cpu_busy_ns - f->busy_ns;
	idle = m->cpu_idle_ns - f->idle_ns;
	primed = primed && m->cpu_busy_ns >= f->busy_ns && m->cpu_idle_ns >= f->idle_ns && busy < SAMPLE_MAX_NS &&
		 idle < SAMPLE_MAX_NS;
	/* Of the time that the guest was given, and saw pass: a crowded host withholds some. Of very little nothing can be said yet. */
	if (primed && busy + idle < SAMPLE_MIN_NS)
		return;
	f->primed = true;
	f->busy_ns = m->cpu_busy_ns;
	f->idle_ns = m->cpu_idle_ns;
	if (!primed)
		return;
	used = busy / ((busy + idle) / size + 1);
	next = hotplug_decide(&f->policy, &f->state, clock_monotonic_ns(), size, used < size ? used : size,
			      (uint64_t)r->now.cpus * MILLI);
	if (next != size)
		set_cpus(r, (uint32_t)(next / MILLI), NULL, NULL);
}

static void on_balloon(const struct error *err, uint64_t size, void *data)
{
	struct follower *f = data;
	struct resize *r = f->r;
	uint64_t used = size > f->available_bytes ? size - f->available_bytes : 0, next;

	f->busy = false;
	if (err || !follows(f))
		return;
	/* It has not given up yet what it should, or took it back before it ran out of memory: it is told again, here and below. */
	if (size > r->now.memory_bytes) {
		vm_set_memory(r->s->vm, r->memory_bytes);
		return;
	}
	next = hotplug_decide(&f->policy, &f->state, clock_monotonic_ns(), size, used, r->now.memory_bytes);
	if (next / MIB * MIB == r->memory_bytes && next != size)
		vm_set_memory(r->s->vm, r->memory_bytes);
	else if (next != size)
		set_memory(r, next / MIB * MIB);
}

static void on_memory_sample(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct follower *f = data;
	_cleanup_message_ Skerry__Agent__V1__StatsResponse *m =
		err ? NULL : message_unpack(&skerry__agent__v1__stats_response__descriptor, payload, len);

	if (!m || !follows(f) || !m->memory_total_bytes) {
		f->busy = false;
		return;
	}
	f->available_bytes = m->memory_available_bytes;
	vm_memory(f->r->s->vm, on_balloon, f);
}

static int on_tick(struct loop_source *src, void *data)
{
	struct follower *f = data;

	if (!f->busy) {
		f->busy = true;
		if (guest_call(f->r->s, "Stats", NULL, f == &f->r->cpu ? on_cpu_sample : on_memory_sample, f, NULL) < 0)
			f->busy = false;
	}
	return loop_set_deadline(src, clock_monotonic_ns() + f->policy.interval_ns);
}

static int follow(struct resize *r, struct follower *f, struct error *err)
{
	int k = loop_add_timer(r->s->loop, &f->timer, clock_monotonic_ns() + f->policy.interval_ns, on_tick, f);

	return k < 0 ? error_set_errno(err, k, "cannot watch the machine's load") : 0;
}

int resize_vm_ready(struct resize *r, struct error *err)
{
	int k = 0;

	if (r->cpu.policy.enable && r->begin.max_cpus > 1)
		k = follow(r, &r->cpu, err);
	if (k >= 0 && r->memory.policy.enable && r->begin.max_memory_bytes > r->begin.start_memory_bytes)
		k = follow(r, &r->memory, err);
	return k;
}

void resize_vm_ended(struct resize *r)
{
	if (!r)
		return;
	r->cpu.timer = loop_source_free(r->cpu.timer);
	r->memory.timer = loop_source_free(r->memory.timer);
}

/* ---- By limits ---- */

struct update {
	struct resize *r;
	char *id;
	struct spec_size size;
	struct buf resources;
	struct call *c;
};

static void update_free(struct update *u)
{
	buf_done(&u->resources);
	free(u->id);
	free(u);
}

/* @changed has @size instead of its own; NULL = none has. */
static int wanted(const struct resize *r, const char *changed, const struct spec_size *size, struct vm_size *ret,
		  struct error *err)
{
	struct size_demand d = {};

	for (const struct container *k = r->s->containers; k; k = k->next)
		if (!k->sandbox)
			size_add(&d, changed && streq(k->id, changed) ? size : &k->info.size);
	return size_for(&d, r->keeps, r->config, &r->host, &r->begin, ret, err);
}

/* Sizes that follow the load only may not be above what the limits say. */
static void settle(struct resize *r)
{
	if (wanted(r, NULL, NULL, &r->now, NULL) < 0)
		r->now = r->begin;
	if (r->cpus > r->now.cpus || !follows(&r->cpu))
		set_cpus(r, r->now.cpus, NULL, NULL);
	if (r->memory_bytes > r->now.memory_bytes || !follows(&r->memory))
		set_memory(r, r->now.memory_bytes);
}

static void on_updated(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct update *u = data;
	struct container *k = shim_find(u->r->s, u->id);

	(void)payload;
	(void)len;
	if (!err && k)
		k->info.size = u->size;
	settle(u->r);
	if (err)
		call_fail(u->c, err);
	else
		call_reply(u->c, NULL);
	update_free(u);
}

/* The machine is large enough: now the container. */
static void on_grown(const struct error *err, void *data)
{
	struct update *u = data;
	Skerry__Agent__V1__UpdateContainerRequest q = SKERRY__AGENT__V1__UPDATE_CONTAINER_REQUEST__INIT;
	_cleanup_error_ struct error e = {};

	q.id = u->id;
	q.resources = (ProtobufCBinaryData){ u->resources.len, (uint8_t *)u->resources.p };
	if (!err && guest_call(u->r->s, "UpdateContainer", &q.base, on_updated, u, &e) >= 0)
		return;
	on_updated(err ? err : &e, NULL, 0, u);
}

void resize_update(struct resize *r, const struct container *k, const struct json *resources, struct call *c)
{
	struct update *u = xnew(struct update);
	_cleanup_error_ struct error e = {};
	struct vm_size want;

	*u = (struct update){ .r = r, .id = xstrdup(k->id), .size = k->info.size, .c = c };
	spec_resources_for_guest(resources, &u->resources);
	spec_size_read(resources, &u->size);
	if (wanted(r, k->id, &u->size, &want, &e) < 0) {
		error_prefix(&e, "container '%s'", k->id);
		call_fail(c, &e);
		update_free(u);
		return;
	}
	/* What grows does so before the container may use it; what shrinks, after it may not (settle()). */
	if (want.memory_bytes > r->memory_bytes && !follows(&r->memory))
		set_memory(r, want.memory_bytes);
	if (want.cpus > r->cpus && !follows(&r->cpu))
		set_cpus(r, want.cpus, on_grown, u);
	else
		on_grown(NULL, u);
}

/* ---- Its life ---- */

struct resize *resize_new(struct shim *s, const struct shim_config *config, const struct spec_info *spec)
{
	struct resize *r = xnew(struct resize);

	*r = (struct resize){ .s = s,
			      .config = config,
			      .keeps = spec->fixed_cpus || spec->fixed_memory || spec->role != SPEC_ALONE };
	r->cpu = (struct follower){ .r = r, .policy = config->cpu_hotplug };
	r->cpu.policy.min *= MILLI;
	r->cpu.policy.step *= MILLI;
	r->memory = (struct follower){ .r = r, .policy = config->memory_hotplug };
	size_host_read(&r->host);
	size_choose(spec, config, &r->host, &r->begin);
	r->now = r->begin;
	r->cpus = r->begin.start_cpus;
	r->memory_bytes = r->begin.start_memory_bytes;
	return r;
}

const struct vm_size *resize_begin(const struct resize *r)
{
	return &r->begin;
}

struct resize *resize_free(struct resize *r)
{
	if (!r)
		return NULL;
	resize_vm_ended(r);
	free(r);
	return NULL;
}
