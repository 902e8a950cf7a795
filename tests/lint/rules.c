#include "rules.h"

#include <errno.h>
#include <regex.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/memory.h"

/* Which room may include which: design "Rooms". A room may always include itself. The generated headers of proto/ go where wire/ goes. */
#define BELOW_STORE   " json wire base "
#define BELOW_MACHINE " store" BELOW_STORE
#define BELOW_DOORS   " machine engine net disk image confine" BELOW_MACHINE
static const struct {
	const char *room, *may;
} arrows[] = {
	{ "base", " " },
	{ "confine", " base " },
	{ "wire", " base " },
	{ "json", " base " },
	{ "guest", " wire base " },
	{ "store", BELOW_STORE },
	{ "engine", BELOW_MACHINE },
	{ "net", BELOW_MACHINE },
	{ "disk", BELOW_MACHINE },
	{ "image", BELOW_MACHINE },
	{ "machine", " engine net disk image" BELOW_MACHINE },
	{ "cli", BELOW_DOORS },
	{ "docker", BELOW_DOORS },
	{ "shim", BELOW_DOORS },
	{ "libvirt", BELOW_DOORS },
	{ "api", BELOW_DOORS },
};

void report_add(struct report *r, const struct source *s, size_t offset, const char *fmt, ...)
{
	va_list ap;

	if (offset != SIZE_MAX && source_excused(s, offset))
		return;
	buf_addf(&r->out, "%s:%zu: ", s->path, offset == SIZE_MAX ? 1 : source_line(s, offset));
	va_start(ap, fmt);
	buf_vaddf(&r->out, fmt, ap);
	va_end(ap);
	buf_addc(&r->out, '\n');
	r->findings++;
}

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && streq(s + n - m, end);
}

static bool in_dir(const struct source *s, const char *dir)
{
	return after_prefix(s->path, dir) != NULL;
}

/* Our own code, where all rules hold; tests may be cruder. */
static bool is_product(const struct source *s)
{
	return in_dir(s, "src/") && (ends_with(s->path, ".c") || ends_with(s->path, ".h"));
}

static bool is_code(const struct source *s)
{
	return ends_with(s->path, ".c") || ends_with(s->path, ".h");
}

/* "src/base/buf.c" -> "base". Owned by the caller; NULL outside src/. */
static char *room_of(const char *path)
{
	const char *room = after_prefix(path, "src/"), *slash = room ? strchr(room, '/') : NULL;

	return slash ? xstrndup(room, (size_t)(slash - room)) : NULL;
}

static const char *room_may(const char *room)
{
	for (size_t i = 0; i < ARRAY_SIZE(arrows); i++)
		if (streq(arrows[i].room, room))
			return arrows[i].may;
	return NULL;
}

static bool has_word(const char *list, const char *word)
{
	_cleanup_free_ char *spaced = xasprintf(" %s ", word);

	return strstr(list, spaced) != NULL;
}

/* Calls @fn for every #include: @name is what stands between the quotes or brackets. */
static void each_include(const struct source *s, struct report *r,
			 void (*fn)(const struct source *, struct report *, size_t, const char *, bool, size_t))
{
	size_t n = 0;

	for (const char *p = s->words.p; p && *p; p = strchr(p, '\n'), p += p != NULL) {
		const char *q = p + strspn(p, " \t"), *end;
		bool quoted;

		if (*q != '#')
			continue;
		q += 1 + strspn(q + 1, " \t");
		q = after_prefix(q, "include");
		if (!q)
			continue;
		q += strspn(q, " \t");
		quoted = *q == '"';
		end = *q ? strpbrk(q + 1, "\">\n") : NULL;
		if (end && *end != '\n') {
			_cleanup_free_ char *name = xstrndup(q + 1, (size_t)(end - q - 1));

			fn(s, r, (size_t)(p - s->words.p), name, quoted, n++);
		}
	}
}

static void arrow(const struct source *s, struct report *r, size_t at, const char *name, bool quoted, size_t n)
{
	_cleanup_free_ char *room = room_of(s->path), *to = NULL;
	const char *may = room ? room_may(room) : NULL, *slash = strchr(name, '/');

	(void)n;
	if (!quoted || !room)
		return;
	if (!may) {
		report_add(r, s, at, "room '%s' is not in the table of arrows", room);
		return;
	}
	if (ends_with(name, ".pb-c.h")) {
		if (!streq(room, "wire") && !has_word(may, "wire"))
			report_add(r, s, at, "'%s' may not use the messages of wire: %s", room, name);
		return;
	}
	to = slash ? xstrndup(name, (size_t)(slash - name)) : NULL;
	if (!to)
		report_add(r, s, at, "include by room, \"%s/%s\"", room, name);
	else if (!streq(to, room) && !has_word(may, to))
		report_add(r, s, at, "'%s' may not include '%s'", room, name);
}

static void check_arrows(const struct source *s, struct report *r)
{
	if (is_product(s))
		each_include(s, r, arrow);
}

static void first_include(const struct source *s, struct report *r, size_t at, const char *name, bool quoted, size_t n)
{
	_cleanup_free_ char *own = xasprintf("%.*s.h", (int)(strlen(s->path) - strlen("src/.c")), s->path + 4);

	if (n == 0 && !(quoted && streq(name, own)))
		report_add(r, s, at, "the first include is not the own header \"%s\"", own);
}

static void check_own_header(const struct source *s, struct report *r)
{
	if (is_product(s) && ends_with(s->path, ".c") && s->has_header)
		each_include(s, r, first_include);
}

static void musl_include(const struct source *s, struct report *r, size_t at, const char *name, bool quoted, size_t n)
{
	static const char *const absent[] = { "argp.h", "error.h", "sys/pidfd.h", "execinfo.h", "gnu/libc-version.h" };

	(void)n;
	for (size_t i = 0; i < ARRAY_SIZE(absent); i++)
		if (!quoted && streq(name, absent[i]))
			report_add(r, s, at, "<%s> does not exist in the guest's C library", name);
}

static void check_musl(const struct source *s, struct report *r)
{
	if (in_dir(s, "src/base/") || in_dir(s, "src/wire/") || in_dir(s, "src/guest/"))
		each_include(s, r, musl_include);
}

static void check_pragma_once(const struct source *s, struct report *r)
{
	if (is_code(s) && ends_with(s->path, ".h") && !strstr(s->code.p, "#pragma once"))
		report_add(r, s, SIZE_MAX, "no #pragma once");
}

static bool has_main(const struct source *s)
{
	return strstr(s->code.p, "\nint main(") || after_prefix(s->code.p, "int main(");
}

static void ban(const struct source *s, struct report *r, const char *id, bool call, const char *why)
{
	for (long at = 0; (at = source_identifier(&s->code, id, (size_t)at)) >= 0; at++)
		if (!call || source_call_end(&s->code, (size_t)at + strlen(id)) > 0)
			report_add(r, s, (size_t)at, "%s: %s", id, why);
}

static void check_banned(const struct source *s, struct report *r)
{
	static const struct {
		const char *id, *why;
	} banned[] = {
		{ "sprintf", "no bound; buf_addf or snprintf" },
		{ "vsprintf", "no bound; buf_vaddf" },
		{ "strcpy", "no bound; xstrdup or snprintf" },
		{ "stpcpy", "no bound; buf_adds" },
		{ "strcat", "no bound; buf_adds" },
		{ "strncpy", "does not always end the string; snprintf" },
		{ "strncat", "bound easily mistaken; buf_add" },
		{ "strtok", "hidden state; strchr or a cursor" },
		{ "gets", "no bound" },
		{ "system", "a shell; spawn_start" },
		{ "popen", "a shell; spawn_run" },
		{ "basename", "two functions of that name; strrchr" },
		{ "dirname", "changes its argument" },
		{ "tmpnam", "races; file_write_at or mkostemp" },
		{ "mktemp", "races; mkostemp" },
		{ "setjmp", "skips scoped clean-up" },
	};
	static const char *const numbers[] = { "atoi",      "atol",      "atoll",    "atof",   "strtol",
					       "strtoul",   "strtoll",   "strtoull", "strtod", "strtof",
					       "strtoimax", "strtoumax", "sscanf",   "scanf",  "fscanf" };

	if (!is_code(s))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(banned); i++)
		ban(s, r, banned[i].id, true, banned[i].why);
	if (!streq(s->path, "src/base/parse.c"))
		for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
			ban(s, r, numbers[i], true, "takes half a number; base/parse.h");
	ban(s, r, "PATH_MAX", false, "no path has a greatest length; buf or xasprintf");
	if (is_product(s) && !has_main(s))
		ban(s, r, "exit", true, "only main ends the program; return an error");
	for (long at = 0; (at = source_identifier(&s->code, "signal", (size_t)at)) >= 0; at++) {
		long end = source_call_end(&s->code, (size_t)at + strlen("signal"));
		_cleanup_free_ char *call = end > 0 ? xstrndup(s->code.p + at, (size_t)(end - at)) : NULL;

		if (call && !strstr(call, "SIG_IGN") && !strstr(call, "SIG_DFL"))
			report_add(r, s, (size_t)at, "signal: a handler races; the loop has signalfd");
	}
	for (const char *p = s->words.p; p && (p = strstr(p, "\"sh\"")); p++) {
		const char *rest = p + 4 + strspn(p + 4, " \t\n");

		if (*rest == ',' && after_prefix(rest + 1 + strspn(rest + 1, " \t\n"), "\"-c\""))
			report_add(r, s, (size_t)(p - s->words.p), "sh -c: an argv, never a shell");
	}
}

static void check_sleep(const struct source *s, struct report *r)
{
	static const char *const sleeps[] = { "sleep", "usleep", "nanosleep", "clock_nanosleep" };

	if (!is_code(s))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(sleeps); i++)
		ban(s, r, sleeps[i], true, "wait for the event, with a deadline");
	for (long at = 0; (at = source_identifier(&s->code, "poll", (size_t)at)) >= 0; at++)
		if (after_prefix(s->code.p + at, "poll(NULL, 0,"))
			report_add(r, s, (size_t)at, "poll on nothing is a sleep; wait for the event, with a deadline");
}

static void check_cloexec(const struct source *s, struct report *r)
{
	static const char *const flagged[] = { "open",     "openat",         "socket",       "socketpair",
					       "accept4",  "pipe2",          "memfd_create", "eventfd",
					       "signalfd", "timerfd_create", "mkostemp" };
	static const char *const bare[] = { "accept",  "pipe",         "dup",          "creat",
					    "mkstemp", "epoll_create", "inotify_init", "tmpfile" };

	if (!is_product(s) && !in_dir(s, "bench/"))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(bare); i++)
		ban(s, r, bare[i], true, "descriptor without CLOEXEC at birth");
	ban(s, r, "F_DUPFD", false, "F_DUPFD_CLOEXEC");
	for (size_t i = 0; i < ARRAY_SIZE(flagged); i++)
		for (long at = 0; (at = source_identifier(&s->code, flagged[i], (size_t)at)) >= 0; at++) {
			long end = source_call_end(&s->code, (size_t)at + strlen(flagged[i]));
			_cleanup_free_ char *call = end > 0 ? xstrndup(s->code.p + at, (size_t)(end - at)) : NULL;

			/* A declaration and a function pointer's call have no flags to look at. */
			if (call && !strstr(call, "CLOEXEC") && (at == 0 || !strchr(">.*", s->code.p[at - 1])))
				report_add(r, s, (size_t)at, "%s without CLOEXEC", flagged[i]);
		}
	for (long at = 0; (at = source_identifier(&s->code, "fopen", (size_t)at)) >= 0; at++) {
		long end = source_call_end(&s->code, (size_t)at + strlen("fopen"));
		_cleanup_free_ char *call = end > 0 ? xstrndup(s->words.p + at, (size_t)(end - at)) : NULL;
		const char *mode = call ? strrchr(call, ',') : NULL;

		if (mode && !strchr(mode, 'e'))
			report_add(r, s, (size_t)at, "fopen without mode \"e\"");
	}
}

static void check_printed_json(const struct source *s, struct report *r)
{
	static const char *const marks[] = { "{\\\"", "[\\\"", "\\\":", "\\\" :" };

	if (!is_product(s) || in_dir(s, "src/json/"))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(marks); i++)
		for (const char *p = s->words.p; (p = strstr(p, marks[i])); p++)
			report_add(r, s, (size_t)(p - s->words.p), "JSON in a string; build it with json/json.h");
}

struct word {
	regex_t re;
	char *text; /* owned */
};
static struct word *words;
static size_t n_words;

int rules_load_words(const char *text, const char **ret_bad)
{
	for (const char *p = text; *p;) {
		size_t n = strcspn(p, "\n");
		_cleanup_free_ char *line = xstrndup(p, n);

		p += n + (p[n] == '\n');
		if (!line[0] || line[0] == '#')
			continue;
		words = xrealloc_array(words, n_words + 1, sizeof(*words));
		if (regcomp(&words[n_words].re, line, REG_EXTENDED | REG_ICASE | REG_NEWLINE) != 0) {
			*ret_bad = text;
			return -EINVAL;
		}
		words[n_words++].text = TAKE_PTR(line);
	}
	return 0;
}

void rules_forget_words(void)
{
	for (size_t i = 0; i < n_words; i++) {
		regfree(&words[i].re);
		free(words[i].text);
	}
	free(words);
	words = NULL;
	n_words = 0;
}

static void check_words(const struct source *s, struct report *r)
{
	if (streq(s->path, "tests/lint/words") || streq(s->path, "tests/lint/test_rules.c"))
		return;
	for (size_t i = 0; i < n_words; i++) {
		regmatch_t m;

		for (size_t at = 0;
		     at < s->text.len && regexec(&words[i].re, s->text.p + at, 1, &m, at ? REG_NOTBOL : 0) == 0;
		     at += (size_t)m.rm_eo + (m.rm_eo == m.rm_so))
			report_add(r, s, at + (size_t)m.rm_so, "forbidden word: %.*s", (int)(m.rm_eo - m.rm_so),
				   s->text.p + at + m.rm_so);
	}
}

/* Above the limits of style there may be a reason; above these there is none. */
enum { FILE_LINES_MAX = 1000, FUNCTION_LINES_MAX = 120 };

static void check_length(const struct source *s, struct report *r)
{
	size_t line = 1, opened = 0, at = 0;

	if (!is_product(s))
		return;
	for (const char *p = s->code.p; p && *p; line++) {
		if (*p == '{') {
			opened = line;
			at = (size_t)(p - s->code.p);
		}
		if (*p == '}' && opened && p[1] == '\n' && line - opened > FUNCTION_LINES_MAX)
			report_add(r, s, at, "a function of %zu lines: two nouns?", line - opened);
		p = strchr(p, '\n');
		p += p != NULL;
	}
	if (line > FILE_LINES_MAX)
		report_add(r, s, SIZE_MAX, "a file of %zu lines: two nouns?", line);
}

static void check_white_space(const struct source *s, struct report *r)
{
	for (const char *p = s->text.p; p && (p = strchr(p, '\n')); p++)
		if (p > s->text.p && (p[-1] == ' ' || p[-1] == '\t' || p[-1] == '\r'))
			report_add(r, s, (size_t)(p - s->text.p) - 1, "white space at the end of the line");
	if (s->text.len && s->text.p[s->text.len - 1] != '\n')
		report_add(r, s, SIZE_MAX, "no newline at the end");
}

const struct rule rules[] = {
	{ "arrows", "includes follow the arrows between rooms", check_arrows },
	{ "own-header", "a module includes its own header first", check_own_header },
	{ "pragma-once", "a header guards itself", check_pragma_once },
	{ "musl", "what the guest shares uses no header that only glibc has", check_musl },
	{ "banned", "no banned function", check_banned },
	{ "sleep", "no sleep as a wait", check_sleep },
	{ "cloexec", "a descriptor is CLOEXEC from birth", check_cloexec },
	{ "printed-json", "no JSON by printf", check_printed_json },
	{ "words", "the project speaks of itself only", check_words },
	{ "length", "files and functions have one noun", check_length },
	{ "white-space", "no stray white space", check_white_space },
};
const size_t n_rules = ARRAY_SIZE(rules);
