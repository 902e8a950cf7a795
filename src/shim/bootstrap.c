#include "shim/bootstrap.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/process.h"
#include "base/spawn.h"
#include "containerd.pb-c.h"
#include "shim/hooks.h"
#include "shim/lease.h"
#include "shim/record.h"
#include "shim/spec.h"
#include "wire/message.h"

#define SOCKET_DIR "/run/containerd/s"
/* containerd gives "delete" five seconds (io.containerd.timeout.shim.cleanup), */
#define DELETE_NS (4 * NS_PER_SEC)
/* of which a shim that is ending has some; */
#define ENDING_NS (2 * NS_PER_SEC)
/* and it waits for "start". */
#define LEASES_NS    (2 * NS_PER_SEC)
#define CONFIG_LIMIT (4u << 20)
#define INPUT_LIMIT  (1u << 20)
enum { SERVER_FD = 3, STATUS_KILLED = 137, ADDRESS_MAX = 106 };

/* Names the socket of a group of one containerd: two 64-bit FNV-1a hashes with different beginnings. Whoever can choose ids so that they collide
 * is containerd itself. */
static void hash(const char *const *parts, char ret[33])
{
	uint64_t a = UINT64_C(14695981039346656037), b = UINT64_C(0x6c62272e07bb0142);

	for (; *parts; parts++)
		for (const char *p = *parts;; p++) {
			a = (a ^ (uint8_t)*p) * UINT64_C(1099511628211);
			b = (b ^ (uint8_t)*p) * UINT64_C(1099511628211);
			if (!*p)
				break;
		}
	(void)snprintf(ret, 33, "%016" PRIx64 "%016" PRIx64, a, b);
}

static int unix_address(const char *path, struct sockaddr_un *ret, struct error *err)
{
	size_t n = strlen(path);

	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (n > ADDRESS_MAX)
		return error_set(err, ENAMETOOLONG, "%s: longer than a socket's name may be", path);
	memcpy(ret->sun_path, path, n);
	return 0;
}

/* Descriptor that listens; -EEXIST when a shim is alive there. */
static int claim(const char *path, struct error *err)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
			    probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un a;
	int r = unix_address(path, &a, err);

	if (r < 0)
		return r;
	if (fd < 0 || probe < 0)
		return error_set_errno(err, errno, "cannot make a socket");
	for (int i = 0; i < 2; i++) {
		if (bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0) {
			if (chmod(path, 0600) < 0 || listen(fd, 16) < 0)
				return error_set_errno(err, errno, "%s", path);
			return TAKE_FD(fd);
		}
		if (errno != EADDRINUSE)
			break;
		if (connect(probe, (struct sockaddr *)&a, sizeof(a)) == 0)
			return -EEXIST;
		/* A dead one's. */
		if (unlink(path) < 0 && errno != ENOENT)
			break;
	}
	return error_set_errno(err, errno, "%s", path);
}

/* containerd 2.3 and later says on standard input what it is, and names a directory for sockets. */
static Containerd__BootstrapParams *read_params(const struct shim_args *a)
{
	_cleanup_buf_ struct buf in = {};
	Containerd__BootstrapParams *p;
	struct stat st;

	/* A terminal or a pipe that nobody closes must not hold it up. */
	if (fstat(0, &st) < 0 || S_ISCHR(st.st_mode) || file_read_fd(0, INPUT_LIMIT, &in) < 0 || !in.len)
		return NULL;
	p = message_unpack(&containerd__bootstrap_params__descriptor, in.p, in.len);
	if (p && (!streq(p->instance_id, a->id) || !streq(p->namespace_, a->namespace))) {
		message_free(p);
		return NULL;
	}
	return p;
}

static char *read_group(const char *id)
{
	_cleanup_json_ struct json *spec = NULL;
	_cleanup_buf_ struct buf text = {};

	if (file_read_at(AT_FDCWD, "config.json", CONFIG_LIMIT, &text) < 0 || !text.len ||
	    json_parse(text.p, text.len, "config.json", &spec, NULL) < 0)
		return xstrdup(id);
	return spec_group(spec, id);
}

static void keep_alive_longer(pid_t pid)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/oom_score_adj", (int)pid);
	_cleanup_buf_ struct buf text = {};
	_cleanup_close_ int fd = -EBADF;
	int score = 0;
	char value[16];

	/* Below containerd, above what it runs. */
	if (file_read_at(AT_FDCWD, "/proc/self/oom_score_adj", 64, &text) >= 0 && text.len) {
		uint64_t n = 0;
		bool minus = text.p[0] == '-';

		text.p[strcspn(text.p, "\n")] = '\0';
		if (parse_u64(text.p + minus, 0, 1000, &n) >= 0)
			score = minus ? -(int)n : (int)n;
	}
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || score >= 1000)
		return;
	(void)snprintf(value, sizeof(value), "%d", score + 1);
	(void)!write(fd, value, strlen(value));
}

static int spawn_server(const struct shim_args *a, int fd, const char *path, struct error *err)
{
	const char *argv[] = { "/proc/self/exe",
			       "-namespace",
			       a->namespace,
			       "-id",
			       a->id,
			       "-address",
			       a->address,
			       "-socket",
			       path,
			       a->debug ? "-debug" : "serve",
			       a->debug ? "serve" : NULL,
			       NULL };
	struct spawn_fd pass = { .from = fd, .to = SERVER_FD };
	struct spawn s = SPAWN_INIT;
	pid_t pid;
	int r;

	s.argv = argv;
	s.fds = &pass;
	s.n_fds = 1;
	s.new_session = true;
	r = spawn_start(&s, &pid, NULL, err);
	if (r >= 0)
		keep_alive_longer(pid);
	return r;
}

static int print_result(const Containerd__BootstrapParams *params, char *address, struct error *err)
{
	char ttrpc[] = "ttrpc";
	_cleanup_buf_ struct buf out = {};
	int r;

	if (params) {
		Containerd__BootstrapResult result = CONTAINERD__BOOTSTRAP_RESULT__INIT;

		result.version = 3;
		result.address = address;
		result.protocol = ttrpc;
		message_pack(&out, &result.base);
	} else {
		buf_adds(&out, address);
	}
	r = write_full(1, out.p, out.len);
	return r < 0 ? error_set_errno(err, r, "standard output") : 0;
}

int shim_start(const struct shim_args *a, struct error *err)
{
	_cleanup_message_ Containerd__BootstrapParams *params = NULL;
	_cleanup_free_ char *group = NULL, *path = NULL, *address = NULL;
	_cleanup_close_ int fd = -EBADF;
	const char *dir = SOCKET_DIR;
	char name[33];
	int r;

	if (!*a->id || !*a->namespace)
		return error_set_kind(err, ERROR_USAGE, EINVAL, "start needs -id and -namespace");
	(void)lease_recover(false, clock_monotonic_ns() + LEASES_NS);
	params = read_params(a);
	group = read_group(a->id);
	if (params && *params->socket_dir)
		dir = params->socket_dir;
	hash((const char *const[]){ a->address, a->namespace, group, NULL }, name);
	path = xasprintf("%s/%s", dir, name);
	address = xasprintf("unix://%s", path);
	r = mkdir_parents_at(AT_FDCWD, dir, 0711);
	if (r < 0)
		return error_set_errno(err, r, "%s", dir);
	r = fd = claim(path, err);
	if (r < 0 && r != -EEXIST)
		return r;
	/* containerd before 2.0 finds shims by it after its own restart. Before there is one: what fails from here on leaves none. */
	r = file_write_at(AT_FDCWD, "address", address, strlen(address), 0644, 0);
	if (r < 0)
		error_set_errno(err, r, "address");
	if (r >= 0 && fd >= 0) {
		r = fault_point("shim.start");
		r = r < 0 ? error_set_errno(err, r, "%s", path) : spawn_server(a, fd, path, err);
	}
	if (r < 0 && fd >= 0)
		(void)unlink(path);
	return r < 0 ? r : print_result(params, address, err);
}

/* A socket that a "start" bound and nobody listens on: there was no shim yet that could have recorded it. */
static void remove_dead_socket(const struct shim_args *a, int bundle)
{
	_cleanup_close_ int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	_cleanup_free_ char *group = NULL, *path = NULL;
	struct sockaddr_un address;
	char name[33];

	if (probe < 0 || fchdir(bundle) < 0)
		return;
	group = read_group(a->id);
	if (!streq(group, a->id))
		return;
	hash((const char *const[]){ a->address, a->namespace, group, NULL }, name);
	path = xasprintf(SOCKET_DIR "/%s", name);
	if (unix_address(path, &address, NULL) >= 0 &&
	    connect(probe, (struct sockaddr *)&address, sizeof(address)) < 0 && errno == ECONNREFUSED)
		(void)unlink(path);
}

static void make_up_hooks(const struct shim_args *a, int bundle, const char *id, uint64_t deadline_ns)
{
	_cleanup_free_ char *here = *a->bundle ? xstrdup(a->bundle) : getcwd(NULL, 0);
	_cleanup_error_ struct error e = {};

	if (here && hooks_make_up(bundle, here, id, deadline_ns, &e) < 0)
		log_warning("%s: %s, ignoring", id, e.msg);
}

/* A shim that was told to end, and so has left its address, gives back by itself what is given back best while its namespaces are there; containerd does
 * not wait for that. What its record says afterwards is what it did not come to. */
static void let_end(int bundle, struct shim_record *r, uint64_t deadline_ns)
{
	struct process_id id = { .pid = (pid_t)r->shim_pid, .start_time = r->shim_start };
	_cleanup_(shim_record_done) struct shim_record left = {};
	_cleanup_close_ int fd = -EBADF;
	int e;

	if (r->socket || !r->boot_id || !streq(r->boot_id, boot_id()) || !r->shim_pid)
		return;
	fd = process_open(&id);
	if (fd < 0 || pidfd_wait_exit(fd, deadline_ns) < 0)
		return;
	e = shim_record_read(bundle, &left, NULL);
	if (e < 0 && e != -ENOENT)
		return;
	left.engine_pid = r->engine_pid;
	left.engine_start = r->engine_start;
	shim_record_done(r);
	*r = left;
	left = (struct shim_record){};
}

int shim_delete(const struct shim_args *a, struct error *err)
{
	_cleanup_(shim_record_done) struct shim_record record = {};
	_cleanup_close_ int bundle = open(*a->bundle ? a->bundle : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	Containerd__DeleteResponse r = CONTAINERD__DELETE_RESPONSE__INIT;
	Containerd__Timestamp t = CONTAINERD__TIMESTAMP__INIT;
	_cleanup_buf_ struct buf out = {};
	uint64_t now = clock_realtime_ns(), deadline = clock_monotonic_ns() + DELETE_NS;
	int e;

	/* A member of a pod has no record: the VM is its sandbox's. */
	if (bundle >= 0 && shim_record_read(bundle, &record, NULL) >= 0) {
		let_end(bundle, &record, clock_monotonic_ns() + ENDING_NS);
		shim_record_release(&record, deadline);
		if (record.hooked)
			make_up_hooks(a, bundle, record.hooked, deadline);
		(void)unlinkat(bundle, SHIM_RECORD, 0);
	}
	if (bundle >= 0)
		remove_dead_socket(a, bundle);
	t.seconds = (int64_t)(now / NS_PER_SEC);
	t.nanos = (int32_t)(now % NS_PER_SEC);
	r.pid = (uint32_t)record.engine_pid;
	r.exit_status = STATUS_KILLED;
	r.exited_at = &t;
	message_pack(&out, &r.base);
	e = write_full(1, out.p, out.len);
	return e < 0 ? error_set_errno(err, e, "standard output") : 0;
}

int shim_info(struct error *err)
{
	char name[] = "io.containerd.skerry.v1", version[] = SKERRY_VERSION;
	Containerd__RuntimeInfo info = CONTAINERD__RUNTIME_INFO__INIT;
	Containerd__RuntimeVersion v = CONTAINERD__RUNTIME_VERSION__INIT;
	/* What containerd 2.2 and later need not mount for us (core/runtime/v2/task_manager.go): layers of its EROFS snapshotter, and what names them. */
	char key[] = "containerd.io/runtime-allow-mounts", value[] = "erofs,format/*,mkdir/*";
	Containerd__StringEntry mounts = CONTAINERD__STRING_ENTRY__INIT, *annotations = &mounts;
	_cleanup_buf_ struct buf out = {};
	int r;

	v.version = version;
	info.name = name;
	info.version = &v;
	mounts.key = key;
	mounts.value = value;
	info.annotations = &annotations;
	info.n_annotations = 1;
	message_pack(&out, &info.base);
	r = write_full(1, out.p, out.len);
	return r < 0 ? error_set_errno(err, r, "standard output") : 0;
}
