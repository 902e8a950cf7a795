#include "shim/vm.h"

#include <fcntl.h>
#include <signal.h>
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
#include "machine/client.h"
#include "machine/virtiofs.h"
#include "shim/oom_score.h"
#include "shim/vm_parts.h"
#include "wire/message.h"

/* What the engine of a pod takes beside the guest's memory is in a cgroup that has little more than the limits (deploy/kubernetes). */
#define TRANSLATIONS_BYTES (UINT64_C(32) << 20)
/* What is killed gives back its memory first, which on a busy host takes a while. */
#define KILLED_NS (10 * NS_PER_SEC)
#define SHARE_NS  (2 * NS_PER_SEC)

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
	oom_score_set(pid, vm->oom_score);

	return r < 0 ? r : record_step(vm, "share", NULL);
}

static int record_engine(pid_t pid, void *data)
{
	struct vm *vm = data;
	int r = identify(pid, &vm->record->engine_pid, &vm->record->engine_start);

	host_cgroup_add(&vm->record->cgroups, pid);
	oom_score_set(pid, vm->oom_score);

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

static size_t list_disks(const struct root *root, struct engine_disk disks[ROOT_DISKS_MAX], struct strv *serials)
{
	size_t n = 0;

	for (size_t i = 0; root && i < root->n_files && n < ROOT_DISKS_MAX; i++) {
		const struct root_file *f = &root->files[i];

		if (!f->disk)
			continue;
		strv_take(serials, root_serial(i));
		disks[n++] = (struct engine_disk){
			.path = f->path, .format = "raw", .read_only = f->read_only, .block_device = f->block_device
		};
	}
	for (size_t i = 0; i < n; i++)
		disks[i].id = serials->items[i];
	return n;
}

static int make_plan(struct vm *vm, const struct vm_request *q, const char *run_dir, struct error *err)
{
	static const struct engine_share shares[] = { { VM_SHARE_TAG } };
	_cleanup_free_ char *uuid =
		xasprintf("%.8s-%.4s-%.4s-%.4s-%.12s", vm->id, vm->id + 8, vm->id + 12, vm->id + 16, vm->id + 20);
	_cleanup_strv_ struct strv serials = {};
	struct engine_disk disks[ROOT_DISKS_MAX];
	size_t n_disks = list_disks(q->root, disks, &serials);
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
		.translations_bytes = q->spec->role == SPEC_ALONE ? 0 : TRANSLATIONS_BYTES,
		.shared_memory = true,
		.kernel_path = vm->kernel_path,
		.initrd_path = vm->initrd_path,
		.kernel_modular = vm->kernel.modular,
		.disks = disks,
		.n_disks = n_disks,
		.nics = vm->network.nics,
		.n_nics = vm->network.n,
		.shares = shares,
		.n_shares = ARRAY_SIZE(shares),
		.run_dir = run_dir,
		.sandbox = true,
	};

	/* Disks beside many interfaces may be more than micro has slots for. */
	if (n_disks && !q->spec->has_shape && vm->engine->plan(&req, vm->program, &vm->plan, NULL) >= 0)
		return 0;
	if (n_disks && !q->spec->has_shape)
		req.shape = SHAPE_FULL;
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

/* ---- Starting ---- */

/* Where the engine, the file server and the network's helper are accounted. The container's limits hold inside the guest. */
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

	return r < 0 ? r : vm_watch_share(vm, err);
}

static int start_network(struct vm *vm, struct error *err)
{
	pid_t pid = 0;
	int r = network_start(&vm->network, &pid, &vm->helper_pidfd, err);

	if (r < 0)
		return r;
	if (pid > 0 && identify(pid, &vm->record->helper_pid, &vm->record->helper_start) >= 0) {
		host_cgroup_add(&vm->record->cgroups, pid);
		oom_score_set(pid, vm->oom_score);
		r = record_step(vm, "network", err);
		if (r < 0)
			return r;
	}
	vm_watch_helper(vm);
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
	return vm_watch_engine(vm, err);
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
	r = vm_watch_control(vm, fd, err);
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
	return vm_watch_agent(vm, fd, err);
}

static int open_dir(struct vm *vm, struct error *err)
{
	int r = mkdir_parents_at(vm->bundle_fd, "vm", 0700);

	if (r >= 0) {
		vm->dir_fd = openat(vm->bundle_fd, "vm", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = vm->dir_fd < 0 ? -errno : 0;
	}
	if (r >= 0)
		r = vm->log_fd = engine_log_open(vm->dir_fd);
	if (r >= 0)
		r = engine_log_watch(vm->loop, vm->dir_fd, vm->log_fd, &vm->log_watch);
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
			   .boot_ns = q->boot_ns,
			   .oom_score = q->spec->oom_score,
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

void vm_cancel(struct vm *vm, int call)
{
	agent_link_cancel(vm->agent, call);
}

pid_t vm_pid(const struct vm *vm)
{
	return vm ? (pid_t)vm->record->engine_pid : 0;
}

bool vm_resolves(const struct vm *vm)
{
	return vm->network.dns.n > 0;
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

void vm_set_oom_score(struct vm *vm, int score)
{
	if (vm->ended || score == vm->oom_score)
		return;
	vm->oom_score = score;
	oom_score_set((pid_t)vm->record->engine_pid, score);
	if (vm->share_pidfd >= 0)
		oom_score_set((pid_t)vm->record->share_pid, score);
	if (vm->helper_pidfd >= 0)
		oom_score_set((pid_t)vm->record->helper_pid, score);
}

static int end_child(int pidfd)
{
	if (pidfd < 0)
		return -EBADF;
	(void)pidfd_kill(pidfd, SIGKILL);
	(void)pidfd_wait_exit(pidfd, clock_monotonic_ns() + KILLED_NS);
	(void)pidfd_reap(pidfd, NULL);
	return safe_close(pidfd);
}

/* virtiofsd ends with its engine. QEMU's is two processes, and ours is the one that waits for the other: killed, it would leave that one, and with it what
 * is mounted for the guest, until after our own end. */
static int end_share(struct vm *vm)
{
	vm->share_fd = safe_close(vm->share_fd);
	if (vm->share_pidfd >= 0)
		(void)pidfd_wait_exit(vm->share_pidfd, clock_monotonic_ns() + SHARE_NS);
	return end_child(vm->share_pidfd);
}

struct vm *vm_free(struct vm *vm)
{
	if (!vm)
		return NULL;
	vm->ended = true;
	loop_source_free(vm->overdue);
	loop_source_free(vm->engine_source);
	loop_source_free(vm->share_source);
	loop_source_free(vm->helper_source);
	guest_clock_free(vm->clock);
	agent_link_free(vm->agent);
	if (vm->control)
		vm->engine->vm_free(vm->control);
	end_child(vm->engine_pidfd);
	end_share(vm);
	end_child(vm->helper_pidfd);
	console_free(vm->console);
	network_release(&vm->network);
	engine_plan_done(&vm->plan);
	kernel_meta_done(&vm->kernel);
	engine_log_free(vm->log_watch);
	safe_close(vm->log_fd);
	safe_close(vm->dir_fd);
	free(vm->end_reason);
	free(vm->program);
	free(vm->kernel_path);
	free(vm->initrd_path);
	explicit_bzero(vm->token, sizeof(vm->token));
	free(vm->name);
	free(vm->id);
	free(vm);
	return NULL;
}
