/* How this works. The kernel starts us as PID 1 in its initrd, a file system in memory. In order:
 *
 *   1. /dev, /proc, /sys; modules, where the kernel has need of them
 *   2. the boot configuration (fwcfg.c); what it says about the kernel's own state: name, clock, randomness
 *   3. the disks: the root on /root, the others inside it; grown to their devices
 *   4. interfaces, files of /etc, users
 *   5. the root becomes /, and what the initrd held is given back
 *   6. an image with an init: the agent is forked off and the init is executed; otherwise we stay, as PID 1 and agent in one
 *
 * Without a root there is nothing to go on with: one line on the console, and the end. Everything else that fails is written down, told
 * to the host with the agent's first answer, and gone past. Time counts here: no message when all is well, no wait that is not for an event. */
#include "guest/stage1.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "guest/bootconfig.h"
#include "guest/disk.h"
#include "guest/fwcfg.h"
#include "guest/modules.h"
#include "guest/network.h"
#include "guest/power.h"
#include "guest/root.h"
#include "guest/serve.h"
#include "guest/settings.h"
#include "guest/user.h"
#include "wire/message.h"

static const uint64_t device_wait_ns = 5 * NS_PER_SEC;
static const char new_root[] = "/root";

extern char **environ;

struct stage1 {
	Skerry__Agent__V1__BootConfig *config; /* owned */
	struct buf errors;                     /* lines */
	int root;                              /* owned: the mounted root */
	char *argv0;                           /* the kernel's, to be written to */
};

static _noreturn_ void fatal(const struct stage1 *s, const struct error *err)
{
	log_error("skerry-init: %s; the machine ends here", err->msg ? err->msg : "out of memory");
	/* Without ACPI a kernel cannot power off; it would stop, and the host would wait. */
	if (s->config ? s->config->reboot_to_power_off : access("/sys/firmware/acpi", F_OK) < 0)
		power_reset();
	sync();
	(void)reboot(RB_POWER_OFF);
	_exit(1); /* the kernel panics, which ends the machine as well */
}

static void note(struct stage1 *s, struct error *err)
{
	buf_addf(&s->errors, "%s\n", err->msg ? err->msg : "out of memory");
	error_done(err);
}

/* ---- Mounts ---- */

static void mount_api(const char *type, const char *target, unsigned long flags, const char *options)
{
	if (mount(type, target, type, flags, options) < 0 && errno == ENOENT) {
		(void)mkdir(target, 0755);
		(void)mount(type, target, type, flags, options);
	}
}

static void open_console(void)
{
	int fd;

	/* The kernel has done so when the initrd holds the node. */
	if (fcntl(STDERR_FILENO, F_GETFD) >= 0)
		return;
	fd = open("/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC);
	for (int i = STDIN_FILENO; i <= STDERR_FILENO && fd >= 0; i++)
		if (i != fd)
			(void)dup2(fd, i);
		else
			(void)fcntl(fd, F_SETFD, 0); /* the init inherits it */
	if (fd > STDERR_FILENO)
		(void)close(fd);
}

static void mount_first(void)
{
	mount_api("devtmpfs", "/dev", MS_NOSUID, "mode=0755");
	mount_api("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_api("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_api("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=0620,ptmxmode=0666");
	open_console();
}

static bool is_mounted(const char *path)
{
	struct stat here, above;
	_cleanup_free_ char *parent = xasprintf("%s/..", path);

	return stat(path, &here) == 0 && stat(parent, &above) == 0 && here.st_dev != above.st_dev;
}

/* What programs expect of a system when no init of the image sees to it. */
static void mount_minimal(void)
{
	static const struct {
		const char *name, *to;
	} links[] = { { "/dev/fd", "/proc/self/fd" },
		      { "/dev/stdin", "/proc/self/fd/0" },
		      { "/dev/stdout", "/proc/self/fd/1" },
		      { "/dev/stderr", "/proc/self/fd/2" } };

	mount_api("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777");
	if (!is_mounted("/run"))
		mount_api("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755");
	(void)mkdir("/tmp", 01777);
	(void)chmod("/tmp", 01777);
	mount_api("cgroup2", "/sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(links); i++)
		if (symlink(links[i].to, links[i].name) < 0 && errno != EEXIST)
			log_warning("skerry-init: cannot make %s, ignoring: %s", links[i].name, strerror(errno));
}

/* ---- The configuration ---- */

static void read_config(struct stage1 *s)
{
	_cleanup_buf_ struct buf b = { 0 };
	struct error err = { 0 };
	int r = fwcfg_read(BOOTCONFIG_ITEM, BOOTCONFIG_BYTES_MAX, &b);

	if (r < 0)
		error_set_errno(&err, -r, "cannot read the boot configuration");
	else
		r = bootconfig_parse(b.p, b.len, &s->config, &err);
	if (b.p)
		explicit_bzero(b.p, b.len);
	if (r < 0)
		fatal(s, &err);
}

/* ---- Disks ---- */

static void mount_root(struct stage1 *s, uint64_t deadline_ns)
{
	struct error err = { 0 };
	const Skerry__Agent__V1__Disk *root = NULL;

	for (size_t i = 0; i < s->config->n_disks; i++)
		if (streq(s->config->disks[i]->mount, "/"))
			root = s->config->disks[i];
	(void)mkdir(new_root, 0755);
	/* Without one the initrd is the root. Its own mount has no parent, and pivot_root(2) wants one: a second mount of it has. */
	if (!root && mount("/", new_root, NULL, MS_BIND, NULL) < 0) {
		error_set_errno(&err, errno, "cannot make the initrd the root");
		fatal(s, &err);
	}
	if (root && disk_mount(root, new_root, deadline_ns, &s->errors, &err) < 0)
		fatal(s, &err);
	s->root = open(new_root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->root < 0) {
		error_set_errno(&err, errno, "cannot open the root");
		fatal(s, &err);
	}
}

/* Directories of the host, once the root is ours. */
static void mount_shares(struct stage1 *s)
{
	for (size_t i = 0; i < s->config->n_shares; i++) {
		const Skerry__Agent__V1__Share *share = s->config->shares[i];
		bool is_virtiofs = !share->fstype[0];
		struct error err = { 0 };
		int r = mkdir_parents_at(AT_FDCWD, share->target, 0755);

		/* What containers are made of has device nodes and set-uid programs; a directory that is merely shown has no business with them. */
		if (r >= 0 && mount(share->tag, share->target, is_virtiofs ? "virtiofs" : share->fstype,
				    is_virtiofs ? 0 : MS_NOSUID | MS_NODEV, share->options) < 0)
			r = -errno;
		if (r < 0) {
			error_set_errno(&err, -r, "share '%.40s': cannot mount it on %.200s", share->tag,
					share->target);
			note(s, &err);
		}
	}
}

static void mount_others(struct stage1 *s, uint64_t deadline_ns)
{
	for (size_t i = 0; i < s->config->n_disks; i++) {
		const Skerry__Agent__V1__Disk *d = s->config->disks[i];
		_cleanup_close_ int point = -EBADF;
		_cleanup_free_ char *target = NULL;
		struct error err = { 0 };

		if (streq(d->mount, "/"))
			continue;
		point = root_mkdir(s->root, d->mount, 0755, 0, 0);
		if (point < 0) {
			error_set_errno(&err, -point, "disk '%s': cannot make '%s'", d->serial, d->mount);
			note(s, &err);
			continue;
		}
		/* By descriptor: a link of the image has been resolved inside its root. Such a name leads below what is mounted
		 * there, so the disk is mounted and grown elsewhere, then moved. */
		target = xasprintf("/proc/self/fd/%d", point);
		(void)mkdir("/disk", 0755);
		if (disk_mount(d, "/disk", deadline_ns, &s->errors, &err) < 0) {
			note(s, &err);
		} else if (mount("/disk", target, NULL, MS_MOVE, NULL) < 0) {
			error_set_errno(&err, errno, "disk '%s': cannot move it to '%s'", d->serial, d->mount);
			note(s, &err);
		}
	}
}

static void apply_settings(struct stage1 *s)
{
	struct error err = { 0 };

	if (network_loopback(&err) < 0)
		note(s, &err);
	for (size_t i = 0; i < s->config->n_interfaces; i++)
		if (network_apply(s->config->interfaces[i], &err) < 0)
			note(s, &err);
	settings_files(s->config, s->root, &s->errors);
	for (size_t i = 0; i < s->config->n_users; i++)
		if (user_apply(s->config->users[i], s->root, &err) < 0)
			note(s, &err);
}

/* ---- Going over ---- */

static void hand_over(struct stage1 *s, const char *from)
{
	_cleanup_close_ int point = root_mkdir(s->root, from, 0755, 0, 0);
	_cleanup_free_ char *to = NULL;

	if (point < 0) {
		buf_addf(&s->errors, "%s: %s\n", from, strerror(-point));
		return;
	}
	to = xasprintf("/proc/self/fd/%d", point);
	if (mount(from, to, NULL, MS_MOVE, NULL) < 0)
		buf_addf(&s->errors, "%s: %s\n", from, strerror(errno));
}

static void switch_root(struct stage1 *s)
{
	_cleanup_close_ int initrd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct error err = { 0 };

	if (is_mounted("/run"))
		hand_over(s, "/run");
	hand_over(s, "/dev");
	hand_over(s, "/sys");
	hand_over(s, "/proc"); /* last: the others are moved by its descriptors' names */
	if (fchdir(s->root) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0) {
		error_set_errno(&err, errno, "cannot make the disk the root");
		fatal(s, &err);
	}
	/* Memory that nobody needs any more. Our own program stays as long as it runs. */
	if (initrd >= 0) {
		(void)remove_tree_at(initrd, "modules");
		(void)unlinkat(initrd, "init", 0);
	}
}

static bool has_init(const struct stage1 *s)
{
	_cleanup_close_ int fd = root_open(s->root, "/sbin/init", O_PATH, 0);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0111);
}

/* What is started here inherits it, containers without a limit of their own included; the kernel's own is for programs of another age. As containerd's
 * and docker's services have it. The image's init sets its own. */
static void raise_limits(void)
{
	enum { FILES_MAX = 1048576 };
	const struct rlimit files = { .rlim_cur = FILES_MAX, .rlim_max = FILES_MAX };

	if (setrlimit(RLIMIT_NOFILE, &files) < 0)
		log_warning("skerry-init: cannot raise the limit of open files, ignoring: %s", strerror(errno));
}

static int serve_guest(struct stage1 *s, bool is_init)
{
	struct strv environment = { 0 };
	struct serve_options o = {
		.is_init = is_init,
		.agent = {
			.target = { .fd = -1, .vsock_port = s->config->vsock_port },
			.environment = &environment,
			.error = s->errors.p,
			.reboot_to_power_off = s->config->reboot_to_power_off,
		},
	};

	raise_limits();
	if (s->config->token.len == SYNC_TOKEN_SIZE)
		o.agent.target.token = s->config->token.data;
	for (size_t i = 0; i < s->config->n_environment; i++)
		strv_add(&environment, s->config->environment[i]);
	o.agent.root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return serve(&o);
}

/* The process that stays beside the image's init. systemd leaves processes alone whose name begins with '@' when it ends all others. */
static _noreturn_ void agent_main(struct stage1 *s)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	setsid();
	s->argv0[0] = '@';
	(void)prctl(PR_SET_NAME, "skerry-agent");
	if (null >= 0) {
		(void)dup2(null, STDIN_FILENO);
		(void)dup2(null, STDOUT_FILENO);
	}
	_exit(serve_guest(s, false) < 0);
}

static void become_init(struct stage1 *s)
{
	char path[] = "/sbin/init", *argv[] = { path, NULL };
	pid_t pid = fork();

	if (pid == 0)
		agent_main(s);
	if (pid < 0)
		log_error("skerry-init: cannot start the agent: %s", strerror(errno));
	execve(path, argv, environ);
	log_error("skerry-init: cannot execute /sbin/init: %s; staying", strerror(errno));
	if (pid > 0)
		for (;;) /* the agent is another process: nothing is left to do here but to be there */
			pause();
}

int stage1_main(char **argv)
{
	struct stage1 s = { .root = -EBADF, .argv0 = argv[0] };
	uint64_t deadline_ns;
	bool init;

	umask(022);
	mount_first();
	modules_load(&s.errors);
	read_config(&s);
	deadline_ns = clock_monotonic_ns() + device_wait_ns;
	settings_kernel(s.config, &s.errors);
	mount_root(&s, deadline_ns);
	mount_others(&s, deadline_ns);
	apply_settings(&s);
	init = s.config->init != SKERRY__AGENT__V1__BOOT_CONFIG__INIT__AGENT && has_init(&s);
	if (!init && s.config->init == SKERRY__AGENT__V1__BOOT_CONFIG__INIT__IMAGE)
		buf_addf(&s.errors, "the image has no /sbin/init\n");
	switch_root(&s);
	if (!init)
		mount_minimal();
	mount_shares(&s);
	if (s.errors.len > 0) {
		buf_truncate(&s.errors, s.errors.len - 1);
		log_error("skerry-init: %s", s.errors.p);
	}
	if (init)
		become_init(&s);
	return serve_guest(&s, true);
}
