/* A directory of the host that the guest sees: "SOURCE[:TARGET][:ro]" in struct machine_spec. */
#pragma once

#include <stdbool.h>

#include "base/error.h"

struct share {
	char *source; /* absolute */
	char *target; /* in the guest: absolute, not "/", without . and .. */
	bool read_only;
};
/* Errors: kind USAGE. */
int share_parse(const char *text, struct share *ret, struct error *err);
char *share_format(const struct share *s); /* with its target; owned by the caller */
void share_done(struct share *s);
/* How the guest calls the @index-th: a name that cloud-init takes for one of the network's, and so leaves as it is. */
char *share_tag(unsigned index);
#define SHARE_FSTYPE  "9p"
#define SHARE_OPTIONS "trans=virtio,version=9p2000.L,msize=262144"
