/* skerry-monitor NAME [--adopt] [--attach]: started by machine_start() with the machine's lock on descriptor 3 and a pipe for its report on
 * descriptor 4; not for people. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "machine/monitor.h"
#include "machine/record.h"
#include "machine/report.h"
#include "monitor.pb-c.h"

enum { LOCK_FD = 3, REPORT_FD = 4, ENGINE_LOG_MAX = 1 << 20 };
#define RESTART_FIRST_NS   NS_PER_SEC
#define RESTART_LONGEST_NS (60 * NS_PER_SEC)
/* A run that lasted this long was a good one: the pause before the next restart starts over. */
#define RESTART_GOOD_RUN_NS (60 * NS_PER_SEC)

static void answer_ended(struct monitor *m)
{
	Skerry__Monitor__V1__WaitResponse wait = SKERRY__MONITOR__V1__WAIT_RESPONSE__INIT;
	Skerry__Monitor__V1__StopResponse stop = SKERRY__MONITOR__V1__STOP_RESPONSE__INIT;
	_cleanup_buf_ struct buf w = {}, s = {};
	_cleanup_free_ char *how = xstrdup(m->stop_how ? m->stop_how : "gone");
	struct wait_ticket *t;

	wait.exit_status = m->main_exited ? m->main_status : -1;
	wait.reason = m->exit_reason;
	stop.how = how;
	skerry__monitor__v1__wait_response__pack(
		&wait, buf_reserve(&w, skerry__monitor__v1__wait_response__get_packed_size(&wait) + 1));
	buf_commit(&w, skerry__monitor__v1__wait_response__get_packed_size(&wait));
	skerry__monitor__v1__stop_response__pack(
		&stop, buf_reserve(&s, skerry__monitor__v1__stop_response__get_packed_size(&stop) + 1));
	buf_commit(&s, skerry__monitor__v1__stop_response__get_packed_size(&stop));
	while ((t = m->waits)) {
		m->waits = t->next;
		if (t->event == -1)
			control_reply(m->control, t->ticket, s.p, s.len);
		else if (t->event == SKERRY__MONITOR__V1__WAIT_REQUEST__EVENT__EXIT)
			control_reply(m->control, t->ticket, w.p, w.len);
		else
			control_reply_error(m->control, t->ticket, ESRCH, m->exit_reason);
		free(t);
	}
}

static int on_signal(struct loop_source *s, const struct signalfd_siginfo *si, void *data)
{
	(void)s;
	log_info("signal %u: stopping", si->ssi_signo);
	monitor_begin_stop(data, 60 * NS_PER_SEC);
	return 0;
}

static int on_pause_over(struct loop_source *s, void *data)
{
	struct monitor *m = data;

	(void)s;
	loop_exit(m->loop, 0);
	return 0;
}

/* Forgets the run that ended, keeps what belongs to the machine and its record. */
static void reset_run(struct monitor *m)
{
	m->engine_pidfd = m->helper_pidfd = m->clock_fd = m->vhost_fd = m->vsock_fd = -EBADF;
	m->stop = STOP_NONE;
	m->stop_main_ns = 0;
	m->stop_how = NULL;
	m->guest_ending = m->guest_reboots = m->guest_panicked = m->guest_reset = m->guest_shut_down = false;
	m->engine_gone = m->main_started = m->main_exited = false;
	memset(m->draining, 0, sizeof(m->draining));
	m->state.engine_pid = m->state.engine_start = m->state.helper_pid = m->state.helper_start = 0;
	m->state.vsock_cid = 0;
	free(m->useless);
	m->useless = NULL;
	m->state.agent_ready = false;
}

/* Returns false when somebody asked for the end meanwhile. */
static bool pause_before_restart(struct monitor *m, uint64_t pause_ns)
{
	_cleanup_(loop_source_freep) struct loop_source *timer = NULL;
	_cleanup_error_ struct error e = {};

	m->state.status = MACHINE_STARTING;
	m->state.restarts++;
	m->run_fd = store_machine_run_dir(&m->store, &m->name, &e);
	if (m->run_fd < 0 || monitor_save_state(m, &e) < 0)
		log_warning("%s, ignoring", e.msg);
	if (loop_add_timer(m->loop, &timer, clock_monotonic_ns() + pause_ns, on_pause_over, m) < 0)
		return true;
	(void)loop_run(m->loop);
	m->run_fd = safe_close(m->run_fd);
	return m->stop == STOP_NONE;
}

/* One run, from acquisition to the engine's end. Errors: it could not be started; everything is released again. */
static int run_once(struct monitor *m, bool adopt, struct error *err)
{
	_cleanup_error_ struct error e = {};
	int r = adopt ? monitor_adopt(m, &e) : monitor_acquire(m, &e);

	if (r >= 0)
		r = loop_run(m->loop);
	if (r < 0 && !e.num)
		error_set_errno(&e, r, "machine '%s': event loop", m->name.s);
	if (r >= 0) {
		monitor_conclude(m);
		if (m->report_fd >= 0) {
			r = error_set(&e, EIO, "machine '%s': %s", m->name.s, m->exit_reason);
			error_hint(&e, "skerry logs --engine %s", m->name.s);
		}
	}
	if (r < 0)
		(void)error_move(err, &e);
	return r;
}

static void supervise(struct monitor *m, bool adopt)
{
	uint64_t pause_ns = RESTART_FIRST_NS;

	for (;;) {
		_cleanup_error_ struct error e = {};
		uint64_t began = clock_monotonic_ns();
		int r = run_once(m, adopt, &e);
		bool again;

		adopt = false;
		m->attach = false;
		if (r < 0) {
			struct machine_exit x = { .started_ns = clock_realtime_ns(),
						  .ended_ns = clock_realtime_ns(),
						  .failed = true,
						  .reason = e.msg };

			log_error("%s", e.msg);
			/* A start that never was leaves its reason only where somebody asked for a restart in the background. */
			if (m->report_fd < 0)
				(void)machine_exit_save(m->machine_fd, m->name.s, &x, NULL);
			free(m->exit_reason);
			m->exit_reason = xstrdup(e.msg);
		}
		again = r >= 0 && m->restart_wanted;
		if (!again) {
			monitor_release(m);
			m->run_fd = safe_close(m->run_fd);
			/* Everything is released: nothing is left to recover from. */
			if (fault_point("stop.forget") >= 0)
				(void)remove_tree_at(m->store.run_fd, m->name.s);
			if (m->spec.remove && r >= 0) {
				_cleanup_error_ struct error gone = {};

				if (machine_remove_files(&m->store, &m->name, &gone) < 0)
					log_error("%s", gone.msg);
			}
			m->lock_fd = safe_close(m->lock_fd);
			if (r < 0)
				monitor_report(m, &e);
			if (m->control)
				answer_ended(m);
			return;
		}
		monitor_release(m);
		if (clock_monotonic_ns() - began > RESTART_GOOD_RUN_NS || m->guest_reboots)
			pause_ns = RESTART_FIRST_NS;
		again = m->guest_reboots || m->guest_reset;
		reset_run(m);
		if (!pause_before_restart(m, again ? 0 : pause_ns)) {
			(void)remove_tree_at(m->store.run_fd, m->name.s);
			m->lock_fd = safe_close(m->lock_fd);
			answer_ended(m);
			return;
		}
		pause_ns = pause_ns * 2 < RESTART_LONGEST_NS ? pause_ns * 2 : RESTART_LONGEST_NS;
	}
}

static int open_log(struct monitor *m)
{
	off_t size;

	m->log_fd = openat(m->machine_fd, "engine.log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (m->log_fd < 0)
		return -errno;
	size = lseek(m->log_fd, 0, SEEK_END);
	if (size > ENGINE_LOG_MAX) {
		(void)renameat(m->machine_fd, "engine.log", m->machine_fd, "engine.log.1");
		safe_close(m->log_fd);
		m->log_fd = openat(m->machine_fd, "engine.log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW,
				   0600);
	}
	log_setup(m->log_fd, LOG_LEVEL_INFO, true);
	return 0;
}

static int prepare(struct monitor *m, const char *name, struct error *err)
{
	static const int ignored[] = { SIGPIPE, SIGHUP };
	_cleanup_json_ struct json *tree = NULL;
	int r = name_parse(name, "machine name", &m->name, err);

	if (r >= 0)
		r = store_open(&m->store, err);
	if (r >= 0)
		r = m->machine_fd = store_machine_open(&m->store, &m->name, err);
	if (r >= 0)
		r = machine_spec_load(m->machine_fd, m->name.s, &m->spec, &tree, err);
	if (r < 0)
		return r;
	r = open_log(m);
	if (r < 0)
		return error_set_errno(err, r, "machine '%s': cannot write engine.log", m->name.s);
	for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
		signal(ignored[i], SIG_IGN);
	r = loop_new(&m->loop);
	if (r >= 0)
		r = loop_add_signal(m->loop, &m->term_source, SIGTERM, on_signal, m);
	if (r >= 0)
		r = loop_add_signal(m->loop, &m->int_source, SIGINT, on_signal, m);
	return r < 0 ? error_set_errno(err, r, "cannot make an event loop") : 0;
}

/* The holder named in the lock file becomes this process: whoever meets the lock is told of the monitor. */
static void sign_lock(struct monitor *m)
{
	_cleanup_free_ char *line = xasprintf("%d skerry-monitor %s\n", (int)getpid(), m->name.s);

	if (ftruncate(m->lock_fd, 0) == 0)
		(void)pwrite_full(m->lock_fd, line, strlen(line), 0);
}

static void cleanup(struct monitor *m)
{
	m->control = control_free(m->control);
	loop_source_free(m->term_source);
	loop_source_free(m->int_source);
	loop_free(m->loop);
	machine_spec_done(&m->spec);
	machine_state_done(&m->state);
	json_free(m->state_tree);
	free(m->exit_reason);
	free(m->useless);
	safe_close(m->machine_fd);
	safe_close(m->log_fd);
	safe_close(m->lock_fd);
	safe_close(m->report_fd);
	store_done(&m->store);
}

int main(int argc, char **argv)
{
	struct monitor m = {
		.machine_fd = -EBADF, .run_fd = -EBADF, .log_fd = -EBADF, .lock_fd = LOCK_FD, .report_fd = REPORT_FD
	};
	_cleanup_error_ struct error e = {};
	bool adopt = false;

	if (argc < 2 || fcntl(LOCK_FD, F_SETFD, FD_CLOEXEC) < 0 || fcntl(REPORT_FD, F_SETFD, FD_CLOEXEC) < 0) {
		fprintf(stderr, "skerry-monitor: started by `skerry start`, not by people\n");
		return 64;
	}
	for (int i = 2; i < argc; i++) {
		adopt = adopt || streq(argv[i], "--adopt");
		m.attach = m.attach || streq(argv[i], "--attach");
	}
	reset_run(&m);
	if (prepare(&m, argv[1], &e) < 0) {
		/* Whoever hears of it may try again at once. */
		m.lock_fd = safe_close(m.lock_fd);
		monitor_report(&m, &e);
		cleanup(&m);
		return error_exit_status(&e);
	}
	sign_lock(&m);
	supervise(&m, adopt);
	cleanup(&m);
	return 0;
}
