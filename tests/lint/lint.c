/* Checks the sources of a tree against the rules of the house: lint ROOT. Results go out as TAP, one line for each rule. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "rules.h"

enum { FILE_LIMIT = 4 << 20, DEPTH = 16 };

/* nftw(3) hands nothing on to its callback. */
static struct strv paths;

static int collect(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	static const char *const endings[] = { ".c",  ".h",    ".sh",  ".proto", ".md",   ".build",  ".scd",
					       ".py", ".json", ".yml", ".yaml",  ".conf", ".service" };
	const char *name = path + ftw->base;

	(void)st;
	if (ftw->level == 1 && type == FTW_D && (after_prefix(name, "build") || name[0] == '.') && !streq(name, ".ci"))
		return FTW_SKIP_SUBTREE;
	/* Inputs of the fuzz targets are bytes as they were found, not text of ours. */
	if (type == FTW_D && streq(name, "corpus"))
		return FTW_SKIP_SUBTREE;
	if (type != FTW_F)
		return FTW_CONTINUE;
	if (!strchr(name, '.')) {
		strv_add(&paths, path);
		return FTW_CONTINUE;
	}
	for (size_t i = 0; i < ARRAY_SIZE(endings); i++) {
		size_t n = strlen(name), m = strlen(endings[i]);

		if (n > m && streq(name + n - m, endings[i]))
			strv_add(&paths, path);
	}
	return FTW_CONTINUE;
}

static bool header_exists(const char *path)
{
	_cleanup_free_ char *h = xstrdup(path);
	struct stat st;

	h[strlen(h) - 1] = 'h';
	return stat(h, &st) == 0;
}

/* The programs that nothing names by an ending: text has no NUL. */
static bool is_text(const struct buf *b)
{
	return b->len && !memchr(b->p, '\0', b->len);
}

static int check_file(const char *root, const char *path, struct report *reports)
{
	struct source s = { .path = path + strlen(root) + 1, .has_header = header_exists(path) };
	int r = file_read_at(AT_FDCWD, path, FILE_LIMIT, &s.text);

	if (r < 0)
		fprintf(stderr, "lint: %s: %s\n", path, strerror(-r));
	if (r >= 0 && is_text(&s.text)) {
		source_split(&s);
		for (size_t i = 0; i < n_rules; i++)
			rules[i].check(&s, &reports[i]);
	}
	source_done(&s);
	return r < 0 ? r : 0;
}

static int load_words(const char *path)
{
	_cleanup_buf_ struct buf b = {};
	int r = file_read_at(AT_FDCWD, path, FILE_LIMIT, &b);
	const char *bad;

	if (r >= 0)
		r = rules_load_words(b.p ? b.p : "", &bad);
	if (r < 0)
		fprintf(stderr, "lint: %s: %s\n", path, strerror(-r));
	return r < 0 ? r : 0;
}

static void print_result(const struct rule *rule, struct report *r, size_t number)
{
	for (const char *line = r->out.p; line && *line; line = strchr(line, '\n') + 1)
		printf("# %.*s\n", (int)strcspn(line, "\n"), line);
	printf("%s %zu - %s: %s\n", r->findings ? "not ok" : "ok", number, rule->name, rule->what);
	buf_done(&r->out);
}

int main(int argc, char **argv)
{
	struct report *reports = xnew_n(struct report, n_rules);
	size_t findings = 0;
	int r = 0;

	if (argc != 3) {
		fprintf(stderr, "usage: lint ROOT WORDS\n");
		return 64;
	}
	if (load_words(argv[2]) < 0 || nftw(argv[1], collect, DEPTH, FTW_PHYS | FTW_ACTIONRETVAL) != 0)
		return 1;
	for (size_t i = 0; i < paths.n && r == 0; i++)
		r = check_file(argv[1], paths.items[i], reports);
	printf("1..%zu\n", n_rules);
	for (size_t i = 0; i < n_rules && r == 0; i++) {
		findings += reports[i].findings;
		print_result(&rules[i], &reports[i], i + 1);
	}
	rules_forget_words();
	strv_done(&paths);
	free(reports);
	return r < 0 || findings;
}
