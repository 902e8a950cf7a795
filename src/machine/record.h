/* Shared inside the room: loading records and telling whether recorded processes live. */
#pragma once

#include "machine/machine.h"

/* @ret is initialised in any case, to be released with machine_spec_done(). */
int machine_spec_load(int machine_fd, const char *name, struct machine_spec *ret, struct json **tree,
		      struct error *err);
int machine_state_load(const struct store *s, const char *name, struct machine_state *ret, struct error *err);
struct process_id machine_process(uint64_t pid, uint64_t start);
bool machine_recorded_alive(uint64_t pid, uint64_t start);
/* spec->password into a file of its own, or no such file. */
int machine_password_write(int machine_fd, const struct machine_spec *spec, struct error *err);
/* Writes how a run ended, durably. */
int machine_exit_save(int machine_fd, const char *name, const struct machine_exit *e, struct error *err);

/* What a holder of the machine's lock finds. */
enum recovery {
	RECOVERY_IDLE,  /* nothing runs, and nothing is left of an earlier run */
	RECOVERY_ADOPT, /* the engine runs without a monitor */
};
/* Ends and releases whatever a dead monitor left, from its record alone; idempotent. Records the end of a run that nobody saw. */
int machine_recover(const struct store *s, const struct name *name, int machine_fd, enum recovery *ret,
		    struct error *err);
/* Starts a monitor that takes over @lock_fd (borrowed), and waits until it reports. */
int monitor_spawn(const struct name *name, int lock_fd, bool adopt, bool attach, struct error *err);
/* Removes the machine's directories. The caller holds its lock, and nothing runs. */
int machine_remove_files(const struct store *s, const struct name *name, struct error *err);
