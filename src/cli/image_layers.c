#include "cli/image_layers.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/progress.h"
#include "cli/sandbox.h"
#include "disk/ext4_diff.h"
#include "image/blob.h"
#include "image/layer_tar.h"
#include "image/workshop.h"

/* What a layer may have more than its disk: headers, names, attributes. */
#define LAYER_EXTRA (UINT64_C(4) << 30)

/* ---- In the child: from a disk to a tar ---- */

static struct layer_tar *tar_of(void *data)
{
	return *(struct layer_tar **)data;
}

static int on_entry(const struct fs_entry *e, const struct fs_segment *segments, size_t n, void *data,
		    struct error *err)
{
	return layer_tar_add(tar_of(data), e, segments, n, err);
}

static int on_content(uint64_t offset, const void *p, size_t n, void *data, struct error *err)
{
	return layer_tar_write(tar_of(data), offset, p, n, err);
}

static int on_end(void *data, struct error *err)
{
	return layer_tar_end_file(tar_of(data), err);
}

static int on_link(const char *path, const char *target, void *data, struct error *err)
{
	return layer_tar_link(tar_of(data), path, target, err);
}

static int on_whiteout(const char *path, void *data, struct error *err)
{
	return layer_tar_whiteout(tar_of(data), path, err);
}

static int on_opaque(const char *path, void *data, struct error *err)
{
	return layer_tar_opaque(tar_of(data), path, err);
}

/* ext4's own. */
static bool skip_in_image(const char *path, void *data)
{
	(void)data;
	return streq(path, "lost+found");
}

/* Written at each start (src/guest/settings.c, user.c), about this machine and nobody else: as a container's /etc/hosts and its like, which are
 * mounted there, they do not get into images. The seed is systemd's, and two machines must not share one. */
static bool skip_in_machine(const char *path, void *data)
{
	static const char *const own[] = {
		"etc/hostname",    "etc/hosts",  "etc/machine-id",
		"etc/resolv.conf", "lost+found", "var/lib/systemd/random-seed",
	};
	const char *slash = strrchr(path, '/');
	size_t n = strlen(path);

	(void)data;
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		if (streq(path, own[i]))
			return true;
	if (after_prefix(path, "etc/ssh/ssh_host_"))
		return true;
	return slash && n > 20 && streq(slash, "/authorized_keys") && after_prefix(slash - 5, "/.ssh/");
}

static const struct ext4_diff_ops image_ops = { on_entry,    on_content, on_end,       on_link,
						on_whiteout, on_opaque,  skip_in_image };
static const struct ext4_diff_ops machine_ops = { on_entry,    on_content, on_end,         on_link,
						  on_whiteout, on_opaque,  skip_in_machine };

static int read_disk(int out_fd, void *data, struct error *err)
{
	const struct layer_request *req = data;
	_cleanup_(disk_reader_freep) struct disk_reader *base = NULL, *disk = NULL;
	_cleanup_(layer_tar_freep) struct layer_tar *tar = NULL;
	struct ext4_diff_request diff = { .what = req->what, .ops = req->machine ? &machine_ops : &image_ops };
	int r = 0;

	if (req->base_fd >= 0)
		r = disk_reader_raw(req->base_fd, "the image's disk", &base, err);
	if (r >= 0)
		r = req->qcow2 ? disk_reader_qcow2(req->disk_fd, req->what, base, &disk, err)
			       : disk_reader_raw(req->disk_fd, req->what, &disk, err);
	if (r >= 0)
		r = layer_tar_new(out_fd, &tar, err);
	if (r < 0)
		return r;
	diff.disk = disk;
	diff.base = req->overlay ? NULL : base;
	diff.overlay = req->overlay;
	diff.data = &tar;
	r = ext4_diff(&diff, NULL, err);
	return r < 0 ? r : layer_tar_finish(tar, err);
}

/* ---- In the parent: from a tar to a blob ---- */

struct ending {
	struct sandbox child;
	const char *what;
};

static void ending_done(struct ending *e)
{
	sandbox_done(&e->child);
}

static int was_whole(void *data, struct error *err)
{
	struct ending *e = data;

	return sandbox_finish(&e->child, e->what, err);
}

/* How much there will be of it, nobody knows before its end. */
static int store_layer(const struct store *s, const struct layer_request *req, struct ending *e, uint64_t limit,
		       struct oci_descriptor *ret, char **ret_diff_id, struct error *err)
{
	struct progress *progress = req->progress_fd < 0 ? NULL : progress_new(req->progress_fd, "packing", 0);
	int r = layer_store(s, e->child.out_fd, limit, req->compression, was_whole, e, progress, ret, ret_diff_id, err);

	progress_finish(progress, r >= 0);
	return r;
}

int image_make_layer(const struct store *s, const struct layer_request *req, struct oci_descriptor *ret,
		     char **ret_diff_id, struct error *err)
{
	_cleanup_(ending_done) struct ending e = { .child = SANDBOX_INIT, .what = req->what };
	struct layer_request copy = *req;
	int fds[2] = { req->disk_fd, req->base_fd }, r;
	struct stat disk, base = {};

	if (fstat(req->disk_fd, &disk) < 0 || (req->base_fd >= 0 && fstat(req->base_fd, &base) < 0))
		return error_set_errno(err, errno, "%s: cannot read its disk", req->what);
	r = sandbox_start(&e.child, fds, req->base_fd >= 0 ? 2 : 1, read_disk, &copy, err);
	if (r < 0)
		return r;
	return store_layer(s, req, &e, (uint64_t)disk.st_size + (uint64_t)base.st_size + LAYER_EXTRA, ret, ret_diff_id,
			   err);
}

/* A whole disk as KubeVirt has it: a directory with the disk's file in it, its user's who runs virtual machines there; then what the image has
 * beside it. */
struct disk_file {
	int fd; /* owned, but for the disk's; -EBADF = the image has none */
	uint64_t bytes;
	const char *name;
};

enum { DISK_ITSELF, DISK_HOME, DISK_NVRAM, DISK_FILES };

struct disk_layer {
	struct disk_file files[DISK_FILES];
	uint64_t time_ns;
};

static void disk_layer_done(struct disk_layer *d)
{
	for (size_t i = DISK_HOME; i < DISK_FILES; i++)
		d->files[i].fd = safe_close(d->files[i].fd);
}

enum { VM_USER = 107, COPY_PIECE = 256 << 10 };

static int write_file(struct layer_tar *tar, const struct disk_file *f, const struct fs_entry *dir, struct error *err)
{
	_cleanup_free_ uint8_t *piece = xcalloc(1, COPY_PIECE);
	struct fs_segment all = { 0, f->bytes };
	struct fs_entry file = *dir;
	int r;

	file.path = f->name;
	file.mode = S_IFREG | 0440;
	file.size = f->bytes;
	r = layer_tar_add(tar, &file, &all, 1, err);
	for (uint64_t at = 0; r >= 0 && at < f->bytes; at += COPY_PIECE) {
		size_t n = f->bytes - at < COPY_PIECE ? (size_t)(f->bytes - at) : COPY_PIECE;

		r = pread_full(f->fd, piece, n, at);
		r = r < 0 ? error_set_errno(err, r, "cannot read the image's %s", f->name)
			  : layer_tar_write(tar, at, piece, n, err);
	}
	return r < 0 ? r : layer_tar_end_file(tar, err);
}

static int write_disk(int out_fd, void *data, struct error *err)
{
	const struct disk_layer *d = data;
	_cleanup_(layer_tar_freep) struct layer_tar *tar = NULL;
	struct fs_entry dir = {
		.path = "disk", .mode = S_IFDIR | 0555, .uid = VM_USER, .gid = VM_USER, .mtime_ns = d->time_ns
	};
	int r = layer_tar_new(out_fd, &tar, err);

	if (r >= 0)
		r = layer_tar_add(tar, &dir, NULL, 0, err);
	for (size_t i = 0; r >= 0 && i < DISK_FILES; i++)
		if (d->files[i].fd >= 0)
			r = write_file(tar, &d->files[i], &dir, err);
	return r < 0 ? r : layer_tar_finish(tar, err);
}

/* What is beside the disk, in the image's own directory: an adopted disk, which is elsewhere, has nothing there. */
static int open_beside(const struct store *s, const struct image_meta *meta, const char *name, struct error *err)
{
	_cleanup_free_ char *disk = image_disk_path(s, meta);
	const char *slash = strrchr(disk, '/');
	_cleanup_free_ char *path = slash ? xasprintf("%.*s/%s", (int)(slash - disk), disk, name) : NULL;
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW) : -1;

	if (fd < 0 && path && errno != ENOENT)
		return error_set_errno(err, errno, "%s", path);
	return fd < 0 ? -ENOENT : fd;
}

static int make_disk_layer(const struct store *s, const struct layer_request *req, const struct image_meta *meta,
			   struct oci_descriptor *ret, char **ret_diff_id, struct error *err)
{
	bool qcow2 = streq(meta->format, "qcow2");
	_cleanup_(ending_done) struct ending e = { .child = SANDBOX_INIT, .what = req->what };
	_cleanup_(disk_layer_done) struct disk_layer d = {
		.files = { { .fd = req->disk_fd, .name = qcow2 ? "disk/disk.qcow2" : "disk/disk.img" },
			   { .fd = -EBADF, .name = "disk/" IMAGE_HOME },
			   { .fd = -EBADF, .name = "disk/" IMAGE_NVRAM } },
		.time_ns = meta->created_ns,
	};
	uint64_t limit = LAYER_EXTRA;
	int fds[DISK_FILES], r;
	size_t n = 0;

	for (size_t i = 0; i < DISK_FILES; i++) {
		struct disk_file *f = &d.files[i];
		struct stat st;

		if (i != DISK_ITSELF)
			f->fd = open_beside(s, meta, i == DISK_HOME ? IMAGE_HOME : IMAGE_NVRAM, err);
		if (f->fd == -ENOENT)
			continue;
		if (f->fd < 0)
			return f->fd;
		if (fstat(f->fd, &st) < 0)
			return error_set_errno(err, errno, "%s: cannot read its %s", req->what, f->name);
		f->bytes = (uint64_t)st.st_size;
		limit += f->bytes;
		fds[n++] = f->fd;
	}
	r = sandbox_start(&e.child, fds, n, write_disk, &d, err);
	return r < 0 ? r : store_layer(s, req, &e, limit, ret, ret_diff_id, err);
}

/* ---- Documents ---- */

int image_documents(const struct store *s, const char *digest, struct oci_manifest *ret_manifest,
		    struct oci_config *ret_config, struct json **ret_tree, struct error *err)
{
	_cleanup_(oci_manifest_done) struct oci_manifest m = {};
	_cleanup_buf_ struct buf text = {}, config = {};
	int r = blob_read(s, digest, OCI_DOCUMENT_MAX, &text, err);

	if (r >= 0)
		r = oci_manifest_parse(text.p ? text.p : "", text.len, "the image's manifest", &m, err);
	if (r >= 0 && (ret_config || ret_tree)) {
		_cleanup_(oci_config_done) struct oci_config c = {};

		r = blob_read(s, m.config.digest, OCI_DOCUMENT_MAX, &config, err);
		if (r >= 0)
			r = oci_config_parse(config.p ? config.p : "", config.len, "the image's configuration", &c,
					     ret_tree, err);
		if (r >= 0 && ret_config) {
			*ret_config = c;
			c = (struct oci_config){};
		}
	}
	if (r < 0)
		return r == -ENOENT ? error_set(err, ENOENT, "image %.19s: one of its blobs is missing", digest) : r;
	if (ret_manifest) {
		*ret_manifest = m;
		m = (struct oci_manifest){};
	}
	return 0;
}

static int put_json(const struct store *s, const struct json *j, struct oci_descriptor *ret, struct error *err)
{
	_cleanup_buf_ struct buf text = {};

	json_render(j, false, &text);
	ret->size = text.len;
	return blob_put(s, text.p, text.len, &ret->digest, err);
}

/* The configuration of a recipe's image, once its tree is a layer. */
static int put_config(const struct store *s, const struct image_meta *meta, struct json *config, const char *diff_id,
		      struct oci_descriptor *ret, struct error *err)
{
	struct json *rootfs = json_object(), *ids = json_array(), *history = json_array(), *step = json_object();
	char time[32];

	(void)clock_format_rfc3339(meta->created_ns, time, sizeof(time));
	json_append_string(ids, diff_id);
	json_set_string(rootfs, "type", "layers");
	json_set(rootfs, "diff_ids", ids);
	json_set(config, "rootfs", rootfs);
	json_set_string(config, "created", time);
	json_set_string(step, "created", time);
	json_setf(step, "created_by", "skerry: %s", meta->source ? meta->source : "made here");
	json_append(history, step);
	json_set(config, "history", history);
	ret->media_type = xstrdup(OCI_CONFIG_TYPE);
	return put_json(s, config, ret, err);
}

static int make_manifest(const struct store *s, const struct image_meta *meta, int disk_fd,
			 enum layer_compression compression, int progress_fd, struct json *config,
			 struct oci_descriptor *ret, struct error *err)
{
	_cleanup_free_ char *what = xasprintf("image %.19s", meta->digest), *diff_id = NULL;
	_cleanup_(oci_manifest_done) struct oci_manifest m = {};
	_cleanup_buf_ struct buf text = {};
	struct layer_request req = {
		.what = what,
		.disk_fd = disk_fd,
		.base_fd = -1,
		.compression = compression,
		.progress_fd = progress_fd,
	};
	int r;

	m.layers = xnew(struct oci_descriptor);
	m.n_layers = 1;
	r = meta->fstype ? image_make_layer(s, &req, &m.layers[0], &diff_id, err)
			 : make_disk_layer(s, &req, meta, &m.layers[0], &diff_id, err);
	if (r == 0)
		return error_set(err, EBADMSG, "%s: there is nothing in it", what);
	if (r < 0)
		return r;
	r = put_config(s, meta, config, diff_id, &m.config, err);
	if (r < 0)
		return r;
	m.media_type = xstrdup(OCI_MANIFEST_TYPE);
	oci_manifest_render(&m, &text);
	ret->media_type = xstrdup(OCI_MANIFEST_TYPE);
	ret->size = text.len;
	return blob_put(s, text.p, text.len, &ret->digest, err);
}

int image_with_layers(const struct store *s, const struct image_meta *meta, enum layer_compression compression,
		      int progress_fd, struct oci_descriptor *ret, struct error *err)
{
	_cleanup_(oci_manifest_done) struct oci_manifest m = {};
	_cleanup_(oci_descriptor_done) struct oci_descriptor d = {};
	_cleanup_json_ struct json *config = NULL;
	_cleanup_free_ char *path = image_disk_path(s, meta);
	_cleanup_close_ int fd = -EBADF;
	int r = image_documents(s, meta->digest, &m, NULL, &config, err);

	if (r < 0)
		return r;
	if (m.n_layers) {
		_cleanup_buf_ struct buf text = {};

		r = blob_read(s, meta->digest, OCI_DOCUMENT_MAX, &text, err);
		if (r >= 0)
			*ret = (struct oci_descriptor){ .media_type = xstrdup(m.media_type),
							.digest = xstrdup(meta->digest),
							.size = text.len };
		return r;
	}
	if (meta->fstype && (!streq(meta->fstype, "ext4") || !streq(meta->format, "raw")))
		return error_set_kind(err, ERROR_USAGE, EINVAL, "image %.19s: its disk is %s, not ext4", meta->digest,
				      meta->fstype);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return error_set_errno(err, errno, "%s", path);
	r = make_manifest(s, meta, fd, compression, progress_fd, config, &d, err);
	if (r < 0)
		return r;
	*ret = d;
	d = (struct oci_descriptor){};
	return 0;
}
