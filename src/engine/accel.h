/* What can this host really run? Proved, not assumed: that /dev/kvm opens says little (design: "Engines"). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum accel { ACCEL_AUTO, ACCEL_KVM, ACCEL_TCG, ACCEL_MAX };

struct accel_probe {
	bool kvm_usable;
	char why[160]; /* when not: "/dev/kvm: Permission denied (join group 'kvm')", "/dev/kvm: a vCPU did not take a SYSCALL from user mode in 200 ms" */
	uint32_t
		tsc_khz; /* rate of the host's constant time stamp counter, which emulated guests see too; 0 = none or not steady */
	char cpu_model[64]; /* for KVM, found by trying: "host", "host,-arch-capabilities", a named model */
};

const char *accel_name(enum accel a);
int accel_parse(const char *s, enum accel *ret);

/* Runs a vCPU in a child process the way a kernel goes: real mode, protected mode, long mode with paging, page fault, user mode and back,
 * timer interrupt at a halt; within 200 ms. The result is cached in @cache_dirfd ("accel.json", keyed by boot id, the user, /dev/kvm's
 * identity and access, and the QEMU binary's identity); -1 = no cache. Never fails: an unusable KVM is a result. @qemu_path may be NULL:
 * then no CPU model is tried. */
void accel_probe(int cache_dirfd, const char *qemu_path, struct accel_probe *ret);

/* The first CPU model with which @qemu_path starts under KVM here: "host", "host,-arch-capabilities", named models; "" when none does.
 * Blocks for up to 5 s per model. */
void accel_find_cpu_model(const char *qemu_path, char *ret, size_t n);

/* Resolves what the user asked for. AUTO gives KVM or TCG; KVM refuses the fall-back: -ENOTSUP (kind UNAVAILABLE, why and hint). */
int accel_resolve(enum accel wanted, const struct accel_probe *probe, enum accel *ret, struct error *err);
