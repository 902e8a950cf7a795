/* Every rule must refuse what it is there to refuse, and let pass what is right. */
#include "rules.h"
#include "test.h"

#include "base/memory.h"

static size_t findings(const char *rule, const char *path, bool has_header, const char *text)
{
	struct source s = { .path = path, .has_header = has_header };
	struct report r = {};

	buf_adds(&s.text, text);
	source_split(&s);
	ASSERT_EQ(s.code.len, s.text.len);
	ASSERT_EQ(s.words.len, s.text.len);
	for (size_t i = 0; i < n_rules; i++)
		if (streq(rules[i].name, rule)) {
			rules[i].check(&s, &r);
			source_done(&s);
			for (const char *line = r.out.p; line && *line; line = strchr(line, '\n') + 1)
				printf("# %.*s\n", (int)strcspn(line, "\n"), line);
			buf_done(&r.out);
			return r.findings;
		}
	test_fail(__FILE__, __LINE__, "no rule %s", rule);
}

static void refuses(const char *rule, const char *path, const char *text)
{
	if (findings(rule, path, true, text) == 0)
		test_fail(__FILE__, __LINE__, "%s lets pass: %s", rule, text);
}

static void accepts(const char *rule, const char *path, const char *text)
{
	if (findings(rule, path, true, text) != 0)
		test_fail(__FILE__, __LINE__, "%s refuses: %s", rule, text);
}

TEST(arrows_point_down_only)
{
	refuses("arrows", "src/base/a.c", "#include \"store/store.h\"\n");
	refuses("arrows", "src/store/a.c", "#include \"machine/spec.h\"\n");
	refuses("arrows", "src/machine/a.c", "#include \"cli/command.h\"\n");
	refuses("arrows", "src/json/a.c", "#include \"wire/ttrpc.h\"\n");
	refuses("arrows", "src/machine/a.c", "#include \"confine/calls.h\"\n");
	accepts("arrows", "src/cli/a.c", "#include \"confine/calls.h\"\n");
	accepts("arrows", "src/machine/a.c", "#include \"engine/engine.h\"\n#include \"base/buf.h\"\n");
	accepts("arrows", "src/cli/a.c", "#include \"machine/spec.h\"\n#include \"net/net.h\"\n#include <stdio.h>\n");
	accepts("arrows", "tests/unit/base/a.c", "#include \"test.h\"\n");
}

TEST(arrows_keep_neighbours_apart)
{
	static const char *const rooms[] = { "engine", "net", "disk", "image" };

	for (size_t i = 0; i < ARRAY_SIZE(rooms); i++)
		for (size_t j = 0; j < ARRAY_SIZE(rooms); j++) {
			_cleanup_free_ char *path = xasprintf("src/%s/a.c", rooms[i]);
			_cleanup_free_ char *text = xasprintf("# include \"%s/a.h\"\n", rooms[j]);

			(i == j ? accepts : refuses)("arrows", path, text);
		}
	refuses("arrows", "src/shim/a.c", "#include \"cli/command.h\"\n");
}

TEST(arrows_keep_the_guest_apart)
{
	refuses("arrows", "src/guest/a.c", "#include \"json/json.h\"\n");
	refuses("arrows", "src/guest/a.c", "#include \"store/store.h\"\n");
	accepts("arrows", "src/guest/a.c",
		"#include \"wire/ttrpc.h\"\n#include \"base/buf.h\"\n#include \"agent.pb-c.h\"\n");
}

TEST(arrows_know_rooms_and_messages)
{
	refuses("arrows", "src/attic/a.c", "#include \"base/buf.h\"\n");
	refuses("arrows", "src/base/a.c", "#include \"buf.h\"\n");
	refuses("arrows", "src/base/a.c", "#include \"agent.pb-c.h\"\n");
	accepts("arrows", "src/machine/a.c", "#include \"monitor.pb-c.h\"\n");
	accepts("arrows", "src/base/a.c", "/* #include \"store/store.h\" */\n");
}

TEST(own_header_comes_first)
{
	refuses("own-header", "src/base/a.c", "#include <stdio.h>\n#include \"base/a.h\"\n");
	refuses("own-header", "src/engine/qemu/a.c", "#include \"base/a.h\"\n");
	accepts("own-header", "src/engine/qemu/a.c", "/* A. */\n#include \"engine/qemu/a.h\"\n#include <stdio.h>\n");
	ASSERT_EQ(findings("own-header", "src/cli/main.c", false, "#include <stdio.h>\n"), 0);
}

TEST(headers_guard_themselves)
{
	refuses("pragma-once", "src/base/a.h", "/* #pragma once */\nint a(void);\n");
	accepts("pragma-once", "src/base/a.h", "/* A. */\n#pragma once\nint a(void);\n");
}

TEST(guest_side_avoids_what_musl_lacks)
{
	refuses("musl", "src/base/a.c", "#include <argp.h>\n");
	refuses("musl", "src/wire/a.c", "#include <error.h>\n");
	refuses("musl", "src/guest/a.c", "#include <sys/pidfd.h>\n");
	accepts("musl", "src/machine/a.c", "#include <sys/pidfd.h>\n");
}

TEST(banned_functions_are_found)
{
	static const char *const calls[] = {
		"sprintf(b, \"\")",
		"strcpy(a, b)",
		"strcat(a, b)",
		"strncpy(a, b, 3)",
		"strtok(a, b)",
		"gets(a)",
		"atoi(a)",
		"atol(a)",
		"strtol(a, 0, 10)",
		"strtoull (a, 0, 10)",
		"system(\"ls\")",
		"popen(a, \"r\")",
		"basename(path)",
		"dirname(path)",
		"sscanf(a, \"%d\", &b)",
		"signal(SIGTERM, on_signal)",
	};

	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		_cleanup_free_ char *text = xasprintf("void f(void)\n{\n\t%s;\n}\n", calls[i]);

		refuses("banned", "src/base/a.c", text);
		refuses("banned", "tests/unit/base/test_a.c", text);
	}
	refuses("banned", "src/base/a.c", "char path[PATH_MAX];\n");
	refuses("banned", "src/base/a.c", "const char *a[] = { \"/bin/x\", \"sh\", \"-c\" };\n");
	refuses("banned", "src/base/a.c", "void f(void)\n{\n\texit(1);\n}\n");
}

TEST(banned_functions_are_not_seen_where_they_are_not)
{
	accepts("banned", "src/base/a.c",
		"/* strcpy(a, b) is banned */\nconst char *s = \"system(3) \\\" gets(a)\";\n");
	accepts("banned", "src/base/a.c",
		"snprintf(b, n, \"\"); my_strcpy(a, b); strcpy_s(a, b); struct system system;\n");
	accepts("banned", "src/base/parse.c", "v = strtoull(s, &end, 10);\n");
	accepts("banned", "src/base/a.c", "strcpy(a, b); /* lint: the bound is checked above */\n");
	accepts("banned", "src/cli/main.c", "int main(void)\n{\n\texit(1);\n}\n");
	accepts("banned", "src/base/a.c", "void f(void)\n{\n\tsignal(SIGPIPE, SIG_IGN);\n\t_exit(1);\n}\n");
}

TEST(sleeps_are_found)
{
	refuses("sleep", "src/base/a.c", "sleep(1);\n");
	refuses("sleep", "tests/unit/base/test_a.c", "usleep(1000);\n");
	refuses("sleep", "src/base/a.c", "nanosleep(&ts, NULL);\n");
	refuses("sleep", "src/base/a.c", "poll(NULL, 0, 100);\n");
	accepts("sleep", "src/base/a.c", "poll(&p, 1, 100); int sleep = 1; /* sleep(1) */\n");
}

TEST(descriptors_are_born_cloexec)
{
	static const char *const bad[] = {
		"open(p, O_RDONLY)",
		"openat(d, n, O_RDWR |\n O_CREAT, 0600)",
		"socket(AF_UNIX, SOCK_STREAM, 0)",
		"socketpair(AF_UNIX, SOCK_STREAM, 0, sv)",
		"accept(fd, NULL, NULL)",
		"accept4(fd, NULL, NULL, 0)",
		"pipe(fds)",
		"pipe2(fds, O_NONBLOCK)",
		"dup(fd)",
		"fcntl(fd, F_DUPFD, 3)",
		"mkstemp(t)",
		"memfd_create(\"a\", 0)",
		"timerfd_create(CLOCK_MONOTONIC, 0)",
		"signalfd(-1, &set, 0)",
		"fopen(p, \"r\")",
		"epoll_create(1)",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_free_ char *text = xasprintf("int f(void)\n{\n\treturn %s;\n}\n", bad[i]);

		refuses("cloexec", "src/base/a.c", text);
		accepts("cloexec", "tests/unit/base/test_a.c", text);
	}
	accepts("cloexec", "src/base/a.c", "fd = openat(d, f(n), O_RDONLY | O_CLOEXEC);\nfd = vm->open(vm, 1);\n");
	accepts("cloexec", "src/base/a.c", "f = fopen(p, \"re\"); fcntl(fd, F_DUPFD_CLOEXEC, 3); dup2(a, 0);\n");
}

TEST(json_is_built_not_printed)
{
	refuses("printed-json", "src/machine/a.c", "printf(\"{\\\"name\\\": \\\"%s\\\"}\", name);\n");
	refuses("printed-json", "src/machine/a.c", "buf_addf(b, \", \\\"a\\\": %d\", 1);\n");
	accepts("printed-json", "src/json/a.c", "buf_adds(b, \"{\\\"\");\n");
	accepts("printed-json", "src/machine/a.c", "/* {\"a\": 1} */ printf(\"\\\"%s\\\"\", name);\n");
	accepts("printed-json", "tests/unit/json/test_json.c", "json_parse(\"{\\\"a\\\":1}\");\n");
}

TEST(words_of_the_workplace_are_found)
{
	const char *bad;

	ASSERT_OK(rules_load_words("# comment\n\n\\<issues? +#?[0-9]\n\\<TODO\\>\n", &bad));
	refuses("words", "docs/a.md", "As issue #12 says.\n");
	refuses("words", "src/base/a.c", "int a;\n/* todo: more */\n");
	accepts("words", "src/base/a.c", "/* An issue of style; todoist. */\n");
	rules_forget_words();
	ASSERT(rules_load_words("(", &bad) < 0);
}

TEST(long_files_and_functions_are_found)
{
	_cleanup_buf_ struct buf file = {}, function = {};

	for (int i = 0; i < 1001; i++)
		buf_adds(&file, "int a;\n");
	refuses("length", "src/base/a.c", file.p);
	buf_adds(&function, "void f(void)\n{\n");
	for (int i = 0; i < 100; i++)
		buf_adds(&function, "\tg();\n");
	accepts("length", "src/base/a.c", function.p);
	for (int i = 0; i < 100; i++)
		buf_adds(&function, "\tg();\n");
	buf_adds(&function, "}\n");
	refuses("length", "src/base/a.c", function.p);
}

TEST(stray_white_space_is_found)
{
	refuses("white-space", "docs/a.md", "a \nb\n");
	refuses("white-space", "docs/a.md", "a\r\n");
	refuses("white-space", "docs/a.md", "a");
	accepts("white-space", "docs/a.md", "a\n\n\tb\n");
}

/* Every rule is named by a test above. */
TEST(every_rule_has_its_proof)
{
	static const char proved[] =
		" arrows own-header pragma-once musl banned sleep cloexec printed-json words length "
		"white-space ";

	for (size_t i = 0; i < n_rules; i++) {
		_cleanup_free_ char *name = xasprintf(" %s ", rules[i].name);

		ASSERT_CONTAINS(proved, name);
	}
}
