#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "cli/output.h"
#include "test.h"

/* As a parent does that set it on a pipe or terminal that both have. */
TEST(standard_output_that_does_not_block_gets_all)
{
	enum { BYTES = 1 << 20 };
	_cleanup_free_ char *text = xcalloc(1, BYTES), *got = xcalloc(1, BYTES);
	int fds[2], status;
	size_t n = 0;
	pid_t pid;

	for (size_t i = 0; i < BYTES; i++)
		text[i] = (char)('a' + i % 23);
	ASSERT_OK(pipe2(fds, O_CLOEXEC));
	ASSERT_OK(fcntl(fds[1], F_SETFL, O_NONBLOCK));
	pid = fork();
	ASSERT_OK(pid);
	if (pid == 0) {
		close(fds[0]);
		dup2(fds[1], STDOUT_FILENO);
		_exit(output_text(text, BYTES, NULL) == 0 ? 0 : 1);
	}
	close(fds[1]);
	while (n < BYTES) {
		ssize_t r = read(fds[0], got + n, BYTES - n);

		ASSERT(r > 0);
		n += (size_t)r;
	}
	ASSERT_EQ(memcmp(text, got, BYTES), 0);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
	close(fds[0]);
}

TEST(nobody_who_reads_is_an_error)
{
	_cleanup_error_ struct error err = {};
	int fds[2], before = dup(STDOUT_FILENO), r;

	signal(SIGPIPE, SIG_IGN);
	ASSERT_OK(pipe2(fds, O_CLOEXEC));
	close(fds[0]);
	dup2(fds[1], STDOUT_FILENO);
	r = output_text("x", 1, &err);
	dup2(before, STDOUT_FILENO);
	ASSERT_EQ(r, -EPIPE);
}
