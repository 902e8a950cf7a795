#include "dockerd.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"

/* Emulated machines on a busy host: what runs in a container is given its time, and so is a guest that is stopped. */
enum { WORDS_MAX = 64, START_S = 240, LIMIT_S = 600, BUILD_S = 600 };

static int daemon_pid;
static bool with_network;

static struct cli in_directory(const char *script)
{
	_cleanup_free_ char *text = xasprintf("cd '%s' && %s", test_tmpdir(), script);
	const char *argv[] = { CLI_SHELL, text, NULL };

	return cli_argv(argv, NULL, LIMIT_S);
}

void dockerd_sh(const char *script)
{
	_cleanup_cli_ struct cli r = in_directory(script);

	ASSERT_STATUS(r, 0);
}

struct cli docker(const char *first, ...)
{
	const char *argv[WORDS_MAX] = { "docker", first };
	va_list ap;

	va_start(ap, first);
	for (size_t n = 2; n < WORDS_MAX && (argv[n] = va_arg(ap, const char *)); n++)
		;
	va_end(ap);
	return cli_argv(argv, NULL, LIMIT_S);
}

void dockerd_stop(int sig)
{
	if (daemon_pid > 0) {
		(void)kill(daemon_pid, sig);
		(void)waitpid(daemon_pid, NULL, 0);
	}
	daemon_pid = 0;
}

static void stop_at_exit(void)
{
	if (daemon_pid > 0) {
		/* Containers are not its children: they would outlive it. */
		_unused_ _cleanup_cli_ struct cli r = in_directory("docker ps -aq | xargs -r docker rm -f -v");
	}
	dockerd_stop(SIGTERM);
}

void dockerd_restart(void)
{
	_cleanup_free_ char *root = xasprintf("%s/data", test_tmpdir()), *state = xasprintf("%s/exec", test_tmpdir()),
			    *host = xasprintf("unix://%s/d.sock", test_tmpdir()),
			    *pid = xasprintf("%s/pid", test_tmpdir());
	const char *argv[] = { "dockerd",
			       "--data-root",
			       root,
			       "--exec-root",
			       state,
			       "--host",
			       host,
			       "--pidfile",
			       pid,
			       "--exec-opt",
			       "native.cgroupdriver=cgroupfs",
			       with_network ? NULL : "--bridge=none",
			       "--iptables=false",
			       NULL };
	uint64_t deadline = clock_monotonic_ns() + START_S * NS_PER_SEC;

	daemon_pid = cli_spawn(argv);
	for (;;) {
		_cleanup_cli_ struct cli r = in_directory("docker version");

		if (r.status == 0)
			return;
		/* It gives its containerd a few seconds to come up, and ends when that were too few. */
		if (waitpid(daemon_pid, NULL, WNOHANG) == daemon_pid)
			daemon_pid = cli_spawn(argv);
		if (clock_monotonic_ns() > deadline)
			test_fail(__FILE__, __LINE__, "dockerd does not answer: %s", r.err);
		(void)usleep(100000); /* lint: it has no other way to say that it is there */
	}
}

void dockerd_start(void)
{
	_cleanup_free_ char *env = xasprintf("DOCKER_HOST=unix://%s/d.sock", test_tmpdir());
	_cleanup_cli_ struct cli have = in_directory("command -v dockerd docker");

	if (geteuid() != 0)
		test_skip("dockerd wants root");
	if (have.status != 0)
		test_skip("docker is not installed");
	cli_setenv(env);
	atexit(stop_at_exit);
	dockerd_restart();
}

void dockerd_start_with_network(void)
{
	if (geteuid() != 0)
		test_skip("dockerd wants root");
	ASSERT_OK(unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 ? -errno : 0);
	/* Apart from the host's, and shared as those are: what is mounted later must be seen by containers' shims that run already. */
	ASSERT_OK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ? -errno : 0);
	ASSERT_OK(mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL) < 0 ? -errno : 0);
	dockerd_sh("ip link set lo up");
	with_network = true;
	dockerd_start();
}

char *dockerd_runtime_file(const char *name)
{
	const char *from = getenv("SKERRY_TEST_RUNTIME");
	_cleanup_free_ char *path = from && *from ? xasprintf("%s/%s", from, name) : NULL;

	if (!path || access(path, R_OK) < 0)
		test_skip("SKERRY_TEST_RUNTIME names no directory with '%s'", name);
	return TAKE_PTR(path);
}

static void build(const char *name)
{
	_cleanup_free_ char *from = dockerd_runtime_file(name), *tag = xasprintf("skerry/%s", name);
	/* The newer builder is a plug-in, which need not be there. */
	const char *argv[] = { "env", "DOCKER_BUILDKIT=0", "docker", "build", "--quiet", "--tag", tag, from, NULL };
	_cleanup_cli_ struct cli r = cli_argv(argv, NULL, BUILD_S);

	ASSERT_STATUS(r, 0);
}

/* Whether the root of this process is another than its mount namespace's: whoever enters the namespace is taken there. */
static bool in_chroot(void)
{
	struct stat here, there;
	int status, ns;
	pid_t child = fork();

	if (child == 0) {
		ns = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
		if (ns < 0 || stat("/", &here) < 0 || setns(ns, CLONE_NEWNS) < 0 || stat("/", &there) < 0)
			_exit(0);
		_exit(here.st_dev != there.st_dev || here.st_ino != there.st_ino);
	}
	return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 1;
}

void dockerd_image(const char *name)
{
	if (in_chroot())
		test_skip("here is a chroot, and `docker exec` leads out of it");
	build("runtime");
	if (strcmp(name, "runtime") != 0)
		build(name);
}
