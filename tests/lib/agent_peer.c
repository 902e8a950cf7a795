#include "agent_peer.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "test.h"
#include "wire/ttrpc.h"

static const char token_hex[] = "000102030405060708090a0b0c0d0e0f";
const uint8_t agent_token[SYNC_TOKEN_SIZE] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };

struct agent_peer agent_start(void)
{
	struct agent_peer p = { .next_id = 1 };
	char fd[16];
	int s[2];

	ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s));
	p.fd = s[0];
	p.pid = fork();
	ASSERT_OK(p.pid);
	if (p.pid == 0) {
		int end = fcntl(s[1], F_DUPFD, 3);

		snprintf(fd, sizeof(fd), "%d", end);
		execl(getenv("SKERRY_INIT"), "skerry-init", "agent", "--token", token_hex, "--fd", fd, NULL);
		_exit(126);
	}
	close(s[1]);
	return p;
}

void agent_stop(struct agent_peer *p)
{
	int status;

	close(p->fd);
	buf_done(&p->in);
	ASSERT_EQ(waitpid(p->pid, &status, 0), p->pid);
	ASSERT(WIFEXITED(status));
	ASSERT_EQ(WEXITSTATUS(status), 0);
}

uint32_t agent_send(struct agent_peer *p, const char *method, const ProtobufCMessage *m)
{
	_cleanup_buf_ struct buf payload = { 0 }, out = { 0 };
	uint32_t id = p->next_id;

	p->next_id += 2;
	if (m)
		message_pack(&payload, m);
	ASSERT_OK(ttrpc_request_encode(&out, id, "skerry.agent.v1.Agent", method, payload.p, payload.len, 0));
	ASSERT_OK(write_full(p->fd, out.p, out.len));
	return id;
}

uint32_t agent_next(struct agent_peer *p, struct agent_answer *a)
{
	for (;;) {
		struct ttrpc_response r;
		struct ttrpc_frame f;
		size_t used;
		ssize_t n;
		int rc = ttrpc_decode(&p->in, &f, &used);

		ASSERT_OK(rc);
		if (rc == 1) {
			uint32_t id = f.stream_id;

			ASSERT_OK(ttrpc_response_decode(&f, &r));
			a->code = r.code;
			a->text = xstrdup(r.message);
			a->payload = (struct buf){ 0 };
			buf_add(&a->payload, r.payload, r.payload_len);
			ttrpc_response_done(&r);
			buf_consume(&p->in, used);
			return id;
		}
		n = read(p->fd, buf_reserve(&p->in, 65536), 65536);
		ASSERT(n > 0);
		buf_commit(&p->in, (size_t)n);
	}
}

void agent_answer_done(struct agent_answer *a)
{
	free(a->text);
	buf_done(&a->payload);
}

void *agent_take(struct agent_peer *p, uint32_t id, const ProtobufCMessageDescriptor *d)
{
	struct agent_answer a;
	void *m;

	ASSERT_EQ(agent_next(p, &a), id);
	if (a.code != TTRPC_OK)
		test_fail(__FILE__, __LINE__, "status %d: %s", a.code, a.text);
	m = message_unpack(d, a.payload.p, a.payload.len);
	ASSERT(m);
	agent_answer_done(&a);
	return m;
}

void agent_assert_fails(struct agent_peer *p, uint32_t id, int32_t code, const char *text)
{
	struct agent_answer a;

	ASSERT_EQ(agent_next(p, &a), id);
	ASSERT_EQ(a.code, code);
	ASSERT_CONTAINS(a.text, text);
	agent_answer_done(&a);
}

uint32_t agent_send_id(struct agent_peer *p, const char *method, const char *id)
{
	Skerry__Agent__V1__IdRequest m;
	_cleanup_free_ char *copy = xstrdup(id);

	skerry__agent__v1__id_request__init(&m);
	m.id = copy;
	return agent_send(p, method, &m.base);
}

uint32_t agent_send_exec(struct agent_peer *p, const struct agent_command *c)
{
	Skerry__Agent__V1__ExecRequest m;
	_cleanup_strv_ struct strv args = { 0 }, env = { 0 };
	_cleanup_free_ char *id = xstrdup(c->id), *user = xstrdup(c->user ? c->user : ""),
			    *cwd = xstrdup(c->cwd ? c->cwd : "/");

	strv_add(&args, "sh");
	strv_add(&args, "-c");
	strv_add(&args, c->script);
	if (c->env)
		strv_add(&env, c->env);
	skerry__agent__v1__exec_request__init(&m);
	m.id = id;
	m.n_args = args.n;
	m.args = args.items;
	m.n_env = env.n;
	m.env = env.items;
	m.user = user;
	m.cwd = cwd;
	m.terminal = c->terminal;
	m.rows = 33;
	m.cols = 99;
	m.open_stdin = c->input;
	return agent_send(p, "Exec", &m.base);
}

void agent_run(struct agent_peer *p, const struct agent_command *c)
{
	message_free(agent_take(p, agent_send_exec(p, c), &skerry__agent__v1__exec_response__descriptor));
}

uint32_t agent_send_read(struct agent_peer *p, const char *id, unsigned stream, uint32_t max)
{
	Skerry__Agent__V1__ReadRequest m;
	_cleanup_free_ char *copy = xstrdup(id);

	skerry__agent__v1__read_request__init(&m);
	m.id = copy;
	m.stream = stream;
	m.max = max;
	return agent_send(p, "Read", &m.base);
}

void agent_read_all(struct agent_peer *p, const char *id, unsigned stream, struct buf *out)
{
	for (bool eof = false; !eof;) {
		Skerry__Agent__V1__ReadResponse *m = agent_take(p, agent_send_read(p, id, stream, 1 << 20),
								&skerry__agent__v1__read_response__descriptor);

		buf_add(out, m->data.data, m->data.len);
		eof = m->eof;
		message_free(m);
	}
}

int agent_wait_status(struct agent_peer *p, const char *id, bool *signaled)
{
	Skerry__Agent__V1__WaitResponse *m =
		agent_take(p, agent_send_id(p, "Wait", id), &skerry__agent__v1__wait_response__descriptor);
	int status = m->status;

	if (signaled)
		*signaled = m->signaled;
	message_free(m);
	return status;
}

uint32_t agent_send_write(struct agent_peer *p, const char *id, const void *data, size_t n)
{
	Skerry__Agent__V1__WriteRequest m;
	_cleanup_free_ char *copy = xstrdup(id);
	_cleanup_free_ void *bytes = xmemdup(data, n ? n : 1);

	skerry__agent__v1__write_request__init(&m);
	m.id = copy;
	m.data = (ProtobufCBinaryData){ .len = n, .data = bytes };
	return agent_send(p, "Write", &m.base);
}

void agent_write_all(struct agent_peer *p, const char *id, const char *data, size_t n)
{
	while (n > 0) {
		Skerry__Agent__V1__WriteResponse *m =
			agent_take(p, agent_send_write(p, id, data, n), &skerry__agent__v1__write_response__descriptor);

		ASSERT(m->count > 0 && m->count <= n);
		data += m->count;
		n -= m->count;
		message_free(m);
	}
}
