#include "guest/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "base/clock.h"
#include "base/memory.h"
#include "guest/root.h"
#include "guest/system.h"

enum { HOSTS_BYTES_MAX = 1 << 20, HOSTNAME_MAX = 64 };
static const uint64_t boot_longest_ns = 600 * NS_PER_SEC;

static void note(struct buf *errors, const char *what, int r)
{
	if (r < 0)
		buf_addf(errors, "%s: %s\n", what, strerror(-r));
}

static int add_entropy(const ProtobufCBinaryData *seed)
{
	_cleanup_close_ int fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
	_cleanup_free_ struct rand_pool_info *info = xcalloc(1, sizeof(*info) + seed->len + 4);

	if (fd < 0)
		return -errno;
	info->entropy_count = (int)seed->len * 8;
	info->buf_size = (int)seed->len;
	memcpy(info->buf, seed->data, seed->len);
	return ioctl(fd, RNDADDENTROPY, info) < 0 ? -errno : 0;
}

void settings_kernel(const Skerry__Agent__V1__BootConfig *c, struct buf *errors)
{
	uint64_t now = clock_realtime_ns();
	size_t n = strlen(c->hostname);

	if (c->random_seed.len > 0)
		note(errors, "random seed", add_entropy(&c->random_seed));
	/* A clock that is right is ahead of what was written down before the engine's start, by as long as that and the kernel took. */
	if (c->realtime_ns && (now + NS_PER_SEC < c->realtime_ns || now > c->realtime_ns + boot_longest_ns))
		note(errors, "clock", system_set_time(c->realtime_ns));
	if (n > 0 && sethostname(c->hostname, n < HOSTNAME_MAX ? n : HOSTNAME_MAX) < 0)
		note(errors, "host name", -errno);
}

/* /etc/hosts with the machine's own name at 127.0.1.1, as Debian has it; every other line stays. */
static int write_hosts(const char *hostname, int root)
{
	_cleanup_buf_ struct buf old = { 0 }, out = { 0 };
	int r = root_read(root, "/etc/hosts", HOSTS_BYTES_MAX, &old);

	if (r < 0 && r != -ENOENT)
		return r;
	if (old.len == 0)
		buf_adds(&out, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
	for (const char *line = old.p; line && *line;) {
		size_t n = strcspn(line, "\n");

		if (!after_prefix(line, "127.0.1.1\t") && !after_prefix(line, "127.0.1.1 ")) {
			buf_add(&out, line, n);
			buf_addc(&out, '\n');
		}
		line += n + (line[n] == '\n');
	}
	buf_addf(&out, "127.0.1.1\t%s\n", hostname);
	return root_write(root, "/etc/hosts", out.p, out.len, 0644, 0, 0);
}

static int write_line(int root, const char *path, const char *text, mode_t mode)
{
	_cleanup_buf_ struct buf b = { 0 };

	buf_addf(&b, "%s\n", text);
	return root_write(root, path, b.p, b.len, mode, 0, 0);
}

static int write_resolv_conf(const Skerry__Agent__V1__BootConfig *c, int root)
{
	_cleanup_buf_ struct buf b = { 0 };

	for (size_t i = 0; i < c->n_dns_servers; i++)
		buf_addf(&b, "nameserver %s\n", c->dns_servers[i]);
	for (size_t i = 0; i < c->n_dns_search; i++)
		buf_addf(&b, "%s%s%s", i ? " " : "search ", c->dns_search[i], i + 1 == c->n_dns_search ? "\n" : "");
	for (size_t i = 0; i < c->n_dns_options; i++)
		buf_addf(&b, "options %s\n", c->dns_options[i]);
	return root_write(root, "/etc/resolv.conf", b.p, b.len, 0644, 0, 0);
}

/* localtime(5); whoever reads /etc/timezone as well is told there. A zone that the image does not know is no zone. */
static int write_timezone(const char *zone, int root)
{
	_cleanup_free_ char *path = xasprintf("/usr/share/zoneinfo/%s", zone);
	_cleanup_close_ int known = root_open(root, path, O_PATH | O_CLOEXEC, 0), etc = -EBADF;

	if (known < 0)
		return known;
	etc = root_mkdir(root, "/etc", 0755, 0, 0);
	if (etc < 0)
		return etc;
	(void)unlinkat(etc, ".localtime", 0);
	if (symlinkat(path, etc, ".localtime") < 0 || renameat(etc, ".localtime", etc, "localtime") < 0)
		return -errno;
	return write_line(root, "/etc/timezone", zone, 0644);
}

static int write_host_key(const Skerry__Agent__V1__SshHostKey *k, int dir)
{
	_cleanup_free_ char *public_name = xasprintf("%s.pub", k->name);
	int r = root_write_at(dir, k->name, k->private_key.data, k->private_key.len, 0600, 0, 0);

	if (r == 0 && k->public_key.len > 0)
		r = root_write_at(dir, public_name, k->public_key.data, k->public_key.len, 0644, 0, 0);
	return r;
}

void settings_files(const Skerry__Agent__V1__BootConfig *c, int root, struct buf *errors)
{
	_unused_ _cleanup_close_ int etc = root_mkdir(root, "/etc", 0755, 0, 0), ssh = -EBADF;

	if (c->hostname[0]) {
		note(errors, "/etc/hostname", write_line(root, "/etc/hostname", c->hostname, 0644));
		note(errors, "/etc/hosts", write_hosts(c->hostname, root));
	}
	if (c->machine_id[0])
		note(errors, "/etc/machine-id", write_line(root, "/etc/machine-id", c->machine_id, 0444));
	if (c->timezone[0])
		note(errors, c->timezone, write_timezone(c->timezone, root));
	if (c->n_dns_servers > 0)
		note(errors, "/etc/resolv.conf", write_resolv_conf(c, root));
	for (size_t i = 0; i < c->n_directories; i++)
		note(errors, c->directories[i], root_mkdir_parents(root, c->directories[i]));
	if (c->n_ssh_host_keys == 0)
		return;
	ssh = root_mkdir(root, "/etc/ssh", 0755, 0, 0);
	note(errors, "/etc/ssh", ssh);
	for (size_t i = 0; i < c->n_ssh_host_keys && ssh >= 0; i++)
		note(errors, c->ssh_host_keys[i]->name, write_host_key(c->ssh_host_keys[i], ssh));
}
