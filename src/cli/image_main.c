/* skerry-image: what of images and kernels needs heavy libraries. The skerry program parses the command line of its users and executes this
 * one; its verbs are in image_verbs.h. */
#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "cli/image_verbs.h"

/* One a line, as others join. */
/* clang-format off */
static const struct verb *const families[] = {
	image_adopt_verbs,
	image_build_verbs,
	image_commit_verbs,
	image_fetch_verbs,
	image_firmware_verbs,
	image_import_verbs,
	image_kernel_verbs,
	image_registry_verbs,
};
/* clang-format on */

int verb_usage(struct error *err, const char *what)
{
	return error_set_kind(err, ERROR_USAGE, EINVAL, "skerry-image: %s", what);
}

int verb_progress_fd(void)
{
	return isatty(STDERR_FILENO) ? STDERR_FILENO : -1;
}

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(families); i++)
		for (const struct verb *v = families[i]; v->name; v++)
			if (streq(v->name, name))
				return v;
	return NULL;
}

static int run(int argc, char **argv, struct error *err)
{
	_cleanup_store_ struct store s = {};
	const struct verb *v = argc > 1 ? find_verb(argv[1]) : NULL;
	int r;

	if (!v)
		return verb_usage(err, argc > 1 ? "unknown verb" : "this program is run by skerry");
	opterr = 0;
	if (v->without_store)
		return v->run(NULL, argc - 1, argv + 1, err);
	r = store_open(&s, err);
	return r < 0 ? r : v->run(&s, argc - 1, argv + 1, err);
}

int main(int argc, char **argv)
{
	_cleanup_error_ struct error err = {};
	int r;

	/* Names in archives are UTF-8 whatever the user's terminal speaks. */
	(void)setlocale(LC_CTYPE, "C.UTF-8");
	r = run(argc, argv, &err);
	if (r >= 0 && fflush(stdout) != 0)
		r = error_set_errno(&err, errno, "cannot write the result");
	if (r >= 0)
		return 0;
	fprintf(stderr, "skerry: %s\n", err.msg ? err.msg : strerror(-r));
	if (err.hint)
		fprintf(stderr, "hint: %s\n", err.hint);
	return error_exit_status(&err);
}
