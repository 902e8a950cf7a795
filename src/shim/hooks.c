#include "shim/hooks.h"

#include "base/clock.h"
#include "base/memory.h"
#include "base/spawn.h"

#define HOOK_TIMEOUT_NS (60 * NS_PER_SEC)
enum { OUTPUT_MAX = 64 << 10 };

static void strings(const struct json *a, struct strv *to)
{
	for (size_t i = 0; i < json_length(a); i++)
		if (json_string(json_at(a, i)))
			strv_add(to, json_string(json_at(a, i)));
}

static int run_one(const struct json *hook, const struct buf *state, struct error *err)
{
	const char *path = json_string(json_get(hook, "path"));
	_cleanup_strv_ struct strv argv = {}, env = {};
	static const char *const none[] = { NULL };
	uint64_t timeout = 0;
	struct spawn s = SPAWN_INIT;

	if (!path || path[0] != '/')
		return error_set_kind(err, ERROR_DATA, EINVAL, "config.json: hooks: a hook's path is not absolute");
	strings(json_get(hook, "args"), &argv);
	if (!argv.n)
		strv_add(&argv, path);
	/* What is executed is the path; its first argument is its own affair. */
	free(argv.items[0]);
	argv.items[0] = xstrdup(path);
	strings(json_get(hook, "env"), &env);
	(void)json_u64(json_get(hook, "timeout"), &timeout);
	s.argv = (const char *const *)argv.items;
	s.env = env.n ? (const char *const *)env.items : none;
	return spawn_check(&s, state, NULL, OUTPUT_MAX, timeout ? timeout * NS_PER_SEC : HOOK_TIMEOUT_NS, err);
}

int hooks_run(const struct json *spec, const char *kind, const char *id, const char *status, pid_t pid,
	      const char *bundle, struct error *err)
{
	const struct json *hooks = json_get(json_get(spec, "hooks"), kind);
	const char *version = json_string(json_get(spec, "ociVersion"));
	_cleanup_json_ struct json *state = NULL;
	_cleanup_buf_ struct buf text = {};

	if (!json_length(hooks))
		return 0;
	state = json_object();
	json_set_string(state, "ociVersion", version ? version : "1.0.2");
	json_set_string(state, "id", id);
	json_set_string(state, "status", status);
	if (pid > 0)
		json_set_u64(state, "pid", (uint64_t)pid);
	json_set_string(state, "bundle", bundle);
	if (json_get(spec, "annotations"))
		json_set(state, "annotations", json_ref(json_get(spec, "annotations")));
	json_render(state, false, &text);
	for (size_t i = 0; i < json_length(hooks); i++) {
		int r = run_one(json_at(hooks, i), &text, err);

		if (r < 0)
			return error_prefix(err, "%s hook", kind);
	}
	return 0;
}
