/* The share against a guest that is root of what virtiofsd shows to it: here a process that has the directory as virtiofsd has it. */
#include "shim/share.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "shim/root.h"
#include "test.h"

static void privileged(void)
{
	if (geteuid() != 0)
		test_skip("needs root, for mounts");
}

static char *at(const char *name)
{
	return xasprintf("%s/%s", test_tmpdir(), name);
}

static void make_dir(const char *name)
{
	_cleanup_free_ char *path = at(name);

	ASSERT_OK(mkdir_parents_at(AT_FDCWD, path, 0755));
}

static void make_file(const char *name)
{
	_cleanup_free_ char *path = at(name);
	_cleanup_close_ int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);

	ASSERT_OK(write_full(fd, "text", 4));
}

static bool there(const char *name)
{
	_cleanup_free_ char *path = at(name);
	struct stat st;

	return lstat(path, &st) == 0;
}

static struct share *begin(void)
{
	_cleanup_free_ char *directory = at("share");
	_cleanup_error_ struct error e = {};
	struct share *s;

	privileged();
	if (share_begin(directory, &s, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	return s;
}

/* In a mount namespace of its own that follows this one, with @name as its root, until the test ends. */
static pid_t apart(const char *name)
{
	_cleanup_free_ char *directory = at(name);
	int pair[2];
	pid_t pid;
	char c;

	ASSERT_OK(pipe2(pair, O_CLOEXEC));
	pid = fork();
	ASSERT_OK(pid);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* As virtiofsd does it. */
		if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0 ||
		    mount(directory, directory, NULL, MS_BIND | MS_REC, NULL) < 0 || chdir(directory) < 0 ||
		    chroot(".") < 0 || write(pair[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(pair[1]);
	ASSERT_EQ(read(pair[0], &c, 1), 1);
	close(pair[0]);
	return pid;
}

/* The share as the guest gets it. */
static int guest(void)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/root", (int)apart("share"));
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	ASSERT_OK(fd);
	return fd;
}

static int created(int dir, const char *name)
{
	_cleanup_close_ int fd = openat(dir, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : 0;
}

static int add_binds(const struct share *s, const char *id, struct spec_bind *binds, size_t n, struct error *err)
{
	const struct spec_info spec = { .binds = binds, .n_binds = n };
	_cleanup_free_ char *root = at("root");

	make_dir("root");
	return share_add(s, id, NULL, 0, root, &spec, err);
}

static void add(const struct share *s, const char *id)
{
	_cleanup_free_ char *source = at("data");
	_cleanup_error_ struct error e = {};
	struct spec_bind bind = { .source = source, .recursive = true };

	make_dir("data");
	if (add_binds(s, id, &bind, 1, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
}

#define DENIED(call)                     \
	do {                             \
		ASSERT_EQ((call), -1);   \
		ASSERT_EQ(errno, EROFS); \
	} while (0)

TEST(the_guest_writes_below_its_mounts_and_nowhere_else)
{
	struct share *s = begin();
	_cleanup_close_ int g = guest();

	add(s, "c1");
	ASSERT_EQ(created(g, "c1/rootfs/new"), 0);
	ASSERT_EQ(created(g, "c1/m0/new"), 0);
	ASSERT(there("root/new") && there("data/new"));

	DENIED(renameat(g, "c1", g, "x"));
	DENIED(symlinkat("/etc", g, "c2"));
	DENIED(symlinkat("/etc", g, "c1/m3"));
	DENIED(mkdirat(g, "c2", 0755));
	DENIED(mkdirat(g, "c1/m1", 0755));
	DENIED(unlinkat(g, "c1/rootfs", AT_REMOVEDIR));
	DENIED(mknodat(g, "c1/m1", S_IFIFO | 0600, 0));
	DENIED(fchmodat(g, "c1", 0700, 0));
	ASSERT_EQ(created(g, "c1/m1"), -EROFS);

	share_remove(s, "c1");
	ASSERT(faccessat(g, "c1", F_OK, 0) < 0);
	ASSERT(there("root/new") && there("data/new"));
	DENIED(mkdirat(g, "c1", 0755));
	/* The same name again, for the guest that was there before. */
	add(s, "c1");
	ASSERT_OK(faccessat(g, "c1/rootfs/new", F_OK, 0));
	share_remove(s, "c1");
	share_free(s);
}

/* What the shim has no way to make happen, and would not be led by. */
TEST(a_symbolic_link_in_the_share_leads_nowhere)
{
	struct share *s = begin();
	_cleanup_free_ char *share = at("share"), *c1 = at("share/c1"), *moved = at("share/moved"),
			    *c2 = at("share/c2"), *c3 = at("share/c3"), *other = at("other"),
			    *mounted = at("other/rootfs"), *root = at("root");
	const struct spec_info none = {};
	_cleanup_error_ struct error e = {};

	/* Another container's bundle, with its root file system mounted. */
	make_dir("other/rootfs");
	make_dir("other/m0");
	ASSERT_OK(mount("other", mounted, "tmpfs", 0, NULL));
	make_file("other/rootfs/file");
	add(s, "c1");
	add(s, "c3");
	ASSERT_OK(mount(NULL, share, NULL, MS_REMOUNT | MS_BIND, NULL));
	ASSERT_OK(rename(c1, moved));
	ASSERT_OK(symlink(other, c1));
	ASSERT_OK(symlink(other, c2));

	ASSERT_EQ(share_root(s, "c1"), -ELOOP);
	share_remove(s, "c1");
	ASSERT(there("other/rootfs/file") && there("other/m0"));
	ASSERT_EQ(share_add(s, "c2", NULL, 0, root, &none, &e), -EEXIST);
	ASSERT(there("other/rootfs/file") && there("other/m0"));
	share_remove(s, "c2");
	ASSERT(there("other/rootfs/file"));

	/* One step deeper. */
	{
		_cleanup_free_ char *place = at("share/c3/m1");

		ASSERT_OK(symlink(mounted, place));
		share_remove(s, "c3");
		ASSERT(there("other/rootfs/file"));
		ASSERT(access(c3, F_OK) < 0);
	}
	ASSERT_OK(umount2(mounted, 0));
	share_free(s);
}

TEST(a_mount_in_the_root_file_system_stays_in_it)
{
	struct share *s = begin();
	_cleanup_free_ char *root = at("root"), *outside = at("outside"), *link = at("root/link"), *data = at("data");
	const struct spec_info none = {};
	_cleanup_error_ struct error e = {};
	const char *const bind[] = { "bind" };
	struct share_mount m[] = {
		{ .type = "bind", .source = root, .options = bind, .n_options = 1 },
		{ .type = "bind", .source = data, .target = "/link", .options = bind, .n_options = 1 },
	};

	make_dir("root/in");
	make_dir("outside");
	make_dir("data");
	make_file("data/file");
	ASSERT_OK(symlink(outside, link));
	ASSERT_EQ(share_add(s, "c1", m, 2, NULL, &none, &e), -ENOENT);
	ASSERT(!there("share/c1") && !there("outside/file"));
	m[1].target = "in/../../../in";
	ASSERT_OK(share_add(s, "c1", m, 2, NULL, &none, NULL));
	ASSERT(there("share/c1/rootfs/in/file"));
	share_remove(s, "c1");
	ASSERT(!there("share/c1") && there("data/file"));
	share_free(s);
}

/* Makes a mount at @name in the namespace of @pid. */
static void mount_for(pid_t pid, const char *name)
{
	_cleanup_free_ char *ns = xasprintf("/proc/%d/ns/mnt", (int)pid), *path = at(name);
	_cleanup_close_ int theirs = open(ns, O_RDONLY | O_CLOEXEC),
			    own = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);

	ASSERT_OK(setns(theirs, CLONE_NEWNS));
	ASSERT_OK(mount("later", path, "tmpfs", 0, NULL));
	make_file("source/later/file");
	ASSERT_OK(setns(own, CLONE_NEWNS));
}

TEST(read_only_is_what_is_mounted_below_as_well)
{
	_cleanup_free_ char *source = at("source"), *below = at("source/below");
	struct spec_bind binds[] = {
		{ .source = source, .recursive = true, .read_only = true },
		{ .source = source, .recursive = true },
		{ .source = source, .recursive = true, .read_only = true, .propagated = true },
	};
	_cleanup_close_ int g = -EBADF;
	struct share *s;
	pid_t host;

	privileged();
	ASSERT_OK(unshare(CLONE_NEWNS));
	ASSERT_OK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	make_dir("source");
	ASSERT_OK(mount("source", source, "tmpfs", 0, NULL));
	ASSERT_OK(mount(NULL, source, NULL, MS_SHARED, NULL));
	make_dir("source/below");
	make_dir("source/later");
	ASSERT_OK(mount("below", below, "tmpfs", 0, NULL));
	host = fork();
	ASSERT_OK(host);
	if (host == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	s = begin();
	g = guest();
	ASSERT_OK(add_binds(s, "c1", binds, ARRAY_SIZE(binds), NULL));
	ASSERT_EQ(created(g, "c1/m0/x"), -EROFS);
	ASSERT_EQ(created(g, "c1/m0/below/x"), -EROFS);
	ASSERT_EQ(created(g, "c1/m2/below/x"), -EROFS);
	ASSERT_EQ(created(g, "c1/m1/below/x"), 0);
	ASSERT(there("source/below/x"));
	ASSERT_OK(faccessat(g, "c1/m0/below/x", F_OK, 0));
	/* What comes later comes writable: only to who has asked for it. */
	mount_for(host, "source/later");
	ASSERT_OK(faccessat(g, "c1/m1/later/file", F_OK, 0));
	ASSERT_OK(faccessat(g, "c1/m2/later/file", F_OK, 0));
	ASSERT(faccessat(g, "c1/m0/later/file", F_OK, 0) < 0);
	share_remove(s, "c1");
	share_free(s);
	ASSERT_OK(kill(host, SIGKILL));
}

TEST(a_root_file_system_is_read_only_below_as_well)
{
	struct share *s = begin();
	_cleanup_free_ char *root = at("root"), *below = at("root/below");
	const char *const options[] = { "rbind", "ro", "nosuid", "noatime" };
	const struct share_mount m = { .type = "bind", .source = root, .options = options, .n_options = 4 };
	const struct spec_info none = {};
	_cleanup_close_ int g = guest();

	make_dir("root/below");
	ASSERT_OK(mount("below", below, "tmpfs", 0, NULL));
	ASSERT_OK(share_add(s, "c1", &m, 1, NULL, &none, NULL));
	ASSERT_EQ(created(g, "c1/rootfs/x"), -EROFS);
	ASSERT_EQ(created(g, "c1/rootfs/below/x"), -EROFS);
	ASSERT_EQ(created(AT_FDCWD, below), -EISDIR);
	share_remove(s, "c1");
	share_free(s);
}

TEST(what_the_guest_mounts_itself_is_read_only_where_it_must_be)
{
	struct share *s = begin();
	_cleanup_free_ char *layer = at("data/layer"), *image = at("data/image"), *upper = at("data/upper");
	struct root_file files[] = { { .path = layer, .read_only = true }, { .path = image } };
	struct root root = { .files = files, .n_files = ARRAY_SIZE(files), .upper_parent = upper };
	const struct spec_info none = {};
	_cleanup_close_ int g = guest();
	_cleanup_error_ struct error e = {};

	make_dir("data/upper/fs");
	make_file("data/layer");
	make_file("data/image");
	ASSERT_OK(share_add(s, "c1", NULL, 0, NULL, &none, NULL));
	ASSERT_OK(share_add_root(s, "c1", &root, NULL));
	ASSERT_EQ(created(g, "c1/l0"), -EROFS);
	ASSERT_EQ(created(g, "c1/l1"), 0);
	ASSERT_EQ(created(g, "c1/upper/fs/x"), 0);
	ASSERT(there("data/upper/fs/x"));
	DENIED(mkdirat(g, "c1/l2", 0755));
	share_remove(s, "c1");
	ASSERT(!there("share/c1") && there("data/layer") && there("data/upper/fs/x"));

	ASSERT_OK(share_add(s, "c1", NULL, 0, NULL, &none, NULL));
	ASSERT_OK(unlink(image));
	ASSERT_EQ(share_add_root(s, "c1", &root, &e), -ENOENT);
	ASSERT_CONTAINS(e.msg, image);
	ASSERT(!there("share/c1") && there("data/layer"));
	share_free(s);
}

/* As on Linux 5.11. */
static void forget_mount_setattr(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mount_setattr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = ARRAY_SIZE(code), .filter = code };

	ASSERT_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	ASSERT_OK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

TEST(a_kernel_that_cannot_hold_it_read_only_refuses)
{
	struct share *s = begin();
	_cleanup_free_ char *source = at("data");
	struct spec_bind bind = { .source = source, .recursive = true, .read_only = true };
	_cleanup_error_ struct error e = {};

	make_dir("data");
	forget_mount_setattr();
	ASSERT_EQ(add_binds(s, "c1", &bind, 1, &e), -ENOSYS);
	ASSERT_CONTAINS(e.msg, source);
	ASSERT_STREQ(e.hint, "this needs Linux 5.12");
	ASSERT(!there("share/c1"));
	bind.read_only = false;
	ASSERT_OK(add_binds(s, "c1", &bind, 1, NULL));
	share_remove(s, "c1");
	share_free(s);
}

TEST(files_and_directories_come_and_go)
{
	enum { N = 40 };
	struct share *s = begin();
	_cleanup_free_ char *dir = at("data"), *file = at("data/file"), *missing = at("missing"), *c1 = at("share/c1");
	struct spec_bind binds[N] = {};
	_cleanup_error_ struct error e = {};
	_cleanup_close_ int g = guest(), root = -EBADF;
	struct stat st;

	make_dir("data");
	make_file("data/file");
	for (size_t i = 0; i < N; i++)
		binds[i] = (struct spec_bind){ .source = i % 2 ? file : dir, .read_only = i % 3 == 0 };
	/* Its place is kept. */
	binds[7].socket = true;
	ASSERT_OK(add_binds(s, "c1", binds, N, NULL));
	ASSERT_EQ(add_binds(s, "c1", binds, N, &e), -EEXIST);
	ASSERT_OK(fstatat(g, "c1/m1", &st, 0));
	ASSERT_EQ(st.st_size, 4);
	ASSERT_OK(fstatat(g, "c1/m7", &st, 0));
	ASSERT_EQ(st.st_size, 0);
	ASSERT_OK(faccessat(g, "c1/m38/file", F_OK, 0));
	root = share_root(s, "c1");
	ASSERT_OK(root);
	make_file("root/seen");
	ASSERT_OK(faccessat(root, "seen", F_OK, 0));
	share_remove(s, "c1");
	share_remove(s, "c1");
	ASSERT(access(c1, F_OK) < 0);
	ASSERT(there("data/file") && there("root/seen"));

	binds[N - 1].source = missing;
	error_done(&e);
	ASSERT_EQ(add_binds(s, "c1", binds, N, &e), -ENOENT);
	ASSERT_CONTAINS(e.msg, missing);
	ASSERT(access(c1, F_OK) < 0);
	ASSERT(there("data/file") && there("root/seen"));
	share_free(s);
}
