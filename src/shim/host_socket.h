/* A unix socket of the host that is mounted into a container. Its server may be restarted and make it anew, so it is known by its path and not by what
 * was there once; the guest may be root of a directory on that path. So the path is one without symbolic links, found out once, and what has become
 * one is refused: whoever can write to a directory can put there what is in it anyway, and nothing else. */
#pragma once

#include <sys/stat.h>

/* The path of the socket that @source, which may be or lead through symbolic links, is at this moment; owned by the caller. NULL: it is none. */
char *host_socket_find(const char *source);
/* An O_PATH descriptor of what is there. @ret may be NULL. Errors: -ELOOP: on the way is a symbolic link; -ENOTSOCK. */
int host_socket_open(const char *path, struct stat *ret);
/* Connects @fd, which does not wait: -EAGAIN when the server's queue is full. */
int host_socket_connect(int fd, const char *path);
