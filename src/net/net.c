#include "net/net.h"

#include <stdio.h>
#include <string.h>

#include "net/modes.h"

static const struct net_mode *const modes[] = { &net_mode_user, &net_mode_none, &net_mode_container };

const struct net_mode *net_mode_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
		if (streq(modes[i]->name, name))
			return modes[i];
	return NULL;
}

const struct net_mode *net_mode_at(size_t i)
{
	return i < ARRAY_SIZE(modes) ? modes[i] : NULL;
}

void net_plan_done(struct net_plan *p)
{
	strv_done(&p->host_forwards);
	strv_done(&p->addresses);
	strv_done(&p->dns);
	strv_done(&p->search);
	strv_done(&p->helper_argv);
	net_takeover_done(&p->taken);
}

size_t net_plan_nics(const struct net_plan *p)
{
	return p->kind == NET_ATTACH_NONE ? 0 : p->kind == NET_ATTACH_TAP ? p->taken.n : 1;
}

/* FNV-1a, then a finalizer that lets every input bit reach the 40 bits that are used. */
void net_mac_from_id(const char *machine_id, unsigned index, char ret[18])
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (const char *p = machine_id; *p; p++)
		h = (h ^ (unsigned char)*p) * UINT64_C(0x100000001b3);
	for (unsigned i = 0; i < sizeof(index); i++)
		h = (h ^ (index >> 8 * i & 0xff)) * UINT64_C(0x100000001b3);
	h ^= h >> 33;
	h *= UINT64_C(0xff51afd7ed558ccd);
	h ^= h >> 33;
	h *= UINT64_C(0xc4ceb9fe1a85ec53);
	h ^= h >> 33;
	(void)snprintf(ret, 18, "02:%02x:%02x:%02x:%02x:%02x", (unsigned)(h >> 32 & 0xff), (unsigned)(h >> 24 & 0xff),
		       (unsigned)(h >> 16 & 0xff), (unsigned)(h >> 8 & 0xff), (unsigned)(h & 0xff));
}
