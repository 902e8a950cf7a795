/* skerry-image: what of images and kernels needs heavy libraries. The skerry program parses the command line of its users and executes this one;
 * the interface between the two is small and may change:
 *
 *   skerry-image list-recipes [--json]
 *   skerry-image build-image RECIPE [--name N] [--packages a,b] [--disk BYTES]
 *   skerry-image build-kernel [--name N] [--replace]
 *   skerry-image import-kernel PATH|debian [--name N] [--replace]
 *
 * One result line on standard output: the digest, or the kernel's name. */
#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/parse.h"
#include "cli/image_disk.h"
#include "image/build.h"
#include "image/kernel.h"
#include "json/json.h"
#include "store/paths.h"

struct options {
	const char *name;
	struct strv packages;
	uint64_t disk_bytes;
	bool replace, json;
	const char *operand;
};

static int usage(struct error *err, const char *what)
{
	return error_set_kind(err, ERROR_USAGE, EINVAL, "skerry-image: %s", what);
}

static void split_packages(const char *list, struct strv *ret)
{
	while (*list) {
		size_t n = strcspn(list, ",");

		if (n)
			strv_take(ret, xstrndup(list, n));
		list += n + (list[n] == ',');
	}
}

static int parse(int argc, char **argv, struct options *o, struct error *err)
{
	static const struct option longs[] = {
		{ "name", required_argument, NULL, 'n' }, { "packages", required_argument, NULL, 'p' },
		{ "disk", required_argument, NULL, 'd' }, { "replace", no_argument, NULL, 'r' },
		{ "json", no_argument, NULL, 'j' },       {},
	};
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'n': o->name = optarg; break;
		case 'p': split_packages(optarg, &o->packages); break;
		case 'd':
			if (parse_u64(optarg, 1, UINT64_MAX, &o->disk_bytes) < 0)
				return usage(err, "--disk wants a number of bytes");
			break;
		case 'r': o->replace = true; break;
		case 'j': o->json = true; break;
		default: return usage(err, "unknown option, or one without its value");
		}
	}
	if (optind + 1 < argc)
		return usage(err, "too many arguments");
	o->operand = argv[optind];
	return 0;
}

static int list_recipes(const struct options *o)
{
	_cleanup_json_ struct json *list = json_array();
	_cleanup_buf_ struct buf out = {};
	const struct image_recipe *r;

	for (size_t i = 0; (r = image_recipe_at(i)); i++) {
		struct json *j = json_object();
		char size[16];

		json_set_string(j, "name", r->name);
		json_set_string(j, "description", r->description);
		json_set_u64(j, "virtual_bytes", r->virtual_bytes);
		json_set_u64(j, "default_memory_bytes", r->default_memory_bytes);
		json_append(list, j);
		if (!o->json)
			printf("%-8s %-8s %s\n", r->name, format_bytes(r->virtual_bytes, size, sizeof(size)),
			       r->description);
	}
	if (o->json) {
		json_render(list, true, &out);
		(void)fwrite(out.p, 1, out.len, stdout);
	}
	return 0;
}

static int build_image(const struct store *s, const struct options *o, struct error *err)
{
	struct build_request req = {
		.recipe = o->operand,
		.name = o->name,
		.packages = &o->packages,
		.disk_bytes = o->disk_bytes,
		.progress_fd = isatty(STDERR_FILENO) ? STDERR_FILENO : -1,
		.create_tree = ext4_tree_create,
	};
	_cleanup_free_ char *digest = NULL;
	int r;

	if (!o->operand)
		return usage(err, "build-image wants a recipe");
	r = image_build(s, &req, &digest, err);
	if (r >= 0)
		printf("%s\n", digest);
	return r;
}

static int build_kernel(const struct store *s, const struct options *o, struct error *err)
{
	_cleanup_free_ char *config = NULL, *script = NULL;
	const char *name = o->name ? o->name : "built";
	int r;

	if (o->operand)
		return usage(err, "build-kernel takes no argument");
	config = data_path("kernel/config");
	script = data_path("kernel/build.sh");
	if (!config || !script)
		return error_set_kind(err, ERROR_UNAVAILABLE, ENOENT,
				      "kernel/config and kernel/build.sh, which belong to skerry, are missing");
	r = kernel_build(s, name, config, script, o->replace, err);
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

static int import_kernel(const struct store *s, const struct options *o, struct error *err)
{
	_cleanup_free_ char *name = NULL;
	int r;

	if (!o->operand)
		return usage(err, "import-kernel wants a file, or debian");
	if (streq(o->operand, "debian")) {
		name = xstrdup(o->name ? o->name : "debian");
		r = kernel_import_debian(s, name, o->replace, err);
	} else {
		name = o->name ? xstrdup(o->name) : name_from_path(o->operand);
		r = kernel_import(s, o->operand, name, NULL, o->replace, err);
	}
	if (r >= 0)
		printf("%s\n", name);
	return r;
}

static int run(const char *verb, const struct options *o, struct error *err)
{
	_cleanup_store_ struct store s = {};
	int r;

	if (streq(verb, "list-recipes"))
		return list_recipes(o);
	r = store_open(&s, err);
	if (r < 0)
		return r;
	if (streq(verb, "build-image"))
		return build_image(&s, o, err);
	if (streq(verb, "build-kernel"))
		return build_kernel(&s, o, err);
	if (streq(verb, "import-kernel"))
		return import_kernel(&s, o, err);
	return usage(err, "unknown verb");
}

int main(int argc, char **argv)
{
	_cleanup_error_ struct error err = {};
	struct options o = {};
	int r;

	/* Names in archives are UTF-8 whatever the user's terminal speaks. */
	(void)setlocale(LC_CTYPE, "C.UTF-8");
	if (argc < 2)
		r = usage(&err, "this program is run by skerry");
	else
		r = parse(argc - 1, argv + 1, &o, &err);
	if (r >= 0)
		r = run(argv[1], &o, &err);
	strv_done(&o.packages);
	if (r >= 0 && fflush(stdout) != 0)
		r = error_set_errno(&err, errno, "cannot write the result");
	if (r >= 0)
		return 0;
	fprintf(stderr, "skerry: %s\n", err.msg ? err.msg : strerror(-r));
	if (err.hint)
		fprintf(stderr, "hint: %s\n", err.hint);
	return error_exit_status(&err);
}
