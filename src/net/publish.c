#include "net/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/parse.h"

/* The text is a few dozen bytes; anything longer is not an address and two ports. */
#define PUBLISH_MAX 128

static int bad(const char *s, struct error *err, const char *what)
{
	error_set_kind(err, ERROR_USAGE, EINVAL, "publish '%.128s': %s", s, what);
	error_hint(err, "the form is [IP:]HOST:GUEST[/tcp|/udp], for example 8080:80");
	return -EINVAL;
}

static bool address_family(const char *ip, int *ret)
{
	unsigned char a[16];

	*ret = inet_pton(AF_INET, ip, a) == 1 ? AF_INET : inet_pton(AF_INET6, ip, a) == 1 ? AF_INET6 : AF_UNSPEC;
	return *ret != AF_UNSPEC;
}

/* Cuts "[IPv6]:" or "IPv4:" off the front of @text; *rest is what follows. */
static const char *cut_address(char *text, const char **ret_ip, bool *ret_bracketed)
{
	char *colon = strchr(text, ':'), *close;

	*ret_ip = NULL;
	*ret_bracketed = false;
	if (text[0] == '[') {
		close = strchr(text, ']');
		if (!close || close[1] != ':')
			return NULL;
		*close = 0;
		*ret_ip = text + 1;
		*ret_bracketed = true;
		return close + 2;
	}
	if (!colon || !strchr(colon + 1, ':'))
		return text;
	*colon = 0;
	*ret_ip = text;
	return colon + 1;
}

int net_publish_parse(const char *s, struct net_publish *ret, struct error *err)
{
	struct net_publish p = { .ip = "127.0.0.1" };
	char text[PUBLISH_MAX + 1];
	size_t len = strnlen(s, PUBLISH_MAX + 1);
	const char *ip, *ports, *guest;
	uint64_t port;
	bool bracketed;
	char *slash, *colon;
	int family;

	if (len == 0 || len > PUBLISH_MAX)
		return bad(s, err, len ? "it is too long" : "it is empty");
	memcpy(text, s, len + 1);
	slash = strchr(text, '/');
	if (slash) {
		*slash++ = 0;
		if (!streq(slash, "tcp") && !streq(slash, "udp"))
			return bad(s, err, "the protocol is neither tcp nor udp");
		p.udp = slash[0] == 'u';
	}
	ports = cut_address(text, &ip, &bracketed);
	if (!ports)
		return bad(s, err, "after '[' an IPv6 address and ']:' are expected");
	if (ip) {
		if (!address_family(ip, &family) || (family == AF_INET6) != bracketed)
			return bad(s, err,
				   bracketed ? "there is no IPv6 address in the brackets"
					     : "the first part is not an IPv4 address");
		memcpy(p.ip, ip, strlen(ip) + 1);
	}
	colon = strchr(ports, ':');
	if (!colon)
		return bad(s, err, "the guest's port is missing");
	*colon = 0;
	guest = colon + 1;
	if (parse_u64(ports, 0, 65535, &port) < 0)
		return bad(s, err, "the host's port is not a number from 0 to 65535");
	p.host_port = (uint16_t)port;
	if (parse_u64(guest, 1, 65535, &port) < 0)
		return bad(s, err, "the guest's port is not a number from 1 to 65535");
	p.guest_port = (uint16_t)port;
	*ret = p;
	return 0;
}

char *net_publish_format(const struct net_publish *p)
{
	bool six = strchr(p->ip, ':') != NULL;

	return xasprintf("%s%s%s:%u:%u%s", six ? "[" : "", p->ip, six ? "]" : "", p->host_port, p->guest_port,
			 p->udp ? "/udp" : "");
}

bool net_publish_is_privileged(const struct net_publish *p)
{
	_cleanup_buf_ struct buf text = {};
	uint64_t first;

	if (file_read_at(AT_FDCWD, "/proc/sys/net/ipv4/ip_unprivileged_port_start", 16, &text) < 0 || !text.p)
		return p->host_port && p->host_port < IPPORT_RESERVED;
	text.p[strcspn(text.p, "\n")] = '\0';
	return p->host_port && parse_u64(text.p, 0, UINT16_MAX + 1, &first) >= 0 && p->host_port < first;
}

int net_publish_resolve(struct net_publish *p, struct error *err)
{
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} addr = {};
	_cleanup_free_ char *text = net_publish_format(p);
	_cleanup_close_ int fd = -EBADF;
	const int on = 1;
	socklen_t len;
	int family, num;

	if (!address_family(p->ip, &family))
		return bad(text, err, "its address is none");
	addr.sa.sa_family = (sa_family_t)family;
	if (family == AF_INET) {
		len = sizeof(addr.in);
		addr.in.sin_port = htons(p->host_port);
		(void)inet_pton(AF_INET, p->ip, &addr.in.sin_addr);
	} else {
		len = sizeof(addr.in6);
		addr.in6.sin6_port = htons(p->host_port);
		(void)inet_pton(AF_INET6, p->ip, &addr.in6.sin6_addr);
	}
	fd = socket(family, (p->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_set_errno(err, errno, "publish %s: no socket", text);
	/* As the program that will listen: connections of an earlier one that linger do not count. UDP has no such state, and there the
	 * option would let two programs share a port. */
	if (!p->udp)
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	num = bind(fd, &addr.sa, len) < 0 || (!p->udp && listen(fd, 1) < 0) ? errno : 0;
	if (num == EADDRINUSE)
		return error_set_kind(err, ERROR_BUSY, num, "publish: port %u of %s is in use", p->host_port, p->ip);
	if (num == EACCES || num == EPERM) {
		error_set_kind(err, ERROR_DENIED, num, "publish: port %u of %s may not be opened by this user",
			       p->host_port, p->ip);
		error_hint(err, "use a port of 1024 or above, or lower net.ipv4.ip_unprivileged_port_start");
		return -num;
	}
	if (num == EADDRNOTAVAIL)
		return error_set_kind(err, ERROR_USAGE, num, "publish: %s is not an address of this host", p->ip);
	if (num)
		return error_set_errno(err, num, "publish: port %u of %s", p->host_port, p->ip);
	if (getsockname(fd, &addr.sa, &len) < 0)
		return error_set_errno(err, errno, "publish: port %u of %s", p->host_port, p->ip);
	p->host_port = ntohs(family == AF_INET ? addr.in.sin_port : addr.in6.sin6_port);
	return 0;
}
