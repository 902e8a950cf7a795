/* The run of a miniature kernel under KVM. Part of accel.c's proof. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How far the payload came. */
struct kvm_probe {
	bool setup;         /* failed before the payload ran: @failed is what could not be done */
	int failed_num;     /* then: positive errno, or 0 */
	const char *failed; /* static, in words; NULL when it timed out or nothing failed */
	bool timed_out;
	bool finished;
	unsigned steps; /* payload steps passed; the step that failed is the next one */
};

#define KVM_PROBE_STEPS        10
#define KVM_PROBE_MEMORY_BYTES 0x100000u
#define KVM_PROBE_START        0x8000u /* real mode, 0:8000 */

/* Opens @device ("/dev/kvm") and runs the payload in a child process that is killed after @timeout_ns. True when every step passed. */
bool kvm_probe_run(const char *device, uint64_t timeout_ns, struct kvm_probe *ret);
/* What step @n (1 to KVM_PROBE_STEPS) does, in words: "enter protected mode". */
const char *kvm_probe_step_name(unsigned n);
/* Fills @mem (KVM_PROBE_MEMORY_BYTES, zeroed) with what the vCPU finds at address 0: tables and code. For tests, which run the same
 * payload on an emulated processor to prove the payload. */
void kvm_probe_memory(unsigned char *mem);
