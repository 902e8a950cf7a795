/* What a machine's monitor refuses, outlives, hands over to the next, and tells its guest. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "cli.h"
#include "machine/client.h"
#include "machine/snapshot.h"
#include "monitor.pb-c.h"

#define M          "m"
#define CALL_NS    (120 * NS_PER_SEC)
#define PATIENCE_S 120

enum { STILL_MS = 8000, LATE_MS = 5000, OFF_S = 2 };
enum { PORT_FIRST = 18000, PORTS = 2000 };

static void ok(struct cli r)
{
	ASSERT_STATUS(r, 0);
	cli_done(&r);
}

static void refused(struct cli r, int status, const char *text)
{
	ASSERT_STATUS(r, status);
	ASSERT_CONTAINS(r.err, text);
	cli_done(&r);
}

static void says(struct cli r, const char *text)
{
	ASSERT_STATUS(r, 0);
	ASSERT_STREQ(r.out, text);
	cli_done(&r);
}

static void home_path(char *path, size_t n, const char *what)
{
	snprintf(path, n, "%s/%s", cli_home(true), what);
}

static struct name named(const char *text)
{
	struct name n;

	ASSERT_OK(name_parse(text, "name", &n, NULL));
	return n;
}

static void end(void)
{
	ok(cli("delete", "--force", "-y", M, NULL));
	ASSERT(cli_processes_gone(PATIENCE_S));
}

TEST(what_is_refused_while_it_stands_still_is_not_done_later)
{
	const struct name machine = named(M), snapshot = named("before");
	Skerry__Monitor__V1__HoldRequest hold = SKERRY__MONITOR__V1__HOLD_REQUEST__INIT;
	_cleanup_store_ struct store s = {};
	_cleanup_error_ struct error e = {};
	struct client c;
	char wish[400];

	home_path(wish, sizeof(wish), "machines/" M "/revert.json");
	ok(cli("create", M, "--image", "tiny", NULL));
	ok(cli("start", "--wait", M, NULL));
	ASSERT_OK(store_open(&s, NULL));
	ASSERT_OK(snapshot_save(&s, &machine, &snapshot, NULL, NULL));
	ok(cli("exec", M, CLI_SHELL, "echo kept >/root/file; sync", NULL));
	ASSERT_OK(client_connect(&s, &machine, &c, NULL));
	ASSERT_OK(client_call(&c, MONITOR_SERVICE, "Hold", &hold.base, CALL_NS, NULL, NULL));
	ASSERT_EQ(snapshot_restore(&s, &machine, &snapshot, &e), -EBUSY);
	ASSERT_CONTAINS(e.msg, "stand still");
	ASSERT_EQ(error_exit_status(&e), 75);
	ASSERT_EQ(access(wish, F_OK), -1);
	refused(cli("pause", M, NULL), 75, "stand still");
	ASSERT_OK(client_call(&c, MONITOR_SERVICE, "Unhold", NULL, CALL_NS, NULL, NULL));
	client_done(&c);
	ok(cli("pause", M, NULL));
	refused(cli("pause", M, NULL), 75, "not running");
	ok(cli("resume", M, NULL));
	refused(cli("resume", M, NULL), 75, "not paused");
	ok(cli("restart", M, NULL));
	says(cli("exec", M, "cat", "/root/file", NULL), "kept\n");
	end();
}

TEST(an_engine_that_is_slow_is_not_killed_for_it)
{
	int engine;

	cli_home(true);
	ok(cli("run", "-d", "--name", M, "tiny", "sleep", "1000", NULL));
	ok(cli("exec", M, "touch", "/run/mark", NULL));
	engine = cli_inspect_pid(M, "pid");
	ASSERT_OK(kill(engine, SIGSTOP));
	cli_kill(cli_inspect_pid(M, "monitor_pid"));
	refused(cli("exec", M, "true", NULL), 125, "runs on without a monitor");
	ASSERT_OK(kill(engine, SIGCONT));
	ok(cli("exec", M, "test", "-e", "/run/mark", NULL));
	ASSERT_EQ(cli_inspect_pid(M, "pid"), engine);
	ok(cli("stop", M, NULL));
	end();
}

TEST(what_runs_with_a_damaged_record_can_be_deleted)
{
	char path[400];
	int fd;

	home_path(path, sizeof(path), "machines/" M "/machine.json");
	ok(cli("create", M, "--image", "tiny", NULL));
	ok(cli("start", M, NULL));
	fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	ASSERT_OK(fd);
	ASSERT_EQ(write(fd, "{", 1), 1);
	close(fd);
	refused(cli("delete", "-y", M, NULL), 75, "is running");
	end();
	ASSERT_EQ(access(path, F_OK), -1);
}

/* Until it has another engine than @before; its pid. */
static int other_engine(int before)
{
	uint64_t deadline = clock_monotonic_ns() + PATIENCE_S * NS_PER_SEC;

	for (;;) {
		_cleanup_cli_ struct cli r = cli("pid", M, NULL);
		int pid = r.status == 0 ? atoi(r.out) : 0; /* lint: our own program printed it */

		if (pid > 0 && pid != before)
			return pid;
		if (clock_monotonic_ns() > deadline)
			test_fail(__FILE__, __LINE__, "never: %s%s", r.out, r.err);
		(void)poll(NULL, 0, 200); /* lint: nothing announces this */
	}
}

/* A listener of @port; -1 when somebody else has it. */
static int listener(uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	ASSERT_OK(fd);
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ASSERT_OK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(fd, 1) == 0)
		return fd;
	close(fd);
	return -1;
}

/* Kills the engine, and takes its port before the next one does, or after that one was killed as well. */
static int take_port(uint16_t port, int *engine)
{
	uint64_t deadline = clock_monotonic_ns() + PATIENCE_S * NS_PER_SEC;

	cli_kill(*engine);
	for (;;) {
		int fd = listener(port);
		_cleanup_cli_ struct cli r = {};
		int pid;

		if (fd >= 0)
			return fd;
		ASSERT(clock_monotonic_ns() < deadline);
		r = cli("pid", M, NULL);
		pid = r.status == 0 ? atoi(r.out) : 0; /* lint: our own program printed it */
		if (pid <= 0 || pid == *engine)
			continue;
		*engine = pid;
		cli_kill(pid);
	}
}

TEST(a_restart_that_fails_is_tried_again)
{
	/* None that the kernel gives to whoever asks for any; other tests have other ranges (test_vm.c, test_forward.c). */
	const uint16_t port = (uint16_t)(PORT_FIRST + getpid() % PORTS);
	char publish[32], path[400];
	int fd, engine;

	home_path(path, sizeof(path), "machines/" M "/exit.json");
	snprintf(publish, sizeof(publish), "127.0.0.1:%u:80", port);
	ok(cli("create", M, "--image", "tiny", "--restart", "always", "--publish", publish, NULL));
	ok(cli("start", "--wait", M, NULL));
	engine = cli_inspect_pid(M, "pid");
	fd = take_port(port, &engine);
	/* The failed start leaves its reason. */
	for (int i = 0;; i++) {
		_cleanup_buf_ struct buf b = {};

		if (file_read_at(AT_FDCWD, path, 4096, &b) >= 0 && strstr(b.p, "is in use"))
			break;
		ASSERT(i < PATIENCE_S * 10);
		(void)poll(NULL, 0, 100); /* lint: nothing announces this */
	}
	close(fd);
	engine = other_engine(engine);
	ok(cli("exec", M, "true", NULL));
	/* And who asks for its end gets it while it waits. */
	fd = take_port(port, &engine);
	ok(cli("stop", M, NULL));
	ASSERT(cli_processes_gone(PATIENCE_S));
	close(fd);
	end();
}

TEST(the_guest_s_own_reboots_use_up_no_restarts)
{
	int engine;

	cli_home(true);
	ok(cli("create", M, "--image", "tiny", "--restart", "on-failure:1", NULL));
	ok(cli("start", "--wait", M, NULL));
	engine = cli_inspect_pid(M, "pid");
	cli_done(&(struct cli[]){ cli("exec", M, "reboot", NULL) }[0]);
	engine = other_engine(engine);
	ok(cli("wait", "--for", "agent", "--timeout", "120", M, NULL));
	cli_kill(engine);
	engine = other_engine(engine);
	ok(cli("wait", "--for", "agent", "--timeout", "120", M, NULL));
	/* That was the one. */
	cli_kill(engine);
	ASSERT(cli_processes_gone(PATIENCE_S));
	refused(cli("exec", M, "true", NULL), 125, "not running");
	end();
}

/* How far the guest's clock is off, in seconds. */
static long clock_off(void)
{
	time_t before = time(NULL), after;
	_cleanup_cli_ struct cli r = cli("exec", M, "date", "+%s", NULL);
	long guest;

	ASSERT_STATUS(r, 0);
	after = time(NULL);
	guest = atol(r.out); /* lint: our own program printed it */
	return guest < before ? (long)before - guest : guest > after ? guest - (long)after : 0;
}

TEST(a_guest_that_began_late_knows_the_time)
{
	const char *argv[] = { cli_skerry(), "run", "-d", "--name", M, "tiny", "sleep", "1000", NULL };
	int pid;

	cli_home(true);
	cli_hold_engines();
	pid = cli_spawn(argv);
	for (uint64_t deadline = clock_monotonic_ns() + PATIENCE_S * NS_PER_SEC; cli_entries("run", NULL, 0) <= 0;) {
		ASSERT(clock_monotonic_ns() < deadline);
		(void)poll(NULL, 0, 10); /* lint: nothing announces this */
	}
	(void)poll(NULL, 0, LATE_MS); /* lint: it is the time that counts */
	cli_let_engines_go();
	ASSERT_EQ(cli_wait(pid, PATIENCE_S), 0);
	ASSERT(clock_off() <= OFF_S);
	end();
}

TEST(a_guest_that_stood_still_is_told_the_time)
{
	cli_home(true);
	ok(cli("run", "-d", "--name", M, "tiny", "sleep", "1000", NULL));
	ASSERT(clock_off() <= OFF_S);
	ok(cli("pause", M, NULL));
	(void)poll(NULL, 0, STILL_MS); /* lint: it is the time that counts */
	ok(cli("resume", M, NULL));
	ASSERT(clock_off() <= OFF_S);
	/* Nor does it lag when nobody was there to tell it. */
	{
		int engine = cli_inspect_pid(M, "pid");

		ok(cli("pause", M, NULL));
		cli_kill(cli_inspect_pid(M, "monitor_pid"));
		(void)poll(NULL, 0, STILL_MS); /* lint: it is the time that counts */
		ok(cli("resume", M, NULL));
		ASSERT(clock_off() <= OFF_S);
		ASSERT_EQ(cli_inspect_pid(M, "pid"), engine);
	}
	ok(cli("stop", M, NULL));
	end();
}

TEST(what_runs_in_the_guest_may_open_many_files)
{
	cli_home(true);
	ok(cli("run", "-d", "--name", M, "tiny", "sleep", "1000", NULL));
	says(cli("exec", M, CLI_SHELL, "ulimit -Hn; ulimit -Sn", NULL), "1048576\n1048576\n");
	end();
}
