/* How a disk is made of layers: they are applied one after the other, each in one pass over its blob, to an empty file system; what lower
 * layers brought and upper ones take away gives its blocks back. A layer that has not come yet is waited for; nothing is sealed before all have,
 * each with its digest proved, and what was made until then goes if one does not. The disk depends on nothing but the layers' content, the kind of file
 * system and its size, so images that agree in these (their "chain") share one disk. */
#include "image/unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/flusher.h"
#include "base/memory.h"
#include "base/progress.h"
#include "image/apply.h"
#include "image/blob.h"
#include "image/container_disk.h"
#include "image/digest.h"
#include "image/layer.h"
#include "image/rootfs.h"
#include "image/tar.h"
#include "image/workshop.h"

/* Part of the chain: another number when the same layers would give another disk. */
enum { VERSION = 1 };
/* Names that all layers of an image may have together, counted each time. */
#define ENTRIES_MAX UINT64_C(4000000)
#define DISK_MIN    (UINT64_C(64) << 20)
#define DISK_MAX    (UINT64_C(16) << 40)
/* QEMU maps no more than 8 MiB of firmware, its variables included. */
#define NVRAM_MAX (UINT64_C(8) << 20)
/* The disk is mostly holes: its size costs nothing but what its user may come to fill. */
#define DISK_USUAL (UINT64_C(16) << 30)
#define DISK_UNIT  (UINT64_C(1) << 30)
/* What layers usually shrink to, seen pessimistically, and how much room their owner wants beside them. */
enum { PACKED_RATIO = 8, ROOM = 2, MORE_ROOM = 4 };
/* Times that entries do not give; any will do that is the same tomorrow. */
#define TIME_S UINT64_C(1577836800) /* 2020-01-01 */

struct unpack {
	const struct store *store;
	const struct unpack_request *request;
	struct oci_manifest manifest;
	struct oci_config config;
	struct image_meta meta;
	struct progress *progress; /* owned */
	uint64_t done_bytes;
};

static void unpack_done(struct unpack *u)
{
	oci_manifest_done(&u->manifest);
	oci_config_done(&u->config);
	image_meta_done(&u->meta);
	progress_finish(u->progress, false);
}

/* Until the blob is there, whoever brings it. *ret_fresh: it need not be digested again. */
static int await_blob(const struct unpack *u, const char *digest, bool *ret_fresh, struct error *err)
{
	const struct unpack_request *q = u->request;

	*ret_fresh = q->fresh && strv_has(q->fresh, digest);
	return q->arrivals ? arrivals_wait(q->arrivals, digest, ret_fresh, err) : 0;
}

/* Layers that were not needed, for the disk was there, belong to the image no less. */
static int await_all(const struct unpack *u, struct error *err)
{
	bool fresh;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < u->manifest.n_layers; i++)
		r = await_blob(u, u->manifest.layers[i].digest, &fresh, err);
	return r;
}

static int read_document(const struct unpack *u, const char *digest, const char *what, struct buf *out,
			 struct error *err)
{
	_cleanup_error_ struct error e = {};
	int r = blob_read(u->store, digest, OCI_DOCUMENT_MAX, out, &e);

	if (r == -ENOENT)
		return error_set(err, EBADMSG, "the %s is not there", what);
	return r < 0 ? error_move(err, &e) : 0;
}

static int read_documents(struct unpack *u, struct error *err)
{
	_cleanup_buf_ struct buf manifest = {}, config = {};
	bool fresh;
	int r;

	r = read_document(u, u->request->manifest->digest, "manifest", &manifest, err);
	if (r >= 0)
		r = oci_manifest_parse(manifest.p, manifest.len, "manifest", &u->manifest, err);
	if (r >= 0)
		r = await_blob(u, u->manifest.config.digest, &fresh, err);
	if (r >= 0)
		r = read_document(u, u->manifest.config.digest, "configuration", &config, err);
	if (r >= 0)
		r = oci_config_parse(config.p, config.len, "configuration", &u->config, NULL, err);
	if (r < 0)
		return r;
	if (u->manifest.n_layers == 0)
		return error_set(err, EBADMSG, "the image has no layers");
	if (u->manifest.n_layers != u->config.diff_ids.n)
		return error_set(err, EBADMSG, "the manifest has %zu layers, the configuration %zu",
				 u->manifest.n_layers, u->config.diff_ids.n);
	return 0;
}

static char *chain_text(const struct unpack *u)
{
	struct buf out = {};

	buf_addf(&out, "skerry disk of layers %d\n%s\n%" PRIu64 "\n", VERSION, u->meta.fstype, u->request->disk_bytes);
	for (size_t i = 0; i < u->config.diff_ids.n; i++)
		buf_addf(&out, "%s\n", u->config.diff_ids.items[i]);
	return buf_take(&out);
}

/* Sizes are the manifest's own words: they may be anything. */
static uint64_t packed_bytes(const struct unpack *u)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < u->manifest.n_layers && bytes < DISK_MAX; i++)
		bytes += u->manifest.layers[i].size < DISK_MAX ? u->manifest.layers[i].size : DISK_MAX;
	return bytes < DISK_MAX ? bytes : DISK_MAX;
}

static uint64_t choose_size(const struct unpack *u)
{
	uint64_t bytes = packed_bytes(u) * PACKED_RATIO * ROOM;

	bytes = bytes > DISK_USUAL ? (bytes + DISK_UNIT - 1) / DISK_UNIT * DISK_UNIT : DISK_USUAL;
	return bytes < DISK_MAX ? bytes : DISK_MAX;
}

/* While blobs are coming the terminal is theirs. */
static void begin_progress(struct unpack *u)
{
	const struct unpack_request *q = u->request;

	if (!u->progress && q->progress_fd >= 0 && (!q->arrivals || arrivals_have_ended(q->arrivals)))
		u->progress = progress_new(q->progress_fd, "unpacking", packed_bytes(u));
}

struct source_layer {
	struct layer *layer; /* owned */
	struct unpack *unpack;
};

static void source_layer_done(struct source_layer *s)
{
	layer_free(s->layer);
}

static int read_layer(void *data, const void **ret, size_t *ret_n, struct error *err)
{
	struct source_layer *s = data;
	int r = layer_read(s->layer, ret, ret_n, err);

	begin_progress(s->unpack);
	if (s->unpack->progress)
		progress_update(s->unpack->progress, s->unpack->done_bytes + layer_progress(s->layer));
	return r;
}

static int open_layer(struct unpack *u, size_t i, struct source_layer *source, struct tar **ret, struct error *err)
{
	const struct oci_descriptor *d = &u->manifest.layers[i];
	bool fresh;
	int r = await_blob(u, d->digest, &fresh, err);

	if (r >= 0)
		r = layer_open(u->store, d, u->config.diff_ids.items[i], fresh, &source->layer, err);
	if (r >= 0)
		*ret = tar_new(read_layer, source);
	return r;
}

static int layer_error(const struct unpack *u, size_t i, struct error *err)
{
	return error_prefix(err, "layer %zu of %zu, %.19s", i + 1, u->manifest.n_layers, u->manifest.layers[i].digest);
}

static int apply_layer(struct unpack *u, size_t i, struct tree *tree, struct apply_limits *limits, struct error *err)
{
	_cleanup_(source_layer_done) struct source_layer source = { .unpack = u };
	_cleanup_(tar_freep) struct tar *tar = NULL;
	int r = open_layer(u, i, &source, &tar, err);

	if (r >= 0)
		r = tree->ops->next_layer(tree, err);
	if (r >= 0)
		r = layer_apply(tar, tree, limits, err);
	if (r >= 0)
		r = layer_finish(source.layer, err);
	if (r < 0)
		return layer_error(u, i, err);
	u->done_bytes += u->manifest.layers[i].size;
	return 0;
}

static int fill_disk(struct unpack *u, int fd, uint64_t bytes, struct error *err)
{
	_cleanup_(tree_freep) struct tree *tree = NULL;
	struct tree_format f = { .bytes = bytes, .label = "skerry", .time_s = TIME_S, .journal = true };
	struct apply_limits limits = { .entries_left = ENTRIES_MAX };
	int r;

	workshop_fill_format(&f, u->meta.chain);
	r = u->request->create_tree(fd, &f, &tree, err);
	for (size_t i = 0; r >= 0 && i < u->manifest.n_layers; i++)
		r = apply_layer(u, i, tree, &limits, err);
	if (r < 0)
		return r;
	rootfs_inspect(tree, &u->meta);
	return tree->ops->finish(tree, err);
}

static void set_text(char **to, const char *from)
{
	free(*to);
	*to = from && *from ? xstrdup(from) : NULL;
}

/* What the one layer holds, in files without a name. */
struct given {
	struct container_file files[CONTAINER_DISK_FILES];
};

static void given_done(struct given *g)
{
	for (size_t i = 0; i < ARRAY_SIZE(g->files); i++)
		g->files[i].fd = safe_close(g->files[i].fd);
}

static int given_open(const struct workshop *w, struct given *g, struct error *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(g->files); i++) {
		int fd = openat(w->dir_fd, "given", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

		g->files[i].fd = fd;
		if (fd < 0 || unlinkat(w->dir_fd, "given", 0) < 0)
			return error_set_errno(err, errno, "cannot create a file for the disk");
	}
	return 0;
}

static int sync_file(const struct workshop *w, const char *name, struct error *err)
{
	_cleanup_close_ int fd = openat(w->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 || fsync(fd) < 0 ? error_set_errno(err, errno, "images/disks/%s/%s", w->name, name) : 0;
}

/* The second disk goes the same way as the first: what says that it is a disk is looked at before it is one of ours. */
static int keep_home(struct unpack *u, const struct workshop *w, int fd, struct error *err)
{
	uint64_t bytes;
	int r = u->request->make_disk(fd, w->dir_fd, IMAGE_HOME, w->scratch_path, &bytes, err);

	if (r < 0)
		return error_prefix(err, IMAGE_HOME);
	if (fchmodat(w->dir_fd, IMAGE_HOME, 0444, 0) < 0)
		return error_set_errno(err, errno, "images/disks/%s/" IMAGE_HOME, w->name);
	return sync_file(w, IMAGE_HOME, err);
}

static int keep_nvram(const struct workshop *w, int fd, struct error *err)
{
	_cleanup_close_ int to =
		openat(w->dir_fd, IMAGE_NVRAM, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0444);
	int r = to < 0 ? -errno : fault_point("image-nvram");

	if (r >= 0 && lseek(fd, 0, SEEK_SET) < 0)
		r = -errno;
	if (r >= 0)
		r = file_copy_fd(fd, to);
	if (r >= 0 && fsync(to) < 0)
		r = -errno;
	return r < 0 ? error_set_errno(err, r, "images/disks/%s/" IMAGE_NVRAM, w->name) : 0;
}

static int keep_given(struct unpack *u, const struct workshop *w, const struct given *g, struct error *err)
{
	int r = u->request->make_disk(g->files[CONTAINER_DISK].fd, w->dir_fd, "disk.qcow2", w->scratch_path,
				      &u->meta.virtual_bytes, err);

	if (r >= 0)
		r = sync_file(w, "disk.qcow2", err);
	if (r >= 0 && g->files[CONTAINER_HOME].found)
		r = keep_home(u, w, g->files[CONTAINER_HOME].fd, err);
	if (r >= 0 && g->files[CONTAINER_NVRAM].found)
		r = keep_nvram(w, g->files[CONTAINER_NVRAM].fd, err);
	return r;
}

/* An image whose one layer is a whole disk. Returns 1 when it was, 0 when it is a tree. */
static int take_whole_disk(struct unpack *u, struct workshop *w, struct error *err)
{
	_cleanup_(given_done) struct given given = { {
		{ .fd = -EBADF, .max_bytes = DISK_MAX },
		{ .fd = -EBADF, .max_bytes = DISK_MAX },
		{ .fd = -EBADF, .max_bytes = NVRAM_MAX },
	} };
	_cleanup_(source_layer_done) struct source_layer source = { .unpack = u };
	_cleanup_(tar_freep) struct tar *tar = NULL;
	int r;

	if (u->manifest.n_layers != 1 || !u->request->make_disk)
		return 0;
	r = given_open(w, &given, err);
	if (r < 0)
		return r;
	r = open_layer(u, 0, &source, &tar, err);
	if (r >= 0)
		r = container_disk_extract(tar, given.files, err);
	if (r > 0) {
		r = layer_finish(source.layer, err);
		r = r < 0 ? r : 1;
	}
	if (r <= 0)
		return r < 0 ? layer_error(u, 0, err) : 0;
	if (u->request->disk_bytes || (u->request->format && !u->request->any_format))
		return error_set_kind(err, ERROR_USAGE, EINVAL,
				      "it holds a whole disk, whose size and format are its own");
	r = keep_given(u, w, &given, err);
	if (r < 0)
		return layer_error(u, 0, err);
	set_text(&u->meta.format, "qcow2");
	set_text(&u->meta.fstype, NULL);
	u->meta.boot = IMAGE_BOOT_FIRMWARE;
	u->meta.init = IMAGE_INIT_SYSTEM;
	r = workshop_digest(w, u->request->name ? u->request->name : w->name, &u->meta.disk, err);
	return r < 0 ? r : 1;
}

/* A full disk whose size we chose is tried once more with a larger one; one that was asked for is an error. */
static int fill_file(struct unpack *u, int fd, struct error *err)
{
	uint64_t bytes = u->request->disk_bytes ? u->request->disk_bytes : choose_size(u);
	int r;

	for (;;) {
		_cleanup_error_ struct error e = {};

		r = fill_disk(u, fd, bytes, &e);
		if (r != -EXFULL || u->request->disk_bytes || bytes >= DISK_MAX / MORE_ROOM) {
			if (r < 0)
				return error_move(err, &e);
			break;
		}
		bytes *= MORE_ROOM;
		u->done_bytes = 0;
		if (ftruncate(fd, 0) < 0)
			return error_set_errno(err, errno, "cannot empty the disk");
	}
	u->meta.virtual_bytes = bytes;
	return 0;
}

/* Digested while it goes to the disk. @ret_digest NULL: only synced. */
static int sync_disk(int fd, char **ret_digest, struct error *err)
{
	_cleanup_(flusher_freep) struct flusher *flusher = flusher_new(fd);
	int digested = 0, r = fault_point("image-disk");

	if (r >= 0) {
		flusher_sync_begin(flusher);
		if (ret_digest)
			digested = digest_disk(fd, "disk.raw", ret_digest, err);
		r = flusher_sync_end(flusher);
	}
	if (digested < 0)
		return digested;
	return r < 0 ? error_set_errno(err, -r, "cannot write the disk") : 0;
}

static int make_disk(struct unpack *u, struct workshop *w, struct error *err)
{
	_cleanup_close_ int fd = openat(w->dir_fd, "disk.raw", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int r = fd < 0 ? error_set_errno(err, errno, "cannot create the disk") : fill_file(u, fd, err);

	return r < 0 ? r : sync_disk(fd, &u->meta.disk, err);
}

/* What names no variable ("", "=x", "FOO") is in some images, and sets none there either. */
static void copy_env(struct strv *to, const struct strv *from)
{
	for (size_t i = 0; i < from->n; i++)
		if (from->items[i][0] != '=' && strchr(from->items[i], '='))
			strv_add(to, from->items[i]);
}

/* What the configuration says of running it. */
static void describe(struct unpack *u)
{
	const struct oci_config *c = &u->config;
	struct image_meta *m = &u->meta;

	set_text(&m->source, u->request->source);
	set_text(&m->base_source, u->request->base_source);
	set_text(&m->user, c->user);
	set_text(&m->workdir, c->workdir);
	set_text(&m->stop_signal, c->stop_signal);
	copy_env(&m->env, &c->env);
	strv_copy(&m->entrypoint, &c->entrypoint);
	strv_copy(&m->command, &c->command);
	strv_copy(&m->volumes, &c->volumes);
	strv_copy(&m->ports, &c->exposed_ports);
	strv_copy(&m->labels, &c->labels);
}

/* The disk of another image with the same chain, with what was found out about it. */
static int share(struct unpack *u, struct workshop *w, struct error *err)
{
	_cleanup_(image_meta_done) struct image_meta other = {};
	int r = workshop_share(w, u->meta.chain, &other, err);

	if (r <= 0)
		return r;
	set_text(&u->meta.format, other.format);
	set_text(&u->meta.fstype, other.fstype);
	set_text(&u->meta.disk, other.disk);
	u->meta.boot = other.boot;
	u->meta.init = other.init;
	u->meta.ssh = other.ssh;
	u->meta.virtual_bytes = other.virtual_bytes;
	return 1;
}

static int begin(struct unpack *u, struct error *err)
{
	_cleanup_free_ char *chain = NULL;
	int r = read_documents(u, err);

	if (r < 0)
		return r;
	u->meta.format = xstrdup("raw");
	u->meta.fstype = xstrdup(u->request->format ? u->request->format : "ext4");
	u->meta.boot = IMAGE_BOOT_KERNEL;
	chain = chain_text(u);
	u->meta.chain = digest_bytes(chain, strlen(chain));
	return 0;
}

static int unpack(struct unpack *u, struct error *err)
{
	_cleanup_workshop_ struct workshop w = WORKSHOP_INIT;
	int r = begin(u, err);

	if (r < 0)
		return r;
	describe(u);
	r = workshop_open(u->store, &w, err);
	if (r >= 0)
		r = share(u, &w, err);
	if (r == 0) {
		begin_progress(u);
		r = take_whole_disk(u, &w, err);
		if (r == 0)
			r = make_disk(u, &w, err);
		u->progress = progress_finish(u->progress, r >= 0);
	}
	if (r >= 0)
		r = await_all(u, err);
	return r < 0 ? r : image_seal(&w, u->request->name, u->request->manifest, &u->meta, err);
}

int image_unpack(const struct store *s, const struct unpack_request *r, char **ret_digest, struct error *err)
{
	_cleanup_(unpack_done) struct unpack u = { .store = s, .request = r };
	int k;

	if (r->disk_bytes && (r->disk_bytes < DISK_MIN || r->disk_bytes > DISK_MAX))
		return error_set_kind(err, ERROR_USAGE, ERANGE, "a disk has 64 MiB to 16 TiB, not %" PRIu64 " bytes",
				      r->disk_bytes);
	k = unpack(&u, err);
	if (k < 0)
		return r->name ? error_prefix(err, "image '%s'", r->name) : k;
	if (ret_digest)
		*ret_digest = xstrdup(u.meta.digest);
	return 0;
}

int image_unpack_file(const struct store *s, const struct unpack_request *r, int fd, struct error *err)
{
	_cleanup_(unpack_done) struct unpack u = { .store = s, .request = r };
	int k = begin(&u, err);

	if (k < 0)
		return k;
	begin_progress(&u);
	k = fill_file(&u, fd, err);
	if (k >= 0)
		k = sync_disk(fd, NULL, err);
	u.progress = progress_finish(u.progress, k >= 0);
	return k;
}
