/* How large a machine should be, by what it uses. Pure: a sample in, a decision out. One policy serves processors (in thousandths of one) and memory
 * (in bytes).
 *
 * It grows when @up_stability samples in a row use more than @up_threshold per cent of what there is, or leave less than @margin; at once to a size
 * that is enough, by whole steps. It shrinks when in @down_stability samples in a row a smaller size would be used below @down_threshold per cent.
 * After a change either way it stays as it is for the cool-down of the next one. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct hotplug_policy {
	bool enable, enable_down;
	uint64_t interval_ns; /* between two samples */
	uint64_t up_cooldown_ns, down_cooldown_ns;
	uint64_t up_threshold, down_threshold; /* per cent, 1 to 100; down below up */
	uint64_t up_stability, down_stability; /* samples, at least 1 */
	uint64_t step, min;                    /* in the resource's unit */
	uint64_t margin;                       /* to be left unused, 0 = none */
};

struct hotplug_state {
	bool changed;        /* ever */
	uint64_t changed_ns; /* when last */
	uint64_t above, below;
};

/* The size that it should have after this sample: @size when nothing changes. @size: what there is; @used: of it; @max: what it may have at most;
 * both sizes in the policy's unit. Sizes that are not whole steps above zero are fine. */
uint64_t hotplug_decide(const struct hotplug_policy *p, struct hotplug_state *s, uint64_t now_ns, uint64_t size,
			uint64_t used, uint64_t max);
