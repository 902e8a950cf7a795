/* Processes and connections of the real skerry-init on a socketpair: whatever needs no virtual machine. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent_peer.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/parse.h"
#include "test.h"
#include "wire/ttrpc.h"

TEST(a_command_gives_output_errors_and_status)
{
	struct agent_peer p = agent_start();
	_cleanup_buf_ struct buf out = { 0 }, errors = { 0 };

	agent_run(&p, &(struct agent_command){ .id = "a", .script = "echo out; echo err >&2; exit 3" });
	agent_read_all(&p, "a", 1, &out);
	agent_read_all(&p, "a", 2, &errors);
	ASSERT_STREQ(out.p, "out\n");
	ASSERT_STREQ(errors.p, "err\n");
	ASSERT_EQ(agent_wait_status(&p, "a", NULL), 3);
	ASSERT_EQ(agent_wait_status(&p, "a", NULL), 3);
	AGENT_TAKE_EMPTY(&p, agent_send_id(&p, "Release", "a"));
	agent_assert_fails(&p, agent_send_id(&p, "Wait", "a"), TTRPC_NOT_FOUND, "'a'");
	agent_stop(&p);
}

TEST(wait_answers_only_when_all_was_read)
{
	struct agent_peer p = agent_start();
	struct agent_answer a;
	uint32_t wait, first;

	agent_run(&p, &(struct agent_command){ .id = "a", .script = "echo x" });
	wait = agent_send_id(&p, "Wait", "a");
	message_free(agent_take(&p, agent_send(&p, "Hello", NULL), &skerry__agent__v1__hello_response__descriptor));
	first = agent_send_read(&p, "a", 1, 100);
	ASSERT_EQ(agent_next(&p, &a), first);
	agent_answer_done(&a);
	first = agent_send_read(&p, "a", 1, 100);
	ASSERT_EQ(agent_next(&p, &a), first);
	agent_answer_done(&a);
	first = agent_send_read(&p, "a", 2, 100);
	ASSERT_EQ(agent_next(&p, &a), first);
	agent_answer_done(&a);
	ASSERT_EQ(agent_next(&p, &a), wait);
	agent_answer_done(&a);
	agent_stop(&p);
}

TEST(input_goes_in_and_its_end_is_seen)
{
	struct agent_peer p = agent_start();
	_cleanup_buf_ struct buf out = { 0 };

	agent_run(&p, &(struct agent_command){ .id = "a", .script = "cat; echo end", .input = true });
	agent_write_all(&p, "a", "hello ", 6);
	agent_write_all(&p, "a", "there\n", 6);
	AGENT_TAKE_EMPTY(&p, agent_send_id(&p, "CloseStdin", "a"));
	agent_assert_fails(&p, agent_send_write(&p, "a", "x", 1), TTRPC_DATA_LOSS, "closed");
	agent_read_all(&p, "a", 1, &out);
	ASSERT_STREQ(out.p, "hello there\nend\n");
	agent_stop(&p);
}

/* A writer that nobody reads from is held, and gets on when somebody does. */
TEST(a_megabyte_goes_round_with_back_pressure)
{
	struct agent_peer p = agent_start();
	const size_t n = 1 << 20;
	_cleanup_free_ char *data = malloc(n);
	_cleanup_buf_ struct buf out = { 0 };
	size_t sent = 0;
	uint32_t write_id = 0, read_id = 0;
	bool eof = false, closed = false;

	for (size_t i = 0; i < n; i++)
		data[i] = (char)(i * 7 >> 2);
	agent_run(&p, &(struct agent_command){ .id = "a", .script = "cat", .input = true });
	while (!eof) {
		struct agent_answer a;
		uint32_t id;

		if (!write_id && sent < n)
			write_id = agent_send_write(&p, "a", data + sent, n - sent);
		if (sent == n && !closed) {
			AGENT_TAKE_EMPTY(&p, agent_send_id(&p, "CloseStdin", "a"));
			closed = true;
		}
		/* Reading begins when nothing more goes in. */
		if (!read_id && (sent > 64 << 10 || closed)) {
			read_id = agent_send_read(&p, "a", 1, 100000);
		}
		id = agent_next(&p, &a);
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
		agent_answer_done(&a);
		/* Closing waits for its own answer: no other request may be on its way then. */
		if (sent == n && !closed && read_id) {
			while (agent_next(&p, &a) != read_id)
				;
			Skerry__Agent__V1__ReadResponse *m = message_unpack(
				&skerry__agent__v1__read_response__descriptor, a.payload.p, a.payload.len);

			buf_add(&out, m->data.data, m->data.len);
			read_id = 0;
			message_free(m);
			agent_answer_done(&a);
		}
	}
	ASSERT_EQ(out.len, n);
	ASSERT_MEMEQ(out.p, data, n);
	agent_stop(&p);
}

TEST(a_terminal_is_one)
{
	struct agent_peer p = agent_start();
	_cleanup_buf_ struct buf out = { 0 };
	Skerry__Agent__V1__ResizeRequest m;
	char id[] = "a";

	agent_run(&p, &(struct agent_command){
			      .id = "a",
			      .script = "stty size; read x; stty size; echo $TERM; test -t 0 && test -t 2 && echo tty",
			      .terminal = true,
			      .input = true });
	while (!out.p || !strstr(out.p, "33 99")) {
		Skerry__Agent__V1__ReadResponse *r = agent_take(&p, agent_send_read(&p, "a", 1, 1000),
								&skerry__agent__v1__read_response__descriptor);

		ASSERT(!r->eof);
		buf_add(&out, r->data.data, r->data.len);
		message_free(r);
	}
	skerry__agent__v1__resize_request__init(&m);
	m.id = id;
	m.rows = 10;
	m.cols = 20;
	AGENT_TAKE_EMPTY(&p, agent_send(&p, "Resize", &m.base));
	agent_write_all(&p, "a", "\n", 1);
	agent_read_all(&p, "a", 1, &out);
	ASSERT_CONTAINS(out.p, "10 20");
	ASSERT_CONTAINS(out.p, "xterm");
	ASSERT_CONTAINS(out.p, "tty");
	ASSERT_EQ(agent_wait_status(&p, "a", NULL), 0);
	agent_stop(&p);
}

TEST(control_c_in_a_terminal_interrupts)
{
	struct agent_peer p = agent_start();
	_cleanup_buf_ struct buf out = { 0 };
	bool signaled = false;

	agent_run(&p, &(struct agent_command){
			      .id = "a", .script = "echo go; exec sleep 100", .terminal = true, .input = true });
	while (!out.p || !strstr(out.p, "go")) {
		Skerry__Agent__V1__ReadResponse *r = agent_take(&p, agent_send_read(&p, "a", 1, 1000),
								&skerry__agent__v1__read_response__descriptor);

		buf_add(&out, r->data.data, r->data.len);
		message_free(r);
	}
	agent_write_all(&p, "a", "\003", 1);
	agent_read_all(&p, "a", 1, &out);
	ASSERT_EQ(agent_wait_status(&p, "a", &signaled), 128 + SIGINT);
	ASSERT(signaled);
	agent_stop(&p);
}

TEST(signals_arrive)
{
	struct agent_peer p = agent_start();
	_cleanup_buf_ struct buf out = { 0 };
	Skerry__Agent__V1__SignalRequest m;
	bool signaled = false;
	char id[] = "a";

	agent_run(&p, &(struct agent_command){ .id = "a", .script = "sleep 100" });
	skerry__agent__v1__signal_request__init(&m);
	m.id = id;
	m.signal = SIGKILL;
	AGENT_TAKE_EMPTY(&p, agent_send(&p, "Signal", &m.base));
	agent_read_all(&p, "a", 1, &out);
	agent_read_all(&p, "a", 2, &out);
	ASSERT_EQ(agent_wait_status(&p, "a", &signaled), 128 + SIGKILL);
	ASSERT(signaled);
	agent_assert_fails(&p, agent_send(&p, "Signal", &m.base), TTRPC_NOT_FOUND, "ended");
	m.signal = 99;
	agent_assert_fails(&p, agent_send(&p, "Signal", &m.base), TTRPC_INVALID_ARGUMENT, "99");
	agent_stop(&p);
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
	struct agent_peer p = agent_start();

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		Skerry__Agent__V1__ExecRequest m;
		_cleanup_buf_ struct buf out = { 0 };
		char id[] = "x", *args[1] = { xstrdup(cases[i].arg) };

		skerry__agent__v1__exec_request__init(&m);
		m.id = id;
		m.n_args = 1;
		m.args = args;
		message_free(
			agent_take(&p, agent_send(&p, "Exec", &m.base), &skerry__agent__v1__exec_response__descriptor));
		agent_read_all(&p, "x", 1, &out);
		agent_read_all(&p, "x", 2, &out);
		ASSERT_CONTAINS(out.p, cases[i].text);
		ASSERT_EQ(agent_wait_status(&p, "x", NULL), cases[i].status);
		AGENT_TAKE_EMPTY(&p, agent_send_id(&p, "Release", "x"));
		free(args[0]);
	}
	agent_stop(&p);
}

TEST(the_environment_and_directory_are_as_asked)
{
	struct agent_peer p = agent_start();
	_cleanup_buf_ struct buf out = { 0 };

	agent_run(&p, &(struct agent_command){ .id = "a",
					       .script = "pwd; echo $FOO; echo $PATH; echo ${HOME:+home}; umask",
					       .cwd = "/usr/bin",
					       .env = "FOO=bar baz" });
	agent_read_all(&p, "a", 1, &out);
	ASSERT_STREQ(out.p,
		     "/usr/bin\nbar baz\n/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nhome\n0022\n");
	buf_truncate(&out, 0);
	agent_run(&p, &(struct agent_command){ .id = "b", .script = "true", .cwd = "/no/such" });
	agent_read_all(&p, "b", 2, &out);
	ASSERT_CONTAINS(out.p, "/no/such: No such file");
	ASSERT_EQ(agent_wait_status(&p, "a", NULL), 0);
	agent_stop(&p);
}

TEST(another_user_can_be_asked_for)
{
	struct agent_peer p = agent_start();
	_cleanup_buf_ struct buf out = { 0 };

	if (geteuid() != 0)
		test_skip("needs root");
	agent_run(&p, &(struct agent_command){ .id = "a",
					       .script = "id -u; id -g; id -G; echo $USER; echo hi >/dev/stderr",
					       .user = "nobody:daemon" });
	agent_read_all(&p, "a", 1, &out);
	ASSERT_STREQ(out.p, "65534\n1\n1\nnobody\n");
	buf_truncate(&out, 0);
	agent_read_all(&p, "a", 2, &out);
	ASSERT_STREQ(out.p, "hi\n");
	agent_stop(&p);
}

/* A daemon that keeps standard output open must not hold up the caller for ever. */
TEST(a_silent_grandchild_does_not_hold_up_the_end)
{
	struct agent_peer p = agent_start();
	_cleanup_buf_ struct buf out = { 0 };
	uint64_t begin = clock_monotonic_ns(), pid;

	agent_run(&p, &(struct agent_command){ .id = "a", .script = "sleep 1000 & echo $!; exit 0" });
	agent_read_all(&p, "a", 1, &out);
	ASSERT(out.len > 1);
	buf_truncate(&out, out.len - 1);
	ASSERT_OK(parse_u64(out.p, 2, INT32_MAX, &pid));
	agent_read_all(&p, "a", 2, &out);
	ASSERT_EQ(agent_wait_status(&p, "a", NULL), 0);
	ASSERT(clock_monotonic_ns() - begin < 100 * NS_PER_SEC);
	ASSERT_OK(kill((pid_t)pid, SIGKILL));
	agent_stop(&p);
}

TEST(release_ends_a_process)
{
	struct agent_peer p = agent_start();
	_cleanup_free_ char *mark = xasprintf("%s/hup", test_tmpdir());
	_cleanup_free_ char *script =
		xasprintf("trap 'echo > %s; exit' HUP; echo ready; while :; do sleep 0.1; done", mark);
	Skerry__Agent__V1__ReadResponse *r;
	struct pollfd hup = { .events = POLLIN };

	ASSERT_OK(mkfifo(mark, 0600));
	hup.fd = open(mark, O_RDWR | O_CLOEXEC);
	ASSERT_OK(hup.fd);
	agent_run(&p, &(struct agent_command){ .id = "a", .script = script });
	r = agent_take(&p, agent_send_read(&p, "a", 1, 100), &skerry__agent__v1__read_response__descriptor);
	ASSERT(!r->eof);
	message_free(r);
	AGENT_TAKE_EMPTY(&p, agent_send_id(&p, "Release", "a"));
	agent_assert_fails(&p, agent_send_id(&p, "Wait", "a"), TTRPC_NOT_FOUND, "'a'");
	ASSERT_EQ(poll(&hup, 1, 100000), 1);
	close(hup.fd);
	agent_stop(&p);
}

TEST(a_port_can_be_dialled)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	struct sockaddr_in free_one = a;
	socklen_t n = sizeof(a);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), c;
	int nobody = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct agent_peer p = agent_start();
	_cleanup_buf_ struct buf out = { 0 };
	Skerry__Agent__V1__DialRequest m;
	char id[] = "d", got[8] = { 0 };

	ASSERT_OK(bind(listener, (struct sockaddr *)&a, sizeof(a)));
	ASSERT_OK(listen(listener, 1));
	ASSERT_OK(getsockname(listener, (struct sockaddr *)&a, &n));
	skerry__agent__v1__dial_request__init(&m);
	m.id = id;
	m.port = ntohs(a.sin_port);
	AGENT_TAKE_EMPTY(&p, agent_send(&p, "Dial", &m.base));
	c = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	ASSERT_OK(c);
	agent_write_all(&p, "d", "ping", 4);
	ASSERT_OK(read_full(c, got, 4));
	ASSERT_STREQ(got, "ping");
	AGENT_TAKE_EMPTY(&p, agent_send_id(&p, "CloseStdin", "d"));
	ASSERT_EQ(read(c, got, 1), 0);
	ASSERT_OK(write_full(c, "pong", 4));
	close(c);
	agent_read_all(&p, "d", 1, &out);
	ASSERT_STREQ(out.p, "pong");
	AGENT_TAKE_EMPTY(&p, agent_send_id(&p, "Release", "d"));
	close(listener);
	/* A port that is taken, so that nobody else gets it, and that nobody listens at. */
	ASSERT_OK(bind(nobody, (struct sockaddr *)&free_one, sizeof(free_one)));
	ASSERT_OK(getsockname(nobody, (struct sockaddr *)&a, &n));
	m.port = ntohs(a.sin_port);
	agent_assert_fails(&p, agent_send(&p, "Dial", &m.base), TTRPC_UNAVAILABLE, "refused");
	close(nobody);
	agent_stop(&p);
}

TEST(sessions_are_bounded_and_old_ones_give_way)
{
	struct agent_peer p = agent_start();

	for (int i = 0; i < 300; i++) {
		char id[16];
		_cleanup_buf_ struct buf out = { 0 };

		snprintf(id, sizeof(id), "s%d", i);
		agent_run(&p, &(struct agent_command){ .id = id, .script = ":" });
		agent_read_all(&p, id, 1, &out);
		agent_read_all(&p, id, 2, &out);
		ASSERT_EQ(agent_wait_status(&p, id, NULL), 0);
	}
	agent_stop(&p);
}
