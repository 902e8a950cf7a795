/* Files and trees that are copied into a guest and out of it, against the real agent, and against one that lies. */
#include "machine/attach.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "agent_scene.h"
#include "base/file.h"
#include "base/parse.h"
#include "test.h"
#include "wire/copystream.h"
#include "wire/message.h"

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
