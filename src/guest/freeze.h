/* FIFREEZE in a child process, which also thaws: when it is told, when the agent dies, and when the time is up. The agent itself may come to wait for
 * a frozen file system; the child touches none. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"
#include "guest/link.h"

struct freeze;

/* Freezes the root file system; request @stream_id is answered over @k (borrowed) when it is frozen. One that is being thawed
 * is frozen again after that. Errors: -EBUSY it is already. */
int freeze_start(struct freeze **f, struct loop *l, struct link *k, uint32_t stream_id, uint64_t timeout_ns,
		 struct error *err);
/* Thaws; request @stream_id is answered when that is done. Without anything frozen: returns 0, and the caller answers; else 1. */
int freeze_end(struct freeze *f, uint32_t stream_id);
/* The requests will not be answered any more. Accepts NULL. */
void freeze_forget_requests(struct freeze *f);
/* Thaws, if need be. Accepts NULL. */
struct freeze *freeze_free(struct freeze *f);
