/* The real skerry-init as an agent on a socketpair: whatever needs no virtual machine. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "test.h"
#include "wire/copytree.h"
#include "wire/message.h"
#include "wire/sync.h"
#include "wire/ttrpc.h"

static const char token_hex[] = "000102030405060708090a0b0c0d0e0f";
static const uint8_t token[SYNC_TOKEN_SIZE] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };

struct peer {
	int fd;
	pid_t pid;
	uint32_t next_id;
	struct buf in;
};

struct answer {
	int32_t code;
	char *text;
	struct buf payload;
};

extern char **environ;

static struct peer start(void)
{
	struct peer p = { .next_id = 1 };
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

static void stop(struct peer *p)
{
	int status;

	close(p->fd);
	buf_done(&p->in);
	ASSERT_EQ(waitpid(p->pid, &status, 0), p->pid);
	ASSERT(WIFEXITED(status));
	ASSERT_EQ(WEXITSTATUS(status), 0);
}

static uint32_t send_request(struct peer *p, const char *method, const ProtobufCMessage *m)
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

/* The next response, whoever's: its stream id. */
static uint32_t next_answer(struct peer *p, struct answer *a)
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

static void answer_done(struct answer *a)
{
	free(a->text);
	buf_done(&a->payload);
}

static void *take(struct peer *p, uint32_t id, const ProtobufCMessageDescriptor *d)
{
	struct answer a;
	void *m;

	ASSERT_EQ(next_answer(p, &a), id);
	if (a.code != TTRPC_OK)
		test_fail(__FILE__, __LINE__, "status %d: %s", a.code, a.text);
	m = message_unpack(d, a.payload.p, a.payload.len);
	ASSERT(m);
	answer_done(&a);
	return m;
}

static void assert_fails(struct peer *p, uint32_t id, int32_t code, const char *text)
{
	struct answer a;

	ASSERT_EQ(next_answer(p, &a), id);
	ASSERT_EQ(a.code, code);
	ASSERT_CONTAINS(a.text, text);
	answer_done(&a);
}

#define TAKE_EMPTY(p, id) message_free(take((p), (id), &skerry__agent__v1__empty__descriptor))

static uint32_t send_id(struct peer *p, const char *method, const char *id)
{
	Skerry__Agent__V1__IdRequest m;
	_cleanup_free_ char *copy = xstrdup(id);

	skerry__agent__v1__id_request__init(&m);
	m.id = copy;
	return send_request(p, method, &m.base);
}

struct command {
	const char *id;
	const char *script; /* of sh -c */
	bool terminal, input;
	const char *user, *cwd, *env;
};

static uint32_t send_exec(struct peer *p, const struct command *c)
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
	return send_request(p, "Exec", &m.base);
}

static void run(struct peer *p, const struct command *c)
{
	message_free(take(p, send_exec(p, c), &skerry__agent__v1__exec_response__descriptor));
}

static uint32_t send_read(struct peer *p, const char *id, unsigned stream, uint32_t max)
{
	Skerry__Agent__V1__ReadRequest m;
	_cleanup_free_ char *copy = xstrdup(id);

	skerry__agent__v1__read_request__init(&m);
	m.id = copy;
	m.stream = stream;
	m.max = max;
	return send_request(p, "Read", &m.base);
}

/* Reads @stream to its end. */
static void read_all(struct peer *p, const char *id, unsigned stream, struct buf *out)
{
	for (bool eof = false; !eof;) {
		Skerry__Agent__V1__ReadResponse *m =
			take(p, send_read(p, id, stream, 1 << 20), &skerry__agent__v1__read_response__descriptor);

		buf_add(out, m->data.data, m->data.len);
		eof = m->eof;
		message_free(m);
	}
}

static int wait_status(struct peer *p, const char *id, bool *signaled)
{
	Skerry__Agent__V1__WaitResponse *m =
		take(p, send_id(p, "Wait", id), &skerry__agent__v1__wait_response__descriptor);
	int status = m->status;

	if (signaled)
		*signaled = m->signaled;
	message_free(m);
	return status;
}

static uint32_t send_write(struct peer *p, const char *id, const void *data, size_t n)
{
	Skerry__Agent__V1__WriteRequest m;
	_cleanup_free_ char *copy = xstrdup(id);
	_cleanup_free_ void *bytes = xmemdup(data, n ? n : 1);

	skerry__agent__v1__write_request__init(&m);
	m.id = copy;
	m.data = (ProtobufCBinaryData){ .len = n, .data = bytes };
	return send_request(p, "Write", &m.base);
}

static void write_all(struct peer *p, const char *id, const char *data, size_t n)
{
	while (n > 0) {
		Skerry__Agent__V1__WriteResponse *m =
			take(p, send_write(p, id, data, n), &skerry__agent__v1__write_response__descriptor);

		ASSERT(m->count > 0 && m->count <= n);
		data += m->count;
		n -= m->count;
		message_free(m);
	}
}

/* ---- */

TEST(hello_tells_who_is_there)
{
	struct peer p = start();
	Skerry__Agent__V1__HelloResponse *m;

	m = take(&p, send_request(&p, "Hello", NULL), &skerry__agent__v1__hello_response__descriptor);
	ASSERT_STREQ(m->version, SKERRY_VERSION);
	ASSERT(m->kernel[0]);
	ASSERT(m->uptime_ns > 0);
	ASSERT(!m->init_is_agent);
	ASSERT_STREQ(m->error, "");
	message_free(m);
	stop(&p);
}

TEST(a_command_gives_output_errors_and_status)
{
	struct peer p = start();
	_cleanup_buf_ struct buf out = { 0 }, errors = { 0 };

	run(&p, &(struct command){ .id = "a", .script = "echo out; echo err >&2; exit 3" });
	read_all(&p, "a", 1, &out);
	read_all(&p, "a", 2, &errors);
	ASSERT_STREQ(out.p, "out\n");
	ASSERT_STREQ(errors.p, "err\n");
	ASSERT_EQ(wait_status(&p, "a", NULL), 3);
	ASSERT_EQ(wait_status(&p, "a", NULL), 3);
	TAKE_EMPTY(&p, send_id(&p, "Release", "a"));
	assert_fails(&p, send_id(&p, "Wait", "a"), TTRPC_NOT_FOUND, "'a'");
	stop(&p);
}

TEST(wait_answers_only_when_all_was_read)
{
	struct peer p = start();
	struct answer a;
	uint32_t wait, first;

	run(&p, &(struct command){ .id = "a", .script = "echo x" });
	wait = send_id(&p, "Wait", "a");
	message_free(take(&p, send_request(&p, "Hello", NULL), &skerry__agent__v1__hello_response__descriptor));
	first = send_read(&p, "a", 1, 100);
	ASSERT_EQ(next_answer(&p, &a), first);
	answer_done(&a);
	first = send_read(&p, "a", 1, 100);
	ASSERT_EQ(next_answer(&p, &a), first);
	answer_done(&a);
	first = send_read(&p, "a", 2, 100);
	ASSERT_EQ(next_answer(&p, &a), first);
	answer_done(&a);
	ASSERT_EQ(next_answer(&p, &a), wait);
	answer_done(&a);
	stop(&p);
}

TEST(input_goes_in_and_its_end_is_seen)
{
	struct peer p = start();
	_cleanup_buf_ struct buf out = { 0 };

	run(&p, &(struct command){ .id = "a", .script = "cat; echo end", .input = true });
	write_all(&p, "a", "hello ", 6);
	write_all(&p, "a", "there\n", 6);
	TAKE_EMPTY(&p, send_id(&p, "CloseStdin", "a"));
	assert_fails(&p, send_write(&p, "a", "x", 1), TTRPC_FAILED_PRECONDITION, "closed");
	read_all(&p, "a", 1, &out);
	ASSERT_STREQ(out.p, "hello there\nend\n");
	stop(&p);
}

/* A writer that nobody reads from is held, and gets on when somebody does. */
TEST(a_megabyte_goes_round_with_back_pressure)
{
	struct peer p = start();
	const size_t n = 1 << 20;
	_cleanup_free_ char *data = malloc(n);
	_cleanup_buf_ struct buf out = { 0 };
	size_t sent = 0;
	uint32_t write_id = 0, read_id = 0;
	bool eof = false, closed = false;

	for (size_t i = 0; i < n; i++)
		data[i] = (char)(i * 7 >> 2);
	run(&p, &(struct command){ .id = "a", .script = "cat", .input = true });
	while (!eof) {
		struct answer a;
		uint32_t id;

		if (!write_id && sent < n)
			write_id = send_write(&p, "a", data + sent, n - sent);
		if (sent == n && !closed) {
			TAKE_EMPTY(&p, send_id(&p, "CloseStdin", "a"));
			closed = true;
		}
		/* Reading begins when nothing more goes in. */
		if (!read_id && (sent > 64 << 10 || closed)) {
			read_id = send_read(&p, "a", 1, 100000);
		}
		id = next_answer(&p, &a);
		ASSERT_EQ(a.code, TTRPC_OK);
		if (id == write_id) {
			Skerry__Agent__V1__WriteResponse *m = message_unpack(
				&skerry__agent__v1__write_response__descriptor, a.payload.p, a.payload.len);

			sent += m->count;
			write_id = 0;
			message_free(m);
		} else if (id == read_id) {
			Skerry__Agent__V1__ReadResponse *m = message_unpack(
				&skerry__agent__v1__read_response__descriptor, a.payload.p, a.payload.len);

			ASSERT(m->data.len <= 100000);
			buf_add(&out, m->data.data, m->data.len);
			eof = m->eof;
			read_id = 0;
			message_free(m);
		}
		answer_done(&a);
		/* Closing waits for its own answer: no other request may be on its way then. */
		if (sent == n && !closed && read_id) {
			while (next_answer(&p, &a) != read_id)
				;
			Skerry__Agent__V1__ReadResponse *m = message_unpack(
				&skerry__agent__v1__read_response__descriptor, a.payload.p, a.payload.len);

			buf_add(&out, m->data.data, m->data.len);
			read_id = 0;
			message_free(m);
			answer_done(&a);
		}
	}
	ASSERT_EQ(out.len, n);
	ASSERT_MEMEQ(out.p, data, n);
	stop(&p);
}

TEST(a_terminal_is_one)
{
	struct peer p = start();
	_cleanup_buf_ struct buf out = { 0 };
	Skerry__Agent__V1__ResizeRequest m;
	char id[] = "a";

	run(&p,
	    &(struct command){ .id = "a",
			       .script = "stty size; read x; stty size; echo $TERM; test -t 0 && test -t 2 && echo tty",
			       .terminal = true,
			       .input = true });
	while (!out.p || !strstr(out.p, "33 99")) {
		Skerry__Agent__V1__ReadResponse *r =
			take(&p, send_read(&p, "a", 1, 1000), &skerry__agent__v1__read_response__descriptor);

		ASSERT(!r->eof);
		buf_add(&out, r->data.data, r->data.len);
		message_free(r);
	}
	skerry__agent__v1__resize_request__init(&m);
	m.id = id;
	m.rows = 10;
	m.cols = 20;
	TAKE_EMPTY(&p, send_request(&p, "Resize", &m.base));
	write_all(&p, "a", "\n", 1);
	read_all(&p, "a", 1, &out);
	ASSERT_CONTAINS(out.p, "10 20");
	ASSERT_CONTAINS(out.p, "xterm");
	ASSERT_CONTAINS(out.p, "tty");
	ASSERT_EQ(wait_status(&p, "a", NULL), 0);
	stop(&p);
}

TEST(control_c_in_a_terminal_interrupts)
{
	struct peer p = start();
	_cleanup_buf_ struct buf out = { 0 };
	bool signaled = false;

	run(&p, &(struct command){ .id = "a", .script = "echo go; exec sleep 100", .terminal = true, .input = true });
	while (!out.p || !strstr(out.p, "go")) {
		Skerry__Agent__V1__ReadResponse *r =
			take(&p, send_read(&p, "a", 1, 1000), &skerry__agent__v1__read_response__descriptor);

		buf_add(&out, r->data.data, r->data.len);
		message_free(r);
	}
	write_all(&p, "a", "\003", 1);
	read_all(&p, "a", 1, &out);
	ASSERT_EQ(wait_status(&p, "a", &signaled), 128 + SIGINT);
	ASSERT(signaled);
	stop(&p);
}

TEST(signals_arrive)
{
	struct peer p = start();
	_cleanup_buf_ struct buf out = { 0 };
	Skerry__Agent__V1__SignalRequest m;
	bool signaled = false;
	char id[] = "a";

	run(&p, &(struct command){ .id = "a", .script = "sleep 100" });
	skerry__agent__v1__signal_request__init(&m);
	m.id = id;
	m.signal = SIGKILL;
	TAKE_EMPTY(&p, send_request(&p, "Signal", &m.base));
	read_all(&p, "a", 1, &out);
	read_all(&p, "a", 2, &out);
	ASSERT_EQ(wait_status(&p, "a", &signaled), 128 + SIGKILL);
	ASSERT(signaled);
	assert_fails(&p, send_request(&p, "Signal", &m.base), TTRPC_NOT_FOUND, "ended");
	m.signal = 99;
	assert_fails(&p, send_request(&p, "Signal", &m.base), TTRPC_INVALID_ARGUMENT, "99");
	stop(&p);
}

TEST(what_cannot_be_executed_has_the_shells_status)
{
	static const struct {
		const char *arg;
		int status;
		const char *text;
	} cases[] = { { "/no/such/program", 127, "/no/such/program: No such file" },
		      { "no-such-program-here", 127, "no-such-program-here" },
		      { "/etc/passwd", 126, "/etc/passwd: Permission denied" } };
	struct peer p = start();

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		Skerry__Agent__V1__ExecRequest m;
		_cleanup_buf_ struct buf out = { 0 };
		char id[] = "x", *args[1] = { xstrdup(cases[i].arg) };

		skerry__agent__v1__exec_request__init(&m);
		m.id = id;
		m.n_args = 1;
		m.args = args;
		message_free(
			take(&p, send_request(&p, "Exec", &m.base), &skerry__agent__v1__exec_response__descriptor));
		read_all(&p, "x", 1, &out);
		read_all(&p, "x", 2, &out);
		ASSERT_CONTAINS(out.p, cases[i].text);
		ASSERT_EQ(wait_status(&p, "x", NULL), cases[i].status);
		TAKE_EMPTY(&p, send_id(&p, "Release", "x"));
		free(args[0]);
	}
	stop(&p);
}

TEST(bad_requests_are_refused_and_nothing_ends)
{
	struct peer p = start();
	_cleanup_buf_ struct buf garbage = { 0 };
	Skerry__Agent__V1__ExecRequest m;
	Skerry__Agent__V1__DialRequest dial;
	char id[] = "";

	assert_fails(&p, send_request(&p, "Nonsense", NULL), TTRPC_UNIMPLEMENTED, "Nonsense");
	skerry__agent__v1__exec_request__init(&m);
	assert_fails(&p, send_request(&p, "Exec", &m.base), TTRPC_INVALID_ARGUMENT, "no command");
	assert_fails(&p, send_exec(&p, &(struct command){ .id = id, .script = "true" }), TTRPC_INVALID_ARGUMENT, "id");
	assert_fails(&p, send_exec(&p, &(struct command){ .id = "a", .script = "true", .user = "no-such-user" }),
		     TTRPC_NOT_FOUND, "no-such-user");
	assert_fails(&p, send_read(&p, "none", 1, 1), TTRPC_NOT_FOUND, "'none'");
	run(&p, &(struct command){ .id = "a", .script = "true" });
	assert_fails(&p, send_exec(&p, &(struct command){ .id = "a", .script = "true" }), TTRPC_ALREADY_EXISTS, "'a'");
	assert_fails(&p, send_read(&p, "a", 3, 1), TTRPC_INVALID_ARGUMENT, "stream 3");
	assert_fails(&p, send_id(&p, "Resize", "a"), TTRPC_INVALID_ARGUMENT, "terminal");
	skerry__agent__v1__dial_request__init(&dial);
	dial.port = 70000;
	assert_fails(&p, send_request(&p, "Dial", &dial.base), TTRPC_INVALID_ARGUMENT, "70000");
	ttrpc_encode(&garbage, 999, TTRPC_REQUEST, 0, "\xff\xff", 2);
	ASSERT_OK(write_full(p.fd, garbage.p, garbage.len));
	assert_fails(&p, 999, TTRPC_INVALID_ARGUMENT, "not a request");
	message_free(take(&p, send_request(&p, "Hello", NULL), &skerry__agent__v1__hello_response__descriptor));
	stop(&p);
}

TEST(the_environment_and_directory_are_as_asked)
{
	struct peer p = start();
	_cleanup_buf_ struct buf out = { 0 };

	run(&p, &(struct command){ .id = "a",
				   .script = "pwd; echo $FOO; echo $PATH; echo ${HOME:+home}; umask",
				   .cwd = "/usr/bin",
				   .env = "FOO=bar baz" });
	read_all(&p, "a", 1, &out);
	ASSERT_STREQ(out.p,
		     "/usr/bin\nbar baz\n/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nhome\n0022\n");
	buf_truncate(&out, 0);
	run(&p, &(struct command){ .id = "b", .script = "true", .cwd = "/no/such" });
	read_all(&p, "b", 2, &out);
	ASSERT_CONTAINS(out.p, "/no/such: No such file");
	ASSERT_EQ(wait_status(&p, "a", NULL), 0);
	stop(&p);
}

TEST(another_user_can_be_asked_for)
{
	struct peer p = start();
	_cleanup_buf_ struct buf out = { 0 };

	if (geteuid() != 0)
		test_skip("needs root");
	run(&p, &(struct command){ .id = "a",
				   .script = "id -u; id -g; id -G; echo $USER; echo hi >/dev/stderr",
				   .user = "nobody:daemon" });
	read_all(&p, "a", 1, &out);
	ASSERT_STREQ(out.p, "65534\n1\n1\nnobody\n");
	buf_truncate(&out, 0);
	read_all(&p, "a", 2, &out);
	ASSERT_STREQ(out.p, "hi\n");
	stop(&p);
}

/* A daemon that keeps standard output open must not hold up the caller for ever. */
TEST(a_silent_grandchild_does_not_hold_up_the_end)
{
	struct peer p = start();
	_cleanup_buf_ struct buf out = { 0 };
	uint64_t begin = clock_monotonic_ns();

	run(&p, &(struct command){ .id = "a", .script = "echo x; sleep 60 & exit 0" });
	read_all(&p, "a", 1, &out);
	ASSERT_STREQ(out.p, "x\n");
	read_all(&p, "a", 2, &out);
	ASSERT_EQ(wait_status(&p, "a", NULL), 0);
	ASSERT(clock_monotonic_ns() - begin < 10 * NS_PER_SEC);
	stop(&p);
}

TEST(release_ends_a_process)
{
	struct peer p = start();
	_cleanup_free_ char *mark = xasprintf("%s/hup", test_tmpdir());
	_cleanup_free_ char *script =
		xasprintf("trap 'echo > %s; exit' HUP; echo ready; while :; do sleep 0.1; done", mark);
	Skerry__Agent__V1__ReadResponse *r;
	struct pollfd hup = { .events = POLLIN };

	ASSERT_OK(mkfifo(mark, 0600));
	hup.fd = open(mark, O_RDWR | O_CLOEXEC);
	ASSERT_OK(hup.fd);
	run(&p, &(struct command){ .id = "a", .script = script });
	r = take(&p, send_read(&p, "a", 1, 100), &skerry__agent__v1__read_response__descriptor);
	ASSERT(!r->eof);
	message_free(r);
	TAKE_EMPTY(&p, send_id(&p, "Release", "a"));
	assert_fails(&p, send_id(&p, "Wait", "a"), TTRPC_NOT_FOUND, "'a'");
	ASSERT_EQ(poll(&hup, 1, 10000), 1);
	close(hup.fd);
	stop(&p);
}

TEST(a_port_can_be_dialled)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t n = sizeof(a);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), c;
	struct peer p = start();
	_cleanup_buf_ struct buf out = { 0 };
	Skerry__Agent__V1__DialRequest m;
	char id[] = "d", got[8] = { 0 };

	ASSERT_OK(bind(listener, (struct sockaddr *)&a, sizeof(a)));
	ASSERT_OK(listen(listener, 1));
	ASSERT_OK(getsockname(listener, (struct sockaddr *)&a, &n));
	skerry__agent__v1__dial_request__init(&m);
	m.id = id;
	m.port = ntohs(a.sin_port);
	TAKE_EMPTY(&p, send_request(&p, "Dial", &m.base));
	c = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	ASSERT_OK(c);
	write_all(&p, "d", "ping", 4);
	ASSERT_OK(read_full(c, got, 4));
	ASSERT_STREQ(got, "ping");
	TAKE_EMPTY(&p, send_id(&p, "CloseStdin", "d"));
	ASSERT_EQ(read(c, got, 1), 0);
	ASSERT_OK(write_full(c, "pong", 4));
	close(c);
	read_all(&p, "d", 1, &out);
	ASSERT_STREQ(out.p, "pong");
	TAKE_EMPTY(&p, send_id(&p, "Release", "d"));
	close(listener);
	assert_fails(&p, send_request(&p, "Dial", &m.base), TTRPC_UNAVAILABLE, "refused");
	stop(&p);
}

TEST(a_file_goes_in_and_comes_out)
{
	struct peer p = start();
	_cleanup_close_ int dir = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), s = -1;
	_cleanup_buf_ struct buf stream = { 0 }, back = { 0 };
	_cleanup_free_ char *path = xasprintf("%s/copy", test_tmpdir()), *directory = xstrdup(test_tmpdir());
	Skerry__Agent__V1__CopyInRequest in;
	Skerry__Agent__V1__CopyOutRequest out;
	char id[] = "c", name[] = "copy";
	struct stat st;

	ASSERT_OK(file_write_at(dir, "orig", "content\n", 8, 0751, 0));
	ASSERT_OK(fchmodat(dir, "orig", 0751, 0));
	s = openat(dir, "stream", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_OK(copytree_send(s, dir, "orig"));
	ASSERT_OK(lseek(s, 0, SEEK_SET));
	ASSERT_OK(file_read_fd(s, 1 << 20, &stream));
	skerry__agent__v1__copy_in_request__init(&in);
	in.id = id;
	in.directory = directory;
	in.rename = name;
	TAKE_EMPTY(&p, send_request(&p, "CopyIn", &in.base));
	write_all(&p, "c", stream.p, stream.len);
	read_all(&p, "c", 1, &back);
	read_all(&p, "c", 2, &back);
	ASSERT_EQ(back.len, 0);
	ASSERT_EQ(wait_status(&p, "c", NULL), 0);
	TAKE_EMPTY(&p, send_id(&p, "Release", "c"));
	ASSERT_OK(fstatat(dir, "copy", &st, 0));
	ASSERT_EQ(st.st_mode, S_IFREG | 0751);
	skerry__agent__v1__copy_out_request__init(&out);
	out.id = id;
	out.path = path;
	TAKE_EMPTY(&p, send_request(&p, "CopyOut", &out.base));
	read_all(&p, "c", 1, &back);
	ASSERT_OK(ftruncate(s, 0));
	ASSERT_OK(pwrite_full(s, back.p, back.len, 0));
	ASSERT_OK(lseek(s, 0, SEEK_SET));
	ASSERT_OK(copytree_receive(s, dir, "again", 0, false, NULL));
	buf_truncate(&back, 0);
	ASSERT_OK(file_read_at(dir, "again", 100, &back));
	ASSERT_STREQ(back.p, "content\n");
	free(out.path);
	path = xstrdup("/no/such/thing");
	out.path = path;
	TAKE_EMPTY(&p, send_id(&p, "Release", "c"));
	assert_fails(&p, send_request(&p, "CopyOut", &out.base), TTRPC_NOT_FOUND, "/no/such/thing");
	stop(&p);
}

TEST(stat_and_stats_answer)
{
	struct peer p = start();
	Skerry__Agent__V1__StatRequest q;
	Skerry__Agent__V1__StatResponse *st;
	Skerry__Agent__V1__StatsResponse *m;
	char dir[] = "/usr", none[] = "/no/such/thing", link[] = "/proc/self/exe";

	skerry__agent__v1__stat_request__init(&q);
	q.path = dir;
	st = take(&p, send_request(&p, "Stat", &q.base), &skerry__agent__v1__stat_response__descriptor);
	ASSERT(st->exists && st->directory);
	message_free(st);
	q.path = none;
	st = take(&p, send_request(&p, "Stat", &q.base), &skerry__agent__v1__stat_response__descriptor);
	ASSERT(!st->exists && !st->directory);
	message_free(st);
	q.path = link;
	st = take(&p, send_request(&p, "Stat", &q.base), &skerry__agent__v1__stat_response__descriptor);
	ASSERT(st->exists && !st->directory);
	message_free(st);
	m = take(&p, send_request(&p, "Stats", NULL), &skerry__agent__v1__stats_response__descriptor);
	ASSERT(m->memory_total_bytes > m->memory_available_bytes);
	ASSERT(m->memory_available_bytes > 0);
	ASSERT(m->cpu_busy_ns > 0 && m->uptime_ns > 0 && m->processes > 0);
	ASSERT(m->root_total_bytes >= m->root_used_bytes && m->root_used_bytes > 0);
	message_free(m);
	stop(&p);
}

/* A host that died in the middle of a frame, and the next one. */
TEST(a_new_host_starts_afresh_in_the_middle_of_a_frame)
{
	static const uint8_t nonce[SYNC_NONCE_SIZE] = "NONCE-12";
	struct peer p = start();
	_cleanup_buf_ struct buf b = { 0 };
	Skerry__Agent__V1__HelloResponse *m;
	struct answer a;
	uint32_t id;

	run(&p, &(struct command){ .id = "a", .script = "cat", .input = true });
	(void)send_id(&p, "Wait", "a");
	(void)send_read(&p, "a", 1, 10);
	buf_add(&b, "\0\0\1\0\0\0\0\1\1\0half", 14);
	sync_encode(&b, token, nonce);
	for (size_t i = 0; i < b.len; i += 5)
		ASSERT_OK(write_full(p.fd, b.p + i, b.len - i < 5 ? b.len - i : 5));
	while (!sync_await(&p.in, token, nonce)) {
		ssize_t n = read(p.fd, buf_reserve(&p.in, 100), 100);

		ASSERT(n > 0);
		buf_commit(&p.in, (size_t)n);
	}
	p.next_id = 1;
	m = take(&p, send_request(&p, "Hello", NULL), &skerry__agent__v1__hello_response__descriptor);
	message_free(m);
	/* The process is still there, and nobody else's read takes its bytes. */
	write_all(&p, "a", "kept", 4);
	id = send_read(&p, "a", 1, 10);
	ASSERT_EQ(next_answer(&p, &a), id);
	ASSERT_EQ(a.code, TTRPC_OK);
	answer_done(&a);
	stop(&p);
}

TEST(an_overlong_frame_is_survived_by_a_sync)
{
	static const uint8_t nonce[SYNC_NONCE_SIZE] = "NONCE-34";
	struct peer p = start();
	_cleanup_buf_ struct buf b = { 0 };

	buf_add(&b, "\xff\xff\xff\xff\0\0\0\1\1\0garbage", 17);
	sync_encode(&b, token, nonce);
	ASSERT_OK(write_full(p.fd, b.p, b.len));
	while (!sync_await(&p.in, token, nonce)) {
		ssize_t n = read(p.fd, buf_reserve(&p.in, 100), 100);

		ASSERT(n > 0);
		buf_commit(&p.in, (size_t)n);
	}
	message_free(take(&p, send_request(&p, "Hello", NULL), &skerry__agent__v1__hello_response__descriptor));
	stop(&p);
}

TEST(sessions_are_bounded_and_old_ones_give_way)
{
	struct peer p = start();

	for (int i = 0; i < 300; i++) {
		char id[16];
		_cleanup_buf_ struct buf out = { 0 };

		snprintf(id, sizeof(id), "s%d", i);
		run(&p, &(struct command){ .id = id, .script = ":" });
		read_all(&p, id, 1, &out);
		read_all(&p, id, 2, &out);
		ASSERT_EQ(wait_status(&p, id, NULL), 0);
	}
	stop(&p);
}

TEST(an_idle_agent_sleeps)
{
	struct peer p = start();
	_cleanup_free_ char *path = xasprintf("/proc/%d/schedstat", p.pid);
	_cleanup_buf_ struct buf before = { 0 }, after = { 0 };

	message_free(take(&p, send_request(&p, "Hello", NULL), &skerry__agent__v1__hello_response__descriptor));
	run(&p, &(struct command){ .id = "a", .script = "sleep 100", .input = true });
	/* What was begun settles some time; who woke up again and again would do so in every span. */
	for (int span = 0; span < 5 && (!after.p || strcmp(after.p, before.p) != 0); span++) {
		buf_truncate(&before, 0);
		buf_truncate(&after, 0);
		if (file_read_at(AT_FDCWD, path, 100, &before) < 0)
			test_skip("no schedstat");
		poll(NULL, 0, 1000); /* lint: the span is what is measured */
		ASSERT_OK(file_read_at(AT_FDCWD, path, 100, &after));
	}
	ASSERT_STREQ(after.p, before.p);
	stop(&p);
}
