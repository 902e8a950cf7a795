/* A home on a small file system that is full, at every size from nothing to enough: no command may leave half a record. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scenario.h"

enum { DISK_KIB = 64 << 10 };
enum { SMALLEST_KIB = 0, LARGEST_KIB = 1024, STEP_KIB = 4, FS_KIB = 2048 };

/* Fills the file system but for @free_kib. */
static void leave_free(const char *dir, unsigned free_kib)
{
	static char block[1024];
	char path[400];
	int fd;

	snprintf(path, sizeof(path), "%s/ballast", dir);
	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ASSERT(fd >= 0);
	while (write(fd, block, sizeof(block)) == (ssize_t)sizeof(block))
		;
	ASSERT_EQ(errno, ENOSPC);
	if (free_kib) {
		struct stat st;

		ASSERT_EQ(fstat(fd, &st), 0);
		ASSERT_EQ(ftruncate(fd, st.st_size > (off_t)free_kib * 1024 ? st.st_size - (off_t)free_kib * 1024 : 0),
			  0);
	}
	close(fd);
}

TEST(a_full_disk_at_each_write)
{
	const char *home = scenario_home(true);
	unsigned refused = 0, made = 0;
	char path[300];

	if (geteuid() != 0)
		test_skip("needs root for a tmpfs of its own");
	snprintf(path, sizeof(path), "%s/machines", home);
	ASSERT_EQ(mkdir(path, 0700), 0);
	if (mount("tmpfs", path, "tmpfs", 0, "size=2m,mode=0700") < 0)
		test_skip("cannot mount a tmpfs: %s", strerror(errno));
	for (unsigned kib = SMALLEST_KIB; kib <= LARGEST_KIB && made < 3; kib += STEP_KIB) {
		_cleanup_cli_ struct cli r = {}, list = {};
		char why[64], ballast[400];

		snprintf(why, sizeof(why), "create with %u KiB free", kib);
		leave_free(path, kib);
		r = cli("create", MACHINE, "--image", "tiny", NULL);
		snprintf(ballast, sizeof(ballast), "%s/ballast", path);
		unlink(ballast);
		assert_clean_failure(&r, why);
		if (r.status != 0)
			ASSERT_EQ(r.status, 73);
		refused += r.status != 0;
		made += r.status == 0;
		list = cli("list", NULL);
		ASSERT_STATUS(list, 0);
		assert_nothing_left(why);
	}
	printf("# refused %u times, made %u times\n", refused, made);
	umount2(path, MNT_DETACH);
	ASSERT(refused > 0);
	ASSERT(made > 0);
}

/* There is no room to write down how its run ended: deleting it is what makes some. */
TEST(a_machine_that_crashed_on_a_full_disk_can_be_deleted)
{
	_cleanup_cli_ struct cli create = {}, start = {}, delete = {};
	const char *home = scenario_home(true);
	char path[300], size[32];

	if (geteuid() != 0)
		test_skip("needs root for a tmpfs of its own");
	snprintf(path, sizeof(path), "%s/machines", home);
	snprintf(size, sizeof(size), "size=%dk,mode=0700", DISK_KIB);
	ASSERT_EQ(mkdir(path, 0700), 0);
	if (mount("tmpfs", path, "tmpfs", 0, size) < 0)
		test_skip("cannot mount a tmpfs: %s", strerror(errno));
	create = cli("create", MACHINE, "--image", "tiny", NULL);
	ASSERT_STATUS(create, 0);
	start = cli("start", "--wait", MACHINE, NULL);
	ASSERT_STATUS(start, 0);
	kill(cli_inspect_pid(MACHINE, "monitor_pid"), SIGSTOP);
	cli_kill(cli_inspect_pid(MACHINE, "pid"));
	cli_kill(cli_inspect_pid(MACHINE, "monitor_pid"));
	leave_free(path, 0);
	delete = cli("delete", "--force", "-y", MACHINE, NULL);
	ASSERT_STATUS(delete, 0);
	ASSERT_EQ(cli_entries("run", NULL, 0), 0);
	umount2(path, MNT_DETACH);
}
