/* How this works: each question has a socket of its own, connected to the server that was asked, so that the kernel sorts out whose answer comes, and
 * nobody else can give one. The list is in the order of age, which is the order of deadlines, as all wait equally long. */
#include "docker/dns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "docker/dns_parts.h"
#include "net/resolv.h"

enum { QUESTIONS = 256, CONNECTIONS = 32, ROUNDS = 2, AT_ONCE = 16, RESOLV_LIMIT = 65536, SERVFAIL = 2 };
#define WAIT_NS (2 * NS_PER_SEC)

struct dns_question {
	struct dns *dns;
	struct sockaddr_in from;
	int fd; /* owned */
	struct loop_source *source;
	unsigned tries;
	uint64_t deadline_ns;
	unsigned char *message; /* owned */
	size_t size;
	struct dns_question *next, **link;
};

/* ---- Servers ---- */

static bool make_server(const char *text, uint16_t port, struct dns_server *ret)
{
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(port) };

	*ret = (struct dns_server){};
	if (inet_pton(AF_INET, text, &four.sin_addr) == 1) {
		memcpy(&ret->address, &four, sizeof(four));
		ret->size = sizeof(four);
	} else if (inet_pton(AF_INET6, text, &six.sin6_addr) == 1) {
		memcpy(&ret->address, &six, sizeof(six));
		ret->size = sizeof(six);
	}
	return ret->size > 0;
}

void dns_read_servers(struct dns *d)
{
	_cleanup_(resolv_done) struct resolv conf = {};
	_cleanup_buf_ struct buf text = {};
	struct stat now = {};

	if (stat(d->options.resolv_conf, &now) < 0)
		now = (struct stat){};
	if (now.st_ino == d->read.st_ino && now.st_size == d->read.st_size &&
	    now.st_mtim.tv_sec == d->read.st_mtim.tv_sec && now.st_mtim.tv_nsec == d->read.st_mtim.tv_nsec)
		return;
	d->read = now;
	d->n_servers = 0;
	if (file_read_at(AT_FDCWD, d->options.resolv_conf, RESOLV_LIMIT, &text) >= 0 && text.len > 0)
		resolv_parse(text.p, text.len, &conf);
	for (size_t i = 0; i < conf.servers.n && d->n_servers < DNS_SERVERS_MAX; i++)
		if (make_server(conf.servers.items[i], d->options.server_port, &d->servers[d->n_servers]))
			d->n_servers++;
	if (!d->n_servers)
		log_warning("%s names no server: the guest's questions for names get no answer",
			    d->options.resolv_conf);
}

bool dns_is_guest(const struct dns *d, const struct sockaddr_in *from)
{
	for (size_t i = 0; i < d->options.n_guests; i++)
		if (d->options.guests[i].s_addr == from->sin_addr.s_addr)
			return true;
	return d->options.n_guests == 0;
}

/* ---- Questions ---- */

static void unlink_question(struct dns_question *q)
{
	*q->link = q->next;
	if (q->next)
		q->next->link = q->link;
	else
		q->dns->last = q->link;
	q->dns->n_questions--;
}

static void question_free(struct dns_question *q)
{
	unlink_question(q);
	q->source = loop_source_free(q->source);
	safe_close(q->fd);
	free(q->message);
	free(q);
}

static void append(struct dns *d, struct dns_question *q)
{
	q->next = NULL;
	q->link = d->last;
	*d->last = q;
	d->last = &q->next;
	d->n_questions++;
}

static void arm(struct dns *d)
{
	(void)loop_set_deadline(d->timer, d->questions ? d->questions->deadline_ns : UINT64_MAX);
}

static void answer(const struct dns *d, const struct sockaddr_in *to, const void *p, size_t n)
{
	/* A guest that does not take it asks again. */
	(void)sendto(d->udp, p, n, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)to, sizeof(*to));
}

/* What was asked, marked as answered with a failure. */
static void give_up(struct dns_question *q)
{
	q->message[2] |= 0x80;
	q->message[3] = (unsigned char)((q->message[3] & 0xf0) | SERVFAIL);
	answer(q->dns, &q->from, q->message, q->size);
	question_free(q);
}

static int on_answer(struct loop_source *s, int fd, uint32_t events, void *data);

static bool send_to(struct dns_question *q, const struct dns_server *server)
{
	q->source = loop_source_free(q->source);
	q->fd = safe_close(q->fd);
	q->fd = socket(server->address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return q->fd >= 0 && connect(q->fd, (const struct sockaddr *)&server->address, server->size) == 0 &&
	       loop_add_fd(q->dns->loop, &q->source, q->fd, EPOLLIN, on_answer, q) >= 0 &&
	       send(q->fd, q->message, q->size, MSG_NOSIGNAL) >= 0;
}

/* Asks the next server that can be asked; the question goes to the end of the line, or away. */
static void ask(struct dns_question *q)
{
	struct dns *d = q->dns;

	while (q->tries < d->n_servers * ROUNDS) {
		const struct dns_server *server = &d->servers[q->tries++ % d->n_servers];

		if (!send_to(q, server))
			continue;
		unlink_question(q);
		q->deadline_ns = clock_monotonic_ns() + d->options.wait_ns;
		append(d, q);
		return;
	}
	give_up(q);
}

static int on_answer(struct loop_source *s, int fd, uint32_t events, void *data)
{
	struct dns_question *q = data;
	struct dns *d = q->dns;
	ssize_t n = recv(fd, d->scratch, DNS_DATAGRAM_MAX, MSG_DONTWAIT);

	(void)s;
	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n < 0) {
		/* Nobody is there. */
		ask(q);
	} else if (n >= DNS_HEADER && memcmp(d->scratch, q->message, 2) == 0 && (d->scratch[2] & 0x80)) {
		answer(d, &q->from, d->scratch, (size_t)n);
		question_free(q);
	}
	arm(d);
	return 0;
}

static void take_question(struct dns *d, const struct sockaddr_in *from, const unsigned char *p, size_t n)
{
	struct dns_question *q;

	/* One that is an answer already would come back for ever. */
	if (!dns_is_guest(d, from) || n < DNS_HEADER || n > DNS_QUESTION_MAX || (p[2] & 0x80))
		return;
	if (d->n_questions >= d->options.questions)
		question_free(d->questions);
	q = xnew(struct dns_question);
	*q = (struct dns_question){
		.dns = d, .from = *from, .fd = -EBADF, .message = xmemdup(p, n), .size = n, .deadline_ns = UINT64_MAX
	};
	append(d, q);
	dns_read_servers(d);
	ask(q);
}

static int on_question(struct loop_source *s, int fd, uint32_t events, void *data)
{
	struct dns *d = data;

	(void)s;
	(void)events;
	for (int i = 0; i < AT_ONCE; i++) {
		struct sockaddr_in from;
		socklen_t size = sizeof(from);
		ssize_t n = recvfrom(fd, d->scratch, DNS_DATAGRAM_MAX, MSG_DONTWAIT, (struct sockaddr *)&from, &size);

		if (n < 0)
			break;
		take_question(d, &from, d->scratch, (size_t)n);
	}
	arm(d);
	return 0;
}

static int on_timer(struct loop_source *s, void *data)
{
	struct dns *d = data;
	uint64_t now = clock_monotonic_ns();

	(void)s;
	while (d->questions && d->questions->deadline_ns <= now)
		ask(d->questions);
	arm(d);
	return 0;
}

/* ---- All of it ---- */

static int bind_socket(const struct dns *d, int type)
{
	const struct sockaddr_in at = { .sin_family = AF_INET,
					.sin_port = htons(d->options.port),
					.sin_addr = d->options.address };
	_cleanup_close_ int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1;

	if (fd < 0 || setsockopt(fd, SOL_IP, IP_FREEBIND, &on, sizeof(on)) < 0 ||
	    (type == SOCK_STREAM && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0) ||
	    bind(fd, (const struct sockaddr *)&at, sizeof(at)) < 0 || (type == SOCK_STREAM && listen(fd, 16) < 0))
		return -errno;
	return TAKE_FD(fd);
}

int dns_new(struct loop *loop, const struct dns_options *options, struct dns **ret, struct error *err)
{
	struct dns *d = xnew(struct dns);
	char address[INET_ADDRSTRLEN] = "";
	int r;

	*d = (struct dns){ .loop = loop, .options = *options, .udp = -EBADF, .tcp = -EBADF };
	d->last = &d->questions;
	d->options.server_port = options->server_port ? options->server_port : DNS_PORT;
	d->options.wait_ns = options->wait_ns ? options->wait_ns : WAIT_NS;
	d->options.questions = options->questions ? options->questions : QUESTIONS;
	d->options.connections = options->connections ? options->connections : CONNECTIONS;
	d->scratch = xnew_n(unsigned char, DNS_DATAGRAM_MAX);
	r = d->udp = bind_socket(d, SOCK_DGRAM);
	if (r >= 0)
		r = d->tcp = bind_socket(d, SOCK_STREAM);
	if (r >= 0)
		r = loop_add_timer(loop, &d->timer, UINT64_MAX, on_timer, d);
	if (r >= 0)
		r = loop_add_fd(loop, &d->udp_source, d->udp, EPOLLIN, on_question, d);
	if (r >= 0)
		r = dns_tcp_new(d);
	if (r < 0) {
		(void)inet_ntop(AF_INET, &options->address, address, sizeof(address));
		error_set_errno(err, r, "names: cannot be served at %s:%u", address, options->port);
		dns_free(d);
		return r;
	}
	dns_read_servers(d);
	*ret = d;
	return 0;
}

struct dns *dns_free(struct dns *d)
{
	if (!d)
		return NULL;
	dns_tcp_free(d);
	while (d->questions)
		question_free(d->questions);
	d->timer = loop_source_free(d->timer);
	d->udp_source = loop_source_free(d->udp_source);
	safe_close(d->udp);
	safe_close(d->tcp);
	free(d->scratch);
	free(d);
	return NULL;
}
