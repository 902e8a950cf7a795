/* image tag, export-disk, delete, prune. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/new_file.h"
#include "base/parse.h"
#include "base/progress.h"
#include "base/spawn.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/provide.h"
#include "image/image.h"
#include "image/prune.h"
#include "image/reference.h"
#include "machine/machine.h"

#define NAMES_WAIT_NS (30 * NS_PER_SEC)

/* ---- tag ---- */

static int run_image_tag(const struct invocation *inv, struct error *err)
{
	_cleanup_store_ struct store s = {};
	int r = store_open(&s, err);

	if (r >= 0)
		r = image_tag(&s, inv->operands[0], inv->operands[1], err);
	return r < 0 ? r : output_line(err, "%s", inv->operands[1]);
}

const struct command image_tag_command = {
	.name = "tag",
	.operands = "IMAGE NEW",
	.min_operands = 2,
	.max_operands = 2,
	.complete = "image+",
	.summary = "Give an image another name as well",
	.examples = { { "skerry image tag mytools:1 registry.example/me/mytools:1", "A name to push it under" } },
	.run = run_image_tag,
};

/* ---- export-disk ---- */

enum export_format { EXPORT_QCOW2, EXPORT_RAW, EXPORT_EROFS };

struct export_options {
	int format;
	bool force;
};

static const struct option export_table[] = {
	CHOICE(0, "format", "qcow2|raw|erofs", export_options, format,
	       "What to write: the disk, or its files as a read-only file system", .words = "qcow2|raw|erofs"),
	FLAG('f', "force", export_options, force, "Take the place of a file that is there"),
};

enum { OUT_FD = 3 };

struct conversion {
	struct progress *progress; /* owned */
	uint64_t bytes;
	char word[16];
	size_t n;
};

/* qemu-img(1), -p: "    (42.17/100%)\r". */
static void on_percent(const char *p, size_t n, void *data)
{
	struct conversion *c = data;

	for (size_t i = 0; i < n; i++) {
		uint64_t percent;

		if (p[i] == '(') {
			c->n = 0;
		} else if (p[i] >= '0' && p[i] <= '9' && c->n < sizeof(c->word) - 1) {
			c->word[c->n++] = p[i];
			c->word[c->n] = '\0';
		} else {
			if (p[i] == '.' && parse_u64(c->word, 0, 100, &percent) >= 0)
				progress_update(c->progress, c->bytes / 100 * percent);
			c->n = sizeof(c->word);
		}
	}
}

static int convert(const struct image_meta *meta, const char *from, int to, const char *format, struct error *err)
{
	bool shown = isatty(STDERR_FILENO);
	const char *argv[] = { "qemu-img", "convert", shown ? "-p" : "-q", "-f", meta->format, "-O",
			       format,     from,      "/proc/self/fd/3",   NULL };
	const struct spawn_fd fds[] = { { to, OUT_FD } };
	struct conversion c = { .bytes = meta->virtual_bytes };
	struct spawn sp = SPAWN_INIT;
	int r;

	sp.argv = argv;
	sp.fds = fds;
	sp.n_fds = ARRAY_SIZE(fds);
	sp.death_signal = SIGTERM;
	if (shown) {
		c.progress = progress_new(STDERR_FILENO, "writing", c.bytes);
		sp.on_out = on_percent;
		sp.on_out_data = &c;
	}
	r = spawn_check(&sp, NULL, NULL, 4096, 0, err);
	progress_finish(c.progress, r >= 0);
	if (r == -ENOENT)
		(void)error_hint(err, "apt install qemu-utils");
	return r;
}

/* As it is when it is one already, else made of its layers. */
static int write_erofs(const struct image_meta *meta, const char *from, int to, struct error *err)
{
	_cleanup_close_ int fd = -EBADF;
	int r;

	if (!meta->fstype || !streq(meta->fstype, "erofs"))
		return provide_run(
			(const char *const[]){ "unpack-disk", "--format", "erofs", "--", meta->digest, NULL }, to, err);
	fd = open(from, O_RDONLY | O_CLOEXEC);
	r = fd < 0 ? -errno : file_copy_fd(fd, to);
	return r < 0 ? error_set_errno(err, r, "%s", from) : 0;
}

/* Nobody sees half of it. Returns >0 for a status that was told about already. */
static int export_to(const struct image_meta *meta, const char *from, const char *file, const struct export_options *o,
		     struct error *err)
{
	static const char *const formats[] = { "qcow2", "raw" };
	_cleanup_(new_file_done) struct new_file f = NEW_FILE_INIT;
	int r = new_file_open(&f, file, 0600);

	if (r < 0)
		return error_set_kind(err, ERROR_CANTCREATE, -r, "cannot create %s: %s", file, strerror(-r));
	r = o->format == EXPORT_EROFS ? write_erofs(meta, from, f.fd, err)
				      : convert(meta, from, f.fd, formats[o->format], err);
	if (r != 0)
		return r;
	r = new_file_finish(&f, o->force);
	return r < 0 ? error_set_errno(err, r, "cannot create %s", file) : 0;
}

static int run_image_export(const struct invocation *inv, struct error *err)
{
	const struct export_options *o = inv->options;
	_cleanup_(image_meta_done) struct image_meta meta = {};
	_cleanup_store_ struct store s = {};
	_cleanup_free_ char *path = NULL;
	const char *file = inv->operands[1];
	struct stat st;
	int r = store_open(&s, err);

	if (r >= 0)
		r = image_find(&s, inv->operands[0], &meta, err);
	if (r < 0)
		return r;
	if (!o->force && lstat(file, &st) == 0) {
		(void)error_set_kind(err, ERROR_EXISTS, EEXIST, "%s is there already", file);
		return error_hint(err, "--force takes its place");
	}
	path = image_disk_path(&s, &meta);
	r = export_to(&meta, path, file, o, err);
	return r != 0 ? r : output_line(err, "%s", file);
}

const struct command image_export_command = {
	.name = "export-disk",
	.operands = "IMAGE FILE",
	.min_operands = 2,
	.max_operands = 2,
	.complete = "image",
	.summary = "Write an image's disk into a file that other programs read",
	.description = "A raw file has holes where the disk is empty. The file system on it is as it was sealed; with "
		       "erofs it "
		       "is made anew from the image's layers, read-only and no larger than what is in it.",
	.examples = { { "skerry image export-disk mytools:1 mytools.qcow2", "For QEMU, libvirt or a cloud" },
		      { "skerry image export-disk mytools:1 disk.img --format raw", "As a device has it" },
		      { "skerry image export-disk mytools:1 tools.erofs --format erofs",
			"Its files, as mount(8) takes them" } },
	.options = export_table,
	.n_options = ARRAY_SIZE(export_table),
	.options_size = sizeof(struct export_options),
	.run = run_image_export,
};

/* ---- delete ---- */

/* A digest stands for its image's one name, if it has one only. Owned by the caller; NULL: as given. */
static int name_of_digest(const struct store *s, const char *given, char **ret, struct error *err)
{
	_cleanup_(image_meta_done) struct image_meta meta = {};
	struct image_index index = {};
	_cleanup_buf_ struct buf names = {};
	size_t n = 0;
	int r = is_digest_prefix(given) ? image_find(s, given, &meta, err) : 0;

	if (r < 0 || !meta.digest)
		return r;
	r = image_index_load(s, &index, err);
	for (size_t i = 0; r >= 0 && i < index.n; i++)
		if (streq(index.refs[i].digest, meta.digest)) {
			buf_addf(&names, "%s%s", n++ ? ", " : "", index.refs[i].name);
			if (n == 1)
				*ret = xstrdup(index.refs[i].name);
		}
	image_index_done(&index);
	if (n > 1) {
		free(*ret);
		*ret = NULL;
		(void)error_set(err, EBUSY, "image '%s' has several names: %s", given, names.p);
		return error_hint(err, "delete those");
	}
	return r;
}

static int delete_one(struct store *s, const char *given, struct error *err)
{
	_cleanup_free_ char *name = NULL;
	int r = name_of_digest(s, given, &name, err);

	if (r >= 0)
		r = image_delete(s, name ? name : given, machine_uses_image, s, err);
	return r < 0 ? r : output_line(err, "%s", given);
}

static int run_image_delete(const struct invocation *inv, struct error *err)
{
	_cleanup_(prune_result_done) struct prune_result freed = {};
	_cleanup_close_ int names = -EBADF;
	_cleanup_store_ struct store s = {};
	struct prune_request req = { .in_use = machine_uses_image };
	int r = store_open(&s, err), status = 0;

	if (r >= 0)
		names = r = store_names_lock(&s, NAMES_WAIT_NS, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < inv->n_operands; i++) {
		_cleanup_error_ struct error e = {};

		r = delete_one(&s, inv->operands[i], &e);
		if (r >= 0)
			continue;
		if (inv->n_operands == 1)
			return error_move(err, &e);
		output_error(&e);
		status = status ? status : error_exit_status(&e);
	}
	/* What nothing needs any more; whoever is bringing an image in keeps it for the next time. */
	req.data = &s;
	(void)image_prune(&s, &req, &freed, NULL);
	return status;
}

const struct command image_delete_command = {
	.name = "delete",
	.aliases = { "rm" },
	.operands = "IMAGE...",
	.min_operands = 1,
	.max_operands = OPERANDS_ANY,
	.complete = "image+",
	.summary = "Delete images",
	.description =
		"An image that a machine was made from stays: the machine's disk needs it. With the last name go the "
		"disk and the layers that no other image has.",
	.examples = { { "skerry image delete dev", "Remove the name, and the disk when nothing else uses it" } },
	.run = run_image_delete,
};

/* ---- prune ---- */

struct prune_options {
	bool all, yes;
	struct strv filters;
};

static const struct option prune_table[] = {
	FLAG('a', "all", prune_options, all, "Also images that have a name and no machine"),
	LIST(0, "filter", "until=TIME", prune_options, filters,
	     "Only images that are older than this, as in 24h (all unless given)"),
	FLAG('y', "yes", prune_options, yes, "Do not ask"),
};

static int parse_filters(const struct strv *filters, struct prune_request *req, struct error *err)
{
	for (size_t i = 0; i < filters->n; i++) {
		const char *age = after_prefix(filters->items[i], "until=");
		uint64_t age_ns, now = clock_realtime_ns();

		if (!age || parse_duration_ns(age, &age_ns) < 0) {
			(void)error_set_kind(err, ERROR_USAGE, EINVAL, "--filter: '%.80s' is not understood",
					     filters->items[i]);
			return error_hint(err, "until=24h: older than a day");
		}
		req->before_ns = age_ns < now ? now - age_ns : 1;
	}
	return 0;
}

int prune_check_filters(const struct strv *filters, struct error *err)
{
	struct prune_request req = {};

	return parse_filters(filters, &req, err);
}

int prune_images(struct store *s, bool all, const struct strv *filters, uint64_t *freed_bytes, struct error *err)
{
	_cleanup_(prune_result_done) struct prune_result res = {};
	_cleanup_close_ int names = -EBADF;
	struct prune_request req = { .all = all, .in_use = machine_uses_image, .data = s };
	int r = parse_filters(filters, &req, err);

	if (r >= 0)
		names = r = store_names_lock(s, NAMES_WAIT_NS, err);
	if (r >= 0)
		r = image_prune(s, &req, &res, err);
	for (size_t i = 0; r >= 0 && i < res.names.n; i++)
		r = output_line(err, "%s", res.names.items[i]);
	for (size_t i = 0; r >= 0 && i < res.digests.n; i++)
		r = output_line(err, "%s", res.digests.items[i]);
	if (r < 0)
		return r;
	if (res.n_blobs || res.n_partial || res.n_leftovers)
		output_notice("%zu blobs, %zu parts of downloads and %zu leftovers of what was interrupted are gone",
			      res.n_blobs, res.n_partial, res.n_leftovers);
	if (res.blobs_kept)
		output_notice("an image is being brought in: blobs were left alone");
	*freed_bytes += res.freed_bytes;
	return 0;
}

static int run_image_prune(const struct invocation *inv, struct error *err)
{
	const struct prune_options *o = inv->options;
	_cleanup_store_ struct store s = {};
	uint64_t freed = 0;
	char text[16];
	int r = prune_check_filters(&o->filters, err);

	if (r >= 0)
		r = store_open(&s, err);
	if (r < 0)
		return r;
	if (!o->yes && !output_confirm(o->all ? "Remove every image that no machine uses, and what is left over?"
					      : "Remove images without a name and a machine, and what is left over?"))
		return error_set_kind(err, ERROR_FAILED, ECANCELED, "nothing was removed");
	r = prune_images(&s, o->all, &o->filters, &freed, err);
	if (r >= 0)
		output_notice("%s freed", format_bytes(freed, text, sizeof(text)));
	return r;
}

const struct command image_prune_command = {
	.name = "prune",
	.operands = "",
	.summary = "Remove images and parts of images that nothing needs",
	.description = "Images without a name that no machine was made from, layers that no image has, parts of "
		       "downloads that are "
		       "older than a day (with --all, unless it is filtered, of any age), and what was left where "
		       "something was interrupted. What a machine needs, and "
		       "what a pull, "
		       "an import or a commit is bringing in, stays.",
	.examples = { { "skerry image prune", "Ask, then tidy up" },
		      { "skerry image prune --all --filter until=168h --yes", "All that came more than a week ago" } },
	.options = prune_table,
	.n_options = ARRAY_SIZE(prune_table),
	.options_size = sizeof(struct prune_options),
	.run = run_image_prune,
};
