#include "image/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "image/reference.h"

static char *blob_path(const char *digest)
{
	const char *hex = digest_hex(digest);

	return hex ? xasprintf("blobs/sha256/%s", hex) : NULL;
}

int blob_open(const struct store *s, const char *digest, uint64_t *ret_size, struct error *err)
{
	_cleanup_free_ char *path = blob_path(digest);
	_cleanup_close_ int fd = -EBADF;
	struct stat st;

	if (!path)
		return error_set(err, EBADMSG, "'%.80s' is no sha256 digest", digest ? digest : "");
	fd = openat(s->images_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return error_set_errno(err, errno, "images/%s", path);
	if (fstat(fd, &st) < 0)
		return error_set_errno(err, errno, "images/%s", path);
	if (!S_ISREG(st.st_mode))
		return error_set(err, EBADMSG, "images/%s: not a file", path);
	if (ret_size)
		*ret_size = (uint64_t)st.st_size;
	return TAKE_FD(fd);
}

bool blob_exists(const struct store *s, const char *digest)
{
	_cleanup_free_ char *path = blob_path(digest);

	return path && faccessat(s->images_fd, path, R_OK, 0) == 0;
}

int blob_read(const struct store *s, const char *digest, size_t limit, struct buf *out, struct error *err)
{
	_cleanup_close_ int fd = blob_open(s, digest, NULL, err);
	int r;

	if (fd < 0)
		return fd;
	r = file_read_fd(fd, limit, out);
	if (r == -EFBIG)
		return error_set_kind(err, ERROR_DATA, EFBIG, "blob %s: larger than %zu bytes", digest, limit);
	return r < 0 ? error_set_errno(err, r, "blob %s", digest) : 0;
}

int blob_lock(const struct store *s, bool exclusive, struct error *err)
{
	_cleanup_close_ int fd = openat(s->images_fd, "blobs.lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r;

	if (fd < 0)
		return error_set_errno(err, errno, "images/blobs.lock");
	do
		r = flock(fd, exclusive ? LOCK_EX | LOCK_NB : LOCK_SH) < 0 ? -errno : 0;
	while (r == -EINTR && exclusive);
	if (r == -EWOULDBLOCK)
		return error_set(err, EBUSY, "an image is being brought in");
	if (r < 0)
		return error_set_errno(err, r, "images/blobs.lock");
	return TAKE_FD(fd);
}
