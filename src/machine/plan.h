/* The pure translation of spec + image + host facts into what will be executed. */
#pragma once

#include "image/image.h"
#include "image/kernel.h"
#include "machine/guest_interfaces.h"
#include "machine/spec.h"
#include "net/net.h"

/* What has to be known about the host and the store before a plan can be made. */
struct plan_facts {
	const struct engine *engine;
	char *program;    /* owned: the engine's */
	enum accel accel; /* resolved */
	char *accel_why;  /* owned: why not KVM, NULL under KVM */
	char cpu_model[64];
	uint32_t tsc_khz; /* of the host, 0 = not known */
	struct image_meta image;
	struct kernel_meta kernel;
	char *kernel_path, *initrd_path; /* owned; NULL when the image boots by firmware, and then: */
	char *firmware_path;             /* owned */
	char *firmware_variables;        /* owned: what the machine's own are copied from when it has none */
	const char *home_format;         /* "raw", "qcow2" */
	char *image_disk, *home_base;    /* owned; home_base NULL without a home disk */
	char *blank_disk; /* owned; what the system disk is a delta over where the image is a disk of its own, else NULL */
	char *machine_dir, *run_dir; /* owned, absolute */
	struct net_publish *publish; /* owned; as asked for, or resolved by the monitor */
	size_t n_publish;
	uint32_t vsock_cid; /* the agent's way is vsock, and this the first CID to try; 0 = virtio-serial */
};

/* The machine's image; for a draft, what stands for one. */
int plan_image(const struct store *s, const struct machine_spec *spec, struct image_meta *ret, struct error *err);
/* A file that an installed image has beside its disk: the variables that its installer wrote, a second disk. Owned by the caller; NULL when there is
 * none. */
char *plan_image_file(const struct store *s, const struct image_meta *image, const char *file);
/* Finds everything out. Writes only caches: the kernel's initrd when it is missing, the result of the KVM probe. */
int plan_facts_gather(const struct store *s, const struct machine_spec *spec, struct plan_facts *ret,
		      struct error *err);
void plan_facts_done(struct plan_facts *f);
#define _cleanup_facts_ _cleanup_(plan_facts_done)

struct plan {
	enum engine_shape shape; /* in effect */
	bool firmware;           /* no agent unless the image brings one */
	bool seed;               /* settings reach the guest by a seed */
	uint64_t memory_bytes;
	const struct net_mode *net;
	struct net_request net_request; /* borrows from facts and spec */
	struct net_plan net_plan;
	struct guest_interfaces taken; /* of net_plan.taken, whose strings they are */
	uint32_t vsock_cid;            /* in effect; also the port that the agent dials */
	struct engine_plan exec;
};
#define MACHINE_NVRAM        "nvram"        /* files in machine_dir */
#define MACHINE_NVRAM_SECURE "nvram-secure" /* Secure Boot has variables, and keys, of its own */
#define MACHINE_SEED         "seed.iso"
#define MACHINE_USER_DATA    "user-data"
#define MACHINE_PASSWORD     "password"
#define MACHINE_ANSWERS      "answers.iso"
#define MACHINE_HOME         "home.qcow2"
/* Which of the two is this machine's, if its firmware has variables. */
const char *machine_nvram_file(const struct machine_spec *spec);
/* Pure. Everything borrowed must outlive @ret. Errors: kind CONFIG naming the setting. */
int plan_make(const struct machine_spec *spec, const struct plan_facts *f, struct plan *ret, struct error *err);
void plan_done(struct plan *p);
#define _cleanup_plan_ _cleanup_(plan_done)
struct json *plan_json(const struct machine_spec *spec, const struct plan_facts *f, const struct plan *p);

/* What only a start knows. */
struct boot_secrets {
	uint8_t token[16];
	uint8_t seed[32];
	uint64_t realtime_ns;
	struct buf host_key, host_key_public; /* owned; empty when the image has no ssh server */
	char *client_key;                     /* owned: authorized_keys line, may be NULL */
	char *password;                       /* owned: the user's, as crypt(5) has it; NULL = none */
};
void boot_secrets_done(struct boot_secrets *b);
/* What the seed of a machine that boots by firmware is made from. @user_data: the user's, NULL = none. */
struct seed;
void plan_seed(const struct machine_spec *spec, const struct plan_facts *f, const struct plan *p,
	       const struct boot_secrets *secrets, const char *user_data, struct seed *ret);
/* Appends the packed BootConfig. */
void plan_boot_config(const struct machine_spec *spec, const struct plan_facts *f, const struct plan *p,
		      const struct boot_secrets *secrets, struct buf *out);
