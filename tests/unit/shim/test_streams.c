#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "shim/streams.h"
#include "test.h"

static struct loop *loop; /* one for each test's process */

static char *at(const char *name)
{
	return xasprintf("%s/%s", test_tmpdir(), name);
}

static int open_with(const char *in, const char *out, const char *err, bool terminal, struct streams **ret,
		     struct error *e)
{
	struct streams_request q = {
		.in = in, .out = out, .err = err, .terminal = terminal, .id = "c1", .namespace = "ns", .session = "p1"
	};

	if (!loop)
		ASSERT_OK(loop_new(&loop));
	return streams_open(loop, &q, ret, e);
}

TEST(fifos_open_without_a_reader)
{
	_cleanup_free_ char *out = at("out"), *in = at("in");
	struct streams *s = NULL;

	ASSERT_OK(mkfifo(out, 0600));
	ASSERT_OK(mkfifo(in, 0600));
	ASSERT_OK(open_with(in, out, "", true, &s, NULL));
	ASSERT(streams_has_input(s));
	/* Whoever writes there waits until the process is started. */
	ASSERT_EQ(open(in, O_WRONLY | O_NONBLOCK | O_CLOEXEC), -1);
	ASSERT_EQ(errno, ENXIO);
	ASSERT_OK(streams_open_input(s, NULL));
	ASSERT_OK(streams_open_input(s, NULL));
	ASSERT_OK(open(in, O_WRONLY | O_NONBLOCK | O_CLOEXEC));
	streams_free(s);
	ASSERT_OK(open_with("", "", "", false, &s, NULL));
	ASSERT(!streams_has_input(s));
	streams_free(s);
}

TEST(what_is_missing_is_named)
{
	_cleanup_free_ char *out = at("nowhere");
	_cleanup_error_ struct error e = {};
	struct streams *s = NULL;

	ASSERT_EQ(open_with("", out, "", false, &s, &e), -ENOENT);
	ASSERT_CONTAINS(e.msg, "nowhere");
	error_done(&e);
	ASSERT_EQ(open_with(out, "", "", false, &s, &e), -ENOENT);
	ASSERT_CONTAINS(e.msg, "nowhere");
}

TEST(log_files_are_made_with_their_directories)
{
	_cleanup_free_ char *path = at("a/b/log"), *uri = xasprintf("file://%s", path);
	struct streams *s = NULL;
	struct stat st;

	ASSERT_OK(open_with("", uri, uri, false, &s, NULL));
	streams_free(s);
	ASSERT_OK(stat(path, &st));
	ASSERT_EQ(st.st_mode & 07777, 0600);
}

TEST(logging_programs_are_told_whose_output_it_is)
{
	_cleanup_free_ char *script = at("logger"), *result = at("result"), *uri = NULL;
	_cleanup_buf_ struct buf text = {}, got = {};
	struct streams *s = NULL;

	buf_addf(&text,
		 "#!/bin/sh\necho \"$CONTAINER_NAMESPACE $CONTAINER_ID $*\" >%s\nexec 5>&-\ncat <&3 >/dev/null\n",
		 result);
	{
		_cleanup_close_ int fd = open(script, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);

		ASSERT_OK(write_full(fd, text.p, text.len));
	}
	uri = xasprintf("binary://%s?key=a%%20b&flag", script);
	ASSERT_OK(open_with("", uri, uri, false, &s, NULL));
	ASSERT_OK(file_read_at(AT_FDCWD, result, 4096, &got));
	ASSERT_STREQ(got.p, "ns c1 key a b flag\n");
	streams_free(s);
}

TEST(a_logging_program_that_does_not_start_is_an_error)
{
	_cleanup_error_ struct error e = {};
	struct streams *s = NULL;

	ASSERT(open_with("", "binary:///no/such/logger", "", false, &s, &e) < 0);
	ASSERT_CONTAINS(e.msg, "logger");
	error_done(&e);
	ASSERT(open_with("", "binary://relative", "", false, &s, &e) < 0);
	ASSERT_CONTAINS(e.msg, "relative");
}
