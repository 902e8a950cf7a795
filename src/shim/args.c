#include "shim/args.h"

#include <stddef.h>
#include <string.h>

#include "base/memory.h"
#include "base/parse.h"

static const struct {
	const char *name;
	size_t offset;
	bool boolean;
} flags[] = {
	{ "namespace", offsetof(struct shim_args, namespace), false },
	{ "id", offsetof(struct shim_args, id), false },
	{ "address", offsetof(struct shim_args, address), false },
	{ "publish-binary", offsetof(struct shim_args, publish_binary), false },
	{ "bundle", offsetof(struct shim_args, bundle), false },
	{ "socket", offsetof(struct shim_args, socket), false },
	{ "debug", offsetof(struct shim_args, debug), true },
	{ "info", offsetof(struct shim_args, info), true },
	{ "v", offsetof(struct shim_args, version), true },
	{ "version", offsetof(struct shim_args, version), true },
};

static int set(struct shim_args *a, const char *name, size_t len, const char *value, int *ret_taken, const char *next,
	       struct error *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		char *at = (char *)a + flags[i].offset;

		if (strlen(flags[i].name) != len || memcmp(flags[i].name, name, len) != 0)
			continue;
		if (flags[i].boolean) {
			bool yes = true;

			if (value && parse_bool(value, &yes) < 0)
				return error_set_kind(err, ERROR_USAGE, EINVAL, "-%s: '%s' is neither true nor false",
						      flags[i].name, value);
			*(bool *)at = yes;
			return 0;
		}
		if (!value) {
			if (!next)
				return error_set_kind(err, ERROR_USAGE, EINVAL, "-%s needs a value", flags[i].name);
			value = next;
			*ret_taken = 1;
		}
		*(const char **)at = value;
		return 0;
	}
	return error_set_kind(err, ERROR_USAGE, EINVAL, "unknown flag -%.*s", (int)len, name);
}

int shim_args_parse(int argc, char **argv, struct shim_args *ret, struct error *err)
{
	struct shim_args a = { "", "", "", "", "", "", false, false, false, "" };

	for (int i = 1; i < argc; i++) {
		const char *s = argv[i], *value;
		int taken = 0, r;

		if (s[0] != '-' || !s[1]) {
			if (*a.action)
				return error_set_kind(err, ERROR_USAGE, EINVAL, "two actions, '%s' and '%s'", a.action,
						      s);
			a.action = s;
			continue;
		}
		s += s[1] == '-' ? 2 : 1;
		value = strchr(s, '=');
		r = set(&a, s, value ? (size_t)(value - s) : strlen(s), value ? value + 1 : NULL, &taken,
			i + 1 < argc ? argv[i + 1] : NULL, err);
		if (r < 0)
			return r;
		i += taken;
	}
	*ret = a;
	return 0;
}
