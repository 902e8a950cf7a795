/* docs/dependencies.md and scripts/setup.sh name the same packages. */
#include "test.h"

#include <fcntl.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/spawn.h"

enum { LIMIT = 1 << 20 };

/* The words of @text that @separators keep apart. */
static void split(const char *text, size_t n, const char *separators, struct strv *words)
{
	_cleanup_free_ char *copy = xstrndup(text, n);

	for (const char *p = copy; *p;) {
		size_t len = strcspn(p, separators);

		if (len)
			strv_take(words, xstrndup(p, len));
		p += len + (p[len] != '\0');
	}
}

static void installed(struct strv *packages)
{
	const char *argv[] = { "sh", SOURCE_DIR "/scripts/setup.sh", "list", NULL };
	_cleanup_buf_ struct buf out = {};
	struct spawn s = SPAWN_INIT;
	struct error err = {};

	s.argv = argv;
	ASSERT_OK(spawn_check(&s, NULL, &out, LIMIT, UINT64_C(30000000000), &err));
	split(out.p, out.len, " \n", packages);
	ASSERT(packages->n > 10);
}

/* The first column of every table: "| gcc, libc6-dev | why | …". Its heading says "package", its rule is made of dashes. */
static void documented(struct strv *packages)
{
	_cleanup_buf_ struct buf text = {};

	ASSERT_OK(file_read_at(AT_FDCWD, SOURCE_DIR "/docs/dependencies.md", LIMIT, &text));
	for (const char *line = text.p; *line; line += strcspn(line, "\n"), line += *line == '\n')
		if (after_prefix(line, "| ") && !after_prefix(line, "| package"))
			split(line + 2, strcspn(line + 2, "|\n"), ", ", packages);
	ASSERT(packages->n > 10);
}

static void all_in(const struct strv *some, const struct strv *all, const char *where)
{
	for (size_t i = 0; i < some->n; i++)
		if (!strv_has(all, some->items[i]))
			test_fail(__FILE__, __LINE__, "%s does not name %s", where, some->items[i]);
}

TEST(every_package_that_is_installed_has_its_reason)
{
	_cleanup_strv_ struct strv packages = {}, reasons = {};

	installed(&packages);
	documented(&reasons);
	all_in(&packages, &reasons, "docs/dependencies.md");
}

TEST(every_package_that_has_a_reason_is_installed)
{
	_cleanup_strv_ struct strv packages = {}, reasons = {};

	installed(&packages);
	documented(&reasons);
	all_in(&reasons, &packages, "scripts/setup.sh");
}
