#include "docker/verbs.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "docker/box.h"
#include "docker/bridge.h"
#include "docker/snapshots.h"
#include "machine/machine.h"
#include "net/net.h"

enum { SSH_PORT = 22, ARGUMENTS_MAX = 32, LOCAL_NAME_SIZE = 64, LINK_LOCAL = 0xa9fe /* 169.254.0.0/16 */ };
#define BANNER_NS (3 * NS_PER_SEC)
#define SECOND_NS NS_PER_SEC /* for another way to it: docker waits five seconds for all of it */

static int load(const struct store *s, struct machine_info *ret, struct error *err)
{
	struct name name;
	int r = name_parse(BOX_NAME, "machine name", &name, err);

	return r < 0 ? r : machine_info_load(s, &name, ret, err);
}

/* ---- healthcheck ---- */

static bool readable_until(int fd, uint64_t deadline_ns)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t now = clock_monotonic_ns();

	return now < deadline_ns && poll(&p, 1, (int)((deadline_ns - now) / NS_PER_MS + 1)) > 0;
}

/* Of the container; what leads to the guest's sshd. */
struct place {
	char ip[INET6_ADDRSTRLEN]; /* "" = every address */
	uint16_t port;
};

/* What the machine's own network has for it, else what PORTS says. False: nothing leads there. */
static bool find_place(const struct machine_info *info, struct place *ret)
{
	_cleanup_settings_ struct settings settings = {};
	_cleanup_strv_ struct strv problems = {};
	struct settings_host host;

	*ret = (struct place){ .port = SSH_PORT };
	for (size_t i = 0; i < info->state.publish.n; i++) {
		struct net_publish p;

		if (net_publish_parse(info->state.publish.items[i], &p, NULL) >= 0 && !p.udp &&
		    p.guest_port == SSH_PORT) {
			ret->port = p.host_port;
			return true;
		}
	}
	if (streq(info->spec.net, BRIDGE_MODE))
		return true;
	settings_host_read(&host);
	settings_read(environ, &host, &settings, &problems);
	for (size_t i = 0; i < settings.ports.n; i++) {
		const struct relay_range *r = &settings.ports.items[i];

		if (r->udp || r->guest_first > SSH_PORT || SSH_PORT - r->guest_first > r->last - r->first)
			continue;
		ret->port = (uint16_t)(r->first + (SSH_PORT - r->guest_first));
		memcpy(ret->ip, r->ip, sizeof(ret->ip));
		return true;
	}
	return settings.ports.n == 0;
}

/* Its size. @ip "" = the loopback. */
static socklen_t address_of(const char *ip, uint16_t port, struct sockaddr_storage *ret)
{
	struct sockaddr_in four = { .sin_family = AF_INET,
				    .sin_port = htons(port),
				    .sin_addr = { htonl(INADDR_LOOPBACK) } };
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(port) };

	if (inet_pton(AF_INET6, ip, &six.sin6_addr) == 1) {
		memcpy(ret, &six, sizeof(six));
		return sizeof(six);
	}
	if (*ip)
		(void)inet_pton(AF_INET, ip, &four.sin_addr);
	memcpy(ret, &four, sizeof(four));
	return sizeof(four);
}

static bool connect_until(int fd, const struct sockaddr_storage *to, socklen_t size, uint64_t deadline_ns)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	socklen_t n = sizeof(int);
	int problem = 0;

	if (connect(fd, (const struct sockaddr *)to, size) == 0)
		return true;
	/* A guest that is not up yet has nobody who refuses. */
	return errno == EINPROGRESS && poll(&p, 1, clock_poll_timeout(deadline_ns)) > 0 &&
	       getsockopt(fd, SOL_SOCKET, SO_ERROR, &problem, &n) == 0 && problem == 0;
}

/* The port is open as soon as the engine runs: that the guest answers is seen by what it says. */
static bool says_ssh(const char *ip, uint16_t port, uint64_t wait_ns)
{
	struct sockaddr_storage to;
	socklen_t size = address_of(ip, port, &to);
	_cleanup_close_ int fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	char banner[4];
	size_t n = 0;
	uint64_t deadline = clock_monotonic_ns() + wait_ns;

	if (fd < 0 || !connect_until(fd, &to, size, deadline))
		return false;
	while (n < sizeof(banner) && readable_until(fd, deadline)) {
		ssize_t k = recv(fd, banner + n, sizeof(banner) - n, 0);

		if (k <= 0)
			return false;
		n += (size_t)k;
	}
	return n == sizeof(banner) && memcmp(banner, "SSH-", 4) == 0;
}

static bool ssh_answers(const struct machine_info *info)
{
	struct place place;

	if (!find_place(info, &place))
		return false;
	if (!streq(info->spec.net, BRIDGE_MODE))
		return says_ssh(place.ip, place.port, BANNER_NS);
	/* Without an IPv4 address of its network it still has one for this, if it was told it beforehand. */
	return says_ssh(NET_CONTROL_LEASED, place.port, BANNER_NS) ||
	       says_ssh(NET_CONTROL_GUEST, place.port, SECOND_NS);
}

static int healthcheck(const struct store *s, int argc, char **argv, struct error *err)
{
	_cleanup_info_ struct machine_info info = {};
	int r = load(s, &info, err);
	const char *state = "starting";
	bool well = false;

	(void)argc;
	(void)argv;
	if (r == -ENOENT) {
		error_done(err);
		printf("starting\n");
		return 1;
	}
	if (r < 0)
		return r;
	if (info.status == MACHINE_RUNNING && info.state.agent_ready) {
		well = true;
		state = "booted: the agent answers";
	} else if (info.status == MACHINE_RUNNING && ssh_answers(&info)) {
		well = true;
		state = "booted: ssh answers";
	} else if (info.status != MACHINE_RUNNING && info.status != MACHINE_STARTING) {
		state = machine_status_name(info.status);
	}
	printf("%s\n", state);
	return well ? 0 : 1;
}

/* ---- What skerry does ---- */

/* "skerry VERB [ARGUMENTS…] vm" in our place. */
static int become(const char *verb, int argc, char **argv, struct error *err)
{
	const char *words[ARGUMENTS_MAX + 4] = { "skerry", verb };
	size_t n = 2;

	if (argc - 1 > ARGUMENTS_MAX)
		return error_set_kind(err, ERROR_USAGE, E2BIG, "%s: too many arguments", argv[0]);
	for (int i = 1; i < argc; i++)
		words[n++] = argv[i];
	words[n++] = BOX_NAME;
	words[n] = NULL;
	execvp(words[0], (char *const *)(uintptr_t)words);
	return error_set_errno(err, errno, "cannot execute skerry");
}

static int console(const struct store *s, int argc, char **argv, struct error *err)
{
	(void)s;
	return become("console", argc, argv, err);
}

/* "-u" and "-itu" want one more word, "-uroot" and "--user=root" do not. */
static bool wants_value(const char *option)
{
	static const char *const names[] = { "--user", "--workdir", "--env", "--timeout" };
	static const char letters[] = "uwe";

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (streq(option, names[i]))
			return true;
	if (option[1] == '-')
		return false;
	option += strcspn(option, letters);
	return option[0] && !option[1];
}

/* Options of skerry's exec come first. Docker has decided already whether there is standard input and a terminal. */
static int run_exec(const struct store *s, int argc, char **argv, struct error *err)
{
	_cleanup_free_ const char **words = xcalloc((size_t)argc + 5, sizeof(*words));
	size_t n = 0;
	int i = 1;

	(void)s;
	words[n++] = "skerry";
	words[n++] = "exec";
	words[n++] = "-i";
	if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO))
		words[n++] = "-t";
	while (i < argc && argv[i][0] == '-' && argv[i][1] && !streq(argv[i], "--")) {
		bool two = wants_value(argv[i]) && i + 1 < argc;

		words[n++] = argv[i++];
		if (two)
			words[n++] = argv[i++];
	}
	words[n++] = BOX_NAME;
	while (i < argc)
		words[n++] = argv[i++];
	execvp(words[0], (char *const *)(uintptr_t)words);
	return error_set_errno(err, errno, "cannot execute skerry");
}

static int logs(const struct store *s, int argc, char **argv, struct error *err)
{
	(void)s;
	return become("logs", argc, argv, err);
}

static int status(const struct store *s, int argc, char **argv, struct error *err)
{
	/* As others have it: --json. */
	const char *json[] = { argv[0], "--format", "json" };

	(void)s;
	if (argc == 2 && streq(argv[1], "--json"))
		return become("status", (int)ARRAY_SIZE(json), (char **)(uintptr_t)json, err);
	return become("status", argc, argv, err);
}

/* ---- For others' tools ---- */

/* The host's keys, as a line of known_hosts for each name that is given; without one, as the keys are. */
static int ssh_keys(const struct store *s, int argc, char **argv, struct error *err)
{
	_cleanup_buf_ struct buf key = {};
	int r = file_read_at(s->home_fd, "machines/" BOX_NAME "/ssh/ssh_host_ed25519_key.pub", 8192, &key);

	if (r < 0)
		return error_set_errno(err, r, "cannot read the machine's ssh host key");
	for (int i = 1; i < argc; i++)
		printf("%s %s", argv[i], key.p);
	if (argc < 2)
		printf("%s", key.p);
	return 0;
}

/* The container's own address: the first that is not the loopback's, IPv4 before IPv6. */
static bool own_address(char ret[INET6_ADDRSTRLEN])
{
	struct ifaddrs *all = NULL;
	bool found = false;

	if (getifaddrs(&all) < 0)
		return false;
	for (int pass = 0; pass < 2 && !found; pass++)
		for (const struct ifaddrs *a = all; a && !found; a = a->ifa_next) {
			int family = pass ? AF_INET6 : AF_INET;
			const void *raw;

			if (!a->ifa_addr || a->ifa_addr->sa_family != family || (a->ifa_flags & IFF_LOOPBACK))
				continue;
			if (family == AF_INET)
				raw = &((const struct sockaddr_in *)(const void *)a->ifa_addr)->sin_addr;
			else
				raw = &((const struct sockaddr_in6 *)(const void *)a->ifa_addr)->sin6_addr;
			if (family == AF_INET && ntohl(((const struct in_addr *)raw)->s_addr) >> 16 == LINK_LOCAL)
				continue;
			if (family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL((const struct in6_addr *)raw))
				continue;
			found = inet_ntop(family, raw, ret, INET6_ADDRSTRLEN) != NULL;
		}
	freeifaddrs(all);
	return found;
}

/* What `ansible-inventory` calls a dynamic inventory's --list. */
static int inventory(const struct store *s, int argc, char **argv, struct error *err)
{
	_cleanup_info_ struct machine_info info = {};
	_cleanup_json_ struct json *o = json_object();
	struct json *meta = json_object(), *vars = json_object(), *host = json_object(), *all = json_object(),
		    *hosts = json_array();
	char address[INET6_ADDRSTRLEN] = "", name[LOCAL_NAME_SIZE + 1] = "";
	_cleanup_buf_ struct buf text = {};
	struct place place;
	bool leads;
	int r = load(s, &info, err);

	(void)argc;
	(void)argv;
	json_set(meta, "hostvars", vars);
	json_set(o, "_meta", meta);
	json_set(all, "hosts", hosts);
	json_set(o, "all", all);
	if (r >= 0) {
		(void)gethostname(name, LOCAL_NAME_SIZE);
		leads = find_place(&info, &place);
		if (place.ip[0])
			json_set_string(host, "ansible_host", place.ip);
		else if (own_address(address))
			json_set_string(host, "ansible_host", address);
		if (leads)
			json_set_u64(host, "ansible_port", place.port);
		json_set_string(host, "ansible_user", info.spec.user);
		json_append_string(hosts, info.spec.hostname ? info.spec.hostname : name);
		json_set(vars, info.spec.hostname ? info.spec.hostname : name, host);
		json_render(o, true, &text);
		printf("%s\n", text.p);
	} else {
		json_free(host);
	}
	return r < 0 ? r : 0;
}

const struct verb verbs[] = {
	{ "console", "this terminal joined to the guest's console; Ctrl-] leaves it", console },
	{ "exec", "run a command in the guest, where it has the agent; options as skerry exec has them", run_exec },
	{ "healthcheck", "is the guest up? status 0 once the agent or sshd answers", healthcheck },
	{ "inventory", "this machine for Ansible, as JSON", inventory },
	{ "logs", "what the guest's console showed; --engine: what the engine said", logs },
	{ "snapshot", "save|restore|delete NAME, list: of the machine's disk, while it runs", snapshots_verb },
	{ "ssh-keys", "the machine's ssh host key; with HOST…, as lines of known_hosts", ssh_keys },
	{ "status", "what runs, and how; --json for programs", status },
	{},
};
