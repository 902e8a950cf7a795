/* The one way out of a crash. A monitor records in run/NAME/state.json what it is about to acquire; whoever holds the machine's lock can
 * release all of it from there, any number of times. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "engine/host_cgroup.h"
#include "machine/record.h"
#include "net/net.h"

int machine_exit_save(int machine_fd, const char *name, const struct machine_exit *e, struct error *err)
{
	_cleanup_free_ char *what = xasprintf("machines/%s/exit.json", name);
	_cleanup_json_ struct json *tree = NULL;
	int r = record_write(machine_fd, "exit.json", what, machine_exit_fields, e, &tree, RECORD_DURABLE, err);

	if (r >= 0)
		machine_begun_forget(machine_fd);
	return r;
}

/* Kills a recorded process and waits for its end; -ESRCH (it has gone) is success. */
static int end_process(uint64_t pid, uint64_t start, const char *what, struct error *err)
{
	struct process_id id = machine_process(pid, start);
	_cleanup_close_ int pidfd = -EBADF;
	int r;

	if (pid <= 1 || pid > INT32_MAX)
		return 0;
	pidfd = process_open(&id);
	if (pidfd < 0)
		return 0;
	(void)pidfd_kill(pidfd, SIGKILL);
	r = pidfd_wait_exit(pidfd, clock_monotonic_ns() + 10 * NS_PER_SEC);
	if (r < 0)
		return error_set_errno(err, r, "%s with pid %llu does not end", what, (unsigned long long)pid);
	return 0;
}

static void release_network(const struct store *s, const struct machine_spec *spec, const struct machine_state *st)
{
	const struct net_mode *mode = st->net ? net_mode_find(st->net) : NULL;
	_cleanup_free_ char *run_dir = xasprintf("%s/%s", s->run_path, spec->name);
	struct net_request req = { .machine_id = spec->id, .run_dir = run_dir, .log_fd = -1 };

	if (mode && spec->id)
		mode->release(&req);
}

static void record_end(int machine_fd, const char *name, uint64_t started_ns, char *reason)
{
	struct machine_exit e = {
		.started_ns = started_ns, .ended_ns = clock_realtime_ns(), .failed = true, .reason = reason
	};
	_cleanup_error_ struct error lost = {};
	int r = fault_point("recover.exit");

	if (r >= 0)
		r = machine_exit_save(machine_fd, name, &e, &lost);
	/* Where there is no space left, it is deleting that makes some. */
	if (r < 0)
		log_warning("how the run of '%s' ended is not recorded, ignoring: %s", name,
			    lost.msg ? lost.msg : "fault");
}

/* What began, where no record of the run is left or where it is not ours: 0, or why the machine must be left alone. */
static int recover_begun(const struct store *s, const struct name *name, int machine_fd, enum recovery *ret,
			 struct error *err)
{
	_cleanup_(machine_begun_done) struct machine_begun begun = {};
	_cleanup_(machine_state_done) struct machine_state st = {};
	_cleanup_(machine_exit_done) struct machine_exit last = {};
	_cleanup_json_ struct json *tree = NULL;
	_cleanup_free_ char *reason = NULL;
	bool has_exit = record_read(machine_fd, "exit.json", "exit.json", machine_exit_fields, &last, &tree, NULL) >= 0;

	if (!machine_begun_load(machine_fd, has_exit ? &last : NULL, &begun))
		return 0;
	if (machine_begun_state(s, name->s, &begun, &st, NULL) >= 0 && streq(st.boot_id, boot_id()) &&
	    machine_recorded_alive(st.engine_pid, st.engine_start)) {
		error_set_kind(err, ERROR_BUSY, EXDEV, "machine '%s' runs, but its run directory is below %s", name->s,
			       begun.run_path);
		return error_hint(err,
				  "was it started with another XDG_RUNTIME_DIR? SKERRY_RUN_DIR=%s says where it is",
				  begun.run_path);
	}
	reason = machine_begun_reason(&begun);
	record_end(machine_fd, name->s, begun.started_ns, reason);
	*ret = RECOVERY_CUT;
	return 0;
}

/* Errors that only mean that a record is damaged are not errors here: the record is about to go. */
int machine_recover(const struct store *s, const struct name *name, int machine_fd, enum recovery *ret,
		    struct error *err)
{
	_cleanup_(machine_state_done) struct machine_state st = {};
	_cleanup_spec_ struct machine_spec spec = {};
	_cleanup_json_ struct json *tree = NULL;
	bool same_boot;
	int r;

	*ret = RECOVERY_IDLE;
	r = machine_state_load(s, name->s, &st, NULL);
	if (r == -ENOENT)
		return recover_begun(s, name, machine_fd, ret, err);
	if (r == -EBADMSG)
		st.boot_id = xstrdup("");
	else if (r < 0)
		return error_set_errno(err, r, "cannot read run/%s/state.json", name->s);
	/* Not to know must not look like a restart of the host: a live machine's record would be thrown away. */
	if (!*boot_id())
		return error_set(err, EIO, "cannot read the host's boot id");
	same_boot = streq(st.boot_id, boot_id());
	if (same_boot) {
		struct process_id engine = machine_process(st.engine_pid, st.engine_start);
		bool settled =
			st.status == MACHINE_RUNNING || st.status == MACHINE_PAUSED || st.status == MACHINE_STOPPING;

		/* One that is being killed is nothing to adopt: its end is waited for. */
		if (settled && machine_recorded_alive(st.engine_pid, st.engine_start) && !process_ending(&engine)) {
			*ret = RECOVERY_ADOPT;
			return 0;
		}
		r = end_process(st.engine_pid, st.engine_start, st.engine ? st.engine : "the engine", err);
		if (r >= 0)
			r = end_process(st.helper_pid, st.helper_start, "the network's helper", err);
		if (r < 0)
			return r;
	}
	(void)machine_spec_load(machine_fd, name->s, &spec, &tree, NULL);
	if (spec.name)
		release_network(s, &spec, &st);
	host_cgroup_remove(&st.cgroups, clock_monotonic_ns() + 2 * NS_PER_SEC);
	if (st.started_ns) {
		char killed[] = "its monitor and engine were killed", reboot[] = "the host was restarted";

		record_end(machine_fd, name->s, st.started_ns, same_boot ? killed : reboot);
	}
	r = fault_point("recover.remove");
	if (r >= 0)
		r = remove_tree_at(s->run_fd, name->s);
	if (r < 0)
		return error_set_errno(err, r, "cannot remove run/%s", name->s);
	if (st.started_ns && st.status != MACHINE_STOPPING)
		*ret = RECOVERY_CUT;
	return 0;
}

int machine_remove_files(const struct store *s, const struct name *name, struct error *err)
{
	_cleanup_free_ char *gone = xasprintf(".tmp-delete-%s-%llx", name->s, (unsigned long long)clock_realtime_ns());
	int r = fault_point("delete.run");

	if (r >= 0)
		r = remove_tree_at(s->run_fd, name->s);
	if (r >= 0)
		r = fault_point("delete.rename");
	/* The name is free from here on, whatever happens to the rest. */
	if (r >= 0 && renameat(s->machines_fd, name->s, s->machines_fd, gone) < 0)
		r = -errno;
	if (r < 0)
		return error_set_errno(err, r, "cannot remove machine '%s'", name->s);
	(void)fsync_dir(s->machines_fd);
	r = fault_point("delete.files");
	if (r >= 0)
		r = remove_tree_at(s->machines_fd, gone);
	/* On NFS a file that somebody still has open keeps its directory from going (.nfsXXXX). What is left under a temporary name is
	 * collected by the next create. */
	if (r == -EBUSY || r == -ENOTEMPTY) {
		log_debug("machines/%s is not empty yet, ignoring", gone);
		r = 0;
	}
	if (r < 0)
		return error_set_errno(err, r, "machine '%s' is gone, but not all of its files (machines/%s)", name->s,
				       gone);
	return 0;
}
