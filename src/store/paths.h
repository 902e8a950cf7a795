/* Where the installation keeps what is not a command: programs below libexec/skerry, data below share/skerry. */
#pragma once

/* Absolute path of a program of ours ("skerry-monitor", "skerry-image", "skerry-init"): $SKERRY_LIBEXEC_DIR, else beside the running program
 * (../libexec/skerry), else where the build tree has it. NULL when it is in none. Owned by the caller. */
char *libexec_path(const char *program);

/* Absolute path of a data file ("kernel/build.sh"): $SKERRY_DATA_DIR, else ../share/skerry, else the source tree. NULL when it is in none. */
char *data_path(const char *relative);
