#include "docker/box.h"

#include <crypt.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/spawn.h"
#include "docker/base.h"
#include "image/kernel.h"
#include "machine/machine.h"
#include "store/paths.h"

#define KERNEL_NAME       "vm"
#define KERNEL_TIMEOUT_NS (120 * NS_PER_SEC)
#define PASSWORD_FILE     "machines/" BOX_NAME "/password"
enum { LOCAL_NAME_SIZE = 64 };

/* ---- The kernel ---- */

/* The one that came with the programs goes into the store: at first, and whenever the programs bring another. */
static int provide_kernel(const struct store *s, struct error *err)
{
	_cleanup_free_ char *path = data_path("kernel/vmlinux"), *program = libexec_path("skerry-image");
	const char *argv[] = { program, "import-kernel", path, "--name", KERNEL_NAME, "--replace", NULL };
	_cleanup_(kernel_meta_done) struct kernel_meta meta = {};
	struct spawn sp = SPAWN_INIT;
	struct stat st;

	if (!path || !program) {
		/* Nothing was shipped: what the store has will do, when it has one. */
		return kernel_default(s, &meta, err);
	}
	if (stat(path, &st) == 0 && kernel_find(s, KERNEL_NAME, &meta, NULL) >= 0 &&
	    meta.bytes == (uint64_t)st.st_size && meta.created_ns / NS_PER_SEC >= (uint64_t)st.st_ctim.tv_sec)
		return 0;
	sp.argv = argv;
	return spawn_check(&sp, NULL, NULL, 4096, KERNEL_TIMEOUT_NS, err);
}

/* ---- The specification ---- */

/* The same password gives the same text again, so that the guest sees no change where there is none. */
static int hash_password(const struct store *s, const char *password, char **ret, struct error *err)
{
	_cleanup_buf_ struct buf old = {};
	struct crypt_data *data = xnew(struct crypt_data);
	char salt[CRYPT_GENSALT_OUTPUT_SIZE];
	const char *hash = NULL;

	if (file_read_at(s->home_fd, PASSWORD_FILE, 4096, &old) >= 0 && old.p) {
		hash = crypt_rn(password, old.p, data, sizeof(*data));
		if (hash && !streq(hash, old.p))
			hash = NULL;
	}
	/* SHA-512: what guests of any age know. */
	if (!hash && crypt_gensalt_rn("$6$", 0, NULL, 0, salt, sizeof(salt)))
		hash = crypt_rn(password, salt, data, sizeof(*data));
	*ret = hash && hash[0] == '$' ? xstrdup(hash) : NULL;
	explicit_bzero(data, sizeof(*data));
	free(data);
	return *ret ? 0 : error_set(err, EINVAL, "PASSWORD: cannot be hashed");
}

static char *local_name(void)
{
	char name[LOCAL_NAME_SIZE + 1] = "";

	if (gethostname(name, LOCAL_NAME_SIZE) < 0)
		return NULL;
	name[strcspn(name, ".")] = '\0';
	return *name ? xstrdup(name) : NULL;
}

static int fill_spec(const struct store *s, const struct settings *settings, const struct base *b,
		     const struct machine_spec *there, struct machine_spec *spec, struct error *err)
{
	_cleanup_(kernel_meta_done) struct kernel_meta kernel = {};

	machine_spec_init(spec);
	spec->name = xstrdup(BOX_NAME);
	spec->image = xstrdup(b->digest);
	spec->cpus = settings->cpus;
	spec->memory_bytes = settings->memory_bytes;
	spec->disk_bytes = settings->storage_bytes > b->virtual_bytes ? settings->storage_bytes : b->virtual_bytes;
	spec->accel = settings->accel;
	spec->forwards = true;
	spec->user = xstrdup(settings->user);
	if (b->file_system && kernel_find(s, KERNEL_NAME, &kernel, NULL) >= 0)
		spec->kernel = xstrdup(KERNEL_NAME);
	strv_copy(&spec->ssh_keys, &settings->ssh_keys);
	/* A new container over the same volume has another name, and the machine is still the same. */
	spec->hostname = settings->hostname         ? xstrdup(settings->hostname)
			 : there && there->hostname ? xstrdup(there->hostname)
						    : local_name();
	if (!b->file_system)
		spec->user_data = xstrdup(settings->user_data);
	else if (settings->user_data)
		return error_set_kind(err, ERROR_CONFIG, EINVAL,
				      "USER_DATA: the base disk '%s' has no cloud-init to read it", b->path);
	return settings->password ? hash_password(s, settings->password, &spec->password, err) : 0;
}

static int refuse_other_base(const struct base *b, const struct machine_spec *there, struct error *err)
{
	error_set_kind(err, ERROR_CONFIG, EINVAL,
		       "base disk '%s' is not the one that the machine on this volume was made over: it is %.19s, that "
		       "was %.19s",
		       b->path, b->digest, there->image_digest);
	return error_hint(err,
			  "start with the image of before, or with a new volume; what is on this one is a delta, and "
			  "worth nothing over another disk");
}

int box_prepare(const struct store *s, const struct settings *settings, struct error *err)
{
	_cleanup_spec_ struct machine_spec spec = {};
	_cleanup_info_ struct machine_info there = {};
	_cleanup_error_ struct error busy = {};
	_cleanup_base_ struct base b = {};
	struct name name;
	bool known;
	int r = name_parse(BOX_NAME, "machine name", &name, err);

	if (r >= 0)
		r = base_find(s, settings, &b, err);
	if (r >= 0 && b.file_system)
		r = provide_kernel(s, err);
	if (r < 0)
		return r;
	if (settings->ephemeral) {
		r = machine_delete(s, &name, false, 0, err);
		if (r < 0 && r != -ENOENT)
			return r;
		error_done(err);
	}
	r = machine_info_load(s, &name, &there, err);
	known = r >= 0;
	if (r < 0 && r != -ENOENT)
		return r;
	error_done(err);
	if (known && !streq(there.spec.image_digest, b.digest))
		return refuse_other_base(&b, &there.spec, err);
	r = fill_spec(s, settings, &b, known ? &there.spec : NULL, &spec, err);
	if (r < 0)
		return r;
	if (!known)
		return machine_create(s, &spec, true, err);
	r = machine_update(s, &spec, &busy);
	if (r != -EBUSY)
		return r < 0 ? error_move(err, &busy) : 0;
	return error_set_kind(err, ERROR_BUSY, EBUSY, "another container has this volume: %s", busy.msg);
}
