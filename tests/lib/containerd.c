#include "containerd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"

#define RUNTIME "io.containerd.skerry.v1"

enum {
	WORDS_MAX = 64,
	START_S = 120,
	GONE_S = 120,
	STATUS_S = 300,
	LOG_S = 120,
	CTR_S = 300,
	SCRIPT_S = 600,
	LOOK_S = 120
};

static int daemon_pid;
static bool with_cri;
static const char *more_config = "";
static char namespace[32];

void ctd_sh(const char *script)
{
	_cleanup_free_ char *text = xasprintf("cd '%s' && %s", test_tmpdir(), script);
	const char *argv[] = { CLI_SHELL, text, NULL };
	_cleanup_cli_ struct cli r = cli_argv(argv, NULL, SCRIPT_S);

	ASSERT_STATUS(r, 0);
}

static char *at(const char *name)
{
	return xasprintf("%s/%s", test_tmpdir(), name);
}

static void need(const char *program)
{
	_cleanup_free_ char *text = xasprintf("command -v %s", program);
	const char *argv[] = { CLI_SHELL, text, NULL };
	_cleanup_cli_ struct cli r = cli_argv(argv, NULL, LOOK_S);

	if (r.status != 0)
		test_skip("%s is not installed", program);
}

char *ctd_client(const char *name)
{
	const char *directory = getenv("SKERRY_TEST_CLIENTS");
	_cleanup_free_ char *path = directory && *directory ? xasprintf("%s/%s", directory, name) : NULL;

	if (!path || access(path, X_OK) < 0)
		test_skip("there is no %s: scripts/test-clients.sh", name);
	return TAKE_PTR(path);
}

static struct cli ctr_words(const char *const *words, const char *input)
{
	_cleanup_free_ char *socket = at("c.sock");
	const char *argv[WORDS_MAX] = { "ctr", "--address", socket };

	for (size_t n = 3; (argv[n] = *words) && n < WORDS_MAX - 1; n++)
		words++;
	return cli_argv(argv, input, CTR_S);
}

struct cli ctr(const char *first, ...)
{
	const char *words[WORDS_MAX] = { first };
	va_list ap;

	va_start(ap, first);
	for (size_t n = 1; n < WORDS_MAX && (words[n] = va_arg(ap, const char *)); n++)
		;
	va_end(ap);
	return ctr_words(words, NULL);
}

struct cli ctr_run(const char *input, const char *first, ...)
{
	const char *words[WORDS_MAX] = { "run", "--runtime", RUNTIME, first };
	va_list ap;

	va_start(ap, first);
	for (size_t n = 4; n < WORDS_MAX && (words[n] = va_arg(ap, const char *)); n++)
		;
	va_end(ap);
	return ctr_words(words, input);
}

const char *ctd_namespace(void)
{
	return namespace;
}

int ctd_pid(void)
{
	return daemon_pid;
}

/* Whether a line of "TASK PID STATUS" says so. */
static bool has_status(const char *lines, const char *id, const char *status)
{
	for (const char *line = lines; *line; line += strcspn(line, "\n"), line += *line == '\n') {
		const char *rest = after_prefix(line, id);
		size_t n = strlen(status);

		if (!rest || *rest != ' ')
			continue;
		rest += strspn(rest, " ");
		rest += strcspn(rest, " \n");
		rest += strspn(rest, " ");
		return strncmp(rest, status, n) == 0 && strchr(" \n", rest[n]);
	}
	return false;
}

void ctd_wait_status(const char *id, const char *status)
{
	uint64_t deadline = clock_monotonic_ns() + STATUS_S * NS_PER_SEC;

	for (;;) {
		_cleanup_cli_ struct cli r = ctr("task", "ls", NULL);

		if (has_status(r.out, id, status))
			return;
		if (clock_monotonic_ns() > deadline)
			test_fail(__FILE__, __LINE__, "%s is not %s:\n%s", id, status, r.out);
		(void)usleep(100000); /* lint: ctr has no wait for a state */
	}
}

void ctd_remove(const char *id)
{
	_cleanup_cli_ struct cli a = ctr("task", "kill", "-s", "SIGKILL", id, NULL), b = {}, c = {};

	ASSERT_STATUS(a, 0);
	ctd_wait_status(id, "STOPPED");
	b = ctr("task", "rm", id, NULL);
	ASSERT(b.status >= 0);
	c = ctr("container", "rm", id, NULL);
	ASSERT_STATUS(c, 0);
}

void ctd_stop(int sig)
{
	if (daemon_pid > 0) {
		(void)kill(daemon_pid, sig);
		(void)waitpid(daemon_pid, NULL, 0);
	}
	daemon_pid = 0;
}

/* What a failed test leaves mounted, so that its directory can be removed. */
static void unmount_below(const char *directory)
{
	_cleanup_buf_ struct buf text = {};
	char *save = NULL;

	if (file_read_at(AT_FDCWD, "/proc/self/mounts", 4 << 20, &text) < 0 || !text.len)
		return;
	for (char *line = strtok_r(text.p, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *path = strchr(line, ' ');

		if (!path || !after_prefix(path + 1, directory))
			continue;
		path++;
		path[strcspn(path, " ")] = '\0';
		(void)umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
	}
}

static void stop_at_exit(void)
{
	ctd_stop(SIGKILL);
	unmount_below(test_tmpdir());
}

char *ctd_log(void)
{
	_cleanup_free_ char *path = at("ctd.log");
	struct buf text = {};

	ASSERT_OK(file_read_at(AT_FDCWD, path, 64 << 20, &text));
	return buf_take(&text);
}

void ctd_wait_log(const char *text)
{
	uint64_t deadline = clock_monotonic_ns() + LOG_S * NS_PER_SEC;

	for (;;) {
		_cleanup_free_ char *log = ctd_log();

		if (strstr(log, text))
			return;
		if (clock_monotonic_ns() > deadline)
			ASSERT_CONTAINS(log, text);
		(void)usleep(50000); /* lint: containerd copies it, and tells nobody */
	}
}

void ctd_restart(void)
{
	_cleanup_free_ char *config = at("config.toml");
	uint64_t deadline = clock_monotonic_ns() + START_S * NS_PER_SEC;
	_cleanup_free_ char *script =
		xasprintf("exec containerd --config '%s' --log-level warn >>'%s/ctd.log' 2>&1", config, test_tmpdir());
	const char *argv[] = { CLI_SHELL, script, NULL };

	daemon_pid = cli_spawn(argv);
	for (;;) {
		_cleanup_cli_ struct cli r = ctr("version", NULL);

		if (r.status == 0)
			return;
		if (clock_monotonic_ns() > deadline)
			test_fail(__FILE__, __LINE__, "containerd does not answer: %s", r.err);
		(void)usleep(100000); /* lint: it has no other way to say that it is there */
	}
}

static bool is_second(void)
{
	const char *argv[] = { "containerd", "--version", NULL };
	_cleanup_cli_ struct cli r = cli_argv(argv, NULL, LOOK_S);

	return r.out && strstr(r.out, "containerd/v2 ");
}

static void add_cri_of_2(struct buf *b)
{
	ASSERT_OK(file_read_at(AT_FDCWD, SOURCE_DIR "/deploy/containerd/config-2.x.toml", 1 << 20, b));
	buf_addf(b,
		 "[plugins.'io.containerd.cri.v1.images'.pinned_images]\nsandbox = '" CTD_IMAGE "'\n"
		 "[plugins.'io.containerd.grpc.v1.cri']\nstream_server_address = '127.0.0.1'\n"
		 "[plugins.'io.containerd.cri.v1.runtime']\nnetns_mounts_under_state_dir = true\n"
		 "[plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = ['/usr/lib/cni']\nconf_dir = '%s/cni'\n",
		 test_tmpdir());
}

/* What a cluster's administrator is told to add, and what keeps it apart from the host's. */
static void add_cri(struct buf *b)
{
	static const char plugin[] = "io.containerd.grpc.v1.cri";

	ASSERT_OK(file_read_at(AT_FDCWD, SOURCE_DIR "/deploy/containerd/config-1.x.toml", 1 << 20, b));
	buf_addf(b,
		 "[plugins.'%s']\nsandbox_image = '" CTD_IMAGE "'\nstream_server_address = '127.0.0.1'\n"
		 "netns_mounts_under_state_dir = true\n"
		 "[plugins.'%s'.cni]\nbin_dir = '/usr/lib/cni'\nconf_dir = '%s/cni'\n",
		 plugin, plugin, test_tmpdir());
}

static void write_config(void)
{
	_cleanup_buf_ struct buf b = {};
	_cleanup_close_ int dir = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const char *d = test_tmpdir();

	if (with_cri)
		buf_adds(&b, is_second() ? "version = 3\n" : "version = 2\n");
	buf_addf(&b, "root = '%s/ctd-root'\nstate = '%s/ctd-state'\n", d, d);
	if (with_cri && is_second())
		add_cri_of_2(&b);
	else if (with_cri)
		add_cri(&b);
	else
		buf_adds(&b, "version = 2\ndisabled_plugins = ['io.containerd.grpc.v1.cri']\n");
	buf_addf(&b, "[grpc]\naddress = '%s/c.sock'\n[ttrpc]\naddress = '%s/c.sock.ttrpc'\n", d, d);
	/* Its own are two to five seconds: on a busy host it gives up shims that are alive, and kills what cleans up after others. */
	buf_adds(&b,
		 "[timeouts]\n'io.containerd.timeout.shim.cleanup' = '60s'\n'io.containerd.timeout.shim.load' = '60s'\n"
		 "'io.containerd.timeout.shim.shutdown' = '60s'\n'io.containerd.timeout.task.state' = '60s'\n");
	buf_adds(&b, more_config);
	ASSERT_OK(file_write_at(dir, "config.toml", b.p, b.len, 0600, 0));
}

void ctd_configure(const char *more)
{
	more_config = more;
	if (daemon_pid > 0)
		write_config();
}

static void make_image(void)
{
	_cleanup_free_ char *archive = at("bb.tar");
	_cleanup_cli_ struct cli r = {};

	ctd_sh("mkdir -p r/bin r/etc r/tmp r/root && cp /bin/busybox r/bin/busybox && for a in $(r/bin/busybox "
	       "--list); do "
	       "[ $a = busybox ] || ln -sf busybox r/bin/$a; done && echo root:x:0:0:root:/root:/bin/sh >r/etc/passwd "
	       "&& "
	       "echo root:x:0: >r/etc/group && tar -C r -cf root.tar . && umoci init --layout l && "
	       "umoci new --image l:bb && umoci raw add-layer --image l:bb root.tar && "
	       "umoci config --image l:bb --config.cmd /bin/sh --config.env PATH=/bin && "
	       "skopeo copy -q oci:l:bb oci-archive:bb.tar:" CTD_IMAGE);
	r = ctr("--namespace", with_cri ? "k8s.io" : namespace, "image", "import", archive, NULL);
	ASSERT_STATUS(r, 0);
}

void ctd_start(void)
{
	const char *peer = getenv("SKERRY_TEST_CONTAINERD");
	_cleanup_free_ char *path = NULL, *assignment = NULL;

	if (geteuid() != 0)
		test_skip("containerd wants root");
	if (getenv("SKERRY_TEST_SECOND") && (!peer || !*peer || access(peer, X_OK) < 0))
		test_skip("there is no containerd 2.x: scripts/test-containerd2.sh");
	if (!getenv("SKERRY_TEST_SECOND"))
		peer = NULL;
	need("containerd");
	need("crun");
	need("umoci");
	need("skopeo");
	cli_home(true);
	path = peer && *peer ? xasprintf("PATH=%s:%s:%s", SHIM_DIR, peer, getenv("PATH"))
			     : xasprintf("PATH=%s:%s", SHIM_DIR, getenv("PATH"));
	cli_setenv(path);
	/* ctr 2.x would say on standard error what of the host's it will not support one day. */
	cli_setenv("CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=true");
	/* Cgroups are named by namespace and container, and the host's are everybody's. */
	snprintf(namespace, sizeof(namespace), "test-%d", (int)getpid());
	assignment = xasprintf("CONTAINERD_NAMESPACE=%s", namespace);
	cli_setenv(assignment);
	write_config();
	atexit(stop_at_exit);
	ctd_restart();
	make_image();
}

/* The bridge and what is mounted for it are this test's process' alone, and its children's. */
static void make_network(void)
{
	if (geteuid() != 0)
		test_skip("containerd wants root");
	if (access("/usr/lib/cni/bridge", X_OK) < 0)
		test_skip("containernetworking-plugins is not installed");
	ASSERT_OK(unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 ? -errno : 0);
	/* Apart from the host's, and shared as those are: what is mounted later must be seen by shims that run already. */
	ASSERT_OK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ? -errno : 0);
	ASSERT_OK(mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL) < 0 ? -errno : 0);
	ctd_sh("mkdir cni && printf '%s' "
	       "'{\"cniVersion\":\"0.4.0\",\"name\":\"t\",\"plugins\":[{\"type\":\"bridge\",\"bridge\":"
	       "\"skt0\",\"isGateway\":true,\"ipam\":{\"type\":\"host-local\",\"subnet\":\"10.77.0.0/"
	       "24\",\"dataDir\":\"'$PWD'/ipam\","
	       "\"routes\":[{\"dst\":\"0.0.0.0/0\"}]},\"dns\":{\"nameservers\":[\"10.77.0.1\"]}}]}' >cni/t.conflist && "
	       "ip link set lo up && mkdir -p /etc/cni/net.d /opt/cni/bin && mount --bind cni /etc/cni/net.d && "
	       "mount --bind /usr/lib/cni /opt/cni/bin");
}

void ctd_start_with_network(void)
{
	make_network();
	ctd_start();
}

void ctd_start_with_cri(void)
{
	make_network();
	with_cri = true;
	ctd_start();
}

/* ---- What is left ---- */

int ctd_process(const char *name)
{
	char all[16384];

	if (cli_processes(all, sizeof(all)) == 0)
		return 0;
	for (char *line = all, *next; *line; line = next) {
		char *end = line + strcspn(line, "\n"), *space;

		next = end + (*end == '\n');
		*end = '\0';
		space = strchr(line, ' ');
		if (space && streq(space + 1, name))
			return atoi(line); /* lint: "PID NAME", ours */
	}
	return 0;
}

static bool mounted_below(const char *directory)
{
	_cleanup_buf_ struct buf text = {};

	ASSERT_OK(file_read_at(AT_FDCWD, "/proc/self/mounts", 4 << 20, &text));
	return strstr(text.p, directory);
}

static bool others(char *names, size_t n)
{
	unsigned all = cli_processes(names, n);

	/* containerd itself, threads not counted. */
	return all > (daemon_pid > 0 ? 1u : 0u);
}

unsigned ctd_leases(void)
{
	_cleanup_free_ char *path = at("ipam/t");
	DIR *d = opendir(path);
	unsigned n = 0;

	if (!d)
		return 0;
	/* Besides the addresses there are a lock and the last address that was given. */
	for (const struct dirent *e; (e = readdir(d));)
		n += strncmp(e->d_name, "10.", 3) == 0;
	(void)closedir(d);
	return n;
}

void ctd_nothing_left(void)
{
	_cleanup_free_ char *state = at("ctd-state");
	uint64_t deadline = clock_monotonic_ns() + GONE_S * NS_PER_SEC;
	char names[4096] = "";

	/* The lease is the last to go: it is given back by a program that containerd has yet to start when all else is gone. */
	while (others(names, sizeof(names)) || mounted_below(state) || ctd_leases()) {
		if (clock_monotonic_ns() > deadline)
			test_fail(__FILE__, __LINE__, "left: %s%s, %u leases", names,
				  mounted_below(state) ? " and mounts" : "", ctd_leases());
		(void)usleep(50000); /* lint: processes of others end without telling us */
	}
	/* What they had open or mounted goes last. */
	ASSERT(cli_endings_over(GONE_S));
}
