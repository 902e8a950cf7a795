/* Who works on what strangers wrote can do little else: the process's system calls from here on. A room of its own, because the library behind it
 * (libseccomp) is linked by those alone who confine themselves. */
#pragma once

#include <stddef.h>

/* From here on, for this process and what it would start: it computes, reads and writes the descriptors that it has, and makes the @n calls of
 * @more (numbers by SCMP_SYS() of <seccomp.h>), whatever their arguments. No file is opened, no program executed, no memory made executable, no
 * privilege gained. What is left is refused with EPERM, not killed for: a library that looks for its locale goes on without. There is
 * no way back. Source of truth: seccomp(2). Returns 0 or -errno, and no call is refused then. */
int confine_calls(const int *more, size_t n);
