/* image: looking, building, deleting; the other files of the family are cmd_archive.c, cmd_registry.c. Making is skerry-image's. */
#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#include "base/table.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/provide.h"
#include "image/image.h"
#include "machine/machine.h"

enum { DIGEST_SHOWN = 19 };

struct listing_options {
	int format;
	bool quiet;
};

static const struct option listing_table[] = {
	FORMAT_OPTION(listing_options),
	QUIET_OPTION(listing_options),
};

static const struct table_column image_columns[] = {
	{ "name", "NAME", TABLE_TEXT },           { "digest", NULL, TABLE_TEXT },
	{ "short_digest", "DIGEST", TABLE_TEXT }, { "size_bytes", "SIZE", TABLE_BYTES },
	{ "fstype", "FS", TABLE_TEXT },           { "generation", "GEN", TABLE_NUMBER },
	{ "source", "SOURCE", TABLE_TEXT },       { "created", "CREATED", TABLE_TIME },
};

static int run_image_list(const struct invocation *inv, struct error *err)
{
	const struct listing_options *o = inv->options;
	_cleanup_store_ struct store s = {};
	struct image_index index = {};
	struct table *t;
	int r = store_open(&s, err);

	if (r >= 0)
		r = image_index_load(&s, &index, err);
	if (r < 0)
		return r;
	t = table_new(image_columns, ARRAY_SIZE(image_columns));
	for (size_t i = 0; i < index.n; i++) {
		const struct image_ref *ref = &index.refs[i];
		_cleanup_free_ char *part = xstrndup(ref->digest, DIGEST_SHOWN);
		struct image_meta meta = {};
		bool known = image_meta_read_kind(&s, ref->digest, ref->fstype, &meta, NULL) >= 0;

		table_text(t, ref->name);
		table_text(t, ref->digest);
		table_text(t, part);
		if (known)
			table_bytes(t, meta.virtual_bytes);
		else
			table_none(t);
		table_text(t, known ? meta.fstype : NULL);
		table_number(t, ref->generation);
		table_text(t, known ? meta.source : "damaged");
		table_time(t, ref->sealed_ns);
		image_meta_done(&meta);
	}
	r = output_table(t, image_columns, ARRAY_SIZE(image_columns), o->format, o->quiet, err);
	table_free(t);
	image_index_done(&index);
	return r;
}

static const struct command image_list_command = {
	.name = "list",
	.aliases = { "ls" },
	.operands = "",
	.summary = "List images",
	.examples = { { "skerry image list", "All images" } },
	.options = listing_table,
	.n_options = ARRAY_SIZE(listing_table),
	.options_size = sizeof(struct listing_options),
	.run = run_image_list,
};

struct image_build_options {
	const char *name, *packages;
	uint64_t disk_bytes;
	int format;
};

static const struct option image_build_table[] = {
	TEXT(0, "name", "NAME[:TAG]", image_build_options, name, "What to call it (the recipe's name unless given)"),
	TEXT(0, "packages", "A,B", image_build_options, packages, "Debian packages to have in it as well"),
	BYTES(0, "disk", "SIZE", image_build_options, disk_bytes, "Size of its disk"),
	CHOICE(0, "format", "FORMAT", image_build_options, format,
	       "File system of its disk: ext4, or a read-only erofs (as before, else ext4, unless given)",
	       .words = "auto|ext4|erofs"),
};

static int run_image_build(const struct invocation *inv, struct error *err)
{
	const struct image_build_options *o = inv->options;
	static const char *const formats[] = { NULL, "ext4", "erofs" };
	const char *args[12] = { "build-image", inv->operands[0] };
	_cleanup_free_ char *bytes = xasprintf("%" PRIu64, o->disk_bytes);
	size_t n = 2;

	if (o->name) {
		args[n++] = "--name";
		args[n++] = o->name;
	}
	if (o->packages) {
		args[n++] = "--packages";
		args[n++] = o->packages;
	}
	if (o->disk_bytes) {
		args[n++] = "--disk";
		args[n++] = bytes;
	}
	if (o->format) {
		args[n++] = "--format";
		args[n++] = formats[o->format];
	}
	return provide_run(args, STDOUT_FILENO, err);
}

static const struct command image_build_command = {
	.name = "build",
	.operands = "RECIPE",
	.min_operands = 1,
	.max_operands = 1,
	.complete = "recipe",
	.summary = "Build an image from a recipe: tiny, debian or debian:SUITE",
	.description = "tiny is busybox, a few MB, and boots in well under a second. debian has systemd, an ssh server "
		       "and sudo; its user is dev. Machines that "
		       "were made from an earlier build keep it.",
	.examples = { { "skerry image build debian", "Debian 12" },
		      { "skerry image build debian:trixie --packages git,build-essential --name dev",
			"Another suite, with more in it" },
		      { "skerry image build debian --format erofs",
			"On a read-only disk that is no larger than what is in it" } },
	.options = image_build_table,
	.n_options = ARRAY_SIZE(image_build_table),
	.options_size = sizeof(struct image_build_options),
	.run = run_image_build,
};

/* One a line, as families of other files join. */
/* clang-format off */
static const struct command *const image_commands[] = {
	&image_list_command,
	&image_inspect_command,
	&image_history_command,
	&image_build_command,
	&image_import_command,
	&image_install_command,
	&image_seal_command,
	&image_save_command,
	&image_pull_command,
	&image_push_command,
	&image_tag_command,
	&image_export_command,
	&image_delete_command,
	&image_prune_command,
	NULL,
};
/* clang-format on */

const struct command image_command = {
	.name = "image",
	.operands = "COMMAND",
	.summary = "Images: list, inspect, build, pull, push, import, install, seal, save, tag, delete, prune",
	.examples = { { "skerry image list", "What machines can be made from" } },
	.subcommands = image_commands,
};
