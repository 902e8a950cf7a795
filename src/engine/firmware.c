#include "engine/firmware.h"

#include <errno.h>
#include <unistd.h>

#include "base/memory.h"

int firmware_find(char **ret_code, char **ret_variables, struct error *err)
{
	/* Without Secure Boot, which would ask for system management mode and refuse what users build themselves. */
	static const struct {
		const char *code, *variables;
	} places[] = {
		{ "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd" },           /* Debian, Ubuntu */
		{ "/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd" },       /* Fedora */
		{ "/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd" },   /* Arch */
		{ "/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin" }, /* openSUSE */
	};

	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		if (access(places[i].code, R_OK) == 0 && access(places[i].variables, R_OK) == 0) {
			*ret_code = xstrdup(places[i].code);
			*ret_variables = xstrdup(places[i].variables);
			return 0;
		}
	error_set_kind(err, ERROR_UNAVAILABLE, ENOENT, "UEFI firmware (OVMF): not installed");
	return error_hint(err, "apt-get install ovmf");
}
