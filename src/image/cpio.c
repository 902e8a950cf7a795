#include "image/cpio.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_LIMIT = 4096 };

void cpio_begin(struct cpio *c, struct buf *out)
{
	*c = (struct cpio){ .out = out, .next_inode = 1 };
}

static void pad(struct buf *b)
{
	while (b->len % 4)
		buf_addc(b, 0);
}

static int add(struct cpio *c, const char *path, mode_t mode, uint32_t inode, uint32_t major, uint32_t minor,
	       const void *data, size_t n)
{
	size_t path_len = strlen(path);

	if (path_len == 0 || path_len >= PATH_LIMIT || path[0] == '/')
		return -EINVAL;
	if (n > UINT32_MAX)
		return -EFBIG;
	/* magic, inode, mode, uid, gid, links, mtime, size, dev major/minor, rdev major/minor, name's size, checksum */
	buf_addf(c->out, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", inode, (unsigned)mode, 0, 0,
		 S_ISDIR(mode) ? 2 : 1, 0, (unsigned)n, 0, 0, major, minor, (unsigned)path_len + 1, 0);
	buf_add(c->out, path, path_len + 1);
	pad(c->out);
	if (n)
		buf_add(c->out, data, n);
	pad(c->out);
	return 0;
}

int cpio_add(struct cpio *c, const char *path, mode_t mode, const void *data, size_t n)
{
	int r;

	if (n && !S_ISREG(mode) && !S_ISLNK(mode))
		return -EINVAL;
	r = add(c, path, mode, c->next_inode, 0, 0, data, n);
	if (r >= 0)
		c->next_inode++;
	return r;
}

int cpio_add_device(struct cpio *c, const char *path, mode_t mode, uint32_t major, uint32_t minor)
{
	int r;

	if (!S_ISCHR(mode) && !S_ISBLK(mode))
		return -EINVAL;
	r = add(c, path, mode, c->next_inode, major, minor, NULL, 0);
	if (r >= 0)
		c->next_inode++;
	return r;
}

void cpio_end(struct cpio *c)
{
	(void)add(c, "TRAILER!!!", 0, 0, 0, 0, NULL, 0);
	/* The kernel takes archives in a row on 512-byte boundaries; so do other tools. */
	while (c->out->len % 512)
		buf_addc(c->out, 0);
}
