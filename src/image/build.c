/* Building an image: a ".tmp-…" directory below images/disks, locked while we live, gets disk.raw; a recipe fills it through a tree; its
 * content is digested; image_seal() gives it its name. Whatever fails, the directory goes; after a crash the next build removes it. */
#include "image/build.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/parse.h"
#include "image/digest.h"
#include "image/image.h"
#include "image/recipe.h"

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

struct workshop {
	int disks_fd, dir_fd; /* owned */
	char *name;           /* owned; the directory's */
};

static void workshop_done(struct workshop *w)
{
	if (w->name && w->disks_fd >= 0)
		(void)remove_tree_at(w->disks_fd, w->name);
	free(w->name);
	w->name = NULL;
	w->dir_fd = safe_close(w->dir_fd);
	w->disks_fd = safe_close(w->disks_fd);
}

static int workshop_open(const struct store *s, struct workshop *w, struct error *err)
{
	uint64_t random;
	int r;

	r = image_remove_leftovers(s, err);
	if (r < 0)
		return r;
	w->disks_fd = image_disks_open(s, err);
	if (w->disks_fd < 0)
		return w->disks_fd;
	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return error_set_errno(err, errno, "no random bytes");
	w->name = xasprintf(".tmp-%016" PRIx64, random);
	r = fault_point("image-workshop");
	if (r >= 0 && mkdirat(w->disks_fd, w->name, 0700) < 0)
		r = -errno;
	if (r < 0)
		return error_set_errno(err, -r, "cannot create 'images/disks/%s'", w->name);
	w->dir_fd = openat(w->disks_fd, w->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (w->dir_fd < 0 || flock(w->dir_fd, LOCK_EX | LOCK_NB) < 0)
		return error_set_errno(err, errno, "cannot lock 'images/disks/%s'", w->name);
	if (mkdirat(w->dir_fd, "scratch", 0755) < 0)
		return error_set_errno(err, errno, "cannot create 'images/disks/%s/scratch'", w->name);
	return 0;
}

/* UUID and hash seed come from the recipe and the time, so that a build can be repeated to the byte. */
static void fill_format(const struct recipe *recipe, const struct recipe_run *run, uint64_t bytes,
			struct tree_format *f)
{
	_cleanup_free_ char *text = xasprintf("skerry image %s %" PRIu64, run->request->recipe, run->time_s);
	uint8_t md[32];

	digest_raw(text, strlen(text), md);
	*f = (struct tree_format){
		.bytes = bytes, .label = "skerry", .time_s = run->time_s, .journal = recipe->journal
	};
	memcpy(f->uuid, md, 16);
	memcpy(f->seed, md + 16, 16);
	f->uuid[6] = (f->uuid[6] & 0x0f) | 0x40;
	f->uuid[8] = (f->uuid[8] & 0x3f) | 0x80;
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
	return digest_disk(fd, "disk.raw", &run->meta->digest, err);
}

static int build(const struct store *s, const struct recipe *recipe, struct recipe_run *run, const char *name,
		 uint64_t bytes, struct error *err)
{
	_cleanup_(workshop_done) struct workshop w = { .disks_fd = -EBADF, .dir_fd = -EBADF };
	int r;

	r = workshop_open(s, &w, err);
	if (r < 0)
		return r;
	run->scratch_path = xasprintf("%s/images/disks/%s/scratch", s->home_path, w.name);
	r = make_disk(recipe, run, &w, bytes, err);
	if (r < 0)
		return r;
	r = remove_tree_at(w.dir_fd, "scratch");
	if (r < 0)
		return error_set_errno(err, -r, "cannot remove the scratch directory");
	r = image_seal(s, name, w.name, run->meta, err);
	if (r >= 0) {
		/* It has another name now. */
		free(w.name);
		w.name = NULL;
	}
	return r;
}

static int unknown_recipe(const char *name, struct error *err)
{
	int r = error_set(err, ENOENT, "no recipe named '%.100s'", name);

	(void)error_hint(err, "skerry image build lists the recipes");
	return r;
}

int image_build(const struct store *s, const struct build_request *req, char **ret_digest, struct error *err)
{
	_cleanup_(image_meta_done) struct image_meta meta = {};
	struct recipe_run run = { .store = s, .request = req, .meta = &meta };
	const struct recipe *recipe = find_recipe(req->recipe, &run.variant);
	const char *name = req->name ? req->name : req->recipe;
	struct image_name checked;
	uint64_t bytes;
	int r;

	if (!recipe)
		return unknown_recipe(req->recipe, err);
	r = image_name_parse(name, &checked, err);
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
	meta.fstype = xstrdup("ext4");
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
