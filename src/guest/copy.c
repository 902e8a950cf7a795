#include "guest/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "guest/session.h"
#include "wire/copytree.h"

struct copy {
	const char *path; /* borrowed from the request: the child has a copy of all memory */
	const char *rename;
	bool keep_owner;
};

static int say(const char *path, int num)
{
	_cleanup_buf_ struct buf b = { 0 };

	buf_addf(&b, "%s: %s\n", path, strerror(-num));
	(void)write_full(STDERR_FILENO, b.p, b.len);
	return 1;
}

static int run_out(void *data)
{
	const struct copy *c = data;
	int r = copytree_send(STDOUT_FILENO, AT_FDCWD, c->path);

	return r < 0 ? 1 : 0; /* the stream itself tells what and why */
}

static int run_in(void *data)
{
	const struct copy *c = data;
	_cleanup_free_ char *path = NULL;
	_cleanup_close_ int dir = open(c->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = dir < 0 ? -errno : copytree_receive(STDIN_FILENO, dir, c->rename, 0, c->keep_owner, &path);

	return r < 0 ? say(path ? path : c->path, r) : 0;
}

static int start(struct sessions *t, const char *id, struct copy *c, int (*run)(void *), bool stdin_open,
		 struct error *err)
{
	struct launch l = { .run = run, .data = c, .cwd = "", .stdin_open = stdin_open };
	pid_t pid;

	return session_launch(t, id, &l, false, &pid, err);
}

int copy_out_start(struct sessions *t, const char *id, const char *path, struct error *err)
{
	struct copy c = { .path = path };
	struct stat st;

	if (path[0] != '/')
		return error_set(err, EINVAL, "'%.200s' is not an absolute path", path);
	if (lstat(path, &st) < 0)
		return error_set_errno(err, errno, "%.200s", path);
	return start(t, id, &c, run_out, false, err);
}

int copy_in_start(struct sessions *t, const char *id, const char *directory, const char *rename, bool keep_owner,
		  struct error *err)
{
	struct copy c = { .path = directory, .rename = rename, .keep_owner = keep_owner };
	struct stat st;

	if (directory[0] != '/')
		return error_set(err, EINVAL, "'%.200s' is not an absolute path", directory);
	if (stat(directory, &st) < 0)
		return error_set_errno(err, errno, "%.200s", directory);
	if (!S_ISDIR(st.st_mode))
		return error_set_errno(err, ENOTDIR, "%.200s", directory);
	return start(t, id, &c, run_in, true, err);
}
