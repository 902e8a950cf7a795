/* Sealed images: images/disks/HEX/{disk.raw,meta.json} and the names in images/index.json.
 *
 * Order makes it safe: when sealing, the disk's directory is complete before the index names it; when deleting, the index forgets the
 * name before the directory goes. A crash in between leaves a directory without a name, which image_collect() removes, or a
 * ".tmp-…" directory, which image_remove_leftovers() removes. Whoever changes anything holds images/lock. */
#include "image/image.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/lock.h"

static const char *const boot_names[] = { "kernel", "firmware", NULL };
static const char *const init_names[] = { "agent", "system", NULL };

static const struct json_field meta_fields[] = {
	{ "digest", JSON_STRING, offsetof(struct image_meta, digest), JSON_REQUIRED },
	{ "format", JSON_STRING, offsetof(struct image_meta, format), JSON_REQUIRED },
	{ "fstype", JSON_STRING, offsetof(struct image_meta, fstype), 0 },
	{ "boot", JSON_ENUM, offsetof(struct image_meta, boot), 0, .names = boot_names },
	{ "init", JSON_ENUM, offsetof(struct image_meta, init), 0, .names = init_names },
	{ "virtual_bytes", JSON_U64, offsetof(struct image_meta, virtual_bytes), JSON_REQUIRED },
	{ "created_ns", JSON_U64, offsetof(struct image_meta, created_ns), 0 },
	{ "source", JSON_STRING, offsetof(struct image_meta, source), 0 },
	{ "user", JSON_STRING, offsetof(struct image_meta, user), 0 },
	{ "ssh", JSON_BOOL, offsetof(struct image_meta, ssh), 0 },
	{ "command", JSON_STRINGS, offsetof(struct image_meta, command), 0 },
	{ "env", JSON_MAP, offsetof(struct image_meta, env), 0 },
	{ "workdir", JSON_STRING, offsetof(struct image_meta, workdir), 0 },
	{ "default_memory_bytes", JSON_U64, offsetof(struct image_meta, default_memory_bytes), 0 },
	{},
};

static const struct json_field ref_fields[] = {
	{ "name", JSON_STRING, offsetof(struct image_ref, name), JSON_REQUIRED },
	{ "digest", JSON_STRING, offsetof(struct image_ref, digest), JSON_REQUIRED },
	{ "generation", JSON_U64, offsetof(struct image_ref, generation), 0 },
	{ "sealed_ns", JSON_U64, offsetof(struct image_ref, sealed_ns), 0 },
	{},
};

static const struct json_field index_fields[] = {
	{ "images", JSON_OBJECTS, offsetof(struct image_index, refs), 0, .fields = ref_fields,
	  .element_size = sizeof(struct image_ref), .count_offset = offsetof(struct image_index, n) },
	{},
};

#define _cleanup_meta_  _cleanup_(image_meta_done)
#define _cleanup_index_ _cleanup_(image_index_done)

void image_meta_done(struct image_meta *m)
{
	json_fields_done(meta_fields, m);
	*m = (struct image_meta){};
}

void image_index_done(struct image_index *i)
{
	json_fields_done(index_fields, i);
	*i = (struct image_index){};
}

/* The 64 digits of a digest, or NULL: only such a string ever becomes a directory's name. */
static const char *digest_hex(const char *digest)
{
	const char *hex = digest ? after_prefix(digest, "sha256:") : NULL;

	if (!hex || strlen(hex) != 64 || strspn(hex, "0123456789abcdef") != 64)
		return NULL;
	return hex;
}

static int load_index(const struct store *s, struct image_index *ret, struct json **tree, struct error *err)
{
	_cleanup_error_ struct error e = {};
	int r;

	*ret = (struct image_index){};
	r = record_read(s->images_fd, "index.json", "images/index.json", index_fields, ret, tree, &e);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return error_move(err, &e);
	for (size_t i = 0; i < ret->n; i++)
		if (!ret->refs[i].name || !digest_hex(ret->refs[i].digest)) {
			image_index_done(ret);
			return error_set(err, EBADMSG, "images/index.json: images[%zu]: bad name or digest", i);
		}
	return 0;
}

int image_index_load(const struct store *s, struct image_index *ret, struct error *err)
{
	_cleanup_json_ struct json *tree = NULL;

	return load_index(s, ret, &tree, err);
}

static int write_index(const struct store *s, const struct image_index *index, struct json **tree, struct error *err)
{
	int r = fault_point("image-index");

	if (r < 0)
		return error_set_errno(err, -r, "images/index.json");
	return record_write(s->images_fd, "index.json", "images/index.json", index_fields, index, tree, RECORD_DURABLE,
			    err);
}

static struct image_ref *index_find(const struct image_index *index, const char *name)
{
	for (size_t i = 0; i < index->n; i++)
		if (streq(index->refs[i].name, name))
			return &index->refs[i];
	return NULL;
}

static void ref_done(struct image_ref *ref)
{
	free(ref->name);
	free(ref->digest);
	*ref = (struct image_ref){};
}

static void index_remove(struct image_index *index, struct image_ref *ref)
{
	size_t i = (size_t)(ref - index->refs);

	ref_done(ref);
	memmove(ref, ref + 1, (index->n - i - 1) * sizeof(*ref));
	index->n--;
}

int image_disks_open(const struct store *s, struct error *err)
{
	int fd;

	if (mkdirat(s->images_fd, "disks", 0700) < 0 && errno != EEXIST)
		return error_set_kind(err, ERROR_CANTCREATE, errno, "cannot create '%s/images/disks': %s", s->home_path,
				      strerror(errno));
	fd = openat(s->images_fd, "disks", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return error_set_errno(err, errno, "cannot open '%s/images/disks'", s->home_path);
	return fd;
}

static int images_lock(const struct store *s, struct error *err)
{
	return lock_acquire(s->images_fd, "lock", "images", 30 * NS_PER_SEC, err);
}

/* The one digest that begins with @prefix, among the sealed disks. */
static int complete_digest(const struct store *s, const char *prefix, char **ret, struct error *err)
{
	const char *hex = after_prefix(prefix, "sha256:");
	_cleanup_free_ char *found = NULL;
	_cleanup_close_ int fd = -EBADF;
	const struct dirent *e;
	DIR *d;

	fd = image_disks_open(s, err);
	if (fd < 0)
		return fd;
	d = fdopendir(fd);
	if (!d)
		return error_set_errno(err, errno, "cannot list images");
	TAKE_FD(fd);
	while ((e = readdir(d))) {
		if (!hex || strlen(e->d_name) != 64 || strncmp(e->d_name, hex, strlen(hex)) != 0)
			continue;
		if (found) {
			(void)closedir(d);
			return error_set_kind(err, ERROR_USAGE, EINVAL,
					      "image '%s': more than one has this digest's beginning", prefix);
		}
		found = xasprintf("sha256:%s", e->d_name);
	}
	(void)closedir(d);
	if (!found || !digest_hex(found))
		return -ENOENT;
	*ret = TAKE_PTR(found);
	return 0;
}

static int read_meta(const struct store *s, const char *digest, struct image_meta *ret, struct json **tree,
		     struct error *err)
{
	_cleanup_meta_ struct image_meta m = {};
	_cleanup_free_ char *path = NULL, *what = NULL;
	int r;

	if (!digest_hex(digest))
		return error_set(err, EBADMSG, "image '%s': no digest", digest);
	path = xasprintf("disks/%s/meta.json", digest_hex(digest));
	what = xasprintf("images/%s", path);
	r = record_read(s->images_fd, path, what, meta_fields, &m, tree, err);
	if (r < 0)
		return r;
	if (!streq(m.digest, digest) || !streq(m.format, "raw"))
		return error_set(err, EBADMSG, "%s: the digest or the format is not this image's", what);
	*ret = m;
	m = (struct image_meta){};
	return 0;
}

int image_meta_read(const struct store *s, const char *digest, struct image_meta *ret, struct error *err)
{
	_cleanup_json_ struct json *tree = NULL;

	return read_meta(s, digest, ret, &tree, err);
}

static int not_found(const char *name, struct error *err)
{
	int r = error_set(err, ENOENT, "no image named '%s'", name);

	if (streq(name, "tiny") || streq(name, "debian") || after_prefix(name, "debian:"))
		(void)error_hint(err, "skerry image build %s", name);
	else
		(void)error_hint(err, "skerry image list");
	return r;
}

/* The digest that a name or digest stands for. */
static int resolve(const struct store *s, const char *name, const struct image_index *index, char **ret,
		   struct error *err)
{
	_cleanup_free_ char *full = NULL;
	const struct image_ref *ref;
	struct image_name n;
	int r;

	r = image_name_parse(name, &n, err);
	if (r < 0)
		return r;
	if (n.digest[0]) {
		r = complete_digest(s, n.digest, ret, err);
		return r == -ENOENT ? not_found(name, err) : r;
	}
	full = xasprintf("%s:%s", n.name, n.tag);
	ref = index_find(index, full);
	if (!ref)
		return not_found(name, err);
	*ret = xstrdup(ref->digest);
	return 0;
}

int image_find(const struct store *s, const char *name, struct image_meta *ret, struct error *err)
{
	_cleanup_index_ struct image_index index = {};
	_cleanup_error_ struct error e = {};
	_cleanup_free_ char *digest = NULL;
	int r;

	r = image_index_load(s, &index, err);
	if (r < 0)
		return r;
	r = resolve(s, name, &index, &digest, err);
	if (r < 0)
		return r;
	r = image_meta_read(s, digest, ret, &e);
	if (r == -ENOENT) {
		r = error_set_kind(err, ERROR_DATA, EBADMSG, "image '%s': its disk %s is missing", name, digest);
		(void)error_hint(err, "skerry image delete %s, then build it again", name);
		return r;
	}
	return r < 0 ? error_move(err, &e) : 0;
}

char *image_disk_path(const struct store *s, const char *digest)
{
	const char *hex = digest_hex(digest);

	return hex ? xasprintf("%s/images/disks/%s/disk.raw", s->home_path, hex) : NULL;
}

/* Moves the finished directory to its final name; what is there already (the same content) stays, but learns the new metadata. */
static int place(int disks_fd, const char *tmp_name, const char *hex, const struct image_meta *meta, struct error *err)
{
	_cleanup_json_ struct json *tree = NULL;
	_cleanup_close_ int dir = -EBADF, old = -EBADF;
	int r;

	dir = openat(disks_fd, tmp_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dir < 0)
		return error_set_errno(err, errno, "images/disks/%s", tmp_name);
	if (fchmodat(dir, "disk.raw", 0444, 0) < 0)
		return error_set_errno(err, errno, "images/disks/%s/disk.raw", tmp_name);
	r = record_write(dir, "meta.json", "meta.json", meta_fields, meta, &tree, RECORD_DURABLE, err);
	if (r < 0)
		return r;
	r = fault_point("image-seal");
	if (r < 0)
		return error_set_errno(err, -r, "images/disks/%s", hex);
	if (renameat2(disks_fd, tmp_name, disks_fd, hex, RENAME_NOREPLACE) == 0)
		return fsync_dir(disks_fd);
	if (errno != EEXIST)
		return error_set_errno(err, errno, "images/disks/%s", hex);
	old = openat(disks_fd, hex, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (old < 0)
		return error_set_errno(err, errno, "images/disks/%s", hex);
	r = record_write(old, "meta.json", "meta.json", meta_fields, meta, &tree, RECORD_DURABLE, err);
	if (r < 0)
		return r;
	(void)remove_tree_at(disks_fd, tmp_name);
	return 0;
}

int image_seal(const struct store *s, const char *name, const char *tmp_name, struct image_meta *meta,
	       struct error *err)
{
	_cleanup_index_ struct image_index index = {};
	_cleanup_json_ struct json *tree = NULL;
	_cleanup_close_ int lock = -EBADF, disks = -EBADF;
	_cleanup_free_ char *full = NULL;
	const char *hex = digest_hex(meta->digest);
	struct image_ref *ref;
	struct image_name n;
	int r;

	if (!hex)
		return error_set(err, EINVAL, "image '%s': no digest", name);
	r = image_name_parse(name, &n, err);
	if (r < 0)
		return r;
	if (n.digest[0])
		return error_set_kind(err, ERROR_USAGE, EINVAL, "image '%s': a digest cannot be given as a name", name);
	full = xasprintf("%s:%s", n.name, n.tag);
	lock = images_lock(s, err);
	if (lock < 0)
		return lock;
	disks = image_disks_open(s, err);
	if (disks < 0)
		return disks;
	r = load_index(s, &index, &tree, err);
	if (r < 0)
		return r;
	if (!meta->format)
		meta->format = xstrdup("raw");
	if (!meta->created_ns)
		meta->created_ns = clock_realtime_ns();
	r = place(disks, tmp_name, hex, meta, err);
	if (r < 0)
		return r;
	ref = index_find(&index, full);
	if (!ref) {
		index.refs = xrealloc_array(index.refs, index.n + 1, sizeof(*index.refs));
		ref = &index.refs[index.n++];
		*ref = (struct image_ref){ .name = TAKE_PTR(full) };
	}
	free(ref->digest);
	ref->digest = xstrdup(meta->digest);
	ref->generation++;
	ref->sealed_ns = clock_realtime_ns();
	return write_index(s, &index, &tree, err);
}

/* Removes one sealed disk: out of its name first, so that half a disk is never found. */
static int remove_disk(int disks_fd, const char *hex, struct error *err)
{
	_cleanup_free_ char *tmp = xasprintf(".tmp-gone-%s", hex);
	int r;

	r = fault_point("image-remove");
	if (r >= 0 && renameat(disks_fd, hex, disks_fd, tmp) < 0 && errno != ENOENT)
		r = -errno;
	if (r >= 0)
		r = remove_tree_at(disks_fd, tmp);
	return r < 0 ? error_set_errno(err, -r, "cannot remove image sha256:%.12s", hex) : 0;
}

static bool index_uses(const struct image_index *index, const char *digest)
{
	for (size_t i = 0; i < index->n; i++)
		if (streq(index->refs[i].digest, digest))
			return true;
	return false;
}

static int list_disks(int disks_fd, struct strv *ret, struct error *err)
{
	int fd = openat(disks_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const struct dirent *e;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d) {
		(void)safe_close(fd);
		return error_set_errno(err, errno, "cannot list images");
	}
	while ((e = readdir(d)))
		strv_add(ret, e->d_name);
	(void)closedir(d);
	return 0;
}

static int collect(int disks, const struct image_index *index,
		   int (*in_use)(const char *digest, char **ret_by, void *data), void *data, struct error *err)
{
	_cleanup_strv_ struct strv names = {};
	int r;

	r = list_disks(disks, &names, err);
	for (size_t i = 0; r >= 0 && i < names.n; i++) {
		_cleanup_free_ char *digest = xasprintf("sha256:%s", names.items[i]), *by = NULL;

		if (!digest_hex(digest) || index_uses(index, digest) || (in_use && in_use(digest, &by, data) != 0))
			continue;
		r = remove_disk(disks, names.items[i], err);
	}
	return r;
}

int image_collect(const struct store *s, int (*in_use)(const char *digest, char **ret_by, void *data), void *data,
		  struct error *err)
{
	_cleanup_index_ struct image_index index = {};
	_cleanup_close_ int lock = -EBADF, disks = -EBADF;
	int r;

	lock = images_lock(s, err);
	if (lock < 0)
		return lock;
	disks = image_disks_open(s, err);
	if (disks < 0)
		return disks;
	r = image_index_load(s, &index, err);
	return r < 0 ? r : collect(disks, &index, in_use, data, err);
}

int image_delete(const struct store *s, const char *name, int (*in_use)(const char *digest, char **ret_by, void *data),
		 void *data, struct error *err)
{
	_cleanup_index_ struct image_index index = {};
	_cleanup_json_ struct json *tree = NULL;
	_cleanup_close_ int lock = -EBADF, disks = -EBADF;
	_cleanup_free_ char *digest = NULL, *full = NULL, *by = NULL;
	struct image_name n;
	int r;

	lock = images_lock(s, err);
	if (lock < 0)
		return lock;
	disks = image_disks_open(s, err);
	if (disks < 0)
		return disks;
	r = load_index(s, &index, &tree, err);
	if (r < 0)
		return r;
	r = image_name_parse(name, &n, err);
	if (r >= 0)
		r = resolve(s, name, &index, &digest, err);
	if (r < 0)
		return r;
	if (!n.digest[0]) {
		full = xasprintf("%s:%s", n.name, n.tag);
		index_remove(&index, index_find(&index, full));
	}
	if (index_uses(&index, digest)) {
		if (n.digest[0])
			return error_set(err, EBUSY, "image '%s' still has a name; delete that", name);
	} else if (in_use) {
		r = in_use(digest, &by, data);
		if (r < 0)
			return error_set_errno(err, -r, "image '%s': cannot tell whether it is in use", name);
		if (r > 0)
			return error_set(err, EBUSY, "image '%s' is in use by %s", name, by ? by : "a machine");
	}
	if (full) {
		r = write_index(s, &index, &tree, err);
		if (r < 0)
			return r;
	}
	return collect(disks, &index, in_use, data, err);
}

int image_remove_leftovers(const struct store *s, struct error *err)
{
	_cleanup_close_ int lock = -EBADF, disks = -EBADF;
	_cleanup_strv_ struct strv names = {};
	int r;

	lock = images_lock(s, err);
	if (lock < 0)
		return lock;
	disks = image_disks_open(s, err);
	if (disks < 0)
		return disks;
	r = list_disks(disks, &names, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < names.n; i++) {
		_cleanup_close_ int dir = -EBADF;

		if (!after_prefix(names.items[i], ".tmp-"))
			continue;
		dir = openat(disks, names.items[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		/* A build that is under way holds its directory. */
		if (dir >= 0 && flock(dir, LOCK_EX | LOCK_NB) < 0)
			continue;
		r = remove_tree_at(disks, names.items[i]);
		if (r < 0)
			return error_set_errno(err, -r, "images/disks/%s: cannot remove it", names.items[i]);
	}
	return 0;
}
