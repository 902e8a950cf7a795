#include "cli/usage.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "base/memory.h"

enum { DEPTH_MAX = 64, FIRST_SLOTS = 64 };

void usage_done(struct usage *u)
{
	free(u->seen);
	*u = (struct usage){};
}

static struct usage_seen *slot_of(struct usage_seen *seen, size_t slots, dev_t dev, ino_t ino)
{
	size_t i = ((uint64_t)ino * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (slots - 1);

	while (seen[i].ino && (seen[i].ino != ino || seen[i].dev != dev))
		i = (i + 1) & (slots - 1);
	return &seen[i];
}

static bool is_new(struct usage *u, const struct stat *st)
{
	struct usage_seen *slot;

	if (u->n * 2 >= u->slots) {
		size_t slots = u->slots ? u->slots * 2 : FIRST_SLOTS;
		struct usage_seen *bigger = xnew_n(struct usage_seen, slots);

		for (size_t i = 0; i < u->slots; i++)
			if (u->seen[i].ino)
				*slot_of(bigger, slots, u->seen[i].dev, u->seen[i].ino) = u->seen[i];
		free(u->seen);
		u->seen = bigger;
		u->slots = slots;
	}
	slot = slot_of(u->seen, u->slots, st->st_dev, st->st_ino);
	if (slot->ino)
		return false;
	*slot = (struct usage_seen){ .dev = st->st_dev, .ino = st->st_ino };
	u->n++;
	return true;
}

static uint64_t add(struct usage *u, int dirfd, const char *name, int depth)
{
	const struct dirent *e;
	struct stat st;
	uint64_t sum;
	DIR *d;
	int fd;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	if (!S_ISDIR(st.st_mode))
		return st.st_nlink > 1 && !is_new(u, &st) ? 0 : (uint64_t)st.st_blocks * 512;
	sum = (uint64_t)st.st_blocks * 512;
	fd = depth < DEPTH_MAX ? openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW) : -1;
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		(void)safe_close(fd);
		return sum;
	}
	while ((e = readdir(d)))
		if (!streq(e->d_name, ".") && !streq(e->d_name, ".."))
			sum += add(u, fd, e->d_name, depth + 1);
	(void)closedir(d);
	return sum;
}

uint64_t usage_add(struct usage *u, int dirfd, const char *name)
{
	return add(u, dirfd, name, 0);
}
