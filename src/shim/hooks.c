#include "shim/hooks.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/spawn.h"

#define HOOK_TIMEOUT_NS (60 * NS_PER_SEC)
enum { OUTPUT_MAX = 64 << 10, CONFIG_LIMIT = 4 << 20 };

static void strings(const struct json *a, struct strv *to)
{
	for (size_t i = 0; i < json_length(a); i++)
		if (json_string(json_at(a, i)))
			strv_add(to, json_string(json_at(a, i)));
}

static int run_one(const struct json *hook, const struct buf *state, uint64_t deadline_ns, struct error *err)
{
	const char *path = json_string(json_get(hook, "path"));
	_cleanup_strv_ struct strv argv = {}, env = {};
	static const char *const none[] = { NULL };
	uint64_t timeout = 0, now = clock_monotonic_ns();
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
	if (now >= deadline_ns)
		return error_set(err, ETIMEDOUT, "%s: there is no time left for it", path);
	timeout = timeout && timeout < UINT64_MAX / NS_PER_SEC ? timeout * NS_PER_SEC : HOOK_TIMEOUT_NS;
	if (timeout > deadline_ns - now)
		timeout = deadline_ns - now;
	return spawn_check(&s, state, NULL, OUTPUT_MAX, timeout, err);
}

static int run_until(const struct json *spec, const char *kind, const char *id, const char *status, pid_t pid,
		     const char *bundle, uint64_t deadline_ns, struct error *err)
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
		int r = run_one(json_at(hooks, i), &text, deadline_ns, err);

		if (r < 0)
			return error_prefix(err, "%s hook", kind);
	}
	return 0;
}

int hooks_run(const struct json *spec, const char *kind, const char *id, const char *status, pid_t pid,
	      const char *bundle, struct error *err)
{
	return run_until(spec, kind, id, status, pid, bundle, UINT64_MAX, err);
}

int hooks_make_up(int bundle_fd, const char *bundle, const char *id, uint64_t deadline_ns, struct error *err)
{
	_cleanup_json_ struct json *spec = NULL;
	_cleanup_buf_ struct buf text = {};
	int r = file_read_at(bundle_fd, "config.json", CONFIG_LIMIT, &text);

	if (r < 0)
		return error_set_errno(err, r, "%s/config.json", bundle);
	r = json_parse(text.p ? text.p : "", text.len, "config.json", &spec, err);
	return r < 0 ? r : run_until(spec, "poststop", id, "stopped", 0, bundle, deadline_ns, err);
}
