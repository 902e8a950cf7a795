/* Adds up every single result of meson's test logs: tap_summary [--strict] [--allow FILE] [--failed NAME]… LOG…
 *
 * LOG is meson-logs/testlog.json: one JSON object per line, with the output of one test program each. What failed is printed with its
 * output; the last line is "N passed, N failed", and ", N skipped" where something was. With --strict a skip is a failure, except those
 * that FILE lists ("PROGRAM SUBTEST: reason" per line). --failed adds a step that failed outside meson. Exit 0 when nothing failed and
 * something passed. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

enum { LOG_LIMIT = 512 << 20 };

struct summary {
	bool strict;
	struct buf allowed;
	unsigned passed, failed, skipped;
};

struct program {
	const char *name, *log, *result, *output;
	unsigned planned, seen, failed;
	bool tap;
};

static const char *text_of(struct json_object *o, const char *key)
{
	struct json_object *v = json_object_object_get(o, key);

	return v && json_object_is_type(v, json_type_string) ? json_object_get_string(v) : "";
}

static bool skip_allowed(const struct summary *s, const char *program, const char *subtest)
{
	_cleanup_free_ char *line = xasprintf("\n%s %s:", program, subtest);
	const char *p = s->allowed.p;

	return p && (strncmp(p, line + 1, strlen(line + 1)) == 0 || strstr(p, line));
}

static void count_skip(struct summary *s, struct program *p, const char *subtest)
{
	if (!s->strict || skip_allowed(s, p->name, subtest)) {
		s->skipped++;
		return;
	}
	printf("skipped, which is a failure here: %s: %s\n", p->name, subtest);
	s->failed++;
	p->failed++;
}

/* "ok 3 - name # SKIP why" or "not ok 3 - name". */
static void count_line(struct summary *s, struct program *p, const char *line)
{
	const char *rest = after_prefix(line, "ok"), *bad = after_prefix(line, "not ok"), *directive;
	char name[256];

	if (strncmp(line, "1..", 3) == 0) {
		p->tap = true;
		for (const char *d = line + 3; *d >= '0' && *d <= '9'; d++)
			p->planned = p->planned * 10 + (unsigned)(*d - '0');
		return;
	}
	if (!(bad && (*bad == ' ' || !*bad)) && !(rest && (*rest == ' ' || !*rest)))
		return;
	p->seen++;
	if (bad) {
		s->failed++;
		p->failed++;
		return;
	}
	directive = strstr(rest, " # SKIP");
	if (!directive)
		directive = strstr(rest, " # skip");
	rest += strspn(rest, " 0123456789");
	rest = after_prefix(rest, "- ") ? rest + 2 : rest;
	snprintf(name, sizeof(name), "%.*s", directive && directive > rest ? (int)(directive - rest) : 0, rest);
	if (directive)
		count_skip(s, p, name);
	else
		s->passed++;
}

static void count_output(struct summary *s, struct program *p)
{
	for (const char *line = p->output; *line;) {
		size_t n = strcspn(line, "\n");
		_cleanup_free_ char *one = xstrndup(line, n);

		count_line(s, p, one);
		line += n + (line[n] == '\n');
	}
}

static void count_program(struct summary *s, struct program *p, const char *errors)
{
	bool bad = !streq(p->result, "OK") && !streq(p->result, "SKIP") && !streq(p->result, "EXPECTEDFAIL");

	count_output(s, p);
	if (!p->tap && p->seen == 0) {
		if (streq(p->result, "SKIP"))
			count_skip(s, p, "all");
		else if (!bad)
			s->passed++;
	} else if (p->seen < p->planned) {
		/* The program ended before it ran them all. */
		s->failed += p->planned - p->seen;
		p->failed += p->planned - p->seen;
	}
	if (bad && p->failed == 0) {
		s->failed++;
		p->failed++;
	}
	if (p->failed)
		printf("---- %s: %s (%s)\n%s%s----\n", p->name, p->result, p->log, p->output, errors);
}

static int count_log(struct summary *s, const char *path)
{
	_cleanup_buf_ struct buf log = {};
	int r = file_read_at(AT_FDCWD, path, LOG_LIMIT, &log);

	if (r < 0)
		return r;
	for (const char *line = log.p; line && *line;) {
		size_t n = strcspn(line, "\n");
		_cleanup_free_ char *one = xstrndup(line, n);
		struct json_object *o = json_tokener_parse(one);
		struct program p = { .log = path };

		if (!o)
			return -EBADMSG;
		p.name = text_of(o, "name");
		p.result = text_of(o, "result");
		p.output = text_of(o, "stdout");
		/* A program of an interactive run has its output on the terminal only: nothing to add up. */
		count_program(s, &p, text_of(o, "stderr"));
		json_object_put(o);
		line += n + (line[n] == '\n');
	}
	return 0;
}

static void step_failed(struct summary *s, const char *name)
{
	printf("failed: %s\n", name);
	s->failed++;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "strict", no_argument, NULL, 's' },
						 { "allow", required_argument, NULL, 'a' },
						 { "failed", required_argument, NULL, 'f' },
						 {} };
	struct summary s = {};
	int c, r;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		if (c == 's')
			s.strict = true;
		else if (c == 'f')
			step_failed(&s, optarg);
		else if (c != 'a' || file_read_at(AT_FDCWD, optarg, LOG_LIMIT, &s.allowed) < 0)
			return 64;
	for (int i = optind; i < argc; i++) {
		r = count_log(&s, argv[i]);
		if (r < 0) {
			printf("%s: %s\n", argv[i], strerror(-r));
			step_failed(&s, argv[i]);
		}
	}
	buf_done(&s.allowed);
	printf("%u passed, %u failed", s.passed, s.failed);
	if (s.skipped)
		printf(", %u skipped", s.skipped);
	printf("\n");
	return s.failed || !s.passed;
}
