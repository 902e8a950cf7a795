/* Login, pull and push against Debian's docker-registry, with images that umoci made and skopeo put there. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cli.h"
#include "registry.h"
#include "web.h"

enum { COMMAND_S = 120 };

static struct registry_server server;

/* Nothing of the user's, and no shared store: what is pulled is ours. */
static void start(bool secured)
{
	unsetenv("SKERRY_TEST_STORE");
	unsetenv("DOCKER_CONFIG");
	unsetenv("REGISTRY_AUTH_FILE");
	unsetenv("XDG_CONFIG_HOME");
	unsetenv("XDG_RUNTIME_DIR");
	setenv("HOME", test_tmpdir(), 1);
	(void)cli_home(false);
	if (!secured) {
		registry_server_start(&server, false);
		setenv("SKERRY_PLAIN_HTTP", server.host, 1);
	} else {
		registry_server_start(&server, true);
	}
}

static const char *name(const char *repository)
{
	static char text[4][256];
	static unsigned n;
	char *p = text[n++ % 4];

	snprintf(p, sizeof(text[0]), "%s/%s", server.host, repository);
	return p;
}

static struct cli login(const char *password)
{
	return cli_argv((const char *[]){ cli_skerry(), "login", "--tls-ca", server.ca, "--user", "me",
					  "--password-stdin", server.host, NULL },
			password, COMMAND_S);
}

/* A failure is one line, and a hint at most. */
static void assert_one_line(const struct cli *r)
{
	const char *end = strchr(r->err, '\n');

	ASSERT(strncmp(r->err, "skerry: ", 8) == 0);
	ASSERT(end && (!end[1] || strncmp(end + 1, "hint: ", 6) == 0));
}

static void path_in_home(const char *rest, char out[400])
{
	snprintf(out, 400, "%s/%s", getenv("SKERRY_HOME"), rest);
}

TEST(a_login_is_checked_before_it_is_kept)
{
	_cleanup_cli_ struct cli untrusted = {}, wrong = {}, right = {}, out = {}, again = {};
	char file[400];
	struct stat st;

	start(true);
	path_in_home("config/auth.json", file);
	untrusted = cli_argv(
		(const char *[]){ cli_skerry(), "login", "--user", "me", "--password-stdin", server.host, NULL }, "pw",
		COMMAND_S);
	ASSERT_STATUS(untrusted, 77);
	ASSERT_CONTAINS(untrusted.err, "--tls-ca");
	assert_one_line(&untrusted);
	wrong = login("hunter2\n");
	ASSERT_STATUS(wrong, 77);
	ASSERT(!strstr(wrong.err, "hunter2"));
	assert_one_line(&wrong);
	ASSERT(stat(file, &st) < 0);
	right = login("pw\n");
	ASSERT_STATUS(right, 0);
	ASSERT_EQ(stat(file, &st), 0);
	ASSERT_EQ(st.st_mode & 07777, 0600);
	ASSERT_STREQ(right.out, "");
	out = cli("logout", server.host, NULL);
	ASSERT_STATUS(out, 0);
	again = cli("logout", server.host, NULL);
	ASSERT_STATUS(again, 0);
	ASSERT_CONTAINS(again.err, "no login");
}

static void trust_for_good(void)
{
	char script[1024];
	_cleanup_cli_ struct cli r = {};

	snprintf(script, sizeof(script), "d='%s/config/certs.d/%s'; mkdir -p \"$d\" && cp '%s' \"$d/ca.crt\"",
		 getenv("SKERRY_HOME"), server.host, server.ca);
	r = cli_argv((const char *[]){ CLI_SHELL, script, NULL }, NULL, COMMAND_S);
	ASSERT_STATUS(r, 0);
}

TEST(what_skopeo_put_there_is_pulled_and_pushed_and_is_the_same)
{
	_cleanup_cli_ struct cli anonymous = {}, in = {}, pull = {}, again = {}, quiet = {}, inspect = {}, push = {},
				 more = {}, trusted = {}, missing = {}, always = {};
	char digest[80], line[90];
	unsigned asked;

	start(true);
	registry_make_image("one", 3000);
	snprintf(digest, sizeof(digest), "%s", registry_layout_digest("one"));
	snprintf(line, sizeof(line), "%s\n", digest);
	registry_put(&server, "one", "me/app:1", true);
	anonymous = cli("image", "pull", "--tls-ca", server.ca, name("me/app:1"), NULL);
	ASSERT_STATUS(anonymous, 77);
	ASSERT_CONTAINS(anonymous.err, "skerry login localhost");
	assert_one_line(&anonymous);
	in = login("pw");
	ASSERT_STATUS(in, 0);
	pull = cli("image", "pull", "--tls-ca", server.ca, name("me/app:1"), NULL);
	ASSERT_STATUS(pull, 0);
	ASSERT_STREQ(pull.out, line);
	again = cli("image", "pull", "--tls-ca", server.ca, name("me/app:1"), NULL);
	ASSERT_STATUS(again, 0);
	ASSERT_CONTAINS(again.err, "up to date");
	quiet = cli("image", "pull", "--quiet", "--tls-ca", server.ca, name("me/app:1"), NULL);
	ASSERT_STREQ(quiet.out, line);
	ASSERT_STREQ(quiet.err, "");
	ASSERT_EQ(registry_server_await(&server, "\"GET /v2/me/app/blobs/", "skerry/", 3), 3);
	ASSERT_EQ(registry_server_await(&server, "\"GET /v2/me/app/manifests/", "skerry/", 1), 1);
	inspect = cli("image", "inspect", name("me/app:1"), NULL);
	ASSERT_STATUS(inspect, 0);
	ASSERT_CONTAINS(inspect.out, digest);
	push = cli("image", "push", "--tls-ca", server.ca, name("me/app:1"), name("you/copy:2"), NULL);
	ASSERT_STATUS(push, 0);
	ASSERT_STREQ(push.out, line);
	/* All three blobs were taken over from me/app. */
	ASSERT_EQ(registry_server_await(&server, "from=me%2Fapp", " 201 ", 3), 3);
	more = cli("image", "push", "--tls-ca", server.ca, name("me/app:1"), name("you/copy:3"), NULL);
	ASSERT_STATUS(more, 0);
	ASSERT_EQ(registry_server_await(&server, "\"POST ", "skerry/", 3), 3);
	registry_get(&server, "you/copy:2", "two", true);
	ASSERT_STREQ(registry_layout_digest("two"), digest);
	/* The authority, where docker has it, saves the option. */
	trust_for_good();
	trusted = cli("image", "pull", name("you/copy:2"), NULL);
	ASSERT_STATUS(trusted, 0);
	ASSERT_STREQ(trusted.out, line);
	/* What is here already is asked for only where that is wanted. */
	asked = registry_server_count(&server, "/v2/you/copy/manifests/2", "skerry/");
	missing = cli("create", "a", "--image", name("you/copy:2"), "--pull", "missing", NULL);
	ASSERT_STATUS(missing, 0);
	ASSERT_EQ(registry_server_count(&server, "/v2/you/copy/manifests/2", "skerry/"), asked);
	always = cli("create", "b", "--image", name("you/copy:2"), "--pull", "always", NULL);
	ASSERT_STATUS(always, 0);
	ASSERT(registry_server_count(&server, "/v2/you/copy/manifests/2", "skerry/") > asked);
}

static void assert_format(const char *image, const char *fstype)
{
	_cleanup_cli_ struct cli r = cli("image", "inspect", image, NULL);
	char line[64];

	ASSERT_STATUS(r, 0);
	snprintf(line, sizeof(line), "\"fstype\": \"%s\"", fstype);
	ASSERT_CONTAINS(r.out, line);
}

/* The kind of disk is this store's affair: what is pushed is the layers. */
TEST(an_image_is_pulled_into_the_kind_of_file_system_that_is_asked_for)
{
	_cleanup_cli_ struct cli pull = {}, again = {}, other = {}, push = {}, bad = {}, ext4 = {}, back = {};
	unsigned blobs;

	start(false);
	registry_make_image("one", 50);
	registry_put(&server, "one", "app:1", false);
	registry_put(&server, "one", "app:2", false);
	bad = cli("image", "pull", "--format", "ntfs", name("app:1"), NULL);
	ASSERT_STATUS(bad, 64);
	pull = cli("image", "pull", "--quiet", "--format", "erofs", name("app:1"), NULL);
	ASSERT_STATUS(pull, 0);
	assert_format(name("app:1"), "erofs");
	/* Whoever asks for nothing has what is there. */
	again = cli("image", "pull", name("app:1"), NULL);
	ASSERT_STATUS(again, 0);
	ASSERT_CONTAINS(again.err, "is up to date");
	other = cli("image", "pull", "--quiet", name("app:2"), NULL);
	ASSERT_STATUS(other, 0);
	assert_format(name("app:2"), "erofs");
	push = cli("image", "push", "--quiet", name("app:1"), name("copy:1"), NULL);
	ASSERT_STATUS(push, 0);
	ASSERT_STREQ(push.out, pull.out);
	/* The other kind is made of what is here. */
	blobs = registry_server_await(&server, "GET", "/blobs/", 3);
	ASSERT_EQ(blobs, 3);
	ext4 = cli("image", "pull", "--quiet", "--format", "ext4", name("app:1"), NULL);
	ASSERT_STATUS(ext4, 0);
	ASSERT_STREQ(ext4.out, pull.out);
	ASSERT_EQ(registry_server_count(&server, "GET", "/blobs/"), blobs);
	assert_format(name("app:1"), "ext4");
	assert_format(name("app:1"), "erofs");
	assert_format(name("app:2"), "erofs");
	back = cli("image", "pull", "--format", "ext4", name("app:1"), NULL);
	ASSERT_STATUS(back, 0);
	ASSERT_CONTAINS(back.err, "is up to date");
}

TEST(an_image_goes_to_a_registry_that_has_nothing_of_it)
{
	_cleanup_cli_ struct cli pull = {}, push = {}, gone = {};
	char digest[80], first[32];

	start(false);
	registry_make_image("one", 3000);
	snprintf(digest, sizeof(digest), "%s", registry_layout_digest("one"));
	registry_put(&server, "one", "app:1", false);
	pull = cli("image", "pull", name("app:1"), NULL);
	ASSERT_STATUS(pull, 0);
	snprintf(first, sizeof(first), "%s", server.host);
	{
		char source[256], plain[128];

		snprintf(source, sizeof(source), "%s/app:1", first);
		/* Another registry, over the data of none. */
		ASSERT_EQ(chdir(test_tmpdir()), 0);
		ASSERT_EQ(rename("registry", "registry-1"), 0);
		registry_server_start(&server, false);
		snprintf(plain, sizeof(plain), "%s,%s", first, server.host);
		setenv("SKERRY_PLAIN_HTTP", plain, 1);
		push = cli("image", "push", source, name("a/b/c:x"), NULL);
	}
	ASSERT_STATUS(push, 0);
	ASSERT_EQ(registry_server_await(&server, "\"PUT /v2/a/b/c/blobs/uploads/", " 201 ", 3), 3);
	registry_get(&server, "a/b/c:x", "two", false);
	ASSERT_STREQ(registry_layout_digest("two"), digest);
	gone = cli("image", "push", "nothing-of-that-name", NULL);
	ASSERT_STATUS(gone, 1);
	assert_one_line(&gone);
}

TEST(what_is_wrong_is_said_in_one_line)
{
	static const struct {
		const char *args[4];
		int status;
		const char *says;
	} cases[] = {
		{ { "pull", "UPPER" }, 64, "lower case" },
		{ { "pull", "--platform", "amd64", "x" }, 64, "OS/ARCHITECTURE" },
		{ { "pull", "--tls-ca", "/no/such/file", "localhost:1/x" }, 64, "/no/such/file" },
		{ { "pull", "localhost:1/x" }, 1, "localhost:1" },
		{ { "push", "localhost:1/x" }, 1, "no image named" },
		{ { "push", "x@sha256:0123456789012345678901234567890123456789012345678901234567890123" },
		  64,
		  "not to a digest" },
	};
	_cleanup_cli_ struct cli missing = {}, tls = {}, host = {};

	start(false);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		_cleanup_cli_ struct cli r =
			cli("image", cases[i].args[0], cases[i].args[1], cases[i].args[2], cases[i].args[3], NULL);

		ASSERT_STATUS(r, cases[i].status);
		ASSERT_CONTAINS(r.err, cases[i].says);
		assert_one_line(&r);
	}
	missing = cli("image", "pull", name("me/none:1"), NULL);
	ASSERT_STATUS(missing, 1);
	ASSERT_CONTAINS(missing.err, "does not have it");
	assert_one_line(&missing);
	unsetenv("SKERRY_PLAIN_HTTP");
	tls = cli("image", "pull", name("me/none:1"), NULL);
	ASSERT_STATUS(tls, 1);
	ASSERT_CONTAINS(tls.err, "--plain-http localhost");
	host = cli_argv((const char *[]){ cli_skerry(), "login", "--user", "a", "--password-stdin", "nohost", NULL },
			"x", COMMAND_S);
	ASSERT_STATUS(host, 64);
	assert_one_line(&host);
}

/* ---- broken off ---- */

static void start_with_image(unsigned kib)
{
	start(false);
	registry_make_image("one", kib);
	registry_put(&server, "one", "app:1", false);
}

/* Kills skerry and what it executes. False when it had ended well just before. */
static bool kill_all(int pid)
{
	char names[2048];
	int status;

	kill(pid, SIGKILL);
	status = cli_wait(pid, COMMAND_S);
	if (status == 0)
		return false;
	ASSERT_EQ(status, 128 + SIGKILL);
	/* The program that pulls is told by its parent's death; for the worst, it is killed as well. */
	cli_processes(names, sizeof(names));
	for (char *p = names; *p; p = strchr(p, '\n') + 1)
		kill((pid_t)strtol(p, NULL, 10), SIGKILL); /* lint: a digit string of ours */
	ASSERT(cli_processes_gone(120));
	return true;
}

TEST(a_pull_that_is_killed_at_any_time_goes_on_and_ends_right)
{
	const char *argv[] = { cli_skerry(), "image", "pull", NULL, NULL };
	_cleanup_cli_ struct cli last = {};
	char digest[90];
	int killed = 0;

	start_with_image(40000);
	snprintf(digest, sizeof(digest), "%s\n", registry_layout_digest("one"));
	argv[3] = name("app:1");
	for (int ms = 5; ms < 2000; ms += ms / 3 + 5) {
		int pid = cli_spawn(argv), pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
		struct pollfd p = { .fd = pidfd, .events = POLLIN };
		bool ended = poll(&p, 1, ms) > 0;

		close(pidfd);
		if (ended) {
			ASSERT_EQ(cli_wait(pid, COMMAND_S), 0);
			break;
		}
		if (!kill_all(pid))
			break;
		killed++;
	}
	printf("# killed %d times\n", killed);
	ASSERT(killed > 3);
	last = cli("image", "pull", name("app:1"), NULL);
	ASSERT_STATUS(last, 0);
	ASSERT_STREQ(last.out, digest);
}

TEST(two_pulls_at_once_fetch_once)
{
	const char *argv[] = { cli_skerry(), "image", "pull", NULL, NULL };
	_cleanup_cli_ struct cli list = {};
	int pids[4];

	start_with_image(40000);
	argv[3] = name("app:1");
	for (int i = 0; i < 4; i++)
		pids[i] = cli_spawn(argv);
	for (int i = 0; i < 4; i++)
		ASSERT_EQ(cli_wait(pids[i], COMMAND_S), 0);
	ASSERT_EQ(registry_server_await(&server, "\"GET /v2/app/blobs/", "skerry/", 3), 3);
	list = cli("image", "list", "--format", "json", NULL);
	ASSERT_CONTAINS(list.out, "\"generation\": 1");
}

static void stall(const struct web_request *q, struct web_answer *a, void *data)
{
	(void)q;
	*(volatile int *)data = 1;
	a->stall_s = 60;
	a->body = "x";
	a->len = 1;
}

TEST(an_interrupted_pull_says_so_and_ends_with_130)
{
	volatile int *asked;
	char reference[64], host[32], path[400], text[4096];
	int port, pid, fd;
	ssize_t n;

	unsetenv("SKERRY_TEST_STORE");
	(void)cli_home(false);
	asked = web_shared(sizeof(*asked));
	port = web_start(stall, (void *)(uintptr_t)asked);
	snprintf(host, sizeof(host), "127.0.0.1:%d", port);
	snprintf(reference, sizeof(reference), "%s/x:1", host);
	setenv("SKERRY_PLAIN_HTTP", host, 1);
	path_in_home("err", path);
	pid = fork();
	if (pid == 0) {
		int to = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

		dup2(to, 2);
		execl(cli_skerry(), "skerry", "image", "pull", reference, (char *)NULL);
		_exit(127);
	}
	for (int i = 0; !*asked; i++) {
		ASSERT(i < 2400);
		(void)poll(NULL, 0, 50); /* lint: nothing announces this */
	}
	ASSERT_EQ(kill(pid, SIGINT), 0);
	ASSERT_EQ(cli_wait(pid, COMMAND_S), 130);
	ASSERT(cli_processes_gone(120));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	ASSERT_STREQ(text, "skerry: interrupted\n");
}

TEST(a_full_disk_ends_in_one_line_without_half_an_image)
{
	_cleanup_cli_ struct cli full = {}, list = {}, room = {};
	char images[400];

	if (geteuid() != 0)
		test_skip("needs root for a tmpfs of its own");
	start_with_image(8000);
	path_in_home("images", images);
	ASSERT_EQ(mkdir(images, 0700), 0);
	if (mount("tmpfs", images, "tmpfs", 0, "size=6m,mode=0700") < 0)
		test_skip("cannot mount a tmpfs: %s", strerror(errno));
	full = cli("image", "pull", "--quiet", name("app:1"), NULL);
	list = cli("image", "list", "--quiet", NULL);
	ASSERT_EQ(mount("tmpfs", images, "tmpfs", MS_REMOUNT, "size=200m,mode=0700"), 0);
	room = cli("image", "pull", "--quiet", name("app:1"), NULL);
	ASSERT_EQ(umount2(images, MNT_DETACH), 0);
	ASSERT_STATUS(full, 73);
	ASSERT_CONTAINS(full.err, "No space left");
	assert_one_line(&full);
	ASSERT_STREQ(list.out, "");
	ASSERT_STATUS(room, 0);
}

/* An index that buildah makes over two images, of which one is for another processor. */
TEST(of_an_index_the_platform_that_fits_is_pulled)
{
	static const char *const platforms[] = { "linux/amd64", "linux/arm64" };
	_cleanup_cli_ struct cli plain = {}, inspect = {};
	char script[2048], mine[80];

	start(false);
	if (access("/usr/bin/buildah", X_OK) < 0)
		test_skip("buildah is not installed");
	registry_make_image("amd", 10);
	snprintf(mine, sizeof(mine), "%s", registry_layout_digest("amd"));
	snprintf(script, sizeof(script), "cd '%s' && umoci config --image layout:amd --tag arm --architecture arm64",
		 test_tmpdir());
	{
		_cleanup_cli_ struct cli r = cli_argv((const char *[]){ CLI_SHELL, script, NULL }, NULL, COMMAND_S);

		ASSERT_STATUS(r, 0);
	}
	registry_put(&server, "amd", "multi:amd", false);
	registry_put(&server, "arm", "multi:arm", false);
	snprintf(script, sizeof(script),
		 "cd '%s' && b() { buildah --root \"$PWD/bs\" --runroot \"$PWD/br\" --storage-driver vfs manifest "
		 "\"$@\"; } && "
		 "b create m && b add --tls-verify=false m docker://%s/multi:amd && b add --tls-verify=false m "
		 "docker://%s/multi:arm && "
		 "b push --all --tls-verify=false m docker://%s/multi:1",
		 test_tmpdir(), server.host, server.host, server.host);
	{
		_cleanup_cli_ struct cli r = cli_argv((const char *[]){ CLI_SHELL, script, NULL }, NULL, COMMAND_S);

		ASSERT_STATUS(r, 0);
	}
	plain = cli("image", "pull", "--plain-http", server.host, name("multi:1"), NULL);
	ASSERT_STATUS(plain, 0);
	ASSERT_CONTAINS(plain.out, mine);
	for (size_t i = 0; i < 2; i++) {
		_cleanup_cli_ struct cli r = cli("image", "pull", "--plain-http", server.host, "--platform",
						 platforms[i], name("multi:1"), NULL);

		ASSERT_STATUS(r, 0);
		ASSERT_EQ(strstr(r.out, mine) != NULL, i == 0);
	}
	inspect =
		cli("image", "pull", "--plain-http", server.host, "--platform", "linux/riscv64", name("multi:1"), NULL);
	ASSERT(inspect.status != 0);
	ASSERT_CONTAINS(inspect.err, "riscv64");
}
