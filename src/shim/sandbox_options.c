#include "shim/sandbox_options.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/memory.h"
#include "wire/message.h"

#define TYPE           "runtime.v1.PodSandboxConfig"
#define OWN            "io.skerry."
#define POD            "io.kubernetes.cri.sandbox-" /* as the CRI plugin names them in a config.json; spec.c reads them */
#define CONTAINER_TYPE "io.kubernetes.cri.container-type"
#define SLICE          ".slice"
#define SLICE_UNIT     "cri-containerd"

enum { NETWORK_OF_NODE = 2 };

/* NULL = options of another kind, or none. Owned by the caller. */
static int unpack(const Containerd__Any *options, Containerd__PodConfig **ret, struct error *err)
{
	const char *type = options ? strrchr(options->type_url, '/') : NULL;

	*ret = NULL;
	if (!options)
		return 0;
	type = type ? type + 1 : options->type_url;
	if (!streq(type, TYPE))
		return 0;
	*ret = message_unpack(&containerd__pod_config__descriptor, options->value.data, options->value.len);
	return *ret ? 0 : error_set_kind(err, ERROR_DATA, EBADMSG, "the sandbox's options are no %s", TYPE);
}

static bool has_suffix(const char *s, const char *suffix)
{
	size_t n = strlen(s), k = strlen(suffix);

	return n >= k && streq(s + n - k, suffix);
}

/* As the plugin names that of a sandbox's container (internal/cri/server/podsandbox, getCgroupsPath): by systemd's slice, or as a path. */
static char *cgroup_of(const char *parent, const char *id)
{
	const char *name = strrchr(parent, '/');

	if (has_suffix(parent, SLICE))
		return xasprintf("%s:" SLICE_UNIT ":%s", name ? name + 1 : parent, id);
	return xasprintf("%s%s/%s", parent[0] == '/' ? "" : "/", parent, id);
}

static void set_number(struct json *annotations, const char *key, int64_t n)
{
	if (n > 0)
		json_setf(annotations, key, "%" PRId64, n);
}

static struct json *member(struct json *object, const char *key)
{
	struct json *value = json_get(object, key);

	if (!json_is_object(value)) {
		value = json_object();
		json_set(object, key, value);
	}
	return value;
}

/* As the plugin does in a configuration of its own making (containerd 2.0, enable_unprivileged_ports and enable_unprivileged_icmp). */
static void set_parameters(struct json *spec, const Containerd__PodLinux *l)
{
	static const struct {
		const char *key, *value;
	} defaults[] = { { "net.ipv4.ip_unprivileged_port_start", "0" },
			 { "net.ipv4.ping_group_range", "0 2147483647" } };
	bool of_node = l && l->security_context && l->security_context->namespace_options &&
		       l->security_context->namespace_options->network == NETWORK_OF_NODE;
	struct json *all = json_object();

	for (size_t i = 0; l && i < l->n_sysctls; i++)
		json_set_string(all, l->sysctls[i]->key, l->sysctls[i]->value);
	for (size_t i = 0; !of_node && i < ARRAY_SIZE(defaults); i++)
		if (!json_get(all, defaults[i].key))
			json_set_string(all, defaults[i].key, defaults[i].value);
	json_set(member(spec, "linux"), "sysctl", all);
}

int sandbox_options_read(const Containerd__Any *options, const char *id, struct json *spec, struct error *err)
{
	_cleanup_message_ Containerd__PodConfig *c = NULL;
	struct json *annotations;
	int r = unpack(options, &c, err);

	if (r < 0)
		return r;
	if (!json_is_object(spec))
		return error_set_kind(err, ERROR_DATA, EBADMSG, "config.json: expected an object");
	/* Whatever its configuration is called. */
	annotations = member(spec, "annotations");
	json_set_string(annotations, CONTAINER_TYPE, "sandbox");
	if (!c)
		return 0;
	if (*c->hostname)
		json_set_string(spec, "hostname", c->hostname);
	for (size_t i = 0; i < c->n_annotations; i++)
		if (after_prefix(c->annotations[i]->key, OWN))
			json_set_string(annotations, c->annotations[i]->key, c->annotations[i]->value);
	set_parameters(spec, c->linux_);
	if (!c->linux_)
		return 0;
	if (*c->linux_->cgroup_parent) {
		_cleanup_free_ char *cgroup = cgroup_of(c->linux_->cgroup_parent, id);

		json_set_string(member(spec, "linux"), "cgroupsPath", cgroup);
	}
	if (c->linux_->resources) {
		set_number(annotations, POD "cpu-quota", c->linux_->resources->cpu_quota);
		set_number(annotations, POD "cpu-period", c->linux_->resources->cpu_period);
		set_number(annotations, POD "memory", c->linux_->resources->memory_limit_in_bytes);
	}
	return 0;
}

int sandbox_options_read_dns(const Containerd__Any *options, struct spec_info *info, struct error *err)
{
	_cleanup_message_ Containerd__PodConfig *c = NULL;
	int r = unpack(options, &c, err);

	if (r < 0 || !c || !c->dns_config)
		return r;
	for (size_t i = 0; i < c->dns_config->n_servers; i++)
		strv_add(&info->dns, c->dns_config->servers[i]);
	for (size_t i = 0; i < c->dns_config->n_searches; i++)
		strv_add(&info->dns_search, c->dns_config->searches[i]);
	for (size_t i = 0; i < c->dns_config->n_options; i++)
		strv_add(&info->dns_options, c->dns_config->options[i]);
	return 0;
}
