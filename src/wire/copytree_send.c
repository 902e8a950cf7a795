#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "wire/copystream.h"
#include "wire/copytree.h"

enum {
	FLUSH_BYTES = 64 << 10, /* small records are gathered up to here */
	READ_BYTES = 128 << 10,
	WHOLE_MAX = 64 << 20, /* of a file that does not say how large it is */
};

struct sender {
	int fd;           /* borrowed */
	struct buf out;   /* records not written yet */
	struct buf path;  /* of the entry at hand, as the receiver sees it */
	uint8_t *chunk;   /* owned, COPYSTREAM_DATA_MAX bytes */
	struct buf whole; /* a file that is read before it is announced */
	int result;       /* first error of the tree */
};

static int sender_flush(struct sender *s)
{
	int r = write_full(s->fd, s->out.p, s->out.len);

	buf_truncate(&s->out, 0);
	return r;
}

static int sender_put(struct sender *s, const struct copystream_record *rec)
{
	int r = copystream_encode(&s->out, rec);

	if (r < 0)
		return r;
	return s->out.len >= FLUSH_BYTES ? sender_flush(s) : 0;
}

/* Tells of an entry that is left out. */
static int sender_error(struct sender *s, int num)
{
	_cleanup_free_ char *path = xstrdup(s->path.p);

	num = num < 0 ? -num : num;
	if (s->result == 0)
		s->result = -num;
	/* One that is too long to be sent is told by where it lies. */
	while (strlen(path) > COPYSTREAM_PATH_MAX)
		*strrchr(path, '/') = '\0';
	return sender_put(s, &(struct copystream_record){ .type = COPYSTREAM_ERROR, .path = path, .num = num });
}

static int sender_put_entry(struct sender *s, const struct stat *st, uint64_t size, const char *link)
{
	return sender_put(s, &(struct copystream_record){
				     .type = COPYSTREAM_ENTRY,
				     .path = s->path.p,
				     .mode = st->st_mode,
				     .uid = st->st_uid,
				     .gid = st->st_gid,
				     .size = size,
				     .mtime_ns = st->st_mtim.tv_sec < 0 ? 0
									: (uint64_t)st->st_mtim.tv_sec * NS_PER_SEC +
										  (uint64_t)st->st_mtim.tv_nsec,
				     .link = link,
			     });
}

static int sender_put_data(struct sender *s, uint64_t offset, size_t n)
{
	return sender_put(s, &(struct copystream_record){
				     .type = COPYSTREAM_DATA, .offset = offset, .data = s->chunk, .data_len = n });
}

/* One stretch of data, [@from, @to). A file that shrinks meanwhile ends it, which is an error: the receiver was told its size. Errors are told and end
 * the file only. */
static int send_extent(struct sender *s, int fd, uint64_t from, uint64_t to, bool *ret_ended)
{
	while (from < to) {
		size_t want = to - from < COPYSTREAM_DATA_MAX ? (size_t)(to - from) : COPYSTREAM_DATA_MAX;
		ssize_t n = pread(fd, s->chunk, want, (off_t)from);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			*ret_ended = true;
			return sender_error(s, n < 0 ? errno : EAGAIN);
		}
		r = sender_put_data(s, from, (size_t)n);
		if (r < 0)
			return r;
		from += (uint64_t)n;
	}
	return 0;
}

static int send_content(struct sender *s, int fd, uint64_t size)
{
	struct stat st;
	uint64_t at = 0;
	bool ended = false;

	while (at < size && !ended) {
		off_t data = lseek(fd, (off_t)at, SEEK_DATA);
		off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
		int r;

		if (data < 0 && errno == ENXIO)
			break; /* only a hole is left, or not even that */
		if (data < 0 || hole <= data) {
			data = (off_t)at; /* a file system that knows no holes */
			hole = (off_t)size;
		}
		if ((uint64_t)hole > size)
			hole = (off_t)size;
		r = send_extent(s, fd, (uint64_t)data, (uint64_t)hole, &ended);
		if (r < 0)
			return r;
		at = (uint64_t)hole;
	}
	if (!ended && (fstat(fd, &st) < 0 || (uint64_t)st.st_size < size))
		return sender_error(s, EAGAIN);
	return 0;
}

/* What is small, or does not say how large it is, is read before its size is told: files of procfs say 0, those of sysfs a page. @limit: how much is
 * wanted of it. 1 with s->whole, 0 when an error was told. */
static int read_whole(struct sender *s, int fd, uint64_t limit)
{
	buf_truncate(&s->whole, 0);
	while (s->whole.len < limit) {
		size_t want = limit - s->whole.len < READ_BYTES ? (size_t)(limit - s->whole.len) : READ_BYTES;
		ssize_t n = pread(fd, buf_reserve(&s->whole, want), want, (off_t)s->whole.len);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			r = sender_error(s, errno);
			return r < 0 ? r : 0;
		}
		if (n == 0)
			return 1;
		buf_commit(&s->whole, (size_t)n);
	}
	return 1;
}

static int send_whole(struct sender *s, int fd, const struct stat *st)
{
	uint64_t limit = st->st_size > 0 ? (uint64_t)st->st_size : WHOLE_MAX + 1;
	int r = read_whole(s, fd, limit);

	if (r <= 0)
		return r;
	if (s->whole.len > WHOLE_MAX)
		return sender_error(s, EFBIG);
	r = sender_put_entry(s, st, s->whole.len, NULL);
	for (size_t at = 0; r >= 0 && at < s->whole.len; at += COPYSTREAM_DATA_MAX) {
		size_t left = s->whole.len - at;

		r = sender_put(s, &(struct copystream_record){
					  .type = COPYSTREAM_DATA,
					  .offset = at,
					  .data = (const uint8_t *)s->whole.p + at,
					  .data_len = left < COPYSTREAM_DATA_MAX ? left : COPYSTREAM_DATA_MAX });
	}
	return r;
}

static int send_file(struct sender *s, int parent, const char *name)
{
	_cleanup_close_ int fd = openat(parent, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0)
		return sender_error(s, errno);
	if (fstat(fd, &st) < 0)
		return sender_error(s, errno);
	if (!S_ISREG(st.st_mode))
		return sender_error(s, EAGAIN); /* replaced since it was looked at */
	if (st.st_size <= READ_BYTES)
		return send_whole(s, fd, &st);
	r = sender_put_entry(s, &st, (uint64_t)st.st_size, NULL);
	return r < 0 ? r : send_content(s, fd, (uint64_t)st.st_size);
}

static int send_link(struct sender *s, int parent, const char *name, const struct stat *st)
{
	_cleanup_free_ char *target = NULL;
	size_t cap = st->st_size > 0 && st->st_size < 4096 ? (size_t)st->st_size + 1 : 4096;
	ssize_t n;

	target = xcalloc(cap + 1, 1);
	n = readlinkat(parent, name, target, cap);
	if (n < 0)
		return sender_error(s, errno);
	target[n] = '\0';
	return sender_put_entry(s, st, 0, target);
}

static int send_entry(struct sender *s, int parent, const char *name, bool follow, unsigned depth);

static int send_children(struct sender *s, DIR *dir, unsigned depth)
{
	size_t len = s->path.len;
	int r = 0;

	for (;;) {
		const struct dirent *d;

		errno = 0;
		d = readdir(dir);
		if (!d)
			return errno ? sender_error(s, errno) : 0;
		if (streq(d->d_name, ".") || streq(d->d_name, ".."))
			continue;
		buf_addc(&s->path, '/');
		buf_adds(&s->path, d->d_name);
		r = send_entry(s, dirfd(dir), d->d_name, false, depth + 1);
		buf_truncate(&s->path, len);
		if (r < 0)
			return r;
	}
}

static int send_directory(struct sender *s, int parent, const char *name, bool follow, unsigned depth)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW));
	struct stat st;
	DIR *dir;
	int r;

	if (fd < 0)
		return sender_error(s, errno);
	if (depth >= COPYTREE_DEPTH_MAX || fstat(fd, &st) < 0) {
		r = sender_error(s, depth >= COPYTREE_DEPTH_MAX ? ENAMETOOLONG : errno);
		safe_close(fd);
		return r;
	}
	dir = fdopendir(fd);
	if (!dir) {
		r = sender_error(s, errno);
		safe_close(fd);
		return r;
	}
	r = sender_put_entry(s, &st, 0, NULL);
	if (r == 0)
		r = send_children(s, dir, depth);
	closedir(dir);
	return r;
}

static int send_entry(struct sender *s, int parent, const char *name, bool follow, unsigned depth)
{
	struct stat st;

	if (s->path.len > 4095)
		return sender_error(s, ENAMETOOLONG);
	if (fstatat(parent, name, &st, follow ? 0 : AT_SYMLINK_NOFOLLOW) < 0)
		return sender_error(s, errno);
	switch (st.st_mode & S_IFMT) {
	case S_IFREG: return send_file(s, parent, name);
	case S_IFDIR: return send_directory(s, parent, name, follow, depth);
	case S_IFLNK: return send_link(s, parent, name, &st);
	case S_IFIFO: return sender_put_entry(s, &st, 0, NULL);
	default: return sender_error(s, EOPNOTSUPP);
	}
}

/* The name that the receiver is told. "/", "." and ".." have none of their own. */
static char *base_name(int dirfd, const char *path)
{
	size_t end = strlen(path), begin;
	char *name;

	while (end > 0 && path[end - 1] == '/')
		end--;
	begin = end;
	while (begin > 0 && path[begin - 1] != '/')
		begin--;
	name = xstrndup(path + begin, end - begin);
	if (streq(name, ".") || streq(name, "..")) {
		_cleanup_close_ int fd = openat(dirfd, path, O_PATH | O_CLOEXEC);
		char link[64], target[4096];
		struct buf b = { 0 };
		const char *slash;
		ssize_t n;

		buf_addf(&b, "/proc/self/fd/%d", fd);
		n = b.len < sizeof(link) ? readlink(b.p, target, sizeof(target) - 1) : -1;
		buf_done(&b);
		target[n > 0 ? n : 0] = '\0';
		slash = strrchr(target, '/');
		free(name);
		name = xstrdup(slash ? slash + 1 : "");
	}
	if (!name[0]) {
		free(name);
		name = xstrdup("root");
	}
	return name;
}

int copytree_send(int fd, int dirfd, const char *path)
{
	struct sender s = { .fd = fd };
	_cleanup_free_ char *name = NULL;
	size_t len = strlen(path);
	int r;

	if (len == 0)
		return -ENOENT;
	name = base_name(dirfd, path);
	buf_adds(&s.path, name);
	s.chunk = xcalloc(1, COPYSTREAM_DATA_MAX);
	r = send_entry(&s, dirfd, path, path[len - 1] == '/', 0);
	if (r == 0)
		r = sender_put(&s, &(struct copystream_record){ .type = COPYSTREAM_END });
	if (r == 0)
		r = sender_flush(&s);
	free(s.chunk);
	buf_done(&s.out);
	buf_done(&s.path);
	buf_done(&s.whole);
	return r < 0 ? r : s.result;
}
