#include "shim/shm.h"
#include "shim/spec.h"
#include "test.h"

static struct json *parse(const char *text)
{
	struct json *j = NULL;
	struct error e = {};

	if (json_parse(text, strlen(text), "test", &j, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	return j;
}

static struct spec_info read_ok(const char *text)
{
	_cleanup_json_ struct json *j = parse(text);
	struct spec_info i = {};

	ASSERT_OK(spec_read(j, "c1", &i, NULL));
	return i;
}

static const struct spec_places places = {
	.id = "c1", .root = "/share/c1/rootfs", .share = "/share/c1", .sockets = "/own/c1"
};

static struct json *guest(const char *text)
{
	_cleanup_json_ struct json *j = parse(text);
	_cleanup_spec_ struct spec_info i = {};
	_cleanup_buf_ struct buf out = {};

	ASSERT_OK(spec_read(j, "c1", &i, NULL));
	spec_for_guest(j, &i, &places, false, &out);
	return parse(out.p);
}

static const char *at(const struct json *j, const char *a, const char *b)
{
	return json_string(json_get(b ? json_get(j, a) : j, b ? b : a));
}

TEST(who_shares_a_vm_is_told_by_annotations)
{
	static const struct {
		const char *text, *group;
		enum spec_role role;
	} cases[] = {
		{ "{}", "c1", SPEC_ALONE },
		{ "{\"annotations\":{\"io.kubernetes.cri.container-type\":\"sandbox\",\"io.kubernetes.cri.sandbox-id\":"
		  "\"c1\"}}",
		  "c1", SPEC_SANDBOX },
		{ "{\"annotations\":{\"io.kubernetes.cri.container-type\":\"container\",\"io.kubernetes.cri.sandbox-"
		  "id\":\"p\"}}",
		  "p", SPEC_MEMBER },
		{ "{\"annotations\":{\"io.containerd.runc.v2.group\":\"g\",\"io.kubernetes.cri.sandbox-id\":\"p\"}}",
		  "g", SPEC_MEMBER },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_spec_ struct spec_info s = read_ok(cases[i].text);

		ASSERT_STREQ(s.group, cases[i].group);
		ASSERT_EQ(s.role, cases[i].role);
	}
}

TEST(the_vm_is_as_large_as_the_limits_say)
{
	static const struct {
		const char *resources;
		uint32_t cpus;
		uint64_t memory;
	} cases[] = {
		{ "{}", 0, 0 },
		{ "{\"cpu\":{\"quota\":50000,\"period\":100000}}", 1, 0 },
		{ "{\"cpu\":{\"quota\":100000,\"period\":100000}}", 1, 0 },
		{ "{\"cpu\":{\"quota\":100001,\"period\":100000}}", 2, 0 },
		{ "{\"cpu\":{\"quota\":400000}}", 4, 0 },
		{ "{\"cpu\":{\"quota\":-1,\"period\":100000}}", 0, 0 },
		{ "{\"cpu\":{\"quota\":9223372036854775807,\"period\":1}}", 255, 0 },
		{ "{\"cpu\":{\"quota\":100000,\"period\":0}}", 1, 0 },
		{ "{\"memory\":{\"limit\":67108864}}", 0, 67108864 },
		{ "{\"memory\":{\"limit\":-1}}", 0, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_json_ struct json *j = parse(cases[i].resources);
		struct spec_size size = {};

		spec_size_read(j, &size);
		ASSERT_EQ(spec_size_cpus(&size), cases[i].cpus);
		ASSERT_EQ(size.memory_bytes, cases[i].memory);
	}
}

TEST(a_pods_vm_is_as_large_as_its_containers_together)
{
	static const struct {
		const char *type, *more;
		uint32_t cpus;
		uint64_t memory;
	} cases[] = {
		{ "sandbox", "\"\":\"\"", 0, 0 },
		{ "sandbox",
		  "\"io.kubernetes.cri.sandbox-cpu-quota\":\"150000\",\"io.kubernetes.cri.sandbox-cpu-period\":"
		  "\"100000\","
		  "\"io.kubernetes.cri.sandbox-memory\":\"268435456\"",
		  2, 268435456 },
		{ "sandbox", "\"io.kubernetes.cri.sandbox-cpu-quota\":\"50000\"", 1, 0 },
		{ "sandbox", "\"io.kubernetes.cri.sandbox-cpu-quota\":\"0\",\"io.kubernetes.cri.sandbox-memory\":\"0\"",
		  0, 0 },
		{ "sandbox",
		  "\"io.kubernetes.cri.sandbox-cpu-quota\":\"-1\",\"io.kubernetes.cri.sandbox-memory\":\"much\"", 0,
		  0 },
		{ "sandbox", "\"io.kubernetes.cri.sandbox-memory\":\"268435456\",\"io.skerry.memory\":\"1G\"", 0,
		  UINT64_C(1) << 30 },
		{ "container", "\"io.kubernetes.cri.sandbox-memory\":\"268435456\"", 0, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *text =
			xasprintf("{\"annotations\":{\"io.kubernetes.cri.container-type\":\"%s\",%s}}", cases[i].type,
				  cases[i].more);
		_cleanup_spec_ struct spec_info s = read_ok(text);

		ASSERT_EQ(s.cpus, cases[i].cpus);
		ASSERT_EQ(s.memory_bytes, cases[i].memory);
	}
}

TEST(annotations_of_ours_overrule)
{
	_cleanup_spec_ struct spec_info s = read_ok(
		"{\"annotations\":{\"io.skerry.cpus\":\"3\",\"io.skerry.memory\":\"1G\",\"io.skerry.shape\":\"full\","
		"\"io.skerry.accel\":\"tcg\",\"io.skerry.kernel\":\"k\",\"io.skerry.network\":\"none\"}}");

	ASSERT_EQ(s.cpus, 3);
	ASSERT_EQ(s.memory_bytes, UINT64_C(1) << 30);
	ASSERT(s.has_shape);
	ASSERT_EQ(s.shape, SHAPE_FULL);
	ASSERT_EQ(s.accel, ACCEL_TCG);
	ASSERT_STREQ(s.kernel, "k");
	ASSERT(s.no_net);
}

TEST(wrong_annotations_are_named)
{
	static const char *const bad[] = { "cpus\":\"0",      "cpus\":\"x",      "memory\":\"much",
					   "shape\":\"round", "accel\":\"nitro", "network\":\"lan" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_free_ char *text = xasprintf("{\"annotations\":{\"io.skerry.%s\"}}", bad[i]);
		_cleanup_free_ char *name = xasprintf("io.skerry.%.*s", (int)strcspn(bad[i], "\""), bad[i]);
		_cleanup_json_ struct json *j = parse(text);
		_cleanup_error_ struct error e = {};
		struct spec_info s = {};

		ASSERT_EQ(spec_read(j, "c1", &s, &e), -EINVAL);
		ASSERT_CONTAINS(e.msg, name);
	}
}

TEST(networks_are_given_wanted_or_the_hosts)
{
	_cleanup_spec_ struct spec_info given = read_ok(
		"{\"linux\":{\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"network\",\"path\":\"/run/netns/x\"}]}}");
	_cleanup_spec_ struct spec_info own = read_ok("{\"linux\":{\"namespaces\":[{\"type\":\"network\"}]}}");
	_cleanup_spec_ struct spec_info host = read_ok("{\"linux\":{\"namespaces\":[{\"type\":\"pid\"}]}}");
	_cleanup_spec_ struct spec_info none = read_ok("{\"annotations\":{\"nerdctl/networks\":\"[\\\"none\\\"]\"}}");

	ASSERT_STREQ(given.netns, "/run/netns/x");
	ASSERT(!own.netns && !own.host_net && host.host_net && none.no_net);
}

TEST(bind_mounts_come_from_the_share)
{
	static const char text[] =
		"{\"mounts\":[{\"destination\":\"/proc\",\"type\":\"proc\",\"source\":\"proc\"},"
		"{\"destination\":\"/a\",\"type\":\"bind\",\"source\":\"/host/a\",\"options\":[\"rbind\",\"ro\"]},"
		"{\"destination\":\"/b\",\"source\":\"/host/b\",\"options\":[\"bind\"]},"
		"{\"destination\":\"/c\",\"source\":\"/host/c\",\"options\":[\"rbind\",\"rro\",\"rslave\"]}]}";
	_cleanup_json_ struct json *g = guest(text);
	_cleanup_spec_ struct spec_info s = read_ok(text);
	struct json *mounts = json_get(g, "mounts");

	ASSERT_EQ(s.n_binds, 3);
	ASSERT_STREQ(s.binds[0].source, "/host/a");
	ASSERT(s.binds[0].recursive && s.binds[0].read_only);
	ASSERT(!s.binds[1].recursive && !s.binds[1].read_only);
	ASSERT(s.binds[2].read_only && s.binds[2].propagated && !s.binds[0].propagated && !s.binds[1].propagated);
	ASSERT_STREQ(at(json_at(mounts, 0), "source", NULL), "proc");
	ASSERT_STREQ(at(json_at(mounts, 1), "source", NULL), "/share/c1/m0");
	ASSERT_STREQ(at(json_at(mounts, 2), "source", NULL), "/share/c1/m1");
	ASSERT_STREQ(at(g, "root", "path"), "/share/c1/rootfs");
}

TEST(a_bind_mount_of_nothing_is_refused)
{
	_cleanup_json_ struct json *j =
		parse("{\"mounts\":[{\"type\":\"bind\",\"destination\":\"/a\",\"source\":\"a\"}]}");
	_cleanup_error_ struct error e = {};
	struct spec_info s = {};

	ASSERT_EQ(spec_read(j, "c1", &s, &e), -EINVAL);
	ASSERT_CONTAINS(e.msg, "mounts[0]");
}

TEST(what_belongs_to_the_host_stays_there)
{
	_cleanup_json_ struct json *g =
		guest("{\"hostname\":\"h\",\"annotations\":{\"io.kubernetes.cri.sandbox-id\":\"p\"},\"process\":{"
		      "\"apparmorProfile\":\"p\","
		      "\"selinuxLabel\":\"l\","
		      "\"noNewPrivileges\":true,\"capabilities\":{\"bounding\":[\"CAP_KILL\"]}},"
		      "\"hooks\":{\"prestart\":[{\"path\":\"/x\"}],\"createRuntime\":[{\"path\":\"/"
		      "y\"}],\"startContainer\":[{\"path\":\"/z\"}]},"
		      "\"linux\":{\"cgroupsPath\":\"/default/c1\",\"maskedPaths\":[\"/proc/"
		      "kcore\"],\"seccomp\":{\"defaultAction\":\"SCMP_ACT_ALLOW\"},"
		      "\"namespaces\":[{\"type\":\"network\"},{\"type\":\"uts\"},{\"type\":\"ipc\",\"path\":\"/proc/1/"
		      "ns/ipc\"},{\"type\":\"pid\"}],"
		      "\"devices\":[{\"path\":\"/dev/sda\",\"type\":\"b\",\"major\":8,\"minor\":0},{\"path\":\"/dev/"
		      "fuse\",\"type\":\"c\",\"major\":10,\"minor\":229}],"
		      "\"resources\":{\"cpu\":{\"cpus\":\"3\",\"quota\":1000},\"pids\":{\"limit\":9},\"blockIO\":{"
		      "\"weight\":10}}}}");
	struct json *linux_ = json_get(g, "linux"), *namespaces = json_get(linux_, "namespaces");

	ASSERT_STREQ(at(g, "hostname", NULL), "h");
	ASSERT(!json_get(g, "annotations"));
	ASSERT(!json_get(json_get(g, "process"), "apparmorProfile") &&
	       !json_get(json_get(g, "process"), "selinuxLabel"));
	ASSERT(json_get(json_get(g, "process"), "capabilities") && json_get(json_get(g, "process"), "noNewPrivileges"));
	ASSERT(!json_get(json_get(g, "hooks"), "prestart") && !json_get(json_get(g, "hooks"), "createRuntime"));
	ASSERT_EQ(json_length(json_get(json_get(g, "hooks"), "startContainer")), 1);
	ASSERT_STREQ(at(linux_, "cgroupsPath", NULL), "/skerry/c1");
	ASSERT_EQ(json_length(json_get(linux_, "maskedPaths")), 1);
	ASSERT(json_get(linux_, "seccomp"));
	ASSERT_EQ(json_length(namespaces), 3);
	ASSERT_STREQ(at(json_at(namespaces, 0), "type", NULL), "uts");
	ASSERT_STREQ(at(json_at(namespaces, 1), "type", NULL), "pid");
	ASSERT_STREQ(at(json_at(namespaces, 2), "type", NULL), "cgroup");
	ASSERT_EQ(json_length(json_get(linux_, "devices")), 1);
	ASSERT_STREQ(at(json_at(json_get(linux_, "devices"), 0), "path", NULL), "/dev/fuse");
	ASSERT(!json_get(json_get(json_get(linux_, "resources"), "cpu"), "cpus"));
	ASSERT(json_get(json_get(json_get(linux_, "resources"), "cpu"), "quota"));
	ASSERT(json_get(json_get(linux_, "resources"), "pids") && !json_get(json_get(linux_, "resources"), "blockIO"));
}

TEST(name_servers_are_the_guests_unless_they_are_given)
{
	_cleanup_json_ struct json
		*plain = parse("{}"),
		*given = parse(
			"{\"mounts\":[{\"destination\":\"/etc/resolv.conf\",\"type\":\"bind\",\"source\":\"/h\"}]}"),
		*a = NULL, *b = NULL;
	_cleanup_buf_ struct buf x = {}, y = {};
	const struct spec_info none = {};

	spec_for_guest(plain, &none, &places, true, &x);
	spec_for_guest(given, &none, &places, true, &y);
	a = parse(x.p);
	b = parse(y.p);
	ASSERT_STREQ(at(json_at(json_get(a, "mounts"), 0), "source", NULL), "/etc/resolv.conf");
	ASSERT_EQ(json_length(json_get(b, "mounts")), 1);
	ASSERT_STREQ(at(json_at(json_get(b, "mounts"), 0), "source", NULL), "/share/c1/m0");
}

TEST(a_socket_is_mounted_from_where_the_agent_listens)
{
	_cleanup_json_ struct json
		*j = parse(
			"{\"mounts\":[{\"type\":\"bind\",\"source\":\"/a\",\"destination\":\"/x\"},{\"type\":\"tmpfs\","
			"\"source\":\"tmpfs\",\"destination\":\"/t\"},{\"type\":\"bind\",\"source\":\"/"
			"b\",\"destination\":"
			"\"/y\"},{\"type\":\"bind\",\"source\":\"/c\",\"destination\":\"/z\"}]}"),
		*g = NULL;
	_cleanup_spec_ struct spec_info i = {};
	_cleanup_buf_ struct buf out = {};
	const struct json *mounts;

	ASSERT_OK(spec_read(j, "c1", &i, NULL));
	ASSERT_EQ(i.n_binds, 3);
	i.binds[1].socket = true;
	spec_for_guest(j, &i, &places, false, &out);
	g = parse(out.p);
	mounts = json_get(g, "mounts");
	ASSERT_STREQ(at(json_at(mounts, 0), "source", NULL), "/share/c1/m0");
	ASSERT_STREQ(at(json_at(mounts, 1), "source", NULL), "tmpfs");
	ASSERT_STREQ(at(json_at(mounts, 2), "source", NULL), "/own/c1/s1");
	ASSERT_STREQ(at(json_at(mounts, 3), "source", NULL), "/share/c1/m2");
	/* The guest does not learn what it is called on the host. */
	ASSERT(!strstr(out.p, "\"/b\""));
}

TEST(a_pods_shared_memory_is_mounted_from_the_guests_own)
{
	_cleanup_json_ struct json *j = parse(
					   "{\"mounts\":[{\"type\":\"bind\",\"source\":\"/a\",\"destination\":\"/x\"},"
					   "{\"type\":\"bind\",\"source\":\"/p/shm\",\"destination\":\"/dev/shm\"}]}"),
				   *g = NULL;
	_cleanup_spec_ struct spec_info i = {};
	_cleanup_buf_ struct buf out = {};
	struct spec_places of_pod = places;
	struct json *mounts;

	ASSERT_OK(spec_read(j, "c1", &i, NULL));
	ASSERT(!i.binds[0].at_shm && i.binds[1].at_shm);
	/* Alone it has what it was given; so has a member whose mount is not the pod's own. */
	shm_find(&i);
	i.role = SPEC_MEMBER;
	shm_find(&i);
	ASSERT_EQ(i.binds[1].shm_bytes, 0);
	i.binds[1].shm_bytes = 4096;
	of_pod.shm = "/shm/c1";
	spec_for_guest(j, &i, &of_pod, false, &out);
	ASSERT_OK(json_parse(out.p, out.len, "spec", &g, NULL));
	mounts = json_get(g, "mounts");
	ASSERT_STREQ(at(json_at(mounts, 0), "source", NULL), "/share/c1/m0");
	ASSERT_STREQ(at(json_at(mounts, 1), "source", NULL), "/shm/c1");
}

TEST(a_later_version_is_one_that_the_guest_takes)
{
	_cleanup_json_ struct json *g = guest("{\"ociVersion\":\"1.3.0\"}");

	ASSERT_STREQ(at(g, "ociVersion", NULL), "1.0.2");
}

TEST(a_shared_host_name_is_the_pods)
{
	_cleanup_json_ struct json *g =
		guest("{\"hostname\":\"h\",\"annotations\":{\"io.kubernetes.cri.sandbox-id\":\"p\"},"
		      "\"linux\":{\"namespaces\":[{\"type\":\"uts\",\"path\":\"/proc/1/ns/uts\"}]}}");

	ASSERT(!json_get(g, "hostname"));
}

TEST(namespaces_of_another_machine_are_not_joined)
{
	static const char *const types[] = { "pid", "ipc", "uts", "user", "mount" };

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		_cleanup_free_ char *text =
			xasprintf("{\"linux\":{\"namespaces\":[{\"type\":\"%s\",\"path\":\"/proc/7/ns/%s\"}]}}",
				  types[i], types[i]);
		_cleanup_json_ struct json *j = parse(text);
		_cleanup_spec_ struct spec_info info = {};
		_cleanup_error_ struct error e = {};

		ASSERT(spec_read(j, "c1", &info, &e) < 0);
		ASSERT_EQ(e.kind, ERROR_CONFIG);
		ASSERT_CONTAINS(e.msg, types[i]);
	}
}

TEST(kernel_parameters_are_the_machines)
{
	_cleanup_json_ struct json *j =
		parse("{\"linux\":{\"sysctl\":{\"net.a\":\"1\",\"kernel.shmmax\":\"2\"},"
		      "\"namespaces\":[{\"type\":\"network\"},{\"type\":\"ipc\"},{\"type\":\"pid\"}]}}");
	_cleanup_json_ struct json *pod = parse("{\"net.a\":\"9\",\"net.b\":\"3\"}"), *g = NULL;
	struct spec_places of_pod = places;
	_cleanup_spec_ struct spec_info i = {};
	_cleanup_buf_ struct buf out = {};
	const struct json *namespaces, *sysctl;

	of_pod.parameters = pod;
	ASSERT_OK(spec_read(j, "c1", &i, NULL));
	spec_for_guest(j, &i, &of_pod, false, &out);
	g = parse(out.p);
	namespaces = json_get(json_get(g, "linux"), "namespaces");
	sysctl = json_get(json_get(g, "linux"), "sysctl");
	/* Its own go before the pod's. */
	ASSERT_STREQ(at(sysctl, "net.a", NULL), "1");
	ASSERT_STREQ(at(sysctl, "net.b", NULL), "3");
	/* Once, and only what it has not got itself. */
	ASSERT_EQ(json_length(namespaces), 4);
	ASSERT_STREQ(at(json_at(namespaces, 3), "type", NULL), "network");
	ASSERT_STREQ(at(json_at(namespaces, 3), "path", NULL), "/proc/1/ns/net");
}
