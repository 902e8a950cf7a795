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

/* machines/NAME/begun.json: a run whose end is not on record. Written when its state.json is, and gone with exit.json. */
struct machine_begun {
	char *boot_id;
	char *run_path; /* below which its run directory is; NULL: nobody knows, as in a copy of the machine */
	uint64_t started_ns;
	uint64_t machine_inode; /* set by machine_begun_save() */
};
void machine_begun_done(struct machine_begun *b);
int machine_begun_save(int machine_fd, const char *name, const struct machine_begun *b, struct error *err);
/* Whether there is one. @last: how the last run on record ended, NULL = none is. A damaged one is one of which nothing is known. */
bool machine_begun_load(int machine_fd, const struct machine_exit *last, struct machine_begun *ret);
void machine_begun_forget(int machine_fd);
/* The state.json of that run, wherever it is. Errors: as record_read(). */
int machine_begun_state(const struct store *s, const char *name, const struct machine_begun *b,
			struct machine_state *ret, struct error *err);
/* Where a machine's run directory is, or would be: not below ours when the machine was started where another one was told. Owned by the caller. */
char *machine_run_path(const struct store *s, const struct name *name);
/* Why nobody saw how it ended; owned by the caller. */
char *machine_begun_reason(const struct machine_begun *b);

/* What a holder of the machine's lock finds. */
enum recovery {
	RECOVERY_IDLE,  /* nothing runs, and nothing is left of an earlier run */
	RECOVERY_ADOPT, /* the engine runs without a monitor */
	RECOVERY_CUT, /* nothing runs any more; nobody saw or asked for the end of the last run, which is on record now */
};
/* Ends and releases whatever a dead monitor left, from its record alone; idempotent. Records the end of a run that nobody saw. */
int machine_recover(const struct store *s, const struct name *name, int machine_fd, enum recovery *ret,
		    struct error *err);
/* Starts a monitor that takes over @lock_fd (borrowed), and waits until it reports. */
int monitor_spawn(const struct name *name, int lock_fd, bool adopt, bool attach, struct error *err);
/* Removes the machine's directories. The caller holds its lock, and nothing runs. */
int machine_remove_files(const struct store *s, const struct name *name, struct error *err);
