#include "wire/copytree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "wire/copystream.h"

enum {
	FLUSH_BYTES = 64 << 10, /* small records are gathered up to here */
	READ_BYTES = 128 << 10,
	DEPTH_MAX = 128, /* of directories; each level holds a descriptor while it is sent */
};

/* ---- Sending ---- */

struct sender {
	int fd;          /* borrowed */
	struct buf out;  /* records not written yet */
	struct buf path; /* of the entry at hand, as the receiver sees it */
	uint8_t *chunk;  /* owned, COPYSTREAM_DATA_MAX bytes */
	int result;      /* first error of the tree */
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
	num = num < 0 ? -num : num;
	if (s->result == 0)
		s->result = -num;
	return sender_put(s, &(struct copystream_record){ .type = COPYSTREAM_ERROR, .path = s->path.p, .num = num });
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

/* One stretch of data, [@from, @to). A file that shrinks meanwhile ends it. Errors of reading are told and end the file only. */
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
			return n < 0 ? sender_error(s, errno) : 0;
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
	uint64_t at = 0;
	bool ended = false;

	while (at < size && !ended) {
		off_t data = lseek(fd, (off_t)at, SEEK_DATA);
		off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
		int r;

		if (data < 0 && errno == ENXIO)
			return 0; /* only a hole is left */
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
	return 0;
}

static int send_file(struct sender *s, int parent, const char *name)
{
	_cleanup_close_ int fd = openat(parent, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;
	ssize_t n;
	int r;

	if (fd < 0)
		return sender_error(s, errno);
	if (fstat(fd, &st) < 0)
		return sender_error(s, errno);
	if (!S_ISREG(st.st_mode))
		return sender_error(s, EAGAIN); /* replaced since it was looked at */
	if (st.st_size > 0) {
		r = sender_put_entry(s, &st, (uint64_t)st.st_size, NULL);
		return r < 0 ? r : send_content(s, fd, (uint64_t)st.st_size);
	}
	/* Files of procfs and sysfs say 0 and have content all the same; one chunk holds any that a person would copy. */
	n = pread(fd, s->chunk, COPYSTREAM_DATA_MAX, 0);
	if (n < 0)
		return sender_error(s, errno);
	r = sender_put_entry(s, &st, (uint64_t)n, NULL);
	return r < 0 || n == 0 ? r : sender_put_data(s, 0, (size_t)n);
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
	if (depth >= DEPTH_MAX || fstat(fd, &st) < 0) {
		r = sender_error(s, depth >= DEPTH_MAX ? ENAMETOOLONG : errno);
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
	return r < 0 ? r : s.result;
}

/* ---- Receiving ---- */

/* A directory gets its mode, owner and time when the last of its entries was made: it may be one that may not be written to. */
struct open_dir {
	char *path; /* owned, below root */
	uint32_t mode;
	uint32_t uid;
	uint32_t gid;
	uint64_t mtime_ns;
};

struct receiver {
	int root;           /* borrowed */
	const char *rename; /* borrowed, may be NULL */
	bool keep_owner;
	uint64_t limit_bytes; /* 0 = none */
	uint64_t bytes;
	char *top; /* owned: the first entry's path as sent, NULL before it */

	char *path;                     /* owned: of the entry at hand, below root */
	int file;                       /* owned: the regular file at hand, or -EBADF */
	struct copystream_record entry; /* of it; only its numbers are used */
	struct open_dir dirs[DEPTH_MAX + 1];
	size_t n_dirs;

	int sender_error;        /* first one */
	char *sender_error_path; /* owned */
};

static int open_no_links(int dirfd, const char *path, uint64_t flags, uint64_t mode)
{
	struct open_how how = {
		.flags = flags | O_CLOEXEC,
		.mode = mode,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	long fd;

	for (int tries = 0; tries < 16; tries++) {
		fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
		if (fd >= 0)
			return (int)fd;
		if (errno != EAGAIN)
			break;
	}
	return errno == ELOOP || errno == EXDEV ? -EBADMSG : -errno;
}

static int apply_attributes(const struct receiver *v, int fd, uint32_t mode, uint32_t uid, uint32_t gid,
			    uint64_t mtime_ns)
{
	struct timespec times[2] = {
		{ .tv_nsec = UTIME_OMIT },
		{ .tv_sec = (time_t)(mtime_ns / NS_PER_SEC), .tv_nsec = (long)(mtime_ns % NS_PER_SEC) },
	};

	/* chown first: it clears set-id bits. */
	if (v->keep_owner && fchown(fd, uid, gid) < 0)
		return -errno;
	/* Set-id bits of somebody else's file would lend out our own rights. */
	if (fchmod(fd, mode & (v->keep_owner ? 07777 : 01777)) < 0)
		return -errno;
	if (futimens(fd, times) < 0)
		return -errno;
	return 0;
}

static int finish_file(struct receiver *v)
{
	int r;

	if (v->file < 0)
		return 0;
	r = apply_attributes(v, v->file, v->entry.mode, v->entry.uid, v->entry.gid, v->entry.mtime_ns);
	v->file = safe_close(v->file);
	return r;
}

static bool is_below(const char *path, const char *dir)
{
	const char *rest = after_prefix(path, dir);

	return rest && rest[0] == '/';
}

/* Closes the directories that @path is not in (NULL: all). */
static int finish_dirs(struct receiver *v, const char *path)
{
	while (v->n_dirs > 0) {
		struct open_dir *d = &v->dirs[v->n_dirs - 1];
		_cleanup_close_ int fd = -EBADF;
		int r;

		if (path && is_below(path, d->path))
			return 0;
		fd = open_no_links(v->root, d->path, O_RDONLY | O_DIRECTORY, 0);
		r = fd < 0 ? fd : apply_attributes(v, fd, d->mode, d->uid, d->gid, d->mtime_ns);
		free(d->path);
		v->n_dirs--;
		if (r < 0)
			return r;
	}
	return 0;
}

/* The place below root of what was sent as @sent. */
static int place(struct receiver *v, const char *sent)
{
	const char *rest;

	if (!v->top) {
		if (strchr(sent, '/'))
			return -EBADMSG;
		v->top = xstrdup(sent);
	} else if (!is_below(sent, v->top)) {
		return -EBADMSG;
	}
	rest = sent + strlen(v->top);
	free(v->path);
	v->path = xasprintf("%s%s", v->rename ? v->rename : v->top, rest);
	return 0;
}

static int make_file(struct receiver *v, int parent, const char *name, const struct copystream_record *r)
{
	_cleanup_close_ int fd = -EBADF;
	struct stat st;

	/* O_NONBLOCK: a FIFO in the way must not make us wait for its reader. */
	fd = open_no_links(parent, name, O_WRONLY | O_CREAT | O_NONBLOCK | O_NOCTTY, 0600);
	if (fd < 0)
		return fd == -ENXIO ? -EEXIST : fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EEXIST;
	if (ftruncate(fd, 0) < 0 || ftruncate(fd, (off_t)r->size) < 0)
		return -errno;
	v->file = TAKE_FD(fd);
	v->entry = *r;
	return 0;
}

static int make_directory(struct receiver *v, int parent, const char *name, const struct copystream_record *r)
{
	struct stat st;

	if (v->n_dirs == ARRAY_SIZE(v->dirs))
		return -ENAMETOOLONG;
	if (mkdirat(parent, name, 0700) < 0) {
		if (errno != EEXIST)
			return -errno;
		if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return -errno;
		if (S_ISLNK(st.st_mode))
			return -EBADMSG;
		if (!S_ISDIR(st.st_mode))
			return -ENOTDIR;
	}
	v->dirs[v->n_dirs++] = (struct open_dir){
		.path = xstrdup(v->path), .mode = r->mode, .uid = r->uid, .gid = r->gid, .mtime_ns = r->mtime_ns
	};
	return 0;
}

/* Symbolic links and FIFOs: no descriptor to work on. What stands in the way is replaced unless it is a directory. */
static int make_special(struct receiver *v, int parent, const char *name, const struct copystream_record *r)
{
	struct timespec times[2] = {
		{ .tv_nsec = UTIME_OMIT },
		{ .tv_sec = (time_t)(r->mtime_ns / NS_PER_SEC), .tv_nsec = (long)(r->mtime_ns % NS_PER_SEC) },
	};

	if (unlinkat(parent, name, 0) < 0 && errno != ENOENT)
		return errno == EPERM ? -EISDIR : -errno;
	if (S_ISLNK(r->mode) ? symlinkat(r->link, parent, name) < 0 : mkfifoat(parent, name, r->mode & 0777) < 0)
		return -errno;
	if (v->keep_owner && fchownat(parent, name, r->uid, r->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int receive_entry(struct receiver *v, const struct copystream_record *r)
{
	_cleanup_close_ int parent_fd = -EBADF;
	const char *name;
	char *slash;
	int parent = v->root, rc;

	rc = finish_file(v);
	if (rc < 0)
		return rc;
	rc = place(v, r->path);
	if (rc < 0)
		return rc;
	rc = finish_dirs(v, v->path);
	if (rc < 0)
		return rc;
	slash = strrchr(v->path, '/');
	name = slash ? slash + 1 : v->path;
	if (slash) {
		*slash = '\0';
		parent_fd = open_no_links(v->root, v->path, O_PATH | O_DIRECTORY, 0);
		*slash = '/';
		if (parent_fd < 0)
			return parent_fd;
		parent = parent_fd;
	}
	switch (r->mode & S_IFMT) {
	case S_IFREG: return make_file(v, parent, name, r);
	case S_IFDIR: return make_directory(v, parent, name, r);
	case S_IFLNK: return r->link[0] ? make_special(v, parent, name, r) : -EBADMSG;
	case S_IFIFO: return make_special(v, parent, name, r);
	default: return -EBADMSG;
	}
}

static int receive_data(struct receiver *v, const struct copystream_record *r)
{
	if (v->file < 0 || r->offset + r->data_len > v->entry.size)
		return -EBADMSG;
	v->bytes += r->data_len;
	if (v->limit_bytes && v->bytes > v->limit_bytes)
		return -EFBIG;
	return pwrite_full(v->file, r->data, r->data_len, r->offset);
}

/* 1 = that was the end. */
static int receive_record(struct receiver *v, const struct copystream_record *r)
{
	int rc;

	switch (r->type) {
	case COPYSTREAM_ENTRY: return receive_entry(v, r);
	case COPYSTREAM_DATA: return receive_data(v, r);
	case COPYSTREAM_ERROR:
		if (v->sender_error == 0) {
			v->sender_error = -r->num;
			v->sender_error_path = xstrdup(r->path);
		}
		return 0;
	case COPYSTREAM_END:
		rc = finish_file(v);
		if (rc == 0)
			rc = finish_dirs(v, NULL);
		return rc < 0 ? rc : 1;
	}
	return -EBADMSG;
}

/* All whole records of @in. As receive_record(). */
static int receive_records(struct receiver *v, struct buf *in)
{
	struct buf rest = *in; /* a view that moves on; one move of bytes per read instead of one per record */
	int r;

	for (;;) {
		struct copystream_record rec;
		const uint8_t *msg;
		size_t len, used;

		r = copystream_next(&rest, &msg, &len, &used);
		if (r <= 0)
			break;
		r = copystream_decode(msg, len, &rec);
		if (r == 0) {
			r = receive_record(v, &rec);
			copystream_record_done(&rec);
		}
		if (r != 0)
			break;
		rest.p += used;
		rest.len -= used;
	}
	buf_consume(in, in->len - rest.len);
	return r;
}

static bool is_file_name(const char *s)
{
	return s[0] && !strchr(s, '/') && !streq(s, ".") && !streq(s, "..");
}

static int receive_stream(struct receiver *v, int fd)
{
	_cleanup_buf_ struct buf in = { 0 };

	for (;;) {
		ssize_t n = read(fd, buf_reserve(&in, READ_BYTES), READ_BYTES);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		buf_commit(&in, (size_t)n);
		r = receive_records(v, &in);
		if (r != 0)
			return r < 0 ? r : 0;
	}
}

int copytree_receive(int fd, int dirfd, const char *rename, uint64_t limit_bytes, bool keep_owner, char **ret_path)
{
	struct receiver v = {
		.root = dirfd,
		.rename = rename,
		.keep_owner = keep_owner,
		.limit_bytes = limit_bytes,
		.file = -EBADF,
	};
	int r;

	if (ret_path)
		*ret_path = NULL;
	if (rename && !is_file_name(rename))
		return -EINVAL;
	r = receive_stream(&v, fd);
	if (ret_path && r < 0)
		*ret_path = TAKE_PTR(v.path);
	if (r == 0 && v.sender_error < 0) {
		r = v.sender_error;
		if (ret_path)
			*ret_path = TAKE_PTR(v.sender_error_path);
	}
	safe_close(v.file);
	while (v.n_dirs > 0)
		free(v.dirs[--v.n_dirs].path);
	free(v.top);
	free(v.path);
	free(v.sender_error_path);
	return r;
}
