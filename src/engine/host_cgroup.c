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

#define SLICE ".slice"

/* "a-b.slice" is below "a.slice": appends "/a.slice/a-b.slice", and nothing for "-.slice", which is the root (systemd.slice(5)). False: it is no slice. */
static bool add_slice(struct buf *b, const char *name, size_t n)
{
	size_t len = n - strlen(SLICE);

	if (n <= strlen(SLICE) || memcmp(name + len, SLICE, strlen(SLICE)) != 0)
		return false;
	if (len == 1 && name[0] == '-')
		return true;
	for (size_t i = 0, begin = 0; i <= len; i++) {
		if (i < len && name[i] != '-')
			continue;
		if (i == begin)
			return false;
		buf_addf(b, "/%.*s" SLICE, (int)i, name);
		begin = i + 1;
	}
	return true;
}

/* "system.slice:nerdctl:ID" is system.slice/nerdctl-ID.scope; without a slice it is system.slice (runc's docs/systemd.md). Of a slice in others only the
 * last name is told. Owned by the caller; NULL when it is no path. */
static char *plain_path(const char *path)
{
	const char *first = strchr(path, ':'), *second = first ? strchr(first + 1, ':') : NULL;
	_cleanup_buf_ struct buf b = {};

	if (second && strchr(path, '/'))
		return NULL;
	if (second && first == path)
		buf_adds(&b, "/system" SLICE);
	else if (second && !add_slice(&b, path, (size_t)(first - path)))
		return NULL;
	if (second)
		buf_addf(&b, "/%.*s-%s.scope", (int)(second - first - 1), first + 1, second + 1);
	else
		buf_addf(&b, "%s%s", path[0] == '/' ? "" : "/", path);
	if (strstr(b.p, "/..") || strstr(b.p, "//") || b.len < 2 || b.len > 1024 || b.p[b.len - 1] == '/')
		return NULL;
	return buf_take(&b);
}

/* What is there already is somebody's, a kubelet's or systemd's, and no more ours to remove than to change. */
static void add_all(const char *hierarchy, const char *path, struct strv *ret)
{
	for (const char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
		_cleanup_free_ char *d = xasprintf("%s%.*s", hierarchy, (int)(p - path), path);

		if (access(d, F_OK) < 0)
			strv_add(ret, d);
	}
	strv_addf(ret, "%s%s", hierarchy, path);
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

/* Does the one after @i follow below it? */
static bool has_next(const struct strv *directories, size_t i)
{
	const char *d = directories->items[i];

	return i + 1 < directories->n && after_prefix(directories->items[i + 1], d) &&
	       directories->items[i + 1][strlen(d)] == '/';
}

/* Of version 2: what is below @directory is accounted for only in what is asked for here, each by itself, as one that the kernel lacks refuses all.
 * One of version 1 has no such file. */
static void account_below(const char *directory)
{
	static const char *const wanted[] = { "+memory", "+cpu", "+pids", "+io" };
	_cleanup_free_ char *path = xasprintf("%s/cgroup.subtree_control", directory);
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

	for (size_t i = 0; fd >= 0 && i < ARRAY_SIZE(wanted); i++)
		(void)!write(fd, wanted[i], strlen(wanted[i]));
}

void host_cgroup_make(const struct strv *directories)
{
	/* The root is its ruler's, where there is one. */
	if (directories->n && access("/run/systemd/system", F_OK) < 0)
		account_below(ROOT);
	for (size_t i = 0; i < directories->n; i++) {
		const char *d = directories->items[i];

		if (mkdir(d, 0755) < 0 && errno != EEXIST)
			log_warning("cgroup %s: %s, ignoring", d, strerror(errno));
		else if (has_next(directories, i))
			account_below(d);
	}
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

		if (has_next(directories, i))
			continue;
		path = xasprintf("%s/cgroup.procs", d);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		(void)snprintf(text, sizeof(text), "%d", (int)pid);
		if (fd < 0 || write(fd, text, strlen(text)) < 0)
			log_warning("cgroup %s: %s, ignoring", d, strerror(errno));
	}
}
