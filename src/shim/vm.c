#include "shim/vm.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "agent.pb-c.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "base/process.h"
#include "base/spawn.h"
#include "image/kernel.h"
#include "machine/agent_link.h"
#include "machine/client.h"
#include "machine/console.h"
#include "machine/launch.h"
#include "machine/virtiofs.h"
#include "engine/host_cgroup.h"
#include "shim/network.h"
#include "wire/message.h"

enum { LAST_ROUNDS_MAX = 64, CONSOLE_TAIL = 2048 };

struct vm {
	struct loop *loop;
	char *name, *id;
	const struct vm_events *events;
	void *data;
	struct shim_record *record; /* borrowed */
	int bundle_fd;              /* borrowed */
	int dir_fd, log_fd;         /* owned: BUNDLE/vm */

	const struct engine *engine;
	struct accel_probe probe;
	enum accel accel;
	char *program, *kernel_path, *initrd_path;
	struct kernel_meta kernel;
	struct engine_plan plan;
	struct vm_size size;

	struct vm_network network;
	int helper_pidfd;

	int share_pidfd, share_fd, engine_pidfd;
	struct loop_source *engine_source, *share_source, *helper_source;
	struct engine_vm *control;
	struct console *console;
	struct agent_link *agent;
	uint8_t token[SYNC_TOKEN_SIZE];
	bool ready, ended, killed, panicked;
};

static int record_step(struct vm *vm, const char *label, struct error *err)
{
	_cleanup_free_ char *before = xasprintf("shim.%s.record", label), *after = xasprintf("shim.%s.acquire", label);
	int r = fault_point(before);

	if (r < 0)
		return error_set_errno(err, r, "%s: cannot record", vm->name);
	r = shim_record_write(vm->bundle_fd, vm->record, err);
	if (r < 0)
		return r;
	r = fault_point(after);
	return r < 0 ? error_set_errno(err, r, "%s: cannot start", vm->name) : 0;
}

static int identify(pid_t pid, uint64_t *ret_pid, uint64_t *ret_start)
{
	struct process_id id;
	int r = process_identify(pid, &id);

	if (r < 0)
		return r;
	*ret_pid = (uint64_t)id.pid;
	*ret_start = id.start_time;
	return 0;
}

static int record_share(pid_t pid, void *data)
{
	struct vm *vm = data;
	int r = identify(pid, &vm->record->share_pid, &vm->record->share_start);

	host_cgroup_add(&vm->record->cgroups, pid);

	return r < 0 ? r : record_step(vm, "share", NULL);
}

static int record_engine(pid_t pid, void *data)
{
	struct vm *vm = data;
	int r = identify(pid, &vm->record->engine_pid, &vm->record->engine_start);

	host_cgroup_add(&vm->record->cgroups, pid);

	return r < 0 ? r : record_step(vm, "engine", NULL);
}

/* ---- What it is made of ---- */

static int find_kernel(struct vm *vm, const struct store *s, const struct vm_request *q, struct error *err)
{
	_cleanup_free_ char *crun = program_find("crun");
	int r;

	if (!crun) {
		error_set_kind(err, ERROR_UNAVAILABLE, ENOENT, "crun: not installed");
		return error_hint(err, "apt-get install crun");
	}
	r = q->spec->kernel ? kernel_find(s, q->spec->kernel, &vm->kernel, err) : kernel_default(s, &vm->kernel, err);
	if (r < 0)
		return r;
	vm->kernel_path = kernel_file_path(s, &vm->kernel);
	return kernel_container_initrd_path(s, &vm->kernel, q->guest, crun, &vm->initrd_path, err);
}

static int gather(struct vm *vm, const struct vm_request *q, struct error *err)
{
	_cleanup_store_ struct store s = {};
	int r = store_open(&s, err);

	if (r < 0)
		return r;
	vm->engine = engine_find("qemu");
	r = vm->engine->find_program(&vm->program, err);
	if (r >= 0)
		r = find_kernel(vm, &s, q, err);
	if (r < 0)
		return r;
	accel_probe(s.cache_fd, vm->program, &vm->probe);
	return accel_resolve(q->spec->accel, &vm->probe, &vm->accel, err);
}

static int make_plan(struct vm *vm, const struct vm_request *q, const char *run_dir, struct error *err)
{
	static const struct engine_share shares[] = { { VM_SHARE_TAG } };
	_cleanup_free_ char *uuid =
		xasprintf("%.8s-%.4s-%.4s-%.4s-%.12s", vm->id, vm->id + 8, vm->id + 12, vm->id + 16, vm->id + 20);
	struct engine_request req = {
		.name = "skerry",
		.uuid = uuid,
		.shape = vm->kernel.modular   ? SHAPE_FULL
			 : q->spec->has_shape ? q->spec->shape
					      : SHAPE_MICRO,
		.accel = vm->accel,
		.cpu_model = vm->accel == ACCEL_KVM && *vm->probe.cpu_model ? vm->probe.cpu_model : NULL,
		.tsc_khz = vm->probe.tsc_khz,
		.cpus = vm->size.max_cpus,
		.start_cpus = vm->size.start_cpus,
		.memory_bytes = vm->size.max_memory_bytes,
		.shared_memory = true,
		.kernel_path = vm->kernel_path,
		.initrd_path = vm->initrd_path,
		.kernel_modular = vm->kernel.modular,
		.nics = vm->network.nics,
		.n_nics = vm->network.n,
		.shares = shares,
		.n_shares = ARRAY_SIZE(shares),
		.run_dir = run_dir,
		.sandbox = true,
	};

	return vm->engine->plan(&req, vm->program, &vm->plan, err);
}

/* ---- What it is told ---- */

static void pack_config(struct vm *vm, const struct spec_info *spec, struct buf *out)
{
	uint8_t seed[32] = { 0 };
	char tag[] = VM_SHARE_TAG, target[] = VM_SHARE_GUEST, hostname[] = "skerry";
	Skerry__Agent__V1__Share share = SKERRY__AGENT__V1__SHARE__INIT, *shares[] = { &share };
	Skerry__Agent__V1__BootConfig c = SKERRY__AGENT__V1__BOOT_CONFIG__INIT;

	(void)!getrandom(seed, sizeof(seed), 0);
	c.token = (ProtobufCBinaryData){ sizeof(vm->token), vm->token };
	c.random_seed = (ProtobufCBinaryData){ sizeof(seed), seed };
	c.realtime_ns = clock_realtime_ns();
	c.hostname = spec->hostname && *spec->hostname ? spec->hostname : hostname;
	c.machine_id = vm->id;
	c.init = SKERRY__AGENT__V1__BOOT_CONFIG__INIT__AGENT;
	c.reboot_to_power_off = vm->plan.reboot_powers_off;
	share.tag = tag;
	share.target = target;
	c.shares = shares;
	c.n_shares = 1;
	network_tell(&vm->network, &c);
	message_pack(out, &c.base);
	explicit_bzero(seed, sizeof(seed));
}

static int boot_memfd(struct vm *vm, const struct spec_info *spec, struct error *err)
{
	_cleanup_close_ int fd = memfd_create("skerry-boot", MFD_CLOEXEC);
	_cleanup_buf_ struct buf packed = {};
	int r;

	if (fd < 0 || getrandom(vm->token, sizeof(vm->token), 0) != (ssize_t)sizeof(vm->token))
		return error_set_errno(err, errno ? errno : EIO, "%s: cannot hold the boot configuration", vm->name);
	pack_config(vm, spec, &packed);
	r = write_full(fd, packed.p, packed.len);
	explicit_bzero(packed.p, packed.len);
	return r < 0 ? error_set_errno(err, r, "%s: cannot hold the boot configuration", vm->name) : TAKE_FD(fd);
}

/* ---- How it ends ---- */

/* The last lines of the console, for the log: what a panic says is there. */
static void log_console(struct vm *vm)
{
	_cleanup_close_ int fd = openat(vm->dir_fd, "console.log", O_RDONLY | O_CLOEXEC);
	char raw[CONSOLE_TAIL + 1], *save = NULL;
	off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	ssize_t n = size <= 0 ? -1 : pread(fd, raw, CONSOLE_TAIL, size > CONSOLE_TAIL ? size - CONSOLE_TAIL : 0);

	if (n <= 0)
		return;
	raw[n] = '\0';
	for (char *line = strtok_r(raw, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save))
		log_warning("%s: console: %s", vm->name, line);
}

static void ended(struct vm *vm, const char *reason)
{
	if (vm->ended)
		return;
	vm->ended = true;
	vm->ready = false;
	vm->agent = agent_link_free(vm->agent);
	if (!vm->killed)
		log_console(vm);
	vm->events->ended(reason, vm->data);
}

static int on_engine_exit(struct loop_source *s, int pidfd, void *data)
{
	struct vm *vm = data;
	char how[64], reason[160];
	int status = 0;

	(void)s;
	(void)pidfd_reap(pidfd, &status);
	vm->engine_source = loop_source_free(vm->engine_source);
	vm->engine_pidfd = safe_close(vm->engine_pidfd);
	if (vm->panicked)
		(void)snprintf(reason, sizeof(reason), "the guest's kernel panicked");
	else
		(void)snprintf(reason, sizeof(reason), "the virtual machine ended: %s %s", vm->engine->name,
			       wait_status_text(status, how, sizeof(how)));
	ended(vm, reason);
	return 0;
}

static int on_share_exit(struct loop_source *s, int pidfd, void *data)
{
	struct vm *vm = data;

	(void)s;
	(void)pidfd_reap(pidfd, NULL);
	vm->share_source = loop_source_free(vm->share_source);
	vm->share_pidfd = safe_close(vm->share_pidfd);
	/* Without its files the guest can only hang. */
	if (!vm->ended && !vm->killed) {
		log_error("%s: the server of its files has ended", vm->name);
		vm_kill(vm);
	}
	return 0;
}

static int on_helper_exit(struct loop_source *s, int pidfd, void *data)
{
	struct vm *vm = data;

	(void)s;
	(void)pidfd_reap(pidfd, NULL);
	vm->helper_source = loop_source_free(vm->helper_source);
	vm->helper_pidfd = safe_close(vm->helper_pidfd);
	if (!vm->ended && !vm->killed)
		log_error("%s: the network's helper has ended: the guest is off the network", vm->name);
	return 0;
}

static void on_engine_event(enum engine_event ev, const char *detail, void *data)
{
	struct vm *vm = data;

	(void)detail;
	if (ev == ENGINE_EVENT_PANIC)
		vm->panicked = true;
}

static void on_engine_ready(const struct error *err, uint64_t value, void *data)
{
	struct vm *vm = data;

	(void)value;
	if (err)
		log_error("%s: engine: %s", vm->name, err->msg);
	else if (vm->size.start_memory_bytes < vm->size.max_memory_bytes)
		vm_set_memory(vm, vm->size.start_memory_bytes);
}

static void on_agent_ready(const char *version, const char *error, void *data)
{
	struct vm *vm = data;

	(void)version;
	vm->ready = true;
	vm->events->ready(error, vm->data);
}

static void on_agent_ending(enum agent_ending how, void *data)
{
	(void)how;
	(void)data;
}

static void on_agent_lost(void *data)
{
	struct vm *vm = data;

	vm->ready = false;
}

static const struct agent_link_events agent_events = {
	.ready = on_agent_ready,
	.ending = on_agent_ending,
	.lost = on_agent_lost,
};

/* ---- Starting ---- */

/* Where the engine and the file server are accounted. The container's limits hold inside the guest. */
static int make_cgroup(struct vm *vm, const struct spec_info *spec, struct error *err)
{
	int r = spec->cgroup && *spec->cgroup ? host_cgroup_plan(spec->cgroup, &vm->record->cgroups, err) : 0;

	if (r < 0)
		return error_prefix(err, "config.json: linux.cgroupsPath");
	r = record_step(vm, "cgroup", err);
	if (r >= 0)
		host_cgroup_make(&vm->record->cgroups);
	return r;
}

static int start_share(struct vm *vm, const char *directory, struct error *err)
{
	struct virtiofs_request q = {
		.directory = directory,
		.log_fd = vm->log_fd,
		.death_signal = SIGKILL,
		.on_pid = record_share,
		.data = vm,
	};
	int r = virtiofs_start(&q, &vm->share_fd, &vm->share_pidfd, err);

	if (r < 0)
		return r;
	r = loop_add_child(vm->loop, &vm->share_source, vm->share_pidfd, on_share_exit, vm);
	return r < 0 ? error_set_errno(err, r, "%s: cannot watch virtiofsd", vm->name) : 0;
}

static int start_network(struct vm *vm, struct error *err)
{
	pid_t pid = 0;
	int r = network_start(&vm->network, &pid, &vm->helper_pidfd, err);

	if (r < 0)
		return r;
	if (pid > 0 && identify(pid, &vm->record->helper_pid, &vm->record->helper_start) >= 0) {
		r = record_step(vm, "network", err);
		if (r < 0)
			return r;
	}
	if (vm->helper_pidfd >= 0)
		(void)loop_add_child(vm->loop, &vm->helper_source, vm->helper_pidfd, on_helper_exit, vm);
	return 0;
}

static int start_engine(struct vm *vm, const struct spec_info *spec, struct error *err)
{
	_cleanup_(engine_fds_done) struct engine_fds fds = {};
	_cleanup_close_ int boot_fd = boot_memfd(vm, spec, err);
	struct engine_launch l = {
		.what = vm->name,
		.id = vm->id,
		.plan = &vm->plan,
		.accel = vm->accel,
		.run_fd = vm->dir_fd,
		.log_fd = vm->log_fd,
		.boot_fd = boot_fd,
		.nic_fds = vm->network.fds,
		.n_nic_fds = vm->network.n,
		.share_fds = &vm->share_fd,
		.n_share_fds = 1,
		.death_signal = SIGKILL,
		.on_pid = record_engine,
		.data = vm,
	};
	uint64_t uid;
	int r;

	if (boot_fd < 0)
		return boot_fd;
	r = engine_fds_open(&l, &fds, err);
	if (r >= 0)
		r = engine_launch(&l, &fds, &uid, &vm->engine_pidfd, err);
	if (r < 0)
		return r;
	/* Theirs now: it is by the other ends' closing that the helpers learn of the engine's end. */
	vm->share_fd = safe_close(vm->share_fd);
	network_close_fds(&vm->network);
	r = loop_add_child(vm->loop, &vm->engine_source, vm->engine_pidfd, on_engine_exit, vm);
	return r < 0 ? error_set_errno(err, r, "%s: cannot watch its engine", vm->name) : 0;
}

static int connect_one(struct vm *vm, const char *name, struct error *err)
{
	int fd = unix_connect_at(vm->dir_fd, name);

	return fd < 0 ? error_set_errno(err, fd, "%s: cannot connect to %s", vm->name, name) : fd;
}

static int connect_engine(struct vm *vm, struct error *err)
{
	int fd = connect_one(vm, vm->engine->control_socket, err), r;

	if (fd < 0)
		return fd;
	r = vm->engine->connect(vm->loop, fd, on_engine_event, on_engine_ready, vm, &vm->control, err);
	if (r < 0)
		return r;
	fd = connect_one(vm, vm->engine->console_socket, err);
	if (fd < 0)
		return fd;
	r = console_new(vm->loop, fd, vm->dir_fd, vm->dir_fd, &vm->console);
	if (r < 0)
		return error_set_errno(err, r, "%s: cannot serve its console", vm->name);
	fd = connect_one(vm, vm->engine->agent_socket, err);
	if (fd < 0)
		return fd;
	r = agent_link_new(vm->loop, fd, vm->token, &agent_events, vm, &vm->agent);
	return r < 0 ? error_set_errno(err, r, "%s: cannot reach the agent's socket", vm->name) : 0;
}

static int open_dir(struct vm *vm, struct error *err)
{
	int r = mkdir_parents_at(vm->bundle_fd, "vm", 0700);

	if (r >= 0) {
		vm->dir_fd = openat(vm->bundle_fd, "vm", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = vm->dir_fd < 0 ? -errno : 0;
	}
	if (r >= 0) {
		vm->log_fd = openat(vm->dir_fd, "engine.log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		r = vm->log_fd < 0 ? -errno : 0;
	}
	return r < 0 ? error_set_errno(err, r, "%s: cannot make its directory", vm->name) : 0;
}

/* 32 hex digits that are the VM's alone: machine id, MAC addresses and the engine's user come from them. */
static char *random_id(void)
{
	uint8_t raw[16] = { 0 };
	struct buf hex = {};

	(void)!getrandom(raw, sizeof(raw), 0);
	for (size_t i = 0; i < sizeof(raw); i++)
		buf_addf(&hex, "%02x", raw[i]);
	return buf_take(&hex);
}

int vm_start(struct loop *l, const struct vm_request *q, struct shim_record *record, const struct vm_events *events,
	     void *data, struct vm **ret, struct error *err)
{
	_cleanup_free_ char *run_dir = xasprintf("%s/vm", q->bundle);
	struct vm *vm = xnew(struct vm);
	int r;

	*vm = (struct vm){ .network = { .netns_fd = -EBADF },
			   .loop = l,
			   .size = *q->size,
			   .name = xstrdup(q->name),
			   .id = random_id(),
			   .events = events,
			   .data = data,
			   .record = record,
			   .bundle_fd = q->bundle_fd,
			   .dir_fd = -EBADF,
			   .log_fd = -EBADF,
			   .helper_pidfd = -EBADF,

			   .share_pidfd = -EBADF,
			   .share_fd = -EBADF,
			   .engine_pidfd = -EBADF };
	r = open_dir(vm, err);
	if (r >= 0)
		r = gather(vm, q, err);
	if (r >= 0)
		r = network_plan(&vm->network, q->spec, q->netns_fd, q->netns, q->id, vm->id, vm->log_fd, q->bundle_fd,
				 record, err);
	if (r >= 0)
		r = make_plan(vm, q, run_dir, err);
	if (r >= 0)
		r = make_cgroup(vm, q->spec, err);
	if (r >= 0)
		r = start_share(vm, q->share_dir, err);
	if (r >= 0)
		r = start_network(vm, err);
	if (r >= 0)
		r = start_engine(vm, q->spec, err);
	if (r >= 0)
		r = connect_engine(vm, err);
	if (r < 0) {
		vm_free(vm);
		return r;
	}
	*ret = vm;
	return 0;
}

struct rpc *vm_agent(const struct vm *vm)
{
	return vm && vm->ready ? agent_link_rpc(vm->agent) : NULL;
}

pid_t vm_pid(const struct vm *vm)
{
	return vm ? (pid_t)vm->record->engine_pid : 0;
}

bool vm_resolves(const struct vm *vm)
{
	return vm->network.dns.n > 0;
}

void vm_kill(struct vm *vm)
{
	vm->killed = true;
	if (vm->engine_pidfd >= 0)
		(void)pidfd_kill(vm->engine_pidfd, SIGKILL);
}

static void on_paused(const struct error *err, uint64_t value, void *data)
{
	struct vm *vm = data;

	(void)value;
	if (err)
		log_warning("%s: pause: %s", vm->name, err->msg);
}

void vm_pause(struct vm *vm, bool paused)
{
	if (!vm->control)
		return;
	if (paused)
		vm->engine->pause(vm->control, on_paused, vm);
	else
		vm->engine->resume(vm->control, on_paused, vm);
}

static void on_memory_set(const struct error *err, uint64_t value, void *data)
{
	struct vm *vm = data;

	(void)value;
	if (err && err->num != ECANCELED)
		log_warning("%s: its memory: %s", vm->name, err->msg);
}

void vm_set_memory(struct vm *vm, uint64_t bytes)
{
	if (vm->control && !vm->ended)
		vm->engine->set_balloon(vm->control, bytes, on_memory_set, vm);
}

void vm_memory(struct vm *vm, engine_done_fn done, void *data)
{
	if (vm->control && !vm->ended)
		vm->engine->balloon_bytes(vm->control, done, data);
	else
		done(&(const struct error){ .num = ENOTCONN }, 0, data);
}

static int end_child(int pidfd)
{
	if (pidfd < 0)
		return -EBADF;
	(void)pidfd_kill(pidfd, SIGKILL);
	(void)pidfd_wait_exit(pidfd, clock_monotonic_ns() + 2 * NS_PER_SEC);
	(void)pidfd_reap(pidfd, NULL);
	return safe_close(pidfd);
}

struct vm *vm_free(struct vm *vm)
{
	if (!vm)
		return NULL;
	vm->ended = true;
	loop_source_free(vm->engine_source);
	loop_source_free(vm->share_source);
	loop_source_free(vm->helper_source);
	agent_link_free(vm->agent);
	if (vm->control)
		vm->engine->vm_free(vm->control);
	end_child(vm->engine_pidfd);
	end_child(vm->share_pidfd);
	end_child(vm->helper_pidfd);
	console_free(vm->console);
	network_release(&vm->network);
	engine_plan_done(&vm->plan);
	kernel_meta_done(&vm->kernel);
	safe_close(vm->share_fd);
	safe_close(vm->log_fd);
	safe_close(vm->dir_fd);
	free(vm->program);
	free(vm->kernel_path);
	free(vm->initrd_path);
	explicit_bzero(vm->token, sizeof(vm->token));
	free(vm->name);
	free(vm->id);
	free(vm);
	return NULL;
}
