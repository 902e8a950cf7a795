/* Files in and out of the real skerry-init on a socketpair. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent_peer.h"
#include "base/file.h"
#include "base/memory.h"
#include "test.h"
#include "wire/copytree.h"
#include "wire/ttrpc.h"

TEST(a_file_goes_in_and_comes_out)
{
	struct agent_peer p = agent_start();
	_cleanup_close_ int dir = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), s = -1;
	_cleanup_buf_ struct buf stream = { 0 }, back = { 0 };
	_cleanup_free_ char *path = xasprintf("%s/copy", test_tmpdir()), *directory = xstrdup(test_tmpdir());
	Skerry__Agent__V1__CopyInRequest in;
	Skerry__Agent__V1__CopyOutRequest out;
	char id[] = "c", name[] = "copy";
	struct stat st;

	ASSERT_OK(file_write_at(dir, "orig", "content\n", 8, 0751, 0));
	ASSERT_OK(fchmodat(dir, "orig", 0751, 0));
	s = openat(dir, "stream", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_OK(copytree_send(s, dir, "orig"));
	ASSERT_OK(lseek(s, 0, SEEK_SET));
	ASSERT_OK(file_read_fd(s, 1 << 20, &stream));
	skerry__agent__v1__copy_in_request__init(&in);
	in.id = id;
	in.directory = directory;
	in.rename = name;
	AGENT_TAKE_EMPTY(&p, agent_send(&p, "CopyIn", &in.base));
	agent_write_all(&p, "c", stream.p, stream.len);
	agent_read_all(&p, "c", 1, &back);
	agent_read_all(&p, "c", 2, &back);
	ASSERT_EQ(back.len, 0);
	ASSERT_EQ(agent_wait_status(&p, "c", NULL), 0);
	AGENT_TAKE_EMPTY(&p, agent_send_id(&p, "Release", "c"));
	ASSERT_OK(fstatat(dir, "copy", &st, 0));
	ASSERT_EQ(st.st_mode, S_IFREG | 0751);
	skerry__agent__v1__copy_out_request__init(&out);
	out.id = id;
	out.path = path;
	AGENT_TAKE_EMPTY(&p, agent_send(&p, "CopyOut", &out.base));
	agent_read_all(&p, "c", 1, &back);
	ASSERT_OK(ftruncate(s, 0));
	ASSERT_OK(pwrite_full(s, back.p, back.len, 0));
	ASSERT_OK(lseek(s, 0, SEEK_SET));
	ASSERT_OK(copytree_receive(s, dir, "again", 0, false, NULL));
	buf_truncate(&back, 0);
	ASSERT_OK(file_read_at(dir, "again", 100, &back));
	ASSERT_STREQ(back.p, "content\n");
	free(out.path);
	path = xstrdup("/no/such/thing");
	out.path = path;
	AGENT_TAKE_EMPTY(&p, agent_send_id(&p, "Release", "c"));
	agent_assert_fails(&p, agent_send(&p, "CopyOut", &out.base), TTRPC_NOT_FOUND, "/no/such/thing");
	agent_stop(&p);
}
