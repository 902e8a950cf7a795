/* kernel: what machines boot. Bringing in and building is skerry-image's. */
#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#include "base/table.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/provide.h"
#include "image/kernel.h"
#include "machine/machine.h"

struct listing_options {
	int format;
	bool quiet;
};

static const struct option listing_table[] = {
	FORMAT_OPTION(listing_options),
	QUIET_OPTION(listing_options),
};

static const struct table_column kernel_columns[] = {
	{ "name", "NAME", TABLE_TEXT },        { "release", "RELEASE", TABLE_TEXT }, { "file", "FILE", TABLE_TEXT },
	{ "size_bytes", "SIZE", TABLE_BYTES }, { "default", "DEFAULT", TABLE_BOOL }, { "source", "SOURCE", TABLE_TEXT },
	{ "created", "CREATED", TABLE_TIME },
};

static int run_kernel_list(const struct invocation *inv, struct error *err)
{
	const struct listing_options *o = inv->options;
	_cleanup_store_ struct store s = {};
	_cleanup_strv_ struct strv names = {};
	_cleanup_(kernel_meta_done) struct kernel_meta chosen = {};
	struct table *t;
	int r = store_open(&s, err);

	if (r >= 0)
		r = kernel_names(&s, &names, err);
	if (r < 0)
		return r;
	(void)kernel_default(&s, &chosen, NULL);
	t = table_new(kernel_columns, ARRAY_SIZE(kernel_columns));
	for (size_t i = 0; i < names.n; i++) {
		_cleanup_(kernel_meta_done) struct kernel_meta k = {};
		_cleanup_error_ struct error e = {};

		if (kernel_find(&s, names.items[i], &k, &e) < 0) {
			output_notice("%s", e.msg);
			continue;
		}
		table_text(t, k.name);
		table_text(t, k.release);
		table_text(t, k.file);
		table_bytes(t, k.bytes);
		table_bool(t, chosen.name && streq(chosen.name, k.name));
		table_text(t, k.source);
		table_time(t, k.created_ns);
	}
	r = output_table(t, kernel_columns, ARRAY_SIZE(kernel_columns), o->format, o->quiet, err);
	table_free(t);
	return r;
}

static const struct command kernel_list_command = {
	.name = "list",
	.aliases = { "ls" },
	.operands = "",
	.summary = "List kernels",
	.examples = { { "skerry kernel list", "All kernels, and which one is taken unless another is named" } },
	.options = listing_table,
	.n_options = ARRAY_SIZE(listing_table),
	.options_size = sizeof(struct listing_options),
	.run = run_kernel_list,
};

struct kernel_make_options {
	const char *name;
	bool replace;
};
#define REPLACE_OPTION FLAG(0, "replace", kernel_make_options, replace, "Take the place of a kernel of that name")

static const struct option kernel_import_table[] = {
	TEXT(0, "name", "NAME", kernel_make_options, name, "What to call it (made from the file's name unless given)"),
	REPLACE_OPTION,
};

/* @operand NULL = none. */
static int make_kernel(const char *job, const char *operand, const struct kernel_make_options *o, struct error *err)
{
	const char *args[6] = { job };
	size_t n = 1;

	if (operand)
		args[n++] = operand;
	if (o->name) {
		args[n++] = "--name";
		args[n++] = o->name;
	}
	if (o->replace)
		args[n++] = "--replace";
	return provide_run(args, STDOUT_FILENO, err);
}

static int run_kernel_import(const struct invocation *inv, struct error *err)
{
	return make_kernel("import-kernel", inv->operands[0], inv->options, err);
}

static const struct command kernel_import_command = {
	.name = "import",
	.operands = "PATH|debian",
	.min_operands = 1,
	.max_operands = 1,
	.complete = "file",
	.summary = "Import a kernel: a vmlinux, a bzImage, a Debian package, or Debian's own",
	.description = "A bzImage is unpacked once, so that no start has to do it. The word debian fetches the package "
		       "linux-image-cloud-amd64.",
	.examples = { { "skerry kernel import debian", "Debian's kernel for clouds" },
		      { "skerry kernel import arch/x86/boot/bzImage --name mine", "One of yours" } },
	.options = kernel_import_table,
	.n_options = ARRAY_SIZE(kernel_import_table),
	.options_size = sizeof(struct kernel_make_options),
	.run = run_kernel_import,
};

static const struct option kernel_build_table[] = {
	TEXT(0, "name", "NAME", kernel_make_options, name, "What to call it (built unless given)"),
	REPLACE_OPTION,
};

static int run_kernel_build(const struct invocation *inv, struct error *err)
{
	return make_kernel("build-kernel", NULL, inv->options, err);
}

static const struct command kernel_build_command = {
	.name = "build",
	.operands = "",
	.summary = "Build a kernel for machines from Debian's sources",
	.description = "Everything virtual machines need is built in and nothing else, so it boots faster. Takes about "
		       "eight minutes on two CPUs; what was built is "
		       "kept until sources or configuration change.",
	.examples = { { "skerry kernel build", "Build it; it is the default from then on" } },
	.options = kernel_build_table,
	.n_options = ARRAY_SIZE(kernel_build_table),
	.options_size = sizeof(struct kernel_make_options),
	.run = run_kernel_build,
};

static int run_kernel_delete(const struct invocation *inv, struct error *err)
{
	_cleanup_store_ struct store s = {};
	int r = store_open(&s, err);

	for (size_t i = 0; r >= 0 && i < inv->n_operands; i++) {
		r = kernel_delete(&s, inv->operands[i], machine_uses_kernel, &s, err);
		if (r >= 0)
			r = output_line(err, "%s", inv->operands[i]);
	}
	return r;
}

static const struct command kernel_delete_command = {
	.name = "delete",
	.aliases = { "rm" },
	.operands = "NAME...",
	.min_operands = 1,
	.max_operands = OPERANDS_ANY,
	.complete = "kernel+",
	.summary = "Delete kernels",
	.examples = { { "skerry kernel delete mine", "Delete one that no machine names" } },
	.run = run_kernel_delete,
};

static const struct command *const kernel_commands[] = { &kernel_import_command, &kernel_list_command,
							 &kernel_build_command, &kernel_delete_command, NULL };

const struct command kernel_command = {
	.name = "kernel",
	.operands = "import, list, build, delete",
	.summary = "Kernels: import, list, build, delete",
	.examples = { { "skerry kernel list", "What machines can boot" } },
	.subcommands = kernel_commands,
};
