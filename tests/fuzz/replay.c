/* Feeds the files of a directory to a fuzz target, one test for each: what was found once must never come back. */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include "base/file.h"

enum { INPUT_BYTES_MAX = 16 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
	DIR *d = argc == 2 ? opendir(argv[1]) : NULL;
	const struct dirent *e;
	unsigned n = 0;

	if (!d) {
		printf("Bail out! no corpus '%s'\n", argc == 2 ? argv[1] : "");
		return 1;
	}
	while ((e = readdir(d))) {
		_cleanup_buf_ struct buf b = { 0 };

		if (e->d_name[0] == '.')
			continue;
		if (file_read_at(dirfd(d), e->d_name, INPUT_BYTES_MAX, &b) < 0) {
			printf("Bail out! cannot read %s\n", e->d_name);
			return 1;
		}
		printf("# %s\n", e->d_name);
		fflush(stdout); /* a crash ends the output: its name must be out */
		(void)LLVMFuzzerTestOneInput((const uint8_t *)(b.p ? b.p : ""), b.len);
		printf("ok %u - %s\n", ++n, e->d_name);
	}
	closedir(d);
	printf("1..%u\n", n);
	return n ? 0 : 1;
}
