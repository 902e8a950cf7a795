/* Sockets of the host that a container's programs connect to. The agent listens in their place, where the container's configuration has them mounted
 * from; each connection that the host accepts is a session, as one that it dials. */
#pragma once

#include "agent.pb-c.h"
#include "base/error.h"
#include "base/loop.h"
#include "guest/link.h"
#include "guest/session.h"

struct container_sockets;

/* Listens at @directory/NAME for each of @sockets. On error nothing of it is left. */
int container_sockets_new(struct loop *l, const char *directory, Skerry__Agent__V1__ContainerSocket *const *sockets,
			  size_t n, struct container_sockets **ret, struct error *err);
/* Answers request @stream_id when somebody has connected to @name: session @id is that connection. One may wait for each. */
int container_sockets_accept(struct container_sockets *s, struct sessions *t, struct link *k, const char *name,
			     const char *id, uint32_t stream_id, struct error *err);
/* No request that came before will be answered. */
void container_sockets_forget(struct container_sockets *s);
/* Accepts NULL; returns NULL. */
struct container_sockets *container_sockets_free(struct container_sockets *s);
