/* Starting and deleting: what a command does with a machine's lock in hand. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "base/spawn.h"
#include "machine/client.h"
#include "machine/machine.h"
#include "machine/record.h"
#include "machine/report.h"
#include "machine/scope.h"
#include "store/paths.h"

/* How long a monitor may take until the engine runs: QEMU's start on a loaded host, a disk that sleeps. */
#define MONITOR_READY_NS (60 * NS_PER_SEC)
/* While a lock is waited for: whoever holds it may be a monitor by now, which keeps it. */
#define LOOK_AGAIN_NS (200 * NS_PER_MS)
/* From the end of a monitor's pipe to its own. */
#define MONITOR_GONE_NS (10 * NS_PER_SEC)

/* Starts it by @prefix, which may be empty, and waits for its report. *ret_prefix_failed: the prefix it was that could not. */
static int spawn_by(const struct strv *prefix, const char *const *words, int lock_fd, bool *ret_prefix_failed,
		    struct error *err)
{
	enum { CHILD_LOCK = 3, CHILD_REPORT = 4 };
	_cleanup_close_ int rd = -EBADF, wr = -EBADF, pidfd = -EBADF;
	_cleanup_strv_ struct strv argv = {};
	struct spawn sp = SPAWN_INIT;
	struct spawn_fd fds[2];
	int p[2], r, status;

	*ret_prefix_failed = false;
	if (pipe2(p, O_CLOEXEC) < 0)
		return error_set_errno(err, errno, "cannot create a pipe");
	rd = p[0];
	wr = p[1];
	strv_copy(&argv, prefix);
	for (; *words; words++)
		strv_add(&argv, *words);
	fds[0] = (struct spawn_fd){ lock_fd, CHILD_LOCK };
	fds[1] = (struct spawn_fd){ wr, CHILD_REPORT };
	sp.argv = (const char *const *)argv.items;
	sp.fds = fds;
	sp.n_fds = 2;
	sp.cwd = "/";
	sp.new_session = true;
	r = fault_point("start.monitor");
	if (r < 0)
		return error_set_errno(err, r, "cannot start a monitor");
	r = spawn_start(&sp, NULL, &pidfd, err);
	if (r < 0)
		return r;
	wr = safe_close(wr);
	r = report_receive(rd, clock_monotonic_ns() + MONITOR_READY_NS, err);
	/* A monitor says why it ends, unless it is killed. Then it may have the lock for a moment yet, and whoever hears of it may try again at once. */
	if (r == -ECHILD && pidfd_wait_exit(pidfd, clock_monotonic_ns() + MONITOR_GONE_NS) >= 0 && prefix->n &&
	    pidfd_reap(pidfd, &status) >= 0)
		*ret_prefix_failed = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FAILURE;
	return r;
}

int monitor_spawn(const struct name *name, int lock_fd, bool adopt, bool attach, struct error *err)
{
	_cleanup_free_ char *program = libexec_path("skerry-monitor");
	const char *words[5] = { program, name->s };
	_cleanup_strv_ struct strv scope = {}, none = {};
	_cleanup_error_ struct error e = {};
	bool scope_failed;
	int r, n = 2;

	if (!program)
		return error_set_kind(err, ERROR_UNAVAILABLE, ENOENT, "skerry-monitor: not installed beside skerry");
	if (adopt)
		words[n++] = "--adopt";
	if (attach)
		words[n++] = "--attach";
	(void)scope_command(name->s, &scope);
	r = spawn_by(&scope, words, lock_fd, &scope_failed, &e);
	if (scope_failed) {
		/* No reason not to start a machine. */
		log_debug("no scope for machine '%s': it is a detached process", name->s);
		return spawn_by(&none, words, lock_fd, &scope_failed, err);
	}
	return r < 0 ? error_move(err, &e) : 0;
}

/* A live monitor holds the lock for as long as its machine runs: that is nothing to wait for. */
static bool runs_already(const struct store *s, const struct name *name)
{
	struct machine_info info;
	bool runs;

	if (machine_info_load(s, name, &info, NULL) < 0)
		return false;
	runs = info.monitor_alive && (info.status == MACHINE_RUNNING || info.status == MACHINE_PAUSED);
	machine_info_done(&info);
	return runs;
}

static int lock_for_start(const struct store *s, const struct name *name, uint64_t wait_ns, bool *ret_already,
			  struct error *err)
{
	uint64_t begun_ns = clock_monotonic_ns(), slice_ns = 0;

	*ret_already = false;
	for (;;) {
		_cleanup_error_ struct error busy = {};
		int lock = store_machine_lock(s, name, slice_ns, &busy);
		uint64_t waited_ns;

		if (lock >= 0)
			return lock;
		*ret_already = lock == -EBUSY && runs_already(s, name);
		waited_ns = clock_monotonic_ns() - begun_ns;
		if (*ret_already || lock != -EBUSY || waited_ns >= wait_ns)
			return error_move(err, &busy);
		slice_ns = wait_ns - waited_ns < LOOK_AGAIN_NS ? wait_ns - waited_ns : LOOK_AGAIN_NS;
	}
}

int machine_start(const struct store *s, const struct name *name, const struct start_options *o, bool *ret_already,
		  struct error *err)
{
	_cleanup_close_ int dir = -EBADF, lock = -EBADF;
	enum recovery found;
	int r;

	dir = store_machine_open(s, name, err);
	if (dir < 0)
		return dir;
	lock = lock_for_start(s, name, o->lock_wait_ns, ret_already, err);
	if (lock < 0)
		return *ret_already ? 0 : lock;
	/* The directory may have been deleted while the lock was waited for. */
	dir = safe_close(dir);
	dir = store_machine_open(s, name, err);
	if (dir < 0)
		return dir;
	r = machine_recover(s, name, dir, &found, err);
	if (r < 0)
		return r;
	r = monitor_spawn(name, lock, found == RECOVERY_ADOPT, o->hold_main, err);
	if (r >= 0 && found == RECOVERY_ADOPT)
		*ret_already = true;
	return r;
}

/* Asks the monitor to end the machine; success also when it goes away meanwhile. */
static int stop_for_delete(const struct store *s, const struct name *name, struct error *err)
{
	_cleanup_client_ struct client c = {};
	_cleanup_error_ struct error e = {};
	int r = client_connect(s, name, &c, &e);

	if (r == -ESRCH)
		return 0;
	if (r < 0)
		return error_move(err, &e);
	(void)client_call(&c, MONITOR_SERVICE, "Kill", NULL, 10 * NS_PER_SEC, NULL, NULL);
	return 0;
}

/* From the record of the run where the machine's own is damaged: that must not keep anybody from deleting it. */
static bool has_monitor(const struct store *s, const struct name *name)
{
	struct machine_info info;
	struct machine_state st;
	bool alive;
	int r = machine_info_load(s, name, &info, NULL);

	alive = r >= 0 && info.monitor_alive;
	machine_info_done(&info);
	if (r >= 0 || r == -ENOENT || machine_state_load(s, name->s, &st, NULL) < 0)
		return alive;
	alive = streq(st.boot_id, boot_id()) && machine_recorded_alive(st.monitor_pid, st.monitor_start);
	machine_state_done(&st);
	return alive;
}

/* Takes the lock of a machine that nobody runs any more. *ret_ended: it ran, and was ended. */
static int lock_for_delete(const struct store *s, const struct name *name, bool force, uint64_t wait_ns,
			   bool *ret_ended, struct error *err)
{
	_cleanup_error_ struct error busy = {};
	bool running;
	int lock = store_machine_lock(s, name, 0, &busy);

	*ret_ended = false;
	if (lock != -EBUSY)
		return lock < 0 ? error_move(err, &busy) : lock;
	running = has_monitor(s, name);
	if (running && !force) {
		error_set_kind(err, ERROR_BUSY, EBUSY, "machine '%s' is running", name->s);
		return error_hint(err, "`skerry stop %s` first, or `skerry delete --force %s`", name->s, name->s);
	}
	if (running) {
		int r = stop_for_delete(s, name, err);

		if (r < 0)
			return r;
		*ret_ended = true;
	}
	return store_machine_lock(s, name, running ? 30 * NS_PER_SEC : wait_ns, err);
}

/* Kills an engine without a monitor, and releases what it had; the lock is held. */
static int end_engine(const struct store *s, const struct name *name, int dir, struct error *err)
{
	struct machine_state st;
	enum recovery found;

	if (machine_state_load(s, name->s, &st, NULL) >= 0) {
		struct process_id id = machine_process(st.engine_pid, st.engine_start);
		_cleanup_close_ int pidfd = process_open(&id);

		if (pidfd >= 0 && pidfd_kill(pidfd, SIGKILL) >= 0)
			(void)pidfd_wait_exit(pidfd, clock_monotonic_ns() + 10 * NS_PER_SEC);
		machine_state_done(&st);
	}
	return machine_recover(s, name, dir, &found, err);
}

int machine_end(const struct store *s, const struct name *name, struct error *err)
{
	_cleanup_close_ int dir = store_machine_open(s, name, err), lock = -EBADF;
	enum recovery found;
	int r;

	if (dir < 0)
		return dir;
	lock = store_machine_lock(s, name, 0, err);
	if (lock < 0)
		return lock;
	r = machine_recover(s, name, dir, &found, err);
	return r >= 0 && found == RECOVERY_ADOPT ? end_engine(s, name, dir, err) : r;
}

int machine_delete(const struct store *s, const struct name *name, bool force, uint64_t lock_wait_ns, struct error *err)
{
	_cleanup_close_ int names = -EBADF, dir = -EBADF, lock = -EBADF;
	_cleanup_error_ struct error e = {};
	enum recovery found;
	bool ended;
	int r;

	dir = store_machine_open(s, name, err);
	if (dir < 0)
		return dir;
	lock = lock_for_delete(s, name, force, lock_wait_ns, &ended, &e);
	dir = safe_close(dir);
	if (lock >= 0)
		dir = store_machine_open(s, name, &e);
	/* One that was started with --rm goes with its end. */
	if (ended && (lock == -ENOENT || (lock >= 0 && dir == -ENOENT)))
		return 0;
	if (lock < 0 || dir < 0)
		return error_move(err, &e);
	r = machine_recover(s, name, dir, &found, err);
	if (r < 0)
		return r;
	if (found == RECOVERY_ADOPT && !force) {
		error_set_kind(err, ERROR_BUSY, EBUSY, "machine '%s' is running", name->s);
		return error_hint(err, "`skerry stop %s` first, or `skerry delete --force %s`", name->s, name->s);
	}
	if (found == RECOVERY_ADOPT)
		r = end_engine(s, name, dir, err);
	if (r < 0)
		return r;
	names = store_names_lock(s, 30 * NS_PER_SEC, err);
	return names < 0 ? names : machine_remove_files(s, name, err);
}
