/* Layers as a registry sends them: two tars, one on top of the other, applied to a small ext4 and to a small EROFS. What was accepted must be
 * readable again, and to the same limits of names. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cli/image_disk.h"
#include "disk/disk_reader.h"
#include "disk/ext4_diff.h"
#include "image/apply.h"

enum { DISK_BYTES = 16 << 20 };

struct pieces {
	const uint8_t *p;
	size_t left, piece;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int next_piece(void *data, const void **ret, size_t *ret_n, struct error *err)
{
	struct pieces *s = data;

	(void)err;
	*ret = s->p;
	*ret_n = s->left < s->piece ? s->left : s->piece;
	s->p += *ret_n;
	s->left -= *ret_n;
	return 0;
}

static int apply(struct tree *tree, const uint8_t *p, size_t n, size_t piece)
{
	struct pieces s = { p, n, piece };
	_cleanup_(tar_freep) struct tar *t = tar_new(next_piece, &s);
	struct apply_limits limits = { .entries_left = 10000 };
	int r = tree->ops->next_layer(tree, NULL);

	return r < 0 ? r : layer_apply(t, tree, &limits, NULL);
}

static int entry(const struct fs_entry *e, const struct fs_segment *segments, size_t n, void *data, struct error *err)
{
	(void)segments;
	(void)n;
	(void)data;
	(void)err;
	if (strstr(e->path, "..") && (strncmp(e->path, "../", 3) == 0 || strstr(e->path, "/../")))
		abort();
	return 0;
}

static int content(uint64_t offset, const void *p, size_t n, void *data, struct error *err)
{
	(void)offset;
	(void)p;
	(void)n;
	(void)data;
	(void)err;
	return 0;
}

static int end(void *data, struct error *err)
{
	(void)data;
	(void)err;
	return 0;
}

static int hard_link(const char *path, const char *target, void *data, struct error *err)
{
	(void)path;
	(void)target;
	(void)data;
	(void)err;
	return 0;
}

static void read_back(int fd)
{
	static const struct ext4_diff_ops ops = {
		.entry = entry, .content = content, .end = end, .hard_link = hard_link
	};
	_cleanup_(disk_reader_freep) struct disk_reader *disk = NULL;
	struct ext4_diff_request q = { .what = "fuzz", .ops = &ops };

	if (disk_reader_raw(fd, "fuzz", &disk, NULL) < 0)
		abort();
	q.disk = disk;
	if (ext4_diff(&q, NULL, NULL) < 0)
		abort();
}

/* Returns whether both layers were accepted. */
static bool fill(tree_create_fn create, int fd, const uint8_t *data, size_t size)
{
	_cleanup_(tree_freep) struct tree *tree = NULL;
	struct tree_format f = { .bytes = DISK_BYTES, .label = "fuzz", .time_s = 1 };
	size_t piece = 1 + data[0] * 8u, cut = (size - 2) * data[1] / 255;

	if (fd < 0 || create(fd, &f, &tree, NULL) < 0)
		abort();
	return apply(tree, data + 2, cut, piece) >= 0 && apply(tree, data + 2 + cut, size - 2 - cut, piece) >= 0 &&
	       tree->ops->finish(tree, NULL) >= 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_close_ int ext4 = memfd_create("fuzz", MFD_CLOEXEC), erofs = memfd_create("fuzz", MFD_CLOEXEC);

	if (size < 3)
		return 0;
	if (fill(ext4_tree_create, ext4, data, size))
		read_back(ext4);
	(void)fill(erofs_tree_create, erofs, data, size);
	return 0;
}
