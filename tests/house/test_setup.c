/* scripts/setup.sh changes somebody's machine: with a dpkg-query, an apt-get and a sudo that only say what they were asked for. */
#include "test.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/spawn.h"

enum { LIMIT = 1 << 20 };

#define UPDATE "apt-get -qq -o DPkg::Lock::Timeout=600 -o Acquire::Retries=5 -o APT::Update::Error-Mode=any update\n"

/* Nothing is to be found but these. */
static const char *const programs[] = { "echo", "env", "grep", "sed", "sh", "sort", "tr", "xargs" };

static void script(const char *name, const char *text)
{
	_cleanup_free_ char *path = xasprintf("%s/bin/%s", test_tmpdir(), name), *whole = NULL;

	whole = xasprintf("#!/bin/sh\n%s\n", text);
	ASSERT_OK(file_write_at(AT_FDCWD, path, whole, strlen(whole), 0755, 0));
}

/* A host where nothing is installed, @owners is what tells whose dockerd and containerd are, and an installation removes @removed. */
static void make_host(const char *owners, const char *removed, bool sudo)
{
	_cleanup_free_ char *bin = xasprintf("%s/bin", test_tmpdir()), *query = NULL, *apt = NULL;

	ASSERT_OK(mkdir(bin, 0755));
	for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
		_cleanup_free_ char *from = xasprintf("/usr/bin/%s", programs[i]),
				    *to = xasprintf("%s/%s", bin, programs[i]);

		ASSERT_OK(symlink(from, to));
	}
	query = xasprintf("case $1 in -S) printf '%s' ;; esac", owners);
	apt = xasprintf("case \"$*\" in *' -s '*) printf '%s' ;; *) echo \"apt-get $*\" >>'%s/done' ;; esac", removed,
			test_tmpdir());
	script("dpkg-query", query);
	script("apt-get", apt);
	if (sudo)
		script("sudo", "exec \"$@\"");
	/* Not root, whoever runs this. */
	script("id", "echo 1000");
}

/* What it says, and in @ret_done what was asked of apt-get ("" = nothing). */
static char *set_up(const char *what, int status, char **ret_done)
{
	_cleanup_free_ char *path = xasprintf("PATH=%s/bin", test_tmpdir()),
			    *done = xasprintf("%s/done", test_tmpdir());
	const char *argv[] = { "/usr/bin/env", path, "/bin/sh", SOURCE_DIR "/scripts/setup.sh", what, NULL };
	struct buf out = {}, asked = {};
	struct spawn s = SPAWN_INIT;
	struct error err = {};
	int wait_status = 0;

	s.argv = argv;
	ASSERT_OK(spawn_run(&s, NULL, NULL, &out, LIMIT, UINT64_C(30000000000), &wait_status, &err));
	if (WEXITSTATUS(wait_status) != status)
		test_fail(__FILE__, __LINE__, "status %d: %s", WEXITSTATUS(wait_status), out.p);
	(void)file_read_at(AT_FDCWD, done, LIMIT, &asked);
	*ret_done = asked.p ? buf_take(&asked) : xstrdup("");
	return out.p ? buf_take(&out) : xstrdup("");
}

TEST(what_is_missing_is_installed)
{
	_cleanup_free_ char *said = NULL, *done = NULL;

	make_host("", "Remv busybox [1:1.35]\\nInst gcc (12)\\n", true);
	said = set_up("check", 0, &done);
	ASSERT_CONTAINS(said, "set-up: installing gcc ");
	ASSERT_CONTAINS(done, UPDATE);
	ASSERT_CONTAINS(done, " install gcc ");
	ASSERT_CONTAINS(done, " docker.io ");
	ASSERT_CONTAINS(done, " containerd ");
}

TEST(somebody_elses_docker_stays)
{
	_cleanup_free_ char *said = NULL, *done = NULL;

	make_host("docker-ce: /usr/bin/dockerd\\ncontainerd.io: /usr/bin/containerd\\n", "", true);
	said = set_up("check", 0, &done);
	ASSERT_CONTAINS(said, "left out, as what they bring is there from containerd.io docker-ce\n");
	ASSERT_CONTAINS(done, " install gcc ");
	ASSERT_CONTAINS(done, " docker-compose ");
	ASSERT(!strstr(done, " docker.io "));
	ASSERT(!strstr(done, " containerd "));
}

TEST(nothing_is_installed_that_removes_something)
{
	_cleanup_free_ char *said = NULL, *done = NULL;

	make_host("", "Remv docker-ce [5:24] [x]\\nRemv busybox [1]\\nRemv mine [1]\\nInst gcc (12)\\n", true);
	said = set_up("check", 69, &done);
	ASSERT_CONTAINS(said, "these would be removed: docker-ce mine\n");
	ASSERT_CONTAINS(said, "if that is right, as root, run: apt-get install");
	ASSERT_STREQ(done, UPDATE);
}

/* Another one holds the lock, a mirror is away, a run before this one was killed. */
TEST(what_fails_for_a_moment_is_done_again)
{
	_cleanup_free_ char *said = NULL, *done = NULL, *apt = NULL, *note = NULL;

	make_host("", "", true);
	apt = xasprintf("case \"$*\" in *' -s '*) exit ;; *' update') verb=update ;; *--fix-broken*) verb=repair ;; "
			"*) verb=install ;; esac\n"
			"cd '%s' && echo $verb >>done && [ -e $verb ] || { : >$verb && exit 100; }",
			test_tmpdir());
	note = xasprintf("echo \"${0##*/} $*\" >>'%s/done'", test_tmpdir());
	script("apt-get", apt);
	script("sleep", note);
	script("dpkg", note);
	said = set_up("run", 0, &done);
	ASSERT_STREQ(done, "update\nsleep 5\nupdate\ninstall\ndpkg --configure -a\nupdate\nrepair\ninstall\n");
}

TEST(who_cannot_be_root_is_told_everything_at_once)
{
	_cleanup_free_ char *said = NULL, *done = NULL;

	make_host("", "", false);
	said = set_up("run", 77, &done);
	ASSERT_CONTAINS(said, "as root, run: apt-get update && apt-get install --no-install-recommends gcc libc6-dev ");
	ASSERT_STREQ(done, "");
}
