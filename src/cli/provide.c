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

int provide_image(const struct store *s, const char *image, struct error *err)
{
	_cleanup_error_ struct error e = {};
	_cleanup_free_ char *recipe = NULL;
	struct image_meta meta = {};
	struct reference ref;
	const char *name;
	int r = image_find(s, image, &meta, &e);
	image_meta_done(&meta);
	if (r >= 0)
		return 0;
	if (r != -ENOENT || reference_parse(image, &ref, NULL) < 0 || ref.digest[0] ||
	    !streq(ref.registry, "docker.io"))
		return error_move(err, &e);
	name = after_prefix(ref.repository, "library/");
	if (!name || !(streq(name, "tiny") || streq(name, "debian")))
		return error_move(err, &e);
	if (streq(ref.tag, "latest"))
		recipe = xstrdup(name);
	else if (streq(name, "debian"))
		recipe = xasprintf("%s:%s", name, ref.tag);
	else
		return error_move(err, &e);
	output_notice("image '%s' is built first, this once", image);
	r = provide_run((const char *const[]){ "build-image", recipe, NULL }, -1, err);
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
