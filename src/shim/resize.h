/* The machine's size while it runs: as its containers' limits say, and within that as its load does where that is configured.
 *
 * Processors are all there from the start and are put on and off inside the guest; memory is all there, too, and what the guest should not use is in
 * its balloon. Both work on every shape and accelerator: plugging devices in would need ACPI and PCI, which the shape micro does without, and what
 * has never been on or touched costs the host nothing. */
#pragma once

#include "base/error.h"
#include "shim/size.h"

struct call;
struct container;
struct json;
struct resize;
struct shim;

/* For the machine that is about to be started for @spec; @config is borrowed. */
struct resize *resize_new(struct shim *s, const struct shim_config *config, const struct spec_info *spec);
const struct vm_size *resize_begin(const struct resize *r);
/* The guest answers: begins to follow its load. */
int resize_vm_ready(struct resize *r, struct error *err);
/* Stops that. */
void resize_vm_ended(struct resize *r);
/* The container's limits become @resources, in the guest and for the machine; answers @c then. */
void resize_update(struct resize *r, const struct container *k, const struct json *resources, struct call *c);
/* After the VM: its last answers come here. Accepts NULL; returns NULL. */
struct resize *resize_free(struct resize *r);
