/* Attached processes and dialled ports, against the real agent over a socket: no VM and no monitor between. */
#include "machine/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "agent_scene.h"
#include "base/clock.h"
#include "base/file.h"
#include "machine/client.h"
#include "test.h"

enum { NOBODYS_PORT = 1, KEPT_TEXTS = 8 };

static char *kept_texts[KEPT_TEXTS];

/* Standard streams of this process, put aside while something else stands there. */
static int saved[3] = { -1, -1, -1 };

static void stand_in(int in, int out, int err)
{
	int fds[3] = { in, out, err };

	fflush(stdout);
	for (int i = 0; i < 3; i++) {
		saved[i] = fcntl(i, F_DUPFD_CLOEXEC, 20);
		if (fds[i] >= 0)
			dup2(fds[i], i);
	}
}

static void stand_back(void)
{
	for (int i = 0; i < 3; i++) {
		dup2(saved[i], i);
		close(saved[i]);
	}
}

static int memory_file(const void *p, size_t n)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	ASSERT_OK(fd);
	if (n)
		ASSERT_OK(pwrite_full(fd, p, n, 0));
	return fd;
}

/* Borrowed until KEPT_TEXTS more were asked for. */
static char *file_text(int fd)
{
	static unsigned n;
	struct buf b = {};

	ASSERT_OK(lseek(fd, 0, SEEK_SET));
	ASSERT_OK(file_read_fd(fd, 64 << 20, &b));
	free(kept_texts[n % KEPT_TEXTS]);
	kept_texts[n % KEPT_TEXTS] = buf_take(&b);
	return kept_texts[n++ % KEPT_TEXTS];
}

struct result {
	int r, status;
	struct error err;
	int out, complaint;
};

static void result_done(struct result *x)
{
	error_done(&x->err);
}

static struct result run_in(struct client *c, struct exec_options *o, int in, int out, const char *script)
{
	struct result x = { .status = -1,
			    .out = out >= 0 ? out : memory_file(NULL, 0),
			    .complaint = memory_file(NULL, 0) };
	_cleanup_strv_ struct strv args = {};

	strv_add(&args, "/bin/sh");
	strv_add(&args, "-c");
	strv_add(&args, script);
	if (!o->args)
		o->args = &args;
	stand_in(in, x.out, x.complaint);
	x.r = exec_run(c, o, &x.status, &x.err);
	stand_back();
	return x;
}

TEST(output_error_output_and_status_come_through)
{
	struct client c;
	_cleanup_(result_done) struct result x = {};

	connect_agent(&c);
	x = run_in(&c, &(struct exec_options){}, -1, -1, "echo out; echo err >&2; exit 7");
	ASSERT_OK(x.r);
	ASSERT_EQ(x.status, 7);
	ASSERT_STREQ(file_text(x.out), "out\n");
	ASSERT_STREQ(file_text(x.complaint), "err\n");
	/* And again on the same connection. */
	x = run_in(&c, &(struct exec_options){}, -1, -1, "kill -9 $$");
	ASSERT_OK(x.r);
	ASSERT_EQ(x.status, 137);
}

TEST(environment_and_directory_are_passed)
{
	_cleanup_strv_ struct strv env = {};
	struct client c;
	_cleanup_(result_done) struct result x = {};

	connect_agent(&c);
	strv_add(&env, "WORD=a b");
	x = run_in(&c, &(struct exec_options){ .env = &env, .cwd = "/usr" }, -1, -1, "echo \"$WORD\"; pwd");
	ASSERT_OK(x.r);
	ASSERT_STREQ(file_text(x.out), "a b\n/usr\n");
}

TEST(what_cannot_be_started_says_so_by_its_status)
{
	_cleanup_strv_ struct strv missing = {}, text = {};
	struct client c;
	_cleanup_(result_done) struct result x = {};

	connect_agent(&c);
	strv_add(&missing, "/no/such/program");
	x = run_in(&c, &(struct exec_options){ .args = &missing }, -1, -1, "");
	ASSERT_EQ(x.status, 127);
	strv_add(&text, "/etc/passwd");
	x = run_in(&c, &(struct exec_options){ .args = &text }, -1, -1, "");
	ASSERT_EQ(x.status, 126);
}

TEST(a_large_file_goes_through_and_back)
{
	_cleanup_free_ void *p = pattern();
	struct client c;
	_cleanup_(result_done) struct result x = {};

	connect_agent(&c);
	x = run_in(&c, &(struct exec_options){ .interactive = true }, memory_file(p, LARGE), -1, "cat");
	ASSERT_OK(x.r);
	ASSERT_EQ(x.status, 0);
	ASSERT_EQ(lseek(x.out, 0, SEEK_END), LARGE);
	ASSERT_MEMEQ(file_text(x.out), p, LARGE);
}

TEST(pipes_that_are_slow_lose_nothing)
{
	_cleanup_free_ uint8_t *p = pattern();
	int in[2], out[2];
	struct client c;
	_cleanup_(result_done) struct result x = {};
	pid_t writer, reader;
	int status;

	connect_agent(&c);
	ASSERT_OK(pipe2(in, O_CLOEXEC));
	ASSERT_OK(pipe2(out, O_CLOEXEC));
	writer = fork();
	if (writer == 0) {
		close(in[0]);
		close(out[1]);
		_exit(write_full(in[1], p, LARGE) < 0);
	}
	reader = fork();
	if (reader == 0) {
		uint8_t got[3000];
		size_t at = 0;
		ssize_t n;

		close(out[1]);
		close(in[1]);
		while ((n = read(out[0], got, sizeof(got))) > 0) {
			if (memcmp(got, p + at, (size_t)n) != 0)
				_exit(2);
			at += (size_t)n;
		}
		_exit(at != LARGE);
	}
	close(in[1]);
	x = run_in(&c, &(struct exec_options){ .interactive = true }, in[0], out[1], "cat");
	close(out[1]);
	ASSERT_OK(x.r);
	ASSERT_EQ(waitpid(writer, &status, 0), writer);
	ASSERT_EQ(status, 0);
	ASSERT_EQ(waitpid(reader, &status, 0), reader);
	ASSERT_EQ(status, 0);
}

TEST(a_process_that_reads_no_input_ends_all_the_same)
{
	_cleanup_free_ void *p = pattern();
	struct client c;
	_cleanup_(result_done) struct result x = {};

	connect_agent(&c);
	x = run_in(&c, &(struct exec_options){ .interactive = true }, memory_file(p, LARGE), -1,
		   "head -c 1 >/dev/null; exit 3");
	ASSERT_OK(x.r);
	ASSERT_EQ(x.status, 3);
}

static void check_nobody_reads(const char *script)
{
	struct client c;
	_cleanup_(result_done) struct result x = {};
	int out[2];

	connect_agent(&c);
	ASSERT_OK(pipe2(out, O_CLOEXEC));
	close(out[0]);
	x = run_in(&c, &(struct exec_options){}, -1, out[1], script);
	ASSERT_OK(x.r);
	ASSERT_EQ(x.status, 128 + SIGPIPE);
}

TEST(when_nobody_reads_the_output_the_process_gets_a_pipe_signal)
{
	check_nobody_reads("exec yes");
}

/* The shell stands between the reader and who writes. */
TEST(when_nobody_reads_the_output_it_ends_whoever_of_them_writes)
{
	check_nobody_reads("yes; true");
}

/* A disk that is full is no reader who has had enough. */
TEST(output_that_cannot_be_written_is_an_error)
{
	struct client c;
	_cleanup_(result_done) struct result x = {}, y = {}, after = {};
	_cleanup_free_ char *begin = xasprintf("echo $$ >%s/pid; exec yes", test_tmpdir());
	_cleanup_free_ char *end = xasprintf("while kill -0 $(cat %s/pid); do sleep 0.05; done", test_tmpdir());
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC);

	ASSERT_OK(full);
	connect_agent(&c);
	x = run_in(&c, &(struct exec_options){}, -1, full, begin);
	ASSERT_EQ(x.r, -ENOSPC);
	ASSERT_EQ(x.status, 125);
	ASSERT_CONTAINS(x.err.msg, "cannot write to standard output: No space left");
	y = run_in(&c, &(struct exec_options){}, -1, full, "echo hi");
	ASSERT_EQ(y.r, -ENOSPC);
	/* What nobody listens to any more has ended. */
	after = run_in(&c, &(struct exec_options){}, -1, -1, end);
	ASSERT_OK(after.r);
	close(full);
}

/* Sends @sig to this process @times times (0 = always), each time once a line has come out of the guest. */
static pid_t signaller(const int pipe[2], int sig, int times)
{
	pid_t parent = getpid(), pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(pipe[1]);
	for (int i = 0; !times || i < times; i++) {
		char b;

		do {
			if (read(pipe[0], &b, 1) != 1)
				_exit(1);
		} while (b != '\n');
		kill(parent, sig);
	}
	while (read(pipe[0], &(char){ 0 }, 1) > 0)
		;
	_exit(0);
}

TEST(signals_are_passed_on)
{
	struct client c;
	_cleanup_(result_done) struct result x = {};
	int out[2];

	connect_agent(&c);
	ASSERT_OK(pipe2(out, O_CLOEXEC));
	signaller(out, SIGTERM, 1);
	x = run_in(&c, &(struct exec_options){}, -1, out[1],
		   "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done");
	ASSERT_OK(x.r);
	ASSERT_EQ(x.status, 9);
}

TEST(three_interrupts_end_it_here)
{
	struct client c;
	_cleanup_(result_done) struct result x = {};
	int out[2];

	connect_agent(&c);
	ASSERT_OK(pipe2(out, O_CLOEXEC));
	/* Three within two seconds: on a host that is slower, others than the first three are. */
	signaller(out, SIGINT, 0);
	x = run_in(&c, &(struct exec_options){}, -1, out[1],
		   "trap 'echo again' INT; echo ready; while :; do sleep 0.05; done");
	ASSERT_EQ(x.r, -EINTR);
}

TEST(an_agent_that_goes_away_is_an_error_not_a_wait)
{
	struct client c;
	_cleanup_(result_done) struct result x = {};
	_cleanup_free_ char *script = NULL;

	connect_agent(&c);
	script = xasprintf("kill -9 %d; sleep 60", (int)agent_pid);
	x = run_in(&c, &(struct exec_options){}, -1, -1, script);
	ASSERT(x.r < 0);
	ASSERT(x.err.msg);
}

TEST(a_terminal_has_its_size_and_is_put_back)
{
	struct winsize size = { .ws_row = 41, .ws_col = 101 };
	struct termios before, after;
	struct client c;
	_cleanup_(result_done) struct result x = {};
	char text[4096];
	size_t len = 0;
	int master, slave;

	connect_agent(&c);
	master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	ASSERT_OK(master);
	ASSERT_OK(grantpt(master));
	ASSERT_OK(unlockpt(master));
	slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	ASSERT_OK(slave);
	ASSERT_OK(ioctl(slave, TIOCSWINSZ, &size));
	ASSERT_OK(tcgetattr(slave, &before));
	/* The shell echoes nothing of it before it has turned that off; Ctrl-C is a byte for the guest's terminal. */
	ASSERT_EQ(write(master, "hello\n", 6), 6);
	x = run_in(&c, &(struct exec_options){ .terminal = true, .interactive = true }, slave, slave,
		   "stty size; test -t 0 && test -t 1 && test -t 2 && echo tty; read l; echo got $l; echo $TERM | grep "
		   "-c .; exit 5");
	ASSERT_OK(x.r);
	ASSERT_EQ(x.status, 5);
	ASSERT_OK(tcgetattr(slave, &after));
	ASSERT_EQ(before.c_lflag, after.c_lflag);
	ASSERT_EQ(before.c_iflag, after.c_iflag);
	ASSERT_EQ(before.c_oflag, after.c_oflag);
	/* The kernel hands a terminal's output over in pieces. */
	text[0] = '\0';
	while (!strstr(text, "got hello") && len < sizeof(text) - 1) {
		ssize_t n = read(master, text + len, sizeof(text) - 1 - len);

		ASSERT(n > 0);
		len += (size_t)n;
		text[len] = '\0';
	}
	ASSERT_CONTAINS(text, "41 101");
	ASSERT_CONTAINS(text, "tty");
	ASSERT_CONTAINS(text, "got hello");
}

TEST(dial_joins_streams_to_a_port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(a);
	_cleanup_error_ struct error err = {};
	struct client c;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), in[2], out = memory_file(NULL, 0), r;

	ASSERT_OK(bind(listener, (struct sockaddr *)&a, sizeof(a)));
	ASSERT_OK(listen(listener, 1));
	ASSERT_OK(getsockname(listener, (struct sockaddr *)&a, &len));
	connect_agent(&c);
	if (fork() == 0) {
		/* Answers, then waits for the other side's end before its own. */
		int s = accept(listener, NULL, NULL);
		char b[64];
		ssize_t n, total = 0;

		(void)!write(s, "SSH-test\n", 9);
		while ((n = read(s, b, sizeof(b))) > 0)
			total += n;
		(void)!write(s, total == 5 ? "five\n" : "other\n", total == 5 ? 5 : 6);
		_exit(0);
	}
	ASSERT_OK(pipe2(in, O_CLOEXEC));
	ASSERT_EQ(write(in[1], "12345", 5), 5);
	close(in[1]);
	stand_in(in[0], out, -1);
	r = dial_run(&c, ntohs(a.sin_port), &err);
	stand_back();
	ASSERT_OK(r);
	ASSERT_STREQ(file_text(out), "SSH-test\nfive\n");
	close(listener);
	/* Not the same one: the process that served may not quite be gone. */
	ASSERT(dial_run(&c, NOBODYS_PORT, &err) < 0);
	ASSERT_CONTAINS(err.msg, "port");
}

/* Neither side says anything more: only the reader's end tells that it is over. */
TEST(a_reader_that_goes_ends_a_silent_connection)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(a);
	_cleanup_error_ struct error err = {};
	struct client c;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), in[2], out[2], r;

	ASSERT_OK(bind(listener, (struct sockaddr *)&a, sizeof(a)));
	ASSERT_OK(listen(listener, 1));
	ASSERT_OK(getsockname(listener, (struct sockaddr *)&a, &len));
	connect_agent(&c);
	ASSERT_OK(pipe2(in, O_CLOEXEC));
	ASSERT_OK(pipe2(out, O_CLOEXEC));
	close(out[0]);
	stand_in(in[0], out[1], -1);
	r = dial_run(&c, ntohs(a.sin_port), &err);
	stand_back();
	ASSERT_EQ(r, -EPIPE);
	close(in[1]);
	close(listener);
}
