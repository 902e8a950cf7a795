#include "cli/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "test.h"

static int start(struct sandbox *s, int (*fn)(int, void *, struct error *), void *data)
{
	return sandbox_start(s, NULL, 0, fn, data, NULL);
}

static int read_and_write(int out_fd, void *data, struct error *err)
{
	char text[64] = "";
	int *fd = data;

	(void)err;
	if (pread_full(*fd, text, 5, 0) < 0)
		return -EIO;
	free(xcalloc(1, 8 << 20));
	return write_full(out_fd, text, 5);
}

TEST(what_it_was_given_it_reads_and_what_it_writes_arrives)
{
	_cleanup_free_ char *path = xasprintf("%s/file", test_tmpdir());
	_cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	_cleanup_(sandbox_done) struct sandbox s = SANDBOX_INIT;
	char text[6] = "";

	ASSERT_OK(write_full(fd, "hello", 5));
	ASSERT_OK(sandbox_start(&s, &fd, 1, read_and_write, &fd, NULL));
	ASSERT_OK(read_full(s.out_fd, text, 5));
	ASSERT_STREQ(text, "hello");
	ASSERT_OK(sandbox_finish(&s, "test", NULL));
}

/* Each is tried; the number of the first that was allowed, 0 when none was. */
static int try_everything(int out_fd, void *data, struct error *err)
{
	const int *other_fd = data;
	char *const argv[] = { NULL };
	struct stat st;
	int allowed = 0;

	(void)err;
	if (open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0)
		allowed = 1;
	else if (open("/tmp/x", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0)
		allowed = 2;
	else if (socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0 ||
		 socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0)
		allowed = 3;
	else if (execv("/bin/true", argv) >= 0)
		allowed = 4;
	else if (fork() >= 0)
		allowed = 5;
	else if (kill(getppid(), 0) >= 0)
		allowed = 6;
	else if (stat("/etc/passwd", &st) >= 0)
		allowed = 7;
	else if (mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED)
		allowed = 8;
	else if (unlink("/tmp/x") >= 0 || mkdir("/tmp/skerry-no", 0700) >= 0)
		allowed = 9;
	else if (*other_fd >= 0 && read(*other_fd, &allowed, 1) >= 0)
		allowed = 10;
	return write_full(out_fd, &allowed, sizeof(allowed));
}

TEST(nothing_else_is_allowed)
{
	_cleanup_(sandbox_done) struct sandbox s = SANDBOX_INIT;
	_cleanup_close_ int secret = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
	int allowed = -1;

	ASSERT_OK(start(&s, try_everything, &secret));
	ASSERT_OK(read_full(s.out_fd, &allowed, sizeof(allowed)));
	ASSERT_EQ(allowed, 0);
	ASSERT_OK(sandbox_finish(&s, "test", NULL));
}

static int fail(int out_fd, void *data, struct error *err)
{
	(void)out_fd, (void)data;
	(void)error_set_kind(err, ERROR_BUSY, EBUSY, "it is \x1b[31m dirty");
	return error_hint(err, "clean it");
}

TEST(an_error_arrives_whole_and_without_control_characters)
{
	_cleanup_(sandbox_done) struct sandbox s = SANDBOX_INIT;
	_cleanup_error_ struct error e = {};

	ASSERT_OK(start(&s, fail, NULL));
	ASSERT_EQ(sandbox_finish(&s, "test", &e), -EBUSY);
	ASSERT_EQ(e.kind, ERROR_BUSY);
	ASSERT_STREQ(e.msg, "it is ?[31m dirty");
	ASSERT_STREQ(e.hint, "clean it");
}

static int die(int out_fd, void *data, struct error *err)
{
	(void)out_fd, (void)data, (void)err;
	(void)signal(SIGABRT, SIG_DFL);
	abort();
}

TEST(a_crash_is_an_error)
{
	_cleanup_(sandbox_done) struct sandbox s = SANDBOX_INIT;
	_cleanup_error_ struct error e = {};

	ASSERT_OK(start(&s, die, NULL));
	ASSERT_EQ(sandbox_finish(&s, "disk 'x'", &e), -EBADMSG);
	ASSERT_CONTAINS(e.msg, "disk 'x'");
}

static int wait_for_ever(int out_fd, void *data, struct error *err)
{
	(void)out_fd, (void)data, (void)err;
	for (;;)
		(void)getppid();
	return 0;
}

TEST(it_goes_with_who_started_it)
{
	struct sandbox s = SANDBOX_INIT;

	ASSERT_OK(start(&s, wait_for_ever, NULL));
	sandbox_done(&s);
	ASSERT_EQ(s.pid, 0);
	ASSERT_EQ(waitpid(-1, NULL, WNOHANG), -1);
}
