#include "guest/account.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "test.h"

static int image(const char *passwd, const char *group)
{
	int root = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	ASSERT_OK(root);
	ASSERT_OK(mkdirat(root, "etc", 0755));
	if (passwd)
		ASSERT_OK(file_write_at(root, "etc/passwd", passwd, strlen(passwd), 0644, 0));
	if (group)
		ASSERT_OK(file_write_at(root, "etc/group", group, strlen(group), 0644, 0));
	return root;
}

static const char passwd[] = "root:x:0:0:root:/root:/bin/bash\n"
			     "broken\n"
			     "dev:x:1000:1000:Dev,,,:/home/dev:/bin/zsh\n"
			     "odd:x:12:13::relative:";
static const char group[] = "root:x:0:\nsudo:x:27:me,dev\ndevs:x:55:developer,devel\ndev:x:1000:dev\nvideo:x:44:dev";

TEST(a_user_is_found_by_name_and_number)
{
	_cleanup_close_ int root = image(passwd, group);
	_cleanup_account_ struct account a = { 0 }, b = { 0 };

	ASSERT_OK(account_lookup(root, "dev", &a, NULL));
	ASSERT_EQ(a.uid, 1000);
	ASSERT_EQ(a.gid, 1000);
	ASSERT_STREQ(a.home, "/home/dev");
	ASSERT_STREQ(a.shell, "/bin/zsh");
	ASSERT_EQ(a.n_groups, 2);
	ASSERT_EQ(a.groups[0], 27);
	ASSERT_EQ(a.groups[1], 44);
	ASSERT_OK(account_lookup(root, "1000", &b, NULL));
	ASSERT_STREQ(b.name, "dev");
}

TEST(a_group_can_be_named)
{
	_cleanup_close_ int root = image(passwd, group);
	_cleanup_account_ struct account a = { 0 }, b = { 0 };

	ASSERT_OK(account_lookup(root, "dev:video", &a, NULL));
	ASSERT_EQ(a.gid, 44);
	ASSERT_EQ(a.n_groups, 0);
	ASSERT_OK(account_lookup(root, ":77", &b, NULL));
	ASSERT_EQ(b.uid, 0);
	ASSERT_EQ(b.gid, 77);
}

TEST(unknown_names_are_errors_unknown_numbers_are_not)
{
	_cleanup_close_ int root = image(passwd, group);
	_cleanup_account_ struct account a = { 0 };
	_cleanup_error_ struct error err = { 0 };

	ASSERT_EQ(account_lookup(root, "nobody", &a, &err), -ENOENT);
	ASSERT_CONTAINS(err.msg, "nobody");
	error_done(&err);
	ASSERT_EQ(account_lookup(root, "dev:none", &a, &err), -ENOENT);
	ASSERT_CONTAINS(err.msg, "none");
	ASSERT_EQ(account_lookup(root, "broken", &a, NULL), -ENOENT);
	ASSERT_OK(account_lookup(root, "4711", &a, NULL));
	ASSERT_EQ(a.uid, 4711);
	ASSERT_EQ(a.gid, 0);
	ASSERT_STREQ(a.home, "/");
}

TEST(an_image_without_files_has_root)
{
	_cleanup_close_ int root = image(NULL, NULL);
	_cleanup_account_ struct account a = { 0 };

	ASSERT_OK(account_lookup(root, "", &a, NULL));
	ASSERT_EQ(a.uid, 0);
	ASSERT_STREQ(a.home, "/root");
}

TEST(a_link_is_resolved_inside_the_image)
{
	_cleanup_close_ int root = image(NULL, NULL);
	_cleanup_account_ struct account a = { 0 };

	ASSERT_OK(mkdirat(root, "real", 0755));
	ASSERT_OK(file_write_at(root, "real/passwd", "in:x:7:7::/in:/bin/sh\n", 22, 0644, 0));
	ASSERT_OK(symlinkat("/real/passwd", root, "etc/passwd"));
	ASSERT_OK(account_lookup(root, "in", &a, NULL));
	ASSERT_EQ(a.uid, 7);
}

TEST(fields_that_are_missing_are_empty)
{
	char text[] = "a:b\n\nc:d:e:f", *at = text, *f[3];

	ASSERT(account_next_line(&at, f, 3));
	ASSERT_STREQ(f[0], "a");
	ASSERT_STREQ(f[1], "b");
	ASSERT_STREQ(f[2], "");
	ASSERT(account_next_line(&at, f, 3));
	ASSERT_STREQ(f[0], "");
	ASSERT(account_next_line(&at, f, 3));
	ASSERT_STREQ(f[2], "e:f");
	ASSERT(!account_next_line(&at, f, 3));
}
