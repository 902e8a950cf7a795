#include "machine/console.h"

#include <fcntl.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "test.h"

struct fixture {
	struct loop *loop;
	struct console *console;
	int dir, guest; /* guest: the engine's end of the console */
};

static void setup(struct fixture *f)
{
	int sv[2];

	*f = (struct fixture){};
	ASSERT_OK(loop_new(&f->loop));
	f->dir = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_OK(f->dir);
	ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	f->guest = sv[1];
	ASSERT_OK(console_new(f->loop, sv[0], f->dir, f->dir, &f->console));
}

static void teardown(struct fixture *f)
{
	f->console = console_free(f->console);
	loop_free(f->loop);
	close(f->guest);
	close(f->dir);
}

/* Until nothing is ready any more. */
static void settle(struct fixture *f)
{
	while (loop_step(f->loop, clock_monotonic_ns() + 20 * NS_PER_MS) > 0)
		;
}

static void assert_received(int fd, const char *text)
{
	_cleanup_free_ char *got = xcalloc(1, 65536);
	ssize_t n = recv(fd, got, 65535, MSG_DONTWAIT);

	ASSERT_EQ(n, (ssize_t)strlen(text));
	ASSERT_STREQ(got, text);
}

static void assert_log(struct fixture *f, const char *name, const char *text)
{
	_cleanup_buf_ struct buf b = {};

	ASSERT_OK(file_read_at(f->dir, name, 64 << 20, &b));
	ASSERT_STREQ(b.p, text);
}

TEST(everybody_sees_the_output_and_the_log_keeps_it)
{
	struct fixture f;
	int a, b;

	setup(&f);
	a = unix_connect_at(f.dir, "console.sock");
	b = unix_connect_at(f.dir, "console.sock");
	ASSERT_OK(a);
	ASSERT_OK(b);
	settle(&f);
	ASSERT_EQ(write(f.guest, "login: ", 7), 7);
	settle(&f);
	assert_received(a, "login: ");
	assert_received(b, "login: ");
	assert_log(&f, "console.log", "login: ");
	close(a);
	close(b);
	teardown(&f);
}

TEST(whoever_comes_late_gets_the_recent_past)
{
	struct fixture f;
	int a;

	setup(&f);
	ASSERT_EQ(write(f.guest, "booted\n", 7), 7);
	settle(&f);
	a = unix_connect_at(f.dir, "console.sock");
	ASSERT_OK(a);
	settle(&f);
	assert_received(a, "booted\n");
	close(a);
	teardown(&f);
}

TEST(input_of_all_reaches_the_guest)
{
	struct fixture f;
	int a, b;

	setup(&f);
	a = unix_connect_at(f.dir, "console.sock");
	b = unix_connect_at(f.dir, "console.sock");
	settle(&f);
	ASSERT_EQ(write(a, "roo", 3), 3);
	settle(&f);
	ASSERT_EQ(write(b, "t\n", 2), 2);
	settle(&f);
	assert_received(f.guest, "root\n");
	close(a);
	close(b);
	teardown(&f);
}

TEST(a_watcher_that_reads_nothing_does_not_stop_the_guest)
{
	_cleanup_free_ char *block = xcalloc(1, 8192);
	struct fixture f;
	uint64_t size;
	int a;

	memset(block, 'x', 8191);
	setup(&f);
	a = unix_connect_at(f.dir, "console.sock");
	ASSERT_OK(a);
	settle(&f);
	for (int i = 0; i < 200; i++) {
		ASSERT_EQ(write(f.guest, block, 8191), 8191);
		settle(&f);
	}
	ASSERT_OK(file_allocated_fd(openat(f.dir, "console.log", O_RDONLY | O_CLOEXEC), &size));
	ASSERT(size >= 200 * 8191);
	close(a);
	teardown(&f);
}

TEST(the_log_is_rotated_at_its_limit)
{
	_cleanup_free_ char *block = xcalloc(1, 1 << 20);
	struct fixture f;

	memset(block, 'x', 1 << 20);
	setup(&f);
	for (int i = 0; i < 16; i++)
		console_log(f.console, block, 1 << 20);
	console_log(f.console, "new\n", 4);
	assert_log(&f, "console.log", "new\n");
	ASSERT_EQ(faccessat(f.dir, "console.log.1", F_OK, 0), 0);
	teardown(&f);
}

TEST(the_last_words_are_read_before_the_end)
{
	struct fixture f;

	setup(&f);
	ASSERT_EQ(write(f.guest, "Kernel panic", 12), 12);
	f.console = console_free(f.console);
	assert_log(&f, "console.log", "Kernel panic");
	teardown(&f);
}
