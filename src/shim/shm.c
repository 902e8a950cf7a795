#include "shim/shm.h"

#include <inttypes.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include "agent.pb-c.h"
#include "shim/shim.h"

void shm_find(struct spec_info *info)
{
	_cleanup_free_ char *end = xasprintf("/%s/shm", info->group);
	size_t n = strlen(end);

	for (size_t i = 0; info->role == SPEC_MEMBER && i < info->n_binds; i++) {
		struct spec_bind *b = &info->binds[i];
		size_t k = strlen(b->source);
		struct statfs fs;

		if (b->at_shm && k > n && streq(b->source + k - n, end) && statfs(b->source, &fs) == 0 &&
		    fs.f_type == TMPFS_MAGIC)
			b->shm_bytes = (uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize;
	}
}

/* 0 = it has none. */
static uint64_t shm_bytes(const struct container *k)
{
	for (size_t i = 0; i < k->info.n_binds; i++)
		if (k->info.binds[i].shm_bytes)
			return k->info.binds[i].shm_bytes;
	return 0;
}

void shm_tell(const struct container *k, Skerry__Agent__V1__CreateContainerRequest *q)
{
	Skerry__Agent__V1__ContainerMount *m;
	const struct container *other = k->shim->containers;
	uint64_t bytes = shm_bytes(k);
	struct strv options = {};

	if (!bytes)
		return;
	/* The guest mounts in the order in which it is asked. */
	while (other && (other == k || other->deletion || (!other->made && !other->making) || !shm_bytes(other)))
		other = other->next;
	m = xnew(Skerry__Agent__V1__ContainerMount);
	skerry__agent__v1__container_mount__init(m);
	m->type = xstrdup(other ? "bind" : "tmpfs");
	m->source = other ? xasprintf(VM_SHM_GUEST "/%s", other->id) : xstrdup("shm");
	m->target = xasprintf(VM_SHM_GUEST "/%s", k->id);
	if (other) {
		strv_add(&options, "bind");
	} else {
		strv_add(&options, "nosuid");
		strv_add(&options, "nodev");
		strv_add(&options, "noexec");
		strv_add(&options, "mode=1777");
		strv_addf(&options, "size=%" PRIu64, bytes);
	}
	m->options = options.items;
	m->n_options = options.n;
	q->mounts = xrealloc_array(q->mounts, q->n_mounts + 1, sizeof(*q->mounts));
	q->mounts[q->n_mounts++] = m;
}
