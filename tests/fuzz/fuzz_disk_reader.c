/* A delta as whoever runs a guest's engine wrote it: mapped and read. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "disk/disk_reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_close_ int fd = memfd_create("fuzz", MFD_CLOEXEC), base_fd = memfd_create("base", MFD_CLOEXEC);
	_cleanup_(disk_reader_freep) struct disk_reader *base = NULL, *disk = NULL;
	uint8_t piece[4096];
	uint64_t reach;

	if (fd < 0 || base_fd < 0 || write(fd, data, size) != (ssize_t)size || ftruncate(base_fd, 1 << 20) < 0)
		abort();
	if (disk_reader_raw(base_fd, "base", &base, NULL) < 0)
		abort();
	if (disk_reader_qcow2(fd, "fuzz", base, &disk, NULL) < 0)
		return 0;
	for (uint64_t at = 0, i = 0; at < disk_reader_bytes(disk) && i < 128; at += 65536, i++) {
		if (disk_reader_bytes(disk) - at >= sizeof(piece))
			(void)disk_reader_read(disk, at, piece, sizeof(piece), NULL);
		(void)disk_reader_is_base(disk, at, disk_reader_bytes(disk) - at, &reach, NULL);
	}
	(void)disk_reader_differs(disk, 0, disk_reader_bytes(disk) < (1 << 21) ? disk_reader_bytes(disk) : 1 << 21,
				  NULL);
	return 0;
}
