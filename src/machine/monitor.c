#include "machine/monitor.h"

#include <fcntl.h>
#include <signal.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "machine/client.h"
#include "machine/record.h"
#include "machine/report.h"
#include "monitor.pb-c.h"

enum { LAST_ROUNDS_MAX = 256 };
/* How long an engine without a control channel may take to end by itself. */
#define USELESS_GRACE_NS (3 * NS_PER_SEC)

void monitor_report(struct monitor *m, const struct error *err)
{
	if (m->report_fd < 0)
		return;
	report_send(m->report_fd, err);
	m->report_fd = safe_close(m->report_fd);
}

static void save_or_log(struct monitor *m)
{
	_cleanup_error_ struct error e = {};

	if (monitor_save_state(m, &e) < 0)
		log_warning("%s, ignoring", e.msg);
}

/* Answers the waits whose event has come. The end is answered in monitor_conclude(). */
void monitor_wake_waits(struct monitor *m)
{
	for (struct wait_ticket **p = &m->waits; *p;) {
		struct wait_ticket *w = *p;
		bool running = m->state.status == MACHINE_RUNNING || m->state.status == MACHINE_PAUSED;
		bool come = (w->event == SKERRY__MONITOR__V1__WAIT_REQUEST__EVENT__RUNNING && running) ||
			    (w->event == SKERRY__MONITOR__V1__WAIT_REQUEST__EVENT__AGENT && m->state.agent_ready);

		if (!come) {
			p = &w->next;
			continue;
		}
		*p = w->next;
		control_reply(m->control, w->ticket, NULL, 0);
		free(w);
	}
}

static int on_useless(struct loop_source *s, void *data)
{
	struct monitor *m = data;

	(void)s;
	if (m->engine_is_child) {
		monitor_kill(m);
	} else if (m->stop == STOP_NONE) {
		/* One that was found running may only be slow, and its guest is somebody's: it is left as it was found. A stop
		 * that is under way needs no channel. */
		m->adopting = true;
		loop_exit(m->loop, -ETIMEDOUT);
	}
	return 0;
}

void monitor_engine_ready(const struct error *err, uint64_t value, void *data)
{
	struct monitor *m = data;

	(void)value;
	if (err) {
		/* The engine's own end tells more, and it is probably on its way; without one it is of no use. */
		log_error("engine: %s", err->msg);
		free(m->useless);
		m->useless = xstrdup(err->msg);
		if (!m->useless_timer && loop_add_timer(m->loop, &m->useless_timer,
							clock_monotonic_ns() + USELESS_GRACE_NS, on_useless, m) < 0)
			(void)on_useless(NULL, m);
		return;
	}
	if (m->state.status == MACHINE_STARTING)
		m->state.status = MACHINE_RUNNING;
	if (fault_point("start.ready") >= 0)
		save_or_log(m);
	monitor_hold_adopted(m);
	if (m->state.status == MACHINE_STOPPING && m->stop == STOP_NONE)
		monitor_stop_adopted(m);
	monitor_report(m, NULL);
	monitor_wake_waits(m);
}

/* An earlier monitor may have been told more than this one is. */
static void note_pause(struct monitor *m, bool paused, const char *why)
{
	if (paused && (!why || m->state.paused_why))
		return;
	free(m->state.paused_why);
	m->state.paused_why = paused ? xstrdup(why) : NULL;
}

void monitor_engine_event(enum engine_event ev, const char *detail, void *data)
{
	struct monitor *m = data;

	switch (ev) {
	case ENGINE_EVENT_SHUTDOWN:
		if (detail && streq(detail, "guest-reset"))
			m->guest_reset = true;
		else if (detail && streq(detail, "guest-shutdown"))
			m->guest_shut_down = true;
		else if (detail && streq(detail, "guest-panic"))
			m->guest_panicked = true;
		break;
	case ENGINE_EVENT_PANIC: m->guest_panicked = true; break;
	case ENGINE_EVENT_PAUSED:
	case ENGINE_EVENT_RESUMED:
		if (ev == ENGINE_EVENT_RESUMED && m->hold.stage == HOLD_HELD)
			monitor_hold_release(m); /* somebody else let it go on */
		/* Its clock stood still with it. */
		if (ev == ENGINE_EVENT_RESUMED)
			guest_clock_tell(agent_link_rpc(m->agent));
		if (m->state.status == MACHINE_RUNNING || m->state.status == MACHINE_PAUSED) {
			m->state.status = ev == ENGINE_EVENT_PAUSED ? MACHINE_PAUSED : MACHINE_RUNNING;
			note_pause(m, ev == ENGINE_EVENT_PAUSED, detail);
			save_or_log(m);
		}
		break;
	case ENGINE_EVENT_STARTED:
	case ENGINE_EVENT_RESET:
	case ENGINE_EVENT_DISCONNECTED: break;
	}
}

static void agent_ready(const char *version, const char *error, void *data)
{
	struct monitor *m = data;

	log_info("agent %s answered", version);
	if (*error)
		log_warning("guest: %s", error);
	m->state.agent_ready = true;
	m->state.ready_ns = clock_realtime_ns();
	save_or_log(m);
	/* While nobody saw to it, it may have been stopped, and the host's clock may have been set. */
	if (!m->engine_is_child)
		guest_clock_tell(agent_link_rpc(m->agent));
	monitor_hold_agent_ready(m);
	monitor_start_main(m);
	monitor_wake_waits(m);
}

static void agent_ending(enum agent_ending how, void *data)
{
	struct monitor *m = data;

	m->guest_ending = true;
	m->guest_reboots = how == AGENT_ENDING_REBOOT;
}

static void agent_lost(void *data)
{
	struct monitor *m = data;

	m->state.agent_ready = false;
	if (!m->engine_gone)
		log_debug("the agent's pipe ended");
}

const struct agent_link_events monitor_agent_events = {
	.ready = agent_ready,
	.ending = agent_ending,
	.lost = agent_lost,
};

void monitor_clock_changed(void *data)
{
	struct monitor *m = data;

	if (!agent_link_rpc(m->agent))
		return;
	log_info("the host's clock was set, or the host slept: setting the guest's");
	guest_clock_tell(agent_link_rpc(m->agent));
}

int monitor_helper_exited(struct loop_source *s, int pidfd, void *data)
{
	struct monitor *m = data;

	(void)s;
	(void)pidfd_reap(pidfd, NULL);
	/* It ends with its engine, whose own end may be heard of a moment later. */
	if (!m->engine_gone && m->stop == STOP_NONE && !m->guest_ending && !m->guest_reset && !m->guest_shut_down)
		log_error("the network's helper has ended: the guest is off the network until it is restarted");
	m->helper_source = loop_source_free(m->helper_source);
	m->helper_pidfd = safe_close(m->helper_pidfd);
	m->state.helper_pid = 0;
	return 0;
}

int monitor_engine_exited(struct loop_source *s, int pidfd, void *data)
{
	struct monitor *m = data;

	(void)s;
	m->engine_gone = true;
	m->engine_status = -1;
	if (m->engine_is_child)
		(void)pidfd_reap(pidfd, &m->engine_status);
	m->engine_source = loop_source_free(m->engine_source);
	/* The last words are still in the sockets: events on the control channel, the guest's notice on the agent's. */
	for (int i = 0; i < LAST_ROUNDS_MAX; i++)
		if (loop_step(m->loop, 0) <= 0)
			break;
	loop_exit(m->loop, 0);
	return 0;
}

/* The last line that the engine itself wrote, for an error that says why. Owned by the caller; NULL when there is none. */
static char *engine_last_words(struct monitor *m)
{
	_cleanup_close_ int fd = openat(m->machine_fd, "engine.log", O_RDONLY | O_CLOEXEC);
	char raw[1024];
	off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	ssize_t n =
		size <= 0 ? -1 : pread(fd, raw, sizeof(raw), size > (off_t)sizeof(raw) ? size - (off_t)sizeof(raw) : 0);

	while (n > 0) {
		ssize_t from;

		while (n > 0 && raw[n - 1] == '\n')
			n--;
		for (from = n; from > 0 && raw[from - 1] != '\n'; from--)
			;
		if (n - from > 0 && n - from < 400) {
			_cleanup_free_ char *line = xstrndup(raw + from, (size_t)(n - from));

			/* Our own lines in that file begin with the time. */
			if (strstr(line, "qemu"))
				return TAKE_PTR(line);
		}
		n = from;
	}
	return NULL;
}

static char *engine_death(struct monitor *m)
{
	_cleanup_free_ char *words = NULL;
	char how[64];

	if (!m->engine_is_child || m->engine_status == -1)
		return xasprintf("%s ended", m->facts.engine->name);
	words = WIFSIGNALED(m->engine_status) ? NULL : engine_last_words(m);
	return xasprintf("%s: %s%s%s", m->facts.engine->name, wait_status_text(m->engine_status, how, sizeof(how)),
			 words ? ": " : "", words ? words : "");
}

bool monitor_reset_was_meant(const struct monitor *m)
{
	return m->guest_reset && !m->guest_panicked && (m->guest_reboots || m->plan.firmware);
}

static void conclude_reason(struct monitor *m)
{
	bool clean_exit = !m->engine_is_child || m->engine_status == 0;

	free(m->exit_reason);
	m->exit_reason = NULL;
	m->exit_failed = false;
	m->restart_wanted = false;
	if (m->useless && m->stop == STOP_KILL) {
		m->exit_reason = xasprintf("%s cannot be controlled: %s", m->facts.engine->name, m->useless);
		m->exit_failed = true;
	} else if (m->reverting) {
		m->exit_reason = xstrdup("went back to a snapshot");
		m->restart_wanted = true;
	} else if (m->stop != STOP_NONE) {
		if (m->main_exited && !m->main_ended_by_stop)
			m->exit_reason = xasprintf("its process ended with status %d", m->main_status);
		else
			m->exit_reason = xasprintf("stopped (%s)", m->stop_how);
	} else if (m->guest_panicked) {
		m->exit_reason = xstrdup("the guest's kernel panicked");
		m->exit_failed = true;
	} else if (m->guest_ending && clean_exit) {
		m->exit_reason = xstrdup(m->guest_reboots ? "rebooted by the guest" : EXIT_POWERED_OFF);
		m->restart_wanted = m->guest_reboots;
	} else if (m->guest_shut_down) {
		m->exit_reason = xstrdup(EXIT_POWERED_OFF);
	} else if (monitor_reset_was_meant(m)) {
		m->exit_reason = xstrdup("rebooted by the guest");
		m->restart_wanted = true;
	} else if (m->guest_reset) {
		m->exit_reason = xstrdup("the guest reset itself (a kernel panic?)");
		m->exit_failed = true;
	} else {
		m->exit_reason = engine_death(m);
		m->exit_failed = true;
	}
}

bool monitor_policy_restarts(const struct monitor *m)
{
	bool failed = m->exit_failed || (m->main_exited && m->main_status != 0);

	/* No policy overrules somebody who asked for the end. */
	if (m->asked)
		return false;
	return m->spec.restart == RESTART_ALWAYS ||
	       (m->spec.restart == RESTART_ON_FAILURE && failed &&
		(!m->spec.restart_max || m->state.policy_restarts < m->spec.restart_max));
}

void monitor_conclude(struct monitor *m)
{
	struct machine_exit e = { .started_ns = m->state.started_ns, .ended_ns = clock_realtime_ns() };
	_cleanup_error_ struct error err = {};
	bool policy;

	conclude_reason(m);
	e.reason = m->exit_reason;
	e.failed = m->exit_failed;
	e.has_status = m->main_exited;
	e.status = m->main_exited ? (uint64_t)m->main_status : 0;
	log_info("%s", m->exit_reason);
	policy = monitor_policy_restarts(m);
	/* That its main process ended by the stop changes nothing. */
	if (m->stop != STOP_NONE && (!m->main_exited || m->main_ended_by_stop))
		policy = false;
	m->restart_wanted = m->restart_wanted || policy;
	if (m->spec.remove && !m->restart_wanted)
		return;
	if (fault_point("stop.exit") < 0 || machine_exit_save(m->machine_fd, m->name.s, &e, &err) < 0)
		log_error("how the run ended was not recorded: %s", err.msg ? err.msg : "fault");
}
