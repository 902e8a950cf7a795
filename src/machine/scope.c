#include "machine/scope.h"

#include <pwd.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/spawn.h"

static bool is_socket(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

static bool lingers(void)
{
	const struct passwd *pw = getpwuid(geteuid());
	_cleanup_free_ char *path = pw ? xasprintf("/var/lib/systemd/linger/%s", pw->pw_name) : NULL;

	return path && access(path, F_OK) == 0;
}

enum scope_manager scope_manager(void)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	_cleanup_free_ char *private = runtime ? xasprintf("%s/systemd/private", runtime) : NULL;

	/* sd_booted(3) */
	if (access("/run/systemd/system", F_OK) < 0)
		return SCOPE_NONE;
	if (geteuid() == 0)
		return is_socket("/run/systemd/private") ? SCOPE_SYSTEM : SCOPE_NONE;
	if (!private || !is_socket(private))
		return SCOPE_NONE;
	return lingers() ? SCOPE_USER : SCOPE_USER_FLEETING;
}

bool scope_command(const char *machine, struct strv *argv)
{
	enum scope_manager manager = scope_manager();
	_cleanup_free_ char *program = NULL;
	uint32_t unique;

	if (manager == SCOPE_NONE || manager == SCOPE_USER_FLEETING)
		return false;
	program = program_find("systemd-run");
	if (!program || getrandom(&unique, sizeof(unique), 0) != (ssize_t)sizeof(unique))
		return false;
	strv_add(argv, program);
	strv_add(argv, manager == SCOPE_USER ? "--user" : "--system");
	strv_add(argv, "--scope");
	strv_add(argv, "--quiet");
	strv_add(argv, "--collect");
	/* An engine that outlived its monitor keeps the scope of both: the next one is another. */
	strv_addf(argv, "--unit=skerry-%s-%08x.scope", machine, unique);
	strv_addf(argv, "--description=Machine %s", machine);
	strv_add(argv, "--property=Delegate=yes");
	strv_add(argv, "--");
	return true;
}
