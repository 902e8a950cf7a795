#include "web.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test.h"

enum { BODY_MAX = 32 << 20 };

void *web_shared(size_t n)
{
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		test_fail(__FILE__, __LINE__, "mmap: %s", strerror(errno));
	return p;
}

const char *web_header(const struct web_request *q, const char *name)
{
	static char value[8192];
	size_t n = strlen(name);

	for (const char *p = q->head; *p; p += strcspn(p, "\n"), p += *p == '\n')
		if (strncasecmp(p, name, n) == 0 && p[n] == ':') {
			p += n + 1 + strspn(p + n + 1, " ");
			snprintf(value, sizeof(value), "%.*s", (int)strcspn(p, "\r\n"), p);
			return value;
		}
	return "";
}

void web_add_header(struct web_answer *a, const char *fmt, ...)
{
	size_t n = strlen(a->headers);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(a->headers + n, sizeof(a->headers) - n, fmt, ap);
	va_end(ap);
	n = strlen(a->headers);
	snprintf(a->headers + n, sizeof(a->headers) - n, "\r\n");
}

static bool send_all(int fd, const void *p, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t k = send(fd, (const char *)p + done, n - done, MSG_NOSIGNAL);

		if (k <= 0)
			return false;
		done += (size_t)k;
	}
	return true;
}

/* Everything up to the empty line, then as much body as is announced. */
static bool receive(int fd, struct web_request *q, char *body)
{
	size_t n = 0, want = 0;
	char *end = NULL, *line;

	while (!end) {
		ssize_t k = recv(fd, q->head + n, sizeof(q->head) - 1 - n, 0);

		if (k <= 0)
			return false;
		/* The beginning of TLS: answered as servers without it do. */
		if (!n && q->head[0] == 0x16) {
			static const char sorry[] = "HTTP/1.0 400 Bad Request\r\n\r\nspeak HTTP\n";

			(void)send_all(fd, sorry, sizeof(sorry) - 1);
			return false;
		}
		n += (size_t)k;
		q->head[n] = '\0';
		end = strstr(q->head, "\r\n\r\n");
	}
	end += 4;
	q->body_len = n - (size_t)(end - q->head);
	memcpy(body, end, q->body_len);
	*end = '\0';
	line = strpbrk(q->head, "\r");
	snprintf(q->method, sizeof(q->method), "%.*s", (int)strcspn(q->head, " "), q->head);
	line = strchr(q->head, ' ');
	snprintf(q->target, sizeof(q->target), "%.*s", (int)strcspn(line + 1, " "), line + 1);
	want = strtoul(web_header(q, "Content-Length"), NULL, 10); /* lint: our own client's */
	while (q->body_len < want && want <= BODY_MAX) {
		ssize_t k = recv(fd, body + q->body_len, want - q->body_len, 0);

		if (k <= 0)
			return false;
		q->body_len += (size_t)k;
	}
	q->body = body;
	return true;
}

static void serve(int fd, web_fn fn, void *data)
{
	static struct web_request q;
	static struct web_answer a;
	static char head[sizeof(a.headers) + 512];
	char *body = malloc(BODY_MAX);
	int n;

	if (!body || !receive(fd, &q, body))
		return;
	a.status = 200;
	fn(&q, &a, data);
	if (!a.status)
		return;
	n = snprintf(head, sizeof(head), "HTTP/1.1 %d X\r\nConnection: close\r\n%s", a.status, a.headers);
	if (a.declared >= 0)
		n += snprintf(head + n, sizeof(head) - (size_t)n, "Content-Length: %zu\r\n",
			      a.declared ? (size_t)a.declared : a.len);
	snprintf(head + n, sizeof(head) - (size_t)n, "\r\n");
	if (!send_all(fd, head, strlen(head)) || strcmp(q.method, "HEAD") == 0)
		return;
	if (a.stall_s)
		(void)poll(NULL, 0, (int)a.stall_s * 1000); /* lint: being slow is what is asked for */
	(void)send_all(fd, a.body, a.cut && a.cut < a.len ? a.cut : a.len);
}

static _Noreturn void accept_all(int fd, web_fn fn, void *data)
{
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		int c = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

		if (c >= 0 && fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			serve(c, fn, data);
			/* Not with what is unread in our side: that would be a reset, which takes the answer with it. */
			shutdown(c, SHUT_WR);
			_exit(0);
		}
		close(c);
	}
}

int web_start(web_fn fn, void *data)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pid_t parent = getpid();

	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 64) < 0 ||
	    getsockname(fd, (struct sockaddr *)&addr, &len) < 0)
		test_fail(__FILE__, __LINE__, "socket: %s", strerror(errno));
	if (fork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(0);
		accept_all(fd, fn, data);
	}
	close(fd);
	return ntohs(addr.sin_port);
}
