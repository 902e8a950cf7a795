#include "shim/share.h"

#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"

/* Mount points only: directories and empty files. */
#define SHARE_OPTIONS "mode=0755,size=16m"

/* mount(2) takes a page of options with its NUL, and cuts off what is more. */
enum { OPTIONS_MAX = 4095 };

int share_begin(const char *directory, struct error *err)
{
	int r = mkdir_parents_at(AT_FDCWD, directory, 0700);

	if (r < 0)
		return error_set_errno(err, r, "cannot make %s", directory);
	if (unshare(CLONE_NEWNS) < 0)
		return error_set_errno(err, errno, "cannot make a mount namespace");
	/* What the host mounts later is seen here, what is mounted here is not seen there. */
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return error_set_errno(err, errno, "cannot leave the host's mounts alone");
	if (mount("skerry", directory, "tmpfs", MS_NOSUID | MS_NODEV, SHARE_OPTIONS) < 0)
		return error_set_errno(err, errno, "cannot mount a tmpfs on %s", directory);
	/* virtiofsd's own namespace follows it. */
	if (mount(NULL, directory, NULL, MS_SHARED, NULL) < 0)
		return error_set_errno(err, errno, "cannot share %s", directory);
	return 0;
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
	{ "remount", MS_REMOUNT, 0 },
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
		return errno;
	r = mount(m->source, target, m->type, f, data) < 0 ? errno : 0;
	if (fchdir(before) < 0)
		return errno;
	return r;
}

static int mount_one(const struct share_mount *m, const char *target, struct error *err)
{
	_cleanup_free_ char *directory = xstrdup("/");
	_cleanup_buf_ struct buf data = {};
	const char *layers;
	size_t common;
	unsigned long f;
	int r;

	split_options(m, 0, &f, &data);
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
	r = fault_point("shim.mount");
	r = r < 0 ? -r : mount_from(directory, m, target, f, data.len ? data.p : NULL);
	/* mount(2) ignores the others with MS_BIND. */
	if (!r && (f & MS_BIND) && (f & (unsigned long)~(MS_BIND | MS_REC)) &&
	    mount(NULL, target, NULL, f | MS_REMOUNT, NULL) < 0)
		r = errno;
	return r ? error_set_errno(err, r, "root file system: cannot mount %s %s", m->type, m->source) : 0;
}

/* A place to mount on, of the same kind as what comes there. */
static int make_place(const char *path, mode_t kind)
{
	int fd;

	if (S_ISDIR(kind))
		return mkdir(path, 0755) < 0 && errno != EEXIST ? -errno : 0;
	fd = open(path, O_CREAT | O_CLOEXEC | O_WRONLY | O_NOFOLLOW, 0644);
	if (fd < 0)
		return -errno;
	safe_close(fd);
	return 0;
}

static int bind_one(const char *dir, size_t i, const struct spec_bind *b, struct error *err)
{
	_cleanup_free_ char *place = xasprintf("%s/m%zu", dir, i);
	struct stat st;
	int r;

	if (stat(b->source, &st) < 0)
		return error_set_errno(err, errno, "bind mount %s", b->source);
	r = make_place(place, st.st_mode);
	if (r >= 0 && mount(b->source, place, NULL, MS_BIND | (b->recursive ? (unsigned long)MS_REC : 0), NULL) < 0)
		r = -errno;
	/* Held read-only on this side, whatever the guest does. */
	if (r >= 0 && b->read_only && mount(NULL, place, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) < 0)
		r = -errno;
	return r < 0 ? error_set_errno(err, r, "bind mount %s", b->source) : 0;
}

int share_add(const char *directory, const char *id, const struct share_mount *mounts, size_t n_mounts,
	      const char *bundle_rootfs, const struct spec_info *spec, struct error *err)
{
	_cleanup_free_ char *dir = xasprintf("%s/%s", directory, id), *root = xasprintf("%s/rootfs", dir);
	struct share_mount plain = {
		.type = "bind", .source = bundle_rootfs, .options = (const char *const[]){ "rbind" }, .n_options = 1
	};
	int r = mkdir(dir, 0755) < 0 ? -errno : make_place(root, S_IFDIR);

	if (r < 0) {
		r = error_set_errno(err, r, "cannot make %s", root);
		if (r != -EEXIST)
			share_remove(directory, id);
		return r;
	}
	if (!n_mounts)
		r = mount_one(&plain, root, err);
	for (size_t i = 0; r >= 0 && i < n_mounts; i++) {
		_cleanup_free_ char *at = mounts[i].target && *mounts[i].target
						  ? xasprintf("%s/%s", root, mounts[i].target)
						  : xstrdup(root);

		r = mount_one(&mounts[i], at, err);
	}
	for (size_t i = 0; r >= 0 && i < spec->n_binds; i++)
		r = bind_one(dir, i, &spec->binds[i], err);
	if (r < 0)
		share_remove(directory, id);
	return r;
}

/* Mounts can be stacked. */
static void unmount_all(const char *path)
{
	while (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
		;
}

void share_remove(const char *directory, const char *id)
{
	_cleanup_free_ char *dir = xasprintf("%s/%s", directory, id), *root = xasprintf("%s/rootfs", dir);
	_cleanup_close_ int share = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	unmount_all(root);
	for (size_t i = 0;; i++) {
		_cleanup_free_ char *place = xasprintf("%s/m%zu", dir, i);

		if (access(place, F_OK) < 0)
			break;
		unmount_all(place);
	}
	/* What could not be unmounted must not be emptied. */
	if (share >= 0) {
		_cleanup_free_ char *rootfs = xasprintf("%s/rootfs", id);

		if (unlinkat(share, rootfs, AT_REMOVEDIR) < 0 && errno != ENOENT) {
			log_warning("%s: %s, ignoring", root, strerror(errno));
			return;
		}
		(void)remove_tree_at(share, id);
	}
}
