/* Kernel files: what an x86-64 kernel image is, checked to the last header. All input is hostile. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/error.h"

/* An ELF64 executable for x86-64 whose headers lie inside it. *ret_pvh: it has the note that names the entry for PVH boot.
 * Errors: -EBADMSG (kind DATA) that says what is wrong. */
int kernel_check_vmlinux(const void *p, size_t n, const char *what, bool *ret_pvh, struct error *err);
bool kernel_is_bzimage(const void *p, size_t n);
/* The ELF file that a bzImage holds packed. Errors: -EBADMSG, also for a packing that is not known. */
int kernel_unpack_bzimage(const void *p, size_t n, const char *what, struct buf *ret, struct error *err);
/* "6.1.0-40-cloud-amd64" from the image itself, owned by the caller; NULL when it does not tell. */
char *kernel_release(const void *p, size_t n);
