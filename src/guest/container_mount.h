/* Mounts that a container's root file system is made of. */
#pragma once

#include "agent.pb-c.h"
#include "base/error.h"

/* Makes the target when it is missing, and what else is wanted, and mounts. "serial:NAME" is waited for a few seconds. */
int container_mount(const Skerry__Agent__V1__ContainerMount *m, struct error *err);
/* What was written reaches the device, whoever still holds it; then it is unmounted, and its directory removed with the one that it is in, if that is empty. */
void container_unmount(const char *target);
