/* How this works: what is to be listened on is a short list of ranges, taken in order until descriptors, memory or the system's bounds end it;
 * a bitmap per kind remembers which ports lead to the guest, and the notice is written from it. 75000 sockets take a second or two, so
 * beside the well-known ports they are opened a few at a time, in the loop, when the caller wants to be told of the end. */
#include "docker/relay_parts.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/parse.h"

/* As much as the system lets: who does not fit is told nothing, and may wait for ever for a guest that speaks first. */
enum { BACKLOG = 65535, WELL_KNOWN_MAX = 1023, AT_ONCE = 256 };
enum { WORK_MIN = 512, WORK_SHARE = 8, OTHERS = 64, FEWEST = 16 };
enum { LOCAL_FIRST = 32768, LOCAL_LAST = 60999 };

#define LOCAL_RANGE "/proc/sys/net/ipv4/ip_local_port_range"

/* Why there are no more sockets that listen. */
enum end { END_NONE, END_DESCRIPTORS, END_MEMORY, END_WATCHES, END_SYSTEM };

/* What is known until everything is listened on. */
struct opening {
	struct relay *relay; /* borrowed: owns us */
	unsigned turn;       /* index in order */
	unsigned port;       /* the next of that range; 0 = its first */
	struct loop_source *timer;
	size_t sockets_max;
	uint64_t memory_left;
	uint16_t local_first, local_last; /* the kernel's own, for connections that go out */
	enum end end;
	bool some_denied;
	unsigned char led[2][(UINT16_MAX + 1) / 8]; /* TCP, UDP: bit set = leads to the guest, or is not meant to */
	struct buf failed;                          /* ports of a list that cannot be had */
	uint64_t limit;                             /* of descriptors */
};

static void mark(struct opening *o, bool udp, unsigned port)
{
	o->led[udp][port / 8] |= (unsigned char)(1 << port % 8);
}

static void unmark(struct opening *o, bool udp, unsigned port)
{
	o->led[udp][port / 8] &= (unsigned char)~(1 << port % 8);
}

static bool is_marked(const struct opening *o, bool udp, unsigned port)
{
	return o->led[udp][port / 8] >> port % 8 & 1;
}

static uint64_t raise_limit(void)
{
	struct rlimit l = {};

	if (getrlimit(RLIMIT_NOFILE, &l) < 0)
		return 1024;
	if (l.rlim_cur < l.rlim_max) {
		l.rlim_cur = l.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &l) < 0)
			(void)getrlimit(RLIMIT_NOFILE, &l);
	}
	return l.rlim_cur == RLIM_INFINITY ? UINT32_MAX : l.rlim_cur;
}

static size_t open_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	size_t n = 0;

	if (!d)
		return OTHERS;
	while (readdir(d))
		n++;
	(void)closedir(d);
	return n;
}

static void read_local_range(struct opening *o)
{
	_cleanup_buf_ struct buf b = {};
	uint64_t first, last;
	char *tab;

	o->local_first = LOCAL_FIRST;
	o->local_last = LOCAL_LAST;
	/* "32768\t60999\n" */
	if (file_read_at(-1, LOCAL_RANGE, 64, &b) < 0 || !(tab = strchr(b.p, '\t')))
		return;
	*tab++ = '\0';
	tab[strcspn(tab, "\n")] = '\0';
	if (parse_u64(b.p, 1, UINT16_MAX, &first) < 0 || parse_u64(tab, first, UINT16_MAX, &last) < 0)
		return;
	o->local_first = (uint16_t)first;
	o->local_last = (uint16_t)last;
}

static int bind_socket(int fd, int family, const struct relay_range *range, uint16_t port)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	const int on = 1, off = 0;

	if (family == AF_INET6) {
		if (*range->ip)
			(void)inet_pton(AF_INET6, range->ip, &in6.sin6_addr);
		else if (setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0)
			return -errno;
	} else if (*range->ip) {
		(void)inet_pton(AF_INET, range->ip, &in.sin_addr);
	}
	/* Connections of an earlier life that linger do not count. UDP has no such state, and there the option would let two share a port;
	 * instead, answers are to come from the address that was asked. */
	if (!range->udp)
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	else if (family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on));
	else
		(void)setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on));
	if (bind(fd, family == AF_INET6 ? (const struct sockaddr *)&in6 : (const struct sockaddr *)&in,
		 family == AF_INET6 ? sizeof(in6) : sizeof(in)) < 0)
		return -errno;
	if (!range->udp && listen(fd, BACKLOG) < 0)
		return -errno;
	return 0;
}

static int add_listener(struct relay *r, int fd, const struct relay_range *range, uint16_t port)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = r->n_listeners };
	int n = fault_point("relay.watch");

	if (n < 0)
		return n;
	if (epoll_ctl(r->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
		return -errno;
	if (r->n_listeners == r->listeners_cap) {
		r->listeners_cap = r->listeners_cap ? r->listeners_cap * 2 : 64;
		r->listeners = xrealloc_array(r->listeners, r->listeners_cap, sizeof(*r->listeners));
	}
	r->listeners[r->n_listeners++] =
		(struct listener){ .fd = fd,
				   .port = port,
				   .guest_port = (uint16_t)(range->guest_first + port - range->first),
				   .udp = range->udp };
	return 0;
}

static int open_port(struct opening *o, const struct relay_range *range, uint16_t port)
{
	struct relay *r = o->relay;
	int family = !*range->ip ? r->family : strchr(range->ip, ':') ? AF_INET6 : AF_INET;
	_cleanup_close_ int fd = -EBADF;
	int n;

	fd = socket(family, (range->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	n = bind_socket(fd, family, range, port);
	if (n >= 0)
		n = add_listener(r, fd, range, port);
	if (n < 0)
		return n;
	(void)TAKE_FD(fd);
	mark(o, range->udp, port);
	return 0;
}

static enum end end_of(int num)
{
	switch (num) {
	case -EMFILE: return END_DESCRIPTORS;
	case -ENOSPC: return END_WATCHES;
	case -ENFILE:
	case -ENOBUFS:
	case -ENOMEM: return END_SYSTEM;
	default: return END_NONE;
	}
}

/* Well-known ports first: these two ranges are opened before relay_new() returns. */
static const struct relay_range order[] = {
	{ .first = 1, .last = WELL_KNOWN_MAX, .guest_first = 1 },
	{ .udp = true, .first = 1, .last = WELL_KNOWN_MAX, .guest_first = 1 },
	{ .first = WELL_KNOWN_MAX + 1, .last = UINT16_MAX, .guest_first = WELL_KNOWN_MAX + 1 },
	{ .udp = true, .first = WELL_KNOWN_MAX + 1, .last = UINT16_MAX, .guest_first = WELL_KNOWN_MAX + 1 },
};
enum { WELL_KNOWN_RANGES = 2 };

/* What the last sockets took is for connections and sessions: where the host has no more to give, none of the others would be of use. */
static void give_back(struct opening *o)
{
	struct relay *r = o->relay;
	size_t n = r->n_listeners / WORK_SHARE > WORK_MIN ? r->n_listeners / WORK_SHARE : WORK_MIN, kept;

	kept = n < r->n_listeners / 2 ? r->n_listeners - n : r->n_listeners / 2;
	udp_forget_from(r, r->listeners + kept);
	while (r->n_listeners > kept) {
		struct listener *l = &r->listeners[--r->n_listeners];

		safe_close(l->fd);
		unmark(o, l->udp, l->port);
	}
}

static void try_port(struct opening *o, const struct relay_range *range, uint16_t port)
{
	size_t cost = range->udp ? RELAY_UDP_PORT_BYTES : RELAY_TCP_PORT_BYTES;
	int n;

	/* The container's own: not meant for the guest. */
	if (is_marked(o, range->udp, port) || (port >= o->local_first && port <= o->local_last))
		return;
	if (o->relay->n_listeners >= o->sockets_max) {
		o->end = END_DESCRIPTORS;
		return;
	}
	if (o->memory_left < cost) {
		o->end = END_MEMORY;
		return;
	}
	n = open_port(o, range, port);
	o->end = end_of(n);
	if (o->end == END_WATCHES || o->end == END_SYSTEM)
		give_back(o);
	o->some_denied |= n == -EACCES;
	/* Something in the container listens there. */
	if (n == -EADDRINUSE)
		mark(o, range->udp, port);
	if (n >= 0)
		o->memory_left -= cost;
}

/* The next @n ports of the first @ranges ranges. False: there are no more, or no more can be had. */
static bool open_some(struct opening *o, unsigned ranges, unsigned n)
{
	for (; o->turn < ranges; o->turn++, o->port = 0) {
		const struct relay_range *range = &order[o->turn];

		for (o->port = o->port ? o->port : range->first; o->port <= range->last; o->port++) {
			if (o->end != END_NONE)
				return false;
			if (n-- == 0)
				return true;
			try_port(o, range, (uint16_t)o->port);
		}
	}
	return false;
}

/* The first ports from *@first on that do not lead to the guest; false at the end. */
static bool next_gap(const struct opening *o, bool udp, unsigned *first, unsigned *last)
{
	unsigned p = *first;

	while (p <= UINT16_MAX && is_marked(o, udp, p))
		p++;
	if (p > UINT16_MAX)
		return false;
	*first = p;
	while (p < UINT16_MAX && !is_marked(o, udp, p + 1))
		p++;
	*last = p;
	return true;
}

static unsigned add_gaps(const struct opening *o, bool udp, struct buf *b)
{
	unsigned n = 0;

	for (unsigned first = 1, last; next_gap(o, udp, &first, &last); first = last + 1) {
		buf_addf(b, first == last ? "%s%u" : "%s%u-%u", n++ ? ", " : udp ? "udp " : "tcp ", first, last);
	}
	return n;
}

static void write_notice(struct opening *o)
{
	_cleanup_buf_ struct buf b = {};
	static const char *const ends[] = {
		[END_MEMORY] = "; memory for sockets is bounded by this container's",
		[END_WATCHES] = "; fs.epoll.max_user_watches of the host is reached",
		[END_SYSTEM] = "; the host has no more sockets to give",
	};
	unsigned n;

	buf_adds(&b, "ports that lead to the guest only when PORTS lists them: ");
	n = add_gaps(o, false, &b);
	if (n)
		buf_adds(&b, "; ");
	n += add_gaps(o, true, &b);
	if (n == 0)
		return;
	if (o->end == END_DESCRIPTORS)
		buf_addf(&b, "; with %llu descriptors there are no more: docker run --ulimit nofile=262144",
			 (unsigned long long)o->limit);
	else if (o->end != END_NONE)
		buf_adds(&b, ends[o->end]);
	if (o->some_denied)
		buf_adds(&b, "; this user may not open all of them: docker run --sysctl "
			     "net.ipv4.ip_unprivileged_port_start=0");
	buf_addf(&b,
		 "; %u-%u are the container's own for what goes out: docker run --sysctl net.ipv4.ip_local_port_range",
		 o->local_first, o->local_last);
	o->relay->notice = buf_take(&b);
}

/* Every port of the list, or all that cannot be had by name. */
static int open_list(struct opening *o, const struct relay_ports *ports, struct error *err)
{
	int first_num = 0;

	for (size_t i = 0; i < ports->n; i++) {
		const struct relay_range *range = &ports->items[i];

		for (unsigned port = range->first; port <= range->last; port++) {
			int n = open_port(o, range, (uint16_t)port);

			if (n >= 0)
				continue;
			if (end_of(n) == END_DESCRIPTORS) {
				error_set_kind(err, ERROR_CONFIG, -n,
					       "PORTS: %llu descriptors do not suffice for its ports",
					       (unsigned long long)o->limit);
				error_hint(err, "docker run --ulimit nofile=262144");
				return n;
			}
			if (end_of(n) != END_NONE)
				return error_set_errno(err, n, "PORTS: port %u/%s", port, range->udp ? "udp" : "tcp");
			if (!first_num)
				first_num = n;
			if (o->failed.len < 1024)
				buf_addf(&o->failed, "%s%s%s%u/%s %s", o->failed.len ? ", " : "", range->ip,
					 *range->ip ? " " : "", port, range->udp ? "udp" : "tcp",
					 n == -EADDRINUSE      ? "is in use"
					 : n == -EACCES        ? "may not be opened by this user"
					 : n == -EADDRNOTAVAIL ? "is on no address of this container"
							       : strerror(-n));
		}
	}
	if (!first_num)
		return 0;
	error_set_kind(err, ERROR_CONFIG, -first_num, "PORTS: %s", o->failed.p);
	return error_hint(err, "list other ports of the container, as in 10080:80");
}

static unsigned share(uint64_t available, unsigned wanted)
{
	if (available < FEWEST)
		available = FEWEST;
	return available < wanted ? (unsigned)available : wanted;
}

/* What is left of the descriptors after the sockets that listen is for connections and sessions. */
static void share_descriptors(struct relay *r, uint64_t limit)
{
	uint64_t used = open_descriptors() + OTHERS, left = limit > used ? limit - used : 0;

	r->sessions_max = share(left / 4, r->options.udp_sessions);
	left = left > r->sessions_max ? left - r->sessions_max : 0;
	r->connections_max = share(left / 2, r->options.connections);
}

static struct opening *opening_free(struct opening *o)
{
	if (!o)
		return NULL;
	loop_source_free(o->timer);
	buf_done(&o->failed);
	free(o);
	return NULL;
}

static void finish(struct relay *r)
{
	share_descriptors(r, r->opening->limit);
	r->opening = opening_free(r->opening);
}

static int on_open_more(struct loop_source *s, void *data)
{
	struct relay *r = data;

	if (open_some(r->opening, ARRAY_SIZE(order), AT_ONCE))
		return loop_set_deadline(s, 0);
	write_notice(r->opening);
	finish(r);
	r->options.listening(r, r->options.data);
	return 0;
}

static int open_free(struct opening *o)
{
	struct relay *r = o->relay;

	if (!r->options.listening) {
		(void)open_some(o, ARRAY_SIZE(order), UINT32_MAX);
		write_notice(o);
		finish(r);
		return 0;
	}
	(void)open_some(o, WELL_KNOWN_RANGES, UINT32_MAX);
	/* Until the rest is there, half of what is kept for work. */
	r->sessions_max = share(o->limit / WORK_SHARE / 4, r->options.udp_sessions);
	r->connections_max = share(o->limit / WORK_SHARE / 4, r->options.connections);
	return loop_add_timer(r->loop, &o->timer, 0, on_open_more, r);
}

int listen_begin(struct relay *r, const struct relay_options *options, struct error *err)
{
	struct opening *o = r->opening = xnew(struct opening);
	uint64_t work, used;
	int n = fault_point("relay.listen");

	if (n < 0)
		return error_set_errno(err, n, "ports");
	o->relay = r;
	o->limit = raise_limit();
	o->memory_left = options->kernel_memory_max ? options->kernel_memory_max : UINT64_MAX;
	read_local_range(o);
	used = open_descriptors();
	work = o->limit / WORK_SHARE > WORK_MIN ? o->limit / WORK_SHARE : WORK_MIN;
	o->sockets_max = o->limit > used + work ? o->limit - used - work : 0;
	for (size_t i = 0; options->except && i < options->except->n; i++)
		for (unsigned port = options->except->items[i].first; port <= options->except->items[i].last; port++)
			mark(o, options->except->items[i].udp, port);
	if (options->ports) {
		n = open_list(o, options->ports, err);
		finish(r);
		return n;
	}
	/* Sessions point into it while the rest is opened: it does not move. Memory that is not touched costs nothing. */
	r->listeners_cap = 2 * (UINT16_MAX + 1);
	r->listeners = xnew_n(struct listener, r->listeners_cap);
	n = open_free(o);
	return n < 0 ? error_set_errno(err, n, "ports: cannot be watched") : 0;
}

void listen_free(struct relay *r)
{
	r->opening = opening_free(r->opening);
	for (size_t i = 0; i < r->n_listeners; i++)
		safe_close(r->listeners[i].fd);
	free(r->listeners);
	free(r->notice);
}
