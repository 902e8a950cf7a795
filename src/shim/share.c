#include "shim/share.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "shim/mount.h"
#include "shim/root.h"

/* Mount points only: directories and empty files. */
#define SHARE_OPTIONS "mode=0755,size=16m"
#define SHARE_FLAGS   ((unsigned long)(MS_NOSUID | MS_NODEV))

struct share {
	int view;  /* owned: the directory as virtiofsd has it, for what is mounted */
	int files; /* owned: the same tmpfs, writable, with nothing mounted on it */
};

struct share *share_free(struct share *s)
{
	if (!s)
		return NULL;
	safe_close(s->view);
	safe_close(s->files);
	free(s);
	return NULL;
}

/* Mounts the tmpfs. The order counts: a mount that is made of one is as that one is then, so the writable one has to be apart before the other is
 * shared and read-only, and virtiofsd makes its own of what is read-only for good. */
static int make(struct share *s, const char *directory)
{
	if (mount("skerry", directory, "tmpfs", SHARE_FLAGS, SHARE_OPTIONS) < 0)
		return -errno;
	s->files = mount_tree(directory, false, &(struct mount_attr){});
	if (s->files < 0)
		return s->files;
	if (mount(NULL, directory, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | SHARE_FLAGS, NULL) < 0)
		return -errno;
	/* virtiofsd's own namespace follows it. */
	if (mount(NULL, directory, NULL, MS_SHARED, NULL) < 0)
		return -errno;
	s->view = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return s->view < 0 ? -errno : 0;
}

int share_begin(const char *directory, struct share **ret, struct error *err)
{
	int r = mkdir_parents_at(AT_FDCWD, directory, 0700);
	struct share *s;

	if (r < 0)
		return error_set_errno(err, r, "cannot make %s", directory);
	if (unshare(CLONE_NEWNS) < 0)
		return error_set_errno(err, errno, "cannot make a mount namespace");
	/* What the host mounts later is seen here, what is mounted here is not seen there. */
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return error_set_errno(err, errno, "cannot leave the host's mounts alone");
	s = xnew(struct share);
	*s = (struct share){ .view = -EBADF, .files = -EBADF };
	r = make(s, directory);
	if (r < 0) {
		share_free(s);
		return mount_error(err, r, "cannot mount a tmpfs on", directory);
	}
	*ret = s;
	return 0;
}

/* What is to be seen at ID/@name: the topmost mount there, or the place itself. An O_PATH descriptor. */
static int open_place(const struct share *s, const char *id, const char *name)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", id, name);

	return open_no_symlinks(s->view, path, O_PATH);
}

int share_root(const struct share *s, const char *id)
{
	return open_place(s, id, "rootfs");
}

/* A place to mount on, of the same kind as what comes there; it must be new. */
static int make_place(int dir, const char *name, mode_t kind)
{
	int fd, r = fault_point("shim.place");

	if (r < 0)
		return r;
	if (S_ISDIR(kind))
		return mkdirat(dir, name, 0755) < 0 ? -errno : 0;
	fd = openat(dir, name, O_CREAT | O_EXCL | O_CLOEXEC | O_WRONLY | O_NOFOLLOW, 0644);
	if (fd < 0)
		return -errno;
	safe_close(fd);
	return 0;
}

/* Mounts what is at @source on a new place of its kind. */
static int put(const struct share *s, int dir, const char *id, const char *name, const char *source, bool recursive,
	       const struct mount_attr *a)
{
	_cleanup_close_ int tree = mount_tree(source, recursive, a), place = -EBADF;
	struct stat st;
	int r;

	if (tree < 0)
		return tree;
	if (fstat(tree, &st) < 0)
		return -errno;
	r = make_place(dir, name, st.st_mode);
	if (r < 0)
		return r;
	place = open_place(s, id, name);
	return place < 0 ? place : mount_attach(tree, place);
}

static int bind_one(const struct share *s, int dir, const char *id, size_t i, const struct spec_bind *b)
{
	_cleanup_free_ char *name = xasprintf("m%zu", i);
	struct mount_attr a = {};

	/* Its place is kept; the guest connects in another way, or has one of its own. */
	if (b->socket || b->shm_bytes)
		return make_place(dir, name, S_IFREG);
	/* Held on this side, whatever the guest does, with all that is mounted below it; and with what the host mounts there later only if that
	 * was asked for, because it comes as it is there. */
	if (b->read_only) {
		a.attr_set = MOUNT_ATTR_RDONLY;
		a.propagation = b->propagated ? 0 : MS_PRIVATE;
	}
	return put(s, dir, id, name, b->source, b->recursive, &a);
}

/* Where in its root file system one of its mounts goes. What is there may be anybody's, also a symbolic link. */
static int open_target(const struct share *s, const char *id, const char *target)
{
	_cleanup_close_ int root = share_root(s, id);

	return root < 0 || !target || !*target ? TAKE_FD(root) : open_in_root(root, target, O_PATH);
}

static int add_root(const struct share *s, const char *id, const struct share_mount *mounts, size_t n,
		    struct error *err)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < n; i++) {
		_cleanup_close_ int place = open_target(s, id, mounts[i].target);

		r = place < 0 ? mount_error(err, place, "root file system: no place for", mounts[i].source)
			      : mount_given(&mounts[i], place, err);
	}
	return r;
}

int share_add(const struct share *s, const char *id, const struct share_mount *mounts, size_t n_mounts,
	      const char *bundle_rootfs, const struct spec_info *spec, struct error *err)
{
	struct share_mount plain = {
		.type = "bind", .source = bundle_rootfs, .options = (const char *const[]){ "rbind" }, .n_options = 1
	};
	bool whole = !n_mounts && bundle_rootfs;
	_cleanup_close_ int dir = -EBADF;
	int r = make_place(s->files, id, S_IFDIR);

	if (r < 0)
		return error_set_errno(err, r, "cannot make a place for container '%s'", id);
	r = dir = open_no_symlinks(s->files, id, O_RDONLY | O_DIRECTORY);
	if (r >= 0)
		r = make_place(dir, "rootfs", S_IFDIR);
	if (r < 0)
		error_set_errno(err, r, "cannot make a place for the root file system of '%s'", id);
	if (r >= 0)
		r = add_root(s, id, whole ? &plain : mounts, whole ? 1 : n_mounts, err);
	for (size_t i = 0; r >= 0 && i < spec->n_binds; i++) {
		r = bind_one(s, dir, id, i, &spec->binds[i]);
		if (r < 0)
			mount_error(err, r, "bind mount", spec->binds[i].source);
	}
	if (r < 0)
		share_remove(s, id);
	return r;
}

/* A file or a directory of a root file system. */
static int bind_part(const struct share *s, int dir, const char *id, const char *name, const char *source,
		     bool read_only, struct error *err)
{
	const struct mount_attr a = { .attr_set = read_only ? MOUNT_ATTR_RDONLY : 0 };
	int r = put(s, dir, id, name, source, false, &a);

	return r < 0 ? mount_error(err, r, "root file system: cannot share", source) : 0;
}

int share_add_root(const struct share *s, const char *id, const struct root *root, struct error *err)
{
	_cleanup_close_ int dir = open_no_symlinks(s->files, id, O_RDONLY | O_DIRECTORY);
	int r = dir < 0 ? error_set_errno(err, dir, "container '%s' has no place", id) : 0;

	for (size_t i = 0; r >= 0 && i < root->n_files; i++) {
		_cleanup_free_ char *name = xasprintf("l%zu", i);

		if (!root->files[i].disk)
			r = bind_part(s, dir, id, name, root->files[i].path, root->files[i].read_only, err);
	}
	if (r >= 0 && root->upper_parent)
		r = bind_part(s, dir, id, "upper", root->upper_parent, false, err);
	if (r < 0)
		share_remove(s, id);
	return r;
}

/* Mounts can be stacked. */
static void unmount_all(const struct share *s, const char *id, const char *name)
{
	for (;;) {
		_cleanup_close_ int fd = open_place(s, id, name);

		/* EINVAL: it is no mount, or none any more. */
		if (fd < 0 || umount2(mount_path(fd).s, MNT_DETACH) < 0)
			return;
	}
}

void share_remove(const struct share *s, const char *id)
{
	int fd = open_no_symlinks(s->files, id, O_RDONLY | O_DIRECTORY), r;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d) {
		safe_close(fd);
		return;
	}
	for (const struct dirent *e; (e = readdir(d));)
		if (!streq(e->d_name, ".") && !streq(e->d_name, ".."))
			unmount_all(s, id, e->d_name);
	closedir(d);
	/* Where nothing is mounted: of what could not be unmounted only the place is in the way. */
	r = remove_tree_at(s->files, id);
	if (r < 0)
		log_warning("share: %s: %s, ignoring", id, strerror(-r));
}
