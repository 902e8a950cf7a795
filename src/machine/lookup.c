/* Questions about machines that only need their records. */
#include <fcntl.h>

#include "machine/machine.h"
#include "machine/plan.h"
#include "machine/record.h"

int machine_plan_json(const struct store *s, const struct name *name, struct json **ret, struct error *err)
{
	_cleanup_close_ int dir = store_machine_open(s, name, err);
	_cleanup_spec_ struct machine_spec spec = {};
	_cleanup_facts_ struct plan_facts facts = {};
	_cleanup_plan_ struct plan plan = {};
	_cleanup_json_ struct json *tree = NULL;
	int r;

	if (dir < 0)
		return dir;
	r = machine_spec_load(dir, name->s, &spec, &tree, err);
	if (r >= 0)
		r = plan_facts_gather(s, &spec, &facts, err);
	if (r >= 0)
		r = plan_make(&spec, &facts, &plan, err);
	if (r < 0)
		return r;
	*ret = plan_json(&spec, &facts, &plan);
	return 0;
}

/* Calls @uses for every readable spec until it says yes. */
static int find_user(const struct store *s, bool (*uses)(const struct machine_spec *, const char *), const char *what,
		     char **ret_by)
{
	_cleanup_strv_ struct strv names = {};
	int r = store_machine_names(s, &names, NULL);

	for (size_t i = 0; r >= 0 && i < names.n; i++) {
		_cleanup_spec_ struct machine_spec spec = {};
		_cleanup_json_ struct json *tree = NULL;
		_cleanup_close_ int dir = -EBADF;
		struct name n;

		if (name_parse(names.items[i], "machine name", &n, NULL) < 0)
			continue;
		dir = store_machine_open(s, &n, NULL);
		if (dir < 0)
			continue;
		/* A record that cannot be read may name anything: nothing of what it might name goes. */
		r = machine_spec_load(dir, n.s, &spec, &tree, NULL);
		if (r == -ENOENT || r == -ENOTDIR) {
			r = 0;
			continue;
		}
		if (r < 0) {
			*ret_by = xasprintf("machine '%s', whose record is damaged", n.s);
			return 1;
		}
		if (uses(&spec, what)) {
			*ret_by = xasprintf("machine '%s'", n.s);
			return 1;
		}
	}
	return r < 0 ? r : 0;
}

static bool uses_digest(const struct machine_spec *spec, const char *digest)
{
	return streq(spec->image_digest, digest) || (spec->home_digest && streq(spec->home_digest, digest)) ||
	       (spec->blank_digest && streq(spec->blank_digest, digest));
}

static bool uses_kernel(const struct machine_spec *spec, const char *kernel)
{
	return spec->kernel && streq(spec->kernel, kernel);
}

int machine_uses_image(const char *digest, char **ret_by, void *data)
{
	return find_user(data, uses_digest, digest, ret_by);
}

/* A monitor that takes over a running machine makes its plan again, kernel and all; what was the default at its start need not be named. */
static bool runs_by_kernel(const struct store *s, const struct name *name, const char *kernel)
{
	_cleanup_(machine_state_done) struct machine_state st = {};
	_cleanup_(machine_begun_done) struct machine_begun begun = {};
	int r = machine_state_load(s, name->s, &st, NULL);

	if (r == -ENOENT) {
		_cleanup_close_ int dir = store_machine_open(s, name, NULL);

		if (dir >= 0 && machine_begun_load(dir, NULL, &begun))
			r = machine_begun_state(s, name->s, &begun, &st, NULL);
	}
	return r >= 0 && st.kernel && streq(st.kernel, kernel) && streq(st.boot_id, boot_id()) &&
	       (machine_recorded_alive(st.engine_pid, st.engine_start) ||
		machine_recorded_alive(st.monitor_pid, st.monitor_start));
}

int machine_uses_kernel(const char *kernel, char **ret_by, void *data)
{
	const struct store *s = data;
	_cleanup_strv_ struct strv names = {};
	struct name n;
	int r = find_user(s, uses_kernel, kernel, ret_by);

	if (r == 0)
		r = store_machine_names(s, &names, NULL);
	for (size_t i = 0; r == 0 && i < names.n; i++)
		if (name_parse(names.items[i], "machine name", &n, NULL) >= 0 && runs_by_kernel(s, &n, kernel)) {
			*ret_by = xasprintf("machine '%s', which runs", n.s);
			r = 1;
		}
	return r;
}

int machine_path(const struct store *s, const struct name *name, const char *resource, char **ret, struct error *err)
{
	static const struct {
		const char *resource, *file;
	} files[] = {
		{ "spec", "/machine.json" },       { "system", "/system.qcow2" },
		{ "home", "/home.qcow2" },         { "", "" },
		{ "console.log", "/console.log" }, { "engine.log", "/engine.log" },
	};
	_cleanup_close_ int dir = store_machine_open(s, name, err);

	if (dir < 0)
		return dir;
	if (streq(resource, "run")) {
		*ret = machine_run_path(s, name);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		if (streq(resource, files[i].resource)) {
			*ret = xasprintf("%s/machines/%s%s", s->home_path, name->s, files[i].file);
			return 0;
		}
	error_set_kind(err, ERROR_USAGE, EINVAL, "path: no resource '%s'", resource);
	return error_hint(err, "resources: spec, system, home, console.log, engine.log, run");
}

char *machine_known_hosts_path(const struct store *s, const struct name *name)
{
	return xasprintf("%s/machines/%s/ssh/known_hosts", s->home_path, name->s);
}
