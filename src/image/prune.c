#include "image/prune.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "image/blob.h"
#include "image/index.h"
#include "image/oci.h"
#include "image/reference.h"

/* What is half there is kept for the next try, for a day. */
#define PARTIAL_KEPT_NS (24 * 3600 * NS_PER_SEC)
enum { DEPTH_MAX = 16 };

void prune_result_done(struct prune_result *r)
{
	strv_done(&r->names);
	strv_done(&r->digests);
	*r = (struct prune_result){};
}

/* What removing it gives back. */
static uint64_t freed_by(int dirfd, const char *name, int depth)
{
	struct stat st;
	uint64_t sum;
	const struct dirent *e;
	DIR *d;
	int fd;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || (!S_ISDIR(st.st_mode) && st.st_nlink > 1))
		return 0;
	sum = (uint64_t)st.st_blocks * 512;
	if (!S_ISDIR(st.st_mode) || depth == DEPTH_MAX)
		return sum;
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		(void)safe_close(fd);
		return sum;
	}
	while ((e = readdir(d)))
		if (!streq(e->d_name, ".") && !streq(e->d_name, ".."))
			sum += freed_by(fd, e->d_name, depth + 1);
	(void)closedir(d);
	return sum;
}

/* Out of its name first, so that half a disk is never found. */
static int remove_disk(int disks_fd, const char *hex, struct error *err)
{
	_cleanup_free_ char *tmp = xasprintf(".tmp-gone-%s", hex);
	int r = fault_point("prune-disk");

	if (r >= 0 && renameat(disks_fd, hex, disks_fd, tmp) < 0 && errno != ENOENT)
		r = -errno;
	if (r >= 0)
		r = fault_point("prune-disk-files");
	if (r >= 0)
		r = remove_tree_at(disks_fd, tmp);
	return r < 0 ? error_set_errno(err, r, "cannot remove image sha256:%.12s", hex) : 0;
}

/* ---- Names ---- */

static bool is_used(const struct prune_request *req, const char *digest)
{
	_cleanup_free_ char *by = NULL;

	return req->in_use && req->in_use(digest, &by, req->data) != 0;
}

static int remove_names(const struct store *s, const struct prune_request *req, struct image_index *index,
			struct json **tree, struct prune_result *ret, struct error *err)
{
	size_t i = 0;
	int r;

	if (!req->all)
		return 0;
	while (i < index->n) {
		struct image_ref *ref = &index->refs[i];

		if ((req->before_ns && ref->sealed_ns >= req->before_ns) || is_used(req, ref->digest)) {
			i++;
			continue;
		}
		strv_add(&ret->names, ref->name);
		image_index_remove(index, ref);
	}
	if (!ret->names.n)
		return 0;
	r = fault_point("prune-names");
	return r < 0 ? error_set_errno(err, r, "cannot write the index of images")
		     : image_index_write(s, index, tree, err);
}

/* ---- Disks ---- */

static bool is_young(const struct store *s, const struct prune_request *req, const char *directory)
{
	_cleanup_(image_meta_done) struct image_meta m = {};

	return req->before_ns && image_record_read_in(s, directory, &m, NULL) >= 0 && m.created_ns >= req->before_ns;
}

static int remove_disks(const struct store *s, int disks_fd, const struct prune_request *req,
			const struct image_index *index, struct prune_result *ret, struct error *err)
{
	_cleanup_strv_ struct strv names = {};
	int r = image_list_disks(disks_fd, &names, err);

	for (size_t i = 0; r >= 0 && i < names.n; i++) {
		_cleanup_free_ char *digest = image_directory_digest(names.items[i]);
		uint64_t freed;

		if (!digest || image_index_uses(index, digest) || is_used(req, digest) ||
		    is_young(s, req, names.items[i]))
			continue;
		freed = freed_by(disks_fd, names.items[i], 0);
		r = remove_disk(disks_fd, names.items[i], err);
		if (r >= 0) {
			ret->freed_bytes += freed;
			if (!strv_has(&ret->digests, digest))
				strv_add(&ret->digests, digest);
		}
	}
	return r;
}

/* Directories of makers that died. Whoever still works in one holds it. */
static int remove_leftovers(int disks_fd, struct prune_result *ret, struct error *err)
{
	_cleanup_strv_ struct strv names = {};
	int r = image_list_disks(disks_fd, &names, err);

	for (size_t i = 0; r >= 0 && i < names.n; i++) {
		_cleanup_close_ int dir = -EBADF;
		uint64_t freed;

		if (!after_prefix(names.items[i], ".tmp-"))
			continue;
		dir = openat(disks_fd, names.items[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (dir >= 0 && flock(dir, LOCK_EX | LOCK_NB) < 0)
			continue;
		freed = freed_by(disks_fd, names.items[i], 0);
		r = fault_point("prune-leftover");
		if (r >= 0)
			r = remove_tree_at(disks_fd, names.items[i]);
		if (r < 0)
			return error_set_errno(err, r, "images/disks/%s: cannot remove it", names.items[i]);
		ret->freed_bytes += freed;
		ret->n_leftovers++;
	}
	return r;
}

/* ---- Blobs ---- */

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int add_needed(const struct store *s, const char *digest, struct strv *to, struct error *err)
{
	_cleanup_(oci_manifest_done) struct oci_manifest m = {};
	_cleanup_buf_ struct buf text = {};
	int r = blob_read(s, digest, OCI_DOCUMENT_MAX, &text, err);

	if (r >= 0)
		r = oci_manifest_parse(text.p ? text.p : "", text.len, digest, &m, err);
	if (r < 0)
		return error_prefix(err, "image %.19s", digest);
	strv_add(to, digest);
	strv_add(to, m.config.digest);
	for (size_t i = 0; i < m.n_layers; i++)
		strv_add(to, m.layers[i].digest);
	return 0;
}

static bool counts(const char *digest, image_in_use_t in_use, void *data)
{
	_cleanup_free_ char *by = NULL;

	return !in_use || in_use(digest, &by, data) != 0;
}

int image_needed_blobs(const struct store *s, image_in_use_t in_use, void *data, struct strv *ret, struct error *err)
{
	_cleanup_(image_index_done) struct image_index index = {};
	_cleanup_close_ int disks = image_disks_open(s, err);
	_cleanup_strv_ struct strv names = {};
	int r = disks;

	if (r >= 0)
		r = image_index_load(s, &index, err);
	if (r >= 0)
		r = image_list_disks(disks, &names, err);
	for (size_t i = 0; r >= 0 && i < index.n; i++)
		if (counts(index.refs[i].digest, in_use, data))
			r = add_needed(s, index.refs[i].digest, ret, err);
	/* Those that only machines know. */
	for (size_t i = 0; r >= 0 && i < names.n; i++) {
		_cleanup_free_ char *digest = xasprintf("sha256:%s", names.items[i]);

		if (is_digest(digest) && !image_index_uses(&index, digest) && blob_exists(s, digest) &&
		    counts(digest, in_use, data))
			r = add_needed(s, digest, ret, err);
	}
	if (r >= 0 && ret->n)
		qsort(ret->items, ret->n, sizeof(*ret->items), by_text);
	return r;
}

/* One that is not there is empty. */
static int list_directory(int images_fd, const char *path, struct strv *ret)
{
	int r = dir_list_at(images_fd, path, ret);

	return r == -ENOENT ? 0 : r;
}

/* What whoever wrote a record there left when he was killed. The caller keeps everybody else from writing one. */
static int remove_temporaries(int dirfd, const char *directory, struct prune_result *ret, struct error *err)
{
	_cleanup_strv_ struct strv names = {};
	int r = list_directory(dirfd, directory, &names);

	for (size_t i = 0; r >= 0 && i < names.n; i++) {
		_cleanup_free_ char *path = xasprintf("%s/%s", directory, names.items[i]);
		uint64_t freed;

		if (!after_prefix(names.items[i], ".tmp-"))
			continue;
		freed = freed_by(dirfd, path, 0);
		r = fault_point("prune-temporary");
		if (r >= 0)
			r = remove_tree_at(dirfd, path);
		ret->freed_bytes += freed;
		ret->n_leftovers++;
	}
	return r < 0 ? error_set_errno(err, r, "%s: cannot remove what was left in it", directory) : 0;
}

/* Sealed images' records and the index are written under the images' lock, the layout's mark by those who bring blobs in. */
static int remove_unfinished(const struct store *s, int disks_fd, struct prune_result *ret, struct error *err)
{
	_cleanup_strv_ struct strv names = {};
	int r = image_list_disks(disks_fd, &names, err);

	for (size_t i = 0; r >= 0 && i < names.n; i++) {
		_cleanup_free_ char *digest = image_directory_digest(names.items[i]);

		if (digest)
			r = remove_temporaries(disks_fd, names.items[i], ret, err);
	}
	return r >= 0 && !ret->blobs_kept ? remove_temporaries(s->images_fd, ".", ret, err) : r;
}

static int remove_file(int images_fd, const char *path, const char *label, struct prune_result *ret, size_t *count,
		       struct error *err)
{
	uint64_t freed = freed_by(images_fd, path, 0);
	int r = fault_point(label);

	if (r >= 0 && unlinkat(images_fd, path, 0) < 0 && errno != ENOENT)
		r = -errno;
	if (r < 0)
		return error_set_errno(err, r, "images/%s: cannot remove it", path);
	ret->freed_bytes += freed;
	(*count)++;
	return 0;
}

static int remove_blobs(const struct store *s, struct prune_result *ret, struct error *err)
{
	_cleanup_strv_ struct strv needed = {}, names = {};
	int r = image_needed_blobs(s, NULL, NULL, &needed, err);

	if (r < 0)
		return r;
	r = list_directory(s->images_fd, "blobs/sha256", &names);
	if (r < 0)
		return error_set_errno(err, r, "images/blobs/sha256: cannot list it");
	for (size_t i = 0; r >= 0 && i < names.n; i++) {
		_cleanup_free_ char *digest = xasprintf("sha256:%s", names.items[i]);
		_cleanup_free_ char *path = xasprintf("blobs/sha256/%s", names.items[i]);

		if (!is_digest(digest) ||
		    (needed.n && bsearch(&digest, needed.items, needed.n, sizeof(*needed.items), by_text)))
			continue;
		r = remove_file(s->images_fd, path, "prune-blob", ret, &ret->n_blobs, err);
	}
	return r;
}

/* Nobody writes to one: the blobs' lock is ours. */
static int remove_partials(const struct store *s, const struct prune_request *req, struct prune_result *ret,
			   struct error *err)
{
	_cleanup_strv_ struct strv names = {};
	uint64_t now = clock_realtime_ns();
	/* Who wants all of the room back is not helped by a next try that is quicker. */
	bool any = req->all && !req->before_ns;
	int r = list_directory(s->images_fd, "partial", &names);

	if (r < 0)
		return error_set_errno(err, r, "images/partial: cannot list it");
	for (size_t i = 0; r >= 0 && i < names.n; i++) {
		_cleanup_free_ char *path = xasprintf("partial/%s", names.items[i]);
		struct stat st;

		if (fstatat(s->images_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
			continue;
		/* One without a name of its own is good for no next try. */
		if (!any && !after_prefix(names.items[i], ".tmp-") &&
		    (uint64_t)st.st_mtim.tv_sec * NS_PER_SEC + PARTIAL_KEPT_NS > now)
			continue;
		r = remove_file(s->images_fd, path, "prune-partial", ret, &ret->n_partial, err);
	}
	return r;
}

int image_prune(const struct store *s, const struct prune_request *req, struct prune_result *ret, struct error *err)
{
	_cleanup_(prune_result_done) struct prune_result res = {};
	_cleanup_(image_index_done) struct image_index index = {};
	_cleanup_json_ struct json *tree = NULL;
	_cleanup_close_ int blobs = -EBADF, lock = -EBADF, disks = -EBADF;
	_cleanup_error_ struct error e = {};
	int r;

	/* In the order in which all others take them: blobs, then images. */
	blobs = blob_lock(s, true, &e);
	if (blobs < 0 && blobs != -EBUSY)
		return error_move(err, &e);
	res.blobs_kept = blobs < 0;
	lock = images_lock_disks(s, &disks, err);
	if (lock < 0)
		return lock;
	r = image_index_read(s, &index, &tree, err);
	if (r >= 0)
		r = remove_names(s, req, &index, &tree, &res, err);
	if (r >= 0)
		r = remove_disks(s, disks, req, &index, &res, err);
	if (r >= 0)
		r = remove_leftovers(disks, &res, err);
	if (r >= 0)
		r = remove_unfinished(s, disks, &res, err);
	if (r >= 0 && !res.blobs_kept)
		r = remove_blobs(s, &res, err);
	if (r >= 0 && !res.blobs_kept)
		r = remove_partials(s, req, &res, err);
	if (r < 0)
		return r;
	*ret = res;
	res = (struct prune_result){};
	return 0;
}
