/* FITRIM in a child process: a large disk takes seconds, and the agent's loop waits for nothing. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"
#include "guest/link.h"

struct trim;

/* Starts one; request @stream_id is answered over @k (borrowed) when it is done. Errors: -EBUSY one is running. */
int trim_start(struct trim **t, struct loop *l, struct link *k, uint32_t stream_id, struct error *err);
/* The request will not be answered any more. Accepts NULL. */
void trim_forget_request(struct trim *t);
struct trim *trim_free(struct trim *t);
