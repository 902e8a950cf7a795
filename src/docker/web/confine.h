/* What reads requests from strangers can do little else. */
#pragma once

#include <sys/types.h>

#include "base/error.h"

/* Every descriptor but 0 to 2 and the first @keep after them is closed, and no more than @fds_max can be opened. */
int confine_descriptors(unsigned keep, unsigned fds_max, struct error *err);
/* Who is root becomes @uid, with the group of the same number and no capability; anybody else stays. Not before what is served has been read, which may
 * lie where only root gets. */
int confine_user(uid_t uid, struct error *err);
/* confine/calls.h, and sockets that are there or are accepted: nothing is connected or bound. */
int confine_to_sockets(struct error *err);
