/* doctor: what this host can do, what is missing, and the command that fixes it. */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/parse.h"
#include "base/spawn.h"
#include "base/table.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "engine/accel.h"
#include "engine/engine.h"
#include "engine/firmware.h"
#include "image/image.h"
#include "image/kernel.h"
#include "machine/scope.h"
#include "machine/virtiofs.h"
#include "machine/vsock.h"
#include "store/paths.h"
#include "store/store.h"

enum { STATUS_UNAVAILABLE = 69, VERSION_LIMIT = 4096, SUBUID_LIMIT = 1 << 20 };
#define SPACE_LOW_BYTES (UINT64_C(2) << 30)

struct doctor_options {
	int format;
	bool quiet;
};

static const struct option doctor_table[] = {
	FORMAT_OPTION(doctor_options),
	FLAG('q', "quiet", doctor_options, quiet, "Print the names of what was looked at only"),
};

static const struct table_column doctor_columns[] = {
	{ "check", "CHECK", TABLE_TEXT },
	{ "status", "STATUS", TABLE_TEXT },
	{ "detail", "DETAIL", TABLE_TEXT },
	{ "fix", "FIX", TABLE_TEXT },
};

enum verdict { VERDICT_OK, VERDICT_LIMITED, VERDICT_MISSING };

struct doctor {
	struct store store;
	struct table *table;
	bool missing; /* something without which no machine runs */
};

static void say(struct doctor *d, const char *check, enum verdict v, const char *fix, const char *fmt, ...)
	_printf_(5, 6);
static void say(struct doctor *d, const char *check, enum verdict v, const char *fix, const char *fmt, ...)
{
	static const char *const words[] = { "ok", "limited", "missing" };
	_cleanup_free_ char *detail = NULL;
	va_list ap;

	va_start(ap, fmt);
	detail = xvasprintf(fmt, ap);
	va_end(ap);
	table_text(d->table, check);
	table_text(d->table, words[v]);
	table_text(d->table, detail);
	table_text(d->table, v == VERDICT_OK ? NULL : fix);
	d->missing = d->missing || v == VERDICT_MISSING;
}

/* The first line of `PROGRAM --version`, owned by the caller. */
static char *version_of(const char *program)
{
	const char *argv[] = { program, "--version", NULL };
	_cleanup_buf_ struct buf out = {};
	struct spawn sp = SPAWN_INIT;

	sp.argv = argv;
	if (spawn_check(&sp, NULL, &out, VERSION_LIMIT, 10 * NS_PER_SEC, NULL) < 0 || !out.len)
		return xstrdup(program);
	out.p[strcspn(out.p, "\n")] = '\0';
	return xstrdup(out.p);
}

static void check_engine(struct doctor *d)
{
	const struct engine *qemu = engine_find("qemu");
	_cleanup_free_ char *program = NULL, *version = NULL;
	_cleanup_error_ struct error e = {};
	struct accel_probe probe = {};

	if (!qemu || qemu->find_program(&program, &e) < 0) {
		say(d, "qemu", VERDICT_MISSING, "apt-get install qemu-system-x86", "%s",
		    e.msg ? e.msg : "no such engine");
	} else {
		version = version_of(program);
		say(d, "qemu", VERDICT_OK, NULL, "%s", version);
	}
	accel_probe(d->store.cache_fd, program, &probe);
	if (probe.kvm_usable)
		say(d, "acceleration", VERDICT_OK, NULL, "kvm, CPU model %s",
		    *probe.cpu_model ? probe.cpu_model : "host");
	else
		say(d, "acceleration", VERDICT_LIMITED,
		    access("/dev/kvm", F_OK) < 0
			    ? "enable virtualization in the firmware, or nested virtualization where this is a guest"
		    : access("/dev/kvm", R_OK | W_OK) < 0 ? "adduser $USER kvm, then log in again"
							  : "use a host whose KVM runs stock kernels",
		    "emulation (tcg), slower and without QEMU's promise of isolation: %s", probe.why);
}

/* Without it the agent has a serial port. */
static void check_vsock(struct doctor *d)
{
	const char *why;

	if (vsock_usable(&why))
		say(d, "vsock", VERDICT_OK, NULL, "/dev/vhost-vsock");
	else
		say(d, "vsock", VERDICT_OK, NULL, "not needed; %s", why);
}

/* What becomes of machines when their user logs out. */
static void check_logout(struct doctor *d)
{
	switch (scope_manager()) {
	case SCOPE_NONE: say(d, "logout", VERDICT_OK, NULL, "machines go on: they are detached processes"); break;
	case SCOPE_SYSTEM:
	case SCOPE_USER: say(d, "logout", VERDICT_OK, NULL, "machines go on, in systemd scopes of their own"); break;
	case SCOPE_USER_FLEETING:
		say(d, "logout", VERDICT_LIMITED, "loginctl enable-linger",
		    "machines go on only where logind.conf has KillUserProcesses=no");
		break;
	}
}

static void check_program(struct doctor *d, const char *name, enum verdict without, const char *package,
			  const char *purpose)
{
	_cleanup_free_ char *path = program_find(name), *fix = xasprintf("apt-get install %s", package);

	if (path)
		say(d, name, VERDICT_OK, NULL, "%s", path);
	else
		say(d, name, without, fix, "%s", purpose);
}

static bool has_header(const char *name)
{
	const char *argv[] = { "gcc", "-E", "-include", name, "-x", "c", "-o", "/dev/null", "/dev/null", NULL };
	struct spawn sp = SPAWN_INIT;

	sp.argv = argv;
	return spawn_check(&sp, NULL, NULL, VERSION_LIMIT, 10 * NS_PER_SEC, NULL) >= 0;
}

/* As kernel/build.sh wants them. */
static void check_kernel_build(struct doctor *d)
{
	static const char *const programs[] = { "make", "gcc", "ld",  "objcopy", "readelf", "strip", "bison",
						"flex", "bc",  "lz4", "perl",    "patch",   "tar",   "xz" };
	static const char *const headers[] = { "gelf.h", "openssl/opensslv.h" };
	_cleanup_buf_ struct buf lacking = {};

	for (size_t i = 0; i < ARRAY_SIZE(headers); i++)
		if (!has_header(headers[i]))
			buf_addf(&lacking, "%s%s", lacking.len ? " " : "", headers[i]);
	for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
		_cleanup_free_ char *path = program_find(programs[i]);

		if (!path)
			buf_addf(&lacking, "%s%s", lacking.len ? " " : "", programs[i]);
	}
	if (lacking.len)
		say(d, "kernel-build", VERDICT_LIMITED, "apt-get install " KERNEL_BUILD_PACKAGES,
		    "not installed: %s; needed by skerry kernel build", lacking.p);
	else
		say(d, "kernel-build", VERDICT_OK, NULL, "what it takes is there");
}

static void check_firmware(struct doctor *d)
{
	_cleanup_free_ char *code = NULL, *variables = NULL;

	if (firmware_find(FIRMWARE_UEFI, &code, &variables, NULL) >= 0)
		say(d, "firmware", VERDICT_OK, NULL, "%s", code);
	else
		say(d, "firmware", VERDICT_LIMITED, "apt-get install ovmf",
		    "no UEFI firmware: imported disk images cannot boot");
}

static void check_own(struct doctor *d, const char *name)
{
	_cleanup_free_ char *path = libexec_path(name);

	if (path)
		say(d, name, VERDICT_OK, NULL, "%s", path);
	else
		say(d, name, VERDICT_MISSING, "make install", "not beside skerry");
}

static void check_made(struct doctor *d)
{
	struct image_index index = {};
	struct kernel_meta kernel = {};
	_cleanup_error_ struct error e = {};

	if (kernel_default(&d->store, &kernel, &e) >= 0)
		say(d, "kernel", kernel.built ? VERDICT_OK : VERDICT_LIMITED, "skerry kernel build", "%s, %s%s",
		    kernel.name, kernel.release, kernel.built ? "" : ": one built for machines boots faster");
	else
		say(d, "kernel", VERDICT_LIMITED, "skerry kernel import debian", "none yet; `run` imports Debian's");
	kernel_meta_done(&kernel);
	if (image_index_load(&d->store, &index, NULL) >= 0 && index.n)
		say(d, "images", VERDICT_OK, NULL, "%zu", index.n);
	else
		say(d, "images", VERDICT_LIMITED, "skerry image build tiny",
		    "none yet; `run tiny` and `run debian` build theirs");
	image_index_done(&index);
}

/* Debian images are built in a user namespace when this is not root. */
static void check_subuid(struct doctor *d)
{
	struct passwd *pw = getpwuid(geteuid());
	_cleanup_buf_ struct buf text = {};
	_cleanup_free_ char *entry = NULL, *fix = NULL, *by_line = NULL;

	if (geteuid() == 0) {
		say(d, "newuidmap", VERDICT_OK, NULL, "not needed as root");
		say(d, "subuid", VERDICT_OK, NULL, "not needed as root");
		return;
	}
	check_program(d, "newuidmap", VERDICT_LIMITED, "uidmap",
		      "not installed; needed to build Debian images without root");
	if (!pw) {
		say(d, "subuid", VERDICT_LIMITED, NULL, "this user has no name");
		return;
	}
	(void)file_read_at(AT_FDCWD, "/etc/subuid", SUBUID_LIMIT, &text);
	entry = xasprintf("%s:", pw->pw_name);
	by_line = xasprintf("\n%s", entry);
	fix = xasprintf("usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s", pw->pw_name);
	if (text.p && (after_prefix(text.p, entry) || strstr(text.p, by_line)))
		say(d, "subuid", VERDICT_OK, NULL, "a range in /etc/subuid");
	else
		say(d, "subuid", VERDICT_LIMITED, fix,
		    "no range in /etc/subuid: Debian images cannot be built without root");
}

static void check_virtiofsd(struct doctor *d)
{
	const char *path = virtiofs_program(NULL);

	if (path)
		say(d, "virtiofsd", VERDICT_OK, NULL, "%s", path);
	else
		say(d, "virtiofsd", VERDICT_LIMITED, VIRTIOFS_HINT,
		    "not installed; needed for containers of containerd");
}

static void check_host(struct doctor *d)
{
	struct statvfs fs;
	char space[32];

	if (access("/dev/net/tun", R_OK | W_OK) == 0)
		say(d, "tun", VERDICT_OK, NULL, "/dev/net/tun");
	else
		say(d, "tun", VERDICT_LIMITED, errno == EACCES ? "as root: chmod 0666 /dev/net/tun" : "modprobe tun",
		    "/dev/net/tun: %s; network mode user does not need it", strerror(errno));
	if (fstatvfs(d->store.home_fd, &fs) == 0) {
		uint64_t bytes = (uint64_t)fs.f_bavail * fs.f_frsize;

		say(d, "space", bytes < SPACE_LOW_BYTES ? VERDICT_LIMITED : VERDICT_OK,
		    "skerry image delete, skerry delete, skerry disk trim", "%s free in %s",
		    format_bytes(bytes, space, sizeof(space)), d->store.home_path);
	}
}

static int run_doctor(const struct invocation *inv, struct error *err)
{
	const struct doctor_options *o = inv->options;
	struct doctor d = {};
	int r = store_open(&d.store, err);

	if (r < 0)
		return r;
	d.table = table_new(doctor_columns, ARRAY_SIZE(doctor_columns));
	check_engine(&d);
	check_vsock(&d);
	check_logout(&d);
	check_firmware(&d);
	check_own(&d, "skerry-monitor");
	check_own(&d, "skerry-init");
	check_own(&d, "skerry-image");
	check_made(&d);
	check_kernel_build(&d);
	check_program(&d, "qemu-img", VERDICT_LIMITED, "qemu-utils",
		      "not installed; needed for snapshots, to import disk images and to export them");
	check_program(&d, "passt", VERDICT_LIMITED, "passt",
		      "not installed; QEMU's own user networking serves, slower");
	check_program(&d, "ssh", VERDICT_LIMITED, "openssh-client", "not installed; needed by skerry ssh");
	check_program(&d, "ssh-keygen", VERDICT_LIMITED, "openssh-client",
		      "not installed; needed for images with an ssh server");
	check_program(&d, "mmdebstrap", VERDICT_LIMITED, "mmdebstrap", "not installed; needed to build Debian images");
	check_subuid(&d);
	check_program(&d, "crun", VERDICT_LIMITED, "crun", "not installed; needed for containers of containerd");
	check_virtiofsd(&d);
	check_host(&d);
	r = output_table(d.table, doctor_columns, ARRAY_SIZE(doctor_columns), o->format, o->quiet, err);
	table_free(d.table);
	store_done(&d.store);
	if (r < 0)
		return r;
	return d.missing ? STATUS_UNAVAILABLE : 0;
}

const struct command doctor_command = {
	.name = "doctor",
	.operands = "",
	.summary = "Show what this host can do, what is missing, and what fixes it",
	.description = "`limited` is something one can live without. `missing` keeps machines from running; the exit "
		       "status is 69 then.",
	.examples = { { "skerry doctor", "Look at everything" }, { "skerry doctor --format json", "For programs" } },
	.options = doctor_table,
	.n_options = ARRAY_SIZE(doctor_table),
	.options_size = sizeof(struct doctor_options),
	.run = run_doctor,
};
