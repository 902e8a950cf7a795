/* commit: what a machine has changed becomes one layer on those of its image; a machine that was made from a whole disk gives another one. Who runs this program keeps the machine from writing:
 *
 *   commit-disk --base DIGEST [--blank DIGEST] --disk PATH --what TEXT [--name N] [--change C]… …
 *     -> "prepared"  the machine need not stand still yet: its image has layers now
 *     <- a line      it stands still
 *     -> "read"      it may go on
 *     <- a line      it did stand still all the time
 *     -> the digest
 *
 * The end of standard input at any of these points ends the whole: nothing is sealed. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/memory.h"
#include "cli/image_disk.h"
#include "cli/image_flatten.h"
#include "cli/image_layers.h"
#include "cli/image_seal.h"
#include "cli/image_verbs.h"
#include "disk/disk_file.h"
#include "image/blob.h"
#include "image/config_change.h"
#include "image/reference.h"
#include "image/unpack.h"

struct options {
	const char *base, *blank, *disk, *what, *name, *message, *author;
	struct strv changes;
	enum layer_compression compression;
};

static void options_done(struct options *o)
{
	strv_done(&o->changes);
}

static int parse(int argc, char **argv, struct options *o, struct error *err)
{
	static const struct option longs[] = {
		{ "base", required_argument, NULL, 'b' },        { "blank", required_argument, NULL, 'l' },
		{ "disk", required_argument, NULL, 'd' },        { "what", required_argument, NULL, 'w' },
		{ "name", required_argument, NULL, 'n' },        { "message", required_argument, NULL, 'm' },
		{ "author", required_argument, NULL, 'a' },      { "change", required_argument, NULL, 'c' },
		{ "compression", required_argument, NULL, 'z' }, {},
	};
	int c, r;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'b': o->base = optarg; break;
		case 'l': o->blank = optarg; break;
		case 'd': o->disk = optarg; break;
		case 'w': o->what = optarg; break;
		case 'n': o->name = optarg; break;
		case 'm': o->message = optarg; break;
		case 'a': o->author = optarg; break;
		case 'c': strv_add(&o->changes, optarg); break;
		case 'z':
			r = layer_compression_parse(optarg, &o->compression, err);
			if (r < 0)
				return r;
			break;
		default: return verb_usage(err, "unknown option, or one without its value");
		}
	}
	if (optind < argc || !o->base || !o->disk || !o->what)
		return verb_usage(err, "commit-disk wants --base, --disk and --what");
	return 0;
}

/* Tells, and waits until we are told to go on. */
static int pass(const char *word, struct error *err)
{
	char c = 0;
	ssize_t n;

	printf("%s\n", word);
	if (fflush(stdout) != 0)
		return error_set_errno(err, errno, "cannot report");
	do
		n = read(STDIN_FILENO, &c, 1);
	while ((n < 0 && errno == EINTR) || (n == 1 && c != '\n'));
	if (n == 1)
		return 0;
	return error_set_kind(err, ERROR_FAILED, ECANCELED, "the commit was given up");
}

struct commit {
	const struct store *store;
	const struct options *options;
	struct image_meta base;
	/* A tree of files: one more layer. */
	struct oci_manifest manifest;
	struct json *config; /* owned */
	char *diff_id;       /* owned; NULL: nothing has changed */
	/* A whole disk: another one. */
	bool whole;
	struct workshop workshop;
	int flat_fd; /* owned */
};

static void commit_done(struct commit *c)
{
	image_meta_done(&c->base);
	oci_manifest_done(&c->manifest);
	json_free(c->config);
	free(c->diff_id);
	c->flat_fd = safe_close(c->flat_fd);
	workshop_done(&c->workshop);
}

/* Media types: Docker's names mean the same as OCI's, and a manifest has one kind of them. */
static void set_type(char **to, const char *from, const char *oci)
{
	if (streq(*to, from)) {
		free(*to);
		*to = xstrdup(oci);
	}
}

static int prepare_layers(struct commit *c, struct error *err)
{
	_cleanup_(oci_descriptor_done) struct oci_descriptor base = {};
	int r;

	if (!streq(c->base.fstype, c->options->blank ? "erofs" : "ext4") || !streq(c->base.format, "raw"))
		return error_set_kind(err, ERROR_USAGE, EOPNOTSUPP,
				      "%s: its image is %s, which nothing is committed on", c->options->what,
				      c->base.fstype);
	r = image_with_layers(c->store, &c->base, c->options->compression, verb_progress_fd(), &base, err);
	if (r >= 0)
		r = image_documents(c->store, base.digest, &c->manifest, NULL, &c->config, err);
	/* All that a user may have got wrong, before the machine is made to stand still. */
	for (size_t i = 0; r >= 0 && i < c->options->changes.n; i++)
		r = config_change(c->config, c->options->changes.items[i], err);
	if (r < 0)
		return r;
	set_type(&c->manifest.media_type, DOCKER_MANIFEST_TYPE, OCI_MANIFEST_TYPE);
	set_type(&c->manifest.config.media_type, DOCKER_CONFIG_TYPE, OCI_CONFIG_TYPE);
	for (size_t i = 0; i < c->manifest.n_layers; i++)
		set_type(&c->manifest.layers[i].media_type, DOCKER_LAYER_TYPE, OCI_LAYER_GZIP_TYPE);
	/* Facts about the image that was there before. */
	strv_done(&c->manifest.annotations);
	c->manifest.annotations = (struct strv){};
	return 0;
}

static int prepare(struct commit *c, struct error *err)
{
	int r = image_meta_read_kind(c->store, c->options->base, c->options->blank ? "erofs" : "ext4", &c->base, err);

	if (r < 0)
		return r == -ENOENT ? error_set(err, ENOENT, "the image of %s is missing", c->options->what) : r;
	c->whole = !c->base.fstype;
	if (!c->whole)
		return prepare_layers(c, err);
	if (c->options->changes.n)
		return error_set_kind(err, ERROR_USAGE, EOPNOTSUPP,
				      "%s: its image is a whole disk, which has no configuration to change",
				      c->options->what);
	return workshop_open(c->store, &c->workshop, err);
}

/* The firmware's variables are the machine's, as the disk is. */
static int copy_nvram(struct commit *c, struct error *err)
{
	const char *slash = strrchr(c->options->disk, '/');
	_cleanup_free_ char *path =
		slash ? xasprintf("%.*s/" IMAGE_NVRAM, (int)(slash - c->options->disk), c->options->disk) : NULL;
	_cleanup_close_ int from = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW) : -1, to = -EBADF;
	int r;

	if (from < 0)
		return 0;
	to = openat(c->workshop.dir_fd, IMAGE_NVRAM, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0444);
	r = to < 0 ? -errno : file_copy_fd(from, to);
	if (r >= 0 && fsync(to) < 0)
		r = -errno;
	return r < 0 ? error_set_errno(err, r, "'%s': cannot copy it", path) : 0;
}

static int read_whole(struct commit *c, int disk_fd, int base_fd, struct error *err)
{
	struct flatten_request req = {
		.what = c->options->what,
		.disk_fd = disk_fd,
		.base_fd = base_fd,
		.base_qcow2 = streq(c->base.format, "qcow2"),
	};

	c->flat_fd = image_flatten(&c->workshop, &req, err);
	return c->flat_fd < 0 ? c->flat_fd : copy_nvram(c, err);
}

/* What the machine's disk is a delta over. Owned by the caller. */
static int base_disk(struct commit *c, char **ret, struct error *err)
{
	_cleanup_(image_meta_done) struct image_meta blank = {};
	int r = 0;

	if (c->options->blank)
		r = image_meta_read(c->store, c->options->blank, &blank, err);
	if (r < 0)
		return r == -ENOENT ? error_set(err, ENOENT, "the blank disk of %s is missing", c->options->what) : r;
	*ret = image_disk_path(c->store, c->options->blank ? &blank : &c->base);
	return 0;
}

/* The delta, as one more layer or as another disk. */
static int read_delta(struct commit *c, struct error *err)
{
	_cleanup_free_ char *base_path = NULL;
	_cleanup_close_ int fd = open(c->options->disk, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW), base_fd = -EBADF;
	struct oci_descriptor layer = {};
	struct layer_request req = {
		.what = c->options->what,
		.qcow2 = true,
		.overlay = c->options->blank != NULL,
		.machine = true,
		.compression = c->options->compression,
		.progress_fd = verb_progress_fd(),
	};
	int r = base_disk(c, &base_path, err);

	if (r < 0)
		return r;

	if (fd < 0)
		return error_set_errno(err, errno, "%s: cannot open its disk", c->options->what);
	base_fd = open(base_path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW);
	if (base_fd < 0)
		return error_set_errno(err, errno, "%s", base_path);
	if (c->whole)
		return read_whole(c, fd, base_fd, err);
	req.disk_fd = fd;
	req.base_fd = base_fd;
	r = image_make_layer(c->store, &req, &layer, &c->diff_id, err);
	if (r <= 0)
		return r;
	c->manifest.layers = xrealloc_array(c->manifest.layers, c->manifest.n_layers + 1, sizeof(layer));
	c->manifest.layers[c->manifest.n_layers++] = layer;
	if (c->manifest.n_layers > OCI_LAYERS_MAX)
		return error_set_kind(err, ERROR_DATA, E2BIG, "the image would have more than %d layers",
				      OCI_LAYERS_MAX);
	return 1;
}

static struct json *array_in(struct json *object, const char *key)
{
	struct json *j = json_get(object, key);

	if (!j || !json_is_array(j)) {
		j = json_array();
		json_set(object, key, j);
	}
	return j;
}

static void add_history(struct commit *c)
{
	const char *diff_id = c->diff_id;
	struct json *step = json_object(), *rootfs = json_get(c->config, "rootfs");
	uint64_t now = clock_realtime_ns();
	char time[32];

	(void)clock_format_rfc3339(now, time, sizeof(time));
	json_set_string(c->config, "created", time);
	if (c->options->author)
		json_set_string(c->config, "author", c->options->author);
	json_set_string(step, "created", time);
	json_setf(step, "created_by", "skerry commit %s", c->options->what);
	if (c->options->author)
		json_set_string(step, "author", c->options->author);
	if (c->options->message)
		json_set_string(step, "comment", c->options->message);
	if (!diff_id)
		json_set_bool(step, "empty_layer", true);
	json_append(array_in(c->config, "history"), step);
	/* The image's own layers are in there: image_unpack() would have refused it otherwise. */
	if (diff_id && json_is_object(rootfs))
		json_append_string(array_in(rootfs, "diff_ids"), diff_id);
}

static int seal_whole(struct commit *c, char **ret_digest, struct error *err)
{
	_cleanup_free_ char *source = xasprintf("commit of %s", c->options->what);
	struct sealed_disk d = { .source = source, .user = c->base.user };
	int r = disk_file_convert(c->flat_fd, DISK_FILE_RAW, c->options->what, c->workshop.dir_fd, "disk.qcow2",
				  c->workshop.scratch_path, &d.bytes, err);

	return r < 0 ? r : image_seal_disk(&c->workshop, c->options->name, &d, ret_digest, err);
}

static int seal_layers(struct commit *c, char **ret_digest, struct error *err)
{
	_cleanup_(oci_descriptor_done) struct oci_descriptor d = {};
	_cleanup_free_ char *source = xasprintf("commit of %s", c->options->what);
	_cleanup_buf_ struct buf config = {}, manifest = {};
	struct unpack_request req = {
		.manifest = &d,
		.name = c->options->name,
		.source = source,
		.base_source = image_registry_source(&c->base),
		.format = c->base.fstype,
		.make_disk = image_disk_make,
		.progress_fd = verb_progress_fd(),
	};
	int r = image_disk_format(req.format, &req.create_tree, err);

	if (r < 0)
		return r;
	r = fault_point("commit-config");
	if (r < 0)
		return error_set_errno(err, r, "cannot write the configuration");
	add_history(c);
	json_render(c->config, false, &config);
	free(c->manifest.config.digest);
	c->manifest.config.digest = NULL;
	c->manifest.config.size = config.len;
	r = blob_put(c->store, config.p, config.len, &c->manifest.config.digest, err);
	if (r < 0)
		return r;
	oci_manifest_render(&c->manifest, &manifest);
	d.media_type = xstrdup(OCI_MANIFEST_TYPE);
	d.size = manifest.len;
	r = blob_put(c->store, manifest.p, manifest.len, &d.digest, err);
	if (r >= 0) {
		r = fault_point("commit-seal");
		if (r < 0)
			return error_set_errno(err, r, "cannot seal the image");
	}
	return r < 0 ? r : image_unpack(c->store, &req, ret_digest, err);
}

static int commit_disk(const struct store *s, int argc, char **argv, struct error *err)
{
	_cleanup_(options_done) struct options o = { .compression = LAYER_GZIP };
	_cleanup_(commit_done) struct commit c = {
		.store = s, .options = &o, .workshop = WORKSHOP_INIT, .flat_fd = -EBADF
	};
	_cleanup_close_ int lock = -EBADF;
	_cleanup_free_ char *digest = NULL;
	struct reference ref;
	int r = parse(argc, argv, &o, err);

	/* Before the disk is read. */
	if (r >= 0 && o.name)
		r = reference_parse(o.name, &ref, err);
	if (r < 0)
		return r;
	lock = blob_lock(s, false, err);
	if (lock < 0)
		return lock;
	r = prepare(&c, err);
	if (r >= 0)
		r = pass("prepared", err);
	if (r >= 0)
		r = read_delta(&c, err);
	if (r >= 0)
		r = pass("read", err);
	if (r < 0)
		return r;
	r = c.whole ? seal_whole(&c, &digest, err) : seal_layers(&c, &digest, err);
	if (r >= 0)
		printf("%s\n", digest);
	return r;
}

const struct verb image_commit_verbs[] = {
	{ "commit-disk",
	  "--base DIGEST [--blank DIGEST] --disk PATH --what TEXT [--name NAME[:TAG]] [--message M] [--author A] "
	  "[--change C]… "
	  "[--compression gzip|zstd|none]",
	  false, commit_disk },
	{},
};
