#include "guest/container_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "guest/disk.h"

static const uint64_t device_wait_ns = 5 * NS_PER_SEC;

static const struct {
	const char *name;
	unsigned long flag;
} flags[] = {
	{ "ro", MS_RDONLY },
	{ "nosuid", MS_NOSUID },
	{ "nodev", MS_NODEV },
	{ "noexec", MS_NOEXEC },
	{ "noatime", MS_NOATIME },
	{ "relatime", MS_RELATIME },
	{ "bind", MS_BIND },
	{ "rbind", MS_BIND | MS_REC },
	{ "rw", 0 },
	{ "defaults", 0 },
	{ "loop", 0 },
};

int container_mount(const Skerry__Agent__V1__ContainerMount *m, struct error *err)
{
	const char *serial = after_prefix(m->source, "serial:");
	_cleanup_free_ char *node = NULL;
	_cleanup_buf_ struct buf data = { 0 };
	unsigned long f = 0;
	int r;

	if (m->target[0] != '/')
		return error_set(err, EINVAL, "mount: '%.200s' is not absolute", m->target);
	for (size_t i = 0; i < m->n_options; i++) {
		size_t k = 0;

		while (k < ARRAY_SIZE(flags) && !streq(flags[k].name, m->options[i]))
			k++;
		if (k < ARRAY_SIZE(flags))
			f |= flags[k].flag;
		else
			buf_addf(&data, "%s%s", data.len ? "," : "", m->options[i]);
	}
	r = mkdir_parents_at(AT_FDCWD, m->target, 0755);
	if (r < 0)
		return error_set_errno(err, -r, "mount: %.200s", m->target);
	if (serial) {
		r = disk_find(serial, clock_monotonic_ns() + device_wait_ns, &node, err);
		if (r < 0)
			return r;
	}
	if (mount(node ? node : m->source, m->target, m->type, f, data.p) < 0)
		return error_set_errno(err, errno, "mount: cannot mount %.200s on %.200s as %.40s", m->source,
				       m->target, m->type);
	if ((f & MS_BIND) && (f & MS_RDONLY) && mount(NULL, m->target, NULL, f | MS_REMOUNT, NULL) < 0)
		return error_set_errno(err, errno, "mount: cannot make %.200s read-only", m->target);
	return 0;
}
