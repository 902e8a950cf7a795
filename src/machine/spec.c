#include "machine/spec.h"

#include <sched.h>
#include <sys/sysinfo.h>

#include "base/parse.h"
#include "machine/share.h"
#include "net/net.h"

static const char *const shape_names[] = { "micro", "full", NULL };
static const char *const accel_names[] = { "auto", "kvm", "tcg", NULL };
static const char *const restart_names[] = { "no", "on-failure", "always", NULL };

#define FIELD(k, t, m, ...)                                           \
	{                                                             \
		k, t, offsetof(struct machine_spec, m), ##__VA_ARGS__ \
	}
const struct json_field machine_spec_fields[] = {
	FIELD("name", JSON_STRING, name, JSON_REQUIRED),
	FIELD("id", JSON_STRING, id, JSON_REQUIRED),
	FIELD("image", JSON_STRING, image),
	FIELD("image_digest", JSON_STRING, image_digest, JSON_REQUIRED),
	FIELD("blank_digest", JSON_STRING, blank_digest),
	FIELD("home_digest", JSON_STRING, home_digest),
	FIELD("cpus", JSON_U64, cpus),
	FIELD("memory_bytes", JSON_U64, memory_bytes),
	FIELD("disk_bytes", JSON_U64, disk_bytes),
	FIELD("home_bytes", JSON_U64, home_bytes),
	FIELD("kernel", JSON_STRING, kernel),
	FIELD("shape", JSON_ENUM, shape, .names = shape_names),
	FIELD("accel", JSON_ENUM, accel, .names = accel_names),
	FIELD("firmware", JSON_ENUM, firmware, .names = firmware_names),
	FIELD("net", JSON_STRING, net),
	FIELD("forwards", JSON_BOOL, forwards),
	FIELD("kept_port", JSON_U64, kept_port),
	FIELD("display", JSON_BOOL, display),
	FIELD("publish", JSON_STRINGS, publish),
	FIELD("ssh_keys", JSON_STRINGS, ssh_keys),
	FIELD("user", JSON_STRING, user),
	FIELD("hostname", JSON_STRING, hostname),
	FIELD("dns", JSON_STRINGS, dns),
	FIELD("dns_search", JSON_STRINGS, dns_search),
	FIELD("timezone", JSON_STRING, timezone),
	FIELD("shares", JSON_STRINGS, shares),
	FIELD("engine_args", JSON_STRINGS, engine_args),
	FIELD("workdir", JSON_STRING, workdir),
	FIELD("stop_signal", JSON_STRING, stop_signal),
	FIELD("restart", JSON_ENUM, restart, .names = restart_names),
	FIELD("restart_max", JSON_U64, restart_max),
	FIELD("env", JSON_STRINGS, env),
	FIELD("labels", JSON_MAP, labels),
	FIELD("command", JSON_STRINGS, command),
	FIELD("terminal", JSON_BOOL, terminal),
	FIELD("interactive", JSON_BOOL, interactive),
	FIELD("remove", JSON_BOOL, remove),
	FIELD("draft", JSON_STRING, draft),
	FIELD("installer", JSON_STRING, installer),
	FIELD("answers", JSON_BOOL, answers),
	FIELD("created_ns", JSON_U64, created_ns),
	{},
};

void machine_spec_init(struct machine_spec *s)
{
	*s = (struct machine_spec){ .cpus = 1, .shape = SHAPE_MICRO, .accel = ACCEL_AUTO, .net = xstrdup("user") };
}

void machine_spec_done(struct machine_spec *s)
{
	json_fields_done(machine_spec_fields, s);
	if (s->password)
		explicit_bzero(s->password, strlen(s->password));
	free(s->password);
	free(s->user_data);
	free(s->answers_path);
	s->password = s->user_data = s->answers_path = NULL;
}

/* The memory that this process may use: the host's, or less in a cgroup; the cgroup is not asked, as limits change. */
static uint64_t host_memory(void)
{
	struct sysinfo si;

	return sysinfo(&si) == 0 ? (uint64_t)si.totalram * si.mem_unit : UINT64_MAX;
}

static uint64_t host_cpus(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 ? (uint64_t)CPU_COUNT(&set) : 1;
}

static int check_assignments(const struct strv *v, const char *option, struct error *err)
{
	for (size_t i = 0; i < v->n; i++) {
		const char *eq = strchr(v->items[i], '=');

		if (!eq || eq == v->items[i])
			return error_set_kind(err, ERROR_USAGE, EINVAL, "%s '%s': expected KEY=VALUE", option,
					      v->items[i]);
	}
	return 0;
}

/* What the guest takes (guest/bootconfig.c): a value that it refuses would end its boot, far from whoever could mend it. */
static int check_env(const struct strv *env, struct error *err)
{
	size_t bytes = 0;

	if (env->n > MACHINE_ENV_MAX)
		return error_set_kind(err, ERROR_USAGE, EINVAL, "--env: more than %d variables", MACHINE_ENV_MAX);
	for (size_t i = 0; i < env->n; i++)
		bytes += strlen(env->items[i]) + 1;
	if (bytes > MACHINE_ENV_BYTES_MAX)
		return error_set_kind(err, ERROR_USAGE, EINVAL, "--env: more than %d KiB in all",
				      MACHINE_ENV_BYTES_MAX >> 10);
	return check_assignments(env, "--env", err);
}

/* NAME or a number, :GROUP behind it. */
static int check_user(const char *user, struct error *err)
{
	static const char set[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
	size_t n = strcspn(user, ":");

	if (n > 32 || strspn(user, set) != n || strspn(user, "-."))
		return error_set_kind(err, ERROR_USAGE, EINVAL,
				      "--user '%s': expected up to 32 of A-Z a-z 0-9 _ . -, not with '-' or '.' first",
				      user);
	user += n;
	if (*user && (strlen(user + 1) > 32 || strspn(user + 1, set) != strlen(user + 1)))
		return error_set_kind(err, ERROR_USAGE, EINVAL, "--user: '%s' is no group", user + 1);
	return 0;
}

static int check_size(uint64_t bytes, uint64_t min, const char *option, struct error *err)
{
	char a[16];

	if (bytes && bytes < min)
		return error_set_kind(err, ERROR_USAGE, EINVAL, "%s: at least %s is needed", option,
				      format_bytes(min, a, sizeof(a)));
	if (bytes > (UINT64_C(1) << 46))
		return error_set_kind(err, ERROR_USAGE, EINVAL, "%s: larger than 64 TiB", option);
	return 0;
}

static bool printable(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return false;
	return true;
}

static bool same_listener(const struct net_publish *a, const struct net_publish *b)
{
	bool everywhere = !*a->ip || !*b->ip || streq(a->ip, "0.0.0.0") || streq(b->ip, "0.0.0.0");

	return a->host_port && a->host_port == b->host_port && a->udp == b->udp && (everywhere || streq(a->ip, b->ip));
}

static int check_publish(const struct machine_spec *s, struct error *err)
{
	_cleanup_free_ struct net_publish *p = xnew_n(struct net_publish, s->publish.n + 1);

	for (size_t i = 0; i < s->publish.n; i++) {
		int r = net_publish_parse(s->publish.items[i], &p[i], err);

		if (r < 0)
			return r;
		if (streq(s->net, "user") && strchr(p[i].ip, ':')) {
			error_set_kind(err, ERROR_USAGE, EAFNOSUPPORT, "--publish %s: network mode 'user' is IPv4 only",
				       s->publish.items[i]);
			return error_hint(err, "publish on an IPv4 address: 127.0.0.1, 0.0.0.0");
		}
		for (size_t k = 0; k < i; k++)
			if (same_listener(&p[k], &p[i]))
				return error_set_kind(err, ERROR_USAGE, EINVAL,
						      "--publish %s: port %u is published already, by %s",
						      s->publish.items[i], p[i].host_port, s->publish.items[k]);
	}
	return 0;
}

int machine_spec_check(const struct machine_spec *s, struct error *err)
{
	uint64_t cpus = host_cpus(), memory = host_memory();
	char a[16];
	int r;

	if (s->cpus < 1)
		return error_set_kind(err, ERROR_USAGE, EINVAL, "--cpus: at least 1 is needed");
	if (s->cpus > cpus)
		return error_set_kind(err, ERROR_USAGE, EINVAL, "--cpus %llu: this host has %llu",
				      (unsigned long long)s->cpus, (unsigned long long)cpus);
	if (s->memory_bytes && s->memory_bytes < (UINT64_C(64) << 20))
		return error_set_kind(err, ERROR_USAGE, EINVAL, "--memory %s: at least 64 MiB is needed",
				      format_bytes(s->memory_bytes, a, sizeof(a)));
	if (s->memory_bytes > memory) {
		char b[16];

		return error_set_kind(err, ERROR_USAGE, EINVAL, "--memory %s: this host has %s",
				      format_bytes(s->memory_bytes, a, sizeof(a)), format_bytes(memory, b, sizeof(b)));
	}
	r = check_size(s->disk_bytes, UINT64_C(1) << 20, "--disk", err);
	if (r >= 0)
		r = check_size(s->home_bytes, UINT64_C(16) << 20, "--home", err);
	if (r < 0)
		return r;
	if (!net_mode_find(s->net)) {
		error_set_kind(err, ERROR_USAGE, EINVAL, "--net '%s': no such mode", s->net);
		return error_hint(err, "modes: user, none");
	}
	if (s->kept_port > UINT16_MAX || (s->kept_port && !streq(s->net, "container")))
		return error_set_kind(err, ERROR_USAGE, EINVAL, "kept port %llu: there is none in network mode '%s'",
				      (unsigned long long)s->kept_port, s->net);
	if (s->publish.n && streq(s->net, "none"))
		return error_set_kind(err, ERROR_USAGE, EINVAL, "--publish: needs a network, and --net is none");
	r = check_publish(s, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < s->shares.n; i++) {
		_cleanup_(share_done) struct share share = {};

		r = share_parse(s->shares.items[i], &share, err);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < s->ssh_keys.n; i++)
		if (!printable(s->ssh_keys.items[i]))
			return error_set_kind(err, ERROR_USAGE, EINVAL, "--ssh-key: not a public key line");
	if (s->kernel) {
		struct name n;

		r = name_parse(s->kernel, "kernel name", &n, err);
		if (r < 0)
			return r;
	}
	if (s->workdir && s->workdir[0] != '/')
		return error_set_kind(err, ERROR_USAGE, EINVAL, "--workdir '%s': must begin with '/'", s->workdir);
	if (s->stop_signal && signal_parse(s->stop_signal) < 0)
		return error_set_kind(err, ERROR_USAGE, EINVAL, "--stop-signal '%s': no such signal", s->stop_signal);
	if (s->publish_all && streq(s->net, "none"))
		return error_set_kind(err, ERROR_USAGE, EINVAL, "--publish-all: needs a network, and --net is none");
	r = s->user && *s->user ? check_user(s->user, err) : 0;
	if (r >= 0)
		r = check_env(&s->env, err);
	return r < 0 ? r : check_assignments(&s->labels, "--label", err);
}

int restart_policy_parse(const char *s, int *ret, uint64_t *ret_max)
{
	const char *n;

	*ret_max = 0;
	for (int i = 0; restart_names[i]; i++)
		if (streq(s, restart_names[i])) {
			*ret = i;
			return 0;
		}
	n = after_prefix(s, "on-failure:");
	if (!n || parse_u64(n, 1, 1000000, ret_max) < 0)
		return -EINVAL;
	*ret = RESTART_ON_FAILURE;
	return 0;
}

char *restart_policy_format(int policy, uint64_t max)
{
	if (policy == RESTART_ON_FAILURE && max)
		return xasprintf("on-failure:%llu", (unsigned long long)max);
	return xstrdup(restart_names[policy >= 0 && policy < RESTART_MAX ? policy : RESTART_NO]);
}
