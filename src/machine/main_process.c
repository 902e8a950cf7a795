/* The process that a machine was made for: started when the agent answers; its end is the machine's end. */
#include <protobuf-c/protobuf-c.h>

#include "agent.pb-c.h"
#include "base/clock.h"
#include "base/log.h"
#include "machine/client.h"
#include "machine/image_config.h"
#include "machine/monitor.h"
#include "wire/message.h"

#define MAIN_ID "main"
enum { DRAIN_CHUNK = 64 << 10 };
#define MAIN_STOP_NS (30 * NS_PER_SEC)

static int call_agent(struct monitor *m, const char *method, const ProtobufCMessage *message, rpc_done_fn done,
		      void *data)
{
	struct rpc *agent = agent_link_rpc(m->agent);
	_cleanup_buf_ struct buf b = {};
	size_t n = protobuf_c_message_get_packed_size(message);

	if (!agent)
		return -ENOTCONN;
	protobuf_c_message_pack(message, buf_reserve(&b, n + 1));
	buf_commit(&b, n);
	return rpc_call(agent, AGENT_SERVICE, method, b.p, b.len, UINT64_MAX, done, data, NULL);
}

static void drain(struct monitor *m);

static void drained(struct monitor *m, int stream, const struct error *err, const uint8_t *payload, size_t len)
{
	Skerry__Agent__V1__ReadResponse *r;
	bool eof = true;

	if (!err && (r = message_unpack(&skerry__agent__v1__read_response__descriptor, payload, len))) {
		if (r->data.len && m->console)
			console_log(m->console, r->data.data, r->data.len);
		eof = r->eof;
		message_free(r);
	}
	/* At the end the mark stays set: there is nothing more to ask for. */
	m->draining[stream] = eof;
	if (!eof)
		drain(m);
}

static void on_stdout(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	drained(data, 1, err, payload, len);
}

static void on_stderr(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	drained(data, 2, err, payload, len);
}

/* Detached: its output goes into the console's log, for `skerry logs`. */
static void drain(struct monitor *m)
{
	Skerry__Agent__V1__ReadRequest req = SKERRY__AGENT__V1__READ_REQUEST__INIT;
	char id[] = MAIN_ID;

	if (m->attach || !m->main_started)
		return;
	req.id = id;
	req.max = DRAIN_CHUNK;
	for (int stream = 1; stream <= 2; stream++) {
		if (m->draining[stream])
			continue;
		req.stream = (uint32_t)stream;
		m->draining[stream] = call_agent(m, "Read", &req.base, stream == 1 ? on_stdout : on_stderr, m) >= 0;
	}
}

/* The end of the main process ends the machine, once its last reader has its answer. */
static void end_if_done(struct monitor *m)
{
	if (!m->main_exited || control_pending_main(m->control) || m->stop != STOP_NONE)
		return;
	if (m->spec.remove && m->spec.restart == RESTART_NO)
		monitor_kill(m);
	else
		monitor_begin_stop(m, MAIN_STOP_NS);
}

static void on_main_exit(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct monitor *m = data;
	Skerry__Agent__V1__WaitResponse *r;

	if (err) {
		if (!m->engine_gone && m->stop == STOP_NONE)
			log_warning("the main process is out of sight: %s", err->msg);
		return;
	}
	r = message_unpack(&skerry__agent__v1__wait_response__descriptor, payload, len);
	if (!r)
		return;
	m->main_exited = true;
	m->main_ended_by_stop = m->guest_asked;
	m->main_status = r->status & 0xff;
	message_free(r);
	if (m->stop == STOP_ASK)
		monitor_stop_now(m);
	end_if_done(m);
}

static void watch_main(struct monitor *m)
{
	Skerry__Agent__V1__IdRequest req = SKERRY__AGENT__V1__ID_REQUEST__INIT;
	char id[] = MAIN_ID;

	req.id = id;
	m->main_started = true;
	(void)call_agent(m, "Wait", &req.base, on_main_exit, m);
	drain(m);
}

static void on_main_started(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct monitor *m = data;

	(void)payload;
	(void)len;
	/* After an adoption it runs already. */
	if (err && err->kind != ERROR_EXISTS) {
		log_error("cannot start the main process: %s", err->msg);
		m->main_exited = true;
		m->main_status = 125;
		end_if_done(m);
	}
}

void monitor_start_main(struct monitor *m)
{
	Skerry__Agent__V1__ExecRequest req = SKERRY__AGENT__V1__EXEC_REQUEST__INIT;
	char id[] = MAIN_ID;
	const char *user = m->spec.user ? m->spec.user : m->facts.image.user;
	_cleanup_free_ char *owned_user = xstrdup(user ? user : ""),
			    *cwd = xstrdup(image_config_workdir(&m->facts.image, &m->spec));

	if (!m->spec.command.n)
		return;
	req.id = id;
	req.args = m->spec.command.items;
	req.n_args = m->spec.command.n;
	req.user = owned_user;
	req.cwd = cwd;
	req.terminal = m->spec.terminal;
	req.open_stdin = m->spec.interactive && m->attach;
	/* Calls are answered in order of arrival, so the wait may follow at once. */
	if (call_agent(m, "Exec", &req.base, on_main_started, m) >= 0)
		watch_main(m);
}

bool monitor_signal_main(struct monitor *m, int number)
{
	Skerry__Agent__V1__SignalRequest req = SKERRY__AGENT__V1__SIGNAL_REQUEST__INIT;
	char id[] = MAIN_ID;

	if (!m->main_started || m->main_exited)
		return false;
	req.id = id;
	req.signal = number;
	return call_agent(m, "Signal", &req.base, NULL, NULL) >= 0;
}

void monitor_main_released(struct monitor *m)
{
	if (m->attach && !control_main_attached(m->control)) {
		m->attach = false;
		drain(m);
	}
	end_if_done(m);
}
