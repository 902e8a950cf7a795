#include <fcntl.h>

#include "agent.pb-c.h"
#include "base/file.h"
#include "base/log.h"
#include "machine/client.h"
#include "net/takeover.h"
#include "shim/shim.h"
#include "wire/message.h"

#define CONFIG_LIMIT (4u << 20)

struct process *container_init(const struct container *k)
{
	return container_process(k, "");
}

struct process *container_process(const struct container *k, const char *exec_id)
{
	for (struct process *p = k->processes; p; p = p->next)
		if (streq(p->exec_id, exec_id))
			return p;
	return NULL;
}

uint32_t container_pid(const struct container *k)
{
	return k->holder.pid > 0 ? (uint32_t)k->holder.pid : (uint32_t)vm_pid(k->shim->vm);
}

/* What becomes a directory's name here and in the guest. */
static bool id_valid(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || n > 128 || s[0] == '.' || s[0] == '-')
		return false;
	for (size_t i = 0; i < n; i++)
		if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') || (s[i] >= '0' && s[i] <= '9') ||
		      strchr("_.-", s[i])))
			return false;
	return true;
}

static int read_spec(struct container *k, struct error *err)
{
	_cleanup_free_ char *path = xasprintf("%s/config.json", k->bundle);
	_cleanup_buf_ struct buf text = {};
	int r = file_read_at(AT_FDCWD, path, CONFIG_LIMIT, &text);

	if (r < 0)
		return error_set_errno(err, r, "%s", path);
	r = json_parse(text.p ? text.p : "", text.len, "config.json", &k->spec, err);
	if (r >= 0)
		r = spec_read(k->spec, k->id, &k->info, err);
	return r < 0 ? r : shim_configure(k->shim, &k->info, err);
}

static int add_files(struct container *k, struct error *err)
{
	const Containerd__CreateTaskRequest *q = k->request;
	_cleanup_free_ struct share_mount *mounts = xnew_n(struct share_mount, q->n_rootfs + 1);
	_cleanup_free_ char *plain = xasprintf("%s/rootfs", k->bundle);
	const char *path = json_string(json_get(json_get(k->spec, "root"), "path"));

	if (path && path[0] == '/') {
		free(plain);
		plain = xstrdup(path);
	}
	for (size_t i = 0; i < q->n_rootfs; i++)
		mounts[i] = (struct share_mount){ .type = q->rootfs[i]->type,
						  .source = q->rootfs[i]->source,
						  .target = q->rootfs[i]->target,
						  .options = (const char *const *)q->rootfs[i]->options,
						  .n_options = q->rootfs[i]->n_options };
	k->shared = true;
	return share_add(k->shim->share_dir, k->id, mounts, q->n_rootfs, plain, &k->info, err);
}

/* A namespace of its own that nothing has put an interface into yet: `ctr run --cni` does so between Create and Start. */
static bool network_may_come(const struct container *k)
{
	struct net_takeover t = {};
	bool empty;

	if (k->sandbox || k->info.host_net || k->info.no_net || k->info.user_net || k->info.netns || k->shim->vm)
		return false;
	empty = net_takeover_inspect(k->holder.netns, NULL, &t, NULL) >= 0 && t.n == 0;
	net_takeover_done(&t);
	return empty;
}

int container_need_vm(struct container *k, struct error *err)
{
	_cleanup_free_ char *netns = xasprintf("/proc/%d/ns/net", (int)k->holder.pid);
	int r = shim_need_vm(k->shim, &k->info, k->holder.netns, netns, err);

	if (r >= 0 && vm_agent(k->shim->vm))
		container_vm_ready(k);
	return r;
}

/* Everything that the host does for it. */
static int prepare(struct container *k, struct error *err)
{
	struct shim *s = k->shim;
	_cleanup_free_ char *root = xasprintf("%s/%s/rootfs", s->share_dir, k->id);
	struct process *init;
	int r = read_spec(k, err);

	if (r < 0)
		return r;
	k->sandbox = k->info.role == SPEC_SANDBOX;
	if (!k->sandbox)
		r = add_files(k, err);
	if (r >= 0)
		r = holder_start(k->info.netns, k->info.host_net, k->sandbox ? NULL : root, &k->holder, err);
	if (r >= 0)
		r = hooks_run(k->spec, "prestart", k->id, "creating", k->holder.pid, k->bundle, err);
	if (r >= 0)
		r = hooks_run(k->spec, "createRuntime", k->id, "creating", k->holder.pid, k->bundle, err);
	if (r < 0)
		return r;
	init = process_new(k, "", k->request->terminal, k->request->stdin, k->request->stdout, k->request->stderr);
	init->pid = container_pid(k);
	if (!k->sandbox)
		r = process_open_streams(init, err);
	if (r < 0)
		return r;
	k->deferred = network_may_come(k);
	return 0;
}

static void created(struct container *k)
{
	Containerd__CreateTaskRequest *q = k->request;
	struct process *init = container_init(k);
	Containerd__TaskIO io = CONTAINERD__TASK_IO__INIT;
	Containerd__TaskCreate e = CONTAINERD__TASK_CREATE__INIT;
	Containerd__CreateTaskResponse r = CONTAINERD__CREATE_TASK_RESPONSE__INIT;
	struct call *c = k->create;

	io.stdin = q->stdin;
	io.stdout = q->stdout;
	io.stderr = q->stderr;
	io.terminal = q->terminal;
	e.container_id = k->id;
	e.bundle = k->bundle;
	e.rootfs = q->rootfs;
	e.n_rootfs = q->n_rootfs;
	e.io = &io;
	e.checkpoint = q->checkpoint;
	e.pid = init->pid;
	events_publish(k->shim->events, "/tasks/create", "containerd.events.TaskCreate", &e.base);
	r.pid = init->pid;
	k->create = NULL;
	call_reply(c, &r.base);
	message_free(k->request);
	k->request = NULL;
}

static void create_failed(struct container *k, const struct error *err)
{
	struct call *c = k->create;

	k->create = NULL;
	log_error("%s: %s", k->id, err->msg);
	call_fail(c, err);
	container_free(k);
}

/* Whoever waits for it, its creation or its start, is told. */
static void make_failed(struct container *k, const struct error *err)
{
	if (k->create) {
		create_failed(k, err);
	} else {
		log_error("%s: %s", k->id, err->msg);
		process_start_failed(container_init(k), err);
	}
}

static void on_made(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct container *k = data;
	_cleanup_error_ struct error e = {};

	(void)payload;
	(void)len;
	k->making = 0;
	if (err && k->shim->vm_ended)
		return; /* container_vm_ended() tells */
	if (err) {
		make_failed(k, err);
		return;
	}
	k->made = true;
	container_init(k)->made = true;
	if (process_watch(container_init(k), &e) < 0) {
		make_failed(k, &e);
		return;
	}
	if (k->create)
		created(k);
	if (!process_kill_made(container_init(k)) && container_init(k)->start)
		process_start_made(container_init(k));
}

void container_vm_ready(struct container *k)
{
	_cleanup_free_ char *share = xasprintf(VM_SHARE_GUEST "/%s", k->id);
	Skerry__Agent__V1__CreateContainerRequest q = SKERRY__AGENT__V1__CREATE_CONTAINER_REQUEST__INIT;
	struct process *init = container_init(k);
	const struct json *size = json_get(json_get(k->spec, "process"), "consoleSize");
	_cleanup_buf_ struct buf spec = {};
	_cleanup_error_ struct error e = {};
	uint64_t n;

	if ((!k->create && !init->start) || k->made || k->making || k->sandbox)
		return;
	spec_for_guest(k->spec, k->id, share, vm_resolves(k->shim->vm), &spec);
	q.id = k->id;
	q.session = init->session;
	q.spec = (ProtobufCBinaryData){ spec.len, (uint8_t *)spec.p };
	q.open_stdin = streams_has_input(init->io);
	q.terminal = init->terminal;
	if (json_u64(json_get(size, "height"), &n) && n <= UINT16_MAX)
		q.rows = (uint32_t)n;
	if (json_u64(json_get(size, "width"), &n) && n <= UINT16_MAX)
		q.cols = (uint32_t)n;
	k->making = guest_call(k->shim, "CreateContainer", &q.base, on_made, k, &e);
	if (k->making < 0) {
		k->making = 0;
		make_failed(k, &e);
	}
}

void container_create(struct shim *s, const Containerd__CreateTaskRequest *q, struct call *c)
{
	struct container *k;
	_cleanup_buf_ struct buf packed = {};
	_cleanup_error_ struct error e = {};

	if (!id_valid(q->id) || q->bundle[0] != '/') {
		call_failf(c, EINVAL, "container '%s': not a name and a bundle that can be used", q->id);
		return;
	}
	if (*q->checkpoint) {
		call_failf(c, ENOSYS, "container '%s': starting from a checkpoint is not implemented", q->id);
		return;
	}
	if (shim_find(s, q->id)) {
		call_failf(c, EEXIST, "container '%s' exists", q->id);
		return;
	}
	k = xnew(struct container);
	*k = (struct container){ .shim = s,
				 .id = xstrdup(q->id),
				 .bundle = xstrdup(q->bundle),
				 .create = c,
				 .holder = { .pidfd = -EBADF, .netns = -EBADF },
				 .next = s->containers };
	s->containers = k;
	/* The request's memory is the connection's: a copy of our own. */
	message_pack(&packed, &q->base);
	k->request = message_unpack(&containerd__create_task_request__descriptor, packed.p, packed.len);
	if (!k->request)
		error_set(&e, ENOMEM, "out of memory");
	if (!k->request || prepare(k, &e) < 0) {
		create_failed(k, &e);
		return;
	}
	if (k->deferred) {
		created(k);
		return;
	}
	if (container_need_vm(k, &e) < 0)
		create_failed(k, &e);
	else if (k->sandbox)
		created(k);
}

void container_vm_ended(struct container *k)
{
	struct process *next;

	if (k->create) {
		_cleanup_error_ struct error e = {};

		error_set(&e, ENOTCONN, "%s", k->shim->vm_reason);
		create_failed(k, &e);
		return;
	}
	/* Those that joined end first. */
	for (struct process *p = k->processes; p; p = next) {
		next = p->next;
		process_vm_ended(p);
	}
	if (k->deletion)
		container_deleted(k);
}

/* ---- Deleting ---- */

void container_deleted(struct container *k)
{
	struct process *init = container_init(k);
	Containerd__DeleteResponse r = CONTAINERD__DELETE_RESPONSE__INIT;
	Containerd__TaskDelete e = CONTAINERD__TASK_DELETE__INIT;
	struct shim *s = k->shim;
	Containerd__Timestamp t;
	struct call *c = k->deletion;

	k->deletion = NULL;
	r.pid = e.pid = init->pid;
	r.exit_status = e.exit_status = init->exit_status;
	r.exited_at = e.exited_at = process_timestamp(init->exited_ns, &t);
	e.container_id = k->id;
	events_publish(s->events, "/tasks/delete", "containerd.events.TaskDelete", &e.base);
	container_free(k);
	call_reply(c, &r.base);
}

static void on_deleted(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct container *k = data;

	(void)payload;
	(void)len;
	k->making = 0;
	if (err && k->shim->vm_ended)
		return;
	if (err)
		log_warning("%s: %s, ignoring", k->id, err->msg);
	container_deleted(k);
}

void container_delete(struct container *k, struct call *c)
{
	struct process *init = container_init(k);
	Skerry__Agent__V1__ContainerRequest q = SKERRY__AGENT__V1__CONTAINER_REQUEST__INIT;
	_cleanup_error_ struct error e = {};

	if (k->create || k->deletion) {
		call_failf(c, EBUSY, "container '%s' is being %s", k->id, k->create ? "created" : "deleted");
		return;
	}
	if (init->started && !init->published) {
		call_failf(c, EBUSY, "container '%s': cannot delete a running process", k->id);
		return;
	}
	k->deletion = c;
	if (k->made && vm_agent(k->shim->vm)) {
		q.id = k->id;
		k->making = guest_call(k->shim, "DeleteContainer", &q.base, on_deleted, k, &e);
		if (k->making > 0)
			return;
		k->making = 0;
	}
	container_deleted(k);
}

void container_free(struct container *k)
{
	struct shim *s = k->shim;
	_cleanup_error_ struct error e = {};

	for (struct container **p = &s->containers; *p; p = &(*p)->next)
		if (*p == k) {
			*p = k->next;
			break;
		}
	if (k->making > 0 && vm_agent(s->vm))
		rpc_cancel(vm_agent(s->vm), k->making);
	while (k->processes)
		process_free(k->processes);
	if (k->shared)
		share_remove(s->share_dir, k->id);
	holder_end(&k->holder);
	if (k->spec && hooks_run(k->spec, "poststop", k->id, "stopped", 0, k->bundle, &e) < 0)
		log_warning("%s: %s, ignoring", k->id, e.msg);
	if (k->create)
		call_failf(k->create, ECANCELED, "the shim ends");
	if (k->deletion)
		call_failf(k->deletion, ECANCELED, "the shim ends");
	message_free(k->request);
	json_free(k->spec);
	spec_info_done(&k->info);
	free(k->id);
	free(k->bundle);
	free(k);
}
