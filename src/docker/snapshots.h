/* `skerry-vm snapshot`: see machine/snapshot.h. */
#pragma once

#include "docker/settings.h"
#include "store/store.h"

/* A verb (docker/verbs.h). */
int snapshots_verb(const struct store *s, int argc, char **argv, struct error *err);
/* SNAPSHOT: the disk becomes what it was then. The machine is there and does not run. */
int snapshots_begin_from(const struct store *s, const char *name, struct error *err);
