#include <stdio.h>

#include "base/log.h"
#include "base/memory.h"
#include "shim/args.h"
#include "shim/bootstrap.h"
#include "shim/registry.h"
#include "shim/shim.h"

int main(int argc, char **argv)
{
	struct shim_args a = {};
	_cleanup_error_ struct error e = {};
	int r = shim_args_parse(argc, argv, &a, &e);

	/* What a command prints is its answer (containerd takes both outputs together). */
	log_setup(2, LOG_LEVEL_ERROR, false);
	if (r >= 0 && a.version) {
		printf("containerd-shim-skerry-v1 %s\n", SKERRY_VERSION);
		return 0;
	}
	if (r >= 0 && a.info)
		r = shim_info(&e);
	else if (r >= 0 && streq(a.action, "start"))
		r = shim_start(&a, &e);
	else if (r >= 0 && streq(a.action, "delete"))
		r = shim_delete(&a, &e);
	else if (r >= 0 && streq(a.action, "recover"))
		r = registry_recover(&e);
	else if (r >= 0 && streq(a.action, "serve") && *a.socket)
		return shim_serve(a.namespace, a.id, 3, a.socket);
	else if (r >= 0)
		r = error_set_kind(&e, ERROR_USAGE, EINVAL,
				   "started by containerd, not by people: ctr run --runtime io.containerd.skerry.v1 …");
	if (r < 0) {
		fprintf(stderr, "containerd-shim-skerry-v1: %s\n", e.msg);
		if (e.hint)
			fprintf(stderr, "hint: %s\n", e.hint);
		return error_exit_status(&e);
	}
	return 0;
}
