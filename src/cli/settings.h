/* What applies when a flag is not given: SKERRY_* in the environment, then the configuration file, then what is built in. */
#pragma once

#include "base/error.h"
#include "store/store.h"

enum setting {
	SETTING_CPUS,
	SETTING_MEMORY,
	SETTING_DISK,
	SETTING_IMAGE,
	SETTING_KERNEL,
	SETTING_ACCEL,
	SETTING_NET,
	SETTING_SHAPE,
	SETTING_RESTART,
	SETTING_USER,
	SETTING_PLAIN_HTTP,
	SETTING_MAX,
};

enum setting_source { SOURCE_BUILT_IN, SOURCE_FILE, SOURCE_ENVIRONMENT, SOURCE_FLAG };

struct settings {
	char *values[SETTING_MAX]; /* owned; NULL = built in */
	enum setting_source sources[SETTING_MAX];
	char *path; /* owned: the file's, whether it exists or not */
};

const char *setting_key(enum setting s);         /* "memory": the file's key and, with "--", the flag */
const char *setting_environment(enum setting s); /* "SKERRY_MEMORY" */
const char *setting_built_in(enum setting s);    /* for people: "512M, or what the image wants" */

/* Reads environment and file. Errors: kind CONFIG (exit 78) naming file and key. */
int settings_load(const struct store *s, struct settings *ret, struct error *err);
void settings_done(struct settings *s);
#define _cleanup_settings_ _cleanup_(settings_done)
/* The file that `config init` writes: every key, commented out. Owned by the caller. */
char *settings_template(void);
