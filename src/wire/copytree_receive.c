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
#include "wire/copytree.h"

enum { READ_BYTES = 128 << 10 };

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
	struct open_dir dirs[COPYTREE_DEPTH_MAX + 1];
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
	/* Set-id bits lend out rights, and the other side chose mode, owner and content: nobody's here. */
	if (fchmod(fd, mode & 01777) < 0)
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

/* What is in the way of a regular file and cannot be opened makes room for it where cp -f would do so: a file that may not be written to or is being
 * executed, and a link, which is replaced and not followed. Returns as open_no_links(), @num when it has to stay. */
static int replace_file(int parent, const char *name, int num)
{
	struct stat st;

	if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return num;
	if (!(S_ISLNK(st.st_mode) && num == -EBADMSG) && !(S_ISREG(st.st_mode) && (num == -EACCES || num == -ETXTBSY)))
		return num;
	if (unlinkat(parent, name, 0) < 0)
		return num == -EBADMSG ? -errno : num;
	return open_no_links(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOCTTY, 0600);
}

static int make_file(struct receiver *v, int parent, const char *name, const struct copystream_record *r)
{
	_cleanup_close_ int fd = -EBADF;
	struct stat st;

	/* O_NONBLOCK: a FIFO in the way must not make us wait for its reader. */
	fd = open_no_links(parent, name, O_WRONLY | O_CREAT | O_NONBLOCK | O_NOCTTY, 0600);
	if (fd < 0)
		fd = replace_file(parent, name, fd);
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
