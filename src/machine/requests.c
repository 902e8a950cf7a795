/* What commands ask of the monitor. */
#include "agent.pb-c.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/parse.h"
#include "machine/client.h"
#include "machine/monitor.h"
#include "machine/snapshot_disk.h"
#include "monitor.pb-c.h"
#include "wire/message.h"

void monitor_reply(struct monitor *m, uint64_t ticket, const ProtobufCMessage *message)
{
	_cleanup_buf_ struct buf b = {};
	size_t n = protobuf_c_message_get_packed_size(message);

	protobuf_c_message_pack(message, buf_reserve(&b, n + 1));
	buf_commit(&b, n);
	control_reply(m->control, ticket, b.p, b.len);
}

static void wait_for(struct monitor *m, uint64_t ticket, int event)
{
	struct wait_ticket *w = xnew(struct wait_ticket);

	*w = (struct wait_ticket){ .ticket = ticket, .event = event, .next = m->waits };
	m->waits = w;
	monitor_wake_waits(m);
}

static void request_wait(struct monitor *m, uint64_t ticket, const uint8_t *payload, size_t len)
{
	Skerry__Monitor__V1__WaitRequest *req = skerry__monitor__v1__wait_request__unpack(NULL, len, payload);

	if (!req) {
		control_reply_error(m->control, ticket, EBADMSG, "malformed request");
		return;
	}
	wait_for(m, ticket, (int)req->event);
	skerry__monitor__v1__wait_request__free_unpacked(req, NULL);
}

/* Answered by the end of the run, like a wait for it. */
static void request_stop(struct monitor *m, uint64_t ticket, const uint8_t *payload, size_t len)
{
	Skerry__Monitor__V1__StopRequest *req = skerry__monitor__v1__stop_request__unpack(NULL, len, payload);

	if (!req) {
		control_reply_error(m->control, ticket, EBADMSG, "malformed request");
		return;
	}
	m->asked = true;
	wait_for(m, ticket, -1);
	/* Where it was to begin anew stays on record, for the next start. */
	m->reverting = false;
	monitor_begin_stop(m, req->timeout_ns);
	skerry__monitor__v1__stop_request__free_unpacked(req, NULL);
}

struct simple_call {
	struct monitor *m;
	uint64_t ticket;
};

static void on_simple_done(const struct error *err, uint64_t value, void *data)
{
	_cleanup_free_ struct simple_call *c = data;

	(void)value;
	if (!c->m->control)
		return;
	if (err)
		control_reply_error(c->m->control, c->ticket, err->num, err->msg);
	else
		control_reply(c->m->control, c->ticket, NULL, 0);
}

static void request_pause(struct monitor *m, uint64_t ticket, bool pause)
{
	struct simple_call *c;
	enum machine_status wanted = pause ? MACHINE_RUNNING : MACHINE_PAUSED;

	if (m->hold.stage != HOLD_NONE) {
		control_reply_error(m->control, ticket, EBUSY, "a command has it stand still");
		return;
	}
	if (!m->vm || m->state.status != (int)wanted) {
		control_reply_error(m->control, ticket, EBUSY, pause ? "it is not running" : "it is not paused");
		return;
	}
	c = xnew(struct simple_call);
	*c = (struct simple_call){ m, ticket };
	(pause ? m->facts.engine->pause : m->facts.engine->resume)(m->vm, on_simple_done, c);
}

static void request_snapshot(struct monitor *m, uint64_t ticket, const uint8_t *payload, size_t len)
{
	Skerry__Monitor__V1__SnapshotRequest *q = skerry__monitor__v1__snapshot_request__unpack(NULL, len, payload);
	struct simple_call *c;
	struct name name;

	if (!q || name_parse(q->name, "snapshot", &name, NULL) < 0) {
		control_reply_error(m->control, ticket, EBADMSG, "malformed request");
	} else if (!m->vm || !m->facts.engine->snapshot) {
		control_reply_error(m->control, ticket, EBUSY, "it is not running");
	} else {
		_cleanup_free_ char *tag = xasprintf(SNAPSHOT_TAG "%s", name.s);
		const struct engine_snapshot s = { .disk = "system", .name = tag, .drop = q->drop };

		c = xnew(struct simple_call);
		*c = (struct simple_call){ m, ticket };
		m->facts.engine->snapshot(m->vm, &s, on_simple_done, c);
	}
	if (q)
		skerry__monitor__v1__snapshot_request__free_unpacked(q, NULL);
}

/* Whoever asked for it has put on record where it goes back to: see snapshot.h. */
static void request_revert(struct monitor *m, uint64_t ticket)
{
	if (!m->vm || m->engine_pidfd < 0 || m->stop != STOP_NONE || m->hold.stage != HOLD_NONE) {
		control_reply_error(m->control, ticket, EBUSY,
				    m->hold.stage != HOLD_NONE ? "a command has it stand still" : "it is not running");
		return;
	}
	m->reverting = true;
	monitor_kill(m);
	wait_for(m, ticket, SKERRY__MONITOR__V1__WAIT_REQUEST__EVENT__RUNNING);
}

/* Figures are gathered from three places, one after the other. */
struct stats_call {
	struct monitor *m;
	uint64_t ticket;
	Skerry__Monitor__V1__StatsResponse resp;
};

static void stats_reply(struct stats_call *c)
{
	char ready[] = "ready", connecting[] = "connecting";

	if (c->m->control) {
		c->resp.agent = agent_link_rpc(c->m->agent) ? ready : connecting;
		monitor_reply(c->m, c->ticket, &c->resp.base);
	}
	free(c);
}

static void on_guest_stats(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct stats_call *c = data;
	Skerry__Agent__V1__StatsResponse *r =
		err ? NULL : message_unpack(&skerry__agent__v1__stats_response__descriptor, payload, len);

	if (r) {
		c->resp.guest_total_bytes = r->memory_total_bytes;
		c->resp.guest_available_bytes = r->memory_available_bytes;
		message_free(r);
	}
	stats_reply(c);
}

static void on_block(const struct error *err, uint64_t value, void *data)
{
	struct stats_call *c = data;
	struct rpc *agent = agent_link_rpc(c->m->agent);

	if (!err) {
		c->resp.disk_read_bytes = (value >> 32) << 20;
		c->resp.disk_written_bytes = (value & 0xffffffff) << 20;
	}
	if (!agent || rpc_call(agent, AGENT_SERVICE, "Stats", NULL, 0, clock_monotonic_ns() + 2 * NS_PER_SEC,
			       on_guest_stats, c, NULL) < 0)
		stats_reply(c);
}

static void on_balloon(const struct error *err, uint64_t value, void *data)
{
	struct stats_call *c = data;

	if (!err)
		c->resp.balloon_bytes = value;
	if (c->m->vm && c->m->control)
		c->m->facts.engine->block_stats(c->m->vm, on_block, c);
	else
		stats_reply(c);
}

static uint64_t process_cpu_ns(uint64_t pid)
{
	_cleanup_free_ char *path = xasprintf("/proc/%llu/schedstat", (unsigned long long)pid);
	_cleanup_buf_ struct buf b = {};
	uint64_t v;
	char *space;

	if (pid < 2 || file_read_at(-1, path, 256, &b) < 0 || !(space = strchr(b.p, ' ')))
		return 0;
	*space = '\0';
	return parse_u64(b.p, 0, UINT64_MAX, &v) >= 0 ? v : 0;
}

static void request_stats(struct monitor *m, uint64_t ticket)
{
	struct stats_call *c = xnew(struct stats_call);
	uint64_t private_bytes, pss;

	*c = (struct stats_call){ m, ticket, SKERRY__MONITOR__V1__STATS_RESPONSE__INIT };
	c->resp.cpu_ns = process_cpu_ns(m->state.engine_pid);
	(void)process_memory((pid_t)m->state.engine_pid, &private_bytes, &pss, &c->resp.memory_rss_bytes);
	if (m->vm)
		m->facts.engine->balloon_bytes(m->vm, on_balloon, c);
	else
		stats_reply(c);
}

static void on_request(uint64_t ticket, const char *method, const uint8_t *payload, size_t len, void *data)
{
	struct monitor *m = data;

	if (streq(method, "Stop")) {
		request_stop(m, ticket, payload, len);
	} else if (streq(method, "Kill")) {
		m->asked = true;
		wait_for(m, ticket, -1);
		m->reverting = false;
		monitor_kill(m);
	} else if (streq(method, "Pause")) {
		request_pause(m, ticket, true);
	} else if (streq(method, "Resume")) {
		request_pause(m, ticket, false);
	} else if (streq(method, "Hold")) {
		monitor_hold(m, ticket, payload, len);
	} else if (streq(method, "Unhold")) {
		monitor_unhold(m, ticket);
	} else if (streq(method, "Snapshot")) {
		request_snapshot(m, ticket, payload, len);
	} else if (streq(method, "Revert")) {
		request_revert(m, ticket);
	} else if (streq(method, "Wait")) {
		request_wait(m, ticket, payload, len);
	} else if (streq(method, "Stats")) {
		request_stats(m, ticket);
	} else if (streq(method, "Forward")) {
		monitor_forward(m, ticket, payload, len);
	} else if (streq(method, "Unforward")) {
		monitor_unforward(m, ticket, payload, len);
	} else {
		control_reply_error(m->control, ticket, EOPNOTSUPP, "no such call");
	}
}

static struct rpc *current_agent(void *data)
{
	struct monitor *m = data;

	return agent_link_rpc(m->agent);
}

static void on_released(const char *id, void *data)
{
	if (streq(id, "main"))
		monitor_main_released(data);
}

static void on_gone(uint64_t peer, void *data)
{
	monitor_hold_peer_gone(data, peer);
}

const struct control_handler monitor_control_handler = {
	.gone = on_gone,
	.request = on_request,
	.agent = current_agent,
	.released = on_released,
};
