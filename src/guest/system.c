#include "guest/system.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/parse.h"

enum { PROC_BYTES_MAX = 1 << 20, DEVICES_MAX = 32, MOUNT_FIELDS = 6 };
#define LOAD_SCALE 65536U /* of sysinfo(2) */

/* The number behind @name in a file of lines like "MemTotal:   1234 kB"; 0 when it is not there. */
static uint64_t number_after(const char *text, const char *name)
{
	const char *p = strstr(text, name);
	char digits[24];
	size_t n;
	uint64_t v;

	if (!p)
		return 0;
	p += strlen(name);
	p += strspn(p, " \t");
	n = strspn(p, "0123456789");
	if (n == 0 || n >= sizeof(digits))
		return 0;
	memcpy(digits, p, n);
	digits[n] = '\0';
	return parse_u64(digits, 0, UINT64_MAX, &v) == 0 ? v : 0;
}

/* "cpu  user nice system idle iowait irq softirq steal …" in clock ticks. */
static void cpu_times(uint64_t *ret_busy_ns, uint64_t *ret_idle_ns)
{
	_cleanup_buf_ struct buf b = { 0 };
	uint64_t ticks = 0, idle = 0, per_second = (uint64_t)sysconf(_SC_CLK_TCK);
	char *p, *end;

	if (file_read_at(AT_FDCWD, "/proc/stat", PROC_BYTES_MAX, &b) < 0 || !after_prefix(b.p ? b.p : "", "cpu ") ||
	    per_second == 0)
		return;
	end = strchr(b.p, '\n');
	if (end)
		*end = '\0';
	p = b.p + strlen("cpu ");
	for (int field = 0; field < 8; field++) {
		uint64_t v;
		size_t n;
		bool last;

		p += strspn(p, " ");
		n = strcspn(p, " ");
		last = !p[n];
		p[n] = '\0';
		if (parse_u64(p, 0, UINT64_MAX / 16, &v) < 0)
			break;
		if (field == 3 || field == 4)
			idle += v;
		else
			ticks += v;
		if (last)
			break;
		p += n + 1;
	}
	*ret_busy_ns = ticks * (NS_PER_SEC / per_second);
	*ret_idle_ns = idle * (NS_PER_SEC / per_second);
}

void system_stats(Skerry__Agent__V1__StatsResponse *ret)
{
	_cleanup_buf_ struct buf b = { 0 };
	struct sysinfo si;
	struct statvfs fs;
	struct timespec now;

	if (file_read_at(AT_FDCWD, "/proc/meminfo", PROC_BYTES_MAX, &b) == 0 && b.p) {
		ret->memory_total_bytes = number_after(b.p, "MemTotal:") << 10;
		ret->memory_available_bytes = number_after(b.p, "MemAvailable:") << 10;
	}
	cpu_times(&ret->cpu_busy_ns, &ret->cpu_idle_ns);
	if (clock_gettime(CLOCK_BOOTTIME, &now) == 0)
		ret->uptime_ns = (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec;
	if (sysinfo(&si) == 0) {
		ret->processes = si.procs;
		ret->load1_milli = (uint64_t)si.loads[0] * 1000 / LOAD_SCALE;
	}
	if (statvfs("/", &fs) == 0) {
		ret->root_total_bytes = (uint64_t)fs.f_blocks * fs.f_frsize;
		ret->root_used_bytes = (uint64_t)(fs.f_blocks - fs.f_bfree) * fs.f_frsize;
	}
}

int system_set_time(uint64_t realtime_ns)
{
	struct timespec t = { .tv_sec = (time_t)(realtime_ns / NS_PER_SEC),
			      .tv_nsec = (long)(realtime_ns % NS_PER_SEC) };

	return clock_settime(CLOCK_REALTIME, &t) < 0 ? -errno : 0;
}

int system_drop_caches(void)
{
	_cleanup_close_ int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);

	/* 2 alone passes over files of which something was read. */
	return fd < 0 || write(fd, "3", 1) != 1 ? -errno : 0;
}

static int trim_one(const char *mount, uint64_t *total)
{
	_cleanup_close_ int fd = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct fstrim_range range = { .len = UINT64_MAX };

	if (fd < 0 || ioctl(fd, FITRIM, &range) < 0)
		return -errno;
	*total += range.len;
	return 0;
}

static bool can_trim(const char *type)
{
	return streq(type, "ext4") || streq(type, "xfs") || streq(type, "btrfs");
}

int system_trim(uint64_t *ret_bytes)
{
	_cleanup_buf_ struct buf b = { 0 };
	const char *seen[DEVICES_MAX];
	size_t n_seen = 0, done = 0;
	int r = file_read_at(AT_FDCWD, "/proc/self/mounts", PROC_BYTES_MAX, &b), first = 0;

	*ret_bytes = 0;
	if (r < 0)
		return r;
	/* "device directory type options 0 0"; blanks in names are escaped, and a mount point with such a name is left out. */
	for (char *line = b.p, *next; line && *line; line = next) {
		char *f[MOUNT_FIELDS] = { 0 }, *end = strchr(line, '\n');
		bool known = false;

		next = end ? end + 1 : line + strlen(line);
		if (end)
			*end = '\0';
		for (size_t i = 0; i < MOUNT_FIELDS && line; i++) {
			char *space = strchr(line, ' ');

			f[i] = line;
			if (space)
				*space = '\0';
			line = space ? space + 1 : NULL;
		}
		if (!f[3] || f[0][0] != '/' || !can_trim(f[2]) || !after_prefix(f[3], "rw"))
			continue;
		for (size_t i = 0; i < n_seen; i++)
			known |= streq(seen[i], f[0]);
		if (known || n_seen == DEVICES_MAX)
			continue;
		seen[n_seen++] = f[0];
		r = trim_one(f[1], ret_bytes);
		done += r == 0;
		if (r < 0 && first == 0)
			first = r;
	}
	return done ? 0 : first;
}
