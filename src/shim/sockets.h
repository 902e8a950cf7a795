/* Unix sockets of the host that are bind-mounted into a container: virtiofs shows them, but whoever connects does so to the guest's kernel, which
 * knows of no server. So the agent listens in their place, and each connection is led here to the host's socket, both ways and with either end closed
 * by itself. The guest is never told the host's path, and can ask for nothing but a connection to what was mounted for it. */
#pragma once

#include <stddef.h>

struct container;
struct sockets;

struct sockets *sockets_new(struct container *k);
/* The guest knows it as @name; @path: as host_socket_find() tells it. */
void sockets_add(struct sockets *s, const char *name, const char *path);
/* The guest has the container: connections are taken from now on. */
void sockets_start(struct sockets *s);
struct sockets *sockets_free(struct sockets *s); /* ends all connections; accepts NULL; returns NULL */
