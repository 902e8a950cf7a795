/* system recover: what crashes have left is released now, not when somebody touches it next. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/process.h"
#include "base/spawn.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "machine/machine.h"
#include "store/paths.h"

#define SHIM_PROGRAM "containerd-shim-skerry-v1"
/* Where shims are found again (shim/registry.h): without it there was never one. */
#define SHIM_REGISTRY ".shims"

static int recover_machines(struct store *s, bool *ret_failed, struct error *err)
{
	_cleanup_strv_ struct strv names = {};
	int r = store_machine_names(s, &names, err);

	for (size_t i = 0; r >= 0 && i < names.n; i++) {
		_cleanup_error_ struct error e = {};
		enum machine_revival did;
		struct name name;

		if (name_parse(names.items[i], "machine name", &name, NULL) < 0)
			continue;
		if (machine_revive(s, &name, &did, &e) < 0) {
			output_error(&e);
			*ret_failed = true;
			continue;
		}
		if (did == MACHINE_ADOPTED)
			r = output_line(err, "%s: its monitor was killed; it runs on under a new one", name.s);
		else if (did == MACHINE_RELEASED)
			r = output_line(err, "%s: its run was cut off; released what it had", name.s);
		else if (did == MACHINE_STARTED)
			r = output_line(err, "%s: its run was cut off; started again, as --restart always wants",
					name.s);
	}
	return r;
}

/* The shim knows its records: it is asked, and tells by itself. */
static int recover_containers(const struct store *s, bool *ret_failed, struct error *err)
{
	_cleanup_free_ char *beside = NULL, *program = NULL;
	const char *argv[] = { NULL, "recover", NULL };
	_cleanup_close_ int pidfd = -EBADF;
	struct spawn sp = SPAWN_INIT;
	int r, status = 0;

	if (faccessat(s->run_fd, SHIM_REGISTRY, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	beside = libexec_path(SHIM_PROGRAM);
	program = beside ? TAKE_PTR(beside) : program_find(SHIM_PROGRAM);
	if (!program)
		return error_set_kind(err, ERROR_UNAVAILABLE, ENOENT, SHIM_PROGRAM ": not installed beside skerry");
	argv[0] = program;
	sp.argv = argv;
	sp.stdio[1] = STDOUT_FILENO;
	sp.stdio[2] = STDERR_FILENO;
	sp.death_signal = SIGTERM;
	r = spawn_start(&sp, NULL, &pidfd, err);
	if (r < 0)
		return r;
	(void)pidfd_wait_exit(pidfd, UINT64_MAX);
	r = pidfd_reap(pidfd, &status);
	if (r < 0)
		return error_set_errno(err, r, SHIM_PROGRAM);
	*ret_failed = *ret_failed || status != 0;
	return 0;
}

static int run_system_recover(const struct invocation *inv, struct error *err)
{
	_cleanup_store_ struct store s = {};
	bool failed = false;
	int r = store_open(&s, err);

	(void)inv;
	if (r >= 0)
		r = recover_machines(&s, &failed, err);
	if (r >= 0)
		r = recover_containers(&s, &failed, err);
	return r < 0 ? r : failed ? 1 : 0;
}

const struct command system_recover_command = {
	.name = "recover",
	.operands = "",
	.summary = "Release what crashes have left",
	.description =
		"Machines whose monitor was killed get a new one, or, when their engine has ended as well, give "
		"back what they had, and are started again when --restart always was given and nobody stopped them. "
		"Of containers whose shim was killed, and whose containerd did not come to remove them, engine, "
		"file server, network "
		"and control groups are released, each from its record. What lives is not touched; each that "
		"was helped is told in a line. "
		"It may be run at any time and any number of times, at the start of the host too.",
	.examples = { { "skerry system recover", "After a crash" } },
	.run = run_system_recover,
};
