/* Disk images made elsewhere: what they are, told by their content, and turning them into a qcow2 of ours.
 *
 * They come from anywhere. Nobody's code looks at more of them than the first bytes before it is known that they refer to no other file; the
 * rest is qemu-img's, in a process with limits and, where root runs this, as a user that owns nothing. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* More than this no disk has; as --disk. */
#define DISK_FILE_BYTES_MAX (UINT64_C(1) << 46)

enum disk_file_kind {
	DISK_FILE_NONE, /* nothing that is known here */
	DISK_FILE_RAW,  /* has a partition table */
	DISK_FILE_QCOW2,
	DISK_FILE_VMDK,
	DISK_FILE_VHDX,
	DISK_FILE_VDI,
	DISK_FILE_PACKED, /* compressed as a whole: gzip, xz, zstd, bzip2 */
	DISK_FILE_ISO,    /* a CD's file system: an installer, no disk */
};
enum { DISK_FILE_HEAD = 36864 }; /* bytes that tell */

/* By the first bytes; fewer when the file is shorter. */
enum disk_file_kind disk_file_recognise(const void *head, size_t n);
const char *disk_file_name(enum disk_file_kind kind); /* QEMU's: "qcow2", "raw" */

/* Refuses what refers to another file (backing file, external data, extents, parent), naming it, what is encrypted, and what is
 * cut short as far as a header tells. Errors: kind DATA. */
int disk_file_check(int fd, enum disk_file_kind kind, const char *what, struct error *err);

/* Writes the content of @fd to @dirfd/@name, a new qcow2 (0600) without a backing file. @scratch_path: an empty directory for a copy, used when
 * @fd is not readable by everybody and qemu-img is to run as nobody. *ret_bytes: the virtual size. Takes as long as it takes: QEMU's programs
 * have CPU time in proportion to the size. Errors: kind UNAVAILABLE without qemu-img; kind DATA for a damaged file; ENOSPC. */
int disk_file_convert(int fd, enum disk_file_kind kind, const char *what, int dirfd, const char *name,
		      const char *scratch_path, uint64_t *ret_bytes, struct error *err);
/* The first @n bytes (at most 4096) that a machine would see on it; the rest of @p is zeroed where it is shorter. As disk_file_convert()
 * otherwise. */
int disk_file_peek(int fd, enum disk_file_kind kind, const char *what, const char *scratch_path, void *p, size_t n,
		   struct error *err);
/* What is inside of DISK_FILE_PACKED; DISK_FILE_NONE also for an archive of files. The file's position is where it was. */
enum disk_file_kind disk_file_recognise_packed(int fd);
/* Decompresses @fd (DISK_FILE_PACKED) into the empty file @to, holes for zeros. Errors: kind DATA; -EFBIG above @max_bytes. */
int disk_file_unpack(int fd, const char *what, int to, uint64_t max_bytes, struct error *err);
