#include "bench/peers.h"

#include <stdio.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/spawn.h"

static void set_words(struct peer *p, const char *const *words)
{
	for (size_t i = 0; words[i]; i++)
		p->words[i] = xstrdup(words[i]);
}

static bool give_up(struct peer *p, const struct error *e)
{
	snprintf(p->why, sizeof(p->why), "%s", e->msg ? e->msg : "failed");
	p->missing = p->why;
	peer_stop(p);
	return false;
}

static bool installed(struct peer *p, const char *const *programs)
{
	for (size_t i = 0; programs[i]; i++) {
		_cleanup_free_ char *path = program_find(programs[i]);

		if (path)
			continue;
		snprintf(p->why, sizeof(p->why), "%s is not installed", programs[i]);
		p->missing = p->why;
		return false;
	}
	if (geteuid() == 0)
		return true;
	p->missing = "it needs root";
	return false;
}

void peer_start_ctr(struct peer *p, const char *scratch, const char *rootfs)
{
	static const char *const programs[] = { "containerd", "ctr", "runc", NULL };
	_cleanup_free_ char *dir = xasprintf("%s/ctr", scratch), *root = xasprintf("%s/root", dir),
			    *state = xasprintf("%s/state", dir), *socket = xasprintf("%s/c.sock", dir),
			    *config = xasprintf("%s/config.toml", dir), *text = NULL;
	_cleanup_error_ struct error e = {};
	_cleanup_close_ int fd = -EBADF;

	*p = (struct peer){ .name = "ctr run --rm", .server = { .pidfd = -EBADF } };
	if (!installed(p, programs))
		return;
	fd = dir_open_create(dir, 0700);
	p->server.scratch = xstrdup(dir);
	/* Nothing of a system's own containerd is touched: not even the directory that its opt plugin makes. */
	text = xasprintf(
		"version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n");
	if (fd < 0 || file_write_at(fd, "config.toml", text, strlen(text), 0600, 0) < 0) {
		give_up(p, &e);
		return;
	}
	{
		const char *argv[] = { "containerd", "--config", config,      "--root", root,
				       "--state",    state,      "--address", socket,   NULL };
		const char *words[] = { "ctr",      "--address", socket, "run",       "--rm",
					"--rootfs", rootfs,      "%ID%", "/bin/true", NULL };

		set_words(p, words);
		if (server_start(&p->server, argv, socket, &e) < 0)
			give_up(p, &e);
	}
}

void peer_start_docker(struct peer *p, const char *scratch, const char *rootfs, bool bridge)
{
	static const char *const programs[] = { "dockerd", "docker", "containerd", "runc", "tar", NULL };
	_cleanup_free_ char *dir = xasprintf("%s/docker", scratch), *root = xasprintf("%s/root", dir),
			    *state = xasprintf("%s/exec", dir), *socket = xasprintf("%s/d.sock", dir),
			    *host = xasprintf("unix://%s", socket), *pidfile = xasprintf("%s/pid", dir),
			    *tar = xasprintf("%s/rootfs.tar", dir);
	_cleanup_error_ struct error e = {};
	_cleanup_close_ int fd = -EBADF;
	uint64_t ns;

	*p = (struct peer){ .name = "docker run --rm", .server = { .pidfd = -EBADF } };
	if (!installed(p, programs))
		return;
	fd = dir_open_create(dir, 0700);
	p->server.scratch = xstrdup(dir);
	{
		const char *argv[] = { "dockerd",
				       "--data-root",
				       root,
				       "--exec-root",
				       state,
				       "--host",
				       host,
				       "--pidfile",
				       pidfile,
				       "--iptables=false",
				       "--exec-opt",
				       "native.cgroupdriver=cgroupfs",
				       bridge ? NULL : "--bridge=none",
				       NULL };
		const char *pack[] = { "tar", "-C", rootfs, "-cf", tar, ".", NULL };
		const char *import[] = { "docker", "--host", host, "import", tar, "bench", NULL };
		const char *words[] = { "docker",    "--host", host,    "run",       "--rm",
					"--network", "none",   "bench", "/bin/true", NULL };

		set_words(p, words);
		if (fd < 0 || server_start(&p->server, argv, socket, &e) < 0 || measure_command(pack, &ns, &e) < 0 ||
		    measure_command(import, &ns, &e) < 0)
			give_up(p, &e);
	}
}

/* Nobody's: libvirtd is a user's then, and touches nothing of the system's. */
#define AS_NOBODY "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--pdeathsig", "keep"

static int write_domain(const char *dir, const char *kernel, struct error *err)
{
	_cleanup_free_ char *text =
		xasprintf("<domain type='qemu'><name>bench</name><memory unit='MiB'>512</memory><vcpu>1</vcpu>"
			  "<os><type arch='x86_64' machine='q35'>hvm</type><kernel>%s</kernel>"
			  "<cmdline>console=ttyS0</cmdline></os><devices><serial type='null'/></devices></domain>",
			  kernel);
	_cleanup_close_ int fd = dir_open_create(dir, 0755);
	int r = fd < 0 ? fd : file_write_at(fd, "bench.xml", text, strlen(text), 0644, 0);

	if (r >= 0 && fchown(fd, 65534, 65534) < 0)
		r = -errno;
	return r < 0 ? error_set_errno(err, r, "%s", dir) : 0;
}

void peer_start_virsh(struct peer *p, const char *scratch, const char *kernel)
{
	static const char *const programs[] = { "libvirtd", "virsh", "setpriv", "qemu-system-x86_64", NULL };
	_cleanup_free_ char *dir = xasprintf("%s/virsh", scratch), *home = xasprintf("HOME=%s", dir),
			    *runtime = xasprintf("XDG_RUNTIME_DIR=%s", dir),
			    *socket = xasprintf("%s/libvirt/libvirt-sock", dir),
			    *uri = xasprintf("qemu+unix:///session?socket=%s", socket),
			    *xml = xasprintf("%s/bench.xml", dir), *image = xasprintf("%s/vmlinux", dir);
	_cleanup_error_ struct error e = {};
	uint64_t ns;

	*p = (struct peer){ .name = "virsh start", .server = { .pidfd = -EBADF } };
	if (!installed(p, programs))
		return;
	p->server.scratch = xstrdup(dir);
	{
		const char *copy[] = { "install", "-m", "444", kernel, image, NULL };
		const char *argv[] = { AS_NOBODY, "env",   "-i",       "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
				       home,      runtime, "libvirtd", NULL };
		const char *define[] = { AS_NOBODY, "virsh", "-q", "-c", uri, "define", xml, NULL };
		const char *words[] = { AS_NOBODY, "virsh", "-q", "-c", uri, "start", "bench", NULL };
		const char *after[] = { AS_NOBODY, "virsh", "-q", "-c", uri, "destroy", "bench", NULL };

		set_words(p, words);
		for (size_t i = 0; after[i]; i++)
			p->after[i] = xstrdup(after[i]);
		if (write_domain(dir, image, &e) < 0 || measure_command(copy, &ns, &e) < 0 ||
		    server_start(&p->server, argv, socket, &e) < 0 || measure_command(define, &ns, &e) < 0)
			give_up(p, &e);
	}
}

int peer_after(struct peer *p, struct error *err)
{
	const char *argv[ARRAY_SIZE(p->after) + 1] = {};
	uint64_t ns;

	for (size_t i = 0; i < ARRAY_SIZE(p->after) && p->after[i]; i++)
		argv[i] = p->after[i];
	return argv[0] ? measure_command(argv, &ns, err) : 0;
}

int peer_run(struct peer *p, unsigned nth, uint64_t *ret_ns, struct error *err)
{
	_cleanup_free_ char *id = xasprintf("bench-%u", nth);
	const char *argv[ARRAY_SIZE(p->words) + 1] = {};

	for (size_t i = 0; i < ARRAY_SIZE(p->words) && p->words[i]; i++)
		argv[i] = streq(p->words[i], "%ID%") ? id : p->words[i];
	return measure_command(argv, ret_ns, err);
}

void peer_stop(struct peer *p)
{
	server_stop(&p->server);
	for (size_t i = 0; i < ARRAY_SIZE(p->words); i++) {
		free(p->words[i]);
		free(p->after[i]);
		p->words[i] = p->after[i] = NULL;
	}
}
