/* import-image, save-image, unpack-disk: images from files and into files. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/memory.h"
#include "base/parse.h"
#include "cli/image_disk.h"
#include "cli/image_disk_import.h"
#include "cli/image_layers.h"
#include "cli/image_verbs.h"
#include "image/blob.h"
#include "image/image.h"
#include "image/reference.h"
#include "image/source.h"
#include "image/unpack.h"

struct options {
	const char *name, *select, *platform, *format, *user;
	uint64_t disk_bytes;
	bool quiet;
	const char *operands[2];
	int n;
};

static int parse(int argc, char **argv, struct options *o, struct error *err)
{
	static const struct option longs[] = {
		{ "name", required_argument, NULL, 'n' },     { "select", required_argument, NULL, 's' },
		{ "platform", required_argument, NULL, 'p' }, { "format", required_argument, NULL, 'f' },
		{ "disk", required_argument, NULL, 'd' },     { "user", required_argument, NULL, 'u' },
		{ "quiet", no_argument, NULL, 'q' },          {},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'n': o->name = optarg; break;
		case 's': o->select = optarg; break;
		case 'p': o->platform = optarg; break;
		case 'f': o->format = optarg; break;
		case 'u': o->user = optarg; break;
		case 'd':
			if (parse_u64(optarg, 1, UINT64_MAX, &o->disk_bytes) < 0)
				return verb_usage(err, "--disk wants a number of bytes");
			break;
		case 'q': o->quiet = true; break;
		default: return verb_usage(err, "unknown option, or one without its value");
		}
	}
	for (; optind < argc && o->n < 2; o->n++)
		o->operands[o->n] = argv[optind++];
	return optind < argc ? verb_usage(err, "too many arguments") : 0;
}

/* "/tmp/My App_1.tar.gz" gives "my-app_1": what of it a name may hold. */
static char *name_from_path(const char *path)
{
	const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
	_cleanup_buf_ struct buf out = {};
	size_t n = strlen(base);

	for (size_t i = 1; i < n; i++)
		if (base[i] == '.' && strchr("tgxzbq", base[i + 1]))
			n = i;
	for (size_t i = 0; i < n; i++) {
		char c = base[i];

		if (c >= 'A' && c <= 'Z')
			c = (char)(c - 'A' + 'a');
		if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
			buf_addc(&out, c);
		else if (out.len && strchr("abcdefghijklmnopqrstuvwxyz0123456789", out.p[out.len - 1]))
			buf_addc(&out, c == '_' || c == '.' ? c : '-');
	}
	while (out.len && strchr("._-", out.p[out.len - 1]))
		buf_truncate(&out, out.len - 1);
	return out.len ? buf_take(&out) : NULL;
}

static int choose_name(const struct options *o, const char *operand, const char *own, char **ret, struct error *err)
{
	struct reference ref;

	if (o->name || (own && reference_parse(own, &ref, NULL) >= 0))
		*ret = xstrdup(o->name ? o->name : own);
	else
		*ret = name_from_path(operand);
	if (!*ret)
		return error_set_kind(err, ERROR_USAGE, EINVAL, "the image has no name; give one with --name");
	return reference_parse(*ret, &ref, err);
}

static void print_result(const char *name, const char *digest)
{
	_cleanup_free_ char *shown = NULL;
	struct reference ref;

	(void)reference_parse(name, &ref, NULL);
	shown = reference_name(&ref);
	printf("%s %s\n", shown, digest);
}

/* A whole disk: it boots by itself, and what is for trees of files does not apply. */
static int import_disk(const struct store *s, const struct options *o, const char *path, struct error *err)
{
	_cleanup_free_ char *name = NULL, *digest = NULL;
	struct disk_import d = { .path = path, .user = o->user };
	int r;

	if (o->select || o->platform || o->disk_bytes || o->format)
		return error_set_kind(err, ERROR_USAGE, EINVAL,
				      "'%s' is a disk image: --select, --platform, --disk and --format are not for it",
				      path);
	r = choose_name(o, path, NULL, &name, err);
	if (r < 0)
		return r;
	d.name = name;
	r = disk_import(s, &d, &digest, err);
	if (r >= 0)
		print_result(name, digest);
	return r;
}

static int import_image(const struct store *s, int argc, char **argv, struct error *err)
{
	_cleanup_(oci_descriptor_done) struct oci_descriptor manifest = {};
	_cleanup_free_ char *own = NULL, *name = NULL, *digest = NULL;
	_cleanup_strv_ struct strv fresh = {};
	_cleanup_close_ int lock = -EBADF;
	struct options o = {};
	struct source_request q = { .fresh = &fresh };
	struct unpack_request u = { .make_disk = image_disk_make, .fresh = &fresh };
	const struct source *source;
	struct reference ref;
	const char *disk;
	int r = parse(argc, argv, &o, err);

	if (r >= 0 && o.n != 1)
		r = verb_usage(err, "import-image wants one source");
	if (r >= 0)
		r = image_disk_format(o.format, &u.create_tree, err);
	if (r >= 0 && o.name)
		r = reference_parse(o.name, &ref, err);
	if (r >= 0 && disk_import_recognise(o.operands[0], &disk))
		return import_disk(s, &o, disk, err);
	if (r >= 0 && o.user)
		r = error_set_kind(err, ERROR_USAGE, EINVAL, "--user: '%s' is no disk image", o.operands[0]);
	if (r >= 0)
		r = source_find(o.operands[0], &source, &q.operand, err);
	if (r < 0)
		return r;
	lock = blob_lock(s, false, err);
	if (lock < 0)
		return lock;
	q.select = o.select;
	q.platform = o.platform;
	q.progress_fd = u.progress_fd = o.quiet ? -1 : verb_progress_fd();
	r = source->fetch(s, &q, &manifest, &own, err);
	if (r >= 0)
		r = choose_name(&o, q.operand, own, &name, err);
	if (r < 0)
		return r;
	u.manifest = &manifest;
	u.name = name;
	u.any_format = !o.format;
	u.format = o.format ? o.format : image_disk_usual(s, manifest.digest, name);
	u.disk_bytes = o.disk_bytes;
	r = image_disk_format(u.format, &u.create_tree, err);
	if (r < 0)
		return r;
	u.source = xasprintf("%s %s", source->scheme, q.operand);
	r = image_unpack(s, &u, &digest, err);
	free((void *)(uintptr_t)u.source);
	if (r >= 0)
		print_result(name, digest);
	return r;
}

static int find_manifest(const struct store *s, const char *name, int progress_fd, struct oci_descriptor *ret,
			 struct error *err)
{
	_cleanup_(image_meta_done) struct image_meta meta = {};
	int r = image_find(s, name, &meta, err);

	/* What was built here is a disk: its files become a layer first. */
	return r < 0 ? r : image_with_layers(s, &meta, LAYER_GZIP, progress_fd, ret, err);
}

static int save_image(const struct store *s, int argc, char **argv, struct error *err)
{
	_cleanup_(oci_descriptor_done) struct oci_descriptor manifest = {};
	_cleanup_free_ char *name = NULL;
	_cleanup_close_ int lock = -EBADF;
	const struct source *sink;
	const char *operand;
	struct options o = {};
	struct reference ref;
	int progress_fd, r = parse(argc, argv, &o, err);

	if (r >= 0 && o.n != 2)
		r = verb_usage(err, "save-image wants an image and where to write it");
	if (r >= 0)
		r = source_find_sink(o.operands[1], &sink, &operand, err);
	if (r < 0)
		return r;
	lock = blob_lock(s, false, err);
	if (lock < 0)
		return lock;
	progress_fd = o.quiet ? -1 : verb_progress_fd();
	r = find_manifest(s, o.operands[0], progress_fd, &manifest, err);
	if (r < 0)
		return r;
	/* By digest it has no name but that. */
	if (is_digest_prefix(o.operands[0])) {
		name = xasprintf("image:%.12s", digest_hex(manifest.digest));
	} else {
		r = reference_parse(o.operands[0], &ref, err);
		if (r < 0)
			return r;
		name = reference_name(&ref);
	}
	return sink->save(s, &manifest, name, operand, progress_fd, err);
}

/* An image's tree as another kind of file system, in the empty file that is standard output. */
static int unpack_disk(const struct store *s, int argc, char **argv, struct error *err)
{
	_cleanup_(oci_descriptor_done) struct oci_descriptor manifest = {};
	_cleanup_(image_meta_done) struct image_meta meta = {};
	struct unpack_request u = { .manifest = &manifest };
	_cleanup_close_ int lock = -EBADF;
	struct options o = {};
	int r = parse(argc, argv, &o, err);

	if (r >= 0 && o.n != 1)
		r = verb_usage(err, "unpack-disk wants an image");
	u.progress_fd = o.quiet ? -1 : verb_progress_fd();
	if (r >= 0)
		r = image_disk_format(o.format, &u.create_tree, err);
	if (r < 0)
		return r;
	lock = blob_lock(s, false, err);
	if (lock < 0)
		return lock;
	r = image_find(s, o.operands[0], &meta, err);
	if (r >= 0 && !meta.fstype)
		r = error_set_kind(err, ERROR_USAGE, EINVAL,
				   "image '%s' is a whole disk: its file systems are what they are", o.operands[0]);
	if (r >= 0)
		r = image_with_layers(s, &meta, LAYER_GZIP, u.progress_fd, &manifest, err);
	if (r < 0)
		return r;
	u.format = o.format;
	r = image_unpack_file(s, &u, STDOUT_FILENO, err);
	return r < 0 ? error_prefix(err, "image '%s'", o.operands[0]) : 0;
}

const struct verb image_import_verbs[] = {
	{ "import-image",
	  "SOURCE [--name N] [--select N] [--platform P] [--disk BYTES] [--format F] [--user U] [--quiet]", false,
	  import_image },
	{ "save-image", "IMAGE DEST [--quiet]", false, save_image },
	{ "unpack-disk", "IMAGE [--format F] [--quiet] (into the empty file that is standard output)", false,
	  unpack_disk },
	{},
};
