#include "cli/commands.h"

const struct command *const commands[] = {
	&create_command,     &start_command,      &stop_command,     &restart_command, &kill_command,
	&pause_command,      &resume_command,     &wait_command,     &delete_command,  &version_command,
	&completion_command, &help_command_entry, &complete_command, &dump_command,    NULL,
};
