/* A copystream from a hostile sender: what decodes is checked (no path leads out of the tree) and encodes to the same again. The stream is
 * also received into a directory of its own, beside which nothing may appear. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "wire/copystream.h"
#include "wire/copytree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void check_path(const char *path)
{
	check(path[0] != '/' && strcmp(path, "..") != 0 && strncmp(path, "../", 3) != 0 && !strstr(path, "/../"));
	check(strlen(path) < 3 || strcmp(path + strlen(path) - 3, "/..") != 0);
}

static void take(const uint8_t *msg, size_t len)
{
	struct copystream_record r, again;
	_cleanup_buf_ struct buf out = { 0 };
	const uint8_t *back;
	size_t back_len, used;

	if (copystream_decode(msg, len, &r) < 0)
		return;
	if (r.type == COPYSTREAM_ENTRY)
		check_path(r.path);
	check(r.data_len <= COPYSTREAM_DATA_MAX);
	check(copystream_encode(&out, &r) == 0);
	check(copystream_next(&out, &back, &back_len, &used) == 1 && used == out.len);
	check(copystream_decode(back, back_len, &again) == 0);
	check(again.type == r.type && strcmp(again.path, r.path) == 0 && strcmp(again.link, r.link) == 0 &&
	      again.size == r.size && again.offset == r.offset && again.data_len == r.data_len && again.num == r.num);
	copystream_record_done(&again);
	copystream_record_done(&r);
}

static void receive(const uint8_t *data, size_t size)
{
	char name[] = "/tmp/skerry-fuzz-XXXXXX";
	_cleanup_close_ int stream = memfd_create("stream", MFD_CLOEXEC), top = -EBADF, dir = -EBADF;
	_cleanup_free_ char *path = NULL;

	check(mkdtemp(name) && stream >= 0 && pwrite_full(stream, data, size, 0) == 0);
	top = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	check(mkdirat(top, "in", 0700) == 0);
	dir = openat(top, "in", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	(void)copytree_receive(stream, dir, NULL, 1 << 20, false, &path);
	check(remove_tree_at(top, "in") == 0);
	check(rmdir(name) == 0); /* fails when something else is in there */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_buf_ struct buf in = { 0 };
	const uint8_t *msg;
	size_t len, used;

	buf_add(&in, data, size);
	while (copystream_next(&in, &msg, &len, &used) == 1) {
		take(msg, len);
		buf_consume(&in, used);
	}
	receive(data, size);
	return 0;
}
