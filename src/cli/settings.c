#include "cli/settings.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/file.h"
#include "json/yamltree.h"

enum { FILE_LIMIT = 64 << 10 };

static const struct {
	const char *key, *environment, *built_in, *what;
} table[SETTING_MAX] = {
	[SETTING_CPUS] = { "cpus", "SKERRY_CPUS", "1", "virtual CPUs" },
	[SETTING_MEMORY] = { "memory", "SKERRY_MEMORY", "what the image wants, else 512M",
			     "memory: 512M, 2G, or a number of MiB" },
	[SETTING_DISK] = { "disk", "SKERRY_DISK", "the image's size", "size of the system disk" },
	[SETTING_IMAGE] = { "image", "SKERRY_IMAGE", "none", "image of `create` without --image" },
	[SETTING_KERNEL] = { "kernel", "SKERRY_KERNEL", "the newest built one, else Debian's", "kernel" },
	[SETTING_ACCEL] = { "accel", "SKERRY_ACCEL", "auto", "auto, kvm (never emulate) or tcg (always emulate)" },
	[SETTING_NET] = { "net", "SKERRY_NET", "user", "network mode: user or none" },
	[SETTING_SHAPE] = { "shape", "SKERRY_SHAPE", "micro", "micro or full" },
	[SETTING_RESTART] = { "restart", "SKERRY_RESTART", "no", "no, on-failure[:N] or always" },
	[SETTING_USER] = { "user", "SKERRY_USER", "the image's", "user of ssh and exec" },
	[SETTING_PLAIN_HTTP] = { "plain-http", "SKERRY_PLAIN_HTTP", "none",
				 "registries without TLS: HOST[:PORT], commas between several" },
};

const char *setting_key(enum setting s)
{
	return table[s].key;
}

const char *setting_environment(enum setting s)
{
	return table[s].environment;
}

const char *setting_built_in(enum setting s)
{
	return table[s].built_in;
}

static int take(struct settings *ret, const char *key, const struct json *value, struct error *err)
{
	uint64_t number;
	bool flag;

	/* containerd's door reads that (src/shim/config.h). */
	if (streq(key, "containerd"))
		return 0;
	for (size_t i = 0; i < SETTING_MAX; i++) {
		if (!streq(table[i].key, key))
			continue;
		if (json_is_null(value))
			return 0;
		if (json_string(value))
			ret->values[i] = xstrdup(json_string(value));
		else if (json_u64(value, &number))
			ret->values[i] = xasprintf("%" PRIu64, number);
		else if (json_bool(value, &flag))
			/* "restart: no" is a word to people, whatever YAML makes of it. */
			ret->values[i] = xstrdup(flag ? "yes" : "no");
		else
			return error_set_kind(err, ERROR_CONFIG, EINVAL, "%s: %s: expected a word or a number",
					      ret->path, key);
		ret->sources[i] = SOURCE_FILE;
		return 0;
	}
	error_set_kind(err, ERROR_CONFIG, EINVAL, "%s: unknown key '%s'", ret->path, key);
	return error_hint(err, "skerry config show lists what there is");
}

static int load_file(const struct store *s, struct settings *ret, struct error *err)
{
	_cleanup_buf_ struct buf text = {};
	_cleanup_json_ struct json *tree = NULL;
	const char *key;
	struct json *value;
	int r = s->config_fd < 0 ? -ENOENT : file_read_at(s->config_fd, "config.yaml", FILE_LIMIT, &text);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return error_set_kind(err, ERROR_CONFIG, -r, "cannot read %s: %s", ret->path, strerror(-r));
	r = yaml_parse(text.p ? text.p : "", text.len, ret->path, &tree, err);
	if (r < 0) {
		if (err)
			err->kind = ERROR_CONFIG;
		return r;
	}
	if (!json_is_object(tree))
		return error_set_kind(err, ERROR_CONFIG, EINVAL, "%s: expected 'key: value' lines", ret->path);
	for (size_t i = 0; r >= 0 && json_member(tree, i, &key, &value); i++)
		r = take(ret, key, value, err);
	return r;
}

int settings_load(const struct store *s, struct settings *ret, struct error *err)
{
	int r;

	*ret = (struct settings){ .path = xasprintf("%s/config.yaml", s->config_path) };
	r = load_file(s, ret, err);
	for (size_t i = 0; r >= 0 && i < SETTING_MAX; i++) {
		const char *value = getenv(table[i].environment);

		if (!value || !*value)
			continue;
		free(ret->values[i]);
		ret->values[i] = xstrdup(value);
		ret->sources[i] = SOURCE_ENVIRONMENT;
	}
	if (r < 0)
		settings_done(ret);
	return r;
}

void settings_done(struct settings *s)
{
	for (size_t i = 0; i < SETTING_MAX; i++)
		free(s->values[i]);
	free(s->path);
	*s = (struct settings){};
}

char *settings_template(void)
{
	struct buf b = {};

	buf_adds(&b, "# What skerry takes when neither a flag nor the environment says anything.\n");
	for (size_t i = 0; i < SETTING_MAX; i++)
		buf_addf(&b, "\n# %s (built in: %s; environment: %s)\n#%s:\n", table[i].what, table[i].built_in,
			 table[i].environment, table[i].key);
	buf_adds(&b, "\n# Of containers' machines: see containerd-shim-skerry-v1(8).\n#containerd:\n");
	return buf_take(&b);
}
