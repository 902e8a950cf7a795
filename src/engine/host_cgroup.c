#include "engine/host_cgroup.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

#define ROOT "/sys/fs/cgroup"

/* Of version 1, those that account for something. */
static const char *const controllers[] = { "memory", "cpu", "cpuacct", "pids", "blkio", "freezer" };

/* "system.slice:nerdctl:ID" is system.slice/nerdctl-ID.scope (runc's docs/systemd.md). Owned by the caller; NULL when it is no path. */
static char *plain_path(const char *path)
{
	const char *first = strchr(path, ':'), *second = first ? strchr(first + 1, ':') : NULL;
	char *p;

	if (second)
		p = xasprintf("/%.*s/%.*s-%s.scope", (int)(first - path), path, (int)(second - first - 1), first + 1,
			      second + 1);
	else
		p = xasprintf("%s%s", path[0] == '/' ? "" : "/", path);
	if (strstr(p, "/..") || strstr(p, "//") || strlen(p) < 2 || strlen(p) > 1024 || p[strlen(p) - 1] == '/') {
		free(p);
		return NULL;
	}
	return p;
}

static void add_all(const char *hierarchy, const char *path, struct strv *ret)
{
	for (const char *p = strchr(path + 1, '/');; p = strchr(p + 1, '/')) {
		strv_addf(ret, "%s%.*s", hierarchy, p ? (int)(p - path) : (int)strlen(path), path);
		if (!p)
			break;
	}
}

int host_cgroup_plan(const char *path, struct strv *ret, struct error *err)
{
	_cleanup_free_ char *plain = plain_path(path);
	struct stat seen[ARRAY_SIZE(controllers)], st;
	size_t n = 0;

	if (!plain)
		return error_set_kind(err, ERROR_DATA, EINVAL, "cgroup path '%.200s' cannot be used", path);
	if (access(ROOT "/cgroup.controllers", F_OK) == 0) {
		add_all(ROOT, plain, ret);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(controllers); i++) {
		_cleanup_free_ char *hierarchy = xasprintf(ROOT "/%s", controllers[i]),
				    *procs = xasprintf("%s/cgroup.procs", hierarchy);
		bool known = false;

		if (access(procs, F_OK) < 0 || stat(hierarchy, &st) < 0)
			continue;
		/* Two names of one, mostly cpu and cpuacct. */
		for (size_t k = 0; k < n; k++)
			known = known || (seen[k].st_dev == st.st_dev && seen[k].st_ino == st.st_ino);
		if (known)
			continue;
		seen[n++] = st;
		add_all(hierarchy, plain, ret);
	}
	return 0;
}

void host_cgroup_make(const struct strv *directories)
{
	for (size_t i = 0; i < directories->n; i++)
		if (mkdir(directories->items[i], 0755) < 0 && errno != EEXIST)
			log_warning("cgroup %s: %s, ignoring", directories->items[i], strerror(errno));
}

static bool has_processes(const char *directory)
{
	_cleanup_free_ char *path = xasprintf("%s/cgroup.procs", directory);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char c;

	return fd >= 0 && read(fd, &c, 1) == 1;
}

void host_cgroup_remove(const struct strv *directories, uint64_t deadline_ns)
{
	for (size_t i = directories->n; i > 0; i--) {
		const char *d = directories->items[i - 1];

		while (rmdir(d) < 0 && errno == EBUSY && has_processes(d) && clock_monotonic_ns() < deadline_ns)
			(void)usleep(2000); /* lint: cgroups of version 1 tell nobody that they are empty */
	}
}

void host_cgroup_add(const struct strv *directories, pid_t pid)
{
	for (size_t i = 0; i < directories->n; i++) {
		const char *d = directories->items[i];
		_cleanup_free_ char *path = NULL;
		_cleanup_close_ int fd = -EBADF;
		char text[16];

		/* The next one below it follows it. */
		if (i + 1 < directories->n && after_prefix(directories->items[i + 1], d) &&
		    directories->items[i + 1][strlen(d)] == '/')
			continue;
		path = xasprintf("%s/cgroup.procs", d);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		(void)snprintf(text, sizeof(text), "%d", (int)pid);
		if (fd < 0 || write(fd, text, strlen(text)) < 0)
			log_warning("cgroup %s: %s, ignoring", d, strerror(errno));
	}
}
