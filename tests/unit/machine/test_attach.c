/* Attached processes, dialled ports and copies, against the real agent over a socket: no VM and no monitor between. */
#include "machine/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/parse.h"
#include "machine/agent_link.h"
#include "machine/client.h"
#include "test.h"
#include "wire/copystream.h"
#include "wire/message.h"

enum { LARGE = 6 << 20, NOBODYS_PORT = 1 };

static bool ready;

static void on_ready(const char *version, const char *error, void *data)
{
	(void)version;
	(void)error;
	(void)data;
	ready = true;
}

static void on_ending(enum agent_ending how, void *data)
{
	(void)how;
	(void)data;
}

static void on_lost(void *data)
{
	struct client *c = data;

	c->rpc = NULL;
}

static const struct agent_link_events events = { on_ready, on_ending, on_lost };
static pid_t agent_pid;

enum { KEPT_TEXTS = 8 };
__attribute__((used)) static struct client kept_client;
__attribute__((used)) static struct agent_link *kept_link;
static char *kept_texts[KEPT_TEXTS];

/* The guest: this host, seen by an agent. */
static void connect_agent(struct client *c)
{
	static const uint8_t token[SYNC_TOKEN_SIZE] = { 0xab };
	const char *program = getenv("SKERRY_INIT");
	struct agent_link *link;
	int pair[2];

	ASSERT(program);
	signal(SIGPIPE, SIG_IGN);
	ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	agent_pid = fork();
	ASSERT_OK(agent_pid);
	if (agent_pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(pair[1], 9);
		execl(program, program, "agent", "--fd", "9", "--token", "ab000000000000000000000000000000", NULL);
		_exit(1);
	}
	close(pair[1]);
	*c = (struct client){ .name = xstrdup("test") };
	ASSERT_OK(loop_new(&c->loop));
	ASSERT_OK(agent_link_new(c->loop, pair[0], token, &events, c, &link));
	while (!ready)
		ASSERT(loop_step(c->loop, clock_monotonic_ns() + 100 * NS_PER_SEC) > 0);
	c->rpc = agent_link_rpc(link);
	ASSERT(c->rpc);
	/* It lives as long as the test's process does: reachable to the end, so no leak. */
	kept_client = *c;
	kept_link = link;
}

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

static void *pattern(void)
{
	uint8_t *p = xcalloc(1, LARGE);

	for (size_t i = 0; i < LARGE; i++)
		p[i] = (uint8_t)(i * 31 + (i >> 11));
	return p;
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

static void write_file(const char *dir, const char *name, const void *p, size_t n, mode_t mode)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", dir, name);
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	ASSERT_OK(fd);
	ASSERT_OK(write_full(fd, p, n));
	ASSERT_OK(fchmod(fd, mode));
}

static void check_tree(const char *dir)
{
	_cleanup_free_ char *large = xasprintf("%s/large", dir), *sparse = xasprintf("%s/sub/sparse", dir),
			    *link = xasprintf("%s/link", dir), *script = xasprintf("%s/script", dir);
	_cleanup_buf_ struct buf b = {};
	_cleanup_free_ void *p = pattern();
	char target[64] = "";
	struct stat st;

	ASSERT_OK(file_read_at(AT_FDCWD, large, 64 << 20, &b));
	ASSERT_EQ(b.len, LARGE);
	ASSERT_MEMEQ(b.p, p, LARGE);
	ASSERT_OK(stat(sparse, &st));
	ASSERT_EQ(st.st_size, 100 << 20);
	ASSERT(st.st_blocks * 512 < 1 << 20);
	ASSERT_OK(stat(script, &st));
	ASSERT_EQ(st.st_mode & 07777, 0750);
	ASSERT(readlink(link, target, sizeof(target) - 1) > 0);
	ASSERT_STREQ(target, "large");
}

static char *make_tree(void)
{
	char *dir = xasprintf("%s/tree", test_tmpdir());
	_cleanup_free_ char *sub = xasprintf("%s/sub", dir), *sparse = xasprintf("%s/sub/sparse", dir),
			    *link = xasprintf("%s/link", dir);
	_cleanup_free_ void *p = pattern();

	ASSERT_OK(mkdir(dir, 0755));
	ASSERT_OK(mkdir(sub, 0700));
	write_file(dir, "large", p, LARGE, 0644);
	write_file(dir, "script", "#!/bin/sh\n", 10, 0750);
	write_file(dir, "sub/sparse", "x", 1, 0600);
	ASSERT_OK(truncate(sparse, 100 << 20));
	ASSERT_OK(symlink("large", link));
	return dir;
}

TEST(trees_are_copied_in_and_out_whole)
{
	_cleanup_free_ char *dir = make_tree(), *there = xasprintf("%s/there", test_tmpdir()),
			    *back = xasprintf("%s/back", test_tmpdir()),
			    *inside = xasprintf("%s/back/there", test_tmpdir());
	struct error err = {};
	struct client c;

	connect_agent(&c);
	ASSERT_OK(copy_in(&c, dir, there, &err));
	check_tree(there);
	/* To a new name, and into a directory that exists. */
	ASSERT_OK(copy_out(&c, there, back, &err));
	check_tree(back);
	ASSERT_OK(copy_out(&c, there, back, &err));
	check_tree(inside);
}

TEST(one_file_is_copied_to_a_name_or_into_a_directory)
{
	_cleanup_free_ char *from = xasprintf("%s/from", test_tmpdir()), *to = xasprintf("%s/to", test_tmpdir()),
			    *dir = xasprintf("%s/dir", test_tmpdir()),
			    *in_dir = xasprintf("%s/dir/from", test_tmpdir());
	struct error err = {};
	struct client c;

	write_file(test_tmpdir(), "from", "text", 4, 0640);
	ASSERT_OK(mkdir(dir, 0755));
	connect_agent(&c);
	ASSERT_OK(copy_in(&c, from, to, &err));
	ASSERT_EQ(access(to, F_OK), 0);
	ASSERT_OK(copy_in(&c, from, dir, &err));
	ASSERT_EQ(access(in_dir, F_OK), 0);
	unlink(in_dir);
	ASSERT_OK(copy_out(&c, from, dir, &err));
	ASSERT_EQ(access(in_dir, F_OK), 0);
	/* Over a file that is there. */
	ASSERT_OK(copy_out(&c, from, to, &err));
}

TEST(a_link_with_a_slash_is_what_it_leads_to)
{
	_cleanup_free_ char *dir = xasprintf("%s/v1", test_tmpdir()), *link = xasprintf("%s/current", test_tmpdir()),
			    *slash = xasprintf("%s/", link), *to = xasprintf("%s/to", test_tmpdir()),
			    *file = xasprintf("%s/to/current/page", test_tmpdir());
	struct error err = {};
	struct client c;

	ASSERT_OK(mkdir(dir, 0755));
	ASSERT_OK(mkdir(to, 0755));
	write_file(dir, "page", "text", 4, 0640);
	ASSERT_OK(symlink("v1", link));
	connect_agent(&c);
	ASSERT_OK(copy_in(&c, slash, to, &err));
	ASSERT_EQ(access(file, F_OK), 0);
}

static void copy_fails(int r, struct error *err, const char *message)
{
	ASSERT(r < 0);
	ASSERT_CONTAINS(err->msg, message);
	error_done(err);
}

TEST(copies_that_cannot_be_made_say_why)
{
	_cleanup_free_ char *from = xasprintf("%s/from", test_tmpdir()),
			    *nowhere = xasprintf("%s/no/such/place", test_tmpdir()),
			    *slash = xasprintf("%s/new/", test_tmpdir());
	struct error err = {};
	struct client c;

	write_file(test_tmpdir(), "from", "text", 4, 0640);
	connect_agent(&c);
	copy_fails(copy_in(&c, nowhere, "/tmp", &err), &err, "cannot copy");
	copy_fails(copy_in(&c, from, nowhere, &err), &err, "No such file");
	copy_fails(copy_in(&c, from, slash, &err), &err, "no such directory");
	copy_fails(copy_out(&c, nowhere, test_tmpdir(), &err), &err, "No such file");
	copy_fails(copy_out(&c, from, nowhere, &err), &err, "No such file");
	copy_fails(copy_out(&c, from, slash, &err), &err, "no such directory");
	copy_fails(copy_in(&c, from, "/proc/nothing", &err), &err, "nothing: ");
	/* What could be read came over before the error was told. */
	copy_fails(copy_out(&c, "/proc/self/mem", test_tmpdir(), &err), &err, "mem");
}

TEST(a_file_that_may_not_become_that_large_is_an_error)
{
	_cleanup_free_ void *p = pattern();
	_cleanup_free_ char *from = xasprintf("%s/from", test_tmpdir()), *to = xasprintf("%s/to", test_tmpdir());
	struct rlimit before, few;
	struct error err = {};
	struct client c;
	int r;

	write_file(test_tmpdir(), "from", p, LARGE, 0640);
	connect_agent(&c);
	ASSERT_OK(getrlimit(RLIMIT_FSIZE, &before));
	few = (struct rlimit){ LARGE / 2, before.rlim_max };
	ASSERT_OK(setrlimit(RLIMIT_FSIZE, &few));
	r = copy_out(&c, from, to, &err);
	ASSERT_OK(setrlimit(RLIMIT_FSIZE, &before));
	copy_fails(r, &err, "File too large");
}

/* ---- A guest that sends something else ---- */

static struct buf sent; /* what it answers a Read with */
static struct rpc *liar;
static bool kills; /* and who writes the files here is killed before it has them */

/* Whatever this process has started. */
static void kill_children(void)
{
	_cleanup_free_ char *path = xasprintf("/proc/self/task/%d/children", (int)getpid());
	_cleanup_buf_ struct buf text = {};
	char *at, *rest;
	uint64_t pid;

	ASSERT_OK(file_read_at(AT_FDCWD, path, 4096, &text));
	rest = text.p;
	while ((at = strsep(&rest, " ")))
		if (*at) {
			ASSERT_OK(parse_u64(at, 1, INT32_MAX, &pid));
			ASSERT_OK(kill((pid_t)pid, SIGKILL));
		}
}

static void on_lying_request(struct rpc *r, uint32_t stream, const struct ttrpc_request *q, void *data)
{
	Skerry__Agent__V1__ReadResponse m = SKERRY__AGENT__V1__READ_RESPONSE__INIT;
	_cleanup_buf_ struct buf packed = {};

	(void)data;
	if (streq(q->method, "Read")) {
		if (kills)
			kill_children();
		m.data = (ProtobufCBinaryData){ sent.len, (uint8_t *)sent.p };
		m.eof = true;
		message_pack(&packed, &m.base);
	}
	rpc_reply(r, stream, packed.p, packed.len);
}

static void on_closed(struct rpc *r, int num, void *data)
{
	(void)r;
	(void)num;
	(void)data;
}

static void connect_liar(struct client *c, const struct copystream_record *records, size_t n)
{
	struct copystream_record end = { .type = COPYSTREAM_END };
	int pair[2];

	buf_truncate(&sent, 0);
	for (size_t i = 0; i < n; i++)
		ASSERT_OK(copystream_encode(&sent, &records[i]));
	ASSERT_OK(copystream_encode(&sent, &end));
	signal(SIGPIPE, SIG_IGN);
	ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair));
	*c = (struct client){ .name = xstrdup("test") };
	ASSERT_OK(loop_new(&c->loop));
	ASSERT_OK(rpc_new(c->loop, pair[0], NULL, on_closed, NULL, &c->rpc));
	ASSERT_OK(rpc_new(c->loop, pair[1], on_lying_request, on_closed, NULL, &liar));
}

static void disconnect_liar(struct client *c)
{
	rpc_free(c->rpc);
	rpc_free(liar);
	loop_free(c->loop);
	free(TAKE_PTR(c->name));
	buf_done(&sent);
}

TEST(what_is_copied_out_has_the_name_that_was_asked_for)
{
	static const struct copystream_record lies[] = {
		{ .type = COPYSTREAM_ENTRY, .path = ".evil", .mode = S_IFDIR | 0755 },
		{ .type = COPYSTREAM_ENTRY, .path = ".evil/keys", .mode = S_IFREG | 0600 },
	};
	static const char *const asked[] = { "/x/log", "/x/log/", "/x/log/.", "/log//./" };
	_cleanup_free_ char *evil = xasprintf("%s/.evil", test_tmpdir()), *log = xasprintf("%s/log", test_tmpdir()),
			    *keys = xasprintf("%s/log/keys", test_tmpdir());
	struct error err = {};
	struct client c;

	for (size_t i = 0; i < ARRAY_SIZE(asked); i++) {
		connect_liar(&c, lies, ARRAY_SIZE(lies));
		ASSERT_OK(copy_out(&c, asked[i], test_tmpdir(), &err));
		ASSERT(access(evil, F_OK) < 0);
		ASSERT_OK(unlink(keys));
		ASSERT_OK(rmdir(log));
		disconnect_liar(&c);
	}
}

TEST(what_has_no_name_is_not_copied_into_a_directory)
{
	static const char *const asked[] = { "/", "/.", "//", "/etc/..", "/etc/../", "/etc/../." };
	static const struct copystream_record lie = { .type = COPYSTREAM_ENTRY,
						      .path = ".evil",
						      .mode = S_IFREG | 0600 };
	_cleanup_free_ char *evil = xasprintf("%s/.evil", test_tmpdir()), *name = xasprintf("%s/name", test_tmpdir());
	struct error err = {};
	struct client c;

	for (size_t i = 0; i < ARRAY_SIZE(asked); i++) {
		connect_liar(&c, &lie, 1);
		copy_fails(copy_out(&c, asked[i], test_tmpdir(), &err), &err, "has no name");
		ASSERT(access(evil, F_OK) < 0);
		disconnect_liar(&c);
	}
	connect_liar(&c, &lie, 1);
	ASSERT_OK(copy_out(&c, "/", name, &err));
	ASSERT_EQ(access(name, F_OK), 0);
	disconnect_liar(&c);
}

TEST(who_was_killed_has_not_copied_anything)
{
	static const struct copystream_record file = { .type = COPYSTREAM_ENTRY, .path = "x", .mode = S_IFREG | 0600 };
	_cleanup_free_ char *to = xasprintf("%s/to", test_tmpdir());
	struct error err = {};
	struct client c;

	connect_liar(&c, &file, 1);
	kills = true;
	copy_fails(copy_out(&c, "/x", to, &err), &err, "was killed by signal 9");
	disconnect_liar(&c);
}
