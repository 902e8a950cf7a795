/* Every command, in the order of the help. */
#pragma once

#include "cli/command.h"

/* NULL-terminated. */
extern const struct command *const commands[];

/* cmd_run.c */
extern const struct command run_command;
/* cmd_life.c */
extern const struct command create_command, start_command, stop_command, restart_command, kill_command, pause_command,
	resume_command, wait_command, delete_command;
/* cmd_show.c */
extern const struct command list_command, status_command, inspect_command, stats_command, pid_command, port_command,
	path_command;
/* cmd_logs.c */
extern const struct command logs_command, console_command;
/* cmd_exec.c */
extern const struct command exec_command, cp_command;
/* cmd_ssh.c */
extern const struct command ssh_command, proxy_command;
/* cmd_archive.c: of the image family */
extern const struct command image_import_command, image_save_command;
/* cmd_image.c */
extern const struct command image_command;
/* cmd_kernel.c */
extern const struct command kernel_command;
/* cmd_disk.c */
extern const struct command disk_command;
/* Subcommands of image: cmd_image_look.c, cmd_image_tidy.c */
extern const struct command image_inspect_command, image_history_command;
struct store;
struct strv;
/* Are they understood? For whoever removes other things first. Errors: kind USAGE. */
int prune_check_filters(const struct strv *filters, struct error *err);
/* Prunes images and says what went. @filters: "until=TIME". *freed_bytes grows. */
int prune_images(struct store *s, bool all, const struct strv *filters, uint64_t *freed_bytes, struct error *err);
extern const struct command image_tag_command, image_export_command, image_delete_command, image_prune_command;
/* cmd_system.c, cmd_recover.c */
extern const struct command system_command, system_recover_command;
/* cmd_commit.c */
extern const struct command commit_command;
/* cmd_registry.c */
extern const struct command login_command, logout_command, image_pull_command, image_push_command;
/* cmd_image_install.c: of the image family */
extern const struct command image_install_command, image_seal_command;
/* cmd_config.c */
extern const struct command config_command;
/* cmd_doctor.c */
extern const struct command doctor_command;
/* cmd_help.c */
extern const struct command version_command, completion_command, help_command_entry, complete_command, dump_command;
