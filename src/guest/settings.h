/* What a boot configuration says about the machine itself, put into the image's root: name, id, name servers, keys, clock, randomness. Each
 * appends what fails to @errors, a line each, and goes on. */
#pragma once

#include "base/buf.h"

struct Skerry__Agent__V1__BootConfig;

/* Needs no root file system. */
void settings_kernel(const struct Skerry__Agent__V1__BootConfig *c, struct buf *errors);
/* Files below @root. */
void settings_files(const struct Skerry__Agent__V1__BootConfig *c, int root, struct buf *errors);
