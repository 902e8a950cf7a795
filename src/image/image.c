/* Sealed images: images/disks/HEX/{disk.raw,meta.json}, HEX being the digest of the image's manifest, and the names in images/index.json.
 *
 * Order makes it safe: when sealing (workshop.c), the disk's directory is complete before the index names it; when deleting, the index
 * forgets the name before the directory goes. A crash in between leaves a directory without a name, which image_collect() removes, or a
 * ".tmp-…" directory, which the next workshop removes. Whoever changes anything holds images/lock. */
#include "image/image.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "base/file.h"
#include "image/blob.h"
#include "image/index.h"
#include "image/oci.h"
#include "image/reference.h"

static const char *const boot_names[] = { "kernel", "firmware", NULL };
static const char *const init_names[] = { "agent", "system", NULL };

static const struct json_field meta_fields[] = {
	{ "digest", JSON_STRING, offsetof(struct image_meta, digest), JSON_REQUIRED },
	{ "disk", JSON_STRING, offsetof(struct image_meta, disk), 0 },
	{ "chain", JSON_STRING, offsetof(struct image_meta, chain), 0 },
	{ "format", JSON_STRING, offsetof(struct image_meta, format), JSON_REQUIRED },
	{ "fstype", JSON_STRING, offsetof(struct image_meta, fstype), 0 },
	{ "boot", JSON_ENUM, offsetof(struct image_meta, boot), 0, .names = boot_names },
	{ "init", JSON_ENUM, offsetof(struct image_meta, init), 0, .names = init_names },
	{ "virtual_bytes", JSON_U64, offsetof(struct image_meta, virtual_bytes), JSON_REQUIRED },
	{ "created_ns", JSON_U64, offsetof(struct image_meta, created_ns), 0 },
	{ "source", JSON_STRING, offsetof(struct image_meta, source), 0 },
	{ "base_source", JSON_STRING, offsetof(struct image_meta, base_source), 0 },
	{ "user", JSON_STRING, offsetof(struct image_meta, user), 0 },
	{ "ssh", JSON_BOOL, offsetof(struct image_meta, ssh), 0 },
	{ "entrypoint", JSON_STRINGS, offsetof(struct image_meta, entrypoint), 0 },
	{ "command", JSON_STRINGS, offsetof(struct image_meta, command), 0 },
	{ "env", JSON_MAP, offsetof(struct image_meta, env), 0 },
	{ "workdir", JSON_STRING, offsetof(struct image_meta, workdir), 0 },
	{ "stop_signal", JSON_STRING, offsetof(struct image_meta, stop_signal), 0 },
	{ "volumes", JSON_STRINGS, offsetof(struct image_meta, volumes), 0 },
	{ "ports", JSON_STRINGS, offsetof(struct image_meta, ports), 0 },
	{ "labels", JSON_MAP, offsetof(struct image_meta, labels), 0 },
	{ "default_memory_bytes", JSON_U64, offsetof(struct image_meta, default_memory_bytes), 0 },
	{},
};

#define _cleanup_meta_  _cleanup_(image_meta_done)
#define _cleanup_index_ _cleanup_(image_index_done)

void image_meta_done(struct image_meta *m)
{
	json_fields_done(meta_fields, m);
	*m = (struct image_meta){};
}

const char *image_registry_source(const struct image_meta *m)
{
	return m->source && after_prefix(m->source, "registry ") ? m->source : m->base_source;
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
	if (!found || !is_digest(found))
		return -ENOENT;
	*ret = TAKE_PTR(found);
	return 0;
}

/* The formats that a disk may have, and the file's name. */
static const char *const disk_files[][2] = { { "raw", "disk.raw" }, { "qcow2", "disk.qcow2" } };

const char *image_disk_file(const struct image_meta *meta)
{
	for (size_t i = 0; meta->format && i < ARRAY_SIZE(disk_files); i++)
		if (streq(meta->format, disk_files[i][0]))
			return disk_files[i][1];
	return NULL;
}

char *image_second_directory(const char *digest, const char *fstype)
{
	return xasprintf("%s-%s", digest_hex(digest), fstype);
}

char *image_directory_digest(const char *name)
{
	size_t n = strcspn(name, "-");
	_cleanup_free_ char *digest = xasprintf("sha256:%.*s", (int)n, name);

	return is_digest(digest) && (!name[n] || name[n + 1]) ? TAKE_PTR(digest) : NULL;
}

int image_record_read_in(const struct store *s, const char *directory, struct image_meta *ret, struct error *err)
{
	_cleanup_free_ char *path = xasprintf("disks/%s/meta.json", directory), *what = xasprintf("images/%s", path),
			    *digest = image_directory_digest(directory);
	const char *fstype = strchr(directory, '-');
	_cleanup_meta_ struct image_meta m = {};
	_cleanup_json_ struct json *tree = NULL;
	int r;

	if (!digest)
		return error_set(err, EBADMSG, "%s: no image's directory", what);
	r = record_read(s->images_fd, path, what, meta_fields, &m, &tree, err);
	if (r < 0)
		return r;
	if (!streq(m.digest, digest) || !image_disk_file(&m) || (fstype && (!m.fstype || !streq(m.fstype, fstype + 1))))
		return error_set(err, EBADMSG, "%s: the digest or the format is not this image's", what);
	m.second = fstype != NULL;
	*ret = m;
	m = (struct image_meta){};
	return 0;
}

int image_record_read(const struct store *s, const char *digest, struct image_meta *ret, struct error *err)
{
	if (!is_digest(digest))
		return error_set(err, EBADMSG, "image '%s': no digest", digest);
	return image_record_read_in(s, digest_hex(digest), ret, err);
}

int image_record_write(int dir_fd, const struct image_meta *meta, struct error *err)
{
	return record_write(dir_fd, "meta.json", "meta.json", meta_fields, meta, NULL, RECORD_DURABLE, err);
}

int image_meta_read(const struct store *s, const char *digest, struct image_meta *ret, struct error *err)
{
	return image_record_read(s, digest, ret, err);
}

int image_meta_read_kind(const struct store *s, const char *digest, const char *fstype, struct image_meta *ret,
			 struct error *err)
{
	_cleanup_free_ char *directory = NULL;
	int r = image_record_read(s, digest, ret, err);

	if (r < 0 || !fstype || !ret->fstype || streq(ret->fstype, fstype))
		return r;
	image_meta_done(ret);
	directory = image_second_directory(digest, fstype);
	return image_record_read_in(s, directory, ret, err);
}

static int not_found(const char *name, struct error *err)
{
	int r = error_set(err, ENOENT, "no image named '%s'", name);

	if (streq(name, "tiny") || streq(name, "debian") || after_prefix(name, "debian:"))
		(void)error_hint(err, "skerry image build %s", name);
	else if (is_digest_prefix(name))
		/* Nobody can tell where it would be. */
		(void)error_hint(err, "skerry image list");
	else
		(void)error_hint(err, "skerry image list, or skerry image pull %s", name);
	return r;
}

static int by_digest(const struct store *s, const char *prefix, const char *name, char **ret, struct error *err)
{
	int r = complete_digest(s, prefix, ret, err);

	return r == -ENOENT ? not_found(name, err) : r;
}

/* The digest that a name or digest stands for; *ret_name (may be NULL) is the name in the index that it was found by, or NULL. */
static int resolve(const struct store *s, const char *given, const struct image_index *index, char **ret,
		   char **ret_name, struct error *err)
{
	_cleanup_free_ char *name = NULL;
	const struct image_ref *found;
	struct reference ref;
	int r;

	if (is_digest_prefix(given))
		return by_digest(s, given, given, ret, err);
	if (after_prefix(given, "sha256:"))
		return error_set_kind(err, ERROR_USAGE, EINVAL,
				      "image '%.80s': a digest has 12 to 64 lower-case hexadecimal digits", given);
	r = reference_parse(given, &ref, err);
	if (r < 0)
		return r;
	name = reference_name(&ref);
	found = image_index_find(index, name);
	if (!found)
		return ref.digest[0] ? by_digest(s, ref.digest, given, ret, err) : not_found(given, err);
	*ret = xstrdup(found->digest);
	if (ret_name)
		*ret_name = TAKE_PTR(name);
	return 0;
}

int image_find(const struct store *s, const char *name, struct image_meta *ret, struct error *err)
{
	_cleanup_index_ struct image_index index = {};
	_cleanup_error_ struct error e = {};
	_cleanup_free_ char *digest = NULL, *full = NULL;
	int r;

	r = image_index_load(s, &index, err);
	if (r < 0)
		return r;
	r = resolve(s, name, &index, &digest, &full, err);
	if (r < 0)
		return r;
	r = image_meta_read_kind(s, digest, full ? image_index_find(&index, full)->fstype : NULL, ret, &e);
	if (r == -ENOENT) {
		r = error_set_kind(err, ERROR_DATA, EBADMSG, "image '%s': its disk %s is missing", name, digest);
		(void)error_hint(err, "skerry image delete %s, then build it again", name);
		return r;
	}
	return r < 0 ? error_move(err, &e) : 0;
}

char *image_disk_path(const struct store *s, const struct image_meta *meta)
{
	const char *hex = digest_hex(meta->digest), *file = image_disk_file(meta);
	bool second = meta->second && meta->fstype;

	return hex && file ? xasprintf("%s/images/disks/%s%s%s/%s", s->home_path, hex, second ? "-" : "",
				       second ? meta->fstype : "", file)
			   : NULL;
}

int image_tag(const struct store *s, const char *name, const char *new_name, struct error *err)
{
	_cleanup_index_ struct image_index index = {};
	_cleanup_json_ struct json *tree = NULL;
	_cleanup_close_ int lock = -EBADF;
	_cleanup_free_ char *digest = NULL, *full = NULL, *old = NULL;
	_cleanup_(oci_manifest_done) struct oci_manifest manifest = {};
	_cleanup_buf_ struct buf text = {};
	struct reference new_ref;
	int r = reference_parse(new_name, &new_ref, err);

	if (r < 0)
		return r;
	if (new_ref.digest[0])
		return error_set_kind(err, ERROR_USAGE, EINVAL, "image '%s': a digest cannot be given as a name",
				      new_name);
	full = reference_name(&new_ref);
	lock = images_lock(s, err);
	if (lock < 0)
		return lock;
	r = image_index_read(s, &index, &tree, err);
	if (r >= 0)
		r = resolve(s, name, &index, &digest, &old, err);
	if (r >= 0)
		r = blob_read(s, digest, OCI_DOCUMENT_MAX, &text, err);
	if (r >= 0)
		r = oci_manifest_parse(text.p ? text.p : "", text.len, digest, &manifest, err);
	if (r < 0)
		return r;
	image_index_set(&index, full, digest, manifest.media_type, text.len,
			old ? image_index_find(&index, old)->fstype : NULL);
	return image_index_write(s, &index, &tree, err);
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

int image_list_disks(int disks_fd, struct strv *ret, struct error *err)
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

	r = image_list_disks(disks, &names, err);
	for (size_t i = 0; r >= 0 && i < names.n; i++) {
		_cleanup_free_ char *digest = image_directory_digest(names.items[i]), *by = NULL;

		if (!digest || image_index_uses(index, digest) || (in_use && in_use(digest, &by, data) != 0))
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

	lock = images_lock_disks(s, &disks, err);
	if (lock < 0)
		return lock;
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
	int r;

	lock = images_lock_disks(s, &disks, err);
	if (lock < 0)
		return lock;
	r = image_index_read(s, &index, &tree, err);
	if (r >= 0)
		r = resolve(s, name, &index, &digest, &full, err);
	if (r < 0)
		return r;
	if (full)
		image_index_remove(&index, image_index_find(&index, full));
	if (image_index_uses(&index, digest)) {
		if (!full)
			return error_set(err, EBUSY, "image '%s' still has a name; delete that", name);
	} else if (in_use) {
		r = in_use(digest, &by, data);
		if (r < 0)
			return error_set_errno(err, -r, "image '%s': cannot tell whether it is in use", name);
		if (r > 0)
			return error_set(err, EBUSY, "image '%s' is in use by %s", name, by ? by : "a machine");
	}
	if (full) {
		r = image_index_write(s, &index, &tree, err);
		if (r < 0)
			return r;
	}
	return collect(disks, &index, in_use, data, err);
}
