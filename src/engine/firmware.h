/* The firmware of machines that no kernel is given to: UEFI (OVMF) or BIOS (SeaBIOS), where distributions put them. */
#pragma once

#include "base/error.h"

enum firmware_kind {
	FIRMWARE_UEFI,
	FIRMWARE_SECURE, /* UEFI with Secure Boot: Microsoft's keys are in the variables, and it asks for system management mode */
	FIRMWARE_BIOS,
	FIRMWARE_MAX,
};
/* "uefi", "secure", "bios"; NULL-terminated. */
extern const char *const firmware_names[];

/* Absolute paths of the program and of the variables that each machine gets a copy of (NULL for BIOS, which has none); owned by the caller. Errors:
 * kind UNAVAILABLE with a hint. */
int firmware_find(enum firmware_kind kind, char **ret_code, char **ret_variables, struct error *err);
