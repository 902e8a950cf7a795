/* debian: mmdebstrap makes a tar of an installed system, which goes straight into the disk; no directory tree is ever made here. What the
 * system is like beyond its packages is decided by images/debian/customize. */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/process.h"
#include "base/progress.h"
#include "base/spawn.h"
#include "image/pack.h"
#include "image/recipe.h"
#include "store/paths.h"

#define DEFAULT_SUITE "bookworm"

/* What makes a machine to work on, and boots quickly: no device manager, no user sessions; who needs them adds the packages. The message bus
 * is there because systemctl has no other way for users than root. */
static const char *const packages[] = {
	"systemd-sysv", "dbus",   "openssh-server", "sudo",    "iproute2", "ca-certificates",
	"less",         "procps", "iputils-ping",   "netbase", "tzdata",   "libnss-myhostname",
	"kmod",
};

static const char *const suites[] = { "bookworm", "trixie", "forky", "sid", "stable", "testing", "unstable" };

/* The kernel takes no longer argument than 128 KiB. */
enum { HOOK_LIMIT = 100 << 10 };

/* A system with some more packages, unpacked, and the packages beside it. */
#define UNPACK_BYTES (UINT64_C(2) << 30)

/* How mmdebstrap can make a system here. */
static const char *choose_mode(struct error *err)
{
	_cleanup_free_ char *newuidmap = program_find("newuidmap"), *fakechroot = program_find("fakechroot");
	_cleanup_free_ char *fakeroot = program_find("fakeroot");
	_cleanup_buf_ struct buf subuid = {};
	const struct passwd *pw;

	if (geteuid() == 0)
		return "root";
	pw = getpwuid(geteuid());
	if (newuidmap && pw && file_read_at(AT_FDCWD, "/etc/subuid", 1 << 20, &subuid) >= 0) {
		/* By name only: mmdebstrap does not look for the number. */
		_cleanup_free_ char *by_name = xasprintf("%s:", pw->pw_name);

		for (const char *line = subuid.p; line && *line;) {
			if (after_prefix(line, by_name))
				return "unshare";
			line = strchr(line, '\n');
			line = line ? line + 1 : NULL;
		}
	}
	if (fakechroot && fakeroot)
		return "fakechroot";
	(void)error_set_kind(err, ERROR_UNAVAILABLE, ENOENT,
			     "a Debian system can be built without root only with subordinate user ids or fakechroot");
	if (newuidmap && pw)
		(void)error_hint(err, "as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s",
				 pw->pw_name);
	else
		(void)error_hint(err, "apt-get install uidmap   (or: apt-get install fakechroot fakeroot)");
	return NULL;
}

static bool name_is_package(const char *s)
{
	return *s && strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.:~") == strlen(s) &&
	       *s != '-';
}

static int prepare(struct recipe_run *run, struct error *err)
{
	_cleanup_free_ char *mmdebstrap = program_find("mmdebstrap");
	const struct strv *more = run->request->packages;
	bool known = !run->variant;
	int r;

	for (size_t i = 0; !known && i < ARRAY_SIZE(suites); i++)
		known = streq(run->variant, suites[i]);
	if (!known) {
		r = error_set_kind(err, ERROR_USAGE, EINVAL, "recipe 'debian' knows no suite '%.50s'", run->variant);
		(void)error_hint(err, "debian:bookworm, debian:trixie, debian:testing, debian:unstable …");
		return r;
	}
	for (size_t i = 0; more && i < more->n; i++)
		if (!name_is_package(more->items[i]))
			return error_set_kind(err, ERROR_USAGE, EINVAL, "'%.100s' is no name of a package",
					      more->items[i]);
	if (!mmdebstrap) {
		r = error_set_kind(err, ERROR_UNAVAILABLE, ENOENT, "mmdebstrap: not installed");
		(void)error_hint(err, "apt-get install mmdebstrap");
		return r;
	}
	if (!choose_mode(err))
		return -ENOENT;
	run->meta->init = IMAGE_INIT_SYSTEM;
	run->meta->ssh = true;
	run->meta->user = xstrdup("dev");
	run->meta->source = xasprintf("recipe debian:%s", run->variant ? run->variant : DEFAULT_SUITE);
	return 0;
}

struct copying {
	struct recipe_run *run;
	struct progress *progress;
	uint64_t bytes;
};

/* What belongs to the running kernel's view, or to the build, stays out. */
static bool is_left_out(const char *path)
{
	return after_prefix(path, "dev/") || after_prefix(path, "proc/") || after_prefix(path, "sys/") ||
	       after_prefix(path, "run/") || after_prefix(path, "tmp/") || after_prefix(path, "var/cache/apt/") ||
	       after_prefix(path, "var/cache/debconf/") || after_prefix(path, "var/log/apt/") ||
	       streq(path, "var/log/dpkg.log") || streq(path, "var/log/bootstrap.log") ||
	       streq(path, "var/log/alternatives.log") || streq(path, "etc/resolv.conf");
}

static int copy(const struct archive_item *item, void *data, struct error *err)
{
	struct copying *c = data;

	if (is_left_out(item->entry.path))
		return 0;
	c->bytes += S_ISREG(item->entry.mode) && !item->hard_link ? item->entry.size : 0;
	progress_update(c->progress, c->bytes);
	return archive_item_copy(item, c->run->tree, err);
}

static char *package_list(const struct recipe_run *run)
{
	const struct strv *more = run->request->packages;
	struct buf list = {};

	for (size_t i = 0; i < ARRAY_SIZE(packages); i++)
		buf_addf(&list, "%s%s", i ? "," : "", packages[i]);
	for (size_t i = 0; more && i < more->n; i++)
		buf_addf(&list, ",%s", more->items[i]);
	return buf_take(&list);
}

/* The last line of mmdebstrap's messages that says what went wrong. @dir: where it unpacked the system. */
static int tell(int errors_fd, int status, const char *dir, struct error *err)
{
	_cleanup_buf_ struct buf text = {};
	char how[64], *at, *why = NULL;
	int r;

	if (lseek(errors_fd, 0, SEEK_SET) >= 0)
		(void)file_read_fd(errors_fd, 16 << 20, &text);
	for (char *line = text.p; line && *line; line = at) {
		at = line + strcspn(line, "\n");
		if (*at)
			*at++ = 0;
		if (after_prefix(line, "E: "))
			why = line + 3;
		else if (!why && *line)
			why = line;
	}
	r = error_set(err, EIO, "mmdebstrap %s in %s: %.300s", wait_status_text(status, how, sizeof(how)), dir,
		      why ? why : "it gave no reason");
	if (text.p && memmem(text.p, text.len, "resolve", 7))
		(void)error_hint(err, "the package mirror cannot be reached");
	else if (text.p && memmem(text.p, text.len, "No space left", 13))
		(void)error_hint(err, "set TMPDIR to a directory with more space than %s has", dir);
	return r;
}

static int run_mmdebstrap(struct recipe_run *run, const char *const *argv, const char *dir, struct error *err)
{
	static const struct archive_limits limits = { .bytes = UINT64_C(64) << 30, .entries = 4000000 };
	_cleanup_free_ char *errors_path = xasprintf("%s/errors", run->scratch_path);
	_cleanup_close_ int from = -EBADF, to = -EBADF, errors = -EBADF, pidfd = -EBADF;
	_cleanup_error_ struct error walk_error = {};
	struct copying c = { .run = run };
	struct spawn s = SPAWN_INIT;
	int pipes[2], status = 0, r;

	errors = open(errors_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (errors < 0 || pipe2(pipes, O_CLOEXEC) < 0)
		return error_set_errno(err, errno, "cannot start mmdebstrap");
	from = pipes[0];
	to = pipes[1];
	s.argv = argv;
	s.stdio[1] = to;
	s.stdio[2] = errors;
	s.cwd = "/";
	s.death_signal = SIGTERM;
	/* As root it mounts the host's /proc and /sys below our directory, and when it is killed nobody unmounts them. */
	s.own_mounts = true;
	r = spawn_start(&s, NULL, &pidfd, err);
	if (r < 0)
		return r;
	to = safe_close(to);
	if (run->request->progress_fd >= 0)
		c.progress = progress_new(run->request->progress_fd, "debian", 0);
	r = archive_walk(from, "mmdebstrap's tar", &limits, copy, &c, &walk_error);
	if (r < 0)
		(void)pidfd_kill(pidfd, SIGTERM);
	/* It ends when nobody reads any more. */
	from = safe_close(from);
	(void)pidfd_wait_exit(pidfd, UINT64_MAX);
	(void)pidfd_reap(pidfd, &status);
	(void)progress_finish(c.progress, r >= 0 && status == 0);
	if (r < 0)
		return error_move(err, &walk_error);
	if (status != 0 || !c.bytes)
		return tell(errors, status, dir, err);
	return 0;
}

/* The hook's text and not its path: in a user namespace mmdebstrap is somebody who need not get into the directory where the file is. What is no path
 * it gives to a shell, with the new system's root as $1 as well. */
static int customize_hook(char **ret, struct error *err)
{
	_cleanup_free_ char *path = data_path("images/debian/customize");
	_cleanup_buf_ struct buf text = {};
	int r;

	if (!path)
		return error_set_kind(err, ERROR_UNAVAILABLE, ENOENT,
				      "images/debian/customize, which belongs to skerry, is missing");
	r = file_read_at(AT_FDCWD, path, HOOK_LIMIT, &text);
	if (r < 0)
		return error_set_errno(err, r, "%s", path);
	*ret = xasprintf("--customize-hook=%s", text.p);
	return 0;
}

/* Whether somebody else, as a user namespace has them, gets into an absolute path. */
static bool open_to_others(const char *path)
{
	_cleanup_free_ char *part = xstrdup(path);
	struct stat st;

	while (stat(part, &st) == 0 && S_ISDIR(st.st_mode) && (st.st_mode & S_IXOTH)) {
		char *slash = strrchr(part, '/');

		if (slash == part)
			return true;
		*slash = '\0';
	}
	return false;
}

/* Programs of the new system are executed below it. */
static bool is_roomy(const char *path)
{
	struct statvfs fs;

	return statvfs(path, &fs) == 0 && !(fs.f_flag & ST_NOEXEC) &&
	       (uint64_t)fs.f_bavail * fs.f_frsize >= UNPACK_BYTES;
}

/* Where mmdebstrap unpacks the system. Our own directories are closed to others; root's needs no others. */
static const char *choose_directory(const struct recipe_run *run, const char *mode)
{
	const char *own = getenv("TMPDIR");

	if (geteuid() == 0)
		return run->scratch_path;
	if (own && *own == '/' && (!streq(mode, "unshare") || open_to_others(own)))
		return own;
	return !is_roomy("/tmp") && is_roomy("/var/tmp") ? "/var/tmp" : "/tmp";
}

static int fill(struct recipe_run *run, struct error *err)
{
	_cleanup_free_ char *hook_arg = NULL, *list = package_list(run), *include = NULL, *mode = NULL;
	_cleanup_free_ char *epoch = NULL, *tmpdir = NULL;
	const char *chosen = choose_mode(err);
	const char *suite = run->variant ? run->variant : DEFAULT_SUITE, *dir;
	int r;

	if (!chosen)
		return -ENOENT;
	r = customize_hook(&hook_arg, err);
	if (r < 0)
		return r;
	mode = xasprintf("--mode=%s", chosen);
	include = xasprintf("--include=%s", list);
	epoch = xasprintf("SOURCE_DATE_EPOCH=%llu", (unsigned long long)run->time_s);
	dir = choose_directory(run, chosen);
	tmpdir = xasprintf("TMPDIR=%s", dir);
	const char *argv[] = { "env",
			       epoch,
			       tmpdir,
			       "mmdebstrap",
			       mode,
			       "--variant=minbase",
			       "--format=tar",
			       "--quiet",
			       "--aptopt=Apt::Install-Recommends \"false\"",
			       include,
			       hook_arg,
			       suite,
			       "-",
			       NULL };
	return run_mmdebstrap(run, argv, dir, err);
}

const struct recipe recipe_debian = {
	.facts = {
		.name = "debian",
		.description = "Debian with systemd, ssh and sudo; debian:SUITE for another than " DEFAULT_SUITE,
		.virtual_bytes = UINT64_C(16) << 30,
		.default_memory_bytes = UINT64_C(512) << 20,
	},
	.journal = true,
	.prepare = prepare,
	.fill = fill,
};
