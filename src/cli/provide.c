#include "cli/provide.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/process.h"
#include "base/spawn.h"
#include "cli/output.h"
#include "image/image.h"
#include "image/kernel.h"
#include "image/reference.h"
#include "store/paths.h"

int provide_run(const char *const *args, int out_fd, struct error *err)
{
	_cleanup_free_ char *program = libexec_path("skerry-image");
	_cleanup_strv_ struct strv argv = {};
	_cleanup_close_ int pidfd = -EBADF;
	struct spawn sp = SPAWN_INIT;
	int r, status;

	if (!program)
		return error_set_kind(err, ERROR_UNAVAILABLE, ENOENT, "skerry-image: not installed beside skerry");
	strv_add(&argv, program);
	for (; *args; args++)
		strv_add(&argv, *args);
	sp.argv = (const char *const *)argv.items;
	sp.stdio[1] = out_fd;
	sp.stdio[2] = STDERR_FILENO;
	sp.death_signal = SIGTERM;
	r = spawn_start(&sp, NULL, &pidfd, err);
	if (r < 0)
		return r;
	r = pidfd_wait_exit(pidfd, UINT64_MAX);
	if (r >= 0)
		r = pidfd_reap(pidfd, &status);
	if (r < 0)
		return error_set_errno(err, r, "skerry-image");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
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
	return as_error(r, "the image", err);
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
