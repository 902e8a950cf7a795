/* What a plan is made of, as an ordinary machine has it: tests change what they are about. */
#pragma once

#include "machine/plan.h"

/* The machine 'web', as a user asks for it who says nothing more. */
void sample_spec(struct machine_spec *s);
/* An image with an ext4 of its own, a kernel without modules and no KVM; nothing that it names exists. */
void sample_facts(struct plan_facts *f);
