/* What a machine that boots by firmware needs beside its disks, made anew or kept in machines/NAME before the engine starts: the firmware's
 * variables, once; the seed, at each start, as its settings may have changed. Both appear whole (temporary name, rename). */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/spawn.h"
#include "disk/seed.h"
#include "machine/machine.h"
#include "machine/monitor.h"
#include "store/paths.h"

#define NVRAM_NEW ".tmp-" MACHINE_NVRAM
#define SEED_NEW  ".tmp-" MACHINE_SEED
enum { SEED_FD = 3 };
#define SEED_TIMEOUT_NS (60 * NS_PER_SEC)

static int new_file(struct monitor *m, const char *name)
{
	/* What a start that was killed left: nobody else writes here, the lock is held. */
	if (unlinkat(m->machine_fd, name, 0) < 0 && errno != ENOENT)
		return -errno;
	int fd = openat(m->machine_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	return fd < 0 ? -errno : fd;
}

static int finish_file(struct monitor *m, int fd, const char *from, const char *to)
{
	if (fsync(fd) < 0 || renameat(m->machine_fd, from, m->machine_fd, to) < 0)
		return -errno;
	return fsync_dir(m->machine_fd);
}

static int prepare_nvram(struct monitor *m, struct error *err)
{
	_cleanup_close_ int from = -EBADF, to = -EBADF;
	const char *name = machine_nvram_file(&m->spec);
	int r;

	if (!m->facts.firmware_variables || faccessat(m->machine_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	from = open(m->facts.firmware_variables, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (from < 0)
		return error_set_errno(err, errno, "machine '%s': cannot open %s", m->name.s,
				       m->facts.firmware_variables);
	r = to = new_file(m, NVRAM_NEW);
	if (r >= 0)
		r = fault_point("start.nvram.write");
	if (r >= 0)
		r = file_copy_fd(from, to);
	if (r >= 0)
		r = fault_point("start.nvram.rename");
	if (r >= 0)
		r = finish_file(m, to, NVRAM_NEW, name);
	return r < 0 ? error_set_errno(err, r, "machine '%s': cannot write the firmware's variables", m->name.s) : 0;
}

static int render_settings(struct monitor *m, struct buf *out, struct error *err)
{
	_cleanup_(boot_secrets_done) struct boot_secrets secrets = {};
	_cleanup_buf_ struct buf user_data = {};
	_cleanup_json_ struct json *tree = json_object();
	_cleanup_seed_ struct seed seed = {};
	int r = monitor_read_secrets(m, &secrets, err);

	if (r < 0)
		return r;
	r = file_read_at(m->machine_fd, MACHINE_USER_DATA, SEED_USER_DATA_MAX, &user_data);
	if (r < 0 && r != -ENOENT)
		return error_set_errno(err, r, "machine '%s': cannot read its user data", m->name.s);
	plan_seed(&m->spec, &m->facts, &m->plan, &secrets, r < 0 ? NULL : user_data.p, &seed);
	json_store(tree, seed_fields, &seed);
	json_render(tree, false, out);
	return 0;
}

/* By skerry-image, which has the libraries. The settings hold a private key: they go by standard input, and the file by descriptor. */
static int write_seed(const struct buf *settings, int fd, struct error *err)
{
	_cleanup_free_ char *program = libexec_path("skerry-image");
	const char *argv[] = { program, "write-seed", NULL };
	struct spawn_fd pass = { fd, SEED_FD };
	struct spawn sp = SPAWN_INIT;

	if (!program)
		return error_set_kind(err, ERROR_UNAVAILABLE, ENOENT, "skerry-image: not installed beside skerry");
	sp.argv = argv;
	sp.fds = &pass;
	sp.n_fds = 1;
	sp.death_signal = SIGKILL;
	return spawn_check(&sp, settings, NULL, 4096, SEED_TIMEOUT_NS, err);
}

static int prepare_seed(struct monitor *m, struct error *err)
{
	_cleanup_close_ int fd = -EBADF;
	_cleanup_buf_ struct buf settings = {};
	int r = render_settings(m, &settings, err);

	if (r < 0)
		return r;
	fd = new_file(m, SEED_NEW);
	r = fd < 0 ? fd : fault_point("start.seed.write");
	if (r < 0)
		return error_set_errno(err, r, "machine '%s': cannot write its seed", m->name.s);
	r = write_seed(&settings, fd, err);
	explicit_bzero(settings.p, settings.len);
	if (r < 0)
		return error_prefix(err, "machine '%s': seed", m->name.s);
	r = fault_point("start.seed.rename");
	if (r >= 0)
		r = finish_file(m, fd, SEED_NEW, MACHINE_SEED);
	return r < 0 ? error_set_errno(err, r, "machine '%s': cannot write its seed", m->name.s) : 0;
}

int monitor_prepare_firmware(struct monitor *m, struct error *err)
{
	int r;

	if (!m->plan.firmware)
		return 0;
	r = prepare_nvram(m, err);
	return r < 0 || !m->plan.seed ? r : prepare_seed(m, err);
}
