/* Kernels that machines boot: kernels/NAME/{vmlinux or bzImage, config, modules/…, meta.json, initrd-…}. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "store/store.h"

struct kernel_meta {
	char *name;
	char *release; /* "6.1.0-40-cloud-amd64" from the image itself */
	char *file;    /* "vmlinux" or "bzImage" */
	char *source;  /* "import /path", "package linux-image-…", "build linux-source-6.1 …" */
	char *digest;  /* of the file */
	bool modular;  /* has modules that go into its initrd */
	bool built;    /* by `skerry kernel build` */
	uint64_t bytes;
	uint64_t created_ns;
};
void kernel_meta_done(struct kernel_meta *m);

/* By name. Errors: -ENOENT (kind NOT_FOUND). */
int kernel_find(const struct store *s, const char *name, struct kernel_meta *ret, struct error *err);
/* The one to use when nothing is asked for: the newest built one, else "debian", else any. -ENOENT with hint `skerry kernel import debian`. */
int kernel_default(const struct store *s, struct kernel_meta *ret, struct error *err);
int kernel_names(const struct store *s, struct strv *ret, struct error *err);
/* Absolute paths, owned by the caller. kernel_initrd_path makes the initrd first when there is none of @guest_path (the skerry-init
 * binary): written under a temporary name, renamed; deterministic. */
char *kernel_file_path(const struct store *s, const struct kernel_meta *m);
int kernel_initrd_path(const struct store *s, const struct kernel_meta *m, const char *guest_path, char **ret,
		       struct error *err);
/* The initrd of VMs that run containers: it also holds the OCI runtime (crun of the host, @runtime) with its libraries, as KERNEL_RUNTIME. */
#define KERNEL_RUNTIME "usr/bin/crun"
int kernel_container_initrd_path(const struct store *s, const struct kernel_meta *m, const char *guest_path,
				 const char *runtime, char **ret, struct error *err);

int kernel_delete(const struct store *s, const char *name, int (*in_use)(const char *kernel, char **ret_by, void *data),
		  void *data, struct error *err);

/* For whoever writes kernels: the lock of kernels/ (as lock_acquire()), one kernel's directory, its record, and the initrd's bytes: skerry-init
 * (@guest_fd) as /init, /dev/console and, where @modular, /modules/load with the modules that it lists; @runtime as for containers, NULL = none. */
int kernels_lock(const struct store *s, struct error *err);
int kernel_open_dir(const struct store *s, const char *name, struct error *err);
int kernel_meta_write(int kernel_fd, const struct kernel_meta *m, struct error *err);
int kernel_initrd_render(int kernel_fd, bool modular, int guest_fd, const char *runtime, struct buf *out,
			 struct error *err);

/* Imports a vmlinux (ELF64 x86-64), a bzImage (unpacked to vmlinux when it has the PVH note, else kept), or a Debian kernel package (.deb, with
 * the modules that a guest needs). Errors: kind DATA for what is none of these; EXISTS unless @replace. Heavy: linked into skerry-image only. */
int kernel_import(const struct store *s, const char *path, const char *name, const char *source, bool replace,
		  struct error *err);
/* The same, for one that was built here. */
int kernel_import_as(const struct store *s, const char *path, const char *name, const char *source, bool replace,
		     bool built, struct error *err);
/* Fetches Debian's linux-image-cloud package with apt-get download (no root), imports it as @name. */
int kernel_import_debian(const struct store *s, const char *name, bool replace, struct error *err);
/* Debian's packages of what that takes. */
#define KERNEL_BUILD_PACKAGES "build-essential bc bison flex libelf-dev libssl-dev lz4 xz-utils perl patch"
/* Builds from linux-source with @config_path by @script_path (kernel/build.sh); cached by source version and config. Takes minutes.
 * Errors: kind UNAVAILABLE with the apt command as the hint when something to build with is missing. */
int kernel_build(const struct store *s, const char *name, const char *config_path, const char *script_path,
		 bool replace, struct error *err);
