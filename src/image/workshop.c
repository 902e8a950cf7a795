#include "image/workshop.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "image/blob.h"
#include "image/digest.h"
#include "image/index.h"
#include "image/reference.h"

#define DISK_ANNOTATION "io.skerry.disk"

void workshop_done(struct workshop *w)
{
	if (w->name && w->disks_fd >= 0)
		(void)remove_tree_at(w->disks_fd, w->name);
	free(w->name);
	free(w->scratch_path);
	w->name = w->scratch_path = NULL;
	w->dir_fd = safe_close(w->dir_fd);
	w->disks_fd = safe_close(w->disks_fd);
}

int workshop_remove_leftovers(const struct store *s, struct error *err)
{
	_cleanup_close_ int lock = -EBADF, disks = -EBADF;
	_cleanup_strv_ struct strv names = {};
	int r;

	lock = images_lock_disks(s, &disks, err);
	if (lock < 0)
		return lock;
	r = image_list_disks(disks, &names, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < names.n; i++) {
		_cleanup_close_ int dir = -EBADF;

		if (!after_prefix(names.items[i], ".tmp-"))
			continue;
		dir = openat(disks, names.items[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		/* Whoever still works in there holds it. */
		if (dir >= 0 && flock(dir, LOCK_EX | LOCK_NB) < 0)
			continue;
		r = remove_tree_at(disks, names.items[i]);
		if (r < 0)
			return error_set_errno(err, -r, "images/disks/%s: cannot remove it", names.items[i]);
	}
	return 0;
}

int workshop_open(const struct store *s, struct workshop *w, struct error *err)
{
	_cleanup_close_ int lock = -EBADF;
	uint64_t random;
	int r;

	w->store = s;
	r = workshop_remove_leftovers(s, err);
	if (r < 0)
		return r;
	w->disks_fd = image_disks_open(s, err);
	if (w->disks_fd < 0)
		return w->disks_fd;
	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return error_set_errno(err, errno, "no random bytes");
	/* Between making the directory and locking it, nobody may take it for a leftover. */
	lock = images_lock(s, err);
	if (lock < 0)
		return lock;
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
	w->scratch_path = xasprintf("%s/images/disks/%s/scratch", s->home_path, w->name);
	return 0;
}

void workshop_fill_format(struct tree_format *f, const char *text)
{
	uint8_t md[32];

	digest_raw(text, strlen(text), md);
	memcpy(f->uuid, md, 16);
	memcpy(f->seed, md + 16, 16);
	/* A version 4 UUID by its marks (RFC 4122, 4.4). */
	f->uuid[6] = (f->uuid[6] & 0x0f) | 0x40;
	f->uuid[8] = (f->uuid[8] & 0x3f) | 0x80;
}

int workshop_digest(const struct workshop *w, const char *name, char **ret, struct error *err)
{
	static const char *const files[] = { "disk.qcow2", IMAGE_HOME, IMAGE_NVRAM };
	_cleanup_buf_ struct buf all = {};
	_cleanup_free_ char *first = NULL;
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_close_ int fd = openat(w->dir_fd, files[i], O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		_cleanup_free_ char *digest = NULL;
		int r;

		if (fd < 0 && errno == ENOENT && i > 0)
			continue;
		if (fd < 0)
			return error_set_errno(err, errno, "image '%s': cannot read its %s", name, files[i]);
		r = digest_disk(fd, name, &digest, err);
		if (r < 0)
			return r;
		buf_addf(&all, "%s %s\n", digest, files[i]);
		if (i == 0)
			first = TAKE_PTR(digest);
		n++;
	}
	*ret = n > 1 ? digest_bytes(all.p, all.len) : TAKE_PTR(first);
	return 0;
}

/* All of it or nothing: a disk without what belongs to it is another image. */
static bool link_files(const struct workshop *w, const char *directory, const char *disk)
{
	const char *const files[] = { disk, IMAGE_HOME, IMAGE_NVRAM };
	bool ok = true;

	for (size_t i = 0; ok && i < ARRAY_SIZE(files); i++) {
		_cleanup_free_ char *path = xasprintf("%s/%s", directory, files[i]);

		ok = linkat(w->disks_fd, path, w->dir_fd, files[i], 0) >= 0 || (i > 0 && errno == ENOENT);
	}
	for (size_t i = 0; !ok && i < ARRAY_SIZE(files); i++)
		(void)unlinkat(w->dir_fd, files[i], 0);
	return ok;
}

int workshop_share(struct workshop *w, const char *chain, struct image_meta *ret, struct error *err)
{
	_cleanup_close_ int lock = images_lock(w->store, err);
	_cleanup_strv_ struct strv names = {};
	int r;

	if (lock < 0)
		return lock;
	r = image_list_disks(w->disks_fd, &names, err);
	for (size_t i = 0; r >= 0 && i < names.n; i++) {
		_cleanup_free_ char *digest = image_directory_digest(names.items[i]);
		_cleanup_(image_meta_done) struct image_meta m = {};

		if (!digest || image_record_read_in(w->store, names.items[i], &m, NULL) < 0 || !m.chain ||
		    !streq(m.chain, chain))
			continue;
		/* A file system without hard links: it is made once more, then. */
		if (!link_files(w, names.items[i], image_disk_file(&m)))
			continue;
		*ret = m;
		m = (struct image_meta){};
		return 1;
	}
	return r;
}

static struct json *strings(const struct strv *v)
{
	struct json *j = json_array();

	for (size_t i = 0; i < v->n; i++)
		json_append_string(j, v->items[i]);
	return j;
}

/* The configuration of an image that has no layers, as OCI has it. */
static void render_config(const struct image_meta *m, struct buf *out)
{
	_cleanup_json_ struct json *j = json_object();
	struct json *process = json_object(), *rootfs = json_object();

	json_set_string(j, "architecture", "amd64");
	json_set_string(j, "os", "linux");
	if (m->user)
		json_set_string(process, "User", m->user);
	if (m->workdir)
		json_set_string(process, "WorkingDir", m->workdir);
	json_set(process, "Env", strings(&m->env));
	json_set(process, "Entrypoint", strings(&m->entrypoint));
	json_set(process, "Cmd", strings(&m->command));
	json_set(j, "config", process);
	json_set_string(rootfs, "type", "layers");
	json_set(rootfs, "diff_ids", json_array());
	json_set(j, "rootfs", rootfs);
	json_render(j, false, out);
}

static int make_manifest(const struct store *s, const struct image_meta *m, struct oci_descriptor *ret,
			 struct error *err)
{
	_cleanup_(oci_manifest_done) struct oci_manifest manifest = {};
	_cleanup_buf_ struct buf config = {}, text = {};
	int r;

	render_config(m, &config);
	r = blob_put(s, config.p, config.len, &manifest.config.digest, err);
	if (r < 0)
		return r;
	manifest.media_type = xstrdup(OCI_MANIFEST_TYPE);
	manifest.config.media_type = xstrdup(OCI_CONFIG_TYPE);
	manifest.config.size = config.len;
	strv_addf(&manifest.annotations, DISK_ANNOTATION "=%s", m->disk);
	oci_manifest_render(&manifest, &text);
	ret->media_type = xstrdup(OCI_MANIFEST_TYPE);
	ret->size = text.len;
	return blob_put(s, text.p, text.len, &ret->digest, err);
}

/* What is there already under this digest stays when it has the same disk, and learns the new facts; machines stand on it. */
static int join(int disks_fd, const char *directory, const struct store *s, const struct image_meta *meta,
		struct error *err)
{
	_cleanup_(image_meta_done) struct image_meta old = {};
	_cleanup_close_ int dir = openat(disks_fd, directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	int r;

	if (dir < 0)
		return error_set_errno(err, errno, "images/disks/%s", directory);
	r = image_record_read_in(s, directory, &old, err);
	if (r < 0)
		return r;
	if (!old.disk || !streq(old.disk, meta->disk)) {
		r = error_set(err, EEXIST, "image %.19s is there already, with another disk", meta->digest);
		(void)error_hint(err, "skerry image delete %.19s", meta->digest);
		return r;
	}
	return image_record_write(dir, meta, err);
}

/* Where the disk belongs: the image's first is HEX, one of another kind of file system than that has a directory of its own. */
static int choose_directory(const struct store *s, const struct image_meta *meta, char **ret, struct error *err)
{
	_cleanup_(image_meta_done) struct image_meta first = {};
	_cleanup_error_ struct error e = {};
	int r = image_record_read(s, meta->digest, &first, &e);

	if (r < 0 && r != -ENOENT)
		return error_move(err, &e);
	if (r >= 0 && first.fstype && meta->fstype && !streq(first.fstype, meta->fstype))
		*ret = image_second_directory(meta->digest, meta->fstype);
	else
		*ret = xstrdup(digest_hex(meta->digest));
	return 0;
}

static int place(struct workshop *w, const struct image_meta *meta, struct error *err)
{
	const char *file = image_disk_file(meta);
	_cleanup_free_ char *to = NULL;
	int r = choose_directory(w->store, meta, &to, err);

	if (r < 0)
		return r;

	if (fchmodat(w->dir_fd, file, 0444, 0) < 0)
		return error_set_errno(err, errno, "images/disks/%s/%s", w->name, file);
	r = remove_tree_at(w->dir_fd, "scratch");
	if (r < 0)
		return error_set_errno(err, r, "cannot remove '%s'", w->scratch_path);
	r = image_record_write(w->dir_fd, meta, err);
	if (r < 0)
		return r;
	r = fault_point("image-seal");
	if (r < 0)
		return error_set_errno(err, r, "images/disks/%s", to);
	if (renameat2(w->disks_fd, w->name, w->disks_fd, to, RENAME_NOREPLACE) < 0) {
		if (errno != EEXIST)
			return error_set_errno(err, errno, "images/disks/%s", to);
		return join(w->disks_fd, to, w->store, meta, err);
	}
	/* It has another name now. */
	free(w->name);
	w->name = NULL;
	r = fsync_dir(w->disks_fd);
	return r < 0 ? error_set_errno(err, r, "images/disks") : 0;
}

static int check_name(const char *name, char **ret, struct error *err)
{
	struct reference ref;
	int r;

	if (!name)
		return 0;
	r = reference_parse(name, &ref, err);
	if (r >= 0)
		*ret = reference_name(&ref);
	return r;
}

static int point(const struct store *s, const char *name, const struct oci_descriptor *manifest, const char *fstype,
		 struct error *err)
{
	_cleanup_(image_index_done) struct image_index index = {};
	_cleanup_json_ struct json *tree = NULL;
	int r = image_index_read(s, &index, &tree, err);

	if (r < 0)
		return r;
	image_index_set(&index, name, manifest->digest, manifest->media_type, manifest->size, fstype);
	return image_index_write(s, &index, &tree, err);
}

int image_seal(struct workshop *w, const char *name, const struct oci_descriptor *manifest, struct image_meta *meta,
	       struct error *err)
{
	_cleanup_(oci_descriptor_done) struct oci_descriptor own = {};
	_cleanup_close_ int lock = -EBADF;
	_cleanup_free_ char *full = NULL;
	int r = check_name(name, &full, err);

	if (r < 0)
		return r;
	if (!meta->format)
		meta->format = xstrdup("raw");
	if (!is_digest(meta->disk) || !image_disk_file(meta))
		return error_set(err, EINVAL, "image '%s': no digest, or an unknown format", name ? name : "");
	if (!manifest) {
		r = make_manifest(w->store, meta, &own, err);
		if (r < 0)
			return r;
		manifest = &own;
	}
	free(meta->digest);
	meta->digest = xstrdup(manifest->digest);
	if (!meta->created_ns)
		meta->created_ns = clock_realtime_ns();
	lock = images_lock(w->store, err);
	if (lock < 0)
		return lock;
	r = place(w, meta, err);
	return r < 0 || !full ? r : point(w->store, full, manifest, meta->fstype, err);
}
