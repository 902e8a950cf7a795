/* A monitor in a transient scope of systemd's, where one outlives the session that it is started from, with a cgroup that is left to it
 * (systemd.scope(5), systemd-run(1)). */
#pragma once

#include <stdbool.h>

#include "base/memory.h"

enum scope_manager {
	SCOPE_NONE, /* no systemd answers: a process that is detached stays */
	SCOPE_USER,
	/* There is one, but it ends with the user's last login and would take the machine with it: logind is not told to let this user linger. What a
	 * session leaves behind mostly lives on (logind.conf(5), KillUserProcesses=), so nothing is put there. */
	SCOPE_USER_FLEETING,
	SCOPE_SYSTEM,
};
/* Whose scopes this process would use. Looks at files only. */
enum scope_manager scope_manager(void);
/* Appends the command that runs what is appended behind it as it would run by itself, same process, same descriptors, but in a scope of its own: false
 * and nothing where there is none to be had. That command exits with 1 when it cannot. */
bool scope_command(const char *machine, struct strv *argv);
