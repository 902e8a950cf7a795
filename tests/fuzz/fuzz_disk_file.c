/* A disk image made elsewhere, as far as our own code looks at it: what it is, what it refers to, what comes out of a packed one. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "disk/disk_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC), to = memfd_create("fuzz", MFD_CLOEXEC);
	struct error err = {};
	enum disk_file_kind kind;

	if (fd < 0 || to < 0 || write(fd, data, size) != (ssize_t)size || lseek(fd, 0, SEEK_SET) != 0)
		abort();
	kind = disk_file_recognise(data, size);
	(void)disk_file_check(fd, kind, "fuzz", &err);
	error_done(&err);
	if (kind == DISK_FILE_PACKED) {
		(void)disk_file_recognise_packed(fd);
		if (lseek(fd, 0, SEEK_CUR) != 0)
			abort();
		(void)disk_file_unpack(fd, "fuzz", to, 1 << 20, &err);
		error_done(&err);
	}
	(void)close(fd);
	(void)close(to);
	return 0;
}
