/* The header of a qcow2 image, as whoever made the file wrote it: read, and grown where that is possible. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "disk/qcow2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct error err = {};
	struct qcow2_info info = {};
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	if (qcow2_read_info(fd, "fuzz", &info, &err) >= 0)
		qcow2_info_done(&info);
	error_done(&err);
	/* A small step, and one that needs a larger table. The file's size stays in bounds: refcounts of far clusters are refused. */
	if (qcow2_grow(fd, "fuzz", UINT64_C(1) << 30, &err) >= 0 && qcow2_read_info(fd, "fuzz", &info, NULL) >= 0)
		qcow2_info_done(&info);
	error_done(&err);
	(void)qcow2_grow(fd, "fuzz", UINT64_C(8) << 40, &err);
	error_done(&err);
	(void)close(fd);
	return 0;
}
