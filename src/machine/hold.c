/* A machine that stands still for a command: its root file system is frozen by the guest, then its engine is paused, which writes out what the
 * engine itself holds back of the disk. It goes on when the command says so, when its connection ends, when somebody stops the machine, and,
 * as it is on record, when a later monitor adopts a machine whose monitor and command both died. The guest thaws by itself at last. */
#include "agent.pb-c.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "machine/client.h"
#include "machine/monitor.h"
#include "monitor.pb-c.h"

/* How long the guest stays frozen while it runs: for its own clock, which stands still with it. */
#define FROZEN_NS         (30 * NS_PER_SEC)
#define FREEZE_DEFAULT_NS (20 * NS_PER_SEC)

static void save(struct monitor *m)
{
	_cleanup_error_ struct error e = {};

	if (monitor_save_state(m, &e) < 0)
		log_warning("%s, ignoring", e.msg);
}

static void thaw(struct monitor *m)
{
	struct rpc *agent = agent_link_rpc(m->agent);

	m->hold.thaw_wanted = !agent;
	if (agent)
		(void)rpc_call(agent, AGENT_SERVICE, "Thaw", NULL, 0, UINT64_MAX, NULL, NULL, NULL);
}

static void forget(struct monitor *m)
{
	m->hold.stage = HOLD_NONE;
	m->hold.peer = m->hold.ticket = 0;
	m->state.held = false;
	save(m);
}

static void begin(struct monitor *m, uint64_t ticket, uint64_t timeout_ns);

/* One command after another: the first may have been killed, and nobody waited for what came of that. */
static void begin_next(struct monitor *m)
{
	uint64_t ticket = m->hold.next_ticket;

	m->hold.next_ticket = 0;
	if (m->control && ticket)
		begin(m, ticket, m->hold.next_timeout_ns);
}

/* Only now is it off the record: who adopts a machine that still stands still has to know. */
static void on_resumed(const struct error *err, uint64_t value, void *data)
{
	struct monitor *m = data;
	uint64_t ticket = m->hold.ticket;

	(void)value;
	if (m->hold.stage != HOLD_RESUMING)
		return;
	if (m->control && ticket && err)
		control_reply_error(m->control, ticket, err->num, err->msg);
	else if (m->control && ticket)
		control_reply(m->control, ticket, NULL, 0);
	if (!err)
		forget(m);
	m->hold.stage = HOLD_NONE;
	begin_next(m);
}

/* @ticket: to be answered then, 0 = nobody. */
static void go_on(struct monitor *m, uint64_t ticket)
{
	m->hold.stage = HOLD_RESUMING;
	m->hold.ticket = ticket;
	(void)fault_point("hold.resume");
	m->facts.engine->resume(m->vm, on_resumed, m);
	thaw(m);
}

void monitor_hold_release(struct monitor *m)
{
	enum hold_stage stage = m->hold.stage;

	if (stage == HOLD_NONE || stage == HOLD_RESUMING)
		return;
	if (m->hold.ticket)
		control_reply_error(m->control, m->hold.ticket, ECANCELED, "it goes on");
	if (stage >= HOLD_PAUSING && m->vm && !m->engine_gone) {
		go_on(m, 0);
		return;
	}
	/* The guest's answer would be taken for the one to the next command, which may come first. */
	if (stage == HOLD_FREEZING)
		agent_link_cancel(m->agent, m->hold.freeze_call);
	forget(m);
	thaw(m);
}

static void fail(struct monitor *m, int num, const char *message)
{
	uint64_t ticket = m->hold.ticket;

	m->hold.ticket = 0;
	control_reply_error(m->control, ticket, num, message);
	monitor_hold_release(m);
}

static void on_paused(const struct error *err, uint64_t value, void *data)
{
	struct monitor *m = data;
	Skerry__Monitor__V1__HoldResponse resp = SKERRY__MONITOR__V1__HOLD_RESPONSE__INIT;
	uint8_t packed[16];
	uint64_t ticket;

	(void)value;
	if (m->hold.stage != HOLD_PAUSING || !m->control)
		return;
	if (err) {
		fail(m, err->num, err->msg);
		return;
	}
	if (fault_point("hold.paused") < 0) {
		fail(m, EIO, "fault");
		return;
	}
	m->hold.stage = HOLD_HELD;
	ticket = m->hold.ticket;
	m->hold.ticket = 0;
	resp.frozen = m->hold.frozen;
	control_reply(m->control, ticket, packed, skerry__monitor__v1__hold_response__pack(&resp, packed));
}

static void stand_still(struct monitor *m)
{
	m->hold.stage = HOLD_PAUSING;
	m->facts.engine->pause(m->vm, on_paused, m);
}

static void on_frozen(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct monitor *m = data;

	(void)payload;
	(void)len;
	if (m->hold.stage != HOLD_FREEZING || !m->control)
		return;
	if (err) {
		fail(m, err->num, err->msg);
		return;
	}
	if (fault_point("hold.frozen") < 0 || !m->vm) {
		fail(m, EIO, "fault");
		return;
	}
	m->hold.frozen = true;
	stand_still(m);
}

static int freeze(struct monitor *m, struct rpc *agent, uint64_t timeout_ns)
{
	Skerry__Agent__V1__FreezeRequest req = SKERRY__AGENT__V1__FREEZE_REQUEST__INIT;
	uint8_t packed[32];

	req.timeout_ns = FROZEN_NS;
	m->hold.stage = HOLD_FREEZING;
	m->hold.freeze_call =
		rpc_call(agent, AGENT_SERVICE, "Freeze", packed, skerry__agent__v1__freeze_request__pack(&req, packed),
			 clock_monotonic_ns() + timeout_ns, on_frozen, m, NULL);
	return m->hold.freeze_call;
}

static void begin(struct monitor *m, uint64_t ticket, uint64_t timeout_ns)
{
	struct rpc *agent = agent_link_rpc(m->agent);

	if (m->hold.stage != HOLD_NONE || !m->vm || m->state.status != MACHINE_RUNNING) {
		control_reply_error(m->control, ticket, EBUSY,
				    m->hold.stage != HOLD_NONE ? "another command holds it" : "it is not running");
		return;
	}
	m->hold =
		(struct hold){ .stage = HOLD_FREEZING, .ticket = ticket, .peer = control_peer_of(m->control, ticket) };
	m->state.held = true;
	save(m);
	if (fault_point("hold.record") < 0)
		fail(m, EIO, "fault");
	else if (!agent)
		stand_still(m);
	else if (freeze(m, agent, timeout_ns) < 0)
		fail(m, EIO, "the guest cannot be asked");
}

void monitor_hold(struct monitor *m, uint64_t ticket, const uint8_t *payload, size_t len)
{
	Skerry__Monitor__V1__HoldRequest *req = skerry__monitor__v1__hold_request__unpack(NULL, len, payload);
	uint64_t timeout_ns;

	if (!req) {
		control_reply_error(m->control, ticket, EBADMSG, "malformed request");
		return;
	}
	timeout_ns = req->timeout_ns ? req->timeout_ns : FREEZE_DEFAULT_NS;
	skerry__monitor__v1__hold_request__free_unpacked(req, NULL);
	if (m->hold.stage == HOLD_RESUMING && !m->hold.next_ticket) {
		m->hold.next_ticket = ticket;
		m->hold.next_timeout_ns = timeout_ns;
		m->hold.next_peer = control_peer_of(m->control, ticket);
	} else {
		begin(m, ticket, timeout_ns);
	}
}

void monitor_unhold(struct monitor *m, uint64_t ticket)
{
	if (m->hold.stage != HOLD_HELD || m->hold.peer != control_peer_of(m->control, ticket) || !m->vm)
		control_reply_error(m->control, ticket, ECANCELED, "it did not stand still all the time");
	else
		go_on(m, ticket);
}

void monitor_hold_peer_gone(struct monitor *m, uint64_t peer)
{
	if (m->hold.next_peer == peer)
		m->hold.next_ticket = 0;
	if (m->hold.stage == HOLD_NONE || m->hold.peer != peer)
		return;
	/* Nobody is there to be answered. */
	m->hold.ticket = 0;
	if (m->hold.stage == HOLD_RESUMING)
		return;
	log_info("who held the machine is gone: it goes on");
	monitor_hold_release(m);
}

void monitor_hold_adopted(struct monitor *m)
{
	if (!m->state.held)
		return;
	log_info("the machine was held by a command that is gone: it goes on");
	go_on(m, 0);
}

void monitor_hold_agent_ready(struct monitor *m)
{
	if (m->hold.thaw_wanted)
		thaw(m);
}
