/* image inspect, image history. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/parse.h"
#include "cli/commands.h"
#include "cli/filter.h"
#include "cli/output.h"
#include "image/blob.h"
#include "image/image.h"
#include "image/oci.h"
#include "machine/machine.h"

/* An image with its documents, as far as they are there. */
struct view {
	struct image_meta meta;
	struct oci_manifest manifest;
	struct oci_config config;
	struct json *tree; /* owned: the whole configuration */
};

static void view_done(struct view *v)
{
	image_meta_done(&v->meta);
	oci_manifest_done(&v->manifest);
	oci_config_done(&v->config);
	json_free(v->tree);
}

static int load_view(const struct store *s, const char *name, struct view *v, struct error *err)
{
	_cleanup_buf_ struct buf manifest = {}, config = {};
	int r = image_find(s, name, &v->meta, err);

	if (r >= 0)
		r = blob_read(s, v->meta.digest, OCI_DOCUMENT_MAX, &manifest, err);
	if (r >= 0)
		r = oci_manifest_parse(manifest.p ? manifest.p : "", manifest.len, "the image's manifest", &v->manifest,
				       err);
	if (r >= 0)
		r = blob_read(s, v->manifest.config.digest, OCI_DOCUMENT_MAX, &config, err);
	if (r >= 0)
		r = oci_config_parse(config.p ? config.p : "", config.len, "the image's configuration", &v->config,
				     &v->tree, err);
	return r;
}

/* ---- inspect ---- */

static struct json *strings(const struct strv *v)
{
	struct json *j = json_array();

	for (size_t i = 0; i < v->n; i++)
		json_append_string(j, v->items[i]);
	return j;
}

static struct json *layers_json(const struct view *v)
{
	struct json *list = json_array();

	for (size_t i = 0; i < v->manifest.n_layers; i++) {
		const struct oci_descriptor *d = &v->manifest.layers[i];
		struct json *j = json_object();

		json_set_string(j, "digest", d->digest);
		json_set_string(j, "diff_id", i < v->config.diff_ids.n ? v->config.diff_ids.items[i] : NULL);
		json_set_string(j, "media_type", d->media_type);
		json_set_u64(j, "size_bytes", d->size);
		json_append(list, j);
	}
	return list;
}

static struct json *names_json(const struct store *s, const char *digest)
{
	struct image_index index = {};
	struct json *list = json_array();

	if (image_index_load(s, &index, NULL) >= 0)
		for (size_t i = 0; i < index.n; i++)
			if (streq(index.refs[i].digest, digest))
				json_append_string(list, index.refs[i].name);
	image_index_done(&index);
	return list;
}

static struct json *users_json(const struct store *s, const char *digest)
{
	_cleanup_strv_ struct strv names = {};
	struct json *list = json_array();

	(void)store_machine_names(s, &names, NULL);
	for (size_t i = 0; i < names.n; i++) {
		struct machine_info info = {};
		struct name name;

		if (name_parse(names.items[i], "machine name", &name, NULL) >= 0 &&
		    machine_info_load(s, &name, &info, NULL) >= 0 &&
		    (streq(info.spec.image_digest, digest) ||
		     (info.spec.home_digest && streq(info.spec.home_digest, digest)) ||
		     (info.spec.blank_digest && streq(info.spec.blank_digest, digest))))
			json_append_string(list, name.s);
		machine_info_done(&info);
	}
	return list;
}

static uint64_t allocated(const char *path)
{
	struct stat st;

	return path && stat(path, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

static struct json *disk_json(const struct store *s, const struct image_meta *m)
{
	_cleanup_free_ char *path = image_disk_path(s, m);
	struct json *j = json_object();

	json_set_string(j, "fstype", m->fstype);
	json_set_string(j, "format", m->format);
	json_set_string(j, "digest", m->disk);
	json_set_u64(j, "size_bytes", m->virtual_bytes);
	json_set_u64(j, "allocated_bytes", allocated(path));
	json_set_string(j, "path", path);
	return j;
}

/* Of every kind of file system that it has; the one that the name stands for comes first. */
static struct json *disks_json(const struct store *s, const struct image_meta *m)
{
	static const char *const kinds[] = { "ext4", "erofs" };
	struct json *list = json_array();

	json_append(list, disk_json(s, m));
	for (size_t i = 0; m->fstype && i < ARRAY_SIZE(kinds); i++) {
		_cleanup_(image_meta_done) struct image_meta other = {};

		if (!streq(m->fstype, kinds[i]) && image_meta_read_kind(s, m->digest, kinds[i], &other, NULL) >= 0)
			json_append(list, disk_json(s, &other));
	}
	return list;
}

static struct json *view_json(const struct store *s, const struct view *v)
{
	const struct image_meta *m = &v->meta;
	_cleanup_free_ char *disk = image_disk_path(s, m);
	struct json *j = json_object();
	char time[32];

	json_set_string(j, "digest", m->digest);
	json_set_string(j, "disk_digest", m->disk);
	json_set(j, "names", names_json(s, m->digest));
	json_set_string(j, "source", m->source);
	json_set_string(j, "created", clock_format_rfc3339(m->created_ns, time, sizeof(time)));
	json_set_string(j, "format", m->format);
	json_set_string(j, "fstype", m->fstype);
	json_set_u64(j, "size_bytes", m->virtual_bytes);
	json_set_u64(j, "allocated_bytes", allocated(disk));
	json_set_string(j, "boot", m->boot == IMAGE_BOOT_FIRMWARE ? "firmware" : "kernel");
	json_set_string(j, "init", m->init == IMAGE_INIT_SYSTEM ? "system" : "agent");
	json_set_string(j, "user", m->user);
	json_set_bool(j, "ssh", m->ssh);
	json_set(j, "entrypoint", strings(&m->entrypoint));
	json_set(j, "command", strings(&m->command));
	json_set(j, "env", strings(&m->env));
	json_set_string(j, "workdir", m->workdir);
	json_set_string(j, "stop_signal", m->stop_signal);
	json_set(j, "volumes", strings(&m->volumes));
	json_set(j, "ports", strings(&m->ports));
	json_set(j, "labels", strings(&m->labels));
	json_set_u64(j, "default_memory_bytes", m->default_memory_bytes);
	json_set_string(j, "architecture", v->config.architecture);
	json_set_string(j, "os", v->config.os);
	json_set_string(j, "author", json_string(json_get(v->tree, "author")));
	json_set_string(j, "manifest_type", v->manifest.media_type);
	json_set_string(j, "config_digest", v->manifest.config.digest);
	json_set(j, "layers", layers_json(v));
	json_set(j, "used_by", users_json(s, m->digest));
	json_set_string(j, "disk", disk);
	json_set(j, "disks", disks_json(s, m));
	return j;
}

static int run_image_inspect(const struct invocation *inv, struct error *err)
{
	_cleanup_(view_done) struct view v = {};
	_cleanup_store_ struct store s = {};
	_cleanup_json_ struct json *j = NULL;
	int r = store_open(&s, err);

	if (r >= 0)
		r = load_view(&s, inv->operands[0], &v, err);
	if (r < 0)
		return r;
	j = view_json(&s, &v);
	return output_json(j, err);
}

const struct command image_inspect_command = {
	.name = "inspect",
	.operands = "IMAGE",
	.min_operands = 1,
	.max_operands = 1,
	.complete = "image",
	.summary = "Show everything about an image, as JSON",
	.description = "Its names, its configuration, its disks, its layers and what they take, where it came from, "
		       "and which machines "
		       "were made from it.",
	.examples = { { "skerry image inspect debian", "Digest, sizes, default user and command" } },
	.run = run_image_inspect,
};

/* ---- history ---- */

struct history_options {
	int format;
	bool quiet;
};

static const struct option history_table[] = {
	FORMAT_OPTION(history_options),
	QUIET_OPTION(history_options),
};

static const struct table_column history_columns[] = {
	{ "layer", "LAYER", TABLE_TEXT },           { "created", "CREATED", TABLE_TEXT },
	{ "created_by", "CREATED BY", TABLE_TEXT }, { "size_bytes", "SIZE", TABLE_BYTES },
	{ "comment", "COMMENT", TABLE_TEXT },       { "digest", NULL, TABLE_TEXT },
};

enum { DIGEST_SHOWN = 19, COMMAND_SHOWN = 60, DATE_SHOWN = 10 };

/* What others wrote may be long, and of several lines. */
static void shortened(struct table *t, const char *s, bool whole)
{
	_cleanup_free_ char *one =
		s ? xstrndup(s, whole || strlen(s) <= COMMAND_SHOWN ? strlen(s) : COMMAND_SHOWN - 3) : NULL;
	_cleanup_free_ char *shown = one && strlen(one) < strlen(s) ? xasprintf("%s...", one) : NULL;

	for (char *c = one; c && *c && !whole; c++)
		if (*c == '\n' || *c == '\t')
			*c = ' ';
	table_text(t, shown ? shown : one);
}

static int run_image_history(const struct invocation *inv, struct error *err)
{
	const struct history_options *o = inv->options;
	_cleanup_(view_done) struct view v = {};
	_cleanup_store_ struct store s = {};
	const struct json *history;
	bool whole = o->format == FORMAT_JSON;
	size_t layer;
	struct table *t;
	int r = store_open(&s, err);

	if (r >= 0)
		r = load_view(&s, inv->operands[0], &v, err);
	if (r < 0)
		return r;
	history = json_get(v.tree, "history");
	t = table_new(history_columns, ARRAY_SIZE(history_columns));
	layer = v.manifest.n_layers;
	/* The newest first, as it is told everywhere. */
	for (size_t i = json_length(history); i-- > 0;) {
		const struct json *step = json_at(history, i);
		const struct oci_descriptor *d = NULL;
		const char *created = json_string(json_get(step, "created"));
		bool empty = false;

		(void)json_bool(json_get(step, "empty_layer"), &empty);
		if (!empty && layer > 0)
			d = &v.manifest.layers[--layer];
		if (d) {
			_cleanup_free_ char *part = xstrndup(d->digest, whole ? strlen(d->digest) : DIGEST_SHOWN);

			table_text(t, part);
		} else {
			table_none(t);
		}
		if (created) {
			_cleanup_free_ char *day = xstrndup(created, whole ? strlen(created) : DATE_SHOWN);

			table_text(t, day);
		} else {
			table_none(t);
		}
		shortened(t, json_string(json_get(step, "created_by")), whole);
		table_bytes(t, d ? d->size : 0);
		shortened(t, json_string(json_get(step, "comment")), whole);
		table_text(t, d ? d->digest : NULL);
	}
	r = output_table(t, history_columns, ARRAY_SIZE(history_columns), o->format, o->quiet, err);
	table_free(t);
	return r;
}

const struct command image_history_command = {
	.name = "history",
	.operands = "IMAGE",
	.min_operands = 1,
	.max_operands = 1,
	.complete = "image",
	.summary = "Show how an image came to be, the newest step first",
	.examples = { { "skerry image history mytools:1", "Its layers, what made them and what they take" } },
	.options = history_table,
	.n_options = ARRAY_SIZE(history_table),
	.options_size = sizeof(struct history_options),
	.run = run_image_history,
};
