/* Building an image: a recipe fills a disk in a workshop through a tree; the disk is digested and sealed. */
#include "image/build.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/parse.h"
#include "image/blob.h"
#include "image/digest.h"
#include "image/image.h"
#include "image/recipe.h"
#include "image/reference.h"
#include "image/workshop.h"

#define DISK_MIN (UINT64_C(64) << 20)
#define DISK_MAX (UINT64_C(16) << 40)

static const struct recipe *const recipes[] = { &recipe_tiny, &recipe_debian, &recipe_blank };

const struct image_recipe *image_recipe_at(size_t i)
{
	/* The last one is not for people. */
	return i < ARRAY_SIZE(recipes) && recipes[i] != &recipe_blank ? &recipes[i]->facts : NULL;
}

static const struct recipe *find_recipe(const char *given, const char **ret_variant)
{
	for (size_t i = 0; i < ARRAY_SIZE(recipes); i++) {
		const char *rest = after_prefix(given, recipes[i]->facts.name);

		if (!rest || (*rest && *rest != ':'))
			continue;
		*ret_variant = *rest ? rest + 1 : NULL;
		return recipes[i];
	}
	return NULL;
}

static uint64_t build_time(void)
{
	const char *epoch = getenv("SOURCE_DATE_EPOCH");
	uint64_t s;

	if (epoch && parse_u64(epoch, 1, UINT32_MAX, &s) >= 0)
		return s;
	return 0;
}

/* Recipe and time stand for what the disk will hold, so that a build can be repeated to the byte. */
static void fill_format(const struct recipe *recipe, const struct recipe_run *run, uint64_t bytes,
			struct tree_format *f)
{
	_cleanup_free_ char *text = xasprintf("skerry image %s %" PRIu64, run->request->recipe, run->time_s);

	*f = (struct tree_format){
		.bytes = bytes, .label = "skerry", .time_s = run->time_s, .journal = recipe->journal
	};
	workshop_fill_format(f, text);
}

static int make_disk(const struct recipe *recipe, struct recipe_run *run, struct workshop *w, uint64_t bytes,
		     struct error *err)
{
	_cleanup_(tree_freep) struct tree *tree = NULL;
	_cleanup_close_ int fd = -EBADF;
	struct tree_format f;
	int r;

	fd = openat(w->dir_fd, "disk.raw", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_set_errno(err, errno, "cannot create the disk");
	fill_format(recipe, run, bytes, &f);
	r = run->request->create_tree(fd, &f, &tree, err);
	if (r < 0)
		return r;
	run->tree = tree;
	r = recipe->fill(run, err);
	run->tree = NULL;
	if (r >= 0)
		r = tree->ops->finish(tree, err);
	if (r < 0)
		return r;
	r = fault_point("image-disk");
	if (r >= 0 && fsync(fd) < 0)
		r = -errno;
	if (r < 0)
		return error_set_errno(err, -r, "cannot write the disk");
	return digest_disk(fd, "disk.raw", &run->meta->disk, err);
}

static int build(const struct store *s, const struct recipe *recipe, struct recipe_run *run, const char *name,
		 uint64_t bytes, struct error *err)
{
	_cleanup_workshop_ struct workshop w = WORKSHOP_INIT;
	_cleanup_close_ int lock = blob_lock(s, false, err);
	int r;

	if (lock < 0)
		return lock;
	r = workshop_open(s, &w, err);
	if (r < 0)
		return r;
	run->scratch_path = xstrdup(w.scratch_path);
	r = make_disk(recipe, run, &w, bytes, err);
	return r < 0 ? r : image_seal(&w, name, NULL, run->meta, err);
}

static int unknown_recipe(const char *name, struct error *err)
{
	int r = error_set(err, ENOENT, "no recipe named '%.100s'", name);

	(void)error_hint(err, "skerry image build --help names the recipes");
	return r;
}

int image_build(const struct store *s, const struct build_request *req, char **ret_digest, struct error *err)
{
	_cleanup_(image_meta_done) struct image_meta meta = {};
	struct recipe_run run = { .store = s, .request = req, .meta = &meta };
	const struct recipe *recipe = find_recipe(req->recipe, &run.variant);
	const char *name = req->name ? req->name : req->recipe;
	struct reference checked;
	uint64_t bytes;
	int r;

	if (!recipe)
		return unknown_recipe(req->recipe, err);
	r = reference_parse(name, &checked, err);
	if (r < 0)
		return r;
	bytes = req->disk_bytes ? req->disk_bytes : recipe->facts.virtual_bytes;
	if (bytes < DISK_MIN || bytes > DISK_MAX)
		return error_set_kind(err, ERROR_USAGE, ERANGE, "a disk has 64 MiB to 16 TiB, not %" PRIu64 " bytes",
				      bytes);
	bytes = (bytes + 65535) / 65536 * 65536;
	run.time_s = build_time();
	r = recipe->prepare(&run, err);
	if (r < 0)
		goto out;
	if (!run.time_s)
		run.time_s = clock_realtime_ns() / NS_PER_SEC;
	meta.format = xstrdup("raw");
	meta.fstype = xstrdup(req->format ? req->format : "ext4");
	meta.boot = IMAGE_BOOT_KERNEL;
	meta.virtual_bytes = bytes;
	meta.default_memory_bytes = recipe->facts.default_memory_bytes;
	if (!meta.source)
		meta.source = xasprintf("recipe %s", req->recipe);
	r = build(s, recipe, &run, name, bytes, err);
	if (r < 0)
		(void)error_prefix(err, "image '%s'", name);
	else if (ret_digest)
		*ret_digest = xstrdup(meta.digest);
out:
	free(run.scratch_path);
	free(run.state);
	return r;
}
