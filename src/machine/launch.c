#include "machine/launch.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/spawn.h"

/* Engines started by root run as a user of their own, without any file in the system: one number a machine, far above what
 * distributions hand out, so that no two machines can touch each other. */
#define ENGINE_UID_BASE 0x7e000000u
#define ENGINE_UID_MASK 0x00ffffffu

static uid_t engine_uid(const char *machine_id)
{
	uint32_t h = 2166136261u; /* FNV-1a */

	for (const char *p = machine_id; *p; p++)
		h = (h ^ (uint8_t)*p) * 16777619u;
	return ENGINE_UID_BASE + (h & ENGINE_UID_MASK);
}

void engine_fds_done(struct engine_fds *h)
{
	for (size_t i = 0; i < h->n; i++)
		if (!h->borrowed[i])
			safe_close(h->fds[i].from);
	free(h->fds);
	free(h->borrowed);
	*h = (struct engine_fds){};
}

static int lent(const int *fds, size_t n, size_t index, const char *from, struct error *err)
{
	return index < n && fds[index] >= 0 ? fds[index] : error_set(err, EINVAL, "the %s gave no descriptor", from);
}

static int open_directory(const struct engine_launch *l, const struct engine_fd *f, struct error *err)
{
	int fd = mkdirat(l->run_fd, f->path, 0700) < 0 && errno != EEXIST
			 ? -1
			 : openat(l->run_fd, f->path, f->flags | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? error_set_errno(err, errno, "%s: cannot make the directory %s", l->what, f->path) : fd;
}

static int open_one(const struct engine_launch *l, const struct engine_fd *f, bool *ret_borrowed, struct error *err)
{
	int fd;

	switch (f->kind) {
	case ENGINE_FD_OPEN:
		fd = open(f->path, f->flags | O_CLOEXEC | O_NOCTTY);
		return fd < 0 ? error_set_errno(err, errno, "%s: cannot open %s", l->what, f->path) : fd;
	case ENGINE_FD_LISTEN:
		fd = unix_listen_at(l->run_fd, f->path, 4);
		return fd < 0 ? error_set_errno(err, fd, "%s: cannot listen on %s", l->what, f->path) : fd;
	case ENGINE_FD_BOOT: *ret_borrowed = true; return l->boot_fd;
	case ENGINE_FD_NIC: *ret_borrowed = true; return lent(l->nic_fds, l->n_nic_fds, f->index, "network", err);
	case ENGINE_FD_SHARE: *ret_borrowed = true; return lent(l->share_fds, l->n_share_fds, f->index, "share", err);
	case ENGINE_FD_VHOST_VSOCK:
		*ret_borrowed = true;
		return lent(l->vhost_fd, l->vhost_fd ? 1 : 0, 0, "vsock", err);
	case ENGINE_FD_DIRECTORY: return open_directory(l, f, err);
	}
	return error_set(err, EINVAL, "unknown kind of descriptor");
}

int engine_fds_open(const struct engine_launch *l, struct engine_fds *ret, struct error *err)
{
	struct engine_fds h = { .fds = xnew_n(struct spawn_fd, l->plan->n_fds + 1),
				.borrowed = xnew_n(bool, l->plan->n_fds + 1) };

	for (size_t i = 0; i < l->plan->n_fds; i++) {
		int fd = open_one(l, &l->plan->fds[i], &h.borrowed[i], err);

		if (fd < 0) {
			engine_fds_done(&h);
			return fd;
		}
		h.fds[h.n++] = (struct spawn_fd){ fd, l->plan->fds[i].number };
	}
	*ret = h;
	return 0;
}

static void choose_user(const struct engine_launch *l, struct spawn *sp, gid_t *kvm_group)
{
	struct stat st;

	if (geteuid() != 0)
		return;
	sp->uid = l->uid ? l->uid : engine_uid(l->id);
	sp->gid = l->uid ? l->gid : sp->uid;
	sp->drop_privileges = true;
	sp->capability = l->privileged_ports ? CAP_NET_BIND_SERVICE : 0;
	if (l->accel != ACCEL_KVM || stat("/dev/kvm", &st) < 0 || (st.st_mode & 0006) == 0006)
		return;
	if ((st.st_mode & 0060) == 0060) {
		*kvm_group = st.st_gid;
		sp->groups = kvm_group;
		sp->n_groups = 1;
	} else {
		log_warning("/dev/kvm is open to root only: the engine runs as root");
		sp->drop_privileges = false;
	}
}

static int give_directories(const struct engine_launch *l, const struct engine_fds *h, const struct spawn *sp,
			    struct error *err)
{
	for (size_t i = 0; sp->drop_privileges && i < l->plan->n_fds; i++)
		if (l->plan->fds[i].kind == ENGINE_FD_DIRECTORY && fchown(h->fds[i].from, sp->uid, sp->gid) < 0)
			return error_set_errno(err, errno, "%s: cannot give the directory %s to the engine", l->what,
					       l->plan->fds[i].path);
	return 0;
}

int engine_launch(const struct engine_launch *l, const struct engine_fds *h, uint64_t *ret_uid, int *ret_pidfd,
		  struct error *err)
{
	struct spawn sp = SPAWN_INIT;
	gid_t kvm_group;
	int r;

	sp.argv = (const char *const *)l->plan->argv.items;
	sp.stdio[1] = l->log_fd;
	sp.stdio[2] = l->log_fd;
	sp.fds = h->fds;
	sp.n_fds = h->n;
	sp.cwd = "/";
	sp.new_session = true;
	/* A host that shuts down sends SIGTERM to all processes, and QEMU would end at once. The monitor gets it too, and has the guest end first. */
	sp.patient = true;
	sp.death_signal = l->death_signal;
	sp.on_pid = l->on_pid;
	sp.on_pid_data = l->data;
	choose_user(l, &sp, &kvm_group);
	*ret_uid = sp.drop_privileges ? sp.uid : 0;
	r = give_directories(l, h, &sp, err);
	if (r < 0)
		return r;
	r = spawn_start(&sp, NULL, ret_pidfd, err);
	return r < 0 ? error_prefix(err, "%s", l->what) : 0;
}
