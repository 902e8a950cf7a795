/* Docker's daemon, over its unix socket (Docker Engine API v1.24 and later): $DOCKER_HOST, or /var/run/docker.sock. A transfer runs in a process of its
 * own, so that what reads it reads a pipe, as it would a file. Linked into skerry-image only. */
#pragma once

#include <sys/types.h>

#include "base/buf.h"
#include "base/error.h"

struct docker_transfer {
	pid_t pid;
	int fd;     /* owned: the pipe, to be read or written */
	int report; /* owned */
};

/* @path: "/images/NAME/get", every character of it safe in a URL. The answer's body comes out of the pipe. */
int docker_get(const char *path, struct docker_transfer *ret, struct error *err);
/* What is written to the pipe, until it is closed, is the request's body, a tar. */
int docker_post(const char *path, struct docker_transfer *ret, struct error *err);
/* Waits for its end; closes the pipe before. Errors: kind UNAVAILABLE no daemon; DENIED the socket may not be opened; NOT_FOUND; what the daemon
 * says. */
int docker_end(struct docker_transfer *t, struct error *err);
/* A small answer, appended. */
int docker_read(const char *path, struct buf *out, struct error *err);
