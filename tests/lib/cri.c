#include "cri.h"

#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "containerd.h"
#include "wire/message.h"

#define RUNTIME_SERVICE "/runtime.v1.RuntimeService/"
#define IMAGE_SERVICE   "/runtime.v1.ImageService/"
/* Of the host's cgroups; nobody else's. */
#define CGROUP_PARENT "/skerry-test-pods-%d"

enum { CALL_S = 180, WAIT_S = 120, WORDS_MAX = 8 };

static struct grpc_answer try_call(const char *service, const char *method, const struct ProtobufCMessage *request,
				   const struct ProtobufCMessageDescriptor *type)
{
	_cleanup_free_ char *path = xasprintf("%s/c.sock", test_tmpdir()), *name = xasprintf("%s%s", service, method);

	return grpc_call(path, name, request, type, CALL_S);
}

static void *call(const char *method, const struct ProtobufCMessage *request,
		  const struct ProtobufCMessageDescriptor *type)
{
	_cleanup_grpc_ struct grpc_answer a = try_call(RUNTIME_SERVICE, method, request, type);

	if (a.status != 0)
		test_fail(__FILE__, __LINE__, "%s: status %d: %s", method, a.status, a.text);
	return TAKE_PTR(a.m);
}

/* What nobody announces is asked for again. */
static void pause_until(uint64_t deadline_ns, const char *what)
{
	if (clock_monotonic_ns() > deadline_ns)
		test_fail(__FILE__, __LINE__, "waited for %s in vain", what);
	(void)usleep(100000); /* lint: the plugin has no call that waits */
}

static uint64_t deadline(void)
{
	return clock_monotonic_ns() + WAIT_S * NS_PER_SEC;
}

void cri_wait_ready(void)
{
	Cri__Empty nothing = CRI__EMPTY__INIT;
	char image_name[] = CTD_IMAGE;
	Cri__ImageSpec spec = CRI__IMAGE_SPEC__INIT;
	Cri__ImageStatusRequest q = CRI__IMAGE_STATUS_REQUEST__INIT;
	uint64_t until = deadline();

	spec.image = image_name;
	q.image = &spec;
	for (;;) {
		_cleanup_grpc_ struct grpc_answer a =
			try_call(RUNTIME_SERVICE, "Status", &nothing.base, &cri__status_response__descriptor);
		_cleanup_grpc_ struct grpc_answer b =
			try_call(IMAGE_SERVICE, "ImageStatus", &q.base, &cri__image_status_response__descriptor);
		const Cri__StatusResponse *s = a.m;
		const Cri__ImageStatusResponse *image = b.m;
		bool ready = s && s->status && image && image->image;

		for (size_t i = 0; ready && i < s->status->n_conditions; i++)
			/* containerd 2.x has one more, about what it will not support one day. */
			ready = s->status->conditions[i]->status ||
				strstr(s->status->conditions[i]->type, "Deprecation");
		if (ready)
			return;
		pause_until(until, "the CRI plugin");
	}
}

/* ---- Pods ---- */

/* A pod's configuration and what it points to. */
struct config {
	Cri__SandboxConfig sandbox;
	Cri__SandboxMetadata metadata;
	Cri__SandboxLinux linux_;
	Cri__SandboxSecurity security;
	Cri__NamespaceOption namespaces;
	Cri__Resources resources;
	Cri__DnsConfig dns;
	char *servers[1];
	Cri__Entry annotation, *annotations[1];
	char *parent, *logs, *uid, *name, *key, *value;
};

static void config_done(struct config *c)
{
	free(c->parent);
	free(c->logs);
	free(c->uid);
	free(c->name);
	free(c->key);
	free(c->value);
	free(c->servers[0]);
}

static void config_make(const struct cri_pod *p, struct config *c)
{
	static char namespace[] = "default";

	*c = (struct config){ .sandbox = CRI__SANDBOX_CONFIG__INIT,
			      .metadata = CRI__SANDBOX_METADATA__INIT,
			      .linux_ = CRI__SANDBOX_LINUX__INIT,
			      .security = CRI__SANDBOX_SECURITY__INIT,
			      .namespaces = CRI__NAMESPACE_OPTION__INIT,
			      .resources = CRI__RESOURCES__INIT,
			      .annotation = CRI__ENTRY__INIT,
			      .dns = CRI__DNS_CONFIG__INIT,
			      .servers = { xstrdup(p->name_server) },
			      .parent = p->parent ? xstrdup(p->parent) : xasprintf(CGROUP_PARENT, (int)getpid()),
			      .logs = xasprintf("%s/logs", test_tmpdir()),
			      .uid = xasprintf("uid-of-%s", p->name),
			      .name = xstrdup(p->name),
			      .key = xstrdup(p->annotation),
			      .value = xstrdup(p->value) };
	c->metadata.name = c->sandbox.hostname = c->name;
	c->metadata.uid = c->uid;
	c->metadata.namespace_ = namespace;
	c->namespaces.network = p->host_network ? CRI__NAMESPACE_MODE__NODE : CRI__NAMESPACE_MODE__POD;
	c->namespaces.pid = p->shared_pids ? CRI__NAMESPACE_MODE__POD : CRI__NAMESPACE_MODE__CONTAINER;
	c->security.namespace_options = &c->namespaces;
	c->resources.memory_limit_in_bytes = p->memory_bytes;
	c->resources.cpu_quota = p->cpu_quota;
	c->resources.cpu_period = p->cpu_quota ? 100000 : 0;
	c->linux_.cgroup_parent = c->parent;
	c->linux_.security_context = &c->security;
	c->linux_.resources = &c->resources;
	c->sandbox.metadata = &c->metadata;
	c->sandbox.log_directory = c->logs;
	c->sandbox.linux_ = &c->linux_;
	if (c->servers[0]) {
		static char domain[] = "pods.test", option[] = "ndots:5", *domains[] = { domain },
			    *options[] = { option };

		c->dns.servers = c->servers;
		c->dns.searches = domains;
		c->dns.options = options;
		c->dns.n_servers = c->dns.n_searches = c->dns.n_options = 1;
		c->sandbox.dns_config = &c->dns;
	}
	if (c->key) {
		c->annotation.key = c->key;
		c->annotation.value = c->value;
		c->annotations[0] = &c->annotation;
		c->sandbox.annotations = c->annotations;
		c->sandbox.n_annotations = 1;
	}
}

struct grpc_answer cri_try_pod(const struct cri_pod *p)
{
	_cleanup_(config_done) struct config c;
	Cri__RunSandboxRequest q = CRI__RUN_SANDBOX_REQUEST__INIT;
	_cleanup_free_ char *handler = xstrdup(p->handler ? p->handler : "skerry");

	config_make(p, &c);
	q.config = &c.sandbox;
	q.runtime_handler = handler;
	return try_call(RUNTIME_SERVICE, "RunPodSandbox", &q.base, &cri__sandbox_id__descriptor);
}

char *cri_run_pod(const struct cri_pod *p)
{
	_cleanup_grpc_ struct grpc_answer a = cri_try_pod(p);
	const Cri__SandboxId *id = a.m;

	if (!id)
		test_fail(__FILE__, __LINE__, "pod %s: status %d: %s", p->name, a.status, a.text);
	return xstrdup(id->pod_sandbox_id);
}

static void *ask_pod(const char *method, const char *pod, const struct ProtobufCMessageDescriptor *type)
{
	_cleanup_free_ char *id = xstrdup(pod);
	Cri__SandboxId q = CRI__SANDBOX_ID__INIT;

	q.pod_sandbox_id = id;
	return call(method, &q.base, type);
}

bool cri_pod_ready(const char *pod)
{
	_cleanup_message_ Cri__SandboxStatusResponse *r =
		ask_pod("PodSandboxStatus", pod, &cri__sandbox_status_response__descriptor);

	return r->status && r->status->state == CRI__SANDBOX_STATE__READY;
}

char *cri_pod_address(const char *pod)
{
	_cleanup_message_ Cri__SandboxStatusResponse *r =
		ask_pod("PodSandboxStatus", pod, &cri__sandbox_status_response__descriptor);

	return xstrdup(r->status && r->status->network ? r->status->network->ip : "");
}

static void usage(const Cri__CpuUsage *cpu, const Cri__MemoryUsage *memory, uint64_t *ret_cpu_ns,
		  uint64_t *ret_memory_bytes)
{
	*ret_cpu_ns = cpu && cpu->usage_core_nano_seconds ? cpu->usage_core_nano_seconds->value : 0;
	*ret_memory_bytes = memory && memory->working_set_bytes ? memory->working_set_bytes->value : 0;
}

void cri_pod_usage(const char *pod, uint64_t *ret_cpu_ns, uint64_t *ret_memory_bytes)
{
	_cleanup_message_ Cri__SandboxStatsResponse *r =
		ask_pod("PodSandboxStats", pod, &cri__sandbox_stats_response__descriptor);

	ASSERT(r->stats && r->stats->linux_);
	usage(r->stats->linux_->cpu, r->stats->linux_->memory, ret_cpu_ns, ret_memory_bytes);
}

void cri_stop_pod(const char *pod)
{
	message_free(ask_pod("StopPodSandbox", pod, &cri__empty__descriptor));
}

void cri_remove_pod(const char *pod)
{
	cri_stop_pod(pod);
	message_free(ask_pod("RemovePodSandbox", pod, &cri__empty__descriptor));
	message_free(ask_pod("RemovePodSandbox", pod, &cri__empty__descriptor));
}

/* ---- Containers ---- */

static void *ask(const char *method, const char *container, const struct ProtobufCMessageDescriptor *type)
{
	_cleanup_free_ char *id = xstrdup(container);
	Cri__ContainerId q = CRI__CONTAINER_ID__INIT;

	q.container_id = id;
	return call(method, &q.base, type);
}

static char *create(const struct cri_pod *p, const char *pod, const char *name, const char *const *argv,
		    int64_t memory_bytes)
{
	_cleanup_(config_done) struct config c;
	_cleanup_free_ char *id = xstrdup(pod), *name_ = xstrdup(name), *log = xasprintf("%s.log", name);
	_cleanup_message_ Cri__ContainerId *answer = NULL;
	char image_name[] = CTD_IMAGE, *words[WORDS_MAX];
	Cri__CreateContainerRequest q = CRI__CREATE_CONTAINER_REQUEST__INIT;
	Cri__ContainerConfig k = CRI__CONTAINER_CONFIG__INIT;
	Cri__ContainerMetadata metadata = CRI__CONTAINER_METADATA__INIT;
	Cri__ImageSpec image = CRI__IMAGE_SPEC__INIT;
	Cri__ContainerLinux linux_ = CRI__CONTAINER_LINUX__INIT;
	Cri__ContainerSecurity security = CRI__CONTAINER_SECURITY__INIT;
	Cri__Resources resources = CRI__RESOURCES__INIT;
	Cri__Mount mount = CRI__MOUNT__INIT, *mounts[] = { &mount };
	_cleanup_free_ char *volume = xstrdup(p->volume);
	char volume_at[] = "/volume";

	config_make(p, &c);
	for (; argv[k.n_command] && k.n_command < WORDS_MAX; k.n_command++)
		words[k.n_command] = xstrdup(argv[k.n_command]);
	k.command = words;
	metadata.name = name_;
	image.image = image_name;
	k.metadata = &metadata;
	k.image = &image;
	k.log_path = log;
	if (volume) {
		mount.host_path = volume;
		mount.container_path = volume_at;
		mount.readonly = true;
		k.mounts = mounts;
		k.n_mounts = 1;
	}
	resources.memory_limit_in_bytes = memory_bytes;
	resources.oom_score_adj = p->oom_score;
	security.namespace_options = &c.namespaces;
	linux_.resources = &resources;
	linux_.security_context = &security;
	k.linux_ = &linux_;
	q.pod_sandbox_id = id;
	q.config = &k;
	q.sandbox_config = &c.sandbox;
	answer = call("CreateContainer", &q.base, &cri__container_id__descriptor);
	for (size_t i = 0; i < k.n_command; i++)
		free(words[i]);
	return xstrdup(answer->container_id);
}

struct grpc_answer cri_try_start(const struct cri_pod *p, const char *pod, const char *name, const char *const *argv)
{
	_cleanup_free_ char *id = create(p, pod, name, argv, 0);
	Cri__ContainerId q = CRI__CONTAINER_ID__INIT;

	q.container_id = id;
	return try_call(RUNTIME_SERVICE, "StartContainer", &q.base, &cri__empty__descriptor);
}

char *cri_start(const struct cri_pod *p, const char *pod, const char *name, const char *script, int64_t memory_bytes)
{
	const char *argv[] = { CLI_SHELL, script, NULL };
	char *id = create(p, pod, name, argv, memory_bytes);

	message_free(ask("StartContainer", id, &cri__empty__descriptor));
	return id;
}

static Cri__ContainerStatusResponse *status_of(const char *container)
{
	Cri__ContainerStatusResponse *r =
		ask("ContainerStatus", container, &cri__container_status_response__descriptor);

	ASSERT(r->status);
	return r;
}

Cri__ContainerState cri_state(const char *container)
{
	_cleanup_message_ Cri__ContainerStatusResponse *r = status_of(container);

	return r->status->state;
}

int cri_wait_exit(const char *container, char **ret_reason)
{
	uint64_t until = deadline();

	for (;;) {
		_cleanup_message_ Cri__ContainerStatusResponse *r = status_of(container);

		if (r->status->state == CRI__CONTAINER_STATE__EXITED) {
			if (ret_reason)
				*ret_reason = xstrdup(r->status->reason);
			return r->status->exit_code;
		}
		pause_until(until, "a container's end");
	}
}

static char *text_of(const ProtobufCBinaryData *d)
{
	return xstrndup(d->data ? (const char *)d->data : "", d->len);
}

char *cri_exec(const char *container, const char *script, int *ret_code, char **ret_stderr)
{
	_cleanup_free_ char *id = xstrdup(container), *text = xstrdup(script);
	char shell[] = "sh", flag[] = "-c", *words[] = { shell, flag, text };
	Cri__ExecSyncRequest q = CRI__EXEC_SYNC_REQUEST__INIT;
	_cleanup_message_ Cri__ExecSyncResponse *r = NULL;

	q.container_id = id;
	q.cmd = words;
	q.n_cmd = ARRAY_SIZE(words);
	q.timeout = WAIT_S;
	r = call("ExecSync", &q.base, &cri__exec_sync_response__descriptor);
	*ret_code = r->exit_code;
	if (ret_stderr)
		*ret_stderr = text_of(&r->stderr);
	return text_of(&r->stdout);
}

void cri_exec_until(const char *container, const char *script)
{
	uint64_t until = deadline();
	int code = 1;

	for (;;) {
		free(cri_exec(container, script, &code, NULL));
		if (code == 0)
			return;
		pause_until(until, script);
	}
}

void cri_usage(const char *container, uint64_t *ret_cpu_ns, uint64_t *ret_memory_bytes)
{
	_cleanup_message_ Cri__ContainerStatsResponse *r =
		ask("ContainerStats", container, &cri__container_stats_response__descriptor);

	ASSERT(r->stats);
	usage(r->stats->cpu, r->stats->memory, ret_cpu_ns, ret_memory_bytes);
}

void cri_limit_memory(const char *container, int64_t bytes)
{
	_cleanup_free_ char *id = xstrdup(container);
	Cri__UpdateResourcesRequest q = CRI__UPDATE_RESOURCES_REQUEST__INIT;
	Cri__Resources resources = CRI__RESOURCES__INIT;

	resources.memory_limit_in_bytes = bytes;
	q.container_id = id;
	q.linux_ = &resources;
	message_free(call("UpdateContainerResources", &q.base, &cri__empty__descriptor));
}

struct grpc_answer cri_try_update(const char *container, int64_t cpu_quota, int64_t memory_bytes)
{
	_cleanup_free_ char *id = xstrdup(container);
	Cri__UpdateResourcesRequest q = CRI__UPDATE_RESOURCES_REQUEST__INIT;
	Cri__Resources resources = CRI__RESOURCES__INIT;

	resources.cpu_quota = cpu_quota;
	resources.cpu_period = cpu_quota ? 100000 : 0;
	resources.memory_limit_in_bytes = memory_bytes;
	q.container_id = id;
	q.linux_ = &resources;
	return try_call(RUNTIME_SERVICE, "UpdateContainerResources", &q.base, &cri__empty__descriptor);
}

void cri_stop(const char *container, int64_t timeout_s)
{
	_cleanup_free_ char *id = xstrdup(container);
	Cri__StopContainerRequest q = CRI__STOP_CONTAINER_REQUEST__INIT;

	q.container_id = id;
	q.timeout = timeout_s;
	message_free(call("StopContainer", &q.base, &cri__empty__descriptor));
}

void cri_remove(const char *container)
{
	message_free(ask("RemoveContainer", container, &cri__empty__descriptor));
}
