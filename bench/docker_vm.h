/* A virtual machine for each docker run: from `docker run` of the Debian image to the end of a login by ssh. */
#pragma once

#include "bench/peers.h"

/* Builds the images in @docker's daemon, from @runtime (what scripts/test-runtime-image.sh makes), and a key in @scratch. The daemon has to have a
 * network. Takes ssh-keygen and ssh. */
int docker_vm_prepare(const struct peer *docker, const char *scratch, const char *runtime, struct error *err);
/* One container from nothing to a login, removed again with its volume. */
int docker_vm_run(const struct peer *docker, const char *scratch, uint64_t *ret_ns, struct error *err);
