/* What `create` and `run` share: the options that describe a machine. */
#pragma once

#include "cli/command.h"
#include "machine/spec.h"
#include "store/store.h"

struct create_options {
	const char *cpus, *memory, *disk, *home, *kernel, *accel, *net, *shape, *restart, *user, *user_data, *workdir,
		*stop_signal;
	struct strv ssh_keys, publish, env, env_files, labels;
	bool publish_all;
};

/* @S is a struct with a member "create". */
#define CREATE_OPTIONS(S)                                                                                              \
	TEXT(0, "cpus", "N", S, create.cpus, "Virtual CPUs"),                                                          \
		TEXT('m', "memory", "SIZE", S, create.memory, "Memory: 512M, 2G, or MiB"),                             \
		TEXT(0, "disk", "SIZE", S, create.disk, "Size of the system disk"),                                    \
		TEXT(0, "home", "SIZE", S, create.home, "Add a home disk of that size, mounted on /home"),             \
		LIST(0, "ssh-key", "PATH", S, create.ssh_keys, "Public key that may log in", .complete = "file"),      \
		TEXT('u', "user", "USER", S, create.user, "User of the command and of ssh"),                           \
		TEXT('w', "workdir", "DIR", S, create.workdir,                                                         \
		     "Where its processes begin (the image's unless given)"),                                          \
		TEXT(0, "stop-signal", "SIGNAL", S, create.stop_signal, "What asks the command to end (the image's)"), \
		TEXT(0, "user-data", "FILE", S, create.user_data, "For cloud-init: a #cloud-config file or a script",  \
		     .complete = "file"),                                                                              \
		LIST('p', "publish", "[IP:]HOST:GUEST[/udp]", S, create.publish,                                       \
		     "Forward a port of the host; HOST 0 picks a free one"),                                           \
		FLAG('P', "publish-all", S, create.publish_all, "Forward a free port to each that the image exposes"), \
		TEXT(0, "net", "MODE", S, create.net, "Network mode", .words = "user|none"),                           \
		TEXT(0, "kernel", "NAME", S, create.kernel, "Kernel to boot", .complete = "kernel"),                   \
		TEXT(0, "shape", "SHAPE", S, create.shape, "Kind of virtual hardware", .words = "micro|full"),         \
		TEXT(0, "accel", "ACCEL", S, create.accel, "Hardware virtualization or emulation",                     \
		     .words = "auto|kvm|tcg"),                                                                         \
		TEXT(0, "restart", "POLICY", S, create.restart, "What to do when it ends: no, on-failure[:N], always", \
		     .words = "no|on-failure|always"),                                                                 \
		LIST('e', "env", "KEY=VALUE", S, create.env,                                                           \
		     "Environment of its processes; KEY alone takes the value from here"),                             \
		LIST(0, "env-file", "PATH", S, create.env_files, "A file of such lines; # begins a comment",           \
		     .complete = "file"),                                                                              \
		LIST('l', "label", "KEY=VALUE", S, create.labels, "A label, shown by list and inspect")

/* Fills @spec (initialised here) from flags, environment and configuration file. @image NULL: the configured one. Errors: kind USAGE naming the
 * flag, CONFIG naming variable or file and key. */
int create_spec(const struct store *s, const struct create_options *o, const char *image, struct machine_spec *ret,
		struct error *err);
/* Once the image is there: 1 when it boots by itself (no kernel is needed then), 0 when it does not. Errors: kind USAGE naming a flag that such
 * an image cannot be given. */
int create_check_image(const struct store *s, const struct create_options *o, const struct machine_spec *spec,
		       struct error *err);
