/* Making machines: built below a temporary name and renamed, so that one exists whole or not at all. */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/lock.h"
#include "base/parse.h"
#include "base/spawn.h"
#include "disk/qcow2.h"
#include "disk/seed.h"
#include "image/image.h"
#include "machine/image_config.h"
#include "machine/machine.h"
#include "machine/plan.h"
#include "machine/record.h"
#include "store/paths.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

#define MIB                (UINT64_C(1) << 20)
#define MEMORY_DEFAULT     (512 * MIB)
#define ANSWERS_TIMEOUT_NS (600 * NS_PER_SEC)
#define BLANK_NAME         "skerry-blank"

static char *random_hex(size_t bytes)
{
	uint8_t raw[32];
	struct buf b = {};

	if (bytes > sizeof(raw) || getrandom(raw, bytes, 0) != (ssize_t)bytes)
		abort(); /* 32 bytes never fail once the pool is ready */
	for (size_t i = 0; i < bytes; i++)
		buf_addf(&b, "%02x", raw[i]);
	return buf_take(&b);
}

/* ssh-keygen in @dir_path; the comment names the machine, not the host. */
static int make_key(const char *dir_path, const char *file, const char *comment, struct error *err)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", dir_path, file);
	const char *argv[] = { "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path, NULL };
	struct spawn sp = SPAWN_INIT;
	int r;

	sp.argv = argv;
	r = spawn_check(&sp, NULL, NULL, 4096, 30 * NS_PER_SEC, err);
	if (r == -ENOENT)
		error_hint(err, "apt install openssh-client");
	return r;
}

/* What a program wrote, on the disk before anything says that it is there. */
static int sync_file(int dir, const char *name)
{
	_cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

static int make_host_key(int dir, const char *dir_path, const char *name, bool durable, struct error *err)
{
	_cleanup_free_ char *ssh_dir = xasprintf("%s/ssh", dir_path);
	_cleanup_buf_ struct buf public = {}, line = {};
	int r = fault_point("create.ssh");

	if (r >= 0 && mkdirat(dir, "ssh", 0700) < 0)
		r = -errno;
	if (r < 0)
		return error_set_errno(err, r, "cannot create %s", ssh_dir);
	r = make_key(ssh_dir, "ssh_host_ed25519_key", name, err);
	if (r < 0)
		return r;
	if (durable)
		r = sync_file(dir, "ssh/ssh_host_ed25519_key");
	if (r >= 0 && durable)
		r = sync_file(dir, "ssh/ssh_host_ed25519_key.pub");
	if (r >= 0)
		r = file_read_at(dir, "ssh/ssh_host_ed25519_key.pub", 4096, &public);
	if (r >= 0) {
		buf_addf(&line, "%s %s", name, public.p);
		r = file_write_at(dir, "ssh/known_hosts", line.p, line.len, 0600, durable ? FILE_DURABLE : 0);
	}
	if (r >= 0 && durable)
		r = sync_file(dir, "ssh");
	return r < 0 ? error_set_errno(err, r, "cannot write %s/known_hosts", ssh_dir) : 0;
}

/* The blank file system below home disks, and above images that are read-only, is an image like any other; it is built at first need. @bytes: 0 =
 * the small one, which guests grow to their disk. */
static int find_blank(const struct store *s, uint64_t bytes, struct image_meta *ret, struct error *err)
{
	_cleanup_free_ char *name =
		bytes ? xasprintf(BLANK_NAME ":%" PRIu64 "m", bytes / MIB) : xstrdup(BLANK_NAME ":latest");
	_cleanup_free_ char *program = NULL, *size = xasprintf("%" PRIu64, bytes);
	const char *argv[] = { NULL, "build-image", "blank", "--name", name, bytes ? "--disk" : NULL, size, NULL };
	struct spawn sp = SPAWN_INIT;
	int r = image_find(s, name, ret, NULL);

	if (r != -ENOENT)
		return r < 0 ? error_set_errno(err, r, "cannot read image '%s'", name) : 0;
	program = libexec_path("skerry-image");
	if (!program)
		return error_set_kind(err, ERROR_UNAVAILABLE, ENOENT, "skerry-image: not installed beside skerry");
	argv[0] = program;
	sp.argv = argv;
	r = spawn_check(&sp, NULL, NULL, 4096, 120 * NS_PER_SEC, err);
	if (r < 0)
		return error_prefix(err, "blank disk");
	return image_find(s, name, ret, err);
}

static int check_size(const char *file, const struct image_meta *image, uint64_t bytes, struct error *err)
{
	char a[16];

	if (!bytes || bytes >= image->virtual_bytes)
		return 0;
	return error_set_kind(err, ERROR_USAGE, EINVAL, "%s: smaller than the image's %s",
			      streq(file, MACHINE_HOME) ? "--home" : "--disk",
			      format_bytes(image->virtual_bytes, a, sizeof(a)));
}

static int make_disk(const struct store *s, int dir, const char *file, const struct image_meta *image, uint64_t bytes,
		     bool durable, struct error *err)
{
	_cleanup_free_ char *backing = image->digest ? image_disk_path(s, image) : NULL,
			    *label = xasprintf("create.%s", file);
	int r;

	r = check_size(file, image, bytes, err);
	if (r < 0)
		return r;
	r = fault_point(label);
	if (r < 0)
		return error_set_errno(err, r, "cannot create %s", file);
	return qcow2_create(dir, file, bytes ? bytes : image->virtual_bytes, backing, image->format, durable, err);
}

static int write_user_data(int dir, const struct machine_spec *spec, bool durable, struct error *err)
{
	int r = fault_point("create.user-data");

	if (r >= 0)
		r = file_write_at(dir, MACHINE_USER_DATA, spec->user_data, strlen(spec->user_data), 0600,
				  durable ? FILE_DURABLE : 0);
	return r < 0 ? error_set_errno(err, r, "cannot write the user data of machine '%s'", spec->name) : 0;
}

int machine_password_write(int machine_fd, const struct machine_spec *spec, struct error *err)
{
	int r = fault_point("create.password");

	if (r >= 0 && !spec->password) {
		r = unlinkat(machine_fd, MACHINE_PASSWORD, 0) < 0 && errno != ENOENT ? -errno : 0;
	} else if (r >= 0) {
		r = file_write_at(machine_fd, MACHINE_PASSWORD, spec->password, strlen(spec->password), 0600,
				  FILE_DURABLE);
	}
	return r < 0 ? error_set_errno(err, r, "cannot write the password of machine '%s'", spec->name) : 0;
}

/* By skerry-image, which has the library. */
static int make_answers(int dir, struct machine_spec *spec, struct error *err)
{
	enum { ISO_FD = 3 };
	_cleanup_free_ char *program = libexec_path("skerry-image");
	const char *argv[] = { program, "write-answers", spec->answers_path, NULL };
	_cleanup_close_ int fd = -EBADF;
	struct spawn sp = SPAWN_INIT;
	struct spawn_fd pass = { .to = ISO_FD };
	int r = fault_point("create.answers");

	if (!program)
		return error_set_kind(err, ERROR_UNAVAILABLE, ENOENT, "skerry-image: not installed beside skerry");
	if (r >= 0)
		fd = openat(dir, MACHINE_ANSWERS, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (r < 0 || fd < 0)
		return error_set_errno(err, r < 0 ? r : errno, "cannot write the answers of '%s'", spec->draft);
	pass.from = fd;
	sp.argv = argv;
	sp.fds = &pass;
	sp.n_fds = 1;
	r = spawn_check(&sp, NULL, NULL, 4096, ANSWERS_TIMEOUT_NS, err);
	spec->answers = r >= 0;
	return r;
}

/* What an image that boots by itself cannot do, and what only it can do. */
static int check_boot(struct machine_spec *spec, const struct image_meta *image, struct error *err)
{
	if (image->boot != IMAGE_BOOT_FIRMWARE) {
		if (!spec->user_data)
			return 0;
		error_set_kind(err, ERROR_USAGE, EINVAL, "--user-data: image '%s' has no cloud-init to read it",
			       spec->image);
		return error_hint(err, "settings of such an image are options of their own: --user, --ssh-key, --env");
	}
	if (spec->command.n) {
		error_set_kind(err, ERROR_USAGE, EINVAL,
			       "image '%s' boots by itself and has no agent: no command can be run in it", spec->image);
		return error_hint(err, "skerry run -d --name NAME %s, then skerry ssh NAME", spec->image);
	}
	if (spec->user_data) {
		int r = seed_check_user_data(spec->user_data, strlen(spec->user_data), "--user-data", err);

		if (r < 0)
			return r;
	}
	spec->shape = SHAPE_FULL;
	return 0;
}

/* The second disk that the image was installed with: a delta over it. 1 = made, 0 = the image has none. */
static int make_installed_home(const struct store *s, int dir, struct machine_spec *spec,
			       const struct image_meta *image, bool durable, struct error *err)
{
	_cleanup_free_ char *base = plan_image_file(s, image, MACHINE_HOME);
	_cleanup_(qcow2_info_done) struct qcow2_info info = {};
	_cleanup_close_ int fd = -EBADF;
	struct image_meta size = {};
	int r;

	if (!base)
		return 0;
	fd = open(base, O_RDONLY | O_CLOEXEC);
	r = fd < 0 ? error_set_errno(err, errno, "cannot open %s", base) : qcow2_read_info(fd, base, &info, err);
	if (r < 0)
		return r;
	size.virtual_bytes = info.virtual_bytes;
	r = check_size(MACHINE_HOME, &size, spec->home_bytes, err);
	if (r >= 0)
		r = fault_point("create.home.qcow2");
	if (r < 0)
		return r;
	if (!spec->home_bytes)
		spec->home_bytes = info.virtual_bytes;
	spec->home_digest = xstrdup(image->digest);
	r = qcow2_create(dir, MACHINE_HOME, spec->home_bytes, base, "qcow2", durable, err);
	return r < 0 ? r : 1;
}

/* What a read-only image is not written to goes into a file system of its own, which the guest puts above it. One of the image's own size is kept
 * ready: growing it at its first start is what every machine of the image would have to wait for. */
static int make_system(const struct store *s, int dir, struct machine_spec *spec, const struct image_meta *image,
		       bool durable, struct error *err)
{
	_cleanup_(image_meta_done) struct image_meta blank = {};
	uint64_t bytes = spec->disk_bytes ? spec->disk_bytes : image->virtual_bytes;
	bool own = bytes == image->virtual_bytes && bytes % MIB == 0;
	int r;

	if (!image->fstype || !streq(image->fstype, "erofs"))
		return make_disk(s, dir, "system.qcow2", image, spec->disk_bytes, durable, err);
	r = find_blank(s, own ? bytes : 0, &blank, err);
	if (r < 0)
		return r;
	spec->blank_digest = xstrdup(blank.digest);
	if (!spec->disk_bytes && bytes < blank.virtual_bytes)
		bytes = blank.virtual_bytes;
	return make_disk(s, dir, "system.qcow2", &blank, bytes, durable, err);
}

static int fill(const struct store *s, int dir, const char *dir_path, struct machine_spec *spec,
		const struct image_meta *image, bool durable, struct error *err)
{
	_cleanup_json_ struct json *tree = NULL;
	_cleanup_(image_meta_done) struct image_meta blank = {};
	int r;

	r = make_system(s, dir, spec, image, durable, err);
	if (r >= 0 && spec->draft) {
		const struct image_meta empty = {};

		if (spec->home_bytes)
			r = make_disk(s, dir, "home.qcow2", &empty, spec->home_bytes, durable, err);
		if (r >= 0 && spec->answers_path)
			r = make_answers(dir, spec, err);
	} else if (r >= 0 && (r = make_installed_home(s, dir, spec, image, durable, err)) == 0 && spec->home_bytes) {
		r = find_blank(s, 0, &blank, err);
		if (r >= 0) {
			spec->home_digest = xstrdup(blank.digest);
			r = make_disk(s, dir, "home.qcow2", &blank, spec->home_bytes, durable, err);
		}
	}
	if (r >= 0 && image->ssh)
		r = make_host_key(dir, dir_path, spec->name, durable, err);
	if (r >= 0 && spec->user_data)
		r = write_user_data(dir, spec, durable, err);
	if (r >= 0 && spec->password)
		r = machine_password_write(dir, spec, err);
	if (r < 0)
		return r;
	r = fault_point("create.lock");
	if (r >= 0) {
		/* So that nobody has to create it in a directory that is about to be renamed away. */
		_cleanup_close_ int fd = openat(dir, "lock", O_CREAT | O_RDWR | O_CLOEXEC, 0600);

		r = fd < 0 ? -errno : fault_point("create.record");
	}
	if (r < 0)
		return error_set_errno(err, r, "cannot write %s", dir_path);
	return record_write(dir, "machine.json", "machine.json", machine_spec_fields, spec, &tree,
			    durable ? RECORD_DURABLE : 0, err);
}

/* What killed commands left. Only the holder of the names lock may look. */
static void collect_leftovers(const struct store *s)
{
	_cleanup_close_ int fd = openat(s->machines_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *de;

	if (!d)
		return;
	fd = -EBADF;
	while ((de = readdir(d)))
		if (after_prefix(de->d_name, ".tmp-"))
			(void)remove_tree_at(s->machines_fd, de->d_name);
	closedir(d);
}

int machine_create(const struct store *s, struct machine_spec *spec, bool durable, struct error *err)
{
	_cleanup_(image_meta_done) struct image_meta image = {};
	_cleanup_free_ char *hex = random_hex(8), *tmp = xasprintf(".tmp-create-%s", hex), *path = NULL;
	_cleanup_close_ int lock = -EBADF, dir = -EBADF;
	struct name name;
	int r;

	r = name_parse(spec->name, "machine name", &name, err);
	if (r >= 0)
		r = machine_spec_check(spec, err);
	if (r < 0)
		return r;
	lock = store_names_lock(s, 30 * NS_PER_SEC, err);
	if (lock < 0)
		return lock;
	if (faccessat(s->machines_fd, name.s, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return error_set_kind(err, ERROR_EXISTS, EEXIST, "a machine named '%s' exists already", name.s);
	r = spec->draft ? plan_image(s, spec, &image, err) : image_find(s, spec->image, &image, err);
	if (r >= 0)
		r = check_boot(spec, &image, err);
	if (r < 0)
		return r;
	collect_leftovers(s);
	free(spec->id);
	spec->id = random_hex(16);
	free(spec->image_digest);
	/* A record has one; a draft's is nobody's. */
	spec->image_digest = xstrdup(image.digest ? image.digest : "");
	spec->created_ns = clock_realtime_ns();
	r = image_config_apply(&image, spec, err);
	if (r < 0)
		return r;
	if (!spec->memory_bytes)
		spec->memory_bytes = image.default_memory_bytes ? image.default_memory_bytes : MEMORY_DEFAULT;
	path = xasprintf("%s/machines/%s", s->home_path, tmp);
	r = fault_point("create.directory");
	if (r >= 0 && mkdirat(s->machines_fd, tmp, 0700) < 0)
		r = -errno;
	if (r < 0)
		return error_set_errno(err, r, "cannot create %s", path);
	dir = openat(s->machines_fd, tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = dir < 0 ? error_set_errno(err, errno, "cannot open %s", path)
		    : fill(s, dir, path, spec, &image, durable, err);
	if (r >= 0) {
		r = fault_point("create.rename");
		if (r >= 0 && syscall(SYS_renameat2, s->machines_fd, tmp, s->machines_fd, name.s, RENAME_NOREPLACE) < 0)
			r = -errno;
		if (r >= 0 && durable)
			r = fsync_dir(s->machines_fd);
		if (r < 0)
			error_set_errno(err, r, "cannot create machine '%s'", name.s);
	}
	if (r < 0)
		(void)remove_tree_at(s->machines_fd, tmp);
	return r;
}

/* An empty one is what a power failure may have left: as good as none. */
static int read_public(int dir, struct buf *ret)
{
	int r = file_read_at(dir, "id_ed25519.pub", 4096, ret);

	return r >= 0 && !ret->len ? -ENOENT : r;
}

int machine_ssh_key(const struct store *s, char **ret_private_path, char **ret_public_line, struct error *err)
{
	_cleanup_free_ char *dir_path = xasprintf("%s/ssh", s->home_path), *tmp = NULL, *hex = NULL;
	_cleanup_close_ int dir = dir_open_create(dir_path, 0700), lock = -EBADF;
	_cleanup_buf_ struct buf public = {};
	int r;

	if (dir < 0)
		return error_set_errno(err, dir, "cannot create %s", dir_path);
	r = read_public(dir, &public);
	if (r == -ENOENT) {
		lock = lock_acquire(dir, "lock", "skerry's ssh key", 30 * NS_PER_SEC, err);
		if (lock < 0)
			return lock;
		r = read_public(dir, &public);
	}
	if (r == -ENOENT) {
		/* The public half arrives last: it is what says that the key is there. */
		_cleanup_free_ char *tmp_public = NULL;

		hex = random_hex(4);
		tmp = xasprintf(".tmp-%s", hex);
		tmp_public = xasprintf("%s.pub", tmp);
		r = make_key(dir_path, tmp, "skerry", err);
		if (r < 0)
			return r;
		r = sync_file(dir, tmp);
		if (r >= 0)
			r = sync_file(dir, tmp_public);
		if (r >= 0 &&
		    (renameat(dir, tmp, dir, "id_ed25519") < 0 || renameat(dir, tmp_public, dir, "id_ed25519.pub") < 0))
			r = -errno;
		if (r >= 0)
			r = fsync_dir(dir);
		if (r < 0)
			return error_set_errno(err, r, "cannot write %s/id_ed25519", dir_path);
		r = file_read_at(dir, "id_ed25519.pub", 4096, &public);
	}
	if (r < 0)
		return error_set_errno(err, r, "cannot read %s/id_ed25519.pub", dir_path);
	while (public.len && public.p[public.len - 1] == '\n')
		buf_truncate(&public, public.len - 1);
	if (ret_private_path)
		*ret_private_path = xasprintf("%s/id_ed25519", dir_path);
	if (ret_public_line)
		*ret_public_line = buf_take(&public);
	return 0;
}
