#include <fcntl.h>
#include <sys/stat.h>

#include "agent.pb-c.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "machine/client.h"
#include "net/takeover.h"
#include "shim/host_socket.h"
#include "shim/network.h"
#include "shim/oom_score.h"
#include "shim/shim.h"
#include "shim/shm.h"
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

/* Which of its bind mounts are sockets that somebody may listen on. */
static void find_sockets(struct container *k)
{
	for (size_t i = 0; i < k->info.n_binds; i++) {
		struct spec_bind *b = &k->info.binds[i];
		_cleanup_free_ char *name = xasprintf("s%zu", i);
		char *path = host_socket_find(b->source);

		b->socket = path;
		if (!path)
			continue;
		free(b->source);
		b->source = path;
		if (!k->sockets)
			k->sockets = sockets_new(k);
		sockets_add(k->sockets, name, b->source);
	}
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
	if (r >= 0) {
		network_find_host(&k->info);
		find_sockets(k);
		shm_find(&k->info);
	}
	return r < 0 ? r : shim_configure(k->shim, &k->info, err);
}

/* Its root file system as the host sees it: an O_PATH descriptor, owned by the caller. */
static int add_files(struct container *k, struct error *err)
{
	const Containerd__CreateTaskRequest *q = k->request;
	_cleanup_free_ struct share_mount *mounts = xnew_n(struct share_mount, q->n_rootfs + 1);
	_cleanup_free_ char *plain = xasprintf("%s/rootfs", k->bundle);
	const char *path = json_string(json_get(json_get(k->spec, "root"), "path"));
	int r;

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
	/* A machine that runs already gets no more disks: shape micro has no bus that could be told. */
	r = root_find(mounts, q->n_rootfs, k->info.role == SPEC_ALONE && !k->shim->vm ? ROOT_DISKS_MAX : 0, &k->root,
		      err);
	if (r < 0)
		return r;
	r = share_add(k->shim->share, k->id, mounts, k->root ? 0 : q->n_rootfs, k->root ? NULL : plain, &k->info, err);
	if (r >= 0 && k->root)
		r = share_add_root(k->shim->share, k->id, k->root, err);
	if (r < 0)
		return r;
	k->shared = true;
	r = share_root(k->shim->share, k->id);
	return r < 0 ? error_set_errno(err, r, "container '%s': cannot open its root file system", k->id) : r;
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
	int r = shim_need_vm(k->shim, &k->info, k->root, k->holder.netns, netns, err);

	if (r >= 0 && vm_agent(k->shim->vm))
		container_vm_ready(k);
	return r;
}

/* What its hooks set up is taken down by others of them, also when this process does not live to run those. */
static int record_hooks(struct container *k, struct error *err)
{
	struct shim *s = k->shim;
	int r;

	if (!json_get(k->spec, "hooks") || !streq(k->id, s->id))
		return 0;
	r = fault_point("shim.hooks.record");
	if (r < 0)
		return error_set_errno(err, r, "%s: cannot record", k->id);
	s->record.hooked = xstrdup(k->id);
	return shim_record_write(s->bundle_fd, &s->record, err);
}

static void run_poststop(struct container *k)
{
	struct shim *s = k->shim;
	_cleanup_error_ struct error e = {};

	if (!k->spec)
		return;
	if (hooks_run(k->spec, "poststop", k->id, "stopped", 0, k->bundle, &e) < 0)
		log_warning("%s: %s, ignoring", k->id, e.msg);
	if (!s->record.hooked || !streq(s->record.hooked, k->id))
		return;
	free(s->record.hooked);
	s->record.hooked = NULL;
	(void)shim_record_write(s->bundle_fd, &s->record, NULL);
}

/* Everything that the host does for it. */
static int prepare(struct container *k, struct error *err)
{
	_cleanup_close_ int root = -EBADF;
	struct process *init;
	int r = read_spec(k, err);

	if (r < 0)
		return r;
	k->sandbox = k->info.role == SPEC_SANDBOX;
	oom_score_follow(k->shim);
	if (!k->sandbox)
		r = root = add_files(k, err);
	if (r >= 0)
		r = holder_start(k->info.netns, k->info.host_net, root, &k->holder, err);
	if (r >= 0)
		r = record_hooks(k, err);
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

/* It may be made yet, when nobody knows of it any more. */
static void unmake(struct container *k)
{
	Skerry__Agent__V1__ContainerRequest q = SKERRY__AGENT__V1__CONTAINER_REQUEST__INIT;

	q.id = k->id;
	(void)guest_call(k->shim, "DeleteContainer", &q.base, NULL, NULL, NULL);
}

static void on_made(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct container *k = data;
	_cleanup_error_ struct error e = {};

	(void)payload;
	(void)len;
	k->making = 0;
	if (guest_lost(k->shim, err))
		return;
	if (err) {
		if (err->num == ETIMEDOUT)
			unmake(k);
		guest_error(k->shim, err, "make the container", &e);
		make_failed(k, &e);
		return;
	}
	k->made = true;
	container_init(k)->made = true;
	if (k->sockets)
		sockets_start(k->sockets);
	if (process_watch(container_init(k), &e) < 0) {
		make_failed(k, &e);
		return;
	}
	if (k->create)
		created(k);
	if (!process_kill_made(container_init(k)) && container_init(k)->start)
		process_start_made(container_init(k));
}

/* The guest makes them as the host has them: who may connect to one may do so here. */
static void tell_sockets(const struct container *k, Skerry__Agent__V1__CreateContainerRequest *q)
{
	struct stat st;

	q->sockets = xnew_n(Skerry__Agent__V1__ContainerSocket *, k->info.n_binds + 1);
	for (size_t i = 0; i < k->info.n_binds; i++) {
		Skerry__Agent__V1__ContainerSocket *m;
		_cleanup_close_ int fd = -EBADF;

		if (!k->info.binds[i].socket)
			continue;
		m = xnew(Skerry__Agent__V1__ContainerSocket);
		skerry__agent__v1__container_socket__init(m);
		m->name = xasprintf("s%zu", i);
		fd = host_socket_open(k->info.binds[i].source, &st);
		if (fd >= 0) {
			m->mode = st.st_mode & 0777;
			m->uid = st.st_uid;
			m->gid = st.st_gid;
		}
		q->sockets[q->n_sockets++] = m;
	}
}

static void forget_sockets(Skerry__Agent__V1__CreateContainerRequest *q)
{
	for (size_t i = 0; i < q->n_sockets; i++) {
		free(q->sockets[i]->name);
		free(q->sockets[i]);
	}
	free(q->sockets);
}

static const struct json *parameters_of_pod(const struct container *k)
{
	for (const struct container *c = k->info.role == SPEC_MEMBER ? k->shim->containers : NULL; c; c = c->next)
		if (c->sandbox)
			return json_get(json_get(c->spec, "linux"), "sysctl");
	return k->info.role == SPEC_MEMBER ? k->shim->parameters : NULL;
}

void container_vm_ready(struct container *k)
{
	_cleanup_free_ char *share = xasprintf(VM_SHARE_GUEST "/%s", k->id);
	_cleanup_free_ char *below = xasprintf(VM_ROOT_GUEST "/%s", k->id), *root = NULL;
	Skerry__Agent__V1__CreateContainerRequest q = SKERRY__AGENT__V1__CREATE_CONTAINER_REQUEST__INIT;
	_cleanup_free_ char *own = xasprintf(VM_CONTAINER_GUEST "/%s", k->id);
	_cleanup_free_ char *shm = xasprintf(VM_SHM_GUEST "/%s", k->id);
	struct spec_places places = {
		.id = k->id, .share = share, .sockets = own, .shm = shm, .parameters = parameters_of_pod(k)
	};
	struct process *init = container_init(k);
	const struct json *size = json_get(json_get(k->spec, "process"), "consoleSize");
	_cleanup_buf_ struct buf spec = {};
	_cleanup_error_ struct error e = {};
	uint64_t n;

	if ((!k->create && !init->start) || k->made || k->making || k->sandbox)
		return;
	root = k->root ? root_tell(k->root, share, below, &q) : xasprintf("%s/rootfs", share);
	places.root = root;
	spec_for_guest(k->spec, &k->info, &places, vm_resolves(k->shim->vm), &spec);
	tell_sockets(k, &q);
	shm_tell(k, &q);
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
	forget_sockets(&q);
	root_forget(&q);
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

	k->sockets = sockets_free(k->sockets);
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
	_cleanup_error_ struct error e = {};

	(void)payload;
	(void)len;
	k->making = 0;
	k->releasing = false;
	if (guest_lost(k->shim, err))
		return;
	if (err) {
		guest_error(k->shim, err, "delete the container", &e);
		log_warning("%s: %s, ignoring", k->id, e.msg);
	}
	k->made = false;
	if (k->deletion)
		container_deleted(k);
}

static bool ask_deletion(struct container *k)
{
	Skerry__Agent__V1__ContainerRequest q = SKERRY__AGENT__V1__CONTAINER_REQUEST__INIT;

	q.id = k->id;
	k->making = guest_call(k->shim, "DeleteContainer", &q.base, on_deleted, k, NULL);
	if (k->making > 0)
		return true;
	k->making = 0;
	return false;
}

void container_release(struct container *k)
{
	if (k->made && !k->making && vm_agent(k->shim->vm))
		k->releasing = ask_deletion(k);
}

void container_delete(struct container *k, struct call *c)
{
	struct process *init = container_init(k);

	if (k->create || k->deletion) {
		call_failf(c, EBUSY, "container '%s' is being %s", k->id, k->create ? "created" : "deleted");
		return;
	}
	if (init->started && !init->published) {
		call_failf(c, EBUSY, "container '%s': cannot delete a running process", k->id);
		return;
	}
	k->deletion = c;
	if (k->releasing || (k->made && vm_agent(k->shim->vm) && ask_deletion(k)))
		return;
	container_deleted(k);
}

void container_free(struct container *k)
{
	struct shim *s = k->shim;

	for (struct container **p = &s->containers; *p; p = &(*p)->next)
		if (*p == k) {
			*p = k->next;
			break;
		}
	guest_cancel(s, k->making);
	k->sockets = sockets_free(k->sockets);
	while (k->processes)
		process_free(k->processes);
	if (k->shared)
		share_remove(s->share, k->id);
	holder_end(&k->holder);
	run_poststop(k);
	if (k->create)
		call_failf(k->create, ECANCELED, "the shim ends");
	if (k->deletion)
		call_failf(k->deletion, ECANCELED, "the shim ends");
	message_free(k->request);
	json_free(k->spec);
	root_free(k->root);
	spec_info_done(&k->info);
	oom_score_follow(s);
	free(k->id);
	free(k->bundle);
	free(k);
}
