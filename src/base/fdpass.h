/* Descriptors over a unix socket (SCM_RIGHTS). */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#define FDPASS_MAX 16

/* Sends @n bytes with @n_fds borrowed descriptors in one message. Returns bytes sent or -errno. */
ssize_t fdpass_send(int sock, const void *p, size_t n, const int *fds, size_t n_fds);
/* Receives; descriptors are CLOEXEC and owned by the caller; more than @max_fds are closed and -EMSGSIZE returned.
 * Returns bytes received (0 = end) or -errno. */
ssize_t fdpass_recv(int sock, void *p, size_t n, int *fds, size_t max_fds, size_t *ret_n_fds);
