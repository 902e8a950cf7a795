#include "machine/virtiofs.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/spawn.h"

enum { SERVER_FD = 3 };

/* The program of QEMU's tree (C, up to QEMU 7.2) and the later one (Rust) take different options. */
static const struct {
	const char *path;
	bool qemu;
} programs[] = {
	{ "/usr/libexec/virtiofsd", false },
	{ "/usr/lib/virtiofsd", false },
	{ "/usr/lib/qemu/virtiofsd", true },
	{ "/usr/local/libexec/virtiofsd", false },
};

const char *virtiofs_program(bool *ret_qemu)
{
	for (size_t i = 0; i < ARRAY_SIZE(programs); i++)
		if (access(programs[i].path, X_OK) == 0) {
			if (ret_qemu)
				*ret_qemu = programs[i].qemu;
			return programs[i].path;
		}
	return NULL;
}

/* A socket that listens, without a name in any directory. */
static int listen_unnamed(struct sockaddr_un *ret, socklen_t *ret_len)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	/* Autobind (unix(7)): the kernel chooses an abstract address. */
	*ret_len = sizeof(*ret);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(sa_family_t)) < 0 ||
	    getsockname(fd, (struct sockaddr *)ret, ret_len) < 0 || listen(fd, 1) < 0)
		return -errno;
	return TAKE_FD(fd);
}

/* What is mounted below the directory is not announced to the guest as such: its kernel would make a super block of its own for each, and Linux 6.1
 * has been seen to fall over when the last file of a killed process was released after that was unmounted (in fuse_release_end). */
static void add_options(struct strv *argv, const char *directory, bool qemu)
{
	strv_addf(argv, "--fd=%d", SERVER_FD);
	if (qemu) {
		strv_add(argv, "-o");
		/* A directory with a comma never comes here: it is one of ours. */
		strv_addf(argv, "source=%s,sandbox=namespace,cache=auto,xattr,log_level=warn", directory);
		/* Overlays inside the guest keep their marks in trusted.*. */
		strv_add(argv, "-o");
		strv_add(argv, "modcaps=+sys_admin");
	} else {
		strv_addf(argv, "--shared-dir=%s", directory);
		strv_add(argv, "--sandbox=namespace");
		strv_add(argv, "--cache=auto");
		strv_add(argv, "--xattr");
		strv_add(argv, "--log-level=warn");
	}
}

int virtiofs_start(const struct virtiofs_request *q, int *ret_socket, int *ret_pidfd, struct error *err)
{
	_cleanup_close_ int server = -EBADF, client = -EBADF;
	_cleanup_strv_ struct strv argv = {};
	struct sockaddr_un address;
	struct spawn s = SPAWN_INIT;
	struct spawn_fd pass;
	const char *program;
	socklen_t len;
	bool qemu;
	int r;

	program = virtiofs_program(&qemu);
	if (!program) {
		error_set_kind(err, ERROR_UNAVAILABLE, ENOENT, "virtiofsd: not installed");
		return error_hint(err, VIRTIOFS_HINT);
	}
	strv_add(&argv, program);
	add_options(&argv, q->directory, qemu);
	server = listen_unnamed(&address, &len);
	client = server < 0 ? -EBADF : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (client < 0)
		return error_set_errno(err, server < 0 ? server : errno, "virtiofsd: cannot make its socket");
	/* It may be connected before it runs: the kernel holds the connection for it. Nobody else has the address in time or is let in: one. */
	if (connect(client, (struct sockaddr *)&address, len) < 0)
		return error_set_errno(err, errno, "virtiofsd: cannot connect to its socket");
	pass = (struct spawn_fd){ .from = server, .to = SERVER_FD };
	s.argv = (const char *const *)argv.items;
	s.stdio[1] = q->log_fd;
	s.stdio[2] = q->log_fd;
	s.fds = &pass;
	s.n_fds = 1;
	s.cwd = "/";
	s.new_session = true;
	/* A host that shuts down sends SIGTERM to all processes: the guest still needs its files to end. It goes when its engine does. */
	s.patient = true;
	s.death_signal = q->death_signal;
	s.on_pid = q->on_pid;
	s.on_pid_data = q->data;
	r = spawn_start(&s, NULL, ret_pidfd, err);
	if (r < 0)
		return error_prefix(err, "virtiofsd");
	*ret_socket = TAKE_FD(client);
	return 0;
}
