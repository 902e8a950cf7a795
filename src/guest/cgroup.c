#include "guest/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/parse.h"

enum { FILE_LIMIT = 1 << 20, DEPTH_MAX = 16, PIDS_MAX = 1 << 16 };

int cgroup_open(const char *id)
{
	_cleanup_free_ char *path = xasprintf(CGROUP_PARENT "/%s", id);
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? -errno : fd;
}

int cgroup_write(const char *id, const char *file, const char *word)
{
	_cleanup_close_ int dir = cgroup_open(id), fd = -EBADF;

	if (dir < 0)
		return dir;
	fd = openat(dir, file, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return write(fd, word, strlen(word)) < 0 ? -errno : 0;
}

struct pids {
	uint32_t *items;
	size_t n;
};

static void read_procs(int dir, struct pids *p)
{
	_cleanup_buf_ struct buf text = { 0 };
	char *save = NULL;

	if (file_read_at(dir, "cgroup.procs", FILE_LIMIT, &text) < 0 || !text.p)
		return;
	for (char *line = strtok_r(text.p, "\n", &save); line && p->n < PIDS_MAX; line = strtok_r(NULL, "\n", &save)) {
		uint64_t pid;

		if (parse_u64(line, 1, INT32_MAX, &pid) < 0)
			continue;
		p->items = xrealloc_array(p->items, p->n + 1, sizeof(*p->items));
		p->items[p->n++] = (uint32_t)pid;
	}
}

/* Calls itself for each cgroup below, the deepest first. */
static void walk(int dir, unsigned depth, struct pids *p, bool remove)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;

	if (p)
		read_procs(dir, p);
	if (!d) {
		safe_close(fd);
		return;
	}
	while (depth < DEPTH_MAX && (e = readdir(d))) {
		_cleanup_close_ int below = -EBADF;

		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		below = openat(dir, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (below < 0)
			continue;
		walk(below, depth + 1, p, remove);
		if (remove)
			(void)unlinkat(dir, e->d_name, AT_REMOVEDIR);
	}
	closedir(d);
}

int cgroup_pids(const char *id, uint32_t **ret, size_t *ret_n)
{
	_cleanup_close_ int dir = cgroup_open(id);
	struct pids p = { 0 };

	if (dir < 0)
		return dir;
	walk(dir, 0, &p, false);
	*ret = p.items;
	*ret_n = p.n;
	return 0;
}

uint64_t cgroup_number(const char *id, const char *file, const char *key)
{
	_cleanup_close_ int dir = cgroup_open(id);
	_cleanup_buf_ struct buf text = { 0 };
	size_t n = strlen(key);
	uint64_t v = 0;
	char *save = NULL;

	if (dir < 0 || file_read_at(dir, file, FILE_LIMIT, &text) < 0 || !text.p)
		return 0;
	for (char *line = strtok_r(text.p, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (strncmp(line, key, n) == 0 && line[n] == ' ' && parse_u64(line + n + 1, 0, UINT64_MAX, &v) >= 0)
			return v;
	return 0;
}

bool cgroup_remove(const char *id)
{
	_cleanup_free_ char *path = xasprintf(CGROUP_PARENT "/%s", id);
	_cleanup_close_ int dir = cgroup_open(id);

	if (dir < 0)
		return dir == -ENOENT;
	(void)cgroup_write(id, "cgroup.kill", "1");
	walk(dir, 0, NULL, true);
	return rmdir(path) == 0 || errno == ENOENT;
}
