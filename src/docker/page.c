#include "docker/page.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fdpass.h"
#include "base/file.h"
#include "base/log.h"
#include "base/spawn.h"
#include "engine/engine.h"
#include "store/paths.h"

#define TOKEN_FILE "console-token" /* on the volume: it outlives machines that begin anew */
#define PAGE_FILE  "web/console/index.html"
#define AGAIN_NS   NS_PER_SEC
enum { TOKEN_BYTES = 24, BACKLOG = 128 };

struct page {
	struct loop *loop; /* borrowed, as are these: */
	const struct store *store;
	const struct name *machine;
	bool display;
	char *token, *program, *directory; /* owned */
	int listen_fd;                     /* owned */
	int broker_fd;                     /* owned; -EBADF = skerry-web does not run */
	int pidfd;                         /* owned */
	struct loop_source *broker, *again;
	uint64_t started_ns;
};

/* ---- The token ---- */

int page_token(const struct store *s, char **ret, struct error *err)
{
	_cleanup_buf_ struct buf b = {};
	unsigned char random[TOKEN_BYTES];
	int r = file_read_at(s->home_fd, TOKEN_FILE, PAGE_TOKEN_MAX, &b);

	if (r == -ENOENT) {
		if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
			return error_set_errno(err, EIO, "no random numbers");
		for (size_t i = 0; i < sizeof(random); i++)
			buf_addf(&b, "%02x", random[i]);
		r = fault_point("page.token");
		if (r >= 0)
			r = file_write_at(s->home_fd, TOKEN_FILE, b.p, b.len, 0600, FILE_DURABLE);
	}
	if (r < 0)
		return error_set_errno(err, r, "cannot keep the console's token in %s/%s", s->home_path, TOKEN_FILE);
	if (b.len < 2 * (size_t)TOKEN_BYTES || strspn(b.p, "0123456789abcdef") != b.len)
		return error_set_kind(err, ERROR_DATA, EBADMSG,
				      "%s/%s holds no token: remove it, and another one is made", s->home_path,
				      TOKEN_FILE);
	*ret = buf_take(&b);
	return 0;
}

/* ---- What skerry-web asks for ---- */

/* What is in the engine's directory was made by the engine: a link would lead us elsewhere. A queue that is full is nobody who answers: the engine
 * may never look at it. */
static int connect_display(int run_dir)
{
	_cleanup_close_ int dir = openat(run_dir, ENGINE_DISPLAY_DIR, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	_cleanup_close_ int node = dir < 0 ? -1 : openat(dir, ENGINE_DISPLAY_SOCKET, O_PATH | O_CLOEXEC | O_NOFOLLOW);
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	struct stat st;

	if (fd < 0 || node < 0 || fstat(node, &st) < 0 || !S_ISSOCK(st.st_mode))
		return -ENOENT;
	(void)snprintf(to.sun_path, sizeof(to.sun_path), "/proc/self/fd/%d", node);
	return connect(fd, (const struct sockaddr *)&to, sizeof(to)) < 0 ? -errno : TAKE_FD(fd);
}

static int connect_machine(const struct page *p, char what)
{
	_cleanup_close_ int dir = store_machine_run_dir(p->store, p->machine, NULL);

	if (dir < 0)
		return dir;
	if (what == PAGE_ASK_CONSOLE)
		return unix_connect_now_at(dir, "console.sock");
	return what == PAGE_ASK_DISPLAY && p->display ? connect_display(dir) : -EINVAL;
}

static void has_ended(struct page *p)
{
	uint64_t now = clock_monotonic_ns();

	p->broker = loop_source_free(p->broker);
	p->broker_fd = safe_close(p->broker_fd);
	if (p->pidfd >= 0)
		(void)syscall(SYS_pidfd_send_signal, p->pidfd, SIGKILL, NULL, 0);
	p->pidfd = safe_close(p->pidfd);
	(void)loop_set_deadline(p->again, now > p->started_ns + AGAIN_NS ? now : p->started_ns + AGAIN_NS);
}

static int on_broker(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct page *p = data;
	_cleanup_close_ int there = -EBADF;
	char what, answer;
	ssize_t n = recv(fd, &what, 1, MSG_DONTWAIT);

	(void)source;
	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		log_warning("the console's page has ended, and is started again");
		has_ended(p);
		return 0;
	}
	there = connect_machine(p, what);
	answer = there < 0 ? PAGE_ANSWER_NONE : PAGE_ANSWER_HERE;
	if (fdpass_send(fd, &answer, 1, &there, there < 0 ? 0 : 1) < 0) {
		log_warning("the console's page does not take its answers, and is started again");
		has_ended(p);
	}
	return 0;
}

/* ---- skerry-web ---- */

static int start(struct page *p, struct error *err)
{
	const char *argv[] = { p->program, p->directory, p->display ? "display" : NULL, NULL };
	_cleanup_close_ int theirs = -EBADF;
	struct spawn_fd fds[2];
	struct spawn sp = SPAWN_INIT;
	int pair[2], r;

	p->started_ns = clock_monotonic_ns();
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_set_errno(err, errno, "cannot open a socket");
	p->broker_fd = pair[0];
	theirs = pair[1];
	/* Nobody waits for a program that does not take its answers; its own end is its own affair. */
	if (fcntl(p->broker_fd, F_SETFL, O_NONBLOCK) < 0)
		return error_set_errno(err, errno, "cannot open a socket");
	fds[0] = (struct spawn_fd){ p->listen_fd, 3 };
	fds[1] = (struct spawn_fd){ theirs, 4 };
	sp.argv = argv;
	sp.stdio[2] = STDERR_FILENO;
	sp.fds = fds;
	sp.n_fds = ARRAY_SIZE(fds);
	sp.cwd = "/";
	sp.new_session = true;
	sp.death_signal = SIGKILL;
	r = fault_point("page.start");
	if (r < 0)
		return error_set_errno(err, r, "cannot start skerry-web");
	r = spawn_start(&sp, NULL, &p->pidfd, err);
	if (r >= 0 && send(p->broker_fd, p->token, strlen(p->token), MSG_NOSIGNAL) < 0)
		r = error_set_errno(err, errno, "cannot start skerry-web");
	if (r >= 0)
		r = loop_add_fd(p->loop, &p->broker, p->broker_fd, EPOLLIN, on_broker, p) < 0
			    ? error_set_errno(err, ENOMEM, "event loop")
			    : 0;
	return r;
}

static int on_again(struct loop_source *source, void *data)
{
	_cleanup_error_ struct error e = {};
	struct page *p = data;

	(void)source;
	if (start(p, &e) < 0) {
		log_warning("the console's page: %s", e.msg);
		has_ended(p);
	}
	return 0;
}

/* Every address of the container; IPv4 alone where there is no IPv6. */
static int listen_on(uint16_t port, struct error *err)
{
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons(port) };
	_cleanup_close_ int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1, off = 0, r;

	if (fd >= 0) {
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	}
	if (fd < 0 || bind(fd, (const struct sockaddr *)&six, sizeof(six)) < 0) {
		r = fd < 0 ? EAFNOSUPPORT : errno;
		if (r == EAFNOSUPPORT || r == EADDRNOTAVAIL) {
			safe_close(fd);
			fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
			(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
			r = bind(fd, (const struct sockaddr *)&four, sizeof(four)) < 0 ? errno : 0;
		}
		if (r) {
			error_set_kind(err, ERROR_CONFIG, r, "CONSOLE=web: port %u of the container cannot be had: %s",
				       port, strerror(r));
			return error_hint(err, "choose another one with CONSOLE_PORT");
		}
	}
	if (listen(fd, BACKLOG) < 0)
		return error_set_errno(err, errno, "CONSOLE=web: cannot listen on port %u", port);
	return TAKE_FD(fd);
}

/* A token that somebody chose is known to them, and need not be in a log. */
static void tell_address(const struct page *p, const struct settings *settings)
{
	log_info("console: http://localhost:%u/?token=%s (port %u of the container, as `docker run -p` publishes it)",
		 settings->console_port, settings->console_token ? "…" : p->token, settings->console_port);
}

int page_new(struct loop *loop, const struct store *s, const struct settings *settings, const struct name *machine,
	     bool display, struct page **ret, struct error *err)
{
	struct page *p = xnew(struct page);
	_cleanup_free_ char *file = data_path(PAGE_FILE);
	int r = 0;

	*p = (struct page){ .loop = loop,
			    .store = s,
			    .machine = machine,
			    .display = display,
			    .program = libexec_path("skerry-web"),
			    .listen_fd = -EBADF,
			    .broker_fd = -EBADF,
			    .pidfd = -EBADF };
	if (!p->program || !file)
		r = error_set_kind(err, ERROR_UNAVAILABLE, ENOENT, "CONSOLE=web: skerry-web is not installed");
	if (r >= 0)
		p->directory = xstrndup(file, strlen(file) - strlen(strrchr(file, '/')));
	if (r >= 0 && settings->console_token)
		p->token = xstrdup(settings->console_token);
	else if (r >= 0)
		r = page_token(s, &p->token, err);
	if (r >= 0)
		r = p->listen_fd = listen_on(settings->console_port, err);
	if (r >= 0 && loop_add_timer(loop, &p->again, UINT64_MAX, on_again, p) < 0)
		r = error_set_errno(err, ENOMEM, "event loop");
	if (r >= 0)
		r = start(p, err);
	if (r < 0) {
		page_free(p);
		return r;
	}
	tell_address(p, settings);
	*ret = p;
	return 0;
}

struct page *page_free(struct page *p)
{
	if (!p)
		return NULL;
	if (p->pidfd >= 0)
		(void)syscall(SYS_pidfd_send_signal, p->pidfd, SIGKILL, NULL, 0);
	loop_source_free(p->broker);
	loop_source_free(p->again);
	safe_close(p->pidfd);
	safe_close(p->broker_fd);
	safe_close(p->listen_fd);
	if (p->token)
		explicit_bzero(p->token, strlen(p->token));
	free(p->token);
	free(p->program);
	free(p->directory);
	free(p);
	return NULL;
}
