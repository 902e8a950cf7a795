/* Unix sockets of the host among a container's bind mounts: what connects to them in there reaches the host's server. */
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "containerd.h"

#define CLIENT_MOUNT "type=bind,src=" SOCKET_CLIENT ",dst=/client,options=bind:ro"

enum { MIB = 1 << 20 };

/* Reads to the end, then gives it all back, turned over. */
static _Noreturn void serve_one(int fd)
{
	struct buf all = {};
	ssize_t n;

	while ((n = read(fd, buf_reserve(&all, 65536), 65536)) > 0)
		buf_commit(&all, (size_t)n);
	for (size_t i = 0; i < all.len; i++)
		all.p[i] = (char)~all.p[i];
	(void)write_full(fd, all.p, all.len);
	_exit(0);
}

/* A server at @path until the test ends. @backlog as in listen(2). */
static pid_t serve(const char *path, int backlog)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), conn;
	pid_t pid;

	ASSERT(strlen(path) < sizeof(a.sun_path));
	memcpy(a.sun_path, path, strlen(path));
	(void)unlink(path);
	ASSERT_OK(bind(fd, (struct sockaddr *)&a, sizeof(a)));
	ASSERT_OK(listen(fd, backlog));
	pid = fork();
	ASSERT_OK(pid);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)signal(SIGCHLD, SIG_IGN);
		while ((conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
			if (fork() == 0)
				serve_one(conn);
			close(conn);
		}
		_exit(1);
	}
	close(fd);
	return pid;
}

static char *socket_mount(const char *name)
{
	return xasprintf("type=bind,src=%s/%s,dst=/run/app.sock,options=rbind:rw", test_tmpdir(), name);
}

TEST(many_connections_at_once_carry_a_mebibyte_each_way)
{
	_cleanup_free_ char *path = xasprintf("%s/app.sock", test_tmpdir()), *mount = socket_mount("app.sock");
	_cleanup_cli_ struct cli r = {};

	ctd_start();
	(void)serve(path, 2);
	r = ctr_run(
		NULL, "--rm", "--mount", mount, "--mount", CLIENT_MOUNT, CTD_IMAGE, "c1", CLI_SHELL,
		"/client /run/app.sock 1 0 && /client /run/app.sock 1 1048576 && /client /run/app.sock 16 1048576 && "
		"/client /run/app.sock 100 100",
		NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_STREQ(r.out, "all came back\nall came back\nall came back\nall came back\n");
	ctd_nothing_left();
}

TEST(several_containers_joiners_and_a_server_that_is_restarted)
{
	_cleanup_free_ char *path = xasprintf("%s/app.sock", test_tmpdir()), *mount = socket_mount("app.sock");
	_cleanup_cli_ struct cli r = {}, first = {}, none = {}, second = {};
	pid_t server;

	ctd_start();
	server = serve(path, 16);
	r = ctr_run(NULL, "-d", "--mount", mount, "--mount", CLIENT_MOUNT, CTD_IMAGE, "c1", "sleep", "1000", NULL);
	ASSERT_STATUS(r, 0);
	first = ctr("task", "exec", "--exec-id", "e1", "c1", "/client", "/run/app.sock", "4", "100000", NULL);
	ASSERT_STATUS(first, 0);
	/* Nobody there: who connects sees the end, and nothing hangs. */
	(void)kill(server, SIGKILL);
	(void)waitpid(server, NULL, 0);
	none = ctr("task", "exec", "--exec-id", "e2", "c1", "/client", "/run/app.sock", "1", "100", NULL);
	ASSERT_STATUS(none, 1);
	(void)serve(path, 16);
	second = ctr("task", "exec", "--exec-id", "e3", "c1", "/client", "/run/app.sock", "4", "100000", NULL);
	ASSERT_STATUS(second, 0);
	ctd_remove("c1");
	ctd_nothing_left();
}

TEST(who_may_connect_is_as_on_the_host)
{
	_cleanup_free_ char *path = xasprintf("%s/app.sock", test_tmpdir()), *mount = socket_mount("app.sock");
	_cleanup_cli_ struct cli r = {}, e = {};

	ctd_start();
	(void)serve(path, 16);
	ASSERT_OK(chmod(path, 0640));
	ASSERT_OK(chown(path, 7, 8));
	r = ctr_run(NULL, "-d", "--mount", mount, "--mount", CLIENT_MOUNT, CTD_IMAGE, "c1", "sleep", "1000", NULL);
	ASSERT_STATUS(r, 0);
	e = ctr("task", "exec", "--user", "1000", "--exec-id", "e1", "c1", CLI_SHELL,
		"ls -ln /run/app.sock | cut -c1-10; stat -c '%u %g' /run/app.sock; /client /run/app.sock 1 1", NULL);
	ASSERT_STATUS(e, 1);
	ASSERT_STREQ(e.out, "srw-r-----\n7 8\nfailed\n");
	ASSERT_CONTAINS(e.err, "Permission denied");
	ctd_remove("c1");
	ctd_nothing_left();
}

/* A connection that is open when its machine ends is seen to end on the host. */
TEST(connections_end_with_the_container)
{
	_cleanup_free_ char *path = xasprintf("%s/app.sock", test_tmpdir()), *mount = socket_mount("app.sock");
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), conn;
	_cleanup_cli_ struct cli r = {}, e = {}, task = {}, container = {};
	char byte;

	ctd_start();
	memcpy(a.sun_path, path, strlen(path));
	ASSERT_OK(bind(fd, (struct sockaddr *)&a, sizeof(a)));
	ASSERT_OK(listen(fd, 4));
	r = ctr_run(NULL, "-d", "--mount", mount, "--mount", CLIENT_MOUNT, CTD_IMAGE, "c1", "sleep", "1000", NULL);
	ASSERT_STATUS(r, 0);
	e = ctr("task", "exec", "-d", "--exec-id", "e1", "c1", "/client", "/run/app.sock", "1", "1", NULL);
	ASSERT_STATUS(e, 0);
	conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	ASSERT_OK(conn);
	ASSERT_EQ(read(conn, &byte, 1), 1);
	ASSERT_OK(kill(ctd_process("qemu-system-x86"), SIGKILL));
	ASSERT(read(conn, &byte, 1) <= 0);
	close(conn);
	close(fd);
	ctd_wait_status("c1", "STOPPED");
	task = ctr("task", "rm", "-f", "c1", NULL);
	ASSERT(task.status >= 0);
	container = ctr("container", "rm", "c1", NULL);
	ASSERT_STATUS(container, 0);
	ctd_nothing_left();
}

/* A container that can write to the directory of its socket cannot make the host connect to another one in its place. */
TEST(a_socket_cannot_be_exchanged_for_a_link)
{
	_cleanup_free_ char *path = xasprintf("%s/d/app.sock", test_tmpdir()),
			    *secret = xasprintf("%s/secret.sock", test_tmpdir()), *mount = socket_mount("d/app.sock"),
			    *dir = xasprintf("type=bind,src=%s/d,dst=/d,options=rbind:rw", test_tmpdir()),
			    *exchange = xasprintf(
				    "/client /run/app.sock 1 100 && rm /d/app.sock && ln -s %s /d/app.sock && "
				    "/client /run/app.sock 1 100",
				    secret);
	_cleanup_cli_ struct cli r = {};

	ctd_start();
	ctd_sh("mkdir d");
	(void)serve(path, 16);
	(void)serve(secret, 16);
	r = ctr_run(NULL, "--rm", "--mount", mount, "--mount", dir, "--mount", CLIENT_MOUNT, CTD_IMAGE, "c1", CLI_SHELL,
		    exchange, NULL);
	ASSERT_STATUS(r, 1);
	ASSERT_STREQ(r.out, "all came back\nfailed\n");
	ctd_nothing_left();
}
