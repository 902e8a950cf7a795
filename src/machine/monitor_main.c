/* skerry-monitor NAME [--adopt] [--attach]: started by machine_start() with the machine's lock on descriptor 3 and a pipe for its report on
 * descriptor 4; not for people. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/prctl.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "machine/monitor.h"
#include "machine/record.h"
#include "machine/report.h"
#include "monitor.pb-c.h"

enum { LOCK_FD = 3, REPORT_FD = 4 };
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
	wait.failed = m->exit_failed;
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
	struct monitor *m = data;

	(void)s;
	log_info("signal %u: stopping", si->ssi_signo);
	m->reverting = false;
	m->asked = true;
	monitor_begin_stop(m, 60 * NS_PER_SEC);
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
	m->engine_pidfd = m->helper_pidfd = m->vhost_fd = m->vsock_fd = -EBADF;
	m->stop = STOP_NONE;
	m->stop_main_ns = 0;
	m->stop_how = NULL;
	m->guest_asked = m->main_ended_by_stop = false;
	m->guest_ending = m->guest_reboots = m->guest_panicked = m->guest_reset = m->guest_shut_down = false;
	m->engine_gone = m->main_started = m->main_exited = m->reverting = m->asked = false;
	memset(m->draining, 0, sizeof(m->draining));
	m->state.engine_pid = m->state.engine_start = m->state.helper_pid = m->state.helper_start = 0;
	m->state.vsock_cid = m->state.stop_until_ns = 0;
	free(m->useless);
	m->useless = NULL;
	free(m->state.paused_why);
	m->state.paused_why = NULL;
	m->state.agent_ready = false;
}

/* Returns false when somebody asked for the end meanwhile. @by_policy: nobody else wants it. */
static bool pause_before_restart(struct monitor *m, bool by_policy, uint64_t pause_ns)
{
	_cleanup_(loop_source_freep) struct loop_source *timer = NULL;
	_cleanup_error_ struct error e = {};

	if (pause_ns)
		log_info("starting again in %llu s", (unsigned long long)(pause_ns / NS_PER_SEC));
	m->state.status = MACHINE_STARTING;
	m->state.restarts++;
	m->state.policy_restarts += by_policy;
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
	uint64_t began = clock_monotonic_ns();
	int r = adopt ? monitor_adopt(m, &e) : monitor_acquire(m, &e);

	if (r >= 0)
		r = loop_run(m->loop);
	if (r < 0 && !e.num && m->adopting && m->useless)
		error_set(&e, -r, "%s cannot be controlled: %s", m->facts.engine->name, m->useless);
	if (r < 0 && !e.num)
		error_set_errno(&e, r, "machine '%s': event loop", m->name.s);
	if (r >= 0) {
		if (clock_monotonic_ns() - began > RESTART_GOOD_RUN_NS)
			m->state.policy_restarts = 0;
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

/* Then the next run begins at once. */
static bool meant_to_go_on(const struct monitor *m)
{
	return m->guest_reboots || m->reverting || monitor_reset_was_meant(m);
}

/* What was to be adopted goes on as it was found. */
static void leave(struct monitor *m, struct error *e)
{
	error_prefix(e, "machine '%s' runs on without a monitor (`skerry kill %s` cuts its power)", m->name.s,
		     m->name.s);
	log_error("%s", e->msg);
	error_hint(e, "once that is mended any command finds machine '%s' again", m->name.s);
	monitor_let_go(m);
	m->lock_fd = safe_close(m->lock_fd);
	monitor_report(m, e);
}

/* Everything is released: nothing is left to recover from. @failed: why there was no run, NULL when there was one. */
static void end_for_good(struct monitor *m, const struct error *failed)
{
	_cleanup_error_ struct error gone = {};

	if (fault_point("stop.forget") >= 0)
		(void)remove_tree_at(m->store.run_fd, m->name.s);
	if (m->spec.remove && !failed && machine_remove_files(&m->store, &m->name, &gone) < 0)
		log_error("%s", gone.msg);
	m->lock_fd = safe_close(m->lock_fd);
	if (failed)
		monitor_report(m, failed);
	if (m->control)
		answer_ended(m);
}

static void supervise(struct monitor *m, bool adopt)
{
	uint64_t pause_ns = RESTART_FIRST_NS;

	for (;;) {
		_cleanup_error_ struct error e = {};
		int r = run_once(m, adopt, &e);
		bool again, meant;

		if (m->adopting) {
			leave(m, &e);
			return;
		}
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
			else
				machine_begun_forget(m->machine_fd);
			free(m->exit_reason);
			m->exit_reason = xstrdup(e.msg);
			m->exit_failed = true;
		}
		/* Who waits for a start is told of its failure; in the background what is in its way may be gone the next time. */
		again = r >= 0 ? m->restart_wanted : m->report_fd < 0 && monitor_policy_restarts(m);
		if (!again) {
			monitor_release(m);
			m->run_fd = safe_close(m->run_fd);
			end_for_good(m, r < 0 ? &e : NULL);
			return;
		}
		meant = r >= 0 && meant_to_go_on(m);
		monitor_release(m);
		if (meant || (r >= 0 && !m->state.policy_restarts))
			pause_ns = RESTART_FIRST_NS;
		reset_run(m);
		if (!pause_before_restart(m, !meant, meant ? 0 : pause_ns)) {
			end_for_good(m, NULL);
			return;
		}
		pause_ns = pause_ns * 2 < RESTART_LONGEST_NS ? pause_ns * 2 : RESTART_LONGEST_NS;
	}
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
	r = m->log_fd = engine_log_open(m->machine_fd);
	if (r < 0)
		return error_set_errno(err, r, "machine '%s': cannot write engine.log", m->name.s);
	log_setup(m->log_fd, LOG_LEVEL_INFO, true);
	for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
		signal(ignored[i], SIG_IGN);
	r = loop_new(&m->loop);
	if (r >= 0)
		r = engine_log_watch(m->loop, m->machine_fd, m->log_fd, &m->log_watch);
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
	engine_log_free(m->log_watch);
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
	/* Whoever tidies /tmp up by age (systemd-tmpfiles(8)) leaves a directory alone that is locked, with all below it: connecting to a socket makes
	 * it no younger. */
	(void)flock(m.store.run_fd, LOCK_SH | LOCK_NB);
	sign_lock(&m);
	supervise(&m, adopt);
	cleanup(&m);
	return 0;
}
