#include "net/modes.h"

#include <errno.h>

static int none_plan(const struct net_request *req, struct net_plan *ret, struct error *err)
{
	if (req->n_publish > 0)
		return error_set_kind(err, ERROR_CONFIG, EINVAL, "publish: network mode 'none' has no ports");
	*ret = (struct net_plan){ .kind = NET_ATTACH_NONE };
	return 0;
}

static int none_prepare(const struct net_request *req, const struct net_plan *plan, int *ret_fds, pid_t *ret_helper_pid,
			int *ret_helper_pidfd, struct error *err)
{
	(void)req;
	(void)plan;
	(void)err;
	ret_fds[0] = -1;
	*ret_helper_pid = -1;
	*ret_helper_pidfd = -1;
	return 0;
}

static void none_release(const struct net_request *req)
{
	(void)req;
}

const struct net_mode net_mode_none = {
	.name = "none",
	.plan = none_plan,
	.prepare = none_prepare,
	.release = none_release,
};
