#include "cli/image_flatten.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/memory.h"
#include "cli/sandbox.h"
#include "disk/disk_reader.h"
#include "disk/qcow2.h"

enum { PIECE = 256 << 10 };

/* Before each piece that is not all zeros. */
struct piece {
	uint64_t offset, n;
};

/* ---- In the child ---- */

static bool all_zeros(const uint8_t *p, size_t n)
{
	return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

static int send_pieces(struct disk_reader *d, int out_fd, struct error *err)
{
	_cleanup_free_ uint8_t *buf = xcalloc(1, PIECE);
	uint64_t bytes = disk_reader_bytes(d);
	int r = 0;

	for (uint64_t at = 0; r >= 0 && at < bytes; at += PIECE) {
		struct piece head = { at, bytes - at < PIECE ? bytes - at : PIECE };

		r = disk_reader_read(d, at, buf, head.n, err);
		if (r < 0 || all_zeros(buf, head.n))
			continue;
		r = write_full(out_fd, &head, sizeof(head));
		if (r >= 0)
			r = write_full(out_fd, buf, head.n);
		if (r < 0)
			return error_set_errno(err, r, "cannot hand over a disk");
	}
	return r;
}

static int read_disk(int out_fd, void *data, struct error *err)
{
	const struct flatten_request *req = data;
	_cleanup_(disk_reader_freep) struct disk_reader *base = NULL, *disk = NULL;
	int r;

	r = req->base_qcow2 ? disk_reader_qcow2(req->base_fd, "the image's disk", NULL, &base, err)
			    : disk_reader_raw(req->base_fd, "the image's disk", &base, err);
	if (r >= 0)
		r = disk_reader_qcow2(req->disk_fd, req->what, base, &disk, err);
	return r < 0 ? r : send_pieces(disk, out_fd, err);
}

/* ---- In the parent ---- */

/* Nothing of a child is believed: pieces ascend and lie within the disk. */
static int take_pieces(int from, int to, uint64_t bytes, const char *what, struct error *err)
{
	_cleanup_free_ uint8_t *buf = xcalloc(1, PIECE);
	uint64_t end = 0;

	for (;;) {
		struct piece head;
		ssize_t n = read(from, &head, 1);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			return 0;
		r = n < 0 ? -errno : read_full(from, (char *)&head + 1, sizeof(head) - 1);
		if (r >= 0 &&
		    (head.n > PIECE || head.offset < end || head.offset > bytes || head.n > bytes - head.offset))
			r = -EBADMSG;
		if (r >= 0)
			r = read_full(from, buf, head.n);
		if (r < 0)
			return error_set_errno(err, r, "%s: its disk cannot be read", what);
		r = pwrite_full(to, buf, head.n, head.offset);
		if (r < 0)
			return error_set_errno(err, r, "%s: cannot write its disk", what);
		end = head.offset + head.n;
	}
}

int image_flatten(struct workshop *w, const struct flatten_request *req, struct error *err)
{
	_cleanup_(sandbox_done) struct sandbox child = SANDBOX_INIT;
	_cleanup_(qcow2_info_done) struct qcow2_info info = {};
	_cleanup_free_ char *path = xasprintf("%s/flat", w->scratch_path);
	_cleanup_close_ int to = -EBADF;
	struct flatten_request copy = *req;
	int fds[2] = { req->disk_fd, req->base_fd };
	int r = qcow2_read_info(req->disk_fd, req->what, &info, err);

	if (r < 0)
		return r;
	to = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	r = to < 0 ? -errno : fault_point("commit-flatten");
	(void)unlink(path);
	if (r >= 0 && ftruncate(to, (off_t)info.virtual_bytes) < 0)
		r = -errno;
	if (r < 0)
		return error_set_errno(err, r, "cannot create '%s'", path);
	r = sandbox_start(&child, fds, ARRAY_SIZE(fds), read_disk, &copy, err);
	if (r >= 0)
		r = take_pieces(child.out_fd, to, info.virtual_bytes, req->what, err);
	if (r >= 0)
		r = sandbox_finish(&child, req->what, err);
	return r < 0 ? r : TAKE_FD(to);
}
