/* UEFI firmware for machines that no kernel is given to: OVMF, where distributions put it. */
#pragma once

#include "base/error.h"

/* Absolute paths of the program (mapped read-only) and of the variables that each machine gets a copy of; owned by the caller. Errors: kind
 * UNAVAILABLE with a hint. */
int firmware_find(char **ret_code, char **ret_variables, struct error *err);
