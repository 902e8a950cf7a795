#include "cli/commands.h"

const struct command *const commands[] = {
	&run_command,        &create_command,
	&start_command,      &stop_command,
	&restart_command,    &kill_command,
	&pause_command,      &resume_command,
	&wait_command,       &delete_command,
	&list_command,       &status_command,
	&inspect_command,    &stats_command,
	&logs_command,       &console_command,
	&exec_command,       &ssh_command,
	&cp_command,         &pid_command,
	&port_command,       &path_command,
	&commit_command,     &image_command,
	&kernel_command,     &disk_command,
	&system_command,     &login_command,
	&logout_command,     &config_command,
	&doctor_command,     &version_command,
	&completion_command, &help_command_entry,
	&proxy_command,      &complete_command,
	&dump_command,       NULL,
};
