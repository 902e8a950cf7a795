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
#include "machine/machine.h"

enum { SSH_PORT = 22, ARGUMENTS_MAX = 32, LOCAL_NAME_SIZE = 64 };
#define BANNER_NS (3 * NS_PER_SEC)

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

/* The port is open as soon as the engine runs: that the guest answers is seen by what it says. */
static bool ssh_answers(uint16_t port)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_port = htons(port),
				  .sin_addr = { htonl(INADDR_LOOPBACK) } };
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char banner[4];
	size_t n = 0;
	uint64_t deadline = clock_monotonic_ns() + BANNER_NS;

	if (fd < 0 || connect(fd, (const struct sockaddr *)&to, sizeof(to)) < 0)
		return false;
	while (n < sizeof(banner) && readable_until(fd, deadline)) {
		ssize_t k = recv(fd, banner + n, sizeof(banner) - n, 0);

		if (k <= 0)
			return false;
		n += (size_t)k;
	}
	return n == sizeof(banner) && memcmp(banner, "SSH-", 4) == 0;
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
	} else if (info.status == MACHINE_RUNNING && ssh_answers(SSH_PORT)) {
		well = true;
		state = "booted: ssh answers";
	} else if (info.status != MACHINE_RUNNING && info.status != MACHINE_STARTING) {
		state = machine_status_name(info.status);
	}
	printf("%s\n", state);
	return well ? 0 : 1;
}

/* ---- What skerry does ---- */

/* "skerry VERB vm [ARGUMENTS…]" in our place. */
static int become(const char *verb, bool name_last, int argc, char **argv, struct error *err)
{
	const char *words[ARGUMENTS_MAX + 4] = { "skerry", verb };
	size_t n = 2;

	if (argc - 1 > ARGUMENTS_MAX)
		return error_set_kind(err, ERROR_USAGE, E2BIG, "%s: too many arguments", argv[0]);
	if (!name_last)
		words[n++] = BOX_NAME;
	for (int i = 1; i < argc; i++)
		words[n++] = argv[i];
	if (name_last)
		words[n++] = BOX_NAME;
	words[n] = NULL;
	execvp(words[0], (char *const *)(uintptr_t)words);
	return error_set_errno(err, errno, "cannot execute skerry");
}

static int console(const struct store *s, int argc, char **argv, struct error *err)
{
	(void)s;
	return become("console", true, argc, argv, err);
}

static int run_exec(const struct store *s, int argc, char **argv, struct error *err)
{
	(void)s;
	return become("exec", false, argc, argv, err);
}

static int logs(const struct store *s, int argc, char **argv, struct error *err)
{
	(void)s;
	return become("logs", true, argc, argv, err);
}

static int status(const struct store *s, int argc, char **argv, struct error *err)
{
	/* As others have it: --json. */
	const char *json[] = { argv[0], "--format", "json" };

	(void)s;
	if (argc == 2 && streq(argv[1], "--json"))
		return become("status", true, (int)ARRAY_SIZE(json), (char **)(uintptr_t)json, err);
	return become("status", true, argc, argv, err);
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
	int r = load(s, &info, err);

	(void)argc;
	(void)argv;
	json_set(meta, "hostvars", vars);
	json_set(o, "_meta", meta);
	json_set(all, "hosts", hosts);
	json_set(o, "all", all);
	if (r >= 0) {
		(void)gethostname(name, LOCAL_NAME_SIZE);
		if (own_address(address))
			json_set_string(host, "ansible_host", address);
		json_set_u64(host, "ansible_port", SSH_PORT);
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
	{ "exec", "run a command in the guest, where it has the agent", run_exec },
	{ "healthcheck", "is the guest up? status 0 once the agent or sshd answers", healthcheck },
	{ "inventory", "this machine for Ansible, as JSON", inventory },
	{ "logs", "what the guest's console showed; --engine: what the engine said", logs },
	{ "ssh-keys", "the machine's ssh host key; with HOST…, as lines of known_hosts", ssh_keys },
	{ "status", "what runs, and how; --json for programs", status },
	{},
};
