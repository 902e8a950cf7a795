/* system df, system prune: what all of it takes, and giving back what nobody needs. */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/parse.h"
#include "cli/commands.h"
#include "cli/downloads.h"
#include "cli/output.h"
#include "cli/usage.h"
#include "image/image.h"
#include "image/kernel.h"
#include "image/prune.h"
#include "image/reference.h"
#include "machine/machine.h"

/* ---- df ---- */

struct df_options {
	bool verbose, quiet;
	int format;
};

static const struct option df_table[] = {
	FLAG('v', "verbose", df_options, verbose, "One line for each image, machine and kernel"),
	FORMAT_OPTION(df_options),
	QUIET_OPTION(df_options),
};

static const struct table_column df_columns[] = {
	{ "type", "TYPE", TABLE_TEXT },
	{ "count", "COUNT", TABLE_NUMBER },
	{ "active", "ACTIVE", TABLE_NUMBER },
	{ "size_bytes", "SIZE", TABLE_BYTES },
	{ "reclaimable_bytes", "RECLAIMABLE", TABLE_BYTES },
};

static const struct table_column df_verbose_columns[] = {
	{ "type", "TYPE", TABLE_TEXT },
	{ "name", "NAME", TABLE_TEXT },
	{ "size_bytes", "SIZE", TABLE_BYTES },
	{ "used_by", "USED BY", TABLE_TEXT },
};

struct df {
	struct store store;
	struct usage usage;
	struct table *table, *lines; /* the sums; a line for each */
};

static void df_done(struct df *d)
{
	store_done(&d->store);
	usage_done(&d->usage);
	table_free(d->table);
	table_free(d->lines);
}

static void add_sum(struct df *d, const char *type, uint64_t count, uint64_t active, uint64_t size,
		    uint64_t reclaimable)
{
	table_text(d->table, type);
	table_number(d->table, count);
	table_number(d->table, active);
	table_bytes(d->table, size);
	table_bytes(d->table, reclaimable);
}

static void add_line(struct df *d, const char *type, const char *name, uint64_t size, const char *used_by)
{
	table_text(d->lines, type);
	table_text(d->lines, name);
	table_bytes(d->lines, size);
	table_text(d->lines, used_by);
}

/* Its names, or the beginning of its digest. Owned by the caller. */
static char *image_label(const struct image_index *index, const char *digest)
{
	struct buf b = {};

	for (size_t i = 0; i < index->n; i++)
		if (streq(index->refs[i].digest, digest))
			buf_addf(&b, "%s%s", b.len ? ", " : "", index->refs[i].name);
	if (!b.len)
		buf_addf(&b, "%.19s", digest);
	return buf_take(&b);
}

/* Those in use first: what a disk shares with one of them is no gain. */
static int df_images(struct df *d, struct error *err)
{
	struct image_index index = {};
	_cleanup_strv_ struct strv disks = {};
	uint64_t count = 0, active = 0, size = 0, gain = 0;
	int r = image_index_load(&d->store, &index, err);

	if (r < 0)
		return r;
	(void)dir_list_at(d->store.images_fd, "disks", &disks);
	for (int used = 1; used >= 0; used--)
		for (size_t i = 0; i < disks.n; i++) {
			_cleanup_free_ char *digest = image_directory_digest(disks.items[i]), *by = NULL, *label = NULL;
			_cleanup_free_ char *path = xasprintf("disks/%s", disks.items[i]);
			uint64_t bytes;

			if (!digest || (machine_uses_image(digest, &by, &d->store) != 0) != used)
				continue;
			bytes = usage_add(&d->usage, d->store.images_fd, path);
			label = image_label(&index, digest);
			add_line(d, "image", label, bytes, by);
			count++;
			active += (uint64_t)used;
			size += bytes;
			gain += used ? 0 : bytes;
		}
	image_index_done(&index);
	add_sum(d, "images", count, active, size, gain);
	return 0;
}

static int compare_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int df_blobs(struct df *d, struct error *err)
{
	_cleanup_strv_ struct strv needed = {}, blobs = {}, partial = {};
	uint64_t count = 0, active = 0, size = 0, gain = 0;
	int r = image_needed_blobs(&d->store, machine_uses_image, &d->store, &needed, err);

	if (r < 0)
		return r;
	(void)dir_list_at(d->store.images_fd, "blobs/sha256", &blobs);
	(void)dir_list_at(d->store.images_fd, "partial", &partial);
	for (size_t i = 0; i < blobs.n; i++) {
		_cleanup_free_ char *digest = xasprintf("sha256:%s", blobs.items[i]);
		_cleanup_free_ char *path = xasprintf("blobs/sha256/%s", blobs.items[i]);
		uint64_t bytes = usage_add(&d->usage, d->store.images_fd, path);
		bool used = needed.n && bsearch(&digest, needed.items, needed.n, sizeof(*needed.items), compare_text);

		count++;
		active += used;
		size += bytes;
		gain += used ? 0 : bytes;
	}
	for (size_t i = 0; i < partial.n; i++) {
		_cleanup_free_ char *path = xasprintf("partial/%s", partial.items[i]);
		uint64_t bytes = usage_add(&d->usage, d->store.images_fd, path);

		count++;
		size += bytes;
		gain += bytes;
	}
	add_sum(d, "layers", count, active, size, gain);
	return 0;
}

/* What --rm should have taken with it: its end was not seen. */
static bool is_leftover(const struct machine_info *info)
{
	return info->spec.remove && (info->status == MACHINE_STOPPED || info->status == MACHINE_FAILED) &&
	       !info->monitor_alive;
}

static int df_machines(struct df *d, struct error *err)
{
	_cleanup_strv_ struct strv names = {};
	uint64_t active = 0, size = 0, gain = 0;
	int r = store_machine_names(&d->store, &names, err);

	for (size_t i = 0; r >= 0 && i < names.n; i++) {
		uint64_t bytes = usage_add(&d->usage, d->store.machines_fd, names.items[i]);
		struct machine_info info = {};
		struct name name;

		size += bytes;
		if (name_parse(names.items[i], "machine name", &name, NULL) < 0 ||
		    machine_info_load(&d->store, &name, &info, NULL) < 0) {
			add_line(d, "machine", names.items[i], bytes, NULL);
		} else {
			active += info.status == MACHINE_RUNNING || info.status == MACHINE_PAUSED ||
				  info.status == MACHINE_STARTING || info.status == MACHINE_STOPPING;
			gain += is_leftover(&info) ? bytes : 0;
			add_line(d, "machine", name.s, bytes, machine_status_name(info.status));
		}
		machine_info_done(&info);
	}
	if (r >= 0)
		add_sum(d, "machines", names.n, active, size, gain);
	return r;
}

static int df_kernels(struct df *d, struct error *err)
{
	_cleanup_strv_ struct strv names = {};
	_cleanup_(kernel_meta_done) struct kernel_meta chosen = {};
	uint64_t active = 0, size = 0;
	int r = kernel_names(&d->store, &names, err);

	if (r >= 0)
		(void)kernel_default(&d->store, &chosen, NULL);
	for (size_t i = 0; r >= 0 && i < names.n; i++) {
		uint64_t bytes = usage_add(&d->usage, d->store.kernels_fd, names.items[i]);
		_cleanup_free_ char *by = NULL;
		bool is_default = chosen.name && streq(chosen.name, names.items[i]);
		bool used = machine_uses_kernel(names.items[i], &by, &d->store) > 0 || is_default;

		add_line(d, "kernel", names.items[i], bytes, by ? by : is_default ? "default" : NULL);
		active += used;
		size += bytes;
	}
	if (r >= 0)
		add_sum(d, "kernels", names.n, active, size, 0);
	return r;
}

/* An hour is more than anybody needs between fetching something and using it. */
#define CACHE_KEPT_NS (3600 * NS_PER_SEC)

static bool is_old(const struct store *s, const char *path, uint64_t age_ns)
{
	struct stat st;

	return fstatat(s->cache_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       (uint64_t)st.st_mtim.tv_sec * NS_PER_SEC + age_ns < clock_realtime_ns();
}

/* Packages that were fetched, and with @all kernels that were built: both can be had again. Their bytes are added to *sum; they go when @gone. */
static int prune_cache(const struct store *s, bool all, bool gone, uint64_t *sum, struct error *err)
{
	static const char *const directories[] = { "packages", "kernel-builds" };
	_cleanup_(usage_done) struct usage usage = {};

	for (size_t k = 0; k < (all ? 2 : 1); k++) {
		_cleanup_free_ char *lock_path = xasprintf("%s/lock", directories[k]);
		_cleanup_close_ int lock =
			gone ? openat(s->cache_fd, lock_path, O_RDWR | O_CLOEXEC | O_NOFOLLOW) : -EBADF;
		_cleanup_strv_ struct strv names = {};

		/* Who builds holds it. */
		if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) < 0)
			continue;
		(void)dir_list_at(s->cache_fd, directories[k], &names);
		for (size_t i = 0; i < names.n; i++) {
			_cleanup_free_ char *path = xasprintf("%s/%s", directories[k], names.items[i]);
			uint64_t bytes;
			int r;

			if (streq(names.items[i], "lock") || !is_old(s, path, all ? CACHE_KEPT_NS : 24 * CACHE_KEPT_NS))
				continue;
			bytes = usage_add(&usage, s->cache_fd, path);
			r = gone ? fault_point("prune-cache") : 0;
			if (r >= 0 && gone)
				r = remove_tree_at(s->cache_fd, path);
			if (r < 0)
				return error_set_errno(err, r, "%s/%s: cannot remove it", s->cache_path, path);
			*sum += bytes;
		}
	}
	return 0;
}

static int df_directories(struct df *d, struct error *err)
{
	_cleanup_strv_ struct strv backups = {}, cache = {};
	struct downloads downloads;
	uint64_t bytes, gain = 0;
	int r = downloads_look(&d->store, false, &downloads, err);

	if (r >= 0)
		add_sum(d, "downloads", downloads.n, downloads.n_used, downloads.bytes, downloads.gain_bytes);
	else if (r != -ENOENT)
		return r;

	if (dir_list_at(d->store.home_fd, "backups", &backups) >= 0) {
		bytes = usage_add(&d->usage, d->store.home_fd, "backups");
		add_sum(d, "backups", backups.n, backups.n, bytes, 0);
	}
	(void)dir_list_at(d->store.cache_fd, ".", &cache);
	bytes = usage_add(&d->usage, d->store.cache_fd, ".");
	(void)prune_cache(&d->store, true, false, &gain, NULL);
	add_sum(d, "cache", cache.n, 0, bytes, gain);
	return 0;
}

static int run_system_df(const struct invocation *inv, struct error *err)
{
	const struct df_options *o = inv->options;
	_cleanup_(df_done) struct df d = {};
	int r = store_open(&d.store, err);

	if (r < 0)
		return r;
	d.table = table_new(df_columns, ARRAY_SIZE(df_columns));
	d.lines = table_new(df_verbose_columns, ARRAY_SIZE(df_verbose_columns));
	r = df_images(&d, err);
	if (r >= 0)
		r = df_blobs(&d, err);
	if (r >= 0)
		r = df_machines(&d, err);
	if (r >= 0)
		r = df_kernels(&d, err);
	if (r >= 0)
		r = df_directories(&d, err);
	if (r < 0)
		return r;
	return o->verbose ? output_table(d.lines, df_verbose_columns, ARRAY_SIZE(df_verbose_columns), o->format,
					 o->quiet, err)
			  : output_table(d.table, df_columns, ARRAY_SIZE(df_columns), o->format, o->quiet, err);
}

static const struct command system_df_command = {
	.name = "df",
	.operands = "",
	.summary = "Show what images, machines and the rest take on disk",
	.description =
		"Sizes are what is really allocated: holes take nothing, and a disk that images share counts once. "
		"RECLAIMABLE is what `skerry system prune --all` would give back; what was fetched within the last "
		"hour it keeps.",
	.examples = { { "skerry system df", "Sums" }, { "skerry system df --verbose", "Which of them is large" } },
	.options = df_table,
	.n_options = ARRAY_SIZE(df_table),
	.options_size = sizeof(struct df_options),
	.run = run_system_df,
};

/* ---- prune ---- */

struct system_prune_options {
	bool all, yes;
	struct strv filters;
};

static const struct option system_prune_table[] = {
	FLAG('a', "all", system_prune_options, all,
	     "Also images that have a name and no machine, and all that is cached"),
	LIST(0, "filter", "until=TIME", system_prune_options, filters,
	     "Only images that are older than this, as in 24h (all unless given)"),
	FLAG('y', "yes", system_prune_options, yes, "Do not ask"),
};

static int prune_machines(struct store *s, uint64_t *freed, struct error *err)
{
	_cleanup_strv_ struct strv names = {};
	int r = store_machine_names(s, &names, err);

	for (size_t i = 0; r >= 0 && i < names.n; i++) {
		_cleanup_(usage_done) struct usage usage = {};
		_cleanup_error_ struct error e = {};
		struct machine_info info = {};
		struct name name;
		bool gone;
		uint64_t bytes;

		if (name_parse(names.items[i], "machine name", &name, NULL) < 0)
			continue;
		gone = machine_info_load(s, &name, &info, NULL) >= 0 && is_leftover(&info);
		machine_info_done(&info);
		if (!gone)
			continue;
		bytes = usage_add(&usage, s->machines_fd, name.s);
		if (machine_delete(s, &name, false, 0, &e) < 0) {
			output_error(&e);
			continue;
		}
		*freed += bytes;
		r = output_line(err, "%s", name.s);
	}
	return r;
}

static int prune_downloads(struct store *s, uint64_t *freed, struct error *err)
{
	struct downloads d;
	int r = downloads_look(s, true, &d, err);

	*freed += r < 0 ? 0 : d.gain_bytes;
	return r == -ENOENT ? 0 : r;
}

static int run_system_prune(const struct invocation *inv, struct error *err)
{
	const struct system_prune_options *o = inv->options;
	_cleanup_store_ struct store s = {};
	uint64_t freed = 0;
	char text[16];
	int r = prune_check_filters(&o->filters, err);

	if (r >= 0)
		r = store_open(&s, err);
	if (r < 0)
		return r;
	if (!o->yes &&
	    !output_confirm(o->all ? "Remove what --rm machines left, every image that no machine uses, and "
				     "everything cached?"
				   : "Remove what --rm machines left, images without a name and a machine, and "
				     "packages fetched more than a day ago?"))
		return error_set_kind(err, ERROR_FAILED, ECANCELED, "nothing was removed");
	/* Machines first: what they were made from may be free then. */
	r = prune_machines(&s, &freed, err);
	if (r >= 0)
		r = prune_images(&s, o->all, &o->filters, &freed, err);
	if (r >= 0)
		r = prune_cache(&s, o->all, true, &freed, err);
	if (r >= 0 && o->all)
		r = prune_downloads(&s, &freed, err);
	if (r >= 0)
		output_notice("%s freed", format_bytes(freed, text, sizeof(text)));
	return r;
}

static const struct command system_prune_command = {
	.name = "prune",
	.operands = "",
	.summary = "Give back what nobody needs",
	.description = "Machines that were started with --rm and whose end nobody saw, what `skerry image prune` "
		       "removes, and fetched "
		       "packages. No other machine, no home disk and no backup is touched. With --all, images that "
		       "have a name but no "
		       "machine go as well, and so do the results of kernel builds, which kernels in use do not need, "
		       "parts of downloads, "
		       "and disks and installers that were fetched from an address and that no image is made from.",
	.examples = { { "skerry system prune", "Ask, then tidy up" },
		      { "skerry system prune --all --yes", "As much as can be had again" } },
	.options = system_prune_table,
	.n_options = ARRAY_SIZE(system_prune_table),
	.options_size = sizeof(struct system_prune_options),
	.run = run_system_prune,
};

static const struct command *const system_commands[] = { &system_df_command, &system_prune_command,
							 &system_recover_command, NULL };

const struct command system_command = {
	.name = "system",
	.operands = "df, prune, recover",
	.summary = "All of it: df, prune, recover",
	.examples = { { "skerry system df", "What images, machines and the rest take" } },
	.subcommands = system_commands,
};
