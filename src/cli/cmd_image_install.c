/* image install, image seal: from an installer's ISO to an image.
 *
 * What is being installed is a machine like any other, a draft: its disks are empty and stand on nothing, the ISO is in its CD drive, and its
 * name is made of the image's. So whatever is killed, the machine's own record tells how far it got. Only sealing makes an image of it, at
 * once and whole; the draft goes after that. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/parse.h"
#include "cli/commands.h"
#include "cli/console_join.h"
#include "cli/create.h"
#include "cli/output.h"
#include "cli/provide.h"
#include "image/reference.h"
#include "machine/client.h"
#include "machine/machine.h"
#include "monitor.pb-c.h"

#define DISK_DEFAULT    (UINT64_C(20) << 30)
#define RESTART_WAIT_NS (60 * NS_PER_SEC)
#define STOP_WAIT_NS    (30 * NS_PER_SEC)
enum { STATUS_INTERRUPTED = 130 };
#define LATEST       ":latest"
#define DRAFT_PREFIX "install-"

struct image_install_options {
	struct create_options create;
	const char *iso, *answers;
	bool again;
};

static const struct option image_install_table[] = {
	TEXT(0, "iso", "FILE", image_install_options, iso, "The installer", .complete = "file"),
	TEXT(0, "disk", "SIZE", image_install_options, create.disk, "Size of the empty system disk (20G unless given)"),
	TEXT(0, "home", "SIZE", image_install_options, create.home, "A second empty disk, of that size, for /home"),
	TEXT(0, "answers", "DIR", image_install_options, answers,
	     "Files for an unattended installation, as a disk named CIDATA (with user-data and meta-data in it) or "
	     "OEMDRV",
	     .complete = "file"),
	TEXT(0, "cpus", "N", image_install_options, create.cpus, "Virtual CPUs while it installs"),
	TEXT('m', "memory", "SIZE", image_install_options, create.memory, "Memory while it installs (2G unless given)"),
	TEXT(0, "net", "MODE", image_install_options, create.net, "Network mode while it installs"),
	TEXT(0, "accel", "ACCEL", image_install_options, create.accel, "Hardware virtualization or emulation",
	     .words = "auto|kvm|tcg"),
	FLAG(0, "again", image_install_options, again, "Forget what was installed under that name, and begin anew"),
};

/* The image's name as the store writes it, and the draft's. */
static int draft_name(const char *operand, char **ret_image, struct name *ret, struct error *err)
{
	_cleanup_free_ char *image = NULL, *machine = NULL;
	struct reference ref;
	size_t n;
	int r = reference_parse(operand, &ref, err);

	if (r < 0)
		return r;
	if (ref.digest[0])
		return error_set_kind(err, ERROR_USAGE, EINVAL, "image '%s': a digest cannot be given as a name",
				      operand);
	image = reference_name(&ref);
	n = strlen(image);
	if (n > strlen(LATEST) && streq(image + n - strlen(LATEST), LATEST))
		n -= strlen(LATEST);
	machine = xasprintf(DRAFT_PREFIX "%.*s", (int)n, image);
	for (char *p = machine; *p; p++)
		if (strchr(":/@[]", *p))
			*p = '-';
	r = name_parse(machine, "draft", ret, err);
	if (r >= 0)
		*ret_image = TAKE_PTR(image);
	return r;
}

/* What is there of an earlier try. */
enum draft_stage {
	DRAFT_NONE,
	DRAFT_RUNS,
	DRAFT_BROKEN, /* never started, killed, stopped by hand, crashed: no installer has said that it is done */
	DRAFT_DONE,   /* its guest powered off */
};

static int draft_look(const struct store *s, const struct name *name, const char *image, enum draft_stage *ret,
		      struct machine_info *info, struct error *err)
{
	_cleanup_error_ struct error e = {};
	int r = machine_info_load(s, name, info, &e);

	*ret = DRAFT_NONE;
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return error_move(err, &e);
	if (!info->spec.draft || !streq(info->spec.draft, image))
		return error_set_kind(err, ERROR_EXISTS, EEXIST,
				      "a machine named '%s' exists, and is no draft of image '%s'", name->s, image);
	switch (info->status) {
	case MACHINE_STARTING:
	case MACHINE_RUNNING:
	case MACHINE_PAUSED:
	case MACHINE_STOPPING: *ret = DRAFT_RUNS; break;
	case MACHINE_CREATED:
	case MACHINE_STOPPED:
	case MACHINE_FAILED:
	case MACHINE_STATUS_MAX:
		*ret = info->has_exit && !info->exit.failed && info->exit.reason &&
				       streq(info->exit.reason, EXIT_POWERED_OFF)
			       ? DRAFT_DONE
			       : DRAFT_BROKEN;
		break;
	}
	return 0;
}

/* An ISO that can be read. */
static int take_installer(const char *path, struct machine_spec *spec, struct error *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set_errno(err, errno, "--iso '%s'", path);
	spec->installer = realpath(path, NULL);
	if (!spec->installer)
		return error_set_errno(err, errno, "--iso '%s'", path);
	if (!S_ISREG(st.st_mode) || st.st_size % 512)
		return error_set_kind(err, ERROR_DATA, EBADMSG, "--iso '%s': it is no ISO image", path);
	return 0;
}

static int take_answers(const char *path, struct machine_spec *spec, struct error *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0)
		spec->answers_path = realpath(path, NULL);
	return spec->answers_path ? 0 : error_set_errno(err, errno, "--answers '%s'", path);
}

/* What is to be made, and whether it can be: nothing that is there already has gone by then. */
static int plan_draft(const struct store *s, const struct image_install_options *o, const char *image,
		      const struct name *name, struct machine_spec *ret, struct error *err)
{
	int r;

	if (!o->iso) {
		error_set_kind(err, ERROR_USAGE, EINVAL, "image install: no installer was given");
		return error_hint(err, "--iso FILE");
	}
	r = create_spec(s, &o->create, image, ret, err);
	if (r < 0)
		return r;
	/* What config.yaml wants of machines is not meant for installers. */
	if (!o->create.memory)
		ret->memory_bytes = 0;
	free(ret->kernel);
	ret->kernel = NULL;
	ret->restart = RESTART_NO;
	if (!o->create.disk)
		ret->disk_bytes = DISK_DEFAULT;
	ret->name = xstrdup(name->s);
	ret->draft = xstrdup(image);
	r = take_installer(o->iso, ret, err);
	if (r >= 0 && o->answers)
		r = take_answers(o->answers, ret, err);
	return r < 0 ? r : machine_spec_check(ret, err);
}

/* Between two runs the monitor is there and the console is not: 1 = it runs again, 0 = it is over. */
static int wait_restart(const struct store *s, const struct name *name, struct error *err)
{
	Skerry__Monitor__V1__WaitRequest m = SKERRY__MONITOR__V1__WAIT_REQUEST__INIT;
	_cleanup_client_ struct client c = {};
	_cleanup_error_ struct error e = {};
	int r = client_connect(s, name, &c, &e);

	if (r == -ESRCH)
		return 0;
	if (r < 0)
		return error_move(err, &e);
	m.event = SKERRY__MONITOR__V1__WAIT_REQUEST__EVENT__RUNNING;
	r = client_call(&c, MONITOR_SERVICE, "Wait", &m.base, RESTART_WAIT_NS, NULL, &e);
	if (r == -ESRCH)
		return 0;
	/* A monitor that died is no end: what runs on gets another one. */
	if (r == -ECONNRESET || r == -EPIPE)
		return 1;
	return r < 0 ? error_move(err, &e) : 1;
}

/* Stays with it to the end of its last run. Returns enum console_end. */
static int stay(const struct store *s, const struct name *name, struct error *err)
{
	for (;;) {
		_cleanup_error_ struct error e = {};
		int r = wait_restart(s, name, err);

		if (r <= 0)
			return r < 0 ? r : CONSOLE_ENDED;
		r = console_join(s, name, &e);
		if (r < 0 && r != -ENOENT && r != -ECONNREFUSED)
			return error_move(err, &e);
		if (r == CONSOLE_LEFT || r == CONSOLE_INTERRUPTED)
			return r;
	}
}

static int begin(const struct store *s, const struct image_install_options *o, const char *image,
		 const struct name *name, struct error *err)
{
	_cleanup_info_ struct machine_info info = {};
	_cleanup_spec_ struct machine_spec spec = {};
	struct start_options start = {};
	enum draft_stage stage;
	bool already;
	int r = draft_look(s, name, image, &stage, &info, err);

	if (r < 0)
		return r;
	if (stage == DRAFT_DONE && !o->again) {
		error_set_kind(err, ERROR_EXISTS, EEXIST, "image '%s' is installed already, and waits to be sealed",
			       image);
		return error_hint(err, "skerry image seal %s, or skerry image install %s --again --iso FILE", image,
				  image);
	}
	if (stage == DRAFT_RUNS && !o->again) {
		output_notice("the installation of '%s' goes on", image);
		return 0;
	}
	if (stage == DRAFT_BROKEN && !o->again && !o->iso) {
		error_set_kind(err, ERROR_EXISTS, EEXIST,
			       "the last installation of '%s' did not come to its end, and is still there", image);
		return error_hint(
			err, "skerry start %s goes on with it; skerry image install %s --again --iso FILE begins anew",
			name->s, image);
	}
	r = plan_draft(s, o, image, name, &spec, err);
	if (r >= 0 && stage != DRAFT_NONE) {
		if (stage == DRAFT_BROKEN)
			output_notice("the last installation of '%s' did not come to its end: it begins anew", image);
		r = machine_delete(s, name, true, STOP_WAIT_NS, err);
	}
	if (r >= 0)
		r = machine_create(s, &spec, true, err);
	if (r >= 0)
		r = machine_start(s, name, &start, &already, err);
	return r;
}

static int run_image_install(const struct invocation *inv, struct error *err)
{
	const struct image_install_options *o = inv->options;
	_cleanup_info_ struct machine_info info = {};
	_cleanup_free_ char *image = NULL;
	_cleanup_store_ struct store s = {};
	enum draft_stage stage;
	struct name name;
	int r = draft_name(inv->operands[0], &image, &name, err);

	if (r >= 0)
		r = store_open(&s, err);
	if (r >= 0)
		r = begin(&s, o, image, &name, err);
	if (r >= 0)
		r = stay(&s, &name, err);
	if (r < 0)
		return r;
	if (r == CONSOLE_LEFT || r == CONSOLE_INTERRUPTED) {
		output_notice("the installation goes on as machine '%s'; the same command joins it again", name.s);
		return r == CONSOLE_LEFT ? 0 : STATUS_INTERRUPTED;
	}
	r = draft_look(&s, &name, image, &stage, &info, err);
	if (r < 0)
		return r;
	if (stage != DRAFT_DONE) {
		error_set(err, EIO, "image '%s' was not installed: %s", image,
			  info.exit.reason ? info.exit.reason : "its machine has gone");
		return error_hint(err, "skerry logs %s", name.s);
	}
	/* Standard output was the console's. */
	output_notice("installed; `skerry image seal %s` makes an image of it", inv->operands[0]);
	return 0;
}

const struct command image_install_command = {
	.name = "install",
	.operands = "NAME",
	.min_operands = 1,
	.max_operands = 1,
	.summary = "Install a system from an ISO, for an image",
	.description =
		"Boots the ISO by UEFI firmware with empty disks, on a text console that this terminal is joined to, "
		"until "
		"the guest powers off; a reboot goes on from the disk. The result is a draft, the machine "
		"install-NAME, "
		"until `skerry image seal NAME`. Whatever was interrupted: the same command joins it again, or, with "
		"--iso, begins anew. What is there already goes only when what was asked for can be made.",
	.examples = { { "skerry image install mine --iso debian-12-amd64-netinst.iso --disk 8G", "By hand" },
		      { "skerry image install alma --iso AlmaLinux-9-x86_64-minimal.iso --answers ./ks",
			"Unattended: ./ks holds ks.cfg, which says poweroff at its end" } },
	.options = image_install_table,
	.n_options = ARRAY_SIZE(image_install_table),
	.options_size = sizeof(struct image_install_options),
	.run = run_image_install,
};

struct image_seal_options {
	const char *user;
	bool force;
};

static const struct option image_seal_table[] = {
	TEXT('u', "user", "USER", image_seal_options, user, "User that cloud-init makes for ssh (dev unless given)"),
	FLAG('f', "force", image_seal_options, force, "Also when no installer has powered off by itself"),
};

static int seal(const struct store *s, const char *image, const struct machine_info *info, const char *user,
		struct error *err)
{
	const char *iso = info->spec.installer ? strrchr(info->spec.installer, '/') : NULL;
	_cleanup_free_ char *disk = xasprintf("%s/machines/%s/system.qcow2", s->home_path, info->spec.name);
	_cleanup_free_ char *nvram = xasprintf("%s/machines/%s/nvram", s->home_path, info->spec.name);
	_cleanup_free_ char *home = xasprintf("%s/machines/%s/home.qcow2", s->home_path, info->spec.name);
	_cleanup_free_ char *source = xasprintf("installer %s", iso ? iso + 1 : "");
	const char *args[13] = { "seal-image", disk, "--name", image, "--nvram", nvram, "--source", source };
	size_t n = 8;

	if (info->spec.home_bytes) {
		args[n++] = "--home";
		args[n++] = home;
	}
	if (user) {
		args[n++] = "--user";
		args[n++] = user;
	}
	return provide_run(args, STDOUT_FILENO, err);
}

static int run_image_seal(const struct invocation *inv, struct error *err)
{
	const struct image_seal_options *o = inv->options;
	_cleanup_info_ struct machine_info info = {};
	_cleanup_free_ char *image = NULL;
	_cleanup_store_ struct store s = {};
	_cleanup_close_ int lock = -EBADF;
	enum draft_stage stage;
	struct name name;
	int r = draft_name(inv->operands[0], &image, &name, err);

	if (r >= 0)
		r = store_open(&s, err);
	if (r >= 0)
		r = draft_look(&s, &name, image, &stage, &info, err);
	if (r < 0)
		return r;
	if (stage == DRAFT_NONE) {
		error_set(err, ENOENT, "nothing was installed for image '%s'", image);
		return error_hint(err, "skerry image install %s --iso FILE", inv->operands[0]);
	}
	if (stage == DRAFT_RUNS)
		return error_set(err, EBUSY, "image '%s' is still being installed, by machine '%s'", image, name.s);
	if (stage == DRAFT_BROKEN && !o->force) {
		error_set_kind(err, ERROR_DATA, EBADMSG, "the installation of image '%s' did not come to its end: %s",
			       image, info.exit.reason ? info.exit.reason : "it never ran");
		return error_hint(err,
				  "skerry image install %s --iso FILE, or --force when it is complete all the same",
				  inv->operands[0]);
	}
	/* Nobody starts it meanwhile. */
	lock = store_machine_lock(&s, &name, 0, err);
	if (lock < 0)
		return lock;
	r = seal(&s, image, &info, o->user, err);
	if (r != 0)
		return r;
	lock = safe_close(lock);
	return machine_delete(&s, &name, false, STOP_WAIT_NS, err);
}

const struct command image_seal_command = {
	.name = "seal",
	.operands = "NAME",
	.min_operands = 1,
	.max_operands = 1,
	.summary = "Make an image of what was installed",
	.description = "The draft's disk is copied into an image that nothing changes any more; then the draft goes. "
		       "Machines made "
		       "from it boot it by firmware, with the boot entries that its installer wrote.",
	.examples = { { "skerry image seal mine", "After `skerry image install mine`" } },
	.options = image_seal_table,
	.n_options = ARRAY_SIZE(image_seal_table),
	.options_size = sizeof(struct image_seal_options),
	.run = run_image_seal,
};
