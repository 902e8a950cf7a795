/* Networks of Debian's plugins on namespaces of our own, as far as the interface that a guest would get: everything happens in a network namespace
 * that stands for the host. */
#include "net/cni.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "net/netns.h"
#include "net/takeover.h"
#include "netns.h"
#include "test.h"

static const char *const directories[] = { "/usr/lib/cni", NULL };

struct host {
	int ns;
	struct cni cni;
	char *path; /* of the container's namespace */
};

/* This process is in the namespace from then on: plugins take the one that they are started in for the host's. Mounts are its own too, so that
 * none is left when a test fails. */
static struct host make_host(void)
{
	struct host h = { .ns = netns_new(),
			  .cni = { .config_directory = test_tmpdir(), .plugin_directories = directories } };

	if (access("/usr/lib/cni/bridge", X_OK) < 0)
		test_skip("needs containernetworking-plugins");
	(void)netns_enter(h.ns);
	ASSERT_EQ(unshare(CLONE_NEWNS), 0);
	ASSERT_EQ(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	h.path = xasprintf("%s/container", test_tmpdir());
	return h;
}

/* @plugin: words of a plugin's object; addresses are leased below the test's directory. */
static struct json *configured(const struct host *h, const char *plugin)
{
	_cleanup_free_ char *text =
		xasprintf("{\"cniVersion\":\"0.4.0\",\"name\":\"trial\",\"plugins\":[{%s,\"ipam\":"
			  "{\"type\":\"host-local\",\"dataDir\":\"%s/leases\",\"routes\":[{\"dst\":\"0.0.0.0/"
			  "0\"},{\"dst\":\"::/0\"}],"
			  "\"ranges\":[[{\"subnet\":\"10.22.0.0/16\"}],[{\"subnet\":\"fd22::/64\"}]]},"
			  "\"dns\":{\"nameservers\":[\"10.22.0.1\"]}},{\"type\":\"tuning\",\"mtu\":1400}]}",
			  plugin, test_tmpdir());
	_cleanup_free_ char *path = xasprintf("%s/10-trial.conflist", test_tmpdir());
	struct json *network = NULL;
	struct error e = {};

	ASSERT_OK(file_write_at(AT_FDCWD, path, text, strlen(text), 0644, 0));
	if (cni_network(&h->cni, NULL, &network, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	return network;
}

static void made(const char *path)
{
	struct error e = {};

	if (netns_make(path, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
}

static size_t count_leases(void)
{
	_cleanup_free_ char *command = xasprintf("ls %s/leases/trial", test_tmpdir());
	int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	_cleanup_free_ char *out = netns_output(here, command);
	size_t n = 0;

	for (const char *p = strstr(out, "22"); p; p = strstr(p + 1, "22"))
		n++;
	close(here);
	return n;
}

static void goes_through_its_life(const char *plugin)
{
	struct host h = make_host();
	_cleanup_json_ struct json *network = configured(&h, plugin), *result = NULL;
	_cleanup_strv_ struct strv servers = {}, search = {};
	struct cni_attachment a = { network, "trial-1", h.path, "eth0", NULL };
	_cleanup_close_ int ns = -EBADF;
	struct net_takeover t = {};
	struct error e = {};
	int tap = -1;

	made(h.path);
	if (cni_add(&h.cni, &a, &result, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	cni_dns(result, &servers, &search);
	ASSERT(strv_has(&servers, "10.22.0.1"));
	ns = netns_open(h.path, &e);
	ASSERT_OK(ns);
	ASSERT_OK(net_takeover_inspect(ns, NULL, &t, &e));
	ASSERT_EQ(t.n, 1);
	ASSERT_STREQ(t.nics[0].name, "eth0");
	ASSERT_EQ(t.nics[0].mtu, 1400);
	ASSERT_EQ(t.nics[0].addresses.n, 2);
	ASSERT_CONTAINS(t.nics[0].addresses.items[0], "10.22.0.");
	ASSERT_CONTAINS(t.nics[0].addresses.items[1], "fd22::");
	ASSERT_STREQ(t.nics[0].gateway, "10.22.0.1");
	ASSERT_STREQ(t.nics[0].gateway6, "fd22::1");
	if (net_takeover_attach(ns, &t.nics[0], NULL, &tap, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	ASSERT_EQ(count_leases(), 2);
	ASSERT_OK(net_takeover_release(ns, &e));
	close(tap);
	/* The files may have gone in the meantime: what was recorded counts. */
	if (cni_del(&h.cni, &a, result, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	ASSERT_OK(cni_del(&h.cni, &a, result, &e));
	ASSERT_EQ(count_leases(), 0);
	net_takeover_done(&t);
	ASSERT_OK(net_takeover_inspect(ns, NULL, &t, &e));
	ASSERT_EQ(t.n, 0);
	ASSERT_OK(netns_remove(h.path, &e));
	/* And after a reboot the namespace is gone before anybody asks. */
	a.netns = NULL;
	ASSERT_OK(cni_del(&h.cni, &a, result, &e));
	free(h.path);
}

TEST(a_bridge_goes_through_its_life)
{
	goes_through_its_life("\"type\":\"bridge\",\"bridge\":\"cni0\",\"isGateway\":true");
}

TEST(a_pair_goes_through_its_life)
{
	goes_through_its_life("\"type\":\"ptp\"");
}

TEST(a_plugin_that_refuses_leaves_nothing_leased)
{
	struct host h = make_host();
	_cleanup_json_ struct json *network = configured(&h, "\"type\":\"macvlan\",\"master\":\"nothing0\""),
				   *result = NULL;
	const struct cni_attachment a = { network, "trial-1", h.path, "eth0", NULL };
	struct error e = {};

	made(h.path);
	ASSERT(cni_add(&h.cni, &a, &result, &e) < 0);
	ASSERT_CONTAINS(e.msg, "network 'trial': plugin 'macvlan': ");
	ASSERT_CONTAINS(e.msg, "not found");
	error_done(&e);
	ASSERT_EQ(count_leases(), 0);
	ASSERT_OK(netns_remove(h.path, &e));
	free(h.path);
}

/* ---- Namespaces by a path ---- */

TEST(a_namespace_is_made_once_kept_and_removed_once)
{
	struct host h = make_host();
	_cleanup_free_ char *missing = xasprintf("%s/no/where", test_tmpdir()),
			    *file = xasprintf("%s/file", test_tmpdir());
	_cleanup_free_ char *links = NULL;
	struct stat before, after;
	struct error e = {};
	int ns;

	ASSERT_EQ(netns_open(h.path, &e), -ENOENT);
	error_done(&e);
	made(h.path);
	ASSERT_EQ(stat(h.path, &before), 0);
	made(h.path);
	ASSERT_EQ(stat(h.path, &after), 0);
	ASSERT_EQ(before.st_ino, after.st_ino);
	ns = netns_open(h.path, &e);
	ASSERT_OK(ns);
	links = netns_output(ns, "ip -o link");
	ASSERT_CONTAINS(links, "lo: <LOOPBACK,UP");
	close(ns);
	ASSERT_OK(netns_remove(h.path, &e));
	ASSERT_OK(netns_remove(h.path, &e));
	ASSERT(access(h.path, F_OK) < 0);
	ASSERT(netns_make(missing, &e) < 0);
	error_done(&e);
	ASSERT_OK(file_write_at(AT_FDCWD, file, "x", 1, 0644, 0));
	ASSERT_EQ(netns_make(file, &e), -EEXIST);
	ASSERT_CONTAINS(e.msg, "exists and is no network namespace");
	error_done(&e);
	ASSERT(netns_open(file, &e) < 0);
	ASSERT_EQ(e.kind, ERROR_CONFIG);
	error_done(&e);
	free(h.path);
}

TEST(killed_while_it_is_made_it_is_made_again_or_removed)
{
	static const char *const labels[] = { "netns.file", "netns.mounted" };
	struct host h = make_host();
	struct error e = {};

	for (size_t i = 0; i < ARRAY_SIZE(labels); i++)
		for (int again = 0; again < 2; again++) {
			_cleanup_free_ char *fault = xasprintf("%s=kill", labels[i]);
			int status = 0;
			pid_t pid = fork();

			if (pid == 0) {
				setenv("SKERRY_FAULT", fault, 1);
				_exit(netns_make(h.path, NULL) < 0);
			}
			ASSERT_EQ(waitpid(pid, &status, 0), pid);
			ASSERT(WIFSIGNALED(status));
			if (again)
				made(h.path);
			ASSERT_OK(netns_remove(h.path, &e));
			ASSERT(access(h.path, F_OK) < 0);
		}
	free(h.path);
}
