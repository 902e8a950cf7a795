#include "engine/engine.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/qemu/qemu.h"

static const struct engine *const engines[] = { &engine_qemu };
static const char *const shape_names[SHAPE_MAX] = { [SHAPE_MICRO] = "micro", [SHAPE_FULL] = "full" };

const struct engine *engine_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(engines); i++)
		if (streq(engines[i]->name, name))
			return engines[i];
	return NULL;
}

const struct engine *engine_at(size_t i)
{
	return i < ARRAY_SIZE(engines) ? engines[i] : NULL;
}

const char *engine_shape_name(enum engine_shape s)
{
	return (unsigned)s < SHAPE_MAX ? shape_names[s] : "?";
}

int engine_shape_parse(const char *s, enum engine_shape *ret)
{
	for (unsigned i = 0; i < SHAPE_MAX; i++)
		if (streq(s, shape_names[i])) {
			*ret = (enum engine_shape)i;
			return 0;
		}
	return -EINVAL;
}

void engine_plan_done(struct engine_plan *p)
{
	strv_done(&p->argv);
	for (size_t i = 0; i < p->n_fds; i++)
		free(p->fds[i].path);
	free(p->fds);
	p->fds = NULL;
	p->n_fds = 0;
}
