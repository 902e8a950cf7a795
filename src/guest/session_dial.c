/* Sessions that are connections: to a port of the guest, or from a program in it. */
#include "guest/session_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent.pb-c.h"

static int dial_next(struct session *s);

static void dial_answer(struct session *s, int num)
{
	struct link *k = s->table->link;

	if (num != 0) {
		if (!s->dial_forgotten)
			link_error(k, s->dial_stream_id, num, "cannot connect to port %u in the guest: %s", s->port,
				   strerror(num));
		session_free(s);
		return;
	}
	s->dialling = false;
	s->in_source = loop_source_free(s->in_source);
	s->out[0].fd = fcntl(s->in, F_DUPFD_CLOEXEC, 3);
	if (!s->dial_forgotten)
		link_reply(k, s->dial_stream_id, NULL);
}

static int on_dialled(struct loop_source *src, int fd, uint32_t events, void *data)
{
	struct session *s = data;
	int num = 0;
	socklen_t n = sizeof(num);

	(void)src;
	(void)events;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &num, &n) < 0)
		num = errno;
	if (num == 0) {
		dial_answer(s, 0);
		return 0;
	}
	session_close_input(s);
	num = s->dialling_v4 ? num : -dial_next(s);
	if (num != 0)
		dial_answer(s, num);
	return 0;
}

/* 0 when an attempt is on its way (or has succeeded), else what the last one failed with. */
static int dial_next(struct session *s)
{
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_in a4 = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int num = ECONNREFUSED;

	a6.sin6_port = a4.sin_port = htons(s->port);
	for (;;) {
		bool v4 = s->dialling; /* the second attempt */
		int r;

		s->in = socket(v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		r = s->in < 0 ? -1
		    : v4      ? connect(s->in, (struct sockaddr *)&a4, sizeof(a4))
			      : connect(s->in, (struct sockaddr *)&a6, sizeof(a6));
		s->dialling = true;
		s->dialling_v4 = v4;
		if ((r == 0 || (s->in >= 0 && errno == EINPROGRESS)) &&
		    loop_add_fd(s->table->loop, &s->in_source, s->in, EPOLLOUT, on_dialled, s) == 0)
			return 0;
		num = r < 0 ? errno : ENOMEM;
		s->in = safe_close(s->in);
		if (v4)
			return -num;
	}
}

int session_dial(struct sessions *t, const char *id, uint16_t port, uint32_t stream_id, struct error *err)
{
	struct session *s;
	int r;

	r = session_new(t, id, &s, err);
	if (r < 0)
		return r;
	s->is_socket = true;
	s->exited = true;
	s->port = port;
	s->dial_stream_id = stream_id;
	r = dial_next(s);
	if (r < 0) {
		session_free(s);
		return error_set_errno(err, -r, "cannot connect to port %u in the guest", port);
	}
	return 0;
}

int session_take(struct sessions *t, const char *id, int fd, struct error *err)
{
	struct session *s;
	int r = session_new(t, id, &s, err);

	if (r < 0) {
		safe_close(fd);
		return r;
	}
	s->is_socket = true;
	s->exited = true;
	s->in = fd;
	s->out[0].fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (s->out[0].fd < 0) {
		r = errno;
		session_free(s);
		return error_set_errno(err, r, "connection '%s'", id);
	}
	return 0;
}
