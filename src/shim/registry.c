#include "shim/registry.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/process.h"
#include "shim/hooks.h"
#include "shim/lease.h"
#include "shim/record.h"
#include "store/store.h"

#define HOOKS_NS   (60 * NS_PER_SEC)
#define RELEASE_NS (60 * NS_PER_SEC)

char *registry_link(const char *socket_path, struct error *err)
{
	_cleanup_store_ struct store s = {};
	const char *name = strrchr(socket_path, '/');

	if (store_open(&s, err) < 0)
		return NULL;
	return xasprintf("%s/" REGISTRY_DIRECTORY "/%s", s.run_path, name ? name + 1 : socket_path);
}

int registry_add(const char *link, const char *bundle, struct error *err)
{
	_cleanup_free_ char *directory = xstrndup(link, (size_t)(strrchr(link, '/') - link));
	int r = fault_point("shim.registry");

	if (r >= 0)
		r = mkdir_parents_at(AT_FDCWD, directory, 0700);
	if (r >= 0 && unlink(link) < 0 && errno != ENOENT)
		r = -errno;
	if (r >= 0 && symlink(bundle, link) < 0)
		r = -errno;
	return r < 0 ? error_set_errno(err, r, "%s", link) : 0;
}

static bool alive(uint64_t pid, uint64_t start)
{
	struct process_id id = { .pid = (pid_t)pid, .start_time = start };
	_cleanup_close_ int fd = pid ? process_open(&id) : -EBADF;

	return fd >= 0;
}

/* "NAMESPACE/ID": a bundle's last two names. */
static const char *name_of(const char *bundle)
{
	const char *p = bundle + strlen(bundle);

	for (int slashes = 0; p > bundle; p--)
		if (p[-1] == '/' && ++slashes == 2)
			break;
	return p;
}

static void tell(const char *bundle, const struct shim_record *r, bool this_boot)
{
	const struct {
		const char *what;
		uint64_t pid, start;
	} processes[] = {
		{ "engine", r->engine_pid, r->engine_start },
		{ "file server", r->share_pid, r->share_start },
		{ "network helper", r->helper_pid, r->helper_start },
	};
	_cleanup_buf_ struct buf b = {};

	for (size_t i = 0; this_boot && i < ARRAY_SIZE(processes); i++)
		if (alive(processes[i].pid, processes[i].start))
			buf_addf(&b, "; ended its %s, pid %llu", processes[i].what,
				 (unsigned long long)processes[i].pid);
	printf("%s: its shim was killed%s; released what it had\n", name_of(bundle), b.len ? b.p : "");
}

/* What its owner has released since is no error. */
static int recover_one(int directory, const char *name, struct error *err)
{
	_cleanup_(shim_record_done) struct shim_record record = {};
	_cleanup_close_ int bundle = openat(directory, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_error_ struct error e = {};
	_cleanup_buf_ struct buf path = {};
	ssize_t n = readlinkat(directory, name, buf_reserve(&path, 4096), 4096);
	bool this_boot;
	int r;

	if (n <= 0 || n == 4096)
		return 0;
	buf_commit(&path, (size_t)n);
	r = bundle < 0 ? -ENOENT : shim_record_read(bundle, &record, &e);
	if (r < 0 && r != -ENOENT)
		return error_move(err, &e);
	if (r >= 0) {
		this_boot = record.boot_id && streq(record.boot_id, boot_id());
		if (this_boot && alive(record.shim_pid, record.shim_start))
			return 0;
		tell(path.p, &record, this_boot);
		shim_record_release(&record, clock_monotonic_ns() + RELEASE_NS);
		if (record.hooked &&
		    hooks_make_up(bundle, path.p, record.hooked, clock_monotonic_ns() + HOOKS_NS, &e) < 0)
			log_warning("%s: %s, ignoring", name_of(path.p), e.msg);
		r = fault_point("shim.recover");
		if (r >= 0 && unlinkat(bundle, SHIM_RECORD, 0) < 0 && errno != ENOENT)
			r = -errno;
		if (r < 0)
			return error_set_errno(err, r, "%s/" SHIM_RECORD, path.p);
	}
	(void)unlinkat(directory, name, 0);
	return 0;
}

int registry_recover(struct error *err)
{
	_cleanup_store_ struct store s = {};
	_cleanup_strv_ struct strv names = {};
	const struct dirent *e;
	DIR *d;
	int fd, r = store_open(&s, err), failed = 0;

	if (r < 0)
		return r;
	if (!*boot_id())
		return error_set(err, EIO, "cannot read the host's boot id");
	fd = openat(s.run_fd, REGISTRY_DIRECTORY, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		r = errno;
		(void)safe_close(fd);
		return r == ENOENT ? 0 : error_set_errno(err, r, "%s/" REGISTRY_DIRECTORY, s.run_path);
	}
	while ((e = readdir(d)))
		if (e->d_name[0] != '.')
			strv_add(&names, e->d_name);
	/* One that cannot be helped is no reason to leave the others. */
	for (size_t i = 0; i < names.n; i++) {
		_cleanup_error_ struct error one = {};

		r = recover_one(fd, names.items[i], &one);
		if (r < 0) {
			log_error("%s/" REGISTRY_DIRECTORY "/%s: %s", s.run_path, names.items[i], one.msg);
			failed = r;
		}
	}
	(void)closedir(d);
	r = lease_recover(true, clock_monotonic_ns() + RELEASE_NS);
	failed = r < 0 ? r : failed;
	return failed < 0 ? error_set_errno(err, failed, "not everything could be released") : 0;
}
