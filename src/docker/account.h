/* The user that the container runs as, made known to programs that look it up. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* Appends user @uid to the file @passwd unless it has them: ssh-keygen, for one, makes nothing for who has no name. Errors: -errno of the file,
 * which is unchanged then. */
int account_provide(const char *passwd, uid_t uid, gid_t gid);
