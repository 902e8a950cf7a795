#include "image/rootfs.h"

#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"

static bool is_program(struct tree *t, const char *path, char **ret_path)
{
	_cleanup_free_ char *at = NULL;
	mode_t mode;

	if (t->ops->resolve(t, path, &at, &mode) < 0 || !S_ISREG(mode) || !(mode & 0111))
		return false;
	if (ret_path)
		*ret_path = TAKE_PTR(at);
	return true;
}

/* An init that brings up a system: busybox is in many images as /sbin/init too, but only with OpenRC's scripts has it anything to do. */
static bool has_init(struct tree *t)
{
	_cleanup_free_ char *path = NULL;
	const char *base;

	if (!is_program(t, "sbin/init", &path))
		return false;
	base = strrchr(path, '/');
	base = base ? base + 1 : path;
	if (streq(base, "busybox") || streq(base, "toybox"))
		return is_program(t, "sbin/openrc", NULL);
	return true;
}

void rootfs_inspect(struct tree *t, struct image_meta *meta)
{
	static const char *const servers[] = { "usr/sbin/sshd", "usr/bin/sshd", "usr/local/sbin/sshd" };

	meta->init = has_init(t) ? IMAGE_INIT_SYSTEM : IMAGE_INIT_AGENT;
	meta->ssh = false;
	for (size_t i = 0; i < ARRAY_SIZE(servers); i++)
		meta->ssh |= is_program(t, servers[i], NULL);
}
