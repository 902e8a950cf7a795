#include "guest/power.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "guest/disk.h"

enum {
	/* glibc's SIGRTMIN, which systemd's interface is defined with; musl's is another. */
	SYSTEMD_SIGRTMIN = 34,
	SYSTEMD_POWEROFF = SYSTEMD_SIGRTMIN + 4,
	SYSTEMD_REBOOT = SYSTEMD_SIGRTMIN + 5,
	MOUNTS_BYTES_MAX = 4 << 20,
	UNMOUNT_ROUNDS = 8,
};

struct power_watch {
	int fd;
	struct loop_source *source;
	bool told;
	power_watch_fn fn;
	void *data;
};

/* ---- The image's init ---- */

static _noreturn_ void child_shut_down(bool reboot_wanted)
{
	static const char *const directories[] = { "/sbin", "/usr/sbin", "/bin", "/usr/bin" };
	const char *name = reboot_wanted ? "reboot" : "poweroff";
	char *env[] = { NULL };
	sigset_t none;

	setsid();
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(directories); i++) {
		char *path = xasprintf("%s/%s", directories[i], name), *argv[] = { path, NULL };

		execve(path, argv, env);
		free(path);
	}
	/* Nobody here knows how to: the least that can be done is to lose nothing. */
	sync();
	(void)reboot(reboot_wanted ? RB_AUTOBOOT : RB_POWER_OFF);
	_exit(1);
}

int power_ask_init(bool reboot_wanted)
{
	pid_t pid;

	if (access("/run/systemd/system", F_OK) == 0)
		return kill(1, reboot_wanted ? SYSTEMD_REBOOT : SYSTEMD_POWEROFF) < 0 ? -errno : 0;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		child_shut_down(reboot_wanted);
	return 0;
}

int power_sync_ahead(void)
{
	sigset_t all, before;
	pid_t pid;

	sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0) {
		/* Ends of sessions must not be held open. */
		(void)syscall(SYS_close_range, 0U, ~0U, 0U);
		sync();
		_exit(0);
	}
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	return pid < 0 ? -errno : pid;
}

/* Nothing on a disk can be written to any more. */
static bool disks_are_clean(void)
{
	_cleanup_buf_ struct buf b = { 0 };

	if (file_read_at(AT_FDCWD, "/proc/self/mounts", MOUNTS_BYTES_MAX, &b) < 0 || !b.p)
		return false;
	/* "/dev/vda / ext4 rw,relatime 0 0"; blanks in names are escaped. */
	for (const char *line = b.p; *line;) {
		size_t n = strcspn(line, "\n");
		const char *end = line + n, *options = line;

		for (int field = 0; field < 3 && options && options < end; field++) {
			options = memchr(options, ' ', (size_t)(end - options));
			options = options ? options + 1 : NULL;
		}
		if (after_prefix(line, "/dev/") && (!options || !after_prefix(options, "ro")))
			return false;
		line = end + (*end == '\n');
	}
	return true;
}

/* Whether PID 1 is systemd's last program, and what it was told: "systemd-shutdown\0reboot\0…". */
static bool is_systemd_shutdown(bool *ret_reboot)
{
	_cleanup_buf_ struct buf b = { 0 };
	const char *verb;

	if (file_read_at(AT_FDCWD, "/proc/1/cmdline", 4096, &b) < 0 || !b.p || !strstr(b.p, "systemd-shutdown"))
		return false;
	verb = b.p + strlen(b.p) + 1;
	*ret_reboot = verb < b.p + b.len && (streq(verb, "reboot") || streq(verb, "kexec"));
	return true;
}

static int on_mounts(struct loop_source *s, int fd, uint32_t events, void *data)
{
	struct power_watch *w = data;
	bool reboot_wanted = false, clean;

	(void)s;
	(void)fd;
	(void)events;
	if (!is_systemd_shutdown(&reboot_wanted))
		return 0;
	clean = disks_are_clean();
	if (clean || !w->told)
		w->fn(reboot_wanted, clean, w->data);
	w->told = true;
	return 0;
}

int power_watch_new(struct loop *l, power_watch_fn fn, void *data, struct power_watch **ret)
{
	struct power_watch *w = xnew(struct power_watch);
	int r;

	w->fn = fn;
	w->data = data;
	w->fd = open("/proc/self/mounts", O_RDONLY | O_CLOEXEC);
	/* Changes come as POLLPRI (and POLLERR, edge triggered so that it is told once). */
	r = w->fd < 0 ? -errno : loop_add_fd(l, &w->source, w->fd, EPOLLPRI | EPOLLET, on_mounts, w);
	if (r < 0) {
		power_watch_free(w);
		return r;
	}
	*ret = w;
	return 0;
}

struct power_watch *power_watch_free(struct power_watch *w)
{
	if (!w)
		return NULL;
	loop_source_free(w->source);
	safe_close(w->fd);
	free(w);
	return NULL;
}

/* ---- As PID 1 ---- */

/* /proc/self/mounts escapes blanks and such as \ooo. */
static void unescape(char *s)
{
	char *to = s;

	for (const char *p = s; *p; p++) {
		if (p[0] == '\\' && p[1] >= '0' && p[1] <= '3' && p[2] >= '0' && p[2] <= '7' && p[3] >= '0' &&
		    p[3] <= '7') {
			*to++ = (char)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0'));
			p += 3;
		} else {
			*to++ = *p;
		}
	}
	*to = '\0';
}

static bool is_needed(const char *mount)
{
	/* The words to the host go through /dev, the list comes from /proc; neither holds data. What the root stands on is made read-only
	 * with it. */
	return streq(mount, "/") || streq(mount, "/dev") || streq(mount, "/proc") || streq(mount, DISK_DELTA);
}

/* Last mounted first; again while something could be done: one may lie on another. */
static void unmount_all(void)
{
	for (int round = 0; round < UNMOUNT_ROUNDS; round++) {
		_cleanup_buf_ struct buf b = { 0 };
		_cleanup_strv_ struct strv mounts = { 0 };
		bool progress = false;

		if (file_read_at(AT_FDCWD, "/proc/self/mounts", MOUNTS_BYTES_MAX, &b) < 0 || !b.p)
			return;
		for (char *line = b.p, *next; line && *line; line = next) {
			char *end = strchr(line, '\n'), *from = strchr(line, ' '), *to;

			next = end ? end + 1 : NULL;
			if (end)
				*end = '\0';
			to = from ? strchr(from + 1, ' ') : NULL;
			if (!to)
				continue;
			*to = '\0';
			unescape(from + 1);
			strv_add(&mounts, from + 1);
		}
		for (size_t i = mounts.n; i-- > 0;)
			if (!is_needed(mounts.items[i]) && umount2(mounts.items[i], UMOUNT_NOFOLLOW) == 0)
				progress = true;
		if (!progress)
			return;
	}
}

void power_reset(void)
{
	sync();
	(void)reboot(RB_AUTOBOOT);
}

void power_off_now(bool reboot_wanted, bool reboot_to_power_off, void (*before_end)(void *data), void *data)
{
	sync();
	unmount_all();
	(void)mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL);
	(void)mount(NULL, DISK_DELTA, NULL, MS_REMOUNT | MS_RDONLY, NULL);
	sync();
	before_end(data);
	(void)reboot(reboot_wanted || reboot_to_power_off ? RB_AUTOBOOT : RB_POWER_OFF);
}
