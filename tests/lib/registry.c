#include "registry.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli.h"

enum { WAIT_MS = 50, WAITS = 2400, PORTS_TRIED = 10, COMMAND_S = 300 };

/* A script in the test's directory; the test fails with what it said. */
static void run(const char *script)
{
	char whole[4096];
	_cleanup_cli_ struct cli r = {};

	snprintf(whole, sizeof(whole), "set -e; cd '%s'; %s", test_tmpdir(), script);
	r = cli_argv((const char *[]){ CLI_SHELL, whole, NULL }, NULL, COMMAND_S);
	ASSERT_STATUS(r, 0);
}

static void need(const char *program)
{
	char script[128];
	_cleanup_cli_ struct cli r = {};

	snprintf(script, sizeof(script), "command -v %s", program);
	r = cli_argv((const char *[]){ CLI_SHELL, script, NULL }, NULL, COMMAND_S);
	if (r.status != 0)
		test_skip("%s is not installed", program);
}

/* A port that stays ours until the test ends: what is bound and does not listen gives way to nobody but who asks for this very port with
 * SO_REUSEADDR, as the server does. */
static int reserve_port(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || getsockname(fd, (struct sockaddr *)&a, &len) < 0)
		test_fail(__FILE__, __LINE__, "socket: %s", strerror(errno));
	return ntohs(a.sin_port);
}

static bool answers(int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				 .sin_port = htons((uint16_t)port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool ok = connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;

	close(fd);
	return ok;
}

static void make_certificates(void)
{
	run("mkdir -p trust; openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out trust/ca.crt -days 3 -subj "
	    "/CN=test 2>openssl.log;"
	    "openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost 2>>openssl.log;"
	    "echo subjectAltName=DNS:localhost >server.ext;"
	    "openssl x509 -req -in server.csr -CA trust/ca.crt -CAkey ca.key -CAcreateserial -days 3 -extfile "
	    "server.ext "
	    "-out server.crt 2>>openssl.log;"
	    "htpasswd -Bbn me pw >htpasswd");
}

/* @tls, @auth: lines of YAML, or nothing. */
static void write_config(int port, const char *tls, const char *auth)
{
	char path[300];
	FILE *f;

	snprintf(path, sizeof(path), "%s/config.yml", test_tmpdir());
	f = fopen(path, "we");
	ASSERT(f != NULL);
	fprintf(f, "version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: '%s/registry'}}\n",
		test_tmpdir());
	fprintf(f, "http: {addr: '127.0.0.1:%d'%s}\n%s", port, tls, auth);
	fclose(f);
}

static pid_t serve(const char *log_path, const char *config)
{
	int log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	pid_t parent = getpid(), pid;

	ASSERT(log >= 0);
	pid = fork();
	ASSERT(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(0);
		dup2(log, 1);
		dup2(log, 2);
		unsetenv("SKERRY_HOME");
		execlp("docker-registry", "docker-registry", "serve", config, (char *)NULL);
		_exit(127);
	}
	close(log);
	return pid;
}

/* False when it has ended, as it does when somebody else has taken the port. */
static bool comes_up(pid_t pid, int port)
{
	for (int i = 0; i < WAITS; i++) {
		if (waitpid(pid, NULL, WNOHANG) == pid)
			return false;
		if (answers(port))
			return true;
		(void)poll(NULL, 0, WAIT_MS); /* lint: nothing announces this */
	}
	test_fail(__FILE__, __LINE__, "docker-registry does not come up");
}

static void start(struct registry_server *s, const char *tls, const char *auth)
{
	char config[300];
	int port;

	need("docker-registry");
	need("skopeo");
	need("umoci");
	snprintf(s->trust, sizeof(s->trust), "%s/trust", test_tmpdir());
	snprintf(s->ca, sizeof(s->ca), "%s/trust/ca.crt", test_tmpdir());
	snprintf(s->log, sizeof(s->log), "%s/registry.log", test_tmpdir());
	snprintf(config, sizeof(config), "%s/config.yml", test_tmpdir());
	for (int i = 0; i < PORTS_TRIED; i++) {
		port = reserve_port();
		write_config(port, tls, auth);
		snprintf(s->host, sizeof(s->host), "localhost:%d", port);
		if (comes_up(serve(s->log, config), port))
			return;
	}
	test_fail(__FILE__, __LINE__, "docker-registry ends: %s", s->log);
}

void registry_server_start(struct registry_server *s, bool secured)
{
	char tls[600], auth[300];

	if (!secured) {
		start(s, "", "");
		return;
	}
	need("openssl");
	need("htpasswd");
	make_certificates();
	snprintf(tls, sizeof(tls), ", tls: {certificate: '%s/server.crt', key: '%s/server.key'}", test_tmpdir(),
		 test_tmpdir());
	snprintf(auth, sizeof(auth), "auth: {htpasswd: {realm: test, path: '%s/htpasswd'}}\n", test_tmpdir());
	start(s, tls, auth);
}

void registry_server_start_with_tokens(struct registry_server *s, const char *realm)
{
	char auth[600];

	snprintf(auth, sizeof(auth),
		 "auth: {token: {realm: '%s', service: registry, issuer: test, rootcertbundle: '%s/token.crt'}}\n",
		 realm, test_tmpdir());
	start(s, "", auth);
}

unsigned registry_server_count(const struct registry_server *s, const char *one, const char *two)
{
	FILE *f = fopen(s->log, "re");
	char line[4096];
	unsigned n = 0;

	ASSERT(f != NULL);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, one) && strstr(line, two);
	fclose(f);
	return n;
}

unsigned registry_server_await(const struct registry_server *s, const char *one, const char *two, unsigned n)
{
	unsigned found = 0;

	for (int i = 0; i < WAITS; i++) {
		found = registry_server_count(s, one, two);
		if (found >= n)
			break;
		(void)poll(NULL, 0, WAIT_MS); /* lint: nothing announces this */
	}
	return found;
}

void registry_make_image(const char *tag, unsigned kib)
{
	char script[2048];

	snprintf(script, sizeof(script),
		 "test -d layout || umoci init --layout layout; umoci new --image layout:%s; "
		 "umoci unpack --rootless --image layout:%s bundle-%s >/dev/null; cd bundle-%s/rootfs; mkdir -p bin "
		 "etc; "
		 "cp /bin/busybox bin/; ln -s busybox bin/sh; head -c %uK /dev/urandom >etc/noise; cd ../..; "
		 "umoci repack --refresh-bundle --image layout:%s bundle-%s >/dev/null; head -c %uK /dev/urandom "
		 ">bundle-%s/rootfs/etc/more; "
		 "umoci repack --image layout:%s bundle-%s >/dev/null; umoci config --image layout:%s "
		 "--config.cmd sh; rm -r bundle-%s",
		 tag, tag, tag, tag, kib / 2, tag, tag, kib / 2, tag, tag, tag, tag, tag);
	run(script);
}

static void copy(const struct registry_server *s, const char *from, const char *to, const char *side, bool secured)
{
	char script[2048];

	if (secured)
		snprintf(script, sizeof(script), "skopeo copy -q --%s-cert-dir '%s' --%s-creds me:pw '%s' '%s'", side,
			 s->trust, side, from, to);
	else
		snprintf(script, sizeof(script), "skopeo copy -q --%s-tls-verify=false '%s' '%s'", side, from, to);
	run(script);
}

void registry_put(const struct registry_server *s, const char *layout_tag, const char *to, bool secured)
{
	char from[256], where[256];

	snprintf(from, sizeof(from), "oci:layout:%s", layout_tag);
	snprintf(where, sizeof(where), "docker://%s/%s", s->host, to);
	copy(s, from, where, "dest", secured);
}

void registry_get(const struct registry_server *s, const char *from, const char *layout_tag, bool secured)
{
	char to[256], where[256];

	snprintf(where, sizeof(where), "docker://%s/%s", s->host, from);
	snprintf(to, sizeof(to), "oci:layout:%s", layout_tag);
	copy(s, where, to, "src", secured);
}

const char *registry_layout_digest(const char *layout_tag)
{
	static char digest[80];
	char script[512];
	_cleanup_cli_ struct cli r = {};

	snprintf(script, sizeof(script), "cd '%s' && skopeo inspect --format '{{.Digest}}' oci:layout:%s",
		 test_tmpdir(), layout_tag);
	r = cli_argv((const char *[]){ CLI_SHELL, script, NULL }, NULL, COMMAND_S);
	ASSERT_STATUS(r, 0);
	snprintf(digest, sizeof(digest), "%.71s", r.out);
	ASSERT_EQ(strlen(digest), 71);
	return digest;
}
