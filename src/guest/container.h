/* Containers in a VM that is there for them: made, run and ended by crun, an OCI runtime, which is called for each step and waits for nothing. What
 * it leaves running is ours as PID 1: the first process of each container and those that join are sessions (session.h).
 *
 * Answers go out when crun has done its work, so these calls take the request's stream id along. They return an error that the caller answers, or 0. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent.pb-c.h"
#include "base/error.h"
#include "base/loop.h"
#include "guest/link.h"
#include "guest/session.h"

struct containers;

/* All borrowed. */
struct containers *containers_new(struct loop *l, struct sessions *sessions);
struct containers *containers_free(struct containers *t);
void containers_set_link(struct containers *t, struct link *k);
/* No request that came before will be answered. */
void containers_forget_requests(struct containers *t);
/* A child was reaped; to be called before the sessions hear of it. True when it was crun's own process. */
bool containers_reaped(struct containers *t, pid_t pid, int wait_status);

int container_create(struct containers *t, const Skerry__Agent__V1__CreateContainerRequest *q, uint32_t stream_id,
		     struct error *err);
int container_start(struct containers *t, const char *id, uint32_t stream_id, struct error *err);
int container_exec(struct containers *t, const Skerry__Agent__V1__ExecContainerRequest *q, uint32_t stream_id,
		   struct error *err);
int container_update(struct containers *t, const char *id, const void *resources, size_t n, uint32_t stream_id,
		     struct error *err);
int container_delete(struct containers *t, const char *id, uint32_t stream_id, struct error *err);
int container_accept(struct containers *t, const Skerry__Agent__V1__AcceptRequest *q, uint32_t stream_id,
		     struct error *err);
int container_next_event(struct containers *t, uint32_t stream_id, struct error *err);
/* These are done when they return. */
int container_kill(struct containers *t, const Skerry__Agent__V1__KillContainerRequest *q, struct error *err);
int container_freeze(struct containers *t, const char *id, bool frozen, struct error *err);

/* Inside a container's cgroup; for answers. */
int container_pids(struct containers *t, const char *id, uint32_t **ret, size_t *ret_n, struct error *err);
int container_stats(struct containers *t, const char *id, uint32_t stream_id, struct error *err);
