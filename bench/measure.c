#include "bench/measure.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/process.h"
#include "base/spawn.h"

#define COMMAND_TIMEOUT_NS (600 * NS_PER_SEC)
#define SERVER_TIMEOUT_NS  (20 * NS_PER_SEC)

void samples_add(struct samples *s, uint64_t v)
{
	if (s->n < SAMPLES_MAX)
		s->v[s->n++] = v;
}

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

uint64_t samples_median(struct samples *s)
{
	qsort(s->v, s->n, sizeof(s->v[0]), compare);
	if (!s->n)
		return 0;
	return s->n % 2 ? s->v[s->n / 2] : (s->v[s->n / 2 - 1] + s->v[s->n / 2]) / 2;
}

uint64_t samples_min(const struct samples *s)
{
	uint64_t v = s->n ? UINT64_MAX : 0;

	for (size_t i = 0; i < s->n; i++)
		v = s->v[i] < v ? s->v[i] : v;
	return v;
}

uint64_t samples_max(const struct samples *s)
{
	uint64_t v = 0;

	for (size_t i = 0; i < s->n; i++)
		v = s->v[i] > v ? s->v[i] : v;
	return v;
}

int measure_command(const char *const *argv, uint64_t *ret_ns, struct error *err)
{
	struct spawn s = SPAWN_INIT;
	uint64_t begun = clock_monotonic_ns();
	int r;

	s.argv = argv;
	r = spawn_check(&s, NULL, NULL, 4096, COMMAND_TIMEOUT_NS, err);
	*ret_ns = clock_monotonic_ns() - begun;
	return r;
}

struct measured {
	int r;
	uint64_t ns, peak_bytes;
	char why[256];
};

/* In a process of its own, whose children are this command's only: what the kernel counts, it counts over all of them. */
_noreturn_ static void measure_and_tell(const char *const *argv, int fd)
{
	_cleanup_error_ struct error e = {};
	struct measured m = {};
	struct rusage u;

	m.r = measure_command(argv, &m.ns, &e);
	if (e.msg)
		(void)snprintf(m.why, sizeof(m.why), "%s", e.msg);
	if (getrusage(RUSAGE_CHILDREN, &u) == 0)
		m.peak_bytes = (uint64_t)u.ru_maxrss * 1024;
	_exit(write_full(fd, &m, sizeof(m)) < 0);
}

int measure_peak(const char *const *argv, uint64_t *ret_ns, uint64_t *ret_bytes, struct error *err)
{
	_cleanup_close_ int from = -EBADF, to = -EBADF;
	struct measured m;
	int ends[2], r;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_set_errno(err, errno, "no pipe");
	from = ends[0];
	to = ends[1];
	pid = fork();
	if (pid < 0)
		return error_set_errno(err, errno, "no process");
	if (pid == 0)
		measure_and_tell(argv, to);
	to = safe_close(to);
	r = read_full(from, &m, sizeof(m));
	(void)waitpid(pid, NULL, 0);
	if (r < 0)
		return error_set_errno(err, r, "%s", argv[0]);
	if (m.r < 0)
		return error_set(err, -m.r, "%s", m.why);
	*ret_ns = m.ns;
	*ret_bytes = m.peak_bytes;
	return 0;
}

static int try_connect(const char *path)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	if (fd < 0 || strlen(path) >= sizeof(a.sun_path))
		return -EINVAL;
	memcpy(a.sun_path, path, strlen(path) + 1);
	return connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ? -errno : 0;
}

int server_start(struct server *s, const char *const *argv, const char *socket_path, struct error *err)
{
	uint64_t deadline = clock_monotonic_ns() + SERVER_TIMEOUT_NS;
	struct spawn sp = SPAWN_INIT;
	int r;

	sp.argv = argv;
	sp.new_session = true;
	sp.death_signal = SIGKILL;
	r = spawn_start(&sp, &s->pid, &s->pidfd, err);
	if (r < 0)
		return r;
	while (try_connect(socket_path) < 0) {
		struct pollfd p = { .fd = s->pidfd, .events = POLLIN };

		/* Somebody else's server: only trying tells when it listens; its end is an event. */
		if (poll(&p, 1, 50) > 0)
			return error_set(err, ECHILD, "%s ended at once", argv[0]);
		if (clock_monotonic_ns() > deadline)
			return error_set(err, ETIMEDOUT, "%s does not listen", argv[0]);
	}
	return 0;
}

void scratch_remove(const char *path)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *parent = slash ? xstrndup(path, (size_t)(slash - path)) : NULL;
	_cleanup_close_ int fd = slash ? open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -EBADF;

	if (fd >= 0)
		(void)remove_tree_at(fd, slash + 1);
}

void server_stop(struct server *s)
{
	if (s->pidfd >= 0) {
		(void)pidfd_kill(s->pidfd, SIGTERM);
		if (pidfd_wait_exit(s->pidfd, clock_monotonic_ns() + SERVER_TIMEOUT_NS) < 0)
			(void)pidfd_kill(s->pidfd, SIGKILL);
		(void)pidfd_reap(s->pidfd, NULL);
	}
	s->pidfd = safe_close(s->pidfd);
	if (s->scratch)
		scratch_remove(s->scratch);
	free(s->scratch);
	s->scratch = NULL;
}
