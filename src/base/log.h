/* Diagnostics of long-running programs. Commands do not log: they return errors. Only mains, the monitor and event callbacks log
 * above debug. */
#pragma once

#include <stdbool.h>

#include "base/cleanup.h"
#include "base/error.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG, LOG_LEVEL_MAX };

/* Where lines go and from which level on: @fd is borrowed (2 by default). With @timestamps every line begins with the UTC time. */
void log_setup(int fd, enum log_level level, bool timestamps);
/* Reads SKERRY_LOG (error, warning, info, debug). */
void log_setup_from_env(void);
void log_line(enum log_level level, const char *fmt, ...) _printf_(2, 3);
#define log_error(...)   log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)
