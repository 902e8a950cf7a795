/* A file that somebody calls a kernel. What is unpacked from a bzImage is checked as an ELF file in turn. */
#include <stdint.h>
#include <stdlib.h>

#include "image/kernel_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *release = kernel_release(data, size);
	bool pvh;

	free(release);
	(void)kernel_check_vmlinux(data, size, "input", &pvh, NULL);
	if (kernel_is_bzimage(data, size)) {
		_cleanup_buf_ struct buf elf = {};

		if (kernel_unpack_bzimage(data, size, "input", &elf, NULL) == 0)
			(void)kernel_check_vmlinux(elf.p, elf.len, "unpacked", &pvh, NULL);
	}
	return 0;
}
