/* What `docker exec CONTAINER skerry-vm VERB` does. */
#pragma once

#include "base/error.h"
#include "store/store.h"

struct verb {
	const char *name;
	const char *summary;
	/* Returns the exit status. */
	int (*run)(const struct store *s, int argc, char **argv, struct error *err);
};
extern const struct verb verbs[]; /* ends with a NULL name */
