#include "shim/mount.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#include "base/fault.h"
#include "base/loop_device.h"
#include "base/memory.h"
#include "shim/share.h"

/* mount(2) takes a page of options with its NUL, and cuts off what is more. */
enum { OPTIONS_MAX = 4095 };

struct fd_path mount_path(int fd)
{
	struct fd_path p;

	(void)snprintf(p.s, sizeof(p.s), "/proc/self/fd/%d", fd);
	return p;
}

int mount_tree(const char *source, bool recursive, const struct mount_attr *attr)
{
	unsigned deep = recursive ? AT_RECURSIVE : 0;
	_cleanup_close_ int tree = open_tree(AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | deep);
	struct mount_attr a = *attr;

	if (tree < 0)
		return -errno;
	/* Before anybody sees it. */
	if ((a.attr_set || a.attr_clr || a.propagation) &&
	    mount_setattr(tree, "", AT_EMPTY_PATH | deep, &a, sizeof(a)) < 0)
		return -errno;
	return TAKE_FD(tree);
}

int mount_attach(int tree, int place)
{
	int r = fault_point("shim.mount");

	if (r >= 0 && move_mount(tree, "", place, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		r = -errno;
	return r;
}

int mount_error(struct error *err, int num, const char *what, const char *source)
{
	int r = error_set_errno(err, num, "%s %s", what, source);

	/* Without mount_setattr(2) what is mounted below could be written to while the mount itself could not. */
	return r == -ENOSYS ? error_hint(err, "this needs Linux 5.12") : r;
}

static const struct {
	const char *name;
	unsigned long set, clear;
} flags[] = {
	{ "ro", MS_RDONLY, 0 },
	{ "rw", 0, MS_RDONLY },
	{ "nosuid", MS_NOSUID, 0 },
	{ "suid", 0, MS_NOSUID },
	{ "nodev", MS_NODEV, 0 },
	{ "dev", 0, MS_NODEV },
	{ "noexec", MS_NOEXEC, 0 },
	{ "exec", 0, MS_NOEXEC },
	{ "noatime", MS_NOATIME, 0 },
	{ "relatime", MS_RELATIME, 0 },
	{ "nodiratime", MS_NODIRATIME, 0 },
	{ "sync", MS_SYNCHRONOUS, 0 },
	{ "bind", MS_BIND, 0 },
	{ "rbind", MS_BIND | MS_REC, 0 },
	{ "defaults", 0, 0 },
	/* For mount(8), not for the kernel. */
	{ "loop", 0, 0 },
};

static size_t layer_length(const char *layers)
{
	return strcspn(layers, ":");
}

static const char *next_layer(const char *layers)
{
	layers += layer_length(layers);
	return *layers ? layers + 1 : layers;
}

/* Length of the directory that an overlay's layers have in common, with its slash; 0 = none. @ret_layers: "/a/1:/a/2", borrowed. */
static size_t common_directory(const struct share_mount *m, const char **ret_layers)
{
	const char *layers = "";
	size_t n;

	for (size_t i = 0; i < m->n_options; i++) {
		const char *value = after_prefix(m->options[i], "lowerdir=");

		layers = value ? value : layers;
	}
	*ret_layers = layers;
	/* What is escaped is left as it is. */
	n = strchr(layers, '\\') ? 0 : layer_length(layers);
	for (const char *p = layers; *p; p = next_layer(p)) {
		size_t k = 0;

		while (k < n && p[k] == layers[k])
			k++;
		n = k;
	}
	while (n && layers[n - 1] != '/')
		n--;
	return n;
}

/* @skip: so much of each of an overlay's layers is left out. */
static void split_options(const struct share_mount *m, size_t skip, unsigned long *ret_flags, struct buf *data)
{
	*ret_flags = 0;
	buf_truncate(data, 0);
	for (size_t i = 0; i < m->n_options; i++) {
		const char *o = m->options[i];
		size_t k = 0;

		while (k < ARRAY_SIZE(flags) && !streq(flags[k].name, o))
			k++;
		if (k < ARRAY_SIZE(flags)) {
			*ret_flags |= flags[k].set;
			*ret_flags &= ~flags[k].clear;
			continue;
		}
		if (strstr(o, "propagation") || streq(o, "rprivate") || streq(o, "private") || streq(o, "rslave"))
			continue;
		buf_addf(data, "%s", data->len ? "," : "");
		if (!skip || !after_prefix(o, "lowerdir=")) {
			buf_adds(data, o);
			continue;
		}
		buf_adds(data, "lowerdir=");
		for (const char *p = after_prefix(o, "lowerdir="); *p; p = next_layer(p))
			buf_addf(data, "%s%.*s", p == after_prefix(o, "lowerdir=") ? "" : ":",
				 (int)(layer_length(p) - skip), p + skip);
	}
}

/* mount(2) with @directory as the working directory. */
static int mount_from(const char *directory, const struct share_mount *m, const char *target, unsigned long f,
		      const char *data)
{
	_cleanup_close_ int before = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (before < 0 || chdir(directory) < 0)
		return -errno;
	r = mount(m->source, target, m->type, f, data) < 0 ? -errno : 0;
	if (fchdir(before) < 0)
		return -errno;
	return r;
}

static bool wants_loop(const struct share_mount *m)
{
	for (size_t i = 0; i < m->n_options; i++)
		if (streq(m->options[i], "loop"))
			return true;
	return false;
}

/* Of a bind mount; mount(2) ignores them there. */
static struct mount_attr attributes_of(unsigned long f)
{
	struct mount_attr a = {};

	a.attr_set = (f & MS_RDONLY ? (uint64_t)MOUNT_ATTR_RDONLY : 0) | (f & MS_NOSUID ? MOUNT_ATTR_NOSUID : 0) |
		     (f & MS_NODEV ? MOUNT_ATTR_NODEV : 0) | (f & MS_NOEXEC ? MOUNT_ATTR_NOEXEC : 0) |
		     (f & MS_NODIRATIME ? MOUNT_ATTR_NODIRATIME : 0) | (f & MS_NOATIME ? MOUNT_ATTR_NOATIME : 0);
	a.attr_clr = f & (MS_NOATIME | MS_RELATIME) ? (uint64_t)MOUNT_ATTR__ATIME : 0;
	return a;
}

static int mount_bind(const char *source, unsigned long f, int place)
{
	const struct mount_attr a = attributes_of(f);
	_cleanup_close_ int tree = mount_tree(source, f & MS_REC, &a);

	return tree < 0 ? tree : mount_attach(tree, place);
}

int mount_given(const struct share_mount *given, int place, struct error *err)
{
	struct share_mount loop = *given;
	const struct share_mount *m = &loop;
	_cleanup_free_ char *node = NULL;
	_cleanup_close_ int device = -EBADF;
	_cleanup_free_ char *directory = xstrdup("/");
	_cleanup_buf_ struct buf data = {};
	const char *layers;
	size_t common;
	unsigned long f;
	int r;

	split_options(m, 0, &f, &data);
	if (wants_loop(m)) {
		device = loop_device_attach(m->source, f & MS_RDONLY ? LOOP_READ_ONLY : 0, &node, err);
		if (device < 0)
			return error_prefix(err, "root file system");
		loop.source = node;
	}
	if (data.len > OPTIONS_MAX) {
		/* The paths of a hundred layers: named from the directory that they are in, as containerd does where it mounts. */
		common = common_directory(m, &layers);
		split_options(m, common, &f, &data);
		free(directory);
		directory = common ? xstrndup(layers, common) : xstrdup("/");
	}
	if (data.len > OPTIONS_MAX)
		return error_set(err, E2BIG,
				 "root file system: too many layers for one mount: %zu bytes of options, %d at most",
				 data.len, OPTIONS_MAX);
	if (f & MS_BIND) {
		r = mount_bind(m->source, f, place);
	} else {
		r = fault_point("shim.mount");
		r = r < 0 ? r : mount_from(directory, m, mount_path(place).s, f, data.len ? data.p : NULL);
	}
	return r < 0 ? mount_error(err, r, "root file system: cannot mount", given->source) : 0;
}
