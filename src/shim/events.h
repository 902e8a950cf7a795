/* What happened to tasks, told to containerd in order: containerd.services.events.ttrpc.v1.Events/Forward, one at a time, tried again for a
 * while when it does not answer (it may be restarting). */
#pragma once

#include <stdbool.h>

#include "base/loop.h"

struct ProtobufCMessage;
struct events;

/* @address: $TTRPC_ADDRESS, a unix socket's path, maybe with "unix://" before it; "" = nobody listens. Strings are copied. */
int events_new(struct loop *l, const char *address, const char *namespace, struct events **ret);
/* @topic: "/tasks/create"; @type: "containerd.events.TaskCreate". */
void events_publish(struct events *e, const char *topic, const char *type, const struct ProtobufCMessage *m);
/* The same for what the guest may claim as often as it likes: not again while an equal one waits, and never in the way of the others. */
void events_publish_once(struct events *e, const char *topic, const char *type, const struct ProtobufCMessage *m);
bool events_pending(const struct events *e);
struct events *events_free(struct events *e); /* accepts NULL; returns NULL */
