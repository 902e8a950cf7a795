#include "image/docker.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "json/json.h"

#define SOCKET "/var/run/docker.sock"
enum { MESSAGE_MAX = 64 << 10, ANSWER_MAX = 4 << 20, CONNECT_S = 10, HTTP_OK = 200, HTTP_MISSING = 404 };

/* What the child tells of its end: kind and number, then the message, then the hint, each ended by a NUL. */
struct report {
	int kind, num;
};

struct request {
	CURL *easy;
	int fd;          /* the pipe's other end */
	struct buf text; /* of an answer that is no success, and of a POST's answer */
	bool post;
};

/* "unix:///run/docker.sock" gives its path. Owned by the caller. */
static char *socket_path(struct error *err)
{
	const char *host = getenv("DOCKER_HOST"), *path;

	if (!host || !*host)
		return xstrdup(SOCKET);
	path = after_prefix(host, "unix://");
	if (path && path[0] == '/')
		return xstrdup(path);
	error_set_kind(err, ERROR_CONFIG, EINVAL,
		       "DOCKER_HOST: '%.100s' is no unix socket, which is all that is supported", host);
	return NULL;
}

static size_t on_body(char *p, size_t size, size_t n, void *data)
{
	struct request *q = data;
	long status = 0;

	(void)size;
	(void)curl_easy_getinfo(q->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status == HTTP_OK && !q->post)
		return write_full(q->fd, p, n) < 0 ? 0 : n;
	if (q->text.len < MESSAGE_MAX)
		buf_add(&q->text, p, n);
	return n;
}

static size_t on_read(char *p, size_t size, size_t n, void *data)
{
	struct request *q = data;
	ssize_t got;

	do
		got = read(q->fd, p, size * n);
	while (got < 0 && errno == EINTR);
	return got < 0 ? CURL_READFUNC_ABORT : (size_t)got;
}

/* {"message":"…"}, or a load's lines, the last of which may be {"errorDetail":{…},"error":"…"}. */
static int daemon_says(const struct request *q, long status, struct error *err)
{
	_cleanup_free_ char *text = xstrndup(q->text.p ? q->text.p : "", q->text.len);
	char *save = NULL;
	bool missing = status == HTTP_MISSING;

	for (char *line = strtok_r(text, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save)) {
		_cleanup_json_ struct json *j = NULL;
		const char *s;

		if (json_parse(line, strlen(line), "docker", &j, NULL) < 0)
			continue;
		s = json_string(json_get(j, status == HTTP_OK ? "error" : "message"));
		if (s)
			return error_set_kind(err, missing ? ERROR_NOT_FOUND : ERROR_FAILED, missing ? ENOENT : EIO,
					      "docker: %.300s", s);
	}
	return status == HTTP_OK
		       ? 0
		       : error_set(err, missing ? ENOENT : EIO, "docker: its daemon answered with status %ld", status);
}

static int cannot_connect(const char *path, long num, struct error *err)
{
	if (num == EACCES || num == EPERM) {
		error_set_kind(err, ERROR_DENIED, EACCES, "docker: %s: %s", path, strerror(EACCES));
		return error_hint(err, "join the group docker, or run as root");
	}
	error_set_kind(err, ERROR_UNAVAILABLE, ENOENT, "docker: no daemon answers at %s", path);
	return error_hint(err, "start it, or say where it is: DOCKER_HOST=unix:///path");
}

static int perform(struct request *q, const char *socket, const char *path, struct error *err)
{
	_cleanup_free_ char *url = xasprintf("http://localhost%s", path);
	struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/x-tar");
	char text[CURL_ERROR_SIZE] = "";
	long status = 0, num = 0;
	CURLcode code;

	q->easy = curl_easy_init();
	if (!q->easy || !headers)
		return error_set(err, ENOMEM, "docker: out of memory");
	(void)curl_easy_setopt(q->easy, CURLOPT_URL, url);
	(void)curl_easy_setopt(q->easy, CURLOPT_UNIX_SOCKET_PATH, socket);
	(void)curl_easy_setopt(q->easy, CURLOPT_PROXY, "");
	(void)curl_easy_setopt(q->easy, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
	(void)curl_easy_setopt(q->easy, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(q->easy, CURLOPT_ERRORBUFFER, text);
	(void)curl_easy_setopt(q->easy, CURLOPT_WRITEFUNCTION, on_body);
	(void)curl_easy_setopt(q->easy, CURLOPT_WRITEDATA, q);
	if (q->post) {
		(void)curl_easy_setopt(q->easy, CURLOPT_POST, 1L);
		(void)curl_easy_setopt(q->easy, CURLOPT_READFUNCTION, on_read);
		(void)curl_easy_setopt(q->easy, CURLOPT_READDATA, q);
		headers = curl_slist_append(headers, "Transfer-Encoding: chunked");
		headers = curl_slist_append(headers, "Expect:");
		(void)curl_easy_setopt(q->easy, CURLOPT_HTTPHEADER, headers);
	}
	code = curl_easy_perform(q->easy);
	(void)curl_easy_getinfo(q->easy, CURLINFO_RESPONSE_CODE, &status);
	(void)curl_easy_getinfo(q->easy, CURLINFO_OS_ERRNO, &num);
	curl_slist_free_all(headers);
	curl_easy_cleanup(q->easy);
	/* The reader has what it wanted, or wants no more: it knows why. */
	if (code == CURLE_WRITE_ERROR && status == HTTP_OK)
		return 0;
	if (code == CURLE_COULDNT_CONNECT)
		return cannot_connect(socket, num, err);
	/* A daemon that refuses may do so before it has read everything. */
	if (code != CURLE_OK && (status == 0 || status == HTTP_OK))
		return error_set(err, EIO, "docker: %s", *text ? text : curl_easy_strerror(code));
	return daemon_says(q, status, err);
}

static _noreturn_ void child_main(bool post, const char *socket, const char *path, int fd, int report)
{
	struct request q = { .fd = fd, .post = post };
	_cleanup_error_ struct error e = {};
	_cleanup_buf_ struct buf out = {};
	struct report r;

	/* Whoever reads may stop early. */
	(void)signal(SIGPIPE, SIG_IGN);
	(void)perform(&q, socket, path, &e);
	r = (struct report){ e.kind, e.num };
	buf_add(&out, &r, sizeof(r));
	buf_adds(&out, e.msg ? e.msg : "");
	buf_addc(&out, '\0');
	buf_adds(&out, e.hint ? e.hint : "");
	buf_addc(&out, '\0');
	(void)write_full(report, out.p, out.len);
	_exit(0);
}

static int begin(bool post, const char *path, struct docker_transfer *ret, struct error *err)
{
	_cleanup_free_ char *socket = socket_path(err);
	int data[2], report[2];

	if (!socket)
		return -EINVAL;
	if (pipe2(data, O_CLOEXEC) < 0)
		return error_set_errno(err, errno, "docker: cannot make a pipe");
	if (pipe2(report, O_CLOEXEC) < 0) {
		safe_close(data[0]);
		safe_close(data[1]);
		return error_set_errno(err, errno, "docker: cannot make a pipe");
	}
	*ret = (struct docker_transfer){ .pid = fork(), .fd = data[post ? 1 : 0], .report = report[0] };
	if (ret->pid == 0) {
		/* Its end must be seen when the parent closes it. */
		safe_close(data[post ? 1 : 0]);
		safe_close(report[0]);
		child_main(post, socket, path, data[post ? 0 : 1], report[1]);
	}
	safe_close(data[post ? 0 : 1]);
	safe_close(report[1]);
	if (ret->pid < 0) {
		safe_close(ret->fd);
		safe_close(ret->report);
		return error_set_errno(err, errno, "docker: cannot make a process");
	}
	return 0;
}

int docker_get(const char *path, struct docker_transfer *ret, struct error *err)
{
	return begin(false, path, ret, err);
}

int docker_post(const char *path, struct docker_transfer *ret, struct error *err)
{
	return begin(true, path, ret, err);
}

int docker_end(struct docker_transfer *t, struct error *err)
{
	_cleanup_buf_ struct buf text = {};
	struct report r;
	const char *msg, *hint;

	t->fd = safe_close(t->fd);
	(void)file_read_fd(t->report, MESSAGE_MAX, &text);
	t->report = safe_close(t->report);
	while (waitpid(t->pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (text.len < sizeof(r) + 2)
		return error_set(err, EIO, "docker: the transfer ended without a word");
	memcpy(&r, text.p, sizeof(r));
	msg = text.p + sizeof(r);
	hint = msg + strlen(msg) + 1;
	if (!r.num)
		return 0;
	error_set_kind(err, (enum error_kind)r.kind, r.num, "%s", msg);
	if (hint < text.p + text.len && *hint)
		(void)error_hint(err, "%s", hint);
	return -r.num;
}

int docker_read(const char *path, struct buf *out, struct error *err)
{
	struct docker_transfer t;
	int r = docker_get(path, &t, err), read;

	if (r < 0)
		return r;
	read = file_read_fd(t.fd, ANSWER_MAX, out);
	r = docker_end(&t, err);
	return r < 0 ? r : read < 0 ? error_set_errno(err, read, "docker: its answer") : 0;
}
