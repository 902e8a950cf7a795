/* Terminals, input, loggers: what goes in and out of containers of a real containerd. */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "containerd.h"
#include "terminal.h"

#define CTR "ctr -a $PWD/c.sock "

enum { SECONDS = 120 };

/* `ctr` with these words on a terminal. */
static void on_terminal(struct terminal *t, const char *const *words)
{
	_cleanup_free_ char *socket = xasprintf("%s/c.sock", test_tmpdir());
	const char *argv[32] = { "/usr/bin/ctr", "-a", socket };

	for (size_t n = 3; (argv[n] = *words) && n < ARRAY_SIZE(argv) - 1; n++)
		words++;
	terminal_begin(t, argv);
}

/* Waits until @script succeeds in the test's directory. */
static void wait_for(const char *script)
{
	_cleanup_free_ char *text = xasprintf("cd '%s' && { %s; }", test_tmpdir(), script);
	const char *argv[] = { CLI_SHELL, text, NULL };
	uint64_t deadline_ns = clock_monotonic_ns() + SECONDS * NS_PER_SEC;

	for (;;) {
		_cleanup_cli_ struct cli r = cli_argv(argv, NULL, 120);

		if (r.status == 0)
			return;
		if (clock_monotonic_ns() > deadline_ns)
			test_fail(__FILE__, __LINE__, "%s: %s%s", script, r.out, r.err);
		(void)usleep(100000); /* lint: other programs do it in their own time */
	}
}

TEST(a_terminal_has_a_size_that_follows_and_keys)
{
	static const char *const words[] = { "run",     "--rm", "-t", "--runtime", "io.containerd.skerry.v1",
					     CTD_IMAGE, "c1",   "sh", NULL };
	struct terminal t;

	ctd_start();
	on_terminal(&t, words);
	terminal_try_shell(&t, SECONDS);
	terminal_type(&t, "exit 3\n");
	terminal_end(&t, 3);
	ctd_nothing_left();
}

TEST(clients_of_a_terminal_come_and_go)
{
	static const char *const run[] = { "run",     "-d", "-t", "--runtime", "io.containerd.skerry.v1",
					   CTD_IMAGE, "c1", "sh", NULL };
	static const char *const words[] = { "task", "attach", "c1", NULL };
	static const char *const exec[] = { "task", "exec", "-t", "--exec-id", "e1", "c1", "sh", NULL };
	struct terminal t;

	ctd_start();
	/* ctr wants a terminal for this, though it leaves at once. */
	on_terminal(&t, run);
	terminal_end(&t, 0);
	for (int i = 0; i < 3; i++) {
		_cleanup_free_ char *line = xasprintf("echo sum:$((4%d+2)):$n:; n=%d\n", i, i);
		static const char *const sums[] = { "sum:42::", "sum:43:0:", "sum:44:1:" };

		on_terminal(&t, words);
		terminal_type(&t, line);
		terminal_expect(&t, sums[i], SECONDS);
		/* Killed: neither a hang-up nor an end of input for the shell. */
		terminal_kill(&t);
	}
	on_terminal(&t, exec);
	terminal_expect(&t, "#", SECONDS);
	terminal_type(&t, "tty; exit 5\n");
	terminal_expect(&t, "/dev/pts/", SECONDS);
	terminal_end(&t, 5);
	on_terminal(&t, words);
	terminal_type(&t, "echo $n; exit 4\n");
	terminal_end(&t, 4);
	ctd_sh(CTR "container rm c1");
	ctd_nothing_left();
}

TEST(output_goes_on_without_a_client_and_with_the_next)
{
	_cleanup_cli_ struct cli r = {};

	ctd_start();
	r = ctr_run(NULL, "-d", CTD_IMAGE, "c1", CLI_SHELL,
		    "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.05; done", NULL);
	ASSERT_STATUS(r, 0);
	for (int i = 0; i < 3; i++) {
		_cleanup_free_ char *script =
					    xasprintf("(" CTR "task attach c1 >o%d 2>&1 </dev/null & echo $! >pid)", i),
				    *lines = xasprintf("test $(grep -c '^line' o%d) -ge 10", i);

		ctd_sh(script);
		wait_for(lines);
		ctd_sh("kill -9 $(cat pid)");
	}
	/* Each goes on behind where the one before was killed. */
	ctd_sh("a=$(grep -m1 -x 'line [0-9]*' o2 | cut -d' ' -f2) && "
	       "b=$(tail -n 2 o1 | head -n 1 | cut -d' ' -f2) && test $a -gt $b");
	ctd_remove("c1");
	ctd_nothing_left();
}

TEST(input_ends_when_the_client_says_so)
{
	_cleanup_cli_ struct cli r = {};

	ctd_start();
	ctd_sh("head -c 20971520 /dev/urandom >in");
	r = ctr_run(NULL, "-d", CTD_IMAGE, "c1", "sleep", "1000", NULL);
	ASSERT_STATUS(r, 0);
	ctd_sh(CTR "task exec --exec-id e1 c1 cat <in >out && cmp in out");
	/* ctr misses an end of input that comes before the answer to its Exec: this one comes when what was started runs. */
	ctd_sh("test $({ i=0; until " CTR "task exec --exec-id p$i c1 pidof wc </dev/null >found 2>&1; do "
	       "i=$((i + 1)); done; } | " CTR "task exec --exec-id e2 c1 wc -c) = 0");
	/* Whoever wants no more of it does not hold up the rest. */
	ctd_sh(CTR "task exec --exec-id e3 c1 true <in");
	ctd_sh("test $(" CTR "task exec --exec-id e4 c1 head -c 100 <in | wc -c) = 100");
	/* In pieces, and answered piece by piece: input is not held back until its end. */
	ctd_sh("mkfifo ask answer && (" CTR "task exec --exec-id e5 c1 cat <ask >answer & echo $! >pid) && "
	       "exec 7>ask 8<answer && for i in 1 2 3 4 5; do echo piece $i >&7 && read x <&8 && "
	       "test \"$x\" = \"piece $i\" || exit 1; done && exec 7>&- && ! read x <&8");
	ctd_remove("c1");
	ctd_nothing_left();
}

TEST(signals_of_the_client_are_the_containers)
{
	ctd_start();
	ctd_sh("{ (" CTR "run --rm --runtime io.containerd.skerry.v1 " CTD_IMAGE
	       " c1 sh -c 'trap \"echo caught; exit 9\" INT; echo ready; while :; do sleep 0.1; done' >o; "
	       "echo $? >status) & echo $! >shell.pid; }");
	wait_for("grep -q ready o");
	/* The container runs before ctr begins to catch what it passes on: until then the signal is one that such a child ignores. */
	ctd_sh("set -- $(cat /proc/$(cat shell.pid)/task/*/children) && "
	       "until grep -q '^SigCgt:.*[2367abef]$' /proc/$1/status; do sleep 0.1; done && kill -INT $1");
	wait_for("test \"$(cat status)\" = 9");
	ctd_sh("grep -q caught o");
	ctd_nothing_left();
}

static void write_script(const char *name, const char *text)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", test_tmpdir(), name);
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);

	ASSERT_OK(fd);
	ASSERT_EQ(write(fd, text, strlen(text)), (long long)strlen(text));
}

TEST(logging_programs_get_all_of_it)
{
	_cleanup_free_ char *uri = xasprintf("binary://%s/logger?into=%s%%2Fa+b&last", test_tmpdir(), test_tmpdir());
	_cleanup_free_ char *missing = xasprintf("binary://%s/missing", test_tmpdir());
	_cleanup_cli_ struct cli r = {};

	ctd_start();
	/* What containerd's document of loggers asks of them: output on 3, errors on 4, and 5 closed when it is ready. */
	write_script("logger", "#!/bin/sh\nmkdir -p \"$2\" && cd \"$2\" || exit 1\n"
			       "echo \"$# $1 $3 $CONTAINER_ID $CONTAINER_NAMESPACE\" >words\n"
			       "exec 5>&-\ncat <&3 >out &\ncat <&4 >err &\nwait\necho done >end\n");
	r = ctr_run(NULL, "-d", "--log-uri", uri, CTD_IMAGE, "c1", CLI_SHELL,
		    "head -c 8388608 /dev/zero; echo to err >&2; exit 7", NULL);
	ASSERT_STATUS(r, 0);
	cli_done(&r);
	ctd_wait_status("c1", "STOPPED");
	r = ctr("task", "rm", "c1", NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_CONTAINS(r.err, "exit code 7");
	wait_for("test -e 'a b/end'");
	ctd_sh("test $(wc -c <'a b/out') = 8388608 && test \"$(cat 'a b/err')\" = 'to err' && "
	       "test \"$(cat 'a b/words')\" = \"3 into last c1 $CONTAINERD_NAMESPACE\"");
	ctd_sh(CTR "container rm c1");
	cli_done(&r);
	r = ctr_run(NULL, "-d", "--log-uri", missing, CTD_IMAGE, "c2", "true", NULL);
	ASSERT_STATUS(r, 1);
	ASSERT_CONTAINS(r.err, "missing: not installed");
	ctd_sh(CTR "container rm c2");
	ctd_nothing_left();
}

TEST(a_logging_program_that_dies_ends_nothing)
{
	_cleanup_free_ char *uri = xasprintf("binary://%s/logger", test_tmpdir());
	_cleanup_cli_ struct cli r = {};

	ctd_start();
	write_script("logger", "#!/bin/sh\nexec 5>&-\n");
	r = ctr_run(NULL, "-d", "--log-uri", uri, CTD_IMAGE, "c1", CLI_SHELL, "head -c 8388608 /dev/zero; sleep 1000",
		    NULL);
	ASSERT_STATUS(r, 0);
	cli_done(&r);
	r = ctr("task", "exec", "--exec-id", "e1", "c1", CLI_SHELL,
		"until pidof sleep >/dev/null; do usleep 100000; done; echo on", NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_STREQ(r.out, "on\n");
	ctd_remove("c1");
	ctd_nothing_left();
}

TEST(log_files_are_appended_to)
{
	_cleanup_free_ char *uri = xasprintf("file://%s/logs/c1.log", test_tmpdir());
	_cleanup_free_ char *bad = xasprintf("file://%s/in/the/way", test_tmpdir());
	_cleanup_cli_ struct cli r = {};

	ctd_start();
	for (int i = 0; i < 2; i++) {
		_cleanup_cli_ struct cli run = ctr_run(NULL, "-d", "--log-uri", uri, CTD_IMAGE, "c1", CLI_SHELL,
						       "head -c 8388608 /dev/zero; echo to err >&2", NULL),
					 rm = {};

		ASSERT_STATUS(run, 0);
		ctd_wait_status("c1", "STOPPED");
		rm = ctr("task", "rm", "c1", NULL);
		ASSERT_STATUS(rm, 0);
		ctd_sh(CTR "container rm c1");
	}
	ctd_sh("test $(wc -c <logs/c1.log) = $((2 * (8388608 + 7)))");
	ctd_sh("echo >in");
	r = ctr_run(NULL, "-d", "--log-uri", bad, CTD_IMAGE, "c2", "true", NULL);
	ASSERT_STATUS(r, 1);
	ASSERT_CONTAINS(r.err, "in/the/way");
	ctd_nothing_left();
}
