#include "engine/host_cgroup.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"

#define ROOT "/sys/fs/cgroup"
enum { LIST_MAX = 64 << 10 };

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

/* The roots of those that are mounted, each once. */
static void hierarchies(struct strv *ret)
{
	struct stat seen[ARRAY_SIZE(controllers)], st;
	size_t n = 0;

	if (access(ROOT "/cgroup.controllers", F_OK) == 0) {
		strv_add(ret, ROOT);
		return;
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
		strv_add(ret, hierarchy);
	}
}

int host_cgroup_plan(const char *path, struct strv *ret, struct error *err)
{
	_cleanup_free_ char *plain = plain_path(path);
	_cleanup_strv_ struct strv roots = {};

	if (!plain)
		return error_set_kind(err, ERROR_DATA, EINVAL, "cgroup path '%.200s' cannot be used", path);
	hierarchies(&roots);
	for (size_t i = 0; i < roots.n; i++)
		add_all(roots.items[i], plain, ret);
	return 0;
}

/* Is @name one of the @n bytes "a,b,c"? No name is in an empty list but "". */
static bool listed(const char *list, size_t n, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = list, *end = list + n; p <= end; p++) {
		const char *comma = memchr(p, ',', (size_t)(end - p));
		size_t word = (size_t)((comma ? comma : end) - p);

		if (word == len && memcmp(p, name, len) == 0)
			return true;
		p += word;
	}
	return false;
}

/* A line of /proc/PID/cgroup is "ID:CONTROLLER,…:PATH", without a controller for version 2 (cgroups(7)). */
char *host_cgroup_find(const char *list, const char *controller)
{
	for (const char *line = list, *next; *line; line = next) {
		const char *end = strchrnul(line, '\n'), *first = strchr(line, ':'),
			   *second = first ? strchr(first + 1, ':') : NULL;
		_cleanup_free_ char *path = NULL;

		next = *end ? end + 1 : end;
		if (!second || second > end || !listed(first + 1, (size_t)(second - first - 1), controller))
			continue;
		path = xstrndup(second + 1, (size_t)(end - second - 1));
		/* What begins with ".." is outside of what is seen from here. */
		if (path[0] != '/' || strstr(path, "/.."))
			return NULL;
		if (path[1] == '\0')
			path[0] = '\0';
		return TAKE_PTR(path);
	}
	return NULL;
}

/* systemd marks what it leaves to others with an attribute, which root has to look for, as it may write everywhere. */
static bool left_to_us(const char *directory)
{
	static const char *const marks[] = { "user.delegate", "trusted.delegate" };
	char c;

	if (access(directory, W_OK) < 0)
		return false;
	if (geteuid() != 0 || access("/run/systemd/system", F_OK) < 0)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(marks); i++)
		if (getxattr(directory, marks[i], &c, 1) == 1 && c == '1')
			return true;
	return false;
}

void host_cgroup_plan_own(const char *name, struct strv *ret)
{
	_cleanup_strv_ struct strv roots = {};
	_cleanup_buf_ struct buf list = {};

	if (file_read_at(AT_FDCWD, "/proc/self/cgroup", LIST_MAX, &list) < 0 || !list.len)
		return;
	hierarchies(&roots);
	for (size_t i = 0; i < roots.n; i++) {
		const char *root = roots.items[i];
		_cleanup_free_ char *own = host_cgroup_find(list.p, streq(root, ROOT) ? "" : root + strlen(ROOT "/")),
				    *directory = own ? xasprintf("%s%s", root, own) : NULL;

		if (directory && left_to_us(directory))
			strv_addf(ret, "%s/%s", directory, name);
	}
}

void host_cgroup_make(const struct strv *directories)
{
	for (size_t i = 0; i < directories->n; i++)
		if (mkdir(directories->items[i], 0755) < 0 && errno != EEXIST)
			log_warning("cgroup %s: %s, ignoring", directories->items[i], strerror(errno));
}

/* Links of its directory: two, and one for each group in it. */
static bool has_groups(const char *directory)
{
	struct stat st;

	return stat(directory, &st) == 0 && st.st_nlink > 2;
}

void host_cgroup_remove(const struct strv *directories, uint64_t deadline_ns)
{
	for (size_t i = directories->n; i > 0; i--) {
		const char *d = directories->items[i - 1];

		/* A process that has ended is in none of its lists, and yet in it until it is reaped. */
		while (rmdir(d) < 0 && errno == EBUSY && !has_groups(d) && clock_monotonic_ns() < deadline_ns)
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
