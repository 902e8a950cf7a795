#include "engine/firmware.h"

#include <errno.h>
#include <unistd.h>

#include "base/memory.h"

const char *const firmware_names[] = { "uefi", "secure", "bios", NULL };

static const struct place {
	enum firmware_kind kind;
	const char *code, *variables;
} places[] = {
	/* Debian, Ubuntu; Fedora; Arch; openSUSE. */
	{ FIRMWARE_UEFI, "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd" },
	{ FIRMWARE_UEFI, "/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd" },
	{ FIRMWARE_UEFI, "/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd" },
	{ FIRMWARE_UEFI, "/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin" },
	{ FIRMWARE_SECURE, "/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd" },
	{ FIRMWARE_SECURE, "/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd", "/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd" },
	{ FIRMWARE_BIOS, "/usr/share/seabios/bios-256k.bin", NULL },
	{ FIRMWARE_BIOS, "/usr/share/qemu/bios-256k.bin", NULL },
};

int firmware_find(enum firmware_kind kind, char **ret_code, char **ret_variables, struct error *err)
{
	static const char *const titles[] = { "UEFI firmware (OVMF)", "UEFI firmware with Secure Boot (OVMF)",
					      "BIOS (SeaBIOS)" };

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		const struct place *p = &places[i];

		if (p->kind != kind || access(p->code, R_OK) < 0 || (p->variables && access(p->variables, R_OK) < 0))
			continue;
		*ret_code = xstrdup(p->code);
		*ret_variables = xstrdup(p->variables);
		return 0;
	}
	error_set_kind(err, ERROR_UNAVAILABLE, ENOENT, "%s: not installed", titles[kind]);
	return error_hint(err, "apt-get install %s", kind == FIRMWARE_BIOS ? "seabios" : "ovmf");
}
