/* user.c and settings.c on a directory that stands for an image's root. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "base/file.h"
#include "guest/root.h"
#include "guest/settings.h"
#include "guest/user.h"
#include "test.h"

static void put(int root, const char *path, const char *text, mode_t mode)
{
	ASSERT_OK(file_write_at(root, path, text, strlen(text), mode, 0));
	ASSERT_OK(fchmodat(root, path, mode, 0));
}

static int image(void)
{
	int root = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	ASSERT_OK(root);
	ASSERT_OK(mkdirat(root, "etc", 0755));
	put(root, "etc/passwd", "root:x:0:0::/root:/bin/sh\nfirst:x:1000:1000::/home/first:/bin/sh", 0644);
	put(root, "etc/group", "root:x:0:\nothers:x:1001:\n", 0644);
	put(root, "etc/shadow", "root:*:1::::::\n", 0640);
	return root;
}

static void assert_file(int root, const char *path, const char *text, mode_t mode)
{
	_cleanup_buf_ struct buf b = { 0 };
	struct stat st;

	ASSERT_OK(file_read_at(root, path, 1 << 20, &b));
	ASSERT_STREQ(b.p, text);
	ASSERT_OK(fstatat(root, path, &st, AT_SYMLINK_NOFOLLOW));
	ASSERT_EQ(st.st_mode, S_IFREG | mode);
}

static char *keys[] = { (char[]){ "ssh-ed25519 AAAA one" }, (char[]){ "ssh-ed25519 BBBB two" } };

static Skerry__Agent__V1__User user(char *name, bool create)
{
	Skerry__Agent__V1__User u;

	skerry__agent__v1__user__init(&u);
	u.name = name;
	u.create = create;
	u.sudo = true;
	u.authorized_keys = keys;
	u.n_authorized_keys = 2;
	return u;
}

static void need_root(void)
{
	if (geteuid() != 0)
		test_skip("needs root for owners");
}

TEST(a_missing_user_is_made_with_the_next_free_number)
{
	_cleanup_close_ int root = image();
	char name[] = "dev.x";
	Skerry__Agent__V1__User u = user(name, true);
	struct stat st;

	need_root();
	ASSERT_OK(mkdirat(root, "etc/sudoers.d", 0755));
	ASSERT_OK(user_apply(&u, root, NULL));
	assert_file(root, "etc/passwd",
		    "root:x:0:0::/root:/bin/sh\nfirst:x:1000:1000::/home/first:/bin/sh\n"
		    "dev.x:x:1002:1002::/home/dev.x:/bin/sh\n",
		    0644);
	assert_file(root, "etc/group", "root:x:0:\nothers:x:1001:\ndev.x:x:1002:\n", 0644);
	assert_file(root, "etc/shadow", "root:*:1::::::\ndev.x:*:19000:0:99999:7:::\n", 0640);
	assert_file(root, "etc/sudoers.d/90-skerry-dev_x", "dev.x ALL=(ALL:ALL) NOPASSWD: ALL\n", 0440);
	assert_file(root, "home/dev.x/.ssh/authorized_keys", "ssh-ed25519 AAAA one\nssh-ed25519 BBBB two\n", 0600);
	ASSERT_OK(fstatat(root, "home/dev.x/.ssh", &st, 0));
	ASSERT_EQ(st.st_mode, S_IFDIR | 0700);
	ASSERT_EQ(st.st_uid, 1002);
	ASSERT_OK(fstatat(root, "home/dev.x/.ssh/authorized_keys", &st, 0));
	ASSERT_EQ(st.st_uid, 1002);
	ASSERT_EQ(st.st_gid, 1002);
	/* The next boot finds all done, and replaces the keys. */
	u.n_authorized_keys = 1;
	ASSERT_OK(user_apply(&u, root, NULL));
	assert_file(root, "home/dev.x/.ssh/authorized_keys", "ssh-ed25519 AAAA one\n", 0600);
	assert_file(root, "etc/group", "root:x:0:\nothers:x:1001:\ndev.x:x:1002:\n", 0644);
}

TEST(a_password_takes_its_field_and_lets_ssh_ask_for_it)
{
	_cleanup_close_ int root = image();
	char name[] = "dev", first[] = "$6$salt$one", second[] = "$6$salt$two", bad[] = "a:b";
	Skerry__Agent__V1__User u = user(name, true);

	need_root();
	ASSERT_OK(mkdirat(root, "etc/ssh", 0755));
	ASSERT_OK(mkdirat(root, "etc/ssh/sshd_config.d", 0755));
	u.password = first;
	ASSERT_OK(user_apply(&u, root, NULL));
	assert_file(root, "etc/shadow", "root:*:1::::::\ndev:$6$salt$one:19000:0:99999:7:::\n", 0640);
	assert_file(root, "etc/ssh/sshd_config.d/00-skerry-password.conf", "PasswordAuthentication yes\n", 0600);
	u.password = second;
	ASSERT_OK(user_apply(&u, root, NULL));
	assert_file(root, "etc/shadow", "root:*:1::::::\ndev:$6$salt$two:19000:0:99999:7:::\n", 0640);
	u.password = bad;
	ASSERT_EQ(user_apply(&u, root, NULL), -EINVAL);
	assert_file(root, "etc/shadow", "root:*:1::::::\ndev:$6$salt$two:19000:0:99999:7:::\n", 0640);
}

TEST(an_unknown_user_is_an_error_without_create)
{
	_cleanup_close_ int root = image();
	_cleanup_error_ struct error err = { 0 };
	char name[] = "dev";
	Skerry__Agent__V1__User u = user(name, false);

	ASSERT_EQ(user_apply(&u, root, &err), -ENOENT);
	ASSERT_CONTAINS(err.msg, "dev");
}

TEST(keys_are_not_written_through_the_users_link)
{
	_cleanup_close_ int root = image();
	char name[] = "first";
	Skerry__Agent__V1__User u = user(name, false);

	need_root();
	ASSERT_OK(mkdirat(root, "home", 0755));
	ASSERT_OK(mkdirat(root, "home/first", 0755));
	ASSERT_OK(symlinkat("/etc", root, "home/first/.ssh"));
	ASSERT(user_apply(&u, root, NULL) < 0);
	ASSERT(faccessat(root, "etc/authorized_keys", F_OK, 0) < 0);
}

TEST(the_files_of_etc_are_written)
{
	_cleanup_close_ int root = image();
	_cleanup_buf_ struct buf errors = { 0 };
	char hostname[] = "web", id[] = "0123456789abcdef0123456789abcdef", dns[] = "10.0.2.3", search_a[] = "a.org",
	     search_b[] = "b.org", key_name[] = "ssh_host_ed25519_key";
	char *servers[] = { dns }, *search[] = { search_a, search_b };
	uint8_t key[] = "private", public[] = "public";
	Skerry__Agent__V1__BootConfig c;
	Skerry__Agent__V1__SshHostKey k, *host_keys[] = { &k };
	struct stat before, after;

	need_root();
	put(root, "etc/hosts", "127.0.0.1 localhost\n127.0.1.1 old\n10.1.1.1 mine", 0644);
	ASSERT_OK(symlinkat("../run/resolve/stub.conf", root, "etc/resolv.conf"));
	skerry__agent__v1__boot_config__init(&c);
	skerry__agent__v1__ssh_host_key__init(&k);
	c.hostname = hostname;
	c.machine_id = id;
	c.dns_servers = servers;
	c.n_dns_servers = 1;
	c.dns_search = search;
	c.n_dns_search = 2;
	k.name = key_name;
	k.private_key = (ProtobufCBinaryData){ .len = 7, .data = key };
	k.public_key = (ProtobufCBinaryData){ .len = 6, .data = public };
	c.ssh_host_keys = host_keys;
	c.n_ssh_host_keys = 1;
	settings_files(&c, root, &errors);
	ASSERT_EQ(errors.len, 0);
	assert_file(root, "etc/hostname", "web\n", 0644);
	assert_file(root, "etc/hosts", "127.0.0.1 localhost\n10.1.1.1 mine\n127.0.1.1\tweb\n", 0644);
	assert_file(root, "etc/machine-id", "0123456789abcdef0123456789abcdef\n", 0444);
	assert_file(root, "etc/resolv.conf", "nameserver 10.0.2.3\nsearch a.org b.org\n", 0644);
	assert_file(root, "etc/ssh/ssh_host_ed25519_key", "private", 0600);
	assert_file(root, "etc/ssh/ssh_host_ed25519_key.pub", "public", 0644);
	/* What is right already is not written again: no write, no journal, at the next boot. */
	ASSERT_OK(fstatat(root, "etc/hosts", &before, 0));
	settings_files(&c, root, &errors);
	ASSERT_OK(fstatat(root, "etc/hosts", &after, 0));
	ASSERT_EQ(before.st_ino, after.st_ino);
	ASSERT_EQ(errors.len, 0);
}

TEST(what_fails_is_written_down_and_the_rest_is_done)
{
	_cleanup_close_ int root = image();
	_cleanup_buf_ struct buf errors = { 0 };
	char hostname[] = "web", id[] = "0123456789abcdef0123456789abcdef";
	Skerry__Agent__V1__BootConfig c;

	ASSERT_OK(mkdirat(root, "etc/hostname", 0755));
	skerry__agent__v1__boot_config__init(&c);
	c.hostname = hostname;
	c.machine_id = id;
	settings_files(&c, root, &errors);
	ASSERT_CONTAINS(errors.p, "/etc/hostname: ");
	assert_file(root, "etc/machine-id", "0123456789abcdef0123456789abcdef\n", 0444);
}

TEST(links_of_the_image_end_inside_it)
{
	_cleanup_close_ int root = image();
	_cleanup_buf_ struct buf b = { 0 };

	ASSERT_OK(symlinkat("/etc", root, "conf"));
	ASSERT_OK(root_write(root, "/conf/new", "x", 1, 0600, getuid(), getgid()));
	assert_file(root, "etc/new", "x", 0600);
	ASSERT_OK(symlinkat("../../../../../../../../etc/passwd", root, "escape"));
	ASSERT_OK(root_read(root, "/escape", 1 << 20, &b));
	ASSERT_CONTAINS(b.p, "first:x:1000");
}

TEST(directories_are_made_inside_the_root_only)
{
	_cleanup_close_ int root = image();
	Skerry__Agent__V1__BootConfig c;
	char app[] = "/srv/app//deep", away[] = "/../../../../escaped/x", there[] = "/etc",
	     *directories[] = { app, away, there };
	_cleanup_buf_ struct buf errors = { 0 };
	struct stat st;

	skerry__agent__v1__boot_config__init(&c);
	ASSERT_OK(symlinkat("/opt", root, "srv"));
	ASSERT_OK(mkdirat(root, "opt", 0700));
	c.directories = directories;
	c.n_directories = 3;
	settings_files(&c, root, &errors);
	ASSERT_EQ(errors.len, 0);
	ASSERT_OK(fstatat(root, "opt/app/deep", &st, 0));
	ASSERT_EQ(st.st_mode & 07777, 0755);
	ASSERT_OK(fstatat(root, "escaped/x", &st, 0));
	/* What was there stays as it was. */
	ASSERT_OK(fstatat(root, "opt", &st, 0));
	ASSERT_EQ(st.st_mode & 07777, 0700);
}
