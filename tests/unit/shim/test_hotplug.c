/* The policy over scripted series. */
#include "base/clock.h"
#include "base/memory.h"
#include "shim/hotplug.h"
#include "test.h"

static const struct hotplug_policy cpu = {
	.enable = true,
	.enable_down = true,
	.up_cooldown_ns = 10 * NS_PER_SEC,
	.down_cooldown_ns = 30 * NS_PER_SEC,
	.up_threshold = 80,
	.down_threshold = 50,
	.up_stability = 2,
	.down_stability = 6,
	.step = 1000,
	.min = 1000,
};

#define MIB UINT64_C(1048576)
static const struct hotplug_policy memory = {
	.enable = true,
	.enable_down = true,
	.up_cooldown_ns = 30 * NS_PER_SEC,
	.down_cooldown_ns = 60 * NS_PER_SEC,
	.up_threshold = 85,
	.down_threshold = 60,
	.up_stability = 3,
	.down_stability = 6,
	.step = 128 * MIB,
	.min = 512 * MIB,
	.margin = 128 * MIB,
};

struct series {
	const struct hotplug_policy *p;
	struct hotplug_state state;
	uint64_t now_ns, tick_ns, size, max;
};

/* @n samples, each with @used; returns how many of them changed the size. */
static unsigned feed(struct series *s, unsigned n, uint64_t used)
{
	unsigned changes = 0;

	for (unsigned i = 0; i < n; i++) {
		uint64_t next;

		s->now_ns += s->tick_ns;
		next = hotplug_decide(s->p, &s->state, s->now_ns, s->size, used, s->max);
		ASSERT(next <= s->max || next <= s->size);
		changes += next != s->size;
		s->size = next;
	}
	return changes;
}

static struct series cpus(uint64_t size, uint64_t max)
{
	return (struct series){ .p = &cpu, .tick_ns = 5 * NS_PER_SEC, .size = size, .max = max };
}

TEST(a_busy_machine_grows_when_it_stays_busy)
{
	struct series s = cpus(1000, 4000);

	ASSERT_EQ(feed(&s, 1, 1000), 0);
	ASSERT_EQ(feed(&s, 1, 100), 0);
	ASSERT_EQ(feed(&s, 1, 1000), 0);
	ASSERT_EQ(feed(&s, 1, 1000), 1);
	ASSERT_EQ(s.size, 2000);
	/* Half of it is used now: that is neither too much nor too little. */
	ASSERT_EQ(feed(&s, 100, 1000), 0);
}

TEST(it_grows_step_by_step_with_time_between_them)
{
	struct series s = cpus(1000, 4000);

	s.tick_ns = NS_PER_SEC;
	ASSERT_EQ(feed(&s, 2, 1000), 1);
	ASSERT_EQ(feed(&s, 9, 2000), 0);
	ASSERT_EQ(feed(&s, 1, 2000), 1);
	ASSERT_EQ(s.size, 3000);
	ASSERT_EQ(feed(&s, 10, 3000), 1);
	ASSERT_EQ(feed(&s, 100, 4000), 0);
	ASSERT_EQ(s.size, 4000);
}

TEST(many_busy_processors_get_enough_at_once)
{
	struct series s = cpus(8000, 64000);

	ASSERT_EQ(feed(&s, 2, 8000), 1);
	ASSERT_EQ(s.size, 11000);
}

TEST(an_idle_machine_shrinks_after_a_while)
{
	struct series s = cpus(1000, 4000);

	feed(&s, 2, 1000);
	feed(&s, 2, 2000);
	ASSERT_EQ(s.size, 3000);
	ASSERT_EQ(feed(&s, 5, 10), 0);
	ASSERT_EQ(feed(&s, 1, 10), 1);
	ASSERT_EQ(s.size, 1000);
	ASSERT_EQ(feed(&s, 100, 10), 0);
}

TEST(one_busy_sample_begins_the_wait_anew)
{
	struct series s = cpus(2000, 4000);

	ASSERT_EQ(feed(&s, 5, 100), 0);
	ASSERT_EQ(feed(&s, 1, 1500), 0);
	ASSERT_EQ(feed(&s, 5, 100), 0);
	ASSERT_EQ(feed(&s, 1, 100), 1);
	ASSERT_EQ(s.size, 1000);
}

TEST(it_does_not_shrink_into_being_busy)
{
	struct series s = cpus(2000, 4000);

	/* 550 of 1000 is more than half. */
	ASSERT_EQ(feed(&s, 100, 550), 0);
	ASSERT_EQ(feed(&s, 6, 450), 1);
}

TEST(growing_is_not_held_up_by_the_other_cool_down)
{
	struct series s = cpus(2000, 4000);

	ASSERT_EQ(feed(&s, 6, 0), 1);
	ASSERT_EQ(feed(&s, 2, 1000), 1);
	ASSERT_EQ(s.size, 2000);
	/* And shrinking waits for 30 s after that, not for six samples of 5 s alone. */
	s.tick_ns = NS_PER_SEC;
	ASSERT_EQ(feed(&s, 29, 0), 0);
	ASSERT_EQ(feed(&s, 1, 0), 1);
}

TEST(without_permission_it_does_not_shrink)
{
	struct hotplug_policy p = cpu;
	struct series s = cpus(2000, 4000);

	p.enable_down = false;
	s.p = &p;
	ASSERT_EQ(feed(&s, 100, 0), 0);
}

TEST(memory_grows_by_whole_steps_to_what_is_enough)
{
	struct series s = { .p = &memory, .tick_ns = 10 * NS_PER_SEC, .size = 512 * MIB, .max = 2048 * MIB };

	ASSERT_EQ(feed(&s, 10, 300 * MIB), 0);
	ASSERT_EQ(feed(&s, 2, 500 * MIB), 0);
	ASSERT_EQ(feed(&s, 1, 500 * MIB), 1);
	ASSERT_EQ(s.size, 640 * MIB);
	/* It took some of it back by itself. */
	s.size = 1100 * MIB;
	ASSERT_EQ(feed(&s, 3, 1090 * MIB), 1);
	ASSERT_EQ(s.size, 1356 * MIB);
	ASSERT_EQ(feed(&s, 6, 100 * MIB), 1);
	ASSERT_EQ(s.size, 512 * MIB);
}

TEST(a_margin_is_kept_whatever_the_thresholds_say)
{
	struct hotplug_policy p = memory;
	struct series s = { .p = &p, .tick_ns = 10 * NS_PER_SEC, .size = 512 * MIB, .max = 1000 * MIB };

	p.up_threshold = 100;
	ASSERT_EQ(feed(&s, 3, 400 * MIB), 1);
	ASSERT_EQ(s.size, 640 * MIB);
	/* The last step is what is left. */
	ASSERT_EQ(feed(&s, 10, 990 * MIB), 1);
	ASSERT_EQ(s.size, 1000 * MIB);
}

TEST(a_ceiling_that_came_down_is_kept_to)
{
	struct series s = cpus(4000, 4000);

	s.max = 2000;
	feed(&s, 6, 4000);
	ASSERT_EQ(s.size, 2000);
}

TEST(numbers_that_make_no_sense_do_no_harm)
{
	struct series s = cpus(1000, 4000);

	feed(&s, 10, UINT64_MAX / 200);
	ASSERT_EQ(s.size, 4000);
	s = (struct series){ .p = &memory, .tick_ns = NS_PER_SEC, .size = 0, .max = 1024 * MIB };
	feed(&s, 10, 0);
	ASSERT(s.size <= 1024 * MIB);
	s = (struct series){ .p = &memory, .tick_ns = 60 * NS_PER_SEC, .size = 300 * MIB, .max = 0 };
	feed(&s, 10, UINT64_MAX / 200);
	ASSERT_EQ(s.size, 0);
}
