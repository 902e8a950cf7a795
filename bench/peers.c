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

void peer_start_docker(struct peer *p, const char *scratch, const char *rootfs)
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
		const char *argv[] = { "dockerd",    "--data-root",
				       root,         "--exec-root",
				       state,        "--host",
				       host,         "--pidfile",
				       pidfile,      "--bridge",
				       "none",       "--iptables=false",
				       "--exec-opt", "native.cgroupdriver=cgroupfs",
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
		p->words[i] = NULL;
	}
}
