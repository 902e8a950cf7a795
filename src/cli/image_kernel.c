#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "cli/image_verbs.h"
#include "image/kernel.h"
#include "store/paths.h"

struct options {
	const char *name;
	bool replace;
	const char *operand;
};

static int parse(int argc, char **argv, struct options *o, struct error *err)
{
	static const struct option longs[] = {
		{ "name", required_argument, NULL, 'n' },
		{ "replace", no_argument, NULL, 'r' },
		{},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'n': o->name = optarg; break;
		case 'r': o->replace = true; break;
		default: return verb_usage(err, "unknown option, or one without its value");
		}
	}
	if (optind + 1 < argc)
		return verb_usage(err, "too many arguments");
	o->operand = argv[optind];
	return 0;
}

static int build_kernel(const struct store *s, int argc, char **argv, struct error *err)
{
	struct options o = {};
	_cleanup_free_ char *config = NULL, *script = NULL;
	const char *name;
	int r = parse(argc, argv, &o, err);

	if (r < 0)
		return r;
	name = o.name ? o.name : "built";
	if (o.operand)
		return verb_usage(err, "build-kernel takes no argument");
	config = data_path("kernel/config");
	script = data_path("kernel/build.sh");
	if (!config || !script)
		return error_set_kind(err, ERROR_UNAVAILABLE, ENOENT,
				      "kernel/config and kernel/build.sh, which belong to skerry, are missing");
	r = kernel_build(s, name, config, script, o.replace, err);
	if (r >= 0)
		printf("%s\n", name);
	return r;
}

/* "/boot/vmlinuz-6.1" is named vmlinuz-6.1, a package after what it packs. */
static char *name_from_path(const char *path)
{
	const char *base = strrchr(path, '/');
	size_t n;

	base = base ? base + 1 : path;
	n = strlen(base);
	if (n > 4 && streq(base + n - 4, ".deb"))
		n = strcspn(base, "_");
	return xstrndup(base, n < 63 ? n : 63);
}

static int import_kernel(const struct store *s, int argc, char **argv, struct error *err)
{
	struct options o = {};
	_cleanup_free_ char *name = NULL;
	int r = parse(argc, argv, &o, err);

	if (r < 0)
		return r;
	if (!o.operand)
		return verb_usage(err, "import-kernel wants a file, or debian");
	if (streq(o.operand, "debian")) {
		name = xstrdup(o.name ? o.name : "debian");
		r = kernel_import_debian(s, name, o.replace, err);
	} else {
		name = o.name ? xstrdup(o.name) : name_from_path(o.operand);
		r = kernel_import(s, o.operand, name, NULL, o.replace, err);
	}
	if (r >= 0)
		printf("%s\n", name);
	return r;
}

const struct verb image_kernel_verbs[] = {
	{ "build-kernel", "[--name NAME] [--replace]", false, build_kernel },
	{ "import-kernel", "PATH|debian [--name NAME] [--replace]", false, import_kernel },
	{},
};
