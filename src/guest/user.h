/* The boot configuration's users in the image: made when missing and asked for, with their keys. */
#pragma once

#include "base/error.h"

struct Skerry__Agent__V1__User;

/* Makes the account (locked password) with its home directory when @u->create, allows sudo without a password when @u->sudo, and replaces
 * the authorized keys. Errors: -ENOENT an unknown user that is not to be made. */
int user_apply(const struct Skerry__Agent__V1__User *u, int root, struct error *err);
