/* Users and groups of the image, from its own /etc/passwd and /etc/group. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

struct account {
	char *name; /* owned, as all strings */
	char *home;
	char *shell;
	uid_t uid;
	gid_t gid;
	gid_t *groups; /* owned: supplementary ones, @gid not among them */
	size_t n_groups;
};

/* @who: "name", "uid", "name:group", "uid:gid"; "" is root. A number needs no entry in the files (home "/", group 0).
 * Errors: -ENOENT unknown name; -EINVAL. */
int account_lookup(int root, const char *who, struct account *ret, struct error *err);
void account_done(struct account *a);
#define _cleanup_account_ _cleanup_(account_done)

/* Splits the next line of a colon-separated file in place into at most @max fields (the missing ones are ""). @at moves on. NULL at the end. */
char *account_next_line(char **at, char **fields, size_t max);
