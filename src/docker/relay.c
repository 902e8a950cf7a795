/* How this works: the sockets that listen are in an epoll of their own, which is one source of the loop. */
#include "docker/relay.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "docker/relay_parts.h"

enum { EVENTS_AT_ONCE = 16 };
enum { CONNECTIONS = 4096, SESSIONS = 1024, TARGETS = 512 };

#define WAIT_NS     (10 * NS_PER_SEC)
#define UDP_IDLE_NS (60 * NS_PER_SEC)
#define PAUSE_NS    (100 * NS_PER_MS)

static int on_listener(struct loop_source *s, int fd, uint32_t events, void *data)
{
	struct relay *r = data;
	struct epoll_event ev[EVENTS_AT_ONCE];
	int n = epoll_wait(fd, ev, EVENTS_AT_ONCE, 0);

	(void)s;
	(void)events;
	for (int i = 0; i < n; i++) {
		const struct listener *l = &r->listeners[ev[i].data.u64];

		if (l->udp)
			udp_receive(r, l);
		else
			tcp_accept(r, l);
	}
	return 0;
}

void relay_pause(struct relay *r)
{
	if (loop_set_events(r->listen_source, 0) >= 0)
		(void)loop_set_deadline(r->resume_timer, clock_monotonic_ns() + PAUSE_NS);
}

static int on_resume(struct loop_source *s, void *data)
{
	struct relay *r = data;

	(void)s;
	return loop_set_events(r->listen_source, EPOLLIN);
}

static bool has_ipv6(void)
{
	_cleanup_close_ int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	const struct sockaddr_in6 any = { .sin6_family = AF_INET6 };

	return fd >= 0 && bind(fd, (const struct sockaddr *)&any, sizeof(any)) == 0;
}

int relay_new(struct loop *loop, const struct relay_options *options, struct relay **ret, struct error *err)
{
	_cleanup_(relay_freep) struct relay *r = xnew(struct relay);
	int n;

	r->loop = loop;
	r->options = *options;
	r->options.ports = r->options.except = NULL;
	r->options.wait_ns = options->wait_ns ? options->wait_ns : WAIT_NS;
	r->options.udp_idle_ns = options->udp_idle_ns ? options->udp_idle_ns : UDP_IDLE_NS;
	r->options.connections = options->connections ? options->connections : CONNECTIONS;
	r->options.udp_sessions = options->udp_sessions ? options->udp_sessions : SESSIONS;
	r->options.targets = options->targets ? options->targets : TARGETS;
	r->diag.fd = -EBADF;
	r->family = has_ipv6() ? AF_INET6 : AF_INET;
	r->scratch = xnew_n(unsigned char, TCP_CHUNK);
	r->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (r->epoll_fd < 0)
		return error_set_errno(err, errno, "ports: cannot be watched");
	/* The hash has to be hard to guess only. */
	if (getrandom(&r->hash_seed, sizeof(r->hash_seed), GRND_NONBLOCK) < 0)
		r->hash_seed = clock_monotonic_ns();
	n = loop_add_fd(loop, &r->listen_source, r->epoll_fd, EPOLLIN, on_listener, r);
	if (n >= 0)
		n = loop_add_timer(loop, &r->resume_timer, UINT64_MAX, on_resume, r);
	if (n >= 0)
		n = tcp_new(r);
	if (n >= 0)
		n = udp_new(r);
	if (n < 0)
		return error_set_errno(err, n, "ports: cannot be watched");
	n = listen_begin(r, options, err);
	if (n < 0)
		return n;
	*ret = TAKE_PTR(r);
	return 0;
}

struct relay *relay_free(struct relay *r)
{
	if (!r)
		return NULL;
	r->listen_source = loop_source_free(r->listen_source);
	r->resume_timer = loop_source_free(r->resume_timer);
	tcp_free(r);
	udp_free(r);
	targets_free(r);
	listen_free(r);
	safe_close(r->epoll_fd);
	free(r->scratch);
	free(r);
	return NULL;
}

const char *relay_notice(const struct relay *r)
{
	return r->notice;
}

void relay_count(const struct relay *r, struct relay_counts *ret)
{
	*ret = (struct relay_counts){ .connections = r->n_connections,
				      .udp_sessions = r->n_sessions,
				      .targets = r->n_targets,
				      .refused = r->refused };
	for (size_t i = 0; i < r->n_listeners; i++)
		*(r->listeners[i].udp ? &ret->udp_ports : &ret->tcp_ports) += 1;
}
