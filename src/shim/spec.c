#include "shim/spec.h"

#include <sys/stat.h>

#include "base/parse.h"
#include "shim/oom_score.h"

#define ANNOTATION_GROUP   "io.containerd.runc.v2.group"
#define ANNOTATION_SANDBOX "io.kubernetes.cri.sandbox-id"
#define ANNOTATION_TYPE    "io.kubernetes.cri.container-type"
#define ANNOTATION_OWN     "io.skerry."
/* What a pod's containers may use together (containerd, pkg/cri/annotations; from 1.6 on). */
#define ANNOTATION_POD      "io.kubernetes.cri.sandbox-"
#define ANNOTATION_NETWORKS "nerdctl/networks"
#define RESOLVER            "/etc/resolv.conf"
#define CPUS_MAX            255
#define MILLI               1000
#define DEFAULT_PERIOD_USEC 100000

void spec_info_done(struct spec_info *i)
{
	for (size_t k = 0; k < i->n_binds; k++)
		free(i->binds[k].source);
	free(i->binds);
	free(i->group);
	free(i->netns);
	free(i->hostname);
	free(i->cgroup);
	strv_done(&i->dns);
	strv_done(&i->dns_search);
	strv_done(&i->dns_options);
	free(i->kernel);
	*i = (struct spec_info){};
}

static const char *annotation(const struct json *spec, const char *key)
{
	return json_string(json_get(json_get(spec, "annotations"), key));
}

char *spec_group(const struct json *spec, const char *id)
{
	const char *s = annotation(spec, ANNOTATION_GROUP);

	if (!s || !*s)
		s = annotation(spec, ANNOTATION_SANDBOX);
	return xstrdup(s && *s ? s : id);
}

static struct json *namespace_of(const struct json *all, const char *type)
{
	for (size_t i = 0; i < json_length(all); i++) {
		const char *t = json_string(json_get(json_at(all, i), "type"));

		if (t && streq(t, type))
			return json_at(all, i);
	}
	return NULL;
}

/* @quota > 0; @period 0 = not said. Rounded up; never 0, which means none. */
static uint64_t milli_of(uint64_t quota, uint64_t period)
{
	uint64_t whole, rest;

	period = period ? period : DEFAULT_PERIOD_USEC;
	whole = quota / period;
	rest = quota % period;
	if (whole >= CPUS_MAX || period > UINT64_MAX / MILLI)
		return (whole >= CPUS_MAX ? CPUS_MAX : whole + 1) * MILLI;
	return whole * MILLI + (rest * MILLI + period - 1) / period;
}

uint32_t spec_size_cpus(const struct spec_size *s)
{
	uint64_t cpus = (s->milli_cpus + MILLI - 1) / MILLI;

	return cpus > CPUS_MAX ? CPUS_MAX : (uint32_t)cpus;
}

void spec_size_read(const struct json *resources, struct spec_size *ret)
{
	const struct json *cpu = json_get(resources, "cpu");
	int64_t quota, limit;
	uint64_t period;

	if (json_i64(json_get(cpu, "quota"), &quota) && quota != 0) {
		if (!json_u64(json_get(cpu, "period"), &period))
			period = 0;
		ret->milli_cpus = quota > 0 ? milli_of((uint64_t)quota, period) : 0;
	}
	if (json_i64(json_get(json_get(resources, "memory"), "limit"), &limit) && limit != 0)
		ret->memory_bytes = limit > 0 ? (uint64_t)limit : 0;
}

static uint64_t pod_number(const struct json *spec, const char *key)
{
	const char *s = annotation(spec, key);
	uint64_t n;

	return s && parse_u64(s, 0, INT64_MAX, &n) >= 0 ? n : 0;
}

/* What stands for a pod has no limits; the pod has. */
static void read_pod_size(const struct json *spec, struct spec_info *i)
{
	uint64_t quota = pod_number(spec, ANNOTATION_POD "cpu-quota"),
		 period = pod_number(spec, ANNOTATION_POD "cpu-period"),
		 memory = pod_number(spec, ANNOTATION_POD "memory");

	if (quota)
		i->size.milli_cpus = milli_of(quota, period);
	if (memory)
		i->size.memory_bytes = memory;
}

/* @ret_given may be NULL. */
static int read_cpus(const struct json *spec, const char *key, uint32_t *ret, bool *ret_given, struct error *err)
{
	_cleanup_free_ char *name = xasprintf(ANNOTATION_OWN "%s", key);
	const char *s = annotation(spec, name);
	uint64_t n;

	if (!s)
		return 0;
	if (parse_u64(s, 1, CPUS_MAX, &n) < 0)
		return error_set_kind(err, ERROR_CONFIG, EINVAL, "annotation %s: '%s' is not 1 to %d", name, s,
				      CPUS_MAX);
	*ret = (uint32_t)n;
	if (ret_given)
		*ret_given = true;
	return 0;
}

static int read_memory(const struct json *spec, const char *key, uint64_t *ret, bool *ret_given, struct error *err)
{
	_cleanup_free_ char *name = xasprintf(ANNOTATION_OWN "%s", key);
	const char *s = annotation(spec, name);

	if (!s)
		return 0;
	if (parse_bytes(s, UINT64_C(1) << 20, ret) < 0)
		return error_set_kind(err, ERROR_CONFIG, EINVAL, "annotation %s: '%s' is not a size", name, s);
	if (ret_given)
		*ret_given = true;
	return 0;
}

static int read_annotations(const struct json *spec, struct spec_info *i, struct error *err)
{
	const char *s = annotation(spec, ANNOTATION_OWN "kernel");
	int r;

	i->kernel = xstrdup(s);
	r = read_cpus(spec, "cpus", &i->cpus, &i->fixed_cpus, err);
	if (r >= 0)
		r = read_cpus(spec, "max_cpus", &i->max_cpus, NULL, err);
	if (r >= 0)
		r = read_memory(spec, "memory", &i->memory_bytes, &i->fixed_memory, err);
	if (r >= 0)
		r = read_memory(spec, "max_memory", &i->max_memory_bytes, NULL, err);
	if (r < 0)
		return r;
	s = annotation(spec, ANNOTATION_OWN "shape");
	i->has_shape = s;
	if (s && engine_shape_parse(s, &i->shape) < 0)
		return error_set_kind(err, ERROR_CONFIG, EINVAL,
				      "annotation io.skerry.shape: '%s' is neither micro nor full", s);
	s = annotation(spec, ANNOTATION_OWN "accel");
	if (s && accel_parse(s, &i->accel) < 0)
		return error_set_kind(err, ERROR_CONFIG, EINVAL,
				      "annotation io.skerry.accel: '%s' is not auto, kvm or tcg", s);
	s = annotation(spec, ANNOTATION_NETWORKS);
	i->no_net = s && strstr(s, "\"none\"");
	s = annotation(spec, ANNOTATION_OWN "network");
	if (s && !streq(s, "none") && !streq(s, "user") && !streq(s, "auto"))
		return error_set_kind(err, ERROR_CONFIG, EINVAL,
				      "annotation io.skerry.network: '%s' is not auto, user or none", s);
	if (s)
		i->no_net = streq(s, "none");
	i->user_net = s && streq(s, "user");
	return 0;
}

static bool option_given(const struct json *mount, const char *name)
{
	struct json *options = json_get(mount, "options");

	for (size_t i = 0; i < json_length(options); i++) {
		const char *s = json_string(json_at(options, i));

		if (s && streq(s, name))
			return true;
	}
	return false;
}

static bool is_bind(const struct json *mount)
{
	const char *type = json_string(json_get(mount, "type"));

	return (type && streq(type, "bind")) || option_given(mount, "bind") || option_given(mount, "rbind");
}

static bool propagated(const struct json *mount)
{
	return option_given(mount, "rslave") || option_given(mount, "slave") || option_given(mount, "rshared") ||
	       option_given(mount, "shared");
}

static int read_binds(const struct json *spec, struct spec_info *i, struct error *err)
{
	struct json *mounts = json_get(spec, "mounts");

	i->binds = xnew_n(struct spec_bind, json_length(mounts) + 1);
	for (size_t k = 0; k < json_length(mounts); k++) {
		struct json *m = json_at(mounts, k);
		const char *source = json_string(json_get(m, "source")),
			   *destination = json_string(json_get(m, "destination"));

		if (!is_bind(m))
			continue;
		if (!source || source[0] != '/')
			return error_set_kind(err, ERROR_DATA, EINVAL,
					      "config.json: mounts[%zu].source: a bind mount needs an absolute path",
					      k);
		i->binds[i->n_binds++] =
			(struct spec_bind){ .source = xstrdup(source),
					    .recursive = option_given(m, "rbind"),
					    .read_only = option_given(m, "ro") || option_given(m, "rro"),
					    .propagated = propagated(m),
					    .at_shm = destination && streq(destination, "/dev/shm") };
	}
	return 0;
}

/* A pod's containers share the pod's. Those of a container with a machine of its own are in another kernel. */
static int check_namespaces(const struct json *spec, struct error *err)
{
	struct json *all = json_get(json_get(spec, "linux"), "namespaces");

	for (size_t i = 0; i < json_length(all); i++) {
		const char *type = json_string(json_get(json_at(all, i), "type"));
		const char *path = json_string(json_get(json_at(all, i), "path"));

		if (!type || streq(type, "network") || !path || !*path)
			continue;
		error_set_kind(err, ERROR_CONFIG, EINVAL,
			       "config.json: the %s namespace %s cannot be joined: this container has a virtual "
			       "machine of its own",
			       type, path);
		return error_hint(err, "containers of one pod share a machine, and their namespaces with it");
	}
	return 0;
}

static int read_oom_score(const struct json *spec)
{
	int64_t score;

	if (!json_i64(json_get(json_get(spec, "process"), "oomScoreAdj"), &score))
		return 0;
	return score < OOM_SCORE_MIN ? OOM_SCORE_MIN : score > OOM_SCORE_MAX ? OOM_SCORE_MAX : (int)score;
}

int spec_read(const struct json *spec, const char *id, struct spec_info *ret, struct error *err)
{
	_cleanup_spec_ struct spec_info i = {};
	const char *type = annotation(spec, ANNOTATION_TYPE);
	const struct json *net = namespace_of(json_get(json_get(spec, "linux"), "namespaces"), "network");
	int r;

	if (!json_is_object(spec))
		return error_set_kind(err, ERROR_DATA, EINVAL, "config.json: expected an object");
	i.group = spec_group(spec, id);
	if (type && streq(type, "sandbox"))
		i.role = SPEC_SANDBOX;
	else if (!streq(i.group, id))
		i.role = SPEC_MEMBER;
	i.netns = xstrdup(json_string(json_get(net, "path")));
	if (i.netns && !*i.netns) {
		free(i.netns);
		i.netns = NULL;
	}
	i.host_net = !net;
	i.hostname = xstrdup(json_string(json_get(spec, "hostname")));
	i.cgroup = xstrdup(json_string(json_get(json_get(spec, "linux"), "cgroupsPath")));
	(void)json_bool(json_get(json_get(spec, "process"), "terminal"), &i.terminal);
	spec_size_read(json_get(json_get(spec, "linux"), "resources"), &i.size);
	if (i.role == SPEC_SANDBOX)
		read_pod_size(spec, &i);
	else
		i.oom_score = read_oom_score(spec);
	i.cpus = spec_size_cpus(&i.size);
	i.memory_bytes = i.size.memory_bytes;
	r = i.role == SPEC_ALONE ? check_namespaces(spec, err) : 0;
	if (r >= 0)
		r = read_annotations(spec, &i, err);
	if (r >= 0)
		r = read_binds(spec, &i, err);
	if (r < 0)
		return r;
	*ret = i;
	i = (struct spec_info){};
	return 0;
}

/* The same value, apart from the original. */
static struct json *copy_of(const struct json *j)
{
	_cleanup_buf_ struct buf text = {};
	struct json *ret = NULL;

	json_render(j, false, &text);
	if (json_parse(text.p, text.len, "config.json", &ret, NULL) < 0)
		return json_object();
	return ret;
}

/* The namespace that a kernel parameter belongs to, NULL = none (sysctl(8); as crun has it), and its file's name. */
static const char *namespace_of_parameter(const char *key, const char **ret_file)
{
	static const struct {
		const char *prefix, *type, *file;
	} known[] = {
		{ "net.", "network", "net" },   { "fs.mqueue.", "ipc", "ipc" }, { "kernel.msg", "ipc", "ipc" },
		{ "kernel.sem", "ipc", "ipc" }, { "kernel.shm", "ipc", "ipc" }, { "kernel.domainname", "uts", "uts" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (after_prefix(key, known[i].prefix)) {
			*ret_file = known[i].file;
			return known[i].type;
		}
	return NULL;
}

/* A pod's kernel parameters come with what stands for it, which is no process in the guest: its containers bring them. And crun sets those alone whose
 * namespace the configuration names: where that is the machine's own, it is named. */
static void edit_parameters(struct json *linux_, const struct json *pod)
{
	struct json *all = json_get(linux_, "sysctl"), *namespaces = json_get(linux_, "namespaces"), *value;
	const char *key, *type, *file;

	if (json_is_object(pod) && !json_is_object(all)) {
		all = json_object();
		json_set(linux_, "sysctl", all);
	}
	for (size_t i = 0; json_member(pod, i, &key, &value); i++)
		if (!json_get(all, key))
			json_set(all, key, json_ref(value));
	for (size_t i = 0; json_member(all, i, &key, &value); i++) {
		struct json *own;

		type = namespace_of_parameter(key, &file);
		if (!type || namespace_of(namespaces, type))
			continue;
		own = json_object();
		json_set_string(own, "type", type);
		json_setf(own, "path", "/proc/1/ns/%s", file);
		json_append(namespaces, own);
	}
}

/* Namespaces: the network is the VM's, and so is what a pod's containers share (they are given paths on the host). @ret_uts: it has one of its own.
 * On a host with cgroups of version 1 a container sees its own without a namespace, and none is asked for; the guest's cgroups are of version 2. */
static void edit_namespaces(struct json *linux_, bool *ret_uts)
{
	struct json *from = json_get(linux_, "namespaces"), *to = json_array(), *cgroup = json_object();

	*ret_uts = false;
	for (size_t i = 0; i < json_length(from); i++) {
		struct json *ns = json_at(from, i);
		const char *type = json_string(json_get(ns, "type")), *path = json_string(json_get(ns, "path"));

		if (!type || streq(type, "network") || streq(type, "time") || streq(type, "cgroup") || (path && *path))
			continue;
		*ret_uts = *ret_uts || streq(type, "uts");
		json_append(to, json_ref(ns));
	}
	json_set_string(cgroup, "type", "cgroup");
	json_append(to, cgroup);
	json_set(linux_, "namespaces", to);
}

/* Character devices that every kernel has or that a VM of ours has. */
static bool device_exists(const struct json *d)
{
	static const struct {
		uint64_t major, minor;
	} known[] = { { 1, 3 }, { 1, 5 }, { 1, 7 }, { 1, 8 },    { 1, 9 },
		      { 5, 0 }, { 5, 1 }, { 5, 2 }, { 10, 200 }, { 10, 229 } };
	const char *type = json_string(json_get(d, "type"));
	uint64_t major, minor;

	if (!type)
		return false;
	if (streq(type, "p"))
		return true;
	if ((!streq(type, "c") && !streq(type, "u")) || !json_u64(json_get(d, "major"), &major) ||
	    !json_u64(json_get(d, "minor"), &minor))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (known[i].major == major && known[i].minor == minor)
			return true;
	return false;
}

static void edit_devices(struct json *linux_)
{
	struct json *from = json_get(linux_, "devices"), *to = json_array();

	for (size_t i = 0; i < json_length(from); i++)
		if (device_exists(json_at(from, i)))
			json_append(to, json_ref(json_at(from, i)));
	json_set(linux_, "devices", to);
}

/* What names CPUs, devices or page sizes of the host means nothing in the guest. */
static void edit_resources(struct json *resources)
{
	struct json *cpu = json_get(resources, "cpu"), *memory = json_get(resources, "memory");

	json_remove(resources, "blockIO");
	json_remove(resources, "hugepageLimits");
	json_remove(resources, "network");
	json_remove(resources, "rdma");
	if (cpu) {
		json_remove(cpu, "cpus");
		json_remove(cpu, "mems");
		json_remove(cpu, "realtimeRuntime");
		json_remove(cpu, "realtimePeriod");
	}
	if (memory) {
		/* Of version 1 alone. */
		json_remove(memory, "kernel");
		json_remove(memory, "kernelTCP");
		json_remove(memory, "swappiness");
		json_remove(memory, "disableOOMKiller");
		json_remove(memory, "useHierarchy");
	}
}

static void edit_process(struct json *process)
{
	json_remove(process, "apparmorProfile");
	json_remove(process, "selinuxLabel");
	json_remove(process, "ioPriority");
	json_remove(process, "scheduler");
}

static bool mounted(const struct json *mounts, const char *destination)
{
	for (size_t i = 0; i < json_length(mounts); i++) {
		const char *s = json_string(json_get(json_at(mounts, i), "destination"));

		if (s && streq(s, destination))
			return true;
	}
	return false;
}

/* Name servers are the network's, and nobody else tells the container of them when the network is ours. */
static void add_resolver(struct json *spec)
{
	struct json *mount = json_object(), *options = json_array(), *mounts = json_get(spec, "mounts");

	json_set_string(mount, "destination", RESOLVER);
	json_set_string(mount, "type", "bind");
	json_set_string(mount, "source", RESOLVER);
	json_append_string(options, "bind");
	json_append_string(options, "ro");
	json_set(mount, "options", options);
	if (!json_is_array(mounts)) {
		mounts = json_array();
		json_set(spec, "mounts", mounts);
	}
	json_append(mounts, mount);
}

static void edit_mounts(struct json *spec, const struct spec_info *info, const struct spec_places *p)
{
	struct json *mounts = json_get(spec, "mounts");
	size_t n = 0;

	for (size_t i = 0; i < json_length(mounts); i++) {
		struct json *m = json_at(mounts, i);

		if (!is_bind(m))
			continue;
		if (n < info->n_binds && info->binds[n].socket)
			json_setf(m, "source", "%s/s%zu", p->sockets, n);
		else if (n < info->n_binds && info->binds[n].shm_bytes)
			json_set_string(m, "source", p->shm);
		else
			json_setf(m, "source", "%s/m%zu", p->share, n);
		n++;
	}
}

/* Hooks of the runtime's side ran on the host; what runs inside the container has its programs there. */
static void edit_hooks(struct json *spec)
{
	struct json *inside = json_get(json_get(spec, "hooks"), "startContainer");

	if (inside) {
		struct json *hooks = json_object();

		json_set(hooks, "startContainer", json_ref(inside));
		json_set(spec, "hooks", hooks);
	} else {
		json_remove(spec, "hooks");
	}
}

void spec_for_guest(const struct json *spec, const struct spec_info *info, const struct spec_places *p, bool resolver,
		    struct buf *out)
{
	_cleanup_json_ struct json *s = copy_of(spec);
	struct json *root = json_get(s, "root"), *linux_ = json_get(s, "linux");
	bool uts;

	/* crun of Debian 12 refuses what calls itself newer, and passes over what it does not know. */
	json_set_string(s, "ociVersion", "1.0.2");
	if (!json_is_object(root)) {
		root = json_object();
		json_set(s, "root", root);
	}
	json_set_string(root, "path", p->root);
	edit_mounts(s, info, p);
	if (resolver && !mounted(json_get(s, "mounts"), RESOLVER))
		add_resolver(s);
	edit_hooks(s);
	if (json_get(s, "process"))
		edit_process(json_get(s, "process"));
	if (!json_is_object(linux_)) {
		linux_ = json_object();
		json_set(s, "linux", linux_);
	}
	edit_namespaces(linux_, &uts);
	edit_parameters(linux_, p->parameters);
	edit_devices(linux_);
	json_setf(linux_, "cgroupsPath", "/skerry/%s", p->id);
	json_remove(linux_, "mountLabel");
	json_remove(linux_, "intelRdt");
	if (json_get(linux_, "resources"))
		edit_resources(json_get(linux_, "resources"));
	if (!uts) {
		json_remove(s, "hostname");
		json_remove(s, "domainname");
	}
	json_remove(s, "annotations");
	json_render(s, false, out);
}

void spec_process_for_guest(const struct json *process, bool terminal, struct buf *out)
{
	_cleanup_json_ struct json *p = copy_of(process);

	edit_process(p);
	json_set_bool(p, "terminal", terminal);
	json_render(p, false, out);
}

void spec_resources_for_guest(const struct json *resources, struct buf *out)
{
	_cleanup_json_ struct json *r = copy_of(resources);

	edit_resources(r);
	json_render(r, false, out);
}
