#include "engine/kvm_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/clock.h"

/* How this works: the child sets up a VM (in-kernel interrupt controllers, 1 MiB of memory, one vCPU in the state after reset but for its
 * code segment) and runs kvm_payload.S. Everything that it learns goes as messages of two ints through a pipe: {kind, number}. The parent
 * reads until the end message, the pipe's end, or the deadline, and always kills and reaps. The child does nothing but system calls
 * after the fork, so the parent may be anything. */

extern const unsigned char kvm_payload_start[];
extern const uint32_t kvm_payload_size;
extern const uint32_t kvm_payload_handlers[4];

#define MEMORY_BYTES KVM_PROBE_MEMORY_BYTES
#define PAYLOAD_BASE KVM_PROBE_START
#define CPUID_MAX    128
#define PORT_STEP    0xe9
#define PORT_FAIL    0xea
#define PORT_END     0xeb

enum message_kind { MSG_SETUP_FAILED, MSG_STEP, MSG_STEP_FAILED, MSG_EXIT, MSG_END };
enum setup {
	SETUP_OPEN,
	SETUP_VERSION,
	SETUP_VM,
	SETUP_IRQCHIP,
	SETUP_MEMORY,
	SETUP_VCPU,
	SETUP_CPUID,
	SETUP_REGS,
	SETUP_RUN
};

struct message {
	int kind;
	int step;
	int num;
};

static const char *const setup_names[] = {
	[SETUP_OPEN] = "open",          [SETUP_VERSION] = "API version 12 expected",
	[SETUP_VM] = "create a VM",     [SETUP_IRQCHIP] = "create interrupt controllers",
	[SETUP_MEMORY] = "give memory", [SETUP_VCPU] = "create a vCPU",
	[SETUP_CPUID] = "set CPUID",    [SETUP_REGS] = "set registers",
	[SETUP_RUN] = "run the vCPU",
};

static const char *const step_names[KVM_PROBE_STEPS + 1] = {
	[0] = "start in real mode",
	[1] = "run real-mode code",
	[2] = "enter protected mode",
	[3] = "enter long mode with paging",
	[4] = "use memory through page tables",
	[5] = "use CPUID and MSRs",
	[6] = "hold privileged state",
	[7] = "take a page fault",
	[8] = "run user-mode code",
	[9] = "take a SYSCALL from user mode",
	[10] = "wake from halt by a timer interrupt",
};

const char *kvm_probe_step_name(unsigned n)
{
	return n <= KVM_PROBE_STEPS ? step_names[n] : "?";
}

static void tell(int pipe_fd, int kind, int step, int num)
{
	struct message m = { kind, step, num };

	/* A pipe takes a message of this size whole; with the reader gone there is nobody to tell. */
	if (write(pipe_fd, &m, sizeof(m)) != (ssize_t)sizeof(m))
		_exit(1);
}

static _noreturn_ void setup_failed(int pipe_fd, enum setup what)
{
	tell(pipe_fd, MSG_SETUP_FAILED, (int)what, errno);
	_exit(1);
}

static void idt_gate(unsigned char *mem, unsigned vector, uint32_t handler)
{
	uint64_t gate[2] = {
		(handler & 0xffff) | 0x18u << 16 | UINT64_C(0x8e00) << 32 | (uint64_t)(handler >> 16) << 48, 0
	};

	memcpy(mem + 0x6000 + vector * 16, gate, sizeof(gate));
}

static void table_entry(unsigned char *mem, uint32_t table, unsigned i, uint64_t value)
{
	memcpy(mem + table + i * 8, &value, sizeof(value));
}

/* Present 1, writable 2, user 4, no caching 0x10, large 0x80. */
void kvm_probe_memory(unsigned char *mem)
{
	uint64_t ring0_stack = 0x7f00;

	memcpy(mem + PAYLOAD_BASE, kvm_payload_start, kvm_payload_size);
	table_entry(mem, 0x1000, 0, 0x2000 | 7);
	table_entry(mem, 0x2000, 0, 0x3000 | 7);
	table_entry(mem, 0x3000, 0, 0x0 | 0x83); /* the first 2 MiB as they are */
	table_entry(mem, 0x3000, 1, 0x5000 | 7); /* the next in 4 KiB pages */
	table_entry(mem, 0x5000, 0, 0x10000 | 3);
	table_entry(mem, 0x5000, 2, PAYLOAD_BASE | 7); /* user code; its stack is at the page's end */
	table_entry(mem, 0x2000, 3, 0x4000 | 7);
	table_entry(mem, 0x4000, (0xfee00000 >> 21) & 511, 0xfee00000 | 0x93);
	for (unsigned v = 0; v < 32; v++)
		idt_gate(mem, v, kvm_payload_handlers[v == 14 ? 0 : v == 6 ? 1 : 2]);
	idt_gate(mem, 0x40, kvm_payload_handlers[3]);
	memcpy(mem + 0x7000 + 4, &ring0_stack, sizeof(ring0_stack));
}

static void set_cpuid(int pipe_fd, int kvm, int vcpu)
{
	union {
		struct kvm_cpuid2 head;
		unsigned char bytes[sizeof(struct kvm_cpuid2) + CPUID_MAX * sizeof(struct kvm_cpuid_entry2)];
	} c = {};

	c.head.nent = CPUID_MAX;
	if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &c) < 0 || ioctl(vcpu, KVM_SET_CPUID2, &c) < 0)
		setup_failed(pipe_fd, SETUP_CPUID);
}

static void run_vcpu(int pipe_fd, int vcpu, const struct kvm_run *run)
{
	for (;;) {
		int r = ioctl(vcpu, KVM_RUN, 0);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			setup_failed(pipe_fd, SETUP_RUN);
		if (run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_OUT) {
			int step = *((const unsigned char *)run + run->io.data_offset);

			if (run->io.port == PORT_STEP) {
				tell(pipe_fd, MSG_STEP, step, 0);
				continue;
			}
			tell(pipe_fd, run->io.port == PORT_END ? MSG_END : MSG_STEP_FAILED, step, 0);
			return;
		}
		tell(pipe_fd, MSG_EXIT, 0, (int)run->exit_reason);
		return;
	}
}

static _noreturn_ void child(int pipe_fd, const char *device)
{
	struct kvm_userspace_memory_region region = { .memory_size = MEMORY_BYTES };
	struct kvm_pit_config pit = {};
	struct kvm_sregs sregs;
	struct kvm_regs regs = { .rip = PAYLOAD_BASE, .rflags = 2 };
	int kvm, vm, vcpu, run_size;
	unsigned char *mem;
	const struct kvm_run *run;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	kvm = open(device, O_RDWR | O_CLOEXEC | O_NOCTTY);
	if (kvm < 0)
		setup_failed(pipe_fd, SETUP_OPEN);
	errno = 0;
	if (ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		setup_failed(pipe_fd, SETUP_VERSION);
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0)
		setup_failed(pipe_fd, SETUP_VM);
	if (ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000ul) < 0 || ioctl(vm, KVM_CREATE_IRQCHIP, 0) < 0 ||
	    ioctl(vm, KVM_CREATE_PIT2, &pit) < 0)
		setup_failed(pipe_fd, SETUP_IRQCHIP);
	mem = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		setup_failed(pipe_fd, SETUP_MEMORY);
	kvm_probe_memory(mem);
	region.userspace_addr = (uint64_t)(uintptr_t)mem;
	if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		setup_failed(pipe_fd, SETUP_MEMORY);
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	run_size = vcpu < 0 ? -1 : ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (run_size < 0)
		setup_failed(pipe_fd, SETUP_VCPU);
	run = mmap(NULL, (size_t)run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		setup_failed(pipe_fd, SETUP_VCPU);
	set_cpuid(pipe_fd, kvm, vcpu);
	if (ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0)
		setup_failed(pipe_fd, SETUP_REGS);
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	if (ioctl(vcpu, KVM_SET_SREGS, &sregs) < 0 || ioctl(vcpu, KVM_SET_REGS, &regs) < 0)
		setup_failed(pipe_fd, SETUP_REGS);
	run_vcpu(pipe_fd, vcpu, run);
	_exit(0);
}

static const char *exit_name(int reason)
{
	switch (reason) {
	case KVM_EXIT_SHUTDOWN: return "the vCPU shut down (triple fault)";
	case KVM_EXIT_INTERNAL_ERROR: return "KVM cannot execute an instruction (internal error)";
	case KVM_EXIT_FAIL_ENTRY: return "the processor refuses to enter the guest";
	case KVM_EXIT_MMIO: return "memory is not where the page tables say";
	default: return "an exit that nothing asked for";
	}
}

/* Takes one message into @ret; true when it was the last. */
static bool take(const struct message *m, struct kvm_probe *ret)
{
	switch ((enum message_kind)m->kind) {
	case MSG_SETUP_FAILED:
		ret->failed = (unsigned)m->step < ARRAY_SIZE(setup_names) ? setup_names[m->step] : "?";
		ret->failed_num = m->num;
		ret->setup = true;
		return true;
	case MSG_STEP:
		if (m->step == (int)ret->steps + 1 && m->step <= KVM_PROBE_STEPS)
			ret->steps = (unsigned)m->step;
		return false;
	case MSG_STEP_FAILED: ret->failed = "the result is not what a processor gives"; return true;
	case MSG_EXIT: ret->failed = exit_name(m->num); return true;
	case MSG_END: ret->finished = true; return true;
	}
	return true;
}

bool kvm_probe_run(const char *device, uint64_t timeout_ns, struct kvm_probe *ret)
{
	uint64_t deadline = clock_monotonic_ns() + timeout_ns;
	int pipe_fds[2];
	pid_t pid;

	*ret = (struct kvm_probe){};
	if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
		ret->failed = "create a pipe";
		ret->failed_num = errno;
		ret->setup = true;
		return false;
	}
	pid = fork();
	if (pid == 0)
		child(pipe_fds[1], device);
	(void)safe_close(pipe_fds[1]);
	if (pid < 0) {
		ret->failed = "create a process";
		ret->failed_num = EAGAIN;
		ret->setup = true;
	}
	while (pid > 0) {
		struct pollfd p = { .fd = pipe_fds[0], .events = POLLIN };
		int n = poll(&p, 1, clock_poll_timeout(deadline));
		struct message m;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			ret->timed_out = true;
			break;
		}
		if (read(pipe_fds[0], &m, sizeof(m)) != (ssize_t)sizeof(m)) {
			ret->failed = "the probing process died";
			break;
		}
		if (take(&m, ret))
			break;
	}
	(void)safe_close(pipe_fds[0]);
	if (pid > 0) {
		/* A child of ours that nobody reaps but us: its pid cannot be anybody else's. */
		(void)kill(pid, SIGKILL);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	return ret->finished && ret->steps == KVM_PROBE_STEPS;
}
