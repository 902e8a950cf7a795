#include "docker/output.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <termios.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "test.h"

enum { MUCH = 300000 };

struct world {
	struct loop *loop;
	struct output *output;
	struct buf got;
	int reader; /* -1 = nobody reads */
	unsigned rooms;
};

static void on_room(void *data)
{
	((struct world *)data)->rooms++;
}

static void begin(struct world *w, int fd, int reader)
{
	*w = (struct world){ .reader = reader };
	ASSERT_OK(loop_new(&w->loop));
	ASSERT_OK(output_new(w->loop, fd, on_room, w, &w->output));
}

static void end(struct world *w)
{
	output_free(w->output);
	loop_free(w->loop);
	buf_done(&w->got);
}

static void say_much(struct world *w)
{
	for (unsigned i = 0; i < MUCH; i++)
		buf_addc(output_buf(w->output), (char)('a' + i % 26));
	output_added(w->output);
}

static int on_time(struct loop_source *s, void *data)
{
	(void)s;
	loop_exit(data, 0);
	return 0;
}

static void turn(struct world *w, uint64_t ns)
{
	struct loop_source *timer = NULL;

	ASSERT_OK(loop_add_timer(w->loop, &timer, clock_monotonic_ns() + ns, on_time, w->loop));
	ASSERT_OK(loop_run(w->loop));
	loop_source_free(timer);
}

static int on_read(struct loop_source *s, int fd, uint32_t events, void *data)
{
	struct world *w = data;
	ssize_t n = read(fd, buf_reserve(&w->got, 4096), 4096);

	(void)s;
	(void)events;
	if (n > 0)
		buf_commit(&w->got, (size_t)n);
	if (w->got.len >= MUCH)
		loop_exit(w->loop, 0);
	return 0;
}

/* With nobody reading the loop turns, and everything comes once somebody does. */
static void check_slow_reader(int writer, int reader)
{
	struct loop_source *source = NULL;
	struct world w;

	begin(&w, writer, reader);
	say_much(&w);
	turn(&w, 200 * NS_PER_MS);
	ASSERT(output_buf(w.output)->len > 0 && output_buf(w.output)->len < MUCH && w.rooms > 0);
	ASSERT(output_has_room(w.output));
	ASSERT_OK(loop_add_fd(w.loop, &source, reader, EPOLLIN, on_read, &w));
	ASSERT_OK(loop_run(w.loop));
	ASSERT_EQ(w.got.len, MUCH);
	for (size_t i = 0; i < MUCH; i++)
		ASSERT_EQ(w.got.p[i], 'a' + (int)(i % 26));
	loop_source_free(source);
	end(&w);
}

/* At the end as well. */
static void check_nobody_reads(int writer)
{
	uint64_t begun = clock_monotonic_ns();
	struct world w;

	begin(&w, writer, -1);
	say_much(&w);
	output_finish(w.output, begun + 300 * NS_PER_MS);
	ASSERT(output_buf(w.output)->len > 0);
	end(&w);
}

static void make_pipe(int *ret_reader, int *ret_writer)
{
	int p[2];

	ASSERT_OK(pipe2(p, O_CLOEXEC) < 0 ? -errno : 0);
	*ret_reader = p[0];
	*ret_writer = p[1];
}

static void make_terminal(int *ret_reader, int *ret_writer)
{
	struct termios raw;

	ASSERT_OK(openpty(ret_reader, ret_writer, NULL, NULL, NULL) < 0 ? -errno : 0);
	ASSERT_OK(tcgetattr(*ret_writer, &raw));
	cfmakeraw(&raw);
	ASSERT_OK(tcsetattr(*ret_writer, TCSANOW, &raw));
}

TEST(a_pipe_is_not_waited_for)
{
	_cleanup_close_ int reader = -EBADF, writer = -EBADF;

	make_pipe(&reader, &writer);
	check_slow_reader(writer, reader);
	check_nobody_reads(writer);
	/* Others' use of it is as it was. */
	ASSERT(!(fcntl(writer, F_GETFL) & O_NONBLOCK));
}

TEST(a_terminal_is_not_waited_for)
{
	_cleanup_close_ int reader = -EBADF, writer = -EBADF;

	make_terminal(&reader, &writer);
	check_slow_reader(writer, reader);
	check_nobody_reads(writer);
	ASSERT(!(fcntl(writer, F_GETFL) & O_NONBLOCK));
}

TEST(a_file_is_added_to)
{
	_cleanup_free_ char *path = xasprintf("%s/log", test_tmpdir());
	_cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	_cleanup_buf_ struct buf text = {};
	struct world w;

	ASSERT_OK(write_full(fd, "before ", 7));
	begin(&w, fd, -1);
	buf_adds(output_buf(w.output), "after");
	output_added(w.output);
	turn(&w, 50 * NS_PER_MS);
	end(&w);
	ASSERT_OK(file_read_at(AT_FDCWD, path, 100, &text));
	ASSERT_STREQ(text.p, "before after");
}
