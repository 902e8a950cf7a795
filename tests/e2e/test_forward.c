/* A port that nobody published leads to a running guest, from the relay's socket over the monitor and the engine. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "cli.h"
#include "docker/relay.h"
#include "json/json.h"
#include "machine/client.h"
#include "monitor.pb-c.h"

/* Other tests have other ranges (test_vm.c). */
enum { PORT_FIRST = 28000, PORTS = 4000 };

struct joined {
	struct client client;
	struct relay *relay;
	unsigned asked;
};

struct asked {
	struct joined *j;
	uint64_t ticket;
};

static void ok(struct cli r)
{
	ASSERT_STATUS(r, 0);
	cli_done(&r);
}

static void on_forward(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	_cleanup_free_ struct asked *a = data;
	Skerry__Monitor__V1__ForwardResponse *r =
		err ? NULL : skerry__monitor__v1__forward_response__unpack(NULL, len, payload);

	if (err)
		printf("# %s\n", err->msg);
	relay_resolved(a->j->relay, a->ticket, r ? (uint16_t)r->host_port : 0);
	if (r)
		skerry__monitor__v1__forward_response__free_unpacked(r, NULL);
}

static void on_resolve(struct relay *r, uint64_t ticket, bool udp, uint16_t guest_port, void *data)
{
	struct joined *j = data;
	Skerry__Monitor__V1__ForwardRequest req = SKERRY__MONITOR__V1__FORWARD_REQUEST__INIT;
	struct asked *a = xnew(struct asked);
	uint8_t packed[32];

	(void)r;
	*a = (struct asked){ .j = j, .ticket = ticket };
	req.udp = udp;
	req.guest_port = guest_port;
	j->asked++;
	ASSERT_OK(rpc_call(j->client.rpc, MONITOR_SERVICE, "Forward", packed,
			   skerry__monitor__v1__forward_request__pack(&req, packed),
			   clock_monotonic_ns() + 120 * NS_PER_SEC, on_forward, a, NULL));
}

static void join(struct joined *j, const char *list)
{
	_cleanup_relay_ports_ struct relay_ports ports = {};
	_cleanup_strv_ struct strv wrong = {};
	struct relay_options o = { .ports = &ports, .resolve = on_resolve, .data = j };
	struct store store = {};
	struct error e = {};
	struct name name;

	ASSERT_EQ(relay_ports_parse(list, NULL, &ports, &wrong), 0);
	ASSERT_OK(name_parse("m", "machine name", &name, NULL));
	if (store_open(&store, &e) < 0 || client_connect(&store, &name, &j->client, &e) < 0 ||
	    relay_new(j->client.loop, &o, &j->relay, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	store_done(&store);
}

static void part(struct joined *j)
{
	j->relay = relay_free(j->relay);
	client_done(&j->client);
	j->asked = 0;
}

static int on_child(struct loop_source *s, int pidfd, void *data)
{
	(void)s;
	(void)pidfd;
	loop_exit(data, 0);
	return 0;
}

/* Asks for a file of the guest's web server. Returns the errno that ended it. */
static int ask(uint16_t port, const char *wanted)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_port = htons(port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	static const char request[] = "GET /hostname HTTP/1.0\r\n\r\n";
	char text[4096] = "";
	size_t len = 0;
	ssize_t n;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), num;

	ASSERT_EQ(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	/* Who is refused may hear of it before it has asked. */
	n = send(fd, request, strlen(request), MSG_NOSIGNAL);
	while (n > 0 && (n = recv(fd, text + len, sizeof(text) - 1 - len, 0)) > 0)
		len += (size_t)n;
	num = n < 0 ? errno : 0;
	close(fd);
	if (num) {
		ASSERT_EQ(len, 0);
		return num;
	}
	ASSERT_CONTAINS(text, wanted);
	return 0;
}

static void asks_beside(struct joined *j, uint16_t port, const char *wanted, int wanted_num)
{
	struct loop_source *s;
	pid_t pid = fork();
	int pidfd, status;

	if (pid == 0) {
		ASSERT_EQ(ask(port, wanted), wanted_num);
		_exit(0);
	}
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	ASSERT_OK(loop_add_child(j->client.loop, &s, pidfd, on_child, j->client.loop));
	ASSERT_OK(loop_run(j->client.loop));
	loop_source_free(s);
	close(pidfd);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
}

static uint64_t monitor_pid(void)
{
	_cleanup_cli_ struct cli r = cli("inspect", "m", NULL);
	_cleanup_json_ struct json *tree = NULL;
	uint64_t pid = 0;

	ASSERT_STATUS(r, 0);
	ASSERT_OK(json_parse(r.out, strlen(r.out), "inspect", &tree, NULL));
	ASSERT(json_u64(json_get(json_is_object(tree) ? tree : json_at(tree, 0), "monitor_pid"), &pid));
	return pid;
}

static void await_server(void)
{
	ok(cli("wait", "--for", "agent", "m", NULL));
	ok(cli("exec", "m", CLI_SHELL, "until grep -q ':1F90 .* 0A ' /proc/net/tcp /proc/net/tcp6; do sleep 0.1; done",
	       NULL));
}

TEST(a_port_that_was_not_published_reaches_the_guest)
{
	struct joined j = {};
	struct relay_counts n;
	const char *home = cli_home(true);
	const uint16_t port = (uint16_t)(PORT_FIRST + 2 * (getpid() % (PORTS / 2)));
	_cleanup_free_ char *first = xasprintf("%u:8080", port), *both = xasprintf("%s,%u:8081", first, port + 1);
	int monitor;

	ASSERT_EQ(setenv("SKERRY_HOME", home, 1), 0);
	/* Published ports have the engine's own network. */
	ok(cli("run", "-d", "--name", "m", "--publish", "0:7", "tiny", "httpd", "-f", "-p", "8080", "-h", "/etc",
	       NULL));
	await_server();
	join(&j, both);
	asks_beside(&j, port, "200 OK", 0);
	asks_beside(&j, port, "200 OK", 0);
	ASSERT_EQ(j.asked, 1);
	/* Nobody listens there in the guest. */
	asks_beside(&j, port + 1, NULL, ECONNRESET);
	relay_count(j.relay, &n);
	ASSERT(n.refused >= 1);
	ASSERT_EQ(j.asked, 2);
	part(&j);
	/* Another that asks is told the same; so is one of a monitor that came after. */
	join(&j, first);
	asks_beside(&j, port, "200 OK", 0);
	part(&j);
	monitor = (int)monitor_pid();
	cli_kill(monitor);
	ok(cli("exec", "m", "true", NULL));
	ASSERT(monitor_pid() != (uint64_t)monitor);
	join(&j, first);
	asks_beside(&j, port, "200 OK", 0);
	part(&j);
	/* An engine of a new run leads nowhere yet. */
	ok(cli("restart", "m", NULL));
	await_server();
	join(&j, first);
	asks_beside(&j, port, "200 OK", 0);
	part(&j);
	ok(cli("delete", "--force", "m", NULL));
}
