/* A real kernel under a real QEMU on the planner's own command line: from start to the event that the guest has ended. The kernel is
 * $SKERRY_TEST_KERNEL (a vmlinux that needs no modules, or a path of kernel/build.sh's output). */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/process.h"
#include "base/spawn.h"
#include "disk/qcow2.h"
#include "engine/accel.h"
#include "engine/engine.h"
#include "engine/kvm_probe.h"
#include "image/cpio.h"
#include "test.h"

#define BOOT_TEXT   "the boot configuration"
#define DISK_TEXT   "sixteen bytes ok"
#define DEADLINE_NS (300 * NS_PER_SEC)
#define NOBODY      65534

struct vm {
	const struct engine *engine;
	struct loop *loop;
	struct engine_vm *control;
	struct engine_plan plan;
	int pidfd, console;
	int run_dir;
	int ready, shutdown, started, disconnected, paused, resumed;
	char shutdown_reason[64];
	char ready_error[256];
};

static void on_event(enum engine_event ev, const char *detail, void *data)
{
	struct vm *vm = data;

	vm->started += ev == ENGINE_EVENT_STARTED;
	vm->paused += ev == ENGINE_EVENT_PAUSED;
	vm->resumed += ev == ENGINE_EVENT_RESUMED;
	vm->disconnected += ev == ENGINE_EVENT_DISCONNECTED;
	if (ev == ENGINE_EVENT_SHUTDOWN) {
		vm->shutdown++;
		snprintf(vm->shutdown_reason, sizeof(vm->shutdown_reason), "%s", detail ? detail : "");
	}
}

static void on_ready(const struct error *err, uint64_t value, void *data)
{
	struct vm *vm = data;

	(void)value;
	vm->ready++;
	if (err)
		snprintf(vm->ready_error, sizeof(vm->ready_error), "%s", err->msg);
}

static char *kernel_path(void)
{
	const char *path = getenv("SKERRY_TEST_KERNEL");

	if (!path || access(path, R_OK) < 0)
		test_skip("no kernel: SKERRY_TEST_KERNEL is %s", path ? "not readable" : "not set");
	return realpath(path, NULL);
}

static void write_file(int dir, const char *name, const void *p, size_t n)
{
	ASSERT_OK(file_write_at(dir, name, p, n, 0444, 0));
}

static void make_initrd(int dir)
{
	_cleanup_buf_ struct buf init = {}, out = {};
	struct cpio c;

	ASSERT_OK(file_read_at(AT_FDCWD, THROWAWAY_INIT, 1 << 20, &init));
	cpio_begin(&c, &out);
	ASSERT_OK(cpio_add(&c, "dev", S_IFDIR | 0755, NULL, 0));
	ASSERT_OK(cpio_add_device(&c, "dev/console", S_IFCHR | 0600, 5, 1));
	ASSERT_OK(cpio_add(&c, "init", S_IFREG | 0755, init.p, init.len));
	cpio_end(&c);
	write_file(dir, "initrd", out.p, out.len);
}

static int open_planned(const struct vm *vm, const struct engine_fd *f)
{
	int fd = -1;

	switch (f->kind) {
	case ENGINE_FD_OPEN: fd = open(f->path, f->flags | O_CLOEXEC); break;
	case ENGINE_FD_LISTEN: fd = unix_listen_at(vm->run_dir, f->path, 1); break;
	case ENGINE_FD_BOOT:
		fd = memfd_create("boot", MFD_CLOEXEC);
		ASSERT_OK(write_full(fd, BOOT_TEXT, strlen(BOOT_TEXT)));
		break;
	case ENGINE_FD_NIC:
	case ENGINE_FD_SHARE:
	case ENGINE_FD_DIRECTORY:
	case ENGINE_FD_VHOST_VSOCK: test_fail(__FILE__, __LINE__, "not asked for");
	}
	if (fd < 0)
		test_fail(__FILE__, __LINE__, "%s: %s", f->path, strerror(errno));
	return fd;
}

/* The planned words, with firmware of ours in place of the kernel when @firmware (a list of words) is given. */
static void edit_argv(const struct engine_plan *plan, const struct strv *firmware, struct strv *ret)
{
	for (size_t i = 0; i < plan->argv.n; i++) {
		const char *w = plan->argv.items[i];

		if (firmware && (streq(w, "-kernel") || streq(w, "-initrd") || streq(w, "-append")))
			i++;
		else
			strv_add(ret, w);
	}
	if (firmware)
		strv_copy(ret, firmware);
}

static void start(struct vm *vm, struct engine_request *req, bool as_nobody, const struct strv *firmware)
{
	_cleanup_free_ char *program = NULL, *kernel = firmware ? xstrdup("/dev/null") : kernel_path();
	_cleanup_strv_ struct strv argv = {};
	_cleanup_free_ char *initrd = xasprintf("%s/initrd", test_tmpdir());
	_cleanup_free_ char *base = xasprintf("%s/base.raw", test_tmpdir());
	_cleanup_free_ char *delta = xasprintf("%s/system.qcow2", test_tmpdir());
	const struct engine_disk disk = {
		.id = "system", .path = delta, .format = "qcow2", .backing_path = base, .backing_format = "raw"
	};
	struct spawn s = SPAWN_INIT;
	struct spawn_fd fds[32];
	struct error e = {};
	char sector[4096] = DISK_TEXT;
	int control;

	vm->engine = engine_find("qemu");
	if (vm->engine->find_program(&program, &e) < 0)
		test_skip("%s", e.msg);
	vm->run_dir = open(test_tmpdir(), O_DIRECTORY | O_CLOEXEC);
	make_initrd(vm->run_dir);
	write_file(vm->run_dir, "base.raw", sector, sizeof(sector));
	ASSERT_OK(qcow2_create(vm->run_dir, "system.qcow2", 1 << 20, base, "raw", false, &e));
	req->name = "boot-test";
	req->uuid = "01234567-89ab-cdef-0123-456789abcdef";
	req->kernel_path = kernel;
	req->initrd_path = initrd;
	req->disks = &disk;
	req->n_disks = 1;
	req->run_dir = test_tmpdir();
	req->sandbox = true;
	if (vm->engine->plan(req, program, &vm->plan, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	ASSERT(vm->plan.n_fds <= ARRAY_SIZE(fds));
	for (size_t i = 0; i < vm->plan.n_fds; i++)
		fds[i] = (struct spawn_fd){ open_planned(vm, &vm->plan.fds[i]), vm->plan.fds[i].number };
	edit_argv(&vm->plan, firmware, &argv);
	s.argv = (const char *const *)argv.items;
	s.fds = fds;
	s.n_fds = vm->plan.n_fds;
	s.stdio[2] = 2;
	s.death_signal = 9;
	s.uid = s.gid = NOBODY;
	s.drop_privileges = as_nobody;
	if (spawn_start(&s, NULL, &vm->pidfd, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	for (size_t i = 0; i < vm->plan.n_fds; i++)
		close(fds[i].from);
	vm->console = unix_connect_at(vm->run_dir, vm->engine->console_socket);
	ASSERT_OK(vm->console);
	control = unix_connect_at(vm->run_dir, vm->engine->control_socket);
	ASSERT_OK(control);
	ASSERT_OK(loop_new(&vm->loop));
	ASSERT_OK(vm->engine->connect(vm->loop, control, on_event, on_ready, vm, &vm->control, &e));
}

/* Serves the control channel until *@flag, or fails at the deadline. */
static void until(struct vm *vm, const int *flag)
{
	uint64_t deadline = clock_monotonic_ns() + DEADLINE_NS;

	while (*flag == 0) {
		if (vm->ready_error[0])
			test_fail(__FILE__, __LINE__, "%s", vm->ready_error);
		if (clock_monotonic_ns() > deadline)
			test_fail(__FILE__, __LINE__, "the event did not come");
		ASSERT_OK(loop_step(vm->loop, deadline));
	}
}

static void finish(struct vm *vm)
{
	int status = -1;

	ASSERT_OK(pidfd_wait_exit(vm->pidfd, clock_monotonic_ns() + DEADLINE_NS));
	ASSERT_OK(pidfd_reap(vm->pidfd, &status));
	ASSERT_EQ(status, 0);
	vm->control = vm->engine->vm_free(vm->control);
	vm->loop = loop_free(vm->loop);
	engine_plan_done(&vm->plan);
	close(vm->pidfd);
	close(vm->console);
	close(vm->run_dir);
}

static void boots_to_its_end(enum engine_shape shape, bool as_nobody)
{
	struct engine_request req = {
		.shape = shape, .accel = ACCEL_TCG, .cpus = 1, .memory_bytes = UINT64_C(128) << 20
	};
	struct vm vm = {};
	char text[4096];
	ssize_t n;
	size_t len = 0;
	uint64_t begin = clock_monotonic_ns();

	req.command_line = shape == SHAPE_FULL ? "end=off" : "end=again";
	start(&vm, &req, as_nobody, NULL);
	ASSERT_EQ(vm.plan.reboot_powers_off, shape == SHAPE_MICRO);
	until(&vm, &vm.shutdown);
	printf("# %s: from start to shutdown %llu ms\n", engine_shape_name(shape),
	       (unsigned long long)((clock_monotonic_ns() - begin) / NS_PER_MS));
	ASSERT_STREQ(vm.shutdown_reason, shape == SHAPE_FULL ? "guest-shutdown" : "guest-reset");
	until(&vm, &vm.disconnected);
	ASSERT_EQ(vm.ready, 1);
	ASSERT_EQ(vm.started, 1);
	ASSERT_EQ(vm.shutdown, 1);
	ASSERT_EQ(vm.paused, 0);
	while (len < sizeof(text) - 1 && (n = read(vm.console, text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = 0;
	ASSERT_CONTAINS(text, "init: " BOOT_TEXT " disk " DISK_TEXT " end");
	finish(&vm);
}

TEST(micro_boots_reads_its_configuration_and_its_disk_and_ends)
{
	boots_to_its_end(SHAPE_MICRO, false);
}

TEST(full_boots_reads_its_configuration_and_its_disk_and_powers_off)
{
	boots_to_its_end(SHAPE_FULL, false);
}

TEST(micro_does_so_as_another_user_that_could_open_nothing_itself)
{
	if (geteuid() != 0)
		test_skip("only root can become another user");
	boots_to_its_end(SHAPE_MICRO, true);
}

static void on_done(const struct error *err, uint64_t value, void *data)
{
	int *state = data;

	(void)value;
	*state = err ? -1 : 1;
}

TEST(pause_resume_statistics_and_quit_work_on_a_running_machine)
{
	struct engine_request req = {
		.shape = SHAPE_MICRO, .accel = ACCEL_TCG, .cpus = 1, .memory_bytes = UINT64_C(128) << 20
	};
	struct vm vm = {};
	int done = 0;

	/* A kernel that finds no root panics; told to stay, it is a machine that runs on. */
	req.command_line = "rdinit=/nothing root=/dev/nothing panic=0";
	start(&vm, &req, false, NULL);
	until(&vm, &vm.ready);
	until(&vm, &vm.started);
	vm.engine->pause(vm.control, on_done, &done);
	until(&vm, &done);
	ASSERT_EQ(done, 1);
	until(&vm, &vm.paused);
	done = 0;
	vm.engine->resume(vm.control, on_done, &done);
	until(&vm, &done);
	until(&vm, &vm.resumed);
	done = 0;
	vm.engine->block_stats(vm.control, on_done, &done);
	until(&vm, &done);
	ASSERT_EQ(done, 1);
	done = 0;
	vm.engine->quit(vm.control, on_done, &done);
	until(&vm, &done);
	ASSERT_EQ(done, 1);
	until(&vm, &vm.disconnected);
	ASSERT_STREQ(vm.shutdown_reason, "host-qmp-quit");
	ASSERT_EQ(vm.paused, 1);
	finish(&vm);
}

/* Memory with the payload of the KVM proof, and a firmware whose reset vector jumps to it; what it reports goes to a file. */
static void payload_words(struct strv *words)
{
	static unsigned char mem[KVM_PROBE_MEMORY_BYTES], bios[65536];
	int dir = open(test_tmpdir(), O_DIRECTORY | O_CLOEXEC);

	kvm_probe_memory(mem);
	memset(bios, 0xf4, sizeof(bios));
	memcpy(bios + 0xfff0, (unsigned char[]){ 0xea, KVM_PROBE_START & 0xff, KVM_PROBE_START >> 8, 0, 0 }, 5);
	/* Not the whole: the end of the first MiB is the firmware. */
	write_file(dir, "mem", mem, 0x80000);
	write_file(dir, "bios", bios, sizeof(bios));
	close(dir);
	strv_add(words, "-bios");
	strv_addf(words, "%s/bios", test_tmpdir());
	strv_add(words, "-device");
	strv_addf(words, "loader,file=%s/mem,addr=0,force-raw=on", test_tmpdir());
	strv_add(words, "-chardev");
	strv_addf(words, "file,id=steps,path=%s/steps", test_tmpdir());
	strv_add(words, "-device");
	strv_add(words, "isa-debugcon,iobase=0xe9,chardev=steps");
}

TEST(the_kvm_command_line_runs_a_payload_as_far_as_the_proof_came)
{
	struct engine_request req = {
		.shape = SHAPE_MICRO, .accel = ACCEL_KVM, .cpus = 1, .memory_bytes = UINT64_C(128) << 20
	};
	uint64_t deadline = clock_monotonic_ns() + DEADLINE_NS;
	_cleanup_strv_ struct strv words = {};
	_cleanup_free_ char *program = program_find("qemu-system-x86_64");
	struct kvm_probe proof;
	struct vm vm = {};
	char model[64];
	struct stat st = {};
	int done = 0;

	if (access("/dev/kvm", R_OK | W_OK) < 0)
		test_skip("/dev/kvm cannot be opened: %s", strerror(errno));
	accel_find_cpu_model(program, model, sizeof(model));
	if (!model[0])
		test_skip("QEMU starts with no CPU model under KVM here");
	kvm_probe_run("/dev/kvm", 2 * NS_PER_SEC, &proof);
	ASSERT(proof.steps > 0);
	req.cpu_model = model;
	payload_words(&words);
	start(&vm, &req, false, &words);
	until(&vm, &vm.ready);
	ASSERT_EQ(vm.started, 1);
	while (st.st_size < proof.steps && clock_monotonic_ns() < deadline) {
		ASSERT_OK(loop_step(vm.loop, clock_monotonic_ns() + 10 * NS_PER_MS));
		ASSERT_OK(fstatat(vm.run_dir, "steps", &st, 0));
	}
	printf("# -cpu %s: %u of %u steps\n", model, proof.steps, KVM_PROBE_STEPS);
	ASSERT_EQ(st.st_size, proof.steps);
	vm.engine->quit(vm.control, on_done, &done);
	until(&vm, &done);
	until(&vm, &vm.disconnected);
	finish(&vm);
}
