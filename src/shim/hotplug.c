#include "shim/hotplug.h"

#define PERCENT 100

/* Whether @used is @percent of @size or more; sizes below 2^57 are safe. */
static bool reaches(uint64_t used, uint64_t size, uint64_t percent)
{
	return used / percent > size / PERCENT || used * PERCENT >= size * percent;
}

static bool too_small(const struct hotplug_policy *p, uint64_t size, uint64_t used)
{
	return reaches(used, size, p->up_threshold) || (p->margin && used + p->margin > size);
}

static bool still_enough(const struct hotplug_policy *p, uint64_t size, uint64_t used)
{
	return !reaches(used, size, p->down_threshold) && !(p->margin && used + p->margin > size);
}

/* The next size that is enough, as far as @max goes. */
static uint64_t larger(const struct hotplug_policy *p, uint64_t size, uint64_t used, uint64_t max)
{
	while (size < max && too_small(p, size, used))
		size = max - size < p->step ? max : size + p->step;
	return size;
}

static uint64_t smaller(const struct hotplug_policy *p, uint64_t size, uint64_t used)
{
	while (size > p->min) {
		uint64_t next = size - p->min < p->step ? p->min : size - p->step;

		if (!still_enough(p, next, used))
			break;
		size = next;
	}
	return size;
}

static bool cooled(const struct hotplug_state *s, uint64_t now_ns, uint64_t cooldown_ns)
{
	return !s->changed || now_ns - s->changed_ns >= cooldown_ns;
}

uint64_t hotplug_decide(const struct hotplug_policy *p, struct hotplug_state *s, uint64_t now_ns, uint64_t size,
			uint64_t used, uint64_t max)
{
	uint64_t up = larger(p, size, used, max), down = size > max ? max : smaller(p, size, used), next = size;

	s->above = up > size ? s->above + 1 : 0;
	s->below = down < size ? s->below + 1 : 0;
	if (s->above >= p->up_stability && cooled(s, now_ns, p->up_cooldown_ns))
		next = up;
	else if (p->enable_down && s->below >= p->down_stability && cooled(s, now_ns, p->down_cooldown_ns))
		next = down;
	if (next != size)
		*s = (struct hotplug_state){ .changed = true, .changed_ns = now_ns };
	return next;
}
