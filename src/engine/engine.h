/* What executes a machine. An engine is one struct of functions; adding one is a new file and one line in engine.c's table.
 *
 * Planning is pure: engine_request in, argv and a list of descriptors out. The monitor opens the descriptors, starts the program, and
 * hands the connected control channel back to the engine. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"
#include "base/memory.h"
#include "engine/accel.h"
#include "engine/firmware.h"

enum engine_shape { SHAPE_MICRO, SHAPE_FULL, SHAPE_MAX };

struct engine_disk {
	const char *id;     /* "system", "home": also the virtio-blk serial in the guest */
	const char *path;   /* absolute */
	const char *format; /* "qcow2" or "raw" */
	bool read_only;
	bool block_device;        /* @path is one of the host's, not a file; raw */
	bool cdrom;               /* a CD drive, which every installer knows; raw and read-only, shape full */
	const char *backing_path; /* NULL = none; opened read-only */
	const char *backing_format;
};

enum engine_nic_kind { NIC_USER, NIC_STREAM, NIC_TAP };

struct engine_nic {
	const char *mac;
	enum engine_nic_kind kind;
	uint32_t mtu; /* told to the guest; 0 = nothing is */
	/* NIC_USER: QEMU's own user networking */
	const char *const *host_forwards; /* "tcp:127.0.0.1:8080-:80" each */
	size_t n_host_forwards;
	/* NIC_STREAM and NIC_TAP take one descriptor from the monitor: ENGINE_FD_NIC, index = position in nics */
};

/* A directory of the host. By virtiofs it is served by a vhost-user program (virtiofsd) over a connected socket, ENGINE_FD_SHARE, index = position in
 * shares, and needs shared_memory; by 9p the engine serves it itself, with the rights of its own user. */
struct engine_share {
	const char *tag;  /* how the guest names it; at most 31 bytes */
	const char *path; /* 9p: absolute; NULL = virtiofs */
	bool read_only;   /* 9p */
};

/* An engine that emulates (ACCEL_TCG) keeps the code that it has translated: a quarter of the guest's memory, at most so many bytes. It comes on top
 * of that memory. */
#define ENGINE_TRANSLATIONS_MAX (UINT64_C(256) << 20)

/* All borrowed for the duration of the call. */
struct engine_request {
	const char *name; /* machine name, for -name */
	const char *uuid;
	enum engine_shape shape;
	enum accel accel;      /* resolved: never AUTO */
	const char *cpu_model; /* from accel_probe(): "host", "host,-arch-capabilities"; NULL = the engine's choice */
	uint32_t tsc_khz;      /* from accel_probe(); 0 = not known */
	uint32_t cpus;
	uint32_t
		start_cpus; /* the guest's kernel starts so many and leaves the others off; 0 = all. Direct boot only */
	uint64_t memory_bytes;
	uint64_t translations_bytes; /* at most; 0 = ENGINE_TRANSLATIONS_MAX */
	bool shared_memory;
	const char *kernel_path; /* direct boot; NULL = firmware */
	/* Without a kernel: the firmware's program, and, unless it is BIOS, the machine's own copy of its variables. The first disk is tried first,
	 * then CD drives in order; the console is the serial port that such images print to. */
	enum firmware_kind firmware;
	const char *firmware_path;
	const char *nvram_path;
	const char *initrd_path;
	const char *command_line; /* extra words after the engine's own (console and so on) */
	bool kernel_modular;      /* command lines differ for the distribution kernel (see kernel/README.md) */
	const struct engine_disk *disks;
	size_t n_disks;
	const struct engine_nic *nics;
	size_t n_nics;
	const struct engine_share *shares;
	size_t n_shares;
	uint32_t vsock_cid;  /* 0 = agent over virtio-serial */
	const char *run_dir; /* absolute */
	/* A screen, a keyboard and a pointer, which whoever connects to ENGINE_DISPLAY_SOCKET sees and moves (RFB, RFC 6143). Shape full. */
	bool display;
	bool sandbox;
	const struct strv *extra_args; /* words that come last; may be NULL */
};

enum engine_fd_kind {
	ENGINE_FD_OPEN, /* open(path, flags); kernel and initrd must be readable by the user that the engine runs as */
	ENGINE_FD_LISTEN, /* listening unix socket run_dir/path, mode 0600 */
	ENGINE_FD_BOOT, /* memfd with the boot configuration, likewise (0777 as memfd_create() makes it, or fchmod 0444) */
	ENGINE_FD_NIC,         /* what the network mode of nics[index] gives */
	ENGINE_FD_SHARE,       /* a socket connected to the server of shares[index] */
	ENGINE_FD_VHOST_VSOCK, /* /dev/vhost-vsock, holding vsock_cid */
	ENGINE_FD_DIRECTORY,   /* run_dir/path, made for the engine's user, who makes a socket of its own in it */
};
#define ENGINE_DISPLAY_DIR    "display" /* in run_dir */
#define ENGINE_DISPLAY_SOCKET "vnc.sock"

struct engine_fd {
	int number; /* in the engine's process; >= 10 */
	enum engine_fd_kind kind;
	char *path; /* owned */
	int flags;
	size_t index;
};

struct engine_plan {
	struct strv argv;
	struct engine_fd *fds; /* owned */
	size_t n_fds;
	bool power_button;      /* the shape has one */
	bool reboot_powers_off; /* BootConfig.reboot_to_power_off */
};
void engine_plan_done(struct engine_plan *p);

enum engine_event {
	ENGINE_EVENT_STARTED,  /* vCPUs run */
	ENGINE_EVENT_SHUTDOWN, /* the guest powered off, or reset where a reset ends it */
	ENGINE_EVENT_RESET,
	ENGINE_EVENT_PANIC,
	ENGINE_EVENT_PAUSED,
	ENGINE_EVENT_RESUMED,
	ENGINE_EVENT_DISCONNECTED, /* the control channel ended */
};

struct engine_vm; /* a control connection to a running engine */

/* @detail may be NULL; for SHUTDOWN it tells who asked ("guest-shutdown", "host-qmp-quit"), for PAUSED what the engine itself stopped the guest for
 * ("disk 'system': write failed: No space left on device"). */
typedef void (*engine_event_fn)(enum engine_event ev, const char *detail, void *data);
/* @err NULL on success. @value: as the call says. */
typedef void (*engine_done_fn)(const struct error *err, uint64_t value, void *data);

/* 127.0.0.1:@host_port leads to @guest_port of the guest on the nic of that index. */
struct engine_forward {
	size_t nic;
	bool udp;
	bool undo;
	uint16_t host_port, guest_port;
};

struct engine_snapshot {
	const char *disk; /* engine_disk.id */
	const char *name;
	bool drop;
};

struct engine {
	const char *name; /* "qemu" */
	/* Full path of the program, owned by the caller. Errors: kind UNAVAILABLE with an install hint. */
	int (*find_program)(char **ret, struct error *err);
	/* Pure. Errors: kind CONFIG naming the setting that this engine or shape cannot do. */
	int (*plan)(const struct engine_request *req, const char *program, struct engine_plan *ret, struct error *err);
	/* Takes the connected control socket @fd (owned from now on) in the loop; greets; calls @fn for events until vm_free.
	 * @ready is called once, with an error or when commands may be sent (deadline inside: 30 s). */
	int (*connect)(struct loop *loop, int fd, engine_event_fn fn, engine_done_fn ready, void *data,
		       struct engine_vm **ret, struct error *err);
	const char *control_socket; /* name in run_dir: "qmp.sock" */
	const char *console_socket; /* "console-engine.sock" */
	const char *agent_socket;   /* "agent.sock" */
	/* Asynchronous; each answers @done exactly once (an error when the connection ends first); NULL @done = don't care. */
	void (*power_button)(struct engine_vm *vm, engine_done_fn done, void *data);
	void (*quit)(struct engine_vm *vm, engine_done_fn done, void *data);
	void (*pause)(struct engine_vm *vm, engine_done_fn done, void *data);
	void (*resume)(struct engine_vm *vm, engine_done_fn done, void *data);
	void (*balloon_bytes)(struct engine_vm *vm, engine_done_fn done, void *data); /* value = memory the guest has */
	/* What the guest should keep of its memory: the rest it hands over as it can, and takes it back before it runs out of memory. */
	void (*set_balloon)(struct engine_vm *vm, uint64_t bytes, engine_done_fn done, void *data);
	void (*block_stats)(struct engine_vm *vm, engine_done_fn done,
			    void *data); /* value = read MiB << 32 | written MiB */
	/* NIC_USER only: as one of its host_forwards, made or undone while the machine runs. Connections that exist stay. Errors: -EADDRINUSE
	 * when the engine cannot listen there; what is undone and was not there is no error. NULL = this engine has no such network. */
	void (*forward)(struct engine_vm *vm, const struct engine_forward *f, engine_done_fn done, void *data);
	/* Makes a snapshot of a qcow2 disk inside of it, or removes it. Errors: the engine's. */
	void (*snapshot)(struct engine_vm *vm, const struct engine_snapshot *s, engine_done_fn done, void *data);
	struct engine_vm *(*vm_free)(struct engine_vm *vm);
};

/* By name; NULL when there is none. engine_at: for listing, NULL at the end. */
const struct engine *engine_find(const char *name);
const struct engine *engine_at(size_t i);
const char *engine_shape_name(enum engine_shape s); /* "micro", "full" */
int engine_shape_parse(const char *s, enum engine_shape *ret);
