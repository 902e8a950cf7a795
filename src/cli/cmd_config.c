/* config: what applies when a flag is not given. */
#include <errno.h>

#include "base/file.h"
#include "base/table.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/settings.h"

struct config_show_options {
	int format;
	bool quiet;
};

static const struct option config_show_table[] = {
	FORMAT_OPTION(config_show_options),
	FLAG('q', "quiet", config_show_options, quiet, "Print keys only"),
};

static const struct table_column config_columns[] = {
	{ "key", "KEY", TABLE_TEXT },
	{ "value", "VALUE", TABLE_TEXT },
	{ "source", "FROM", TABLE_TEXT },
};

static int run_config_show(const struct invocation *inv, struct error *err)
{
	const struct config_show_options *o = inv->options;
	_cleanup_store_ struct store s = {};
	_cleanup_settings_ struct settings st = {};
	struct table *t;
	int r = store_open(&s, err);

	if (r >= 0)
		r = settings_load(&s, &st, err);
	if (r < 0)
		return r;
	t = table_new(config_columns, ARRAY_SIZE(config_columns));
	for (enum setting i = 0; i < SETTING_MAX; i++) {
		table_text(t, setting_key(i));
		table_text(t, st.values[i] ? st.values[i] : setting_built_in(i));
		table_text(t, st.sources[i] == SOURCE_ENVIRONMENT ? setting_environment(i)
			      : st.sources[i] == SOURCE_FILE      ? st.path
								  : "built in");
	}
	r = output_table(t, config_columns, ARRAY_SIZE(config_columns), o->format, o->quiet, err);
	table_free(t);
	return r;
}

static const struct command config_show_command = {
	.name = "show",
	.operands = "",
	.summary = "Show what applies when a flag is not given, and where it comes from",
	.examples = { { "skerry config show", "Flags go before environment, environment before file" } },
	.options = config_show_table,
	.n_options = ARRAY_SIZE(config_show_table),
	.options_size = sizeof(struct config_show_options),
	.run = run_config_show,
};

static int run_config_init(const struct invocation *inv, struct error *err)
{
	_cleanup_store_ struct store s = {};
	_cleanup_free_ char *text = settings_template();
	int dir, r = store_open(&s, err);

	(void)inv;
	if (r >= 0)
		r = dir = store_config(&s, err);
	if (r < 0)
		return r;
	r = file_write_at(dir, "config.yaml", text, strlen(text), 0600, FILE_DURABLE | FILE_EXCLUSIVE);
	if (r == -EEXIST)
		return error_set_kind(err, ERROR_EXISTS, EEXIST, "%s/config.yaml is there already", s.config_path);
	if (r < 0)
		return error_set_errno(err, r, "cannot write %s/config.yaml", s.config_path);
	return output_line(err, "%s/config.yaml", s.config_path);
}

static const struct command config_init_command = {
	.name = "init",
	.operands = "",
	.summary = "Write a configuration file with every key in it, commented out",
	.examples = { { "skerry config init", "Prints where it is" } },
	.run = run_config_init,
};

static const struct command *const config_commands[] = { &config_show_command, &config_init_command, NULL };

const struct command config_command = {
	.name = "config",
	.operands = "show, init",
	.summary = "Defaults: show, init",
	.examples = { { "skerry config show", "What applies when a flag is not given" } },
	.subcommands = config_commands,
};
