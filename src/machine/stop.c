/* Ending a machine: the guest is asked (again each second), then the engine is told to quit, and is killed. */
#include <signal.h>

#include "agent.pb-c.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "machine/client.h"
#include "machine/image_config.h"
#include "machine/monitor.h"

/* On its way out the engine writes out what it holds of the disks, with whatever else the host is writing: killed in the midst of it, it would lose that. */
#define QUIT_GRACE_NS (20 * NS_PER_SEC)
/* What other tools give a process after its signal. */
#define MAIN_GRACE_NS (10 * NS_PER_SEC)
/* A guest whose stop outlived its monitor hears of it once more, also where its time is over. */
#define ADOPTED_STOP_NS (10 * NS_PER_SEC)

/* The main process may end in its own way first: its signal, then some time. */
static bool main_is_ending(struct monitor *m)
{
	int number = image_config_stop_signal(&m->facts.image, &m->spec);
	uint64_t now = clock_monotonic_ns(), left = m->stop_deadline_ns > now ? m->stop_deadline_ns - now : 0;

	if (!number || m->main_exited)
		return false;
	if (m->stop_main_ns)
		return now < m->stop_main_ns;
	if (!monitor_signal_main(m, number))
		return false;
	m->stop_main_ns = now + (left / 2 < MAIN_GRACE_NS ? left / 2 : MAIN_GRACE_NS);
	return true;
}

static void ask_guest(struct monitor *m)
{
	struct rpc *agent = agent_link_rpc(m->agent);

	m->guest_asked = m->guest_asked || agent || (m->plan.exec.power_button && m->vm);
	if (agent) {
		Skerry__Agent__V1__ShutdownRequest req = SKERRY__AGENT__V1__SHUTDOWN_REQUEST__INIT;
		uint8_t packed[16];

		m->stop_how = "agent";
		(void)rpc_call(agent, AGENT_SERVICE, "Shutdown", packed,
			       skerry__agent__v1__shutdown_request__pack(&req, packed), UINT64_MAX, NULL, NULL, NULL);
	} else if (m->plan.exec.power_button && m->vm) {
		m->stop_how = "power button";
		m->facts.engine->power_button(m->vm, NULL, NULL);
	}
}

/* An engine that is another user's may be killed by nobody who lacks the capability for it. It may still do what it is told. */
static void kill_engine(struct monitor *m)
{
	if (pidfd_kill(m->engine_pidfd, SIGKILL) != -EPERM)
		return;
	log_error("the engine runs as another user, and without the capability KILL it cannot be killed: it is told "
		  "to quit");
	if (m->vm)
		m->facts.engine->quit(m->vm, NULL, NULL);
}

static void enter(struct monitor *m, enum stop_step step)
{
	uint64_t now = clock_monotonic_ns();

	m->stop = step;
	switch (step) {
	case STOP_QUIT:
		m->stop_how = "quit";
		m->stop_deadline_ns = now + QUIT_GRACE_NS;
		if (m->vm) {
			m->facts.engine->quit(m->vm, NULL, NULL);
			break;
		}
		m->stop = STOP_KILL;
		__attribute__((fallthrough));
	case STOP_KILL:
		m->stop_how = "kill";
		m->stop_deadline_ns = UINT64_MAX;
		kill_engine(m);
		break;
	case STOP_NONE:
	case STOP_ASK: break;
	}
}

static int on_tick(struct loop_source *s, void *data)
{
	struct monitor *m = data;
	uint64_t now = clock_monotonic_ns(), next = now + NS_PER_SEC;

	if (m->engine_gone)
		return 0;
	if (now >= m->stop_deadline_ns)
		enter(m, m->stop == STOP_ASK ? STOP_QUIT : STOP_KILL);
	else if (m->stop == STOP_ASK && !main_is_ending(m))
		ask_guest(m);
	if (m->stop == STOP_KILL)
		return 0;
	return loop_set_deadline(s, next < m->stop_deadline_ns ? next : m->stop_deadline_ns);
}

static void begin(struct monitor *m, enum stop_step step, uint64_t deadline_ns)
{
	_cleanup_error_ struct error e = {};

	if (m->stop == STOP_NONE || step == STOP_ASK) {
		m->state.status = MACHINE_STOPPING;
		m->state.stop_until_ns =
			step == STOP_ASK ? clock_realtime_ns() + (deadline_ns - clock_monotonic_ns()) : 0;
		if (fault_point("stop.record") < 0 || monitor_save_state(m, &e) < 0)
			log_warning("%s, ignoring", e.msg ? e.msg : "fault");
	}
	m->stop = step;
	m->stop_deadline_ns = deadline_ns;
	if (!m->stop_timer)
		(void)loop_add_timer(m->loop, &m->stop_timer, 0, on_tick, m);
	else
		(void)loop_set_deadline(m->stop_timer, 0);
}

void monitor_begin_stop(struct monitor *m, uint64_t timeout_ns)
{
	uint64_t deadline = clock_monotonic_ns() + timeout_ns;

	if (m->engine_pidfd < 0) {
		/* Between two runs, waiting to restart. */
		m->stop = STOP_ASK;
		m->stop_how = "between two runs";
		loop_exit(m->loop, 0);
		return;
	}
	if (m->stop > STOP_ASK || (m->stop == STOP_ASK && m->stop_deadline_ns <= deadline))
		return;
	m->stop_how = "agent";
	monitor_hold_release(m);
	/* A stopped vCPU hears nobody. */
	if (m->state.status == MACHINE_PAUSED && m->vm)
		m->facts.engine->resume(m->vm, NULL, NULL);
	begin(m, STOP_ASK, deadline);
}

void monitor_stop_adopted(struct monitor *m)
{
	uint64_t now = clock_realtime_ns(), until = m->state.stop_until_ns, left = until > now ? until - now : 0;

	log_info("it was being stopped by a monitor that is dead: going on with that");
	m->asked = true;
	/* It may have been paused when the stop began, and a stopped vCPU hears nobody. One that runs is not disturbed. */
	m->facts.engine->resume(m->vm, NULL, NULL);
	monitor_begin_stop(m, left > ADOPTED_STOP_NS ? left : ADOPTED_STOP_NS);
}

void monitor_stop_now(struct monitor *m)
{
	if (m->stop_timer)
		(void)loop_set_deadline(m->stop_timer, 0);
}

void monitor_kill(struct monitor *m)
{
	if (m->engine_pidfd < 0) {
		monitor_begin_stop(m, 0);
		return;
	}
	if (m->stop == STOP_KILL || m->engine_gone)
		return;
	begin(m, STOP_KILL, UINT64_MAX);
	enter(m, STOP_KILL);
}
