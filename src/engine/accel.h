/* What can this host really run? Proved, not assumed: that /dev/kvm opens says little (design: "Engines"). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum accel { ACCEL_AUTO, ACCEL_KVM, ACCEL_TCG, ACCEL_MAX };

struct accel_probe {
	bool kvm_usable;
	char why[160]; /* when not: "/dev/kvm: Permission denied (join group 'kvm')", "a vCPU with paging did not reach its halt in 200 ms" */
	char cpu_model[64]; /* for KVM, found by trying: "host", "host,-arch-capabilities", a named model */
};

const char *accel_name(enum accel a);
int accel_parse(const char *s, enum accel *ret);

/* Runs a vCPU in a child process: real mode -> protected mode with paging -> a few dozen instructions -> halt, within 200 ms. The result is
 * cached in @cache_dirfd ("accel.json", keyed by boot id, QEMU binary's identity and uid); -1 = no cache. Never fails: an unusable KVM is
 * a result. @qemu_path may be NULL: then no CPU model is tried. */
void accel_probe(int cache_dirfd, const char *qemu_path, struct accel_probe *ret);

/* Resolves what the user asked for. AUTO gives KVM or TCG; KVM refuses the fall-back: -ENOTSUP (kind UNAVAILABLE, why and hint). */
int accel_resolve(enum accel wanted, const struct accel_probe *probe, enum accel *ret, struct error *err);
