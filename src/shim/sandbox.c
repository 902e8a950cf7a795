#include "shim/sandbox.h"

#include <fcntl.h>

#include "base/clock.h"
#include "base/file.h"
#include "shim/host_stats.h"
#include "shim/network.h"
#include "shim/sandbox_options.h"
#include "shim/shim.h"

#define CONFIG_LIMIT (4u << 20)

static bool is_ours(struct shim *s, const char *id, struct call *c)
{
	if (s->sandbox_id && streq(s->sandbox_id, id))
		return true;
	call_failf(c, ENOENT, "sandbox '%s': not found", id);
	return false;
}

/* A bundle of a sandbox may have no config.json. */
static int read_info(const Containerd__CreateSandboxRequest *q, struct spec_info *ret, struct json **ret_parameters,
		     struct error *err)
{
	_cleanup_free_ char *path = xasprintf("%s/config.json", q->bundle_path);
	_cleanup_json_ struct json *spec = NULL;
	_cleanup_buf_ struct buf text = {};
	int r = file_read_at(AT_FDCWD, path, CONFIG_LIMIT, &text);

	if (r >= 0 && text.len)
		r = json_parse(text.p, text.len, "config.json", &spec, err);
	else if (r == -ENOENT || r >= 0)
		r = 0;
	else
		return error_set_errno(err, r, "%s", path);
	if (r < 0)
		return r;
	if (!spec)
		spec = json_object();
	r = sandbox_options_read(q->options, q->sandbox_id, spec, err);
	if (r >= 0)
		r = spec_read(spec, q->sandbox_id, ret, err);
	if (r >= 0)
		r = sandbox_options_read_dns(q->options, ret, err);
	if (r >= 0 && json_get(json_get(spec, "linux"), "sysctl"))
		*ret_parameters = json_ref(json_get(json_get(spec, "linux"), "sysctl"));
	return r;
}

void sandbox_create(void *shim, struct call *c, const void *request)
{
	const Containerd__CreateSandboxRequest *q = request;
	struct shim *s = shim;
	_cleanup_spec_ struct spec_info info = {};
	_cleanup_json_ struct json *parameters = NULL;
	_cleanup_close_ int netns = -EBADF;
	_cleanup_error_ struct error e = {};
	const char *path = q->netns_path;
	int r;

	if (s->sandbox_id || s->vm) {
		call_failf(c, EEXIST, "sandbox '%s' exists", q->sandbox_id);
		return;
	}
	r = read_info(q, &info, &parameters, &e);
	if (r >= 0)
		r = shim_configure(s, &info, &e);
	if (r >= 0) {
		if (*path) {
			free(info.netns);
			info.netns = xstrdup(path);
			/* A bundle without a configuration names no namespace, which of a container would mean the host's. */
			info.host_net = false;
		}
		network_find_host(&info);
		path = info.netns;
		netns = path ? open(path, O_RDONLY | O_CLOEXEC) : -EBADF;
		if (path && netns < 0)
			r = error_set_errno(&e, errno, "network namespace %s", path);
	}
	if (r >= 0)
		r = shim_need_vm(s, &info, NULL, netns, NULL, &e);
	if (r < 0) {
		call_fail(c, &e);
		return;
	}
	s->sandbox_id = xstrdup(q->sandbox_id);
	s->parameters = TAKE_PTR(parameters);
	s->created_ns = clock_realtime_ns();
	call_reply(c, NULL);
}

static void answer_started(struct shim *s, struct call *c)
{
	Containerd__StartSandboxResponse r = CONTAINERD__START_SANDBOX_RESPONSE__INIT;
	Containerd__Timestamp t;

	s->sandbox_started = true;
	r.pid = (uint32_t)vm_pid(s->vm);
	r.created_at = process_timestamp(s->created_ns, &t);
	call_reply(c, &r.base);
}

void sandbox_start(void *shim, struct call *c, const void *request)
{
	struct shim *s = shim;

	if (!is_ours(s, ((const Containerd__SandboxRequest *)request)->sandbox_id, c))
		return;
	if (s->vm_ended)
		call_failf(c, ENOTCONN, "%s", s->vm_reason);
	else if (vm_agent(s->vm))
		answer_started(s, c);
	else if (s->sandbox_starting)
		call_failf(c, EBUSY, "sandbox '%s' is being started", s->sandbox_id);
	else
		s->sandbox_starting = c;
}

void sandbox_vm_ready(struct shim *s)
{
	struct call *c = s->sandbox_starting;

	s->sandbox_starting = NULL;
	if (c)
		answer_started(s, c);
}

void sandbox_platform(void *shim, struct call *c, const void *request)
{
	char os[] = "linux", arch[] = "amd64";
	Containerd__PlatformResponse r = CONTAINERD__PLATFORM_RESPONSE__INIT;
	Containerd__Platform p = CONTAINERD__PLATFORM__INIT;

	if (!is_ours(shim, ((const Containerd__SandboxRequest *)request)->sandbox_id, c))
		return;
	p.os = os;
	p.architecture = arch;
	r.platform = &p;
	call_reply(c, &r.base);
}

static void answer_waiter(const struct shim *s, struct call *c)
{
	Containerd__WaitResponse r = CONTAINERD__WAIT_RESPONSE__INIT;
	Containerd__Timestamp t;

	r.exited_at = process_timestamp(s->exited_ns, &t);
	r.exit_status = s->sandbox_stopping ? 0 : 137;
	call_reply(c, &r.base);
}

void sandbox_stop(void *shim, struct call *c, const void *request)
{
	struct shim *s = shim;

	if (!is_ours(s, ((const Containerd__StopSandboxRequest *)request)->sandbox_id, c))
		return;
	s->sandbox_stopping = true;
	/* Its containers were stopped before, or end with it. */
	if (s->vm && !s->vm_ended)
		vm_kill(s->vm);
	call_reply(c, NULL);
}

void sandbox_wait(void *shim, struct call *c, const void *request)
{
	struct shim *s = shim;
	struct waiter *w;

	if (!is_ours(s, ((const Containerd__SandboxRequest *)request)->sandbox_id, c))
		return;
	if (s->exited_ns) {
		answer_waiter(s, c);
		return;
	}
	w = xnew(struct waiter);
	*w = (struct waiter){ .call = c, .next = s->sandbox_waiters };
	s->sandbox_waiters = w;
}

void sandbox_vm_ended(struct shim *s)
{
	struct call *c = s->sandbox_starting;
	struct waiter *w;

	s->exited_ns = clock_realtime_ns();
	s->sandbox_starting = NULL;
	if (c)
		call_failf(c, ENOTCONN, "%s", s->vm_reason);
	while ((w = s->sandbox_waiters)) {
		s->sandbox_waiters = w->next;
		answer_waiter(s, w->call);
		free(w);
	}
}

void sandbox_status(void *shim, struct call *c, const void *request)
{
	char ready[] = "SANDBOX_READY", not_ready[] = "SANDBOX_NOTREADY";
	struct shim *s = shim;
	Containerd__SandboxStatusResponse r = CONTAINERD__SANDBOX_STATUS_RESPONSE__INIT;
	Containerd__Timestamp created, exited;

	if (!is_ours(s, ((const Containerd__SandboxStatusRequest *)request)->sandbox_id, c))
		return;
	r.sandbox_id = s->sandbox_id;
	r.pid = (uint32_t)vm_pid(s->vm);
	r.state = s->sandbox_started && !s->vm_ended ? ready : not_ready;
	r.created_at = process_timestamp(s->created_ns, &created);
	r.exited_at = process_timestamp(s->exited_ns, &exited);
	call_reply(c, &r.base);
}

void sandbox_ping(void *shim, struct call *c, const void *request)
{
	struct shim *s = shim;

	if (!is_ours(s, ((const Containerd__SandboxRequest *)request)->sandbox_id, c))
		return;
	if (s->vm_ended)
		call_failf(c, ENOTCONN, "%s", s->vm_reason);
	else
		call_reply(c, NULL);
}

void sandbox_shutdown(void *shim, struct call *c, const void *request)
{
	struct shim *s = shim;

	if (!is_ours(s, ((const Containerd__SandboxRequest *)request)->sandbox_id, c))
		return;
	shim_shut_down(s);
	call_reply(c, NULL);
}

void sandbox_metrics(void *shim, struct call *c, const void *request)
{
	struct shim *s = shim;
	Containerd__SandboxMetricsResponse r = CONTAINERD__SANDBOX_METRICS_RESPONSE__INIT;
	Containerd__Metric m = CONTAINERD__METRIC__INIT;
	Containerd__Any any = CONTAINERD__ANY__INIT;
	_cleanup_buf_ struct buf packed = {};
	char type[] = "io.containerd.cgroups.v2.Metrics";
	Containerd__Timestamp t;

	if (!is_ours(s, ((const Containerd__SandboxRequest *)request)->sandbox_id, c))
		return;
	m.timestamp = process_timestamp(clock_realtime_ns(), &t);
	m.id = s->sandbox_id;
	if (host_stats_pack(&s->record.cgroups, &packed)) {
		any.type_url = type;
		any.value = (ProtobufCBinaryData){ packed.len, (uint8_t *)packed.p };
		m.data = &any;
	}
	r.metrics = &m;
	call_reply(c, &r.base);
}
