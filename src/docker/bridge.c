#include "docker/bridge.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <unistd.h>

#include "base/file.h"
#include "docker/dns.h"
#include "docker/privileges.h"
#include "docker/settings.h"
#include "docker/teller.h"
#include "net/net.h"

void bridge_check(struct strv *problems)
{
	_cleanup_close_ int tun = -EBADF;

	if (!privileges_has(CAP_NET_ADMIN) && geteuid() != 0)
		strv_add(problems, "NETWORK: bridge needs a capability, which docker gives to root only: add "
				   "`--cap-add NET_ADMIN` and "
				   "leave `--user` out");
	else if (!privileges_has(CAP_NET_ADMIN))
		strv_add(problems, "NETWORK: bridge takes over the container's interface: add `--cap-add NET_ADMIN`");
	tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (tun < 0)
		strv_addf(problems, "NETWORK: bridge needs /dev/net/tun (%s): add `--device /dev/net/tun`",
			  errno == ENOENT ? "it is not there" : strerror(errno));
}

static int answer_names(struct loop *loop, struct dns **ret, struct error *err)
{
	/* Told beforehand, or as it asked for its addresses. */
	static const char *const guests[DNS_GUESTS_MAX] = { NET_CONTROL_GUEST, NET_CONTROL_LEASED,
							    NET_CONTROL_LEASED6 };
	struct dns_options o = { .resolv_conf = "/etc/resolv.conf", .port = DNS_PORT, .n_guests = DNS_GUESTS_MAX };

	(void)inet_pton(AF_INET, NET_CONTROL_HOST, &o.address);
	for (size_t i = 0; i < DNS_GUESTS_MAX; i++)
		(void)inet_pton(AF_INET, guests[i], &o.guests[i]);
	return dns_new(loop, &o, ret, err);
}

/* What the machine will be planned with; whose network it must not be is refused before anything is made in it. */
static int tell(struct loop *loop, const struct settings *settings, const char *host, struct teller **ret,
		struct error *err)
{
	const struct net_request req = {};
	struct net_plan plan = {};
	struct teller_options o = {
		.plan = &plan, .host = host, .dns = &settings->dns, .search = &settings->dns_search
	};
	int r = net_mode_find(BRIDGE_MODE)->plan(&req, &plan, err);

	if (r < 0)
		return r;
	r = teller_new(loop, &o, ret, err);
	net_plan_done(&plan);
	return r;
}

int bridge_serve(struct loop *loop, const struct settings *settings, const char *host, struct bridge *ret,
		 struct error *err)
{
	int r = answer_names(loop, &ret->dns, err);

	return r < 0 ? r : tell(loop, settings, host, &ret->teller, err);
}

void bridge_done(struct bridge *b)
{
	b->dns = dns_free(b->dns);
	b->teller = teller_free(b->teller);
}
