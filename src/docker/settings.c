#include "docker/settings.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/parse.h"
#include "disk/seed.h"
#include "docker/settings_lists.h"
#include "engine/engine.h"
#include "engine/firmware.h"
#include "store/name.h"

#define MIB             (UINT64_C(1) << 20)
#define GIB             (UINT64_C(1) << 30)
#define MEMORY_MIN      (64 * MIB)
#define MEMORY_USUAL    (2 * GIB)
#define MEMORY_OVERHEAD (160 * MIB)
#define STORAGE_USUAL   (20 * GIB)
#define STORAGE_MIN     (64 * MIB)
#define STORAGE_MAX     (UINT64_C(1) << 46)
#define STOP_USUAL      (8 * NS_PER_SEC)
#define STOP_MIN        (3 * NS_PER_SEC)
#define STOP_MAX        (3600 * NS_PER_SEC)
/* What others' images share when it is mounted. */
#define SHARED           "/shared"
#define CGROUP_UNLIMITED (UINT64_C(1) << 60)
enum { CONSOLE_PORT_USUAL = 8080, TOKEN_MIN = 16, TOKEN_MAX = 128 };
enum { RELAY_SHARE = 16, CPUS_USUAL = 2, CPUS_MAX = 1024, HOSTNAME_MAX = 63, USER_MAX = 32, TIMEZONE_MAX = 64 };

/* ---- What there is ---- */

static bool read_number(const char *path, uint64_t *ret)
{
	_cleanup_buf_ struct buf b = {};

	if (file_read_at(AT_FDCWD, path, 256, &b) < 0)
		return false;
	if (b.len && b.p[b.len - 1] == '\n')
		buf_truncate(&b, b.len - 1);
	return parse_u64(b.p ? b.p : "", 0, UINT64_MAX, ret) == 0;
}

/* "QUOTA PERIOD" of version 2 ("max PERIOD" is none); the two files of version 1. */
static uint64_t cgroup_cpus(void)
{
	_cleanup_buf_ struct buf b = {};
	uint64_t quota, period;
	char *space;

	if (file_read_at(AT_FDCWD, "/sys/fs/cgroup/cpu.max", 256, &b) >= 0 && b.p) {
		b.p[strcspn(b.p, "\n")] = '\0';
		space = strchr(b.p, ' ');
		if (!space)
			return UINT64_MAX;
		*space++ = '\0';
		if (parse_u64(b.p, 1, UINT64_MAX / 2, &quota) < 0 || parse_u64(space, 1, UINT64_MAX / 2, &period) < 0)
			return UINT64_MAX;
	} else if (!read_number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", &quota) ||
		   !read_number("/sys/fs/cgroup/cpu/cpu.cfs_period_us", &period) || !quota || !period) {
		return UINT64_MAX;
	}
	return (quota + period - 1) / period;
}

void settings_host_read(struct settings_host *ret)
{
	uint64_t limit, quota = cgroup_cpus();
	struct sysinfo si = {};
	cpu_set_t set;

	(void)sysinfo(&si);
	*ret = (struct settings_host){ .cpus = 1,
				       .memory_bytes = (uint64_t)si.totalram * si.mem_unit,
				       .shared = SHARED };
	if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0)
		ret->cpus = (uint64_t)CPU_COUNT(&set);
	if (quota < ret->cpus)
		ret->cpus = quota;
	if ((read_number("/sys/fs/cgroup/memory.max", &limit) ||
	     read_number("/sys/fs/cgroup/memory/memory.limit_in_bytes", &limit)) &&
	    limit < CGROUP_UNLIMITED && limit < ret->memory_bytes) {
		ret->memory_bytes = limit;
		ret->limited = true;
	}
	ret->kvm = faccessat(AT_FDCWD, "/dev/kvm", R_OK | W_OK, AT_EACCESS) == 0;
}

/* ---- Each variable ---- */

struct reading {
	struct settings *s;
	const struct settings_host *host;
	const char *name, *value;
	struct strv *problems;
};

/* The value is shown unless @secret; control characters are not passed on. */
_printf_(2, 3) static void wrong(struct reading *r, const char *fmt, ...)
{
	va_list ap;
	char *why;

	va_start(ap, fmt);
	why = xvasprintf(fmt, ap);
	va_end(ap);
	strv_addf(r->problems, "%s: %s", r->name, why);
	free(why);
}

static void read_cpu(struct reading *r)
{
	if (parse_u64(r->value, 1, CPUS_MAX, &r->s->cpus) < 0)
		wrong(r, "'%.40s' is no number of CPUs: give 1 to %llu", r->value, (unsigned long long)r->host->cpus);
	else if (r->s->cpus > r->host->cpus)
		wrong(r,
		      "%llu are more than the %llu that this container has: give fewer, or raise `docker run --cpus`",
		      (unsigned long long)r->s->cpus, (unsigned long long)r->host->cpus);
}

static void read_memory(struct reading *r)
{
	/* With as much as the container has, the host would end the engine as soon as the guest has used it. */
	uint64_t most = r->host->memory_bytes;
	char a[16], b[16];

	if (r->host->limited)
		most = most > MEMORY_OVERHEAD + MEMORY_MIN ? most - MEMORY_OVERHEAD : MEMORY_MIN;
	if (parse_bytes(r->value, 1, &r->s->memory_bytes) < 0)
		wrong(r, "'%.40s' is no size: give 512m, 2g and the like", r->value);
	else if (r->s->memory_bytes < MEMORY_MIN)
		wrong(r, "%s are not enough for a machine: give 64m at least",
		      format_bytes(r->s->memory_bytes, a, sizeof(a)));
	else if (r->s->memory_bytes > most)
		wrong(r, "%s are more than the %s that this container may give it: give less%s",
		      format_bytes(r->s->memory_bytes, a, sizeof(a)), format_bytes(most, b, sizeof(b)),
		      r->host->limited ? ", or raise `docker run --memory`" : "");
}

static void read_storage(struct reading *r)
{
	if (parse_bytes(r->value, 1, &r->s->storage_bytes) < 0)
		wrong(r, "'%.40s' is no size: give 20g and the like", r->value);
	else if (r->s->storage_bytes < STORAGE_MIN || r->s->storage_bytes > STORAGE_MAX)
		wrong(r, "'%.40s' is no size of a disk: give 64m to 64t", r->value);
}

/* As useradd(8) and cloud-init take them. */
static void read_user(struct reading *r)
{
	const char *u = r->value;
	size_t n = strlen(u);

	if (n == 0 || n > USER_MAX || !(islower((unsigned char)*u) || *u == '_') ||
	    strspn(u, "abcdefghijklmnopqrstuvwxyz0123456789_-") != n)
		wrong(r, "'%.40s' is no user's name: give small letters, digits, - and _, beginning with a letter", u);
	else if (streq(u, "root"))
		wrong(r, "root cannot be it: give another name; it may use sudo");
	free(r->s->user);
	r->s->user = xstrdup(u);
}

static void read_password(struct reading *r)
{
	if (!*r->value)
		wrong(r, "it is empty: leave the variable out, and no password fits");
	else if (r->value[strcspn(r->value, "\n")])
		wrong(r, "it has more than one line");
	free(r->s->password);
	r->s->password = xstrdup(r->value);
}

static void all_wrong(struct reading *r, struct strv *wrongs)
{
	for (size_t i = 0; i < wrongs->n; i++)
		wrong(r, "%s", wrongs->items[i]);
	strv_done(wrongs);
}

static void read_keys(struct reading *r)
{
	struct strv wrongs = {};

	keys_parse(r->value, &r->s->ssh_keys, &wrongs);
	all_wrong(r, &wrongs);
}

static void read_network(struct reading *r)
{
	if (strcasecmp(r->value, "bridge") == 0)
		r->s->network = NETWORK_BRIDGE;
	else if (strcasecmp(r->value, "nat") != 0)
		wrong(r, "'%.40s' is none: give nat or bridge", r->value);
}

static void read_ports(struct reading *r)
{
	struct strv wrongs = {};

	/* NETWORK is read before. */
	if (r->s->network == NETWORK_BRIDGE)
		wrong(r, "with NETWORK=bridge every port is the guest's: leave it out");
	(void)relay_ports_parse(r->value, NULL, &r->s->ports, &wrongs);
	all_wrong(r, &wrongs);
}

static void read_dns(struct reading *r)
{
	struct strv wrongs = {};

	dns_parse(r->value, &r->s->dns, &r->s->dns_search, &wrongs);
	all_wrong(r, &wrongs);
}

static void read_share(struct reading *r)
{
	struct strv wrongs = {};

	if (strcasecmp(r->value, "no") != 0)
		shares_parse(r->value, &r->s->shares, &wrongs);
	all_wrong(r, &wrongs);
}

static void share_usual(const struct settings_host *host, struct settings *s)
{
	_cleanup_free_ char *inside = host->shared ? xasprintf("%s/.", host->shared) : NULL;

	if (inside && faccessat(AT_FDCWD, inside, F_OK, 0) == 0)
		strv_addf(&s->shares, "%s:" SHARED, host->shared);
}

static void read_engine_args(struct reading *r)
{
	struct strv wrongs = {};

	engine_args_parse(r->value, &r->s->engine_args, &wrongs);
	all_wrong(r, &wrongs);
}

/* As zones are called, not as POSIX describes them: the guest has a file of that name. */
static void read_timezone(struct reading *r)
{
	const char *z = r->value + (r->value[0] == ':');
	size_t n = strlen(z);

	if (n == 0 || n > TIMEZONE_MAX || !isalpha((unsigned char)z[0]) || strstr(z, "//") || z[n - 1] == '/' ||
	    strspn(z, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/_+-") != n)
		wrong(r, "'%.70s' is no time zone: give one as Europe/Berlin or Etc/UTC", r->value);
	free(r->s->timezone);
	r->s->timezone = xstrdup(z);
}

static void read_hostname(struct reading *r)
{
	const char *h = r->value;
	size_t n = strlen(h);
	bool good = n && n <= HOSTNAME_MAX && h[0] != '-' && h[n - 1] != '-';

	for (size_t i = 0; good && i < n; i++)
		good = isalnum((unsigned char)h[i]) || h[i] == '-';
	if (!good)
		wrong(r, "'%.70s' is no host name: give up to 63 letters, digits and -", h);
	free(r->s->hostname);
	r->s->hostname = xstrdup(h);
}

static void read_user_data(struct reading *r)
{
	_cleanup_error_ struct error e = {};
	_cleanup_buf_ struct buf b = {};
	int n = 0;

	/* The text itself, or where it is. */
	if (r->value[0] == '/')
		n = file_read_at(AT_FDCWD, r->value, SEED_USER_DATA_MAX + 1, &b);
	else
		buf_adds(&b, r->value);
	if (n < 0)
		wrong(r, "cannot read '%.200s': %s", r->value, strerror(-n));
	else if (seed_check_user_data(b.p ? b.p : "", b.len, "it", &e) < 0)
		wrong(r, "%s%s%s", e.msg, e.hint ? ": " : "", e.hint ? e.hint : "");
	free(r->s->user_data);
	r->s->user_data = buf_take(&b);
}

static bool is_digest(const char *fragment)
{
	const char *hex = after_prefix(fragment, "#sha256");

	return hex && (*hex == ':' || *hex == '=') && strlen(hex + 1) == 64 &&
	       strspn(hex + 1, "0123456789abcdefABCDEF") == 64;
}

static void read_boot(struct reading *r)
{
	const char *v = r->value, *path = after_prefix(v, "file://");
	bool web = after_prefix(v, "https://") || after_prefix(v, "http://");
	const char *mark = web ? strchr(v, '#') : NULL;

	if (path)
		v = path;
	if (mark && !is_digest(mark))
		wrong(r, "'%.80s' is no digest: give #sha256: and 64 hex digits", mark);
	for (const char *p = v; *p; p++)
		if ((unsigned char)*p <= ' ' && web) {
			wrong(r, "an address has no spaces in it: write %%20");
			break;
		}
	if (!web && !path && strstr(v, "://"))
		wrong(r, "'%.200s' cannot be fetched: give an address that begins with https://, or a path", v);
	else if (!web && v[0] != '/')
		wrong(r, "'%.200s' is neither an absolute path nor an address (https://…)", v);
	free(r->s->boot);
	r->s->boot = xstrdup(v);
}

/* Others call BIOS legacy. */
static void read_firmware(struct reading *r)
{
	if (strcasecmp(r->value, "legacy") == 0)
		r->s->firmware = FIRMWARE_BIOS;
	for (int i = 0; firmware_names[i]; i++)
		if (strcasecmp(r->value, firmware_names[i]) == 0)
			r->s->firmware = i;
	if (r->s->firmware < 0)
		wrong(r, "'%.40s' is none: give uefi, secure or bios", r->value);
}

static void read_stop(struct reading *r)
{
	if (parse_duration_ns(r->value, &r->s->stop_ns) < 0 || r->s->stop_ns < STOP_MIN || r->s->stop_ns > STOP_MAX)
		wrong(r, "'%.40s' is no time: give seconds, 3 to 3600, and less than `docker stop --time`", r->value);
}

static void read_accel(struct reading *r)
{
	enum accel a;

	if (accel_parse(r->value, &a) < 0)
		wrong(r, "'%.40s' is none: give auto, kvm or tcg", r->value);
	else
		r->s->accel = (int)a;
}

static void read_flag(struct reading *r, bool *ret)
{
	if (parse_bool(r->value, ret) < 0)
		wrong(r, "'%.40s' is neither yes nor no", r->value);
}

static void read_ephemeral(struct reading *r)
{
	read_flag(r, &r->s->ephemeral);
}

static void read_snapshot(struct reading *r)
{
	_cleanup_error_ struct error e = {};
	struct name name;

	if (name_parse(r->value, "it", &name, &e) < 0)
		wrong(r, "%s", e.msg);
	free(r->s->snapshot);
	r->s->snapshot = xstrdup(r->value);
}

static void read_debug(struct reading *r)
{
	read_flag(r, &r->s->debug);
}

static void read_console(struct reading *r)
{
	if (strcasecmp(r->value, "web") == 0)
		r->s->console_page = true;
	else if (strcasecmp(r->value, "log") != 0)
		wrong(r, "'%.40s' is none: give web for a page with the console, or log for the container's log alone",
		      r->value);
}

static void read_console_port(struct reading *r)
{
	uint64_t port;

	if (parse_u64(r->value, 1, UINT16_MAX, &port) < 0)
		wrong(r, "'%.40s' is no port: give 1 to 65535", r->value);
	else
		r->s->console_port = (uint16_t)port;
}

/* What stands in a URL as it is. */
static void read_console_token(struct reading *r)
{
	size_t n = strlen(r->value);

	if (n < TOKEN_MIN || n > TOKEN_MAX ||
	    strspn(r->value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~") != n)
		wrong(r,
		      "it is no token: give %d to %d letters, digits and -._~, or leave it out and take the one in the "
		      "log",
		      TOKEN_MIN, TOKEN_MAX);
	free(r->s->console_token);
	r->s->console_token = xstrdup(r->value);
}

/* What other images of this kind take: that it is not heeded must not be found out by surprise. */
static void refuse_vnc(struct reading *r)
{
	wrong(r, "there is no port for it: leave it out; the console is `docker attach`, and CONSOLE=web a page");
}

static const struct variable {
	const char *name;
	void (*read)(struct reading *r);
} variables[] = {
	{ "CPU", read_cpu },
	{ "MEMORY", read_memory },
	{ "STORAGE", read_storage },
	{ "USER", read_user },
	{ "PASSWORD", read_password },
	{ "SSH_KEYS", read_keys },
	{ "NETWORK", read_network },
	{ "PORTS", read_ports },
	{ "HOSTNAME_", read_hostname },
	{ "TZ", read_timezone },
	{ "DNS", read_dns },
	{ "SHARE", read_share },
	{ "QEMU_ARGS", read_engine_args },
	{ "USER_DATA", read_user_data },
	{ "BOOT", read_boot },
	{ "FIRMWARE", read_firmware },
	{ "EPHEMERAL", read_ephemeral },
	{ "SNAPSHOT", read_snapshot },
	{ "STOP_TIMEOUT", read_stop },
	{ "ACCEL", read_accel },
	{ "DEBUG", read_debug },
	{ "VNC", refuse_vnc },
	{ "CONSOLE", read_console },
	{ "CONSOLE_PORT", read_console_port },
	{ "CONSOLE_TOKEN", read_console_token },
};

static const char *lookup(char *const *environment, const char *name)
{
	size_t n = strlen(name);

	for (; *environment; environment++)
		if (strncmp(*environment, name, n) == 0 && (*environment)[n] == '=')
			return *environment + n + 1;
	return NULL;
}

/* NAME, or what is in the file that NAME_FILE names, without the line end that editors leave there. 1 = found. */
static int find_value(char *const *environment, const char *name, char **ret, struct strv *problems)
{
	_cleanup_free_ char *file_name = xasprintf("%s_FILE", name);
	const char *direct = lookup(environment, name), *path = lookup(environment, file_name);
	_cleanup_buf_ struct buf b = {};
	int r;

	if (!path || !*path) {
		/* An empty one is one that a compose file passes on without a value. */
		*ret = direct && *direct ? xstrdup(direct) : NULL;
		return *ret ? 1 : 0;
	}
	if (direct && *direct) {
		strv_addf(problems, "%s: both it and %s are set: give one of them", name, file_name);
		return 0;
	}
	r = file_read_at(AT_FDCWD, path, SEED_USER_DATA_MAX + 1, &b);
	if (r < 0) {
		strv_addf(problems, "%s: cannot read '%.200s': %s", file_name, path, strerror(-r));
		return 0;
	}
	while (b.len && (b.p[b.len - 1] == '\n' || b.p[b.len - 1] == '\r'))
		buf_truncate(&b, b.len - 1);
	if (b.len && memchr(b.p, '\0', b.len)) {
		strv_addf(problems, "%s: '%.200s' is no text", file_name, path);
		return 0;
	}
	*ret = b.len ? buf_take(&b) : xstrdup("");
	return 1;
}

/* What a machine has that says nothing about it. */
static uint64_t usual_memory(const struct settings_host *host, const struct settings *s)
{
	uint64_t beside = MEMORY_OVERHEAD + s->relay_bytes, left;

	left = host->memory_bytes > beside + MEMORY_MIN ? host->memory_bytes - beside : MEMORY_MIN;
	/* A limit says what the machine is meant to have; without one half of the host is somebody else's. */
	if (!host->limited)
		left = left / 2 < MEMORY_USUAL ? left / 2 : MEMORY_USUAL;
	if (host->limited && (s->accel == ACCEL_TCG || !host->kvm))
		left -= left / 5 < ENGINE_TRANSLATIONS_MAX ? left / 5 : ENGINE_TRANSLATIONS_MAX;
	return (left > MEMORY_MIN ? left : MEMORY_MIN) / MIB * MIB;
}

static void set_defaults(const struct settings_host *host, struct settings *s)
{
	/* What listens for the guest is counted to the container. */
	uint64_t relay = host->limited ? host->memory_bytes / RELAY_SHARE : 0;

	*s = (struct settings){
		.cpus = host->cpus < CPUS_USUAL ? host->cpus : CPUS_USUAL,
		.storage_bytes = STORAGE_USUAL,
		.user = xstrdup("user"),
		.stop_ns = STOP_USUAL,
		.accel = ACCEL_AUTO,
		.firmware = -1,
		.console_port = CONSOLE_PORT_USUAL,
		.relay_bytes = relay,
	};
}

/* What only two of them tell. */
static void check_together(const struct settings *s, struct strv *problems)
{
	for (size_t i = 0; s->network == NETWORK_NAT && i < s->dns.n; i++)
		if (strchr(s->dns.items[i], ':'))
			strv_addf(problems, "DNS: %s cannot be reached: with NETWORK=nat the guest has IPv4 only",
				  s->dns.items[i]);
	if (s->snapshot && s->ephemeral)
		strv_add(problems, "SNAPSHOT: with EPHEMERAL there are none: give one of them");
	if (s->console_page && relay_ports_has(&s->ports, false, s->console_port))
		strv_addf(problems,
			  "PORTS: %u is where the page of CONSOLE=web is: lead another port to the guest, or move the "
			  "page "
			  "with CONSOLE_PORT",
			  s->console_port);
}

void settings_read(char *const *environment, const struct settings_host *host, struct settings *ret,
		   struct strv *problems)
{
	bool share_told = false;

	set_defaults(host, ret);
	for (size_t i = 0; i < ARRAY_SIZE(variables); i++) {
		_cleanup_free_ char *value = NULL;

		if (find_value(environment, variables[i].name, &value, problems) > 0) {
			struct reading r = { ret, host, variables[i].name, value, problems };

			share_told |= *value && variables[i].read == read_share;
			variables[i].read(&r);
			explicit_bzero(value, strlen(value));
		}
	}
	if (!share_told)
		share_usual(host, ret);
	/* Nothing listens for whoever asks where the ports are listed, or where the guest has the addresses itself. */
	if (ret->ports.n || ret->network != NETWORK_NAT)
		ret->relay_bytes = 0;
	if (!ret->memory_bytes)
		ret->memory_bytes = usual_memory(host, ret);
	check_together(ret, problems);
}

/* "NAME=…" or "NAME_FILE=…" of a variable; TZ is for every program that tells the time. */
static bool is_setting(const char *assignment)
{
	for (size_t i = 0; i < ARRAY_SIZE(variables); i++) {
		const char *rest = after_prefix(assignment, variables[i].name);
		const char *of_file = rest ? after_prefix(rest, "_FILE") : NULL;

		if ((of_file && *of_file == '=') || (rest && *rest == '=' && !streq(variables[i].name, "TZ")))
			return true;
	}
	return false;
}

void settings_forget(char **environment)
{
	char **kept = environment;

	for (; *environment; environment++)
		if (is_setting(*environment))
			explicit_bzero(*environment, strlen(*environment));
		else
			*kept++ = *environment;
	*kept = NULL;
}

void settings_done(struct settings *s)
{
	if (s->password)
		explicit_bzero(s->password, strlen(s->password));
	if (s->console_token)
		explicit_bzero(s->console_token, strlen(s->console_token));
	free(s->console_token);
	free(s->password);
	free(s->user);
	free(s->hostname);
	free(s->user_data);
	free(s->boot);
	free(s->timezone);
	strv_done(&s->dns);
	strv_done(&s->dns_search);
	strv_done(&s->shares);
	strv_done(&s->engine_args);
	free(s->snapshot);
	strv_done(&s->ssh_keys);
	relay_ports_done(&s->ports);
	*s = (struct settings){};
}
