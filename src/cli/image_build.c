#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/parse.h"
#include "cli/image_disk.h"
#include "cli/image_verbs.h"
#include "image/build.h"
#include "json/json.h"

struct options {
	const char *name, *format;
	struct strv packages;
	uint64_t disk_bytes;
	bool json;
	const char *operand;
};

static void options_done(struct options *o)
{
	strv_done(&o->packages);
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
		{ "disk", required_argument, NULL, 'd' }, { "format", required_argument, NULL, 'f' },
		{ "json", no_argument, NULL, 'j' },       {},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'n': o->name = optarg; break;
		case 'p': split_packages(optarg, &o->packages); break;
		case 'd':
			if (parse_u64(optarg, 1, UINT64_MAX, &o->disk_bytes) < 0)
				return verb_usage(err, "--disk wants a number of bytes");
			break;
		case 'f': o->format = optarg; break;
		case 'j': o->json = true; break;
		default: return verb_usage(err, "unknown option, or one without its value");
		}
	}
	if (optind + 1 < argc)
		return verb_usage(err, "too many arguments");
	o->operand = argv[optind];
	return 0;
}

static int list_recipes(const struct store *s, int argc, char **argv, struct error *err)
{
	_cleanup_(options_done) struct options o = {};
	_cleanup_json_ struct json *list = json_array();
	_cleanup_buf_ struct buf out = {};
	const struct image_recipe *recipe;
	int r = parse(argc, argv, &o, err);

	(void)s;
	if (r < 0)
		return r;
	for (size_t i = 0; (recipe = image_recipe_at(i)); i++) {
		struct json *j = json_object();
		char size[16];

		json_set_string(j, "name", recipe->name);
		json_set_string(j, "description", recipe->description);
		json_set_u64(j, "virtual_bytes", recipe->virtual_bytes);
		json_set_u64(j, "default_memory_bytes", recipe->default_memory_bytes);
		json_append(list, j);
		if (!o.json)
			printf("%-8s %-8s %s\n", recipe->name, format_bytes(recipe->virtual_bytes, size, sizeof(size)),
			       recipe->description);
	}
	if (o.json) {
		json_render(list, true, &out);
		(void)fwrite(out.p, 1, out.len, stdout);
	}
	return 0;
}

static int build_image(const struct store *s, int argc, char **argv, struct error *err)
{
	_cleanup_(options_done) struct options o = {};
	struct build_request req = { .packages = &o.packages, .progress_fd = verb_progress_fd() };
	_cleanup_free_ char *digest = NULL;
	int r = parse(argc, argv, &o, err);

	if (r < 0)
		return r;
	req.recipe = o.operand;
	req.name = o.name;
	req.disk_bytes = o.disk_bytes;
	if (!o.operand)
		return verb_usage(err, "build-image wants a recipe");
	/* What takes an image's place is of its kind. */
	req.format = o.format ? o.format : image_disk_usual(s, "", o.name ? o.name : o.operand);
	r = image_disk_format(req.format, &req.create_tree, err);
	if (r >= 0)
		r = image_build(s, &req, &digest, err);
	if (r >= 0)
		printf("%s\n", digest);
	return r;
}

const struct verb image_build_verbs[] = {
	{ "list-recipes", "[--json]", true, list_recipes },
	{ "build-image", "RECIPE [--name NAME[:TAG]] [--packages A,B] [--disk BYTES] [--format F]", false,
	  build_image },
	{},
};
