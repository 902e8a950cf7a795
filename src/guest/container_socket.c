#include "guest/container_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

enum { SOCKETS_MAX = 64, NAME_MAX_BYTES = 16, BACKLOG = 128 };

struct listener {
	char *name; /* owned */
	int fd;
	struct loop_source *source; /* armed while somebody waits */
	/* Who waits; 0 = nobody. */
	uint32_t stream_id;
	char *session; /* owned */
	struct sessions *sessions;
	struct link *link;
};

struct container_sockets {
	struct loop *loop;
	struct listener *items;
	size_t n;
};

static bool name_valid(const char *s)
{
	size_t n = strlen(s);

	return n > 0 && n <= NAME_MAX_BYTES && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789") == n;
}

static void stop_waiting(struct listener *l)
{
	l->stream_id = 0;
	free(l->session);
	l->session = NULL;
	if (l->source)
		(void)loop_set_events(l->source, 0);
}

static int on_connection(struct loop_source *src, int fd, uint32_t events, void *data)
{
	struct listener *l = data;
	_cleanup_error_ struct error err = { 0 };
	int conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)src;
	(void)events;
	/* Whoever it was may have gone again. */
	if (conn < 0)
		return 0;
	if (session_take(l->sessions, l->session, conn, &err) < 0)
		link_error(l->link, l->stream_id, err.num, "%s", err.msg);
	else
		link_reply(l->link, l->stream_id, NULL);
	stop_waiting(l);
	return 0;
}

static int listen_one(struct container_sockets *s, int directory, const Skerry__Agent__V1__ContainerSocket *q)
{
	struct listener *l = &s->items[s->n];
	int r;

	if (!name_valid(q->name))
		return -EINVAL;
	*l = (struct listener){ .name = xstrdup(q->name), .fd = -EBADF };
	s->n++;
	l->fd = unix_listen_at(directory, q->name, BACKLOG);
	if (l->fd < 0)
		return l->fd;
	if (fchmodat(directory, q->name, q->mode & 0777, 0) < 0 ||
	    (geteuid() == 0 && fchownat(directory, q->name, q->uid, q->gid, AT_SYMLINK_NOFOLLOW) < 0))
		return -errno;
	r = loop_add_fd(s->loop, &l->source, l->fd, 0, on_connection, l);
	return r;
}

int container_sockets_new(struct loop *l, const char *directory, Skerry__Agent__V1__ContainerSocket *const *sockets,
			  size_t n, struct container_sockets **ret, struct error *err)
{
	_cleanup_close_ int dir = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct container_sockets *s;

	if (n > SOCKETS_MAX)
		return error_set(err, E2BIG, "%zu sockets are more than %d", n, SOCKETS_MAX);
	if (dir < 0)
		return error_set_errno(err, errno, "%s", directory);
	s = xnew(struct container_sockets);
	s->loop = l;
	s->items = xnew_n(struct listener, n + 1);
	for (size_t i = 0; i < n; i++) {
		int r = listen_one(s, dir, sockets[i]);

		if (r < 0) {
			container_sockets_free(s);
			return error_set_errno(err, -r, "socket '%.*s'", NAME_MAX_BYTES, sockets[i]->name);
		}
	}
	*ret = s;
	return 0;
}

int container_sockets_accept(struct container_sockets *s, struct sessions *t, struct link *k, const char *name,
			     const char *id, uint32_t stream_id, struct error *err)
{
	struct listener *l = NULL;

	for (size_t i = 0; s && i < s->n; i++)
		if (streq(s->items[i].name, name))
			l = &s->items[i];
	if (!l)
		return error_set(err, ENOENT, "no socket '%.*s'", NAME_MAX_BYTES, name);
	if (l->stream_id)
		return error_set(err, EBUSY, "somebody waits at '%s' already", l->name);
	l->stream_id = stream_id;
	l->session = xstrdup(id);
	l->sessions = t;
	l->link = k;
	return loop_set_events(l->source, EPOLLIN) < 0 ? error_set(err, EIO, "socket '%s' cannot be watched", l->name)
						       : 0;
}

void container_sockets_forget(struct container_sockets *s)
{
	for (size_t i = 0; s && i < s->n; i++)
		stop_waiting(&s->items[i]);
}

struct container_sockets *container_sockets_free(struct container_sockets *s)
{
	if (!s)
		return NULL;
	for (size_t i = 0; i < s->n; i++) {
		struct listener *l = &s->items[i];

		if (l->stream_id)
			link_error(l->link, l->stream_id, ECANCELED, "the container is gone");
		loop_source_free(l->source);
		safe_close(l->fd);
		free(l->session);
		free(l->name);
	}
	free(s->items);
	free(s);
	return NULL;
}
