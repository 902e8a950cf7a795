/* The machine of a container: made at the first start, and brought in line with the settings at each later one. */
#pragma once

#include "docker/settings.h"
#include "store/store.h"

#define BOX_NAME "vm"

/* Errors: kind CONFIG where the base disk is not the one that the machine was made over; BUSY when another container has the volume. */
int box_prepare(const struct store *s, const struct settings *settings, struct error *err);
