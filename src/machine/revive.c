#include <fcntl.h>

#include "machine/record.h"

static bool is_to_run_always(int dir, const struct name *name)
{
	_cleanup_spec_ struct machine_spec spec = {};
	_cleanup_json_ struct json *tree = NULL;

	return machine_spec_load(dir, name->s, &spec, &tree, NULL) >= 0 && spec.restart == RESTART_ALWAYS;
}

int machine_revive(const struct store *s, const struct name *name, enum machine_revival *ret, struct error *err)
{
	_cleanup_close_ int dir = store_machine_open(s, name, err), lock = -EBADF;
	_cleanup_(machine_begun_done) struct machine_begun begun = {};
	_cleanup_error_ struct error busy = {};
	enum recovery found;
	bool has_run;
	int r;

	*ret = MACHINE_AS_IT_WAS;
	if (dir < 0)
		return dir;
	/* A run leaves its directory or, where the host was restarted, that it began; a clean end of it leaves neither. */
	has_run = faccessat(s->run_fd, name->s, F_OK, 0) >= 0;
	if (!has_run && !machine_begun_load(dir, NULL, &begun))
		return 0;
	lock = store_machine_lock(s, name, 0, &busy);
	/* Its monitor lives, or a command that looks after it. */
	if (lock < 0)
		return busy.kind == ERROR_BUSY ? 0 : error_move(err, &busy);
	r = machine_recover(s, name, dir, &found, err);
	if (r < 0)
		return r;
	if (found == RECOVERY_ADOPT) {
		r = monitor_spawn(name, lock, true, false, err);
		*ret = r < 0 ? MACHINE_AS_IT_WAS : MACHINE_ADOPTED;
		return r < 0 ? r : 0;
	}
	if (found == RECOVERY_CUT && is_to_run_always(dir, name)) {
		r = monitor_spawn(name, lock, false, false, err);
		*ret = r < 0 ? MACHINE_RELEASED : MACHINE_STARTED;
		return r;
	}
	if (has_run || found == RECOVERY_CUT)
		*ret = MACHINE_RELEASED;
	return 0;
}
