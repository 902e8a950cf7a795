#include "base/parse.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"

/* The real-time signals as the C library and other tools number them; the kernel has two more below, which it keeps for itself. */
enum { RT_MIN = 34, RT_MAX = 64 };

/* Reads the digits at *s and steps over them. Errors: -EINVAL when there is none, -ERANGE. */
static int digits(const char **s, uint64_t *ret)
{
	const char *p = *s;
	uint64_t v = 0;

	if (*p < '0' || *p > '9')
		return -EINVAL;
	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
			return -ERANGE;
	*s = p;
	*ret = v;
	return 0;
}

int parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *ret)
{
	uint64_t v;
	int r;

	if (!s || s[strspn(s, "0123456789")] != '\0')
		return -EINVAL;
	r = digits(&s, &v);
	if (r < 0)
		return r;
	if (v < min || v > max)
		return -ERANGE;
	*ret = v;
	return 0;
}

/* "", "K", "KB", "KiB" and "B" in either case. */
static int byte_unit(const char *s, uint64_t plain_unit, uint64_t *ret)
{
	static const char letters[] = "KMGT";
	uint64_t unit = 1;
	const char *l;

	if (!*s) {
		*ret = plain_unit;
		return 0;
	}
	for (l = letters; *l; l++) {
		unit <<= 10;
		if ((*s | 0x20) == (*l | 0x20))
			break;
	}
	if (*l) {
		s++;
		if (*s && strcasecmp(s, "B") != 0 && strcasecmp(s, "iB") != 0)
			return -EINVAL;
	} else if (strcasecmp(s, "B") == 0) {
		unit = 1;
	} else {
		return -EINVAL;
	}
	*ret = unit;
	return 0;
}

int parse_bytes(const char *s, uint64_t plain_unit, uint64_t *ret_bytes)
{
	uint64_t whole = 0, unit, v, part = 0, scale = 1;
	bool fraction = false, overflow;
	int r;

	if (!s)
		return -EINVAL;
	r = digits(&s, &whole);
	/* The rest is looked at first: "99999999999999999999x" is no number at all. */
	overflow = r == -ERANGE;
	if (overflow)
		s += strspn(s, "0123456789");
	else if (r < 0)
		return r;
	if (*s == '.') {
		const char *begin = ++s;

		/* Six digits keep part * unit below 2^64. */
		r = digits(&s, &part);
		if (r < 0 || s - begin > 6)
			return -EINVAL;
		for (; begin < s; begin++)
			scale *= 10;
		fraction = true;
	}
	r = byte_unit(s, plain_unit, &unit);
	if (r < 0)
		return r;
	if (fraction && (!*s || unit == 1))
		return -EINVAL;
	if (overflow || __builtin_mul_overflow(whole, unit, &v))
		return -ERANGE;
	if (fraction && __builtin_add_overflow(v, part * unit / scale, &v))
		return -ERANGE;
	*ret_bytes = v;
	return 0;
}

int parse_duration_ns(const char *s, uint64_t *ret_ns)
{
	static const struct {
		const char *suffix;
		uint64_t ns;
	} units[] = {
		{ "", NS_PER_SEC },       { "s", NS_PER_SEC },        { "ms", NS_PER_MS },
		{ "m", 60 * NS_PER_SEC }, { "h", 3600 * NS_PER_SEC },
	};
	const char *suffix;
	uint64_t v = 0;
	int r;

	if (!s)
		return -EINVAL;
	suffix = s + strspn(s, "0123456789");
	if (suffix == s)
		return -EINVAL;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(suffix, units[i].suffix) != 0)
			continue;
		r = digits(&s, &v);
		if (r < 0)
			return r;
		return __builtin_mul_overflow(v, units[i].ns, ret_ns) ? -ERANGE : 0;
	}
	return -EINVAL;
}

int parse_bool(const char *s, bool *ret)
{
	static const char *const words[2][4] = { { "no", "false", "off", "0" }, { "yes", "true", "on", "1" } };

	if (!s)
		return -EINVAL;
	for (int v = 0; v < 2; v++)
		for (int i = 0; i < 4; i++)
			if (strcmp(s, words[v][i]) == 0) {
				*ret = v;
				return 0;
			}
	return -EINVAL;
}

const char *format_bytes(uint64_t bytes, char *out, unsigned n)
{
	static const char *const names[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	unsigned i = 0;
	uint64_t whole = bytes, rest = 0, hundredths, step;

	for (; whole >= 1024 && i < 6; i++) {
		/* Keeps the ten bits below the point, and whether anything stands below those. */
		rest = (whole & 1023) << 1 | (rest != 0);
		whole >>= 10;
	}
	hundredths = whole * 100 + (rest * 100 + 1024) / 2048;
	step = hundredths >= 10000 ? 100 : hundredths >= 1000 ? 10 : 1;
	if (step > 1)
		hundredths = (whole * 100 + rest * 100 / 2048 + step / 2) / step * step;
	if (hundredths >= 102400 && i < 6) {
		hundredths = 100;
		i++;
	}
	if (hundredths % 100 == 0)
		snprintf(out, n, "%llu %s", (unsigned long long)hundredths / 100, names[i]);
	else if (hundredths % 10 == 0)
		snprintf(out, n, "%llu.%llu %s", (unsigned long long)hundredths / 100,
			 (unsigned long long)hundredths % 100 / 10, names[i]);
	else
		snprintf(out, n, "%llu.%02llu %s", (unsigned long long)hundredths / 100,
			 (unsigned long long)hundredths % 100, names[i]);
	return out;
}

const char *format_age(uint64_t seconds, char *out, unsigned n)
{
	unsigned long long s = seconds;

	if (s < 60)
		snprintf(out, n, "%llu s", s);
	else if (s < 3600)
		snprintf(out, n, "%llu min", s / 60);
	else if (s < 86400)
		snprintf(out, n, "%llu h", s / 3600);
	else
		snprintf(out, n, "%llu d", s / 86400);
	return out;
}

int signal_parse(const char *s)
{
	static const struct {
		const char *name;
		int number;
	} names[] = {
		{ "HUP", SIGHUP },   { "INT", SIGINT },       { "QUIT", SIGQUIT }, { "ILL", SIGILL },
		{ "TRAP", SIGTRAP }, { "ABRT", SIGABRT },     { "BUS", SIGBUS },   { "FPE", SIGFPE },
		{ "KILL", SIGKILL }, { "USR1", SIGUSR1 },     { "SEGV", SIGSEGV }, { "USR2", SIGUSR2 },
		{ "PIPE", SIGPIPE }, { "ALRM", SIGALRM },     { "TERM", SIGTERM }, { "STKFLT", SIGSTKFLT },
		{ "CHLD", SIGCHLD }, { "CONT", SIGCONT },     { "STOP", SIGSTOP }, { "TSTP", SIGTSTP },
		{ "TTIN", SIGTTIN }, { "TTOU", SIGTTOU },     { "URG", SIGURG },   { "XCPU", SIGXCPU },
		{ "XFSZ", SIGXFSZ }, { "VTALRM", SIGVTALRM }, { "PROF", SIGPROF }, { "WINCH", SIGWINCH },
		{ "IO", SIGIO },     { "PWR", SIGPWR },       { "SYS", SIGSYS },   { "RTMIN", RT_MIN },
		{ "RTMAX", RT_MAX },
	};
	const char *name = strncasecmp(s, "SIG", 3) == 0 ? s + 3 : s;
	uint64_t n;

	if (parse_u64(s, 1, RT_MAX, &n) >= 0)
		return (int)n;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcasecmp(name, names[i].name) == 0)
			return names[i].number;
	if (strncasecmp(name, "RTMIN+", 6) == 0 && parse_u64(name + 6, 0, RT_MAX - RT_MIN, &n) >= 0)
		return RT_MIN + (int)n;
	if (strncasecmp(name, "RTMAX-", 6) == 0 && parse_u64(name + 6, 0, RT_MAX - RT_MIN, &n) >= 0)
		return RT_MAX - (int)n;
	return -EINVAL;
}
