#include "cli/create.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/parse.h"
#include "cli/settings.h"
#include "engine/accel.h"
#include "disk/seed.h"
#include "engine/engine.h"
#include "image/image.h"
#include "image/kernel.h"
#include "json/yamltree.h"

enum { KEY_FILE_LIMIT = 64 << 10, ENV_FILE_LIMIT = 1 << 20 };

/* One value that is in force, with where it came from. */
struct chosen {
	const char *text; /* borrowed; NULL = built in */
	const struct settings *settings;
	enum setting setting;
	enum setting_source source;
};

static struct chosen choose(const struct settings *s, enum setting which, const char *flag)
{
	if (flag)
		return (struct chosen){ flag, s, which, SOURCE_FLAG };
	return (struct chosen){ s->values[which], s, which, s->sources[which] };
}

static int bad(const struct chosen *c, struct error *err, const char *why)
{
	const char *key = setting_key(c->setting);

	if (c->source == SOURCE_FLAG)
		return error_set_kind(err, ERROR_USAGE, EINVAL, "--%s '%s': %s", key, c->text, why);
	if (c->source == SOURCE_ENVIRONMENT)
		return error_set_kind(err, ERROR_CONFIG, EINVAL, "%s '%s': %s", setting_environment(c->setting),
				      c->text, why);
	return error_set_kind(err, ERROR_CONFIG, EINVAL, "%s: %s '%s': %s", c->settings->path, key, c->text, why);
}

static int take_size(struct chosen c, uint64_t *ret, struct error *err)
{
	if (c.text && parse_bytes(c.text, UINT64_C(1) << 20, ret) < 0)
		return bad(&c, err, "expected a size such as 512M or 2G");
	/* 0 stands for "not said" in the record. */
	if (c.text && *ret == 0)
		return bad(&c, err, "must be more than nothing");
	return 0;
}

static int take_words(const struct settings *st, const struct create_options *o, struct machine_spec *m,
		      struct error *err)
{
	struct chosen shape = choose(st, SETTING_SHAPE, o->shape), accel = choose(st, SETTING_ACCEL, o->accel),
		      restart = choose(st, SETTING_RESTART, o->restart);
	enum engine_shape es;
	enum accel ea;

	if (shape.text) {
		if (engine_shape_parse(shape.text, &es) < 0)
			return bad(&shape, err, "expected micro or full");
		m->shape = (int)es;
	}
	if (accel.text) {
		if (accel_parse(accel.text, &ea) < 0)
			return bad(&accel, err, "expected auto, kvm or tcg");
		m->accel = (int)ea;
	}
	if (restart.text && restart_policy_parse(restart.text, &m->restart, &m->restart_max) < 0)
		return bad(&restart, err, "expected no, on-failure[:N] or always");
	return 0;
}

static int take_numbers(const struct settings *st, const struct create_options *o, struct machine_spec *m,
			struct error *err)
{
	struct chosen cpus = choose(st, SETTING_CPUS, o->cpus);
	int r;

	if (cpus.text && parse_u64(cpus.text, 1, UINT32_MAX, &m->cpus) < 0)
		return bad(&cpus, err, "expected a number of at least 1");
	r = take_size(choose(st, SETTING_MEMORY, o->memory), &m->memory_bytes, err);
	if (r >= 0)
		r = take_size(choose(st, SETTING_DISK, o->disk), &m->disk_bytes, err);
	if (r >= 0 && o->home && (parse_bytes(o->home, UINT64_C(1) << 20, &m->home_bytes) < 0 || m->home_bytes == 0))
		return error_set_kind(err, ERROR_USAGE, EINVAL, "--home '%s': expected a size such as 512M or 2G",
				      o->home);
	return r;
}

static bool is_key_line(const char *line)
{
	static const char *const types[] = { "ssh-", "ecdsa-", "sk-" };

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (after_prefix(line, types[i]))
			return true;
	return false;
}

/* Adds the lines of a public key file. */
static int add_key_file(struct strv *keys, const char *path, struct error *err)
{
	_cleanup_buf_ struct buf text = {};
	size_t before = keys->n;
	char *line, *rest;
	int r = file_read_at(AT_FDCWD, path, KEY_FILE_LIMIT, &text);

	if (r < 0)
		return error_set_errno(err, r, "--ssh-key: cannot read '%s'", path);
	if (text.p && strstr(text.p, "PRIVATE KEY-----")) {
		error_set_kind(err, ERROR_USAGE, EINVAL, "--ssh-key: '%s' is a private key", path);
		return error_hint(err, "give the public one: --ssh-key %s.pub", path);
	}
	rest = text.p;
	while ((line = strsep(&rest, "\r\n"))) {
		line += strspn(line, " \t");
		if (*line == '#' || !*line)
			continue;
		if (!is_key_line(line))
			return error_set_kind(err, ERROR_DATA, EBADMSG,
					      "--ssh-key: '%s' holds something that is no public key", path);
		strv_add(keys, line);
	}
	if (keys->n == before)
		return error_set_kind(err, ERROR_DATA, EBADMSG, "--ssh-key: '%s' holds no public key", path);
	return 0;
}

/* As other tools do: a name alone is passed on when it is set. */
static void add_assignment(struct strv *env, const char *e)
{
	const char *value;

	/* Nothing is no name: it is left for the check to refuse. */
	if (!*e || strchr(e, '=')) {
		strv_add(env, e);
		return;
	}
	value = getenv(e);
	if (value)
		strv_addf(env, "%s=%s", e, value);
}

/* Lines as they are, without quoting: blank ones and those that begin with '#' are passed over. */
static int add_env_file(struct strv *env, const char *path, struct error *err)
{
	_cleanup_buf_ struct buf text = {};
	int r = file_read_at(AT_FDCWD, path, ENV_FILE_LIMIT, &text);
	char *line, *rest;
	size_t number = 0;

	if (r < 0)
		return error_set_errno(err, r, "--env-file: cannot read '%s'", path);
	if (text.p && strlen(text.p) != text.len)
		return error_set_kind(err, ERROR_DATA, EBADMSG, "--env-file: '%s' is no text", path);
	rest = text.p;
	while ((line = strsep(&rest, "\n"))) {
		size_t n;

		number++;
		line += strspn(line, " \t");
		n = strcspn(line, "\r");
		line[n] = '\0';
		if (!*line || *line == '#')
			continue;
		n = strcspn(line, "=");
		if (!n || strcspn(line, " \t") < n)
			return error_set_kind(err, ERROR_DATA, EBADMSG,
					      "--env-file: '%s', line %zu: expected KEY=VALUE", path, number);
		add_assignment(env, line);
	}
	return 0;
}

static int take_user_data(const char *path, struct machine_spec *m, struct error *err)
{
	_cleanup_free_ char *what = NULL;
	_cleanup_buf_ struct buf text = {};
	int r;

	if (!path)
		return 0;
	what = xasprintf("--user-data '%s'", path);
	r = file_read_at(AT_FDCWD, path, SEED_USER_DATA_MAX, &text);
	if (r < 0)
		return r == -EFBIG ? error_set_kind(err, ERROR_DATA, EFBIG, "%s: more than 1 MiB", what)
				   : error_set_errno(err, r, "%s: cannot read it", what);
	r = seed_check_user_data(text.p ? text.p : "", text.len, what, err);
	/* A slip of the indentation would only be found in the guest, by nobody. */
	if (r >= 0 && after_prefix(text.p, "#cloud-config"))
		r = yaml_check(text.p, text.len, what, err);
	if (r >= 0)
		m->user_data = buf_take(&text);
	return r;
}

static int take_lists(const struct create_options *o, struct machine_spec *m, struct error *err)
{
	int r = 0;

	m->publish_all = o->publish_all;
	strv_copy(&m->publish, &o->publish);
	strv_copy(&m->labels, &o->labels);
	for (size_t i = 0; r >= 0 && i < o->env_files.n; i++)
		r = add_env_file(&m->env, o->env_files.items[i], err);
	for (size_t i = 0; i < o->env.n; i++)
		add_assignment(&m->env, o->env.items[i]);
	for (size_t i = 0; r >= 0 && i < o->ssh_keys.n; i++)
		r = add_key_file(&m->ssh_keys, o->ssh_keys.items[i], err);
	return r;
}

int create_spec(const struct store *s, const struct create_options *o, const char *image, struct machine_spec *ret,
		struct error *err)
{
	_cleanup_settings_ struct settings st = {};
	struct chosen c;
	int r;

	machine_spec_init(ret);
	r = settings_load(s, &st, err);
	if (r < 0)
		return r;
	c = choose(&st, SETTING_IMAGE, image);
	if (!c.text) {
		error_set_kind(err, ERROR_USAGE, EINVAL, "no image was named");
		return error_hint(err, "--image debian, or `image: debian` in %s", st.path);
	}
	ret->image = xstrdup(c.text);
	c = choose(&st, SETTING_KERNEL, o->kernel);
	ret->kernel = xstrdup(c.text);
	c = choose(&st, SETTING_USER, o->user);
	ret->user = xstrdup(c.text);
	ret->workdir = xstrdup(o->workdir);
	ret->stop_signal = xstrdup(o->stop_signal);
	c = choose(&st, SETTING_NET, o->net);
	if (c.text) {
		free(ret->net);
		ret->net = xstrdup(c.text);
	}
	r = take_numbers(&st, o, ret, err);
	if (r >= 0)
		r = take_words(&st, o, ret, err);
	if (r >= 0)
		r = take_lists(o, ret, err);
	return r < 0 ? r : take_user_data(o->user_data, ret, err);
}

int create_check_image(const struct store *s, const struct create_options *o, const struct machine_spec *spec,
		       struct error *err)
{
	struct image_meta image = {};
	int r = image_find(s, spec->image, &image, err);
	bool firmware = image.boot == IMAGE_BOOT_FIRMWARE;

	image_meta_done(&image);
	if (r >= 0 && !firmware && o->kernel) {
		struct kernel_meta kernel = {};

		r = kernel_find(s, o->kernel, &kernel, err);
		kernel_meta_done(&kernel);
	}
	if (r < 0 || !firmware)
		return r < 0 ? r : 0;
	if (o->shape && spec->shape != SHAPE_FULL) {
		error_set_kind(err, ERROR_USAGE, EINVAL,
			       "--shape %s: image '%s' boots by firmware, which only shape full has", o->shape,
			       spec->image);
		return error_hint(err, "leave --shape out");
	}
	if (o->kernel)
		return error_set_kind(err, ERROR_USAGE, EINVAL, "--kernel: image '%s' boots by itself, with its own",
				      spec->image);
	return 1;
}
