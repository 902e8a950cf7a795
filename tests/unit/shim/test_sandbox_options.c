#include <errno.h>

#include "shim/sandbox_options.h"
#include "test.h"
#include "wire/message.h"

#define TYPE "runtime.v1.PodSandboxConfig"

/* What the plugin sends, as one of its configurations. */
static int read_options(const char *type, Containerd__PodConfig *c, struct json *spec, struct spec_info *info)
{
	_cleanup_free_ char *url = xstrdup(type);
	_cleanup_buf_ struct buf packed = {};
	Containerd__Any any = CONTAINERD__ANY__INIT;
	int r;

	message_pack(&packed, &c->base);
	any.type_url = url;
	any.value = (ProtobufCBinaryData){ packed.len, (uint8_t *)packed.p };
	r = sandbox_options_read(&any, "sb1", spec, NULL);
	if (r >= 0)
		r = spec_read(spec, "sb1", info, NULL);
	return r < 0 ? r : sandbox_options_read_dns(&any, info, NULL);
}

static char host_name[] = "web", server[] = "10.0.0.1", domain[] = "a.b", option[] = "ndots:5",
	    own[] = "io.skerry.cpus", other[] = "io.kubernetes.cri.sandbox-id", three[] = "3";

static void make(Containerd__PodConfig *c, Containerd__PodDns *dns, Containerd__PodLinux *linux_,
		 Containerd__PodResources *resources, char *parent)
{
	static char *servers[] = { server }, *domains[] = { domain }, *options[] = { option };

	containerd__pod_config__init(c);
	containerd__pod_dns__init(dns);
	containerd__pod_linux__init(linux_);
	containerd__pod_resources__init(resources);
	c->hostname = host_name;
	dns->servers = servers;
	dns->searches = domains;
	dns->options = options;
	dns->n_servers = dns->n_searches = dns->n_options = 1;
	c->dns_config = dns;
	resources->cpu_quota = 150000;
	resources->cpu_period = 100000;
	resources->memory_limit_in_bytes = 256 << 20;
	linux_->cgroup_parent = parent;
	linux_->resources = resources;
	c->linux_ = linux_;
}

TEST(a_pod_is_a_sandbox_of_its_name_size_and_resolver)
{
	static const struct {
		const char *parent, *expected;
	} cases[] = {
		{ "/kubepods/pod1", "/kubepods/pod1/sb1" },
		{ "kubepods", "/kubepods/sb1" },
		{ "/kubepods.slice/kubepods-pod1.slice", "kubepods-pod1.slice:cri-containerd:sb1" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_json_ struct json *spec = json_object();
		_cleanup_spec_ struct spec_info info = {};
		_cleanup_free_ char *parent = xstrdup(cases[i].parent);
		Containerd__PodResources resources;
		Containerd__PodLinux linux_;
		Containerd__PodConfig c;
		Containerd__PodDns dns;

		make(&c, &dns, &linux_, &resources, parent);
		ASSERT_OK(read_options(TYPE, &c, spec, &info));
		ASSERT_EQ(info.role, SPEC_SANDBOX);
		ASSERT_STREQ(info.hostname, "web");
		ASSERT_STREQ(info.cgroup, cases[i].expected);
		ASSERT_EQ(info.cpus, 2);
		ASSERT_EQ(info.memory_bytes, 256 << 20);
		ASSERT_STREQ(info.dns.items[0], "10.0.0.1");
		ASSERT_STREQ(info.dns_search.items[0], "a.b");
		ASSERT_STREQ(info.dns_options.items[0], "ndots:5");
	}
}

/* "" = is not there. */
static void check_parameter(const struct json *all, const char *key, const char *expected)
{
	const char *s = json_string(json_get(all, key));

	ASSERT_STREQ(s ? s : "", expected);
}

static void check_parameters(Containerd__PodConfig *c, const char *port, const char *group, const char *shm)
{
	_cleanup_json_ struct json *spec = json_object();
	_cleanup_spec_ struct spec_info info = {};
	const struct json *all;

	ASSERT_OK(read_options(TYPE, c, spec, &info));
	all = json_get(json_get(spec, "linux"), "sysctl");
	check_parameter(all, "net.ipv4.ip_unprivileged_port_start", port);
	check_parameter(all, "net.ipv4.ping_group_range", group);
	check_parameter(all, "kernel.shm_rmid_forced", shm);
}

TEST(kernel_parameters_are_the_pods_and_what_the_plugin_would_add)
{
	static char port[] = "net.ipv4.ip_unprivileged_port_start", shm[] = "kernel.shm_rmid_forced", ten[] = "10",
		    one[] = "1";
	Containerd__StringEntry a = CONTAINERD__STRING_ENTRY__INIT, b = CONTAINERD__STRING_ENTRY__INIT,
				*both[] = { &a, &b };
	Containerd__PodConfig c = CONTAINERD__POD_CONFIG__INIT;
	Containerd__PodLinux l = CONTAINERD__POD_LINUX__INIT;
	Containerd__PodSecurity security = CONTAINERD__POD_SECURITY__INIT;
	Containerd__PodNamespaces namespaces = CONTAINERD__POD_NAMESPACES__INIT;

	check_parameters(&c, "0", "0 2147483647", "");
	a.key = port;
	a.value = ten;
	b.key = shm;
	b.value = one;
	l.sysctls = both;
	l.n_sysctls = 2;
	c.linux_ = &l;
	check_parameters(&c, "10", "0 2147483647", "1");
	/* On the node's network nothing is added. */
	namespaces.network = 2;
	security.namespace_options = &namespaces;
	l.security_context = &security;
	check_parameters(&c, "10", "", "1");
}

TEST(annotations_of_ours_are_taken_and_no_others)
{
	Containerd__StringEntry a = CONTAINERD__STRING_ENTRY__INIT, b = CONTAINERD__STRING_ENTRY__INIT,
				*both[] = { &a, &b };
	Containerd__PodConfig c = CONTAINERD__POD_CONFIG__INIT;
	_cleanup_json_ struct json *spec = json_object();
	_cleanup_spec_ struct spec_info info = {};

	a.key = own;
	b.key = other;
	a.value = b.value = three;
	c.annotations = both;
	c.n_annotations = 2;
	ASSERT_OK(read_options(TYPE, &c, spec, &info));
	ASSERT_EQ(info.cpus, 3);
	ASSERT_STREQ(info.group, "sb1");
	ASSERT(!info.cgroup && !info.hostname && !info.dns.n);
}

TEST(other_options_say_nothing_and_broken_ones_are_refused)
{
	_cleanup_json_ struct json *spec = json_object(), *list = json_array();
	_cleanup_spec_ struct spec_info info = {};
	Containerd__PodConfig c = CONTAINERD__POD_CONFIG__INIT;
	Containerd__Any broken = CONTAINERD__ANY__INIT;
	char type[] = "types.example/" TYPE;
	uint8_t bytes[] = { 0x12, 0x7f, 'x' };

	c.hostname = host_name;
	ASSERT_OK(read_options("runtimeoptions.v1.Options", &c, spec, &info));
	ASSERT(!info.hostname);
	ASSERT_EQ(info.role, SPEC_SANDBOX);
	broken.type_url = type;
	broken.value = (ProtobufCBinaryData){ sizeof(bytes), bytes };
	ASSERT_EQ(sandbox_options_read(&broken, "sb1", spec, NULL), -EBADMSG);
	ASSERT_EQ(sandbox_options_read_dns(&broken, &info, NULL), -EBADMSG);
	ASSERT_EQ(sandbox_options_read(NULL, "sb1", list, NULL), -EBADMSG);
	ASSERT_OK(sandbox_options_read_dns(NULL, &info, NULL));
}
