/* An empty file system: what home disks are deltas over. Small, as the guest grows it to the disk's size. */
#include "image/recipe.h"

static int prepare(struct recipe_run *run, struct error *err)
{
	if (run->variant)
		return error_set_kind(err, ERROR_USAGE, EINVAL, "recipe 'blank' has no variants");
	/* Always the same bytes, so that all home disks of a store share one image. */
	run->time_s = 1;
	return 0;
}

static int fill(struct recipe_run *run, struct error *err)
{
	(void)run;
	(void)err;
	return 0;
}

const struct recipe recipe_blank = {
	.facts = { .name = "blank", .virtual_bytes = UINT64_C(256) << 20 },
	.journal = true,
	.prepare = prepare,
	.fill = fill,
};
