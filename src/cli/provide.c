#include "cli/provide.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/process.h"
#include "base/spawn.h"
#include "cli/output.h"
#include "image/image.h"
#include "image/kernel.h"
#include "image/reference.h"
#include "store/paths.h"

/* Passes on what asks us to end, until the program has. */
static int wait_for(int pidfd, int signal_fd)
{
	for (;;) {
		struct pollfd p[] = { { .fd = pidfd, .events = POLLIN }, { .fd = signal_fd, .events = POLLIN } };
		struct signalfd_siginfo si;

		if (poll(p, ARRAY_SIZE(p), -1) < 0 && errno != EINTR)
			return -errno;
		while (read(signal_fd, &si, sizeof(si)) == (ssize_t)sizeof(si))
			(void)pidfd_kill(pidfd, (int)si.ssi_signo);
		if (p[0].revents)
			return 0;
	}
}

static int end_status(int status, struct error *err)
{
	int sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;

	if (!sig)
		return WEXITSTATUS(status);
	/* What it drew last, a bar, makes room. */
	if (isatty(STDERR_FILENO))
		(void)write_full(STDERR_FILENO, "\r\033[K", 4);
	/* Who read has enough: `image save x | head`. */
	if (sig == SIGPIPE)
		return 128 + sig;
	if (sig != SIGINT && sig != SIGTERM && sig != SIGHUP && sig != SIGQUIT)
		return error_set(err, EIO, "skerry-image was killed by signal %d", sig);
	output_notice("interrupted");
	return 128 + sig;
}

int provide_run_from(const char *const *args, int in_fd, int out_fd, struct error *err)
{
	_cleanup_free_ char *program = libexec_path("skerry-image");
	_cleanup_strv_ struct strv argv = {};
	_cleanup_close_ int pidfd = -EBADF, signal_fd = -EBADF;
	struct spawn sp = SPAWN_INIT;
	sigset_t ends, before;
	int r, status = 0;

	if (!program)
		return error_set_kind(err, ERROR_UNAVAILABLE, ENOENT, "skerry-image: not installed beside skerry");
	strv_add(&argv, program);
	for (; *args; args++)
		strv_add(&argv, *args);
	sp.argv = (const char *const *)argv.items;
	sp.stdio[0] = in_fd;
	sp.stdio[1] = out_fd;
	sp.stdio[2] = STDERR_FILENO;
	sp.death_signal = SIGTERM;
	sp.keep_hangup = true;
	(void)sigemptyset(&ends);
	(void)sigaddset(&ends, SIGINT);
	(void)sigaddset(&ends, SIGTERM);
	if (!signal_ignored(SIGHUP))
		(void)sigaddset(&ends, SIGHUP);
	(void)sigaddset(&ends, SIGQUIT);
	(void)sigprocmask(SIG_BLOCK, &ends, &before);
	signal_fd = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
	r = signal_fd < 0 ? error_set_errno(err, errno, "signalfd") : spawn_start(&sp, NULL, &pidfd, err);
	if (r >= 0) {
		r = wait_for(pidfd, signal_fd);
		if (r >= 0)
			r = pidfd_reap(pidfd, &status);
		if (r < 0)
			error_set_errno(err, r, "skerry-image");
	}
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	return r < 0 ? r : end_status(status, err);
}

int provide_run(const char *const *args, int out_fd, struct error *err)
{
	return provide_run_from(args, -1, out_fd, err);
}

/* The program has told why by itself. */
static int as_error(int status, const char *what, struct error *err)
{
	if (status <= 0)
		return status;
	return error_set(err, EIO, "%s could not be made (see above)", what);
}

/* The recipe that an image's name stands for, owned by the caller, or NULL. Debian's numbers are the registry's tags, its names are ours. */
static char *recipe_of(const struct reference *ref)
{
	static const char *const suites[] = { "latest", "bullseye", "bookworm", "trixie",  "forky",
					      "sid",    "stable",   "testing",  "unstable" };
	const char *name = after_prefix(ref->repository, "library/");

	if (!streq(ref->registry, "docker.io") || !name || ref->digest[0])
		return NULL;
	if (streq(name, "tiny") && streq(ref->tag, "latest"))
		return xstrdup("tiny");
	for (size_t i = 0; streq(name, "debian") && i < ARRAY_SIZE(suites); i++)
		if (streq(ref->tag, suites[i]))
			return i ? xasprintf("debian:%s", suites[i]) : xstrdup("debian");
	return NULL;
}

int provide_image(const struct store *s, const char *image, enum provide_pull pull, struct error *err)
{
	_cleanup_error_ struct error e = {};
	_cleanup_free_ char *recipe = NULL;
	struct image_meta meta = {};
	struct reference ref;
	int r = image_find(s, image, &meta, &e);
	bool pulled = r >= 0 && meta.source && after_prefix(meta.source, "registry ");

	image_meta_done(&meta);
	if (r >= 0 && !(pull == PROVIDE_ALWAYS && pulled))
		return 0;
	if ((r < 0 && r != -ENOENT) || pull == PROVIDE_NEVER || reference_parse(image, &ref, NULL) < 0)
		return error_move(err, &e);
	recipe = recipe_of(&ref);
	if (recipe) {
		output_notice("image '%s' is built first, this once", image);
		r = provide_run((const char *const[]){ "build-image", recipe, NULL }, -1, err);
	} else {
		r = provide_run((const char *const[]){ "pull-image", image, NULL }, -1, err);
	}
	return r;
}

int provide_kernel(const struct store *s, const char *name, struct error *err)
{
	_cleanup_error_ struct error e = {};
	struct kernel_meta meta = {};
	int r;

	if (name)
		return 0;
	r = kernel_default(s, &meta, &e);
	kernel_meta_done(&meta);
	if (r != -ENOENT)
		return r < 0 ? error_move(err, &e) : 0;
	output_notice("Debian's kernel is imported first, this once");
	r = provide_run((const char *const[]){ "import-kernel", "debian", NULL }, -1, err);
	return as_error(r, "the kernel", err);
}
