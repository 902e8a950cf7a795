#include "image/config_change.h"

#include <errno.h>
#include <strings.h>

#include "base/memory.h"

static int bad(struct error *err, const char *change, const char *why)
{
	return error_set_kind(err, ERROR_USAGE, EINVAL, "change '%.80s': %s", change, why);
}

static const char *skip_blanks(const char *s)
{
	return s + strspn(s, " \t");
}

static void split_words(const char *s, struct strv *ret)
{
	for (s = skip_blanks(s); *s; s = skip_blanks(s)) {
		size_t n = strcspn(s, " \t");

		strv_take(ret, xstrndup(s, n));
		s += n;
	}
}

/* An array as JSON has it, of strings. NULL when it is none. */
static struct json *array_of(const char *s)
{
	_cleanup_json_ struct json *j = NULL;

	if (*s != '[' || json_parse(s, strlen(s), "change", &j, NULL) < 0 || !json_is_array(j))
		return NULL;
	for (size_t i = 0; i < json_length(j); i++)
		if (!json_string(json_at(j, i)))
			return NULL;
	return TAKE_PTR(j);
}

/* A text is for the shell, as everywhere where such lines are written. */
static struct json *command_of(const char *s)
{
	struct json *j = array_of(s);

	if (j)
		return j;
	j = json_array();
	if (!*s)
		return j;
	json_append_string(j, "/bin/sh");
	json_append_string(j, "-c");
	json_append_string(j, s);
	return j;
}

static struct json *object_in(struct json *process, const char *key)
{
	struct json *j = json_get(process, key);

	if (!j || !json_is_object(j)) {
		j = json_object();
		json_set(process, key, j);
	}
	return j;
}

/* "K=V", "K=\"V W\"" or "K V". */
static int pair_of(const char *s, char **ret_key, char **ret_value)
{
	size_t n = strcspn(s, "= \t");
	const char *value = s + n;
	size_t len;

	if (n == 0 || !*value)
		return -EINVAL;
	value = *value == '=' ? value + 1 : skip_blanks(value);
	len = strlen(value);
	if (len >= 2 && (*value == '"' || *value == '\'') && value[len - 1] == *value) {
		value++;
		len -= 2;
	}
	*ret_key = xstrndup(s, n);
	*ret_value = xstrndup(value, len);
	return 0;
}

static int change_command(struct json *process, const char *key, const char *rest)
{
	json_set(process, key, command_of(rest));
	/* What was given to the old entrypoint means nothing to the new one. */
	if (streq(key, "Entrypoint"))
		json_remove(process, "Cmd");
	return 0;
}

static int change_text(struct json *process, const char *key, const char *rest)
{
	json_set_string(process, key, rest);
	return 0;
}

static int change_path(struct json *process, const char *key, const char *rest)
{
	if (*rest != '/')
		return -EINVAL;
	json_set_string(process, key, rest);
	return 0;
}

static int change_env(struct json *process, const char *key, const char *rest)
{
	_cleanup_free_ char *name = NULL, *value = NULL;
	struct json *env = json_array(), *old = json_get(process, key);
	bool found = false;

	if (pair_of(rest, &name, &value) < 0) {
		json_free(env);
		return -EINVAL;
	}
	for (size_t i = 0; i < json_length(old); i++) {
		const char *s = json_string(json_at(old, i)), *after = s ? after_prefix(s, name) : NULL;
		_cleanup_free_ char *line = after && *after == '=' ? xasprintf("%s=%s", name, value) : NULL;

		found |= line != NULL;
		if (s)
			json_append_string(env, line ? line : s);
	}
	if (!found) {
		_cleanup_free_ char *line = xasprintf("%s=%s", name, value);

		json_append_string(env, line);
	}
	json_set(process, key, env);
	return 0;
}

static int change_label(struct json *process, const char *key, const char *rest)
{
	_cleanup_free_ char *name = NULL, *value = NULL;

	if (pair_of(rest, &name, &value) < 0)
		return -EINVAL;
	json_set_string(object_in(process, key), name, value);
	return 0;
}

static int change_keys(struct json *process, const char *key, const char *rest)
{
	_cleanup_json_ struct json *array = array_of(rest);
	_cleanup_strv_ struct strv words = {};
	bool ports = streq(key, "ExposedPorts");

	if (array)
		for (size_t i = 0; i < json_length(array); i++)
			strv_add(&words, json_string(json_at(array, i)));
	else
		split_words(rest, &words);
	for (size_t i = 0; i < words.n; i++) {
		const char *w = words.items[i];
		_cleanup_free_ char *full = ports && !strchr(w, '/') ? xasprintf("%s/tcp", w) : xstrdup(w);

		if (ports ? strspn(w, "0123456789") == 0 : *w != '/')
			return -EINVAL;
		json_set(object_in(process, key), full, json_object());
	}
	return 0;
}

int config_change(struct json *config, const char *change, struct error *err)
{
	static const struct {
		const char *word, *key;
		int (*fn)(struct json *process, const char *key, const char *rest);
		const char *why;
	} changes[] = {
		{ "CMD", "Cmd", change_command, NULL },
		{ "ENTRYPOINT", "Entrypoint", change_command, NULL },
		{ "ENV", "Env", change_env, "NAME=VALUE is expected" },
		{ "USER", "User", change_text, NULL },
		{ "WORKDIR", "WorkingDir", change_path, "an absolute path is expected" },
		{ "EXPOSE", "ExposedPorts", change_keys, "ports are numbers, with /tcp or /udp behind them" },
		{ "LABEL", "Labels", change_label, "NAME=VALUE is expected" },
		{ "VOLUME", "Volumes", change_keys, "absolute paths are expected" },
		{ "STOPSIGNAL", "StopSignal", change_text, NULL },
	};
	const char *s = skip_blanks(change);
	size_t n = strcspn(s, " \t"), k = 0;
	_cleanup_free_ char *word = xstrndup(s, n), *rest = xstrdup(skip_blanks(s + n));

	for (size_t len = strlen(rest); len && strchr(" \t", rest[len - 1]); len--)
		rest[len - 1] = '\0';
	while (k < ARRAY_SIZE(changes) && strcasecmp(word, changes[k].word) != 0)
		k++;
	if (k == ARRAY_SIZE(changes)) {
		(void)bad(err, change, "not a change that is known");
		return error_hint(err, "CMD, ENTRYPOINT, ENV, USER, WORKDIR, EXPOSE, LABEL, VOLUME or STOPSIGNAL");
	}
	if (!*rest && changes[k].fn != change_command)
		return bad(err, change, "there is no value");
	if (changes[k].fn(object_in(config, "config"), changes[k].key, rest) < 0)
		return bad(err, change, changes[k].why ? changes[k].why : "not understood");
	return 0;
}
