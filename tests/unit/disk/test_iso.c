#include "disk/iso.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/spawn.h"
#include "test.h"

static int new_image(void)
{
	_cleanup_free_ char *path = xasprintf("%s/out.iso", test_tmpdir());
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ASSERT_OK(fd);
	return fd;
}

static int new_tree(void)
{
	_cleanup_free_ char *path = xasprintf("%s/tree", test_tmpdir());
	int fd = dir_open_create(path, 0700);

	ASSERT_OK(fd);
	return fd;
}

static void put(int dir, const char *name, const char *text)
{
	ASSERT_OK(file_write_at(dir, name, text, strlen(text), 0600, 0));
}

TEST(a_tree_comes_back_with_its_names)
{
	static const char long_name[] = "A name that ISO 9660 alone could not hold.preseed.conf";
	_cleanup_close_ int dir = new_tree(), fd = new_image();
	_cleanup_iso_ struct iso *iso = NULL;
	struct archive *a = archive_read_new();
	struct archive_entry *e;
	unsigned found = 0;

	put(dir, "ks.cfg", "text\npoweroff\n");
	ASSERT_OK(mkdirat(dir, "sub", 0700));
	_cleanup_close_ int sub = openat(dir, "sub", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	put(sub, long_name, "x");
	put(sub, "empty", "");
	ASSERT_OK(iso_create(fd, "OEMDRV", &iso, NULL));
	ASSERT_OK(iso_add_tree(iso, dir, "answers", 1 << 20, NULL));
	ASSERT_OK(iso_finish(iso, NULL));
	ASSERT_EQ(lseek(fd, 0, SEEK_SET), 0);
	(void)archive_read_support_format_iso9660(a);
	ASSERT_EQ(archive_read_open_fd(a, fd, 2048), ARCHIVE_OK);
	while (archive_read_next_header(a, &e) == ARCHIVE_OK) {
		const char *path = archive_entry_pathname(e);

		if (streq(path, "ks.cfg") && archive_entry_size(e) == 14)
			found++;
		else if (after_prefix(path, "sub/") && streq(path + 4, long_name) && archive_entry_size(e) == 1)
			found++;
		else if (streq(path, "sub/empty"))
			found++;
	}
	ASSERT_EQ(found, 3);
	(void)archive_read_free(a);
}

TEST(other_programs_read_it)
{
	_cleanup_free_ char *path = xasprintf("%s/out.iso", test_tmpdir()), *program = program_find("isoinfo");
	const char *list[] = { "isoinfo", "-f", "-R", "-i", path, NULL };
	const char *joliet[] = { "isoinfo", "-f", "-J", "-i", path, NULL };
	const char *head[] = { "isoinfo", "-d", "-i", path, NULL };
	_cleanup_close_ int fd = new_image();
	_cleanup_buf_ struct buf names = {}, wide = {}, about = {};
	_cleanup_iso_ struct iso *iso = NULL;
	struct spawn sp = SPAWN_INIT;

	if (!program)
		test_skip("no isoinfo");
	ASSERT_OK(iso_create(fd, "CIDATA", &iso, NULL));
	ASSERT_OK(iso_add_file(iso, "network-config", "{}", 2, NULL));
	ASSERT_OK(iso_finish(iso, NULL));
	sp.argv = list;
	ASSERT_OK(spawn_check(&sp, NULL, &names, 65536, 0, NULL));
	ASSERT_CONTAINS(names.p, "/network-config\n");
	sp.argv = joliet;
	ASSERT_OK(spawn_check(&sp, NULL, &wide, 65536, 0, NULL));
	ASSERT_CONTAINS(wide.p, "/network-config\n");
	sp.argv = head;
	ASSERT_OK(spawn_check(&sp, NULL, &about, 65536, 0, NULL));
	ASSERT_CONTAINS(about.p, "Volume id: CIDATA\n");
}

TEST(a_link_is_refused_and_not_followed)
{
	_cleanup_close_ int dir = new_tree(), fd = new_image();
	_cleanup_error_ struct error e = {};
	_cleanup_iso_ struct iso *iso = NULL;

	ASSERT_OK(symlinkat("/etc/shadow", dir, "user-data"));
	ASSERT_OK(iso_create(fd, "OEMDRV", &iso, NULL));
	ASSERT_EQ(iso_add_tree(iso, dir, "--answers 'x'", 1 << 20, &e), -EBADMSG);
	ASSERT_CONTAINS(e.msg, "--answers 'x': 'user-data' is neither a file nor a directory");
}

TEST(a_fifo_is_refused_without_waiting_for_its_writer)
{
	_cleanup_close_ int dir = new_tree(), fd = new_image();
	_cleanup_iso_ struct iso *iso = NULL;

	ASSERT_OK(mkfifoat(dir, "pipe", 0600));
	ASSERT_OK(iso_create(fd, "OEMDRV", &iso, NULL));
	ASSERT_EQ(iso_add_tree(iso, dir, "x", 1 << 20, NULL), -EBADMSG);
}

TEST(size_and_depth_are_bounded)
{
	_cleanup_close_ int dir = new_tree(), fd = new_image(), other = -EBADF;
	_cleanup_iso_ struct iso *iso = NULL;
	_cleanup_buf_ struct buf deep = {};

	put(dir, "large", "0123456789");
	ASSERT_OK(iso_create(fd, "OEMDRV", &iso, NULL));
	ASSERT_EQ(iso_add_tree(iso, dir, "x", 9, NULL), -EFBIG);
	iso = iso_free(iso);
	for (int i = 0; i < 20; i++)
		buf_adds(&deep, i ? "/d" : "d");
	ASSERT_OK(mkdir_parents_at(dir, deep.p, 0700));
	other = new_image();
	ASSERT_OK(iso_create(other, "OEMDRV", &iso, NULL));
	ASSERT_EQ(iso_add_tree(iso, dir, "x", 1 << 20, NULL), -E2BIG);
}

TEST(a_volume_name_is_checked)
{
	_cleanup_close_ int fd = new_image();
	struct iso *iso = NULL;

	ASSERT_EQ(iso_create(fd, "", &iso, NULL), -EINVAL);
	ASSERT_EQ(iso_create(fd, "cidata", &iso, NULL), -EINVAL);
	ASSERT_EQ(iso_create(fd, "A0123456789ABCDEF", &iso, NULL), -EINVAL);
	ASSERT(iso == NULL);
}

TEST(a_full_device_is_one_error)
{
	_cleanup_close_ int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
	_cleanup_error_ struct error e = {};
	_cleanup_iso_ struct iso *iso = NULL;

	if (fd < 0)
		test_skip("no /dev/full");
	ASSERT_OK(iso_create(fd, "CIDATA", &iso, NULL));
	ASSERT_OK(iso_add_file(iso, "a", "b", 1, NULL));
	ASSERT_EQ(iso_finish(iso, &e), -ENOSPC);
	ASSERT_EQ(error_exit_status(&e), 73);
}
