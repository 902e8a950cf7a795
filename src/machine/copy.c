/* Files and trees between host and guest. The copytree code reads and writes a descriptor and blocks, so it runs in a child process at the
 * other end of a pipe, while this process joins the pipe to the guest's session. */
#include "machine/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/process.h"
#include "machine/session.h"
#include "wire/copytree.h"
#include "wire/message.h"

#define CALL_TIMEOUT_NS (30 * NS_PER_SEC)
#define CHILD_END_NS    (60 * NS_PER_SEC)
enum { REPORT_MAX = 64 << 10, COMPLAINT_MAX = 4096 };

/* The child's end: what it does with the stream, and what it tells afterwards. */
struct worker {
	pid_t pid;
	int stream; /* owned: our end of the stream */
	int report; /* owned: "ERRNO PATH" arrives here, nothing on success */
};

static void worker_done(struct worker *w)
{
	w->stream = safe_close(w->stream);
	w->report = safe_close(w->report);
	if (w->pid > 0) {
		(void)kill(w->pid, SIGKILL);
		(void)waitpid(w->pid, NULL, 0);
	}
	w->pid = 0;
}
#define _cleanup_worker_ _cleanup_(worker_done)
#define WORKER_INIT                                \
	{                                          \
		.stream = -EBADF, .report = -EBADF \
	}

struct work {
	bool receive;
	int dirfd;
	const char *name; /* receive: the first entry's new name or NULL; send: what to send */
};

static _noreturn_ void work_run(const struct work *w, int stream, int report)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_buf_ struct buf text = {};
	sigset_t none;
	int r;

	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
	/* A file that may not become that large is an error to be told. */
	(void)signal(SIGXFSZ, SIG_IGN);
	/* The terminal's Ctrl-C is for the parent to decide about. */
	(void)signal(SIGINT, SIG_IGN);
	if (w->receive)
		r = copytree_receive(stream, w->dirfd, w->name, 0, geteuid() == 0, &path);
	else
		r = copytree_send(stream, w->dirfd, w->name);
	if (r < 0) {
		buf_addf(&text, "%d %s", -r, path ? path : w->name ? w->name : "");
		(void)write_full(report, text.p, text.len);
	}
	_exit(r < 0);
}

static int worker_start(const struct work *work, struct worker *ret, struct error *err)
{
	int stream[2], report[2];
	pid_t parent = getpid(), pid;
	int ours = work->receive ? 1 : 0;

	if (pipe2(stream, O_CLOEXEC) < 0)
		return error_set_errno(err, errno, "cannot make a pipe");
	if (pipe2(report, O_CLOEXEC) < 0) {
		int saved = errno;

		safe_close(stream[0]);
		safe_close(stream[1]);
		return error_set_errno(err, saved, "cannot make a pipe");
	}
	pid = fork();
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		safe_close(stream[ours]);
		safe_close(report[0]);
		work_run(work, stream[!ours], report[1]);
	}
	safe_close(stream[!ours]);
	safe_close(report[1]);
	ret->stream = stream[ours];
	ret->report = report[0];
	if (pid < 0)
		return error_set_errno(err, errno, "cannot start a process");
	ret->pid = pid;
	(void)fcntl(ret->stream, F_SETFL, O_NONBLOCK);
	return 0;
}

/* The stream is over: what did the child make of it? */
static int worker_finish(struct worker *w, struct error *err)
{
	_cleanup_buf_ struct buf text = {};
	_cleanup_close_ int pidfd = -EBADF;
	int r, status, num = 0;
	const char *path;

	w->stream = safe_close(w->stream);
	pidfd = (int)syscall(SYS_pidfd_open, w->pid, 0);
	r = pidfd < 0 ? -errno : pidfd_wait_exit(pidfd, clock_monotonic_ns() + CHILD_END_NS);
	if (r < 0)
		return error_set_errno(err, r, "the copy on this side did not end");
	r = file_read_fd(w->report, REPORT_MAX, &text);
	if (waitpid(w->pid, &status, 0) == w->pid)
		w->pid = 0;
	/* Only a child that ended by itself has said all that it had to say. */
	if (w->pid || !WIFEXITED(status)) {
		char how[64];

		return error_set(err, EIO, "the copy on this side was %s",
				 w->pid ? "lost" : wait_status_text(status, how, sizeof(how)));
	}
	if (r >= 0 && text.len == 0 && WEXITSTATUS(status) == 0)
		return 0;
	for (path = text.p ? text.p : ""; *path >= '0' && *path <= '9' && num < 4096; path++)
		num = num * 10 + (*path - '0');
	path += *path == ' ';
	if (num == EBADMSG)
		return error_set_kind(err, ERROR_DATA, EBADMSG,
				      "'%s': the guest sent something that is no orderly copy", path);
	return error_set_errno(err, num ? num : EIO, "cannot copy '%s'", path);
}

static int last_slash_split(const char *path, char **ret_dir, char **ret_name)
{
	_cleanup_free_ char *p = xstrdup(path);
	size_t n = strlen(p);
	char *slash;

	while (n > 1 && p[n - 1] == '/')
		p[--n] = '\0';
	slash = strrchr(p, '/');
	*ret_name = xstrdup(slash ? slash + 1 : p);
	*ret_dir = !slash ? xstrdup(".") : slash == p ? xstrdup("/") : xstrndup(p, (size_t)(slash - p));
	if (**ret_name && !streq(*ret_name, ".") && !streq(*ret_name, ".."))
		return 0;
	free(*ret_name);
	free(*ret_dir);
	*ret_name = *ret_dir = NULL;
	return -EINVAL;
}

/* Where something that arrives goes: into @path when it is a directory, else to that name beside it. */
static int host_target(const char *path, int *ret_dirfd, char **ret_rename, struct error *err)
{
	_cleanup_free_ char *dir = NULL, *name = NULL;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) {
		if (last_slash_split(path, &dir, &name) < 0 || path[strlen(path) - 1] == '/')
			return error_set(err, ENOENT, "'%s': no such directory", path);
		fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		*ret_rename = TAKE_PTR(name);
	}
	if (fd < 0)
		return error_set_errno(err, errno, "cannot open '%s'", dir ? dir : path);
	*ret_dirfd = fd;
	return 0;
}

/* What arrives has the name that was asked for: the guest's word for it would choose which file of the host is written. */
static int asked_name(const char *guest_path, char **ret, struct error *err)
{
	_cleanup_free_ char *dir = NULL, *path = xstrdup(guest_path);
	size_t n = strlen(path);

	/* "log/" and "log/." are "log". */
	while (n > 1 && (path[n - 1] == '/' || (path[n - 1] == '.' && path[n - 2] == '/')))
		path[--n] = '\0';
	if (last_slash_split(path, &dir, ret) >= 0)
		return 0;
	error_set_kind(err, ERROR_USAGE, EINVAL, "'%s' has no name to give it in a directory that exists", guest_path);
	return error_hint(err, "name a directory that is to be made for it");
}

int copy_out(struct client *c, const char *guest_path, const char *host_path, struct error *err)
{
	Skerry__Agent__V1__CopyOutRequest m = SKERRY__AGENT__V1__COPY_OUT_REQUEST__INIT;
	_cleanup_free_ char *id = session_new_id("copy"), *rename = NULL;
	_cleanup_worker_ struct worker w = WORKER_INIT;
	_cleanup_close_ int dirfd = -EBADF;
	_cleanup_error_ struct error stream = {};
	struct work work = { .receive = true };
	int r;

	r = host_target(host_path, &dirfd, &rename, err);
	if (r >= 0 && !rename)
		r = asked_name(guest_path, &rename, err);
	if (r < 0)
		return r;
	m.id = id;
	m.path = (char *)(uintptr_t)guest_path;
	r = client_call(c, AGENT_SERVICE, "CopyOut", &m.base, CALL_TIMEOUT_NS, NULL, err);
	if (r < 0)
		return error_prefix(err, "%s:%s", c->name, guest_path);
	work.dirfd = dirfd;
	work.name = rename;
	r = worker_start(&work, &w, err);
	if (r >= 0) {
		struct session s = { .id = id, .in_fd = -1, .out_fd = w.stream, .err_fd = -1, .end_on_broken = true };

		r = session_run(c, &s, NULL, &stream);
		/* When the receiver went away, it knows better why. */
		if (r >= 0 || r == -EPIPE)
			r = worker_finish(&w, err);
		else
			r = error_move(err, &stream);
	}
	session_release(c, id);
	return r;
}

static int guest_target(struct client *c, const char *path, char **ret_dir, char **ret_rename, struct error *err)
{
	Skerry__Agent__V1__StatRequest m = SKERRY__AGENT__V1__STAT_REQUEST__INIT;
	_cleanup_message_ Skerry__Agent__V1__StatResponse *st = NULL;
	_cleanup_buf_ struct buf answer = {};
	bool directory;
	int r;

	m.path = (char *)(uintptr_t)path;
	r = client_call(c, AGENT_SERVICE, "Stat", &m.base, CALL_TIMEOUT_NS, &answer, err);
	if (r < 0)
		return error_prefix(err, "%s:%s", c->name, path);
	st = message_unpack(&skerry__agent__v1__stat_response__descriptor, answer.p, answer.len);
	if (!st)
		return error_set(err, EBADMSG, "the guest sent a malformed answer");
	directory = st->exists && st->directory;
	if (directory) {
		*ret_dir = xstrdup(path);
		*ret_rename = xstrdup("");
		return 0;
	}
	if (path[strlen(path) - 1] == '/' || last_slash_split(path, ret_dir, ret_rename) < 0)
		return error_set(err, ENOENT, "'%s:%s': no such directory", c->name, path);
	return 0;
}

/* What the guest's side says when it fails: one line, of which it may not send more than fits. */
static int open_complaint(void)
{
	int fd = memfd_create("complaint", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd >= 0 && (ftruncate(fd, COMPLAINT_MAX) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_GROW) < 0))
		fd = safe_close(fd);
	return fd;
}

static int guest_complaint(struct client *c, int fd, const char *path, struct error *err)
{
	char text[COMPLAINT_MAX + 1] = "";
	ssize_t n = pread(fd, text, COMPLAINT_MAX, 0);

	text[n > 0 ? n : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	if (*text)
		return error_set(err, EIO, "%s:%s", c->name, text);
	return error_set(err, EIO, "%s:%s: the copy failed in the guest", c->name, path);
}

int copy_in(struct client *c, const char *host_path, const char *guest_path, struct error *err)
{
	Skerry__Agent__V1__CopyInRequest m = SKERRY__AGENT__V1__COPY_IN_REQUEST__INIT;
	_cleanup_free_ char *id = session_new_id("copy"), *dir = NULL, *rename = NULL, *parent = NULL, *name = NULL;
	_cleanup_free_ char *whole = NULL;
	_cleanup_worker_ struct worker w = WORKER_INIT;
	_cleanup_close_ int dirfd = -EBADF;
	_cleanup_error_ struct error stream = {}, own = {};
	struct work work = {};
	int r, status = 0;

	if (last_slash_split(host_path, &parent, &name) < 0) {
		/* "." and "/": the directory's real name is what arrives. */
		whole = realpath(host_path, NULL);
		if (!whole || last_slash_split(whole, &parent, &name) < 0)
			return error_set_kind(err, ERROR_USAGE, EINVAL, "'%s' cannot be copied as a whole", host_path);
	}
	/* "link/" is what it leads to. */
	if (!whole && host_path[strlen(host_path) - 1] == '/') {
		_cleanup_free_ char *bare = TAKE_PTR(name);

		name = xasprintf("%s/", bare);
	}
	dirfd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0 || faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return error_set_errno(err, errno, "cannot copy '%s'", host_path);
	r = guest_target(c, guest_path, &dir, &rename, err);
	if (r < 0)
		return r;
	m.id = id;
	m.directory = dir;
	m.rename = rename;
	r = client_call(c, AGENT_SERVICE, "CopyIn", &m.base, CALL_TIMEOUT_NS, NULL, err);
	if (r < 0)
		return error_prefix(err, "%s:%s", c->name, dir);
	work.dirfd = dirfd;
	work.name = name;
	r = worker_start(&work, &w, err);
	if (r >= 0) {
		_cleanup_close_ int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC), complaint = open_complaint();
		struct session s = {
			.id = id, .in_fd = w.stream, .out_fd = nowhere, .err_fd = complaint, .wait = true
		};

		if (nowhere < 0 || complaint < 0)
			return error_set_errno(err, errno, "cannot open a file for messages");
		r = session_run(c, &s, &status, &stream);
		if (r >= 0 && status == 0)
			r = worker_finish(&w, err);
		else if (r >= 0)
			/* When this side could not read, it knows best why; else its pipe was just closed, and the guest knows. */
			r = worker_finish(&w, &own) < 0 && own.num != EPIPE
				    ? error_move(err, &own)
				    : guest_complaint(c, complaint, guest_path, err);
		else
			r = error_move(err, &stream);
	}
	session_release(c, id);
	return r;
}
