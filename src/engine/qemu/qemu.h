/* The engine "qemu": machine shapes micro (microvm) and full (q35), emulated or with KVM. */
#pragma once

#include "engine/engine.h"

extern const struct engine engine_qemu;
