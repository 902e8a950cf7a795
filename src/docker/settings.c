#include "docker/settings.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/sysinfo.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/parse.h"
#include "disk/seed.h"

#define MIB              (UINT64_C(1) << 20)
#define GIB              (UINT64_C(1) << 30)
#define MEMORY_MIN       (64 * MIB)
#define MEMORY_USUAL     (2 * GIB)
#define MEMORY_OVERHEAD  (160 * MIB)
#define STORAGE_USUAL    (20 * GIB)
#define STORAGE_MIN      (64 * MIB)
#define STORAGE_MAX      (UINT64_C(1) << 46)
#define STOP_USUAL       (8 * NS_PER_SEC)
#define STOP_MIN         (3 * NS_PER_SEC)
#define STOP_MAX         (3600 * NS_PER_SEC)
#define CGROUP_UNLIMITED (UINT64_C(1) << 60)
enum { RELAY_SHARE = 16, CPUS_USUAL = 2, CPUS_MAX = 1024, HOSTNAME_MAX = 63, USER_MAX = 32 };

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
	*ret = (struct settings_host){ .cpus = 1, .memory_bytes = (uint64_t)si.totalram * si.mem_unit };
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
	uint64_t most = r->host->memory_bytes;
	char a[16], b[16];

	if (parse_bytes(r->value, 1, &r->s->memory_bytes) < 0)
		wrong(r, "'%.40s' is no size: give 512m, 2g and the like", r->value);
	else if (r->s->memory_bytes < MEMORY_MIN)
		wrong(r, "%s are not enough for a machine: give 64m at least",
		      format_bytes(r->s->memory_bytes, a, sizeof(a)));
	else if (r->s->memory_bytes > most)
		wrong(r, "%s are more than the %s that this container may use: give less%s",
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

static bool key_type(const char *line)
{
	static const char *const types[] = { "ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-" };

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (after_prefix(line, types[i]))
			return true;
	return false;
}

/* One a line, or with commas between; a comma inside of options (in quotes) would have to be on a line of its own. */
static void read_keys(struct reading *r)
{
	_cleanup_free_ char *text = xstrdup(r->value);
	char *save = NULL;

	for (char *k = strtok_r(text, ",\n\r", &save); k; k = strtok_r(NULL, ",\n\r", &save)) {
		k += strspn(k, " \t");
		if (!*k || *k == '#')
			continue;
		if (!key_type(k) || !strchr(k, ' '))
			wrong(r, "'%.30s…' is no public key: give lines of an id_….pub or authorized_keys file", k);
		else
			strv_add(&r->s->ssh_keys, k);
	}
}

static void read_network(struct reading *r)
{
	if (strcasecmp(r->value, "bridge") == 0)
		wrong(r,
		      "this version does not have 'bridge': leave it out, published ports reach the guest without it");
	else if (strcasecmp(r->value, "nat") != 0)
		wrong(r, "'%.40s' is none: give nat", r->value);
}

static void read_ports(struct reading *r)
{
	struct strv wrongs = {};

	(void)relay_ports_parse(r->value, NULL, &r->s->ports, &wrongs);
	for (size_t i = 0; i < wrongs.n; i++)
		wrong(r, "%s", wrongs.items[i]);
	strv_done(&wrongs);
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

static void read_boot(struct reading *r)
{
	if (strstr(r->value, "://"))
		wrong(r, "disks are not fetched from '%.200s': give the path of one that is mounted", r->value);
	else if (r->value[0] != '/')
		wrong(r, "'%.200s' is no absolute path", r->value);
	free(r->s->boot);
	r->s->boot = xstrdup(r->value);
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

static void read_debug(struct reading *r)
{
	read_flag(r, &r->s->debug);
}

/* What other images of this kind take: that it is not heeded must not be found out by surprise. */
static void refuse(struct reading *r)
{
	wrong(r, "this version does not have it: leave it out");
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
	{ "USER_DATA", read_user_data },
	{ "BOOT", read_boot },
	{ "EPHEMERAL", read_ephemeral },
	{ "STOP_TIMEOUT", read_stop },
	{ "ACCEL", read_accel },
	{ "DEBUG", read_debug },
	{ "VNC", refuse },
	{ "CONSOLE", refuse },
	{ "DNS", refuse },
	{ "FIRMWARE", refuse },
	{ "QEMU_ARGS", refuse },
	{ "SHARE", refuse },
	{ "SNAPSHOT", refuse },
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

static void set_defaults(const struct settings_host *host, struct settings *s)
{
	/* What listens for the guest is counted to the container. */
	uint64_t relay = host->limited ? host->memory_bytes / RELAY_SHARE : 0;
	uint64_t beside = MEMORY_OVERHEAD + relay;
	uint64_t left = host->memory_bytes > beside + MEMORY_MIN ? host->memory_bytes - beside : MEMORY_MIN;

	/* A limit says what the machine is meant to have; without one half of the host is somebody else's. */
	if (!host->limited)
		left = left / 2 < MEMORY_USUAL ? left / 2 : MEMORY_USUAL;
	*s = (struct settings){
		.cpus = host->cpus < CPUS_USUAL ? host->cpus : CPUS_USUAL,
		.memory_bytes = left / MIB * MIB,
		.storage_bytes = STORAGE_USUAL,
		.user = xstrdup("user"),
		.stop_ns = STOP_USUAL,
		.accel = ACCEL_AUTO,
		.relay_bytes = relay,
	};
}

void settings_read(char *const *environment, const struct settings_host *host, struct settings *ret,
		   struct strv *problems)
{
	set_defaults(host, ret);
	for (size_t i = 0; i < ARRAY_SIZE(variables); i++) {
		_cleanup_free_ char *value = NULL;

		if (find_value(environment, variables[i].name, &value, problems) > 0) {
			struct reading r = { ret, host, variables[i].name, value, problems };

			variables[i].read(&r);
			explicit_bzero(value, strlen(value));
		}
	}
}

void settings_done(struct settings *s)
{
	if (s->password)
		explicit_bzero(s->password, strlen(s->password));
	free(s->password);
	free(s->user);
	free(s->hostname);
	free(s->user_data);
	free(s->boot);
	strv_done(&s->ssh_keys);
	relay_ports_done(&s->ports);
	*s = (struct settings){};
}
