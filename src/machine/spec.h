/* What the user asked for: machines/NAME/machine.json. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"
#include "engine/engine.h"
#include "json/json.h"
#include "store/name.h"
#include "store/store.h"

enum restart_policy { RESTART_NO, RESTART_ON_FAILURE, RESTART_ALWAYS, RESTART_MAX };

struct machine_spec {
	char *name;
	char *id;           /* 32 hex digits, random; MAC and engine UUID come from it; chosen by machine_create() */
	char *image;        /* as asked for: "debian:latest" */
	char *image_digest; /* what it meant then; chosen by machine_create() */
	char *blank_digest; /* blank file system under the system disk, where the image is read-only; NULL = the image is under it */
	char *home_digest; /* blank file system under the home disk; NULL = no home disk */
	uint64_t cpus;
	uint64_t memory_bytes;
	uint64_t disk_bytes;         /* 0 = the image's size */
	uint64_t home_bytes;         /* 0 = no home disk */
	char *kernel;                /* NULL = the default one at each start */
	int shape;                   /* enum engine_shape */
	int accel;                   /* enum accel */
	int firmware;                /* enum firmware_kind; of images that boot by themselves */
	char *net;                   /* mode name */
	bool forwards;               /* ports are led to it while it runs: the monitor's Forward */
	uint64_t kept_port;          /* TCP; net mode container: stays with whoever runs the machine; 0 = none */
	bool display;                /* a screen, in run/NAME/display: for shape full and for what boots by firmware */
	struct strv publish;         /* "[IP:]HOST:GUEST[/udp]" */
	struct strv ssh_keys;        /* authorized_keys lines, besides skerry's own client key */
	char *user;                  /* NULL = the image's */
	char *hostname;              /* the guest's; NULL = the machine's name */
	struct strv dns, dns_search; /* name servers that the guest is told, and domains; none = the network's */
	char *timezone;              /* "Europe/Berlin"; NULL = the image's */
	struct strv shares;          /* "SOURCE:TARGET[:ro]", see machine/share.h */
	struct strv engine_args;     /* words for the engine's command line, after ours */
	char *workdir;               /* of the main process and of exec; NULL = the image's */
	char *stop_signal;           /* what ends the main process; NULL = the image's, else the guest decides */
	int restart;                 /* enum restart_policy */
	uint64_t restart_max;        /* ON_FAILURE: tries, 0 = no limit */
	struct strv env;             /* K=V */
	struct strv labels;          /* K=V */
	struct strv command;         /* main process; empty = none: the machine runs until it is stopped */
	bool terminal;               /* main process has a terminal */
	bool interactive;            /* main process has standard input */
	bool remove;                 /* --rm: delete when it has stopped */
	bool publish_all; /* every port that the image exposes gets a free one; not recorded: @publish holds them then */
	char *draft; /* name of the image that is being installed here; such a machine has no image below it. NULL = a machine like any other */
	char *installer; /* draft: absolute path of the ISO, which stays the user's */
	bool answers;    /* draft: answers.iso is there */
	uint64_t created_ns;
	char *answers_path; /* a directory; not in the record either: machine_create() makes answers.iso of it */
	char *password;     /* of @user, as crypt(5) has it; not in the record: a file of its own. NULL = none fits */
	char *user_data; /* for cloud-init; not in the record: machine_create() writes it to a file of its own, as it may hold secrets */
};

extern const struct json_field machine_spec_fields[];

/* What a guest takes of environment, and what is left of its boot configuration's 1 MiB (guest/bootconfig.h) for it. */
enum { MACHINE_ENV_MAX = 1024, MACHINE_ENV_BYTES_MAX = 960 << 10 };

/* Defaults: 1 CPU, micro, auto, user, no restart, memory 0 (= the image's default, else 512 MiB). */
void machine_spec_init(struct machine_spec *s);
void machine_spec_done(struct machine_spec *s);
#define _cleanup_spec_ _cleanup_(machine_spec_done)

/* Checks every value against itself and the host: cpus 1..host's (hint), memory >= 64 MiB and <= the host's, publish forms, labels and
 * environment K=V, net mode exists. Errors: kind USAGE naming the option. */
int machine_spec_check(const struct machine_spec *s, struct error *err);
int restart_policy_parse(const char *s, int *ret, uint64_t *ret_max); /* "no", "on-failure[:N]", "always" */
char *restart_policy_format(int policy, uint64_t max);                /* owned by the caller */
