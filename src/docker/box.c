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
#include "docker/bridge.h"
#include "docker/snapshots.h"
#include "image/kernel.h"
#include "machine/machine.h"
#include "store/paths.h"

#define KERNEL_NAME       "vm"
#define KERNEL_TIMEOUT_NS (120 * NS_PER_SEC)
#define PASSWORD_FILE     "machines/" BOX_NAME "/password"
#define ANSWERS           ".tmp-answers" /* on the volume, while a machine is made */
#define NAMES_WAIT_NS     (30 * NS_PER_SEC)
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

/* What cannot be told to a disk of this kind is refused rather than forgotten. */
static int check_kind(const struct settings *settings, const struct base *b, struct error *err)
{
	const char *wrong = settings->user_data ? "USER_DATA" : settings->firmware >= 0 ? "FIRMWARE" : NULL;

	if (!b->file_system || !wrong)
		return 0;
	return error_set_kind(err, ERROR_CONFIG, EINVAL,
			      settings->user_data
				      ? "%s: the base disk '%s' has no cloud-init to read it"
				      : "%s: the base disk '%s' is one file system, which boots with Skerry's kernel",
			      wrong, b->path);
}

static void fill_base(const struct store *s, const struct settings *settings, const struct base *b,
		      struct machine_spec *spec)
{
	_cleanup_(kernel_meta_done) struct kernel_meta kernel = {};

	spec->firmware = settings->firmware >= 0 ? settings->firmware : FIRMWARE_UEFI;
	/* What boots by firmware may say things that only a screen shows. */
	spec->display = settings->console_page && !b->file_system;
	spec->disk_bytes = settings->storage_bytes > b->virtual_bytes ? settings->storage_bytes : b->virtual_bytes;
	if (!b->digest) {
		spec->image = xstrdup(BOX_NAME);
		spec->draft = xstrdup(BOX_NAME);
		spec->installer = xstrdup(b->path);
		return;
	}
	spec->image = xstrdup(b->digest);
	if (b->file_system && kernel_find(s, KERNEL_NAME, &kernel, NULL) >= 0)
		spec->kernel = xstrdup(KERNEL_NAME);
}

static int fill_spec(const struct store *s, const struct settings *settings, const struct base *b,
		     const struct machine_spec *there, struct machine_spec *spec, struct error *err)
{
	machine_spec_init(spec);
	spec->name = xstrdup(BOX_NAME);
	spec->cpus = settings->cpus;
	spec->memory_bytes = settings->memory_bytes;
	spec->accel = settings->accel;
	spec->forwards = settings->network == NETWORK_NAT;
	if (settings->network == NETWORK_BRIDGE) {
		free(spec->net);
		spec->net = xstrdup(BRIDGE_MODE);
		spec->kept_port = settings->console_page ? settings->console_port : 0;
	}
	fill_base(s, settings, b, spec);
	strv_copy(&spec->ssh_keys, &settings->ssh_keys);
	/* A new container over the same volume has another name, and the machine is still the same. */
	spec->hostname = settings->hostname         ? xstrdup(settings->hostname)
			 : there && there->hostname ? xstrdup(there->hostname)
						    : local_name();
	spec->user = xstrdup(settings->user);
	strv_copy(&spec->dns, &settings->dns);
	strv_copy(&spec->dns_search, &settings->dns_search);
	spec->timezone = xstrdup(settings->timezone);
	strv_copy(&spec->shares, &settings->shares);
	strv_copy(&spec->engine_args, &settings->engine_args);
	if (spec->draft)
		return 0;
	spec->user_data = xstrdup(settings->user_data);
	return settings->password ? hash_password(s, settings->password, &spec->password, err) : 0;
}

/* Does what is there go on with what was found? */
static int check_base(const struct settings *settings, const struct base *b, const struct machine_spec *there,
		      struct error *err)
{
	if (there->draft && b->digest && settings->boot) {
		error_set_kind(
			err, ERROR_CONFIG, EINVAL,
			"base disk '%s': the machine on this volume was installed from an ISO, and stands on its own",
			b->path);
		return error_hint(err, "leave BOOT out, or start with a new volume");
	}
	if (!there->draft && b->installer) {
		error_set_kind(
			err, ERROR_CONFIG, EINVAL,
			"installer '%s': the machine on this volume was made over a disk, there is nothing to be "
			"installed",
			b->path);
		return error_hint(err, "start with a new volume");
	}
	if (there->draft || streq(there->image_digest, b->digest))
		return 0;
	error_set_kind(err, ERROR_CONFIG, EINVAL,
		       "base disk '%s' is not the one that the machine on this volume was made over: it is %.19s, that "
		       "was %.19s",
		       b->path, b->digest, there->image_digest);
	return error_hint(err,
			  "start with the image of before, or with a new volume; what is on this one is a delta, and "
			  "worth nothing over another disk");
}

/* An installer finds USER_DATA on a disk CIDATA, as Ubuntu's does. *ret: a directory, to be removed by the caller. */
static int make_answers(const struct store *s, const char *user_data, char **ret, struct error *err)
{
	static const char meta[] = "instance-id: skerry\n";
	_cleanup_free_ char *path = xasprintf("%s/" ANSWERS, s->home_path);
	_cleanup_close_ int dir = -EBADF;
	int r = remove_tree_at(s->home_fd, ANSWERS);

	if (r >= 0)
		r = dir = dir_open_create(path, 0700);
	if (r >= 0)
		r = file_write_at(dir, "user-data", user_data, strlen(user_data), 0600, 0);
	if (r >= 0)
		r = file_write_at(dir, "meta-data", meta, strlen(meta), 0600, 0);
	if (r < 0)
		return error_set_errno(err, r, "USER_DATA: cannot write it for the installer");
	*ret = TAKE_PTR(path);
	return 0;
}

/* What was killed while it made a machine has left them, and a password may be in them. Who makes one holds the lock. */
static int forget_answers(const struct store *s, struct error *err)
{
	_cleanup_close_ int lock = -EBADF;
	int r;

	if (faccessat(s->home_fd, ANSWERS, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	lock = store_names_lock(s, NAMES_WAIT_NS, err);
	if (lock < 0)
		return lock;
	r = remove_tree_at(s->home_fd, ANSWERS);
	return r < 0 ? error_set_errno(err, r, "cannot remove %s/" ANSWERS, s->home_path) : 0;
}

static int create(const struct store *s, const struct settings *settings, struct machine_spec *spec, struct error *err)
{
	int r = 0;

	if (spec->draft && settings->user_data)
		r = make_answers(s, settings->user_data, &spec->answers_path, err);
	if (r >= 0)
		r = machine_create(s, spec, true, err);
	if (spec->answers_path)
		(void)remove_tree_at(s->home_fd, ANSWERS);
	return r;
}

/* Why the machine cannot be had; @e is moved. */
static int not_ours(struct error *e, struct error *err)
{
	if (e->num != EBUSY)
		return error_move(err, e);
	return error_set_kind(err, ERROR_BUSY, EBUSY, "another container has this volume: %s", e->msg);
}

static int update(const struct store *s, const struct machine_spec *spec, struct error *err)
{
	_cleanup_error_ struct error e = {};

	return machine_update(s, spec, &e) < 0 ? not_ours(&e, err) : 0;
}

/* 1 = there is one, and *ret_lock keeps others from it; 0 = there is none yet. */
static int look(const struct store *s, const struct settings *settings, const struct name *name,
		struct machine_info *ret, int *ret_lock, struct error *err)
{
	_cleanup_error_ struct error e = {};
	int r = 0;

	if (settings->ephemeral) {
		r = machine_delete(s, name, false, 0, &e);
		if (r < 0 && r != -ENOENT)
			return not_ours(&e, err);
		error_done(&e);
	}
	r = machine_info_load(s, name, ret, &e);
	if (r < 0)
		return r == -ENOENT ? 0 : error_move(err, &e);
	*ret_lock = store_machine_lock(s, name, 0, &e);
	return *ret_lock < 0 ? not_ours(&e, err) : 1;
}

int box_prepare(const struct store *s, const struct settings *settings, struct error *err)
{
	_cleanup_spec_ struct machine_spec spec = {};
	_cleanup_info_ struct machine_info there = {};
	_cleanup_error_ struct error e = {};
	_cleanup_base_ struct base b = {};
	/* A machine that runs elsewhere goes on over the base and the kernel that it was started with: nobody changes them under it. */
	_cleanup_close_ int lock = -EBADF;
	struct name name;
	int known, r = name_parse(BOX_NAME, "machine name", &name, err);

	if (r >= 0)
		r = forget_answers(s, err);
	if (r >= 0)
		r = known = look(s, settings, &name, &there, &lock, err);
	if (r < 0)
		return r;
	r = base_find(s, settings, &b, &e);
	/* A machine that was installed needs its installer no more. */
	if (r < 0 && !(r == -ENODATA && known && there.spec.draft))
		return error_move(err, &e);
	r = known ? check_base(settings, &b, &there.spec, err) : 0;
	if (r >= 0 && known && there.spec.draft && b.digest) {
		base_done(&b);
		b = (struct base){};
	}
	if (r >= 0)
		r = check_kind(settings, &b, err);
	if (r >= 0 && b.file_system)
		r = provide_kernel(s, err);
	if (r >= 0)
		r = fill_spec(s, settings, &b, known ? &there.spec : NULL, &spec, err);
	if (r < 0)
		return r;
	lock = safe_close(lock);
	r = known ? update(s, &spec, err) : create(s, settings, &spec, err);
	if (r < 0 || !settings->snapshot)
		return r;
	r = snapshots_begin_from(s, settings->snapshot, err);
	/* The disk has the size of then. */
	return r < 0 ? r : update(s, &spec, err);
}
