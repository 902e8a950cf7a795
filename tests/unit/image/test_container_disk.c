#include "image/container_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "image/layer_tar.h"
#include "test.h"

enum { NVRAM_MAX = 16 };

struct member {
	const char *path, *content; /* NULL: a directory; "->…": a symbolic link */
};

static int new_file(void)
{
	int fd = open(test_tmpdir(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	ASSERT_OK(fd);
	return fd;
}

static int on_read(void *data, const void **ret, size_t *ret_n, struct error *err)
{
	static char piece[8192];
	ssize_t n = read(*(int *)data, piece, sizeof(piece));

	(void)err;
	*ret = piece;
	*ret_n = n > 0 ? (size_t)n : 0;
	return n < 0 ? -EIO : 0;
}

static void add(struct layer_tar *t, const struct member *m)
{
	bool link = m->content && strncmp(m->content, "->", 2) == 0;
	struct fs_entry e = {
		.path = m->path,
		.mode = link         ? S_IFLNK | 0777
			: m->content ? S_IFREG | 0440
				     : S_IFDIR | 0555,
	};
	struct fs_segment all = {};

	if (link)
		e.link = m->content + 2;
	else if (m->content)
		all.n = e.size = strlen(m->content);
	ASSERT_OK(layer_tar_add(t, &e, &all, all.n ? 1 : 0, NULL));
	if (S_ISREG(e.mode)) {
		ASSERT_OK(layer_tar_write(t, 0, m->content, e.size, NULL));
		ASSERT_OK(layer_tar_end_file(t, NULL));
	}
}

/* As container_disk_extract(); what came is in @files. */
static int extract(const struct member *members, struct container_file files[CONTAINER_DISK_FILES])
{
	_cleanup_close_ int fd = new_file();
	struct layer_tar *w = NULL;
	struct tar *t;
	int r;

	ASSERT_OK(layer_tar_new(fd, &w, NULL));
	for (; members->path; members++)
		add(w, members);
	ASSERT_OK(layer_tar_finish(w, NULL));
	layer_tar_free(w);
	ASSERT_EQ(lseek(fd, 0, SEEK_SET), 0);
	for (size_t i = 0; i < CONTAINER_DISK_FILES; i++)
		files[i] = (struct container_file){ new_file(), i == CONTAINER_NVRAM ? NVRAM_MAX : 1 << 20, false };
	t = tar_new(on_read, &fd);
	r = container_disk_extract(t, files, NULL);
	tar_free(t);
	return r;
}

static void is(const struct container_file *f, const char *content)
{
	char text[64] = "";

	ASSERT_EQ(f->found, content != NULL);
	ASSERT_OK(pread(f->fd, text, sizeof(text) - 1, 0));
	ASSERT_STREQ(text, content ? content : "");
	close(f->fd);
}

static void refused(const struct member *members, int r)
{
	struct container_file files[CONTAINER_DISK_FILES];

	ASSERT_EQ(extract(members, files), r);
	for (size_t i = 0; i < CONTAINER_DISK_FILES; i++)
		close(files[i].fd);
}

TEST(a_disk_comes_alone_or_with_what_belongs_to_it)
{
	const struct member alone[] = { { "disk/home.qcow2", "d" }, {} };
	const struct member all[] = {
		{ "disk", NULL }, { "disk/any.img", "disk" }, { "disk/nvram", "nv" }, { "disk/home.qcow2", "home" }, {}
	};
	struct container_file files[CONTAINER_DISK_FILES];

	ASSERT_EQ(extract(alone, files), 1);
	is(&files[CONTAINER_DISK], "d");
	is(&files[CONTAINER_HOME], NULL);
	is(&files[CONTAINER_NVRAM], NULL);
	ASSERT_EQ(extract(all, files), 1);
	is(&files[CONTAINER_DISK], "disk");
	is(&files[CONTAINER_HOME], "home");
	is(&files[CONTAINER_NVRAM], "nv");
}

TEST(anything_else_is_a_tree_of_files)
{
	refused((const struct member[]){ {} }, 0);
	refused((const struct member[]){ { "disk", NULL }, {} }, 0);
	refused((const struct member[]){ { "disk/nvram", "nv" }, { "disk/d.img", "d" }, {} }, 0);
	refused((const struct member[]){ { "disk/d.img", "d" }, { "disk/e.img", "e" }, {} }, 0);
	refused((const struct member[]){ { "disk/d.img", "d" }, { "disk/nvram-secure", "e" }, {} }, 0);
	refused((const struct member[]){ { "disk/d.img", "d" }, { "nvram", "e" }, {} }, 0);
	refused((const struct member[]){ { "disk/d.img", "d" }, { "disk/nvram", "->/etc/shadow" }, {} }, 0);
	refused((const struct member[]){ { "disk/d.img", "d" }, { "disk/nvram", NULL }, {} }, 0);
	refused((const struct member[]){ { "disk/d.img", "d" }, { "disk/nvram", "1" }, { "disk/nvram", "2" }, {} }, 0);
}

TEST(what_is_too_large_is_refused)
{
	refused((const struct member[]){ { "disk/d.img", "d" }, { "disk/nvram", "0123456789abcdef" }, {} }, 1);
	refused((const struct member[]){ { "disk/d.img", "d" }, { "disk/nvram", "0123456789abcdefg" }, {} }, -EFBIG);
}
