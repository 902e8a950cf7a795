#include "disk/disk_file.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/spawn.h"
#include "disk/qcow2.h"
#include "json/json.h"

/* How this works: qemu-img is told the format that the first bytes show, never asked to find out, so that a raw disk which holds the header of
 * something else is a raw disk. Its files are descriptors of ours (/proc/self/fd/N). As another user it may only open again what that user
 * may, so the output belongs to that user meanwhile, and an input that is not everybody's is copied (where the file system can, by
 * reference). Output goes into a qcow2 that was made here, of the size that was checked. */

enum { IN_FD = 3, OUT_FD = 4, INFO_MAX = 1 << 20, NOBODY_UID = 65534, CPU_BASE_S = 60 };
#define MEMORY_MAX (UINT64_C(2) << 30)
/* What a well packed disk may grow to: several times what real ones do. */
#define RATIO_MAX       256
#define ALWAYS_ALLOWED  (UINT64_C(16) << 30)
#define CPU_BYTES_PER_S (UINT64_C(8) << 20)
#define SLACK_BYTES     (UINT64_C(64) << 20)

static bool begins(const char *head, size_t n, size_t at, const char *magic, size_t len)
{
	return n >= at + len && memcmp(head + at, magic, len) == 0;
}

enum disk_file_kind disk_file_recognise(const void *data, size_t n)
{
	static const struct {
		size_t at;
		const char *magic;
		size_t len;
		enum disk_file_kind kind;
	} magics[] = {
		{ 0, "QFI\xfb", 4, DISK_FILE_QCOW2 },
		{ 0, "KDMV", 4, DISK_FILE_VMDK },
		{ 0, "# Disk DescriptorFile", 21, DISK_FILE_VMDK },
		{ 0, "vhdxfile", 8, DISK_FILE_VHDX },
		{ 64, "\x7f\x10\xda\xbe", 4, DISK_FILE_VDI },
		{ 0, "\x1f\x8b\x08", 3, DISK_FILE_PACKED },
		{ 0,
		  "\xfd"
		  "7zXZ\0",
		  6, DISK_FILE_PACKED },
		{ 0, "\x28\xb5\x2f\xfd", 4, DISK_FILE_PACKED },
		{ 0, "BZh", 3, DISK_FILE_PACKED },
		/* Before the partition tables: an ISO that boots from a stick has one. */
		{ 32769, "CD001", 5, DISK_FILE_ISO },
		{ 512, "EFI PART", 8, DISK_FILE_RAW },
		{ 4096, "EFI PART", 8, DISK_FILE_RAW },
		{ 510, "\x55\xaa", 2, DISK_FILE_RAW },
	};

	for (size_t i = 0; i < ARRAY_SIZE(magics); i++)
		if (begins(data, n, magics[i].at, magics[i].magic, magics[i].len))
			return magics[i].kind;
	return DISK_FILE_NONE;
}

const char *disk_file_name(enum disk_file_kind kind)
{
	static const char *const names[] = {
		[DISK_FILE_NONE] = "unknown",      [DISK_FILE_RAW] = "raw",   [DISK_FILE_QCOW2] = "qcow2",
		[DISK_FILE_VMDK] = "vmdk",         [DISK_FILE_VHDX] = "vhdx", [DISK_FILE_VDI] = "vdi",
		[DISK_FILE_PACKED] = "compressed", [DISK_FILE_ISO] = "iso",
	};

	return (size_t)kind < ARRAY_SIZE(names) ? names[kind] : "unknown";
}

static int refused(struct error *err, const char *what, const char *kind, const char *name)
{
	error_set_kind(err, ERROR_DATA, EBADMSG, "%s: it is not whole: it refers to %s%s%.200s%s", what, kind,
		       name ? " '" : "", name ? name : "", name ? "'" : "");
	return error_hint(err, "qemu-img convert, where both files are, makes one of them");
}

static uint64_t be64_at(const char *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return be64toh(v);
}

/* Header (docs/interop/qcow2.txt): version at 4, incompatible features at 72, of which bit 2 is external data. */
static int check_qcow2(int fd, const char *what, struct error *err)
{
	_cleanup_(qcow2_info_done) struct qcow2_info info = {};
	char head[80] = {};
	int r = pread_full(fd, head, sizeof(head), 0);

	if (r >= 0 && head[7] == 3 && (be64_at(head + 72) & 4))
		return refused(err, what, "an external data file", NULL);
	r = qcow2_read_info(fd, what, &info, err);
	if (r < 0)
		return r;
	return info.backing_path ? refused(err, what, "the backing file", info.backing_path) : 0;
}

/* A sparse extent (VMware's "Virtual Disk Format 1.1"): capacity at 12; 0 says that a description inside names the files. */
static int check_vmdk(int fd, const char *what, struct error *err)
{
	char head[20] = {};
	int r = pread_full(fd, head, sizeof(head), 0);

	if (r < 0)
		return error_set(err, EBADMSG, "%s: damaged: too short", what);
	if (head[0] == '#' || be64_at(head + 12) == 0)
		return refused(err, what, "files beside it (a description, or split into parts)", NULL);
	return 0;
}

static int check_length(int fd, const char *what, uint64_t bytes, struct error *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return error_set_errno(err, errno, "%s", what);
	if ((uint64_t)st.st_size >= bytes)
		return 0;
	return error_set(err, EBADMSG, "%s: cut short: %" PRIu64 " bytes are missing", what,
			 bytes - (uint64_t)st.st_size);
}

static uint32_t le32_at(const char *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

/* Header (VirtualBox's VDI 1.1): offset of the data at 0x158, bytes of a block at 0x178 and beside it at 0x17c, blocks in the file at 0x184. */
static int check_vdi(int fd, const char *what, struct error *err)
{
	char head[0x188] = {};
	uint64_t bytes;

	if (pread_full(fd, head, sizeof(head), 0) < 0)
		return error_set(err, EBADMSG, "%s: damaged: too short", what);
	if (__builtin_mul_overflow((uint64_t)le32_at(head + 0x178) + le32_at(head + 0x17c), le32_at(head + 0x184),
				   &bytes) ||
	    __builtin_add_overflow(bytes, le32_at(head + 0x158), &bytes))
		return error_set(err, EBADMSG, "%s: damaged: its header names no size", what);
	return check_length(fd, what, bytes, err);
}

/* UEFI, "GPT Header": at block 1; the number of the last block, where its copy is, at 32. */
static int check_raw(int fd, const char *what, struct error *err)
{
	for (unsigned block = 512; block <= 4096; block *= 8) {
		char head[40] = {};
		uint64_t last;

		if (pread_full(fd, head, sizeof(head), block) < 0 || memcmp(head, "EFI PART", 8) != 0)
			continue;
		memcpy(&last, head + 32, sizeof(last));
		last = le64toh(last);
		if (last >= DISK_FILE_BYTES_MAX / block)
			return error_set(err, EBADMSG, "%s: damaged: its partition table names no end", what);
		return check_length(fd, what, (last + 1) * block, err);
	}
	return 0;
}

int disk_file_check(int fd, enum disk_file_kind kind, const char *what, struct error *err)
{
	switch (kind) {
	case DISK_FILE_QCOW2: return check_qcow2(fd, what, err);
	case DISK_FILE_VMDK: return check_vmdk(fd, what, err);
	case DISK_FILE_RAW: return check_raw(fd, what, err);
	case DISK_FILE_VDI: return check_vdi(fd, what, err);
	case DISK_FILE_VHDX: return 0;
	case DISK_FILE_ISO:
		error_set_kind(err, ERROR_DATA, EBADMSG, "%s: it is an installer's ISO, not a disk", what);
		return error_hint(err, "skerry image install NAME --iso FILE");
	case DISK_FILE_PACKED:
	case DISK_FILE_NONE: break;
	}
	return error_set_kind(err, ERROR_DATA, EBADMSG, "%s: no disk image that is known here", what);
}

struct limits {
	uint64_t file_bytes;
	uint64_t cpu_s;
};

/* The child waits for this before it becomes qemu-img. */
static int set_limits(pid_t pid, void *data)
{
	const struct limits *l = data;
	const struct {
		int what;
		uint64_t value;
	} all[] = {
		{ RLIMIT_FSIZE, l->file_bytes }, { RLIMIT_CPU, l->cpu_s }, { RLIMIT_AS, MEMORY_MAX }, { RLIMIT_CORE, 0 }
	};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		struct rlimit limit = { all[i].value, all[i].value };

		if (prlimit(pid, (__rlimit_resource_t)all[i].what, &limit, NULL) < 0)
			return -errno;
	}
	return 0;
}

/* The last line of what a program said, as text for people. */
static const char *last_line(struct buf *words)
{
	char *at;

	while (words->len && words->p[words->len - 1] == '\n')
		buf_truncate(words, words->len - 1);
	if (!words->len)
		return "qemu-img cannot read it";
	at = strrchr(words->p, '\n');
	at = at ? at + 1 : words->p;
	for (char *p = at; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	return at;
}

/* @also: a status that is as good as 0. */
static int run(const char *const *argv, const struct spawn_fd *fds, size_t n_fds, struct limits *l, int also,
	       struct buf *out, const char *what, struct error *err)
{
	static const char *const environment[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", NULL };
	_cleanup_error_ struct error e = {};
	_cleanup_buf_ struct buf words = {};
	struct spawn sp = SPAWN_INIT;
	int r, status = 0;

	sp.argv = argv;
	sp.env = environment;
	sp.fds = fds;
	sp.n_fds = n_fds;
	sp.cwd = "/";
	sp.death_signal = SIGKILL;
	sp.on_pid = set_limits;
	sp.on_pid_data = l;
	if (geteuid() == 0) {
		sp.drop_privileges = true;
		sp.uid = sp.gid = NOBODY_UID;
	}
	r = spawn_run(&sp, NULL, out, &words, INFO_MAX, 0, &status, &e);
	if (r == -ENOENT) {
		error_move(err, &e);
		return error_hint(err, "apt-get install qemu-utils");
	}
	if (r < 0)
		return error_move(err, &e);
	if (WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == also))
		return 0;
	if (words.p && strstr(words.p, "No space left"))
		return error_set(err, ENOSPC, "%s: no space left for its disk", what);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU)
		return error_set_kind(err, ERROR_DATA, EBADMSG, "%s: it takes qemu-img longer than any sound disk",
				      what);
	return error_set_kind(err, ERROR_DATA, EBADMSG, "%s: damaged: %s", what, last_line(&words));
}

/* A file that was cut short reads as zeros where it ends; only its tables tell. Leaked clusters (3) harm nobody. disk_file_check() has
 * looked at those of the formats that qemu-img does not check. */
static int check_whole(int fd, enum disk_file_kind kind, const char *what, uint64_t bytes, struct error *err)
{
	const char *argv[] = { "qemu-img", "check", "-q", "-f", disk_file_name(kind), "/proc/self/fd/3", NULL };
	const struct spawn_fd fds[] = { { fd, IN_FD } };
	struct limits l = { .cpu_s = CPU_BASE_S + bytes / CPU_BYTES_PER_S };
	_cleanup_buf_ struct buf out = {};

	if (kind == DISK_FILE_RAW || kind == DISK_FILE_VDI)
		return 0;
	return run(argv, fds, ARRAY_SIZE(fds), &l, 3, &out, what, err);
}

/* What qemu-img says of it, without anything that it refers to being opened (info does not follow chains). */
static int ask_size(int fd, enum disk_file_kind kind, const char *what, uint64_t *ret, struct error *err)
{
	const char *argv[] = {
		"qemu-img", "info", "--output=json", "-f", disk_file_name(kind), "/proc/self/fd/3", NULL
	};
	const struct spawn_fd fds[] = { { fd, IN_FD } };
	struct limits l = { .file_bytes = 0, .cpu_s = CPU_BASE_S };
	_cleanup_json_ struct json *tree = NULL;
	_cleanup_buf_ struct buf out = {};
	const char *backing;
	int r = run(argv, fds, ARRAY_SIZE(fds), &l, 0, &out, what, err);

	if (r >= 0)
		r = json_parse(out.p ? out.p : "", out.len, "qemu-img info", &tree, err);
	if (r < 0)
		return r;
	backing = json_string(json_get(tree, "full-backing-filename"));
	backing = backing ? backing : json_string(json_get(tree, "backing-filename"));
	if (backing)
		return refused(err, what, "the backing file", backing);
	if (!json_u64(json_get(tree, "virtual-size"), ret) || *ret == 0 || *ret > DISK_FILE_BYTES_MAX)
		return error_set_kind(err, ERROR_DATA, EBADMSG, "%s: its size is none that a disk has", what);
	return 0;
}

/* The input, as the user that qemu-img runs as can open it again. Returns a descriptor to be closed. */
static int readable(int fd, const char *what, const char *scratch_path, struct error *err)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_close_ int copy = -EBADF;
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return error_set_errno(err, errno, "%s", what);
	if (geteuid() != 0 || (st.st_mode & 0004)) {
		r = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		return r < 0 ? error_set_errno(err, errno, "%s", what) : r;
	}
	path = xasprintf("%s/input", scratch_path);
	copy = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	r = copy < 0 ? -errno : file_copy_fd(fd, copy);
	if (r >= 0 && fchown(copy, NOBODY_UID, NOBODY_UID) < 0)
		r = -errno;
	(void)unlink(path);
	return r < 0 ? error_set_errno(err, r, "%s: cannot copy it", what) : TAKE_FD(copy);
}

int disk_file_peek(int fd, enum disk_file_kind kind, const char *what, const char *scratch_path, void *p, size_t n,
		   struct error *err)
{
	const char *argv[] = { "qemu-img",
			       "dd",
			       "-f",
			       disk_file_name(kind),
			       "-O",
			       "raw",
			       "if=/proc/self/fd/3",
			       "of=/proc/self/fd/4",
			       "bs=4096",
			       "count=1",
			       NULL };
	_cleanup_free_ char *path = xasprintf("%s/peek", scratch_path);
	_cleanup_close_ int in = -EBADF, out = -EBADF;
	struct limits l = { .file_bytes = 1 << 20, .cpu_s = CPU_BASE_S };
	int r = disk_file_check(fd, kind, what, err);

	if (r < 0)
		return r;
	in = readable(fd, what, scratch_path, err);
	if (in < 0)
		return in;
	out = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	(void)unlink(path);
	if (out < 0 || (geteuid() == 0 && fchown(out, NOBODY_UID, NOBODY_UID) < 0))
		return error_set_errno(err, errno, "%s: cannot look into it", what);
	r = run(argv, (const struct spawn_fd[]){ { in, IN_FD }, { out, OUT_FD } }, 2, &l, 0, NULL, what, err);
	if (r < 0)
		return r;
	memset(p, 0, n);
	if (pread(out, p, n, 0) < 0)
		return error_set_errno(err, errno, "%s: cannot look into it", what);
	return 0;
}

static int convert_into(int in, enum disk_file_kind kind, const char *what, int out, uint64_t bytes, uint64_t in_bytes,
			struct error *err)
{
	const char *argv[] = { "qemu-img",        "convert",         "-n", "-f", disk_file_name(kind), "-O", "qcow2",
			       "/proc/self/fd/3", "/proc/self/fd/4", NULL };
	const struct spawn_fd fds[] = { { in, IN_FD }, { out, OUT_FD } };
	uint64_t allowed = in_bytes > DISK_FILE_BYTES_MAX / RATIO_MAX ? DISK_FILE_BYTES_MAX : in_bytes * RATIO_MAX;
	struct limits l;
	int r;

	if (allowed < ALWAYS_ALLOWED)
		allowed = ALWAYS_ALLOWED;
	if (allowed > bytes)
		allowed = bytes;
	/* The tables of a qcow2 take 8 bytes for each 64 KiB, and a little. */
	l.file_bytes = allowed + bytes / 4096 + SLACK_BYTES;
	l.cpu_s = CPU_BASE_S + allowed / CPU_BYTES_PER_S;
	r = fault_point("disk-convert");
	if (r < 0)
		return error_set_errno(err, r, "%s: cannot convert it", what);
	/* The owner opens it again; it comes back to us afterwards. */
	if (geteuid() == 0 && fchown(out, NOBODY_UID, NOBODY_UID) < 0)
		return error_set_errno(err, errno, "%s: cannot give its disk away", what);
	r = run(argv, fds, ARRAY_SIZE(fds), &l, 0, NULL, what, err);
	if (geteuid() == 0 && fchown(out, 0, 0) < 0 && r >= 0)
		r = error_set_errno(err, errno, "%s: cannot take its disk back", what);
	return r;
}

/* Whoever wrote it may have been taken over by what it read: it must be as it was made, but for its content. */
static int check_result(int fd, const char *what, uint64_t bytes, struct error *err)
{
	_cleanup_(qcow2_info_done) struct qcow2_info info = {};
	int r = qcow2_read_info(fd, what, &info, err);

	if (r < 0)
		return r;
	if (info.backing_path || info.virtual_bytes < bytes)
		return error_set(err, EBADMSG, "%s: what qemu-img made of it is no disk of its own", what);
	return fsync(fd) < 0 ? error_set_errno(err, errno, "%s: cannot write its disk", what) : 0;
}

int disk_file_convert(int fd, enum disk_file_kind kind, const char *what, int dirfd, const char *name,
		      const char *scratch_path, uint64_t *ret_bytes, struct error *err)
{
	_cleanup_close_ int in = -EBADF, out = -EBADF;
	uint64_t bytes = 0;
	struct stat st;
	int r = disk_file_check(fd, kind, what, err);

	if (r < 0)
		return r;
	in = readable(fd, what, scratch_path, err);
	if (in < 0)
		return in;
	if (fstat(fd, &st) < 0)
		return error_set_errno(err, errno, "%s", what);
	if (kind == DISK_FILE_RAW)
		bytes = (uint64_t)st.st_size;
	else
		r = ask_size(in, kind, what, &bytes, err);
	if (r < 0)
		return r;
	if (bytes == 0 || bytes > DISK_FILE_BYTES_MAX)
		return error_set_kind(err, ERROR_DATA, EBADMSG, "%s: its size is none that a disk has", what);
	r = check_whole(in, kind, what, bytes, err);
	if (r >= 0)
		r = qcow2_create(dirfd, name, bytes, NULL, NULL, false, err);
	if (r < 0)
		return r;
	out = openat(dirfd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (out < 0)
		return error_set_errno(err, errno, "%s: cannot open its disk", what);
	r = convert_into(in, kind, what, out, bytes, (uint64_t)st.st_size, err);
	if (r >= 0)
		r = check_result(out, what, bytes, err);
	if (r >= 0)
		*ret_bytes = bytes;
	return r;
}
