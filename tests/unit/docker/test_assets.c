#include "docker/web/assets.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/memory.h"
#include "test.h"

static char *root(void)
{
	return xasprintf("%s/page", test_tmpdir());
}

static void put(const char *name, const void *p, size_t n)
{
	_cleanup_free_ char *path = xasprintf("page/%s", name);
	_cleanup_close_ int top = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char *slash = strrchr(path, '/');

	*slash = '\0';
	ASSERT_OK(mkdir_parents_at(top, path, 0700));
	*slash = '/';
	ASSERT_OK(file_write_at(top, path, p, n, 0600, 0));
}

TEST(files_of_a_page_are_found_by_their_paths)
{
	_cleanup_free_ char *dir = root(), *link = xasprintf("%s/link.js", dir);
	_cleanup_assets_ struct assets a = {};
	struct error e = {};

	put("index.html", "<p>", 3);
	put("novnc/core/rfb.js", "x", 1);
	put("page.css", "", 0);
	put("notes.txt", "no", 2);
	put(".hidden.js", "no", 2);
	ASSERT_OK(symlink("/etc/passwd", link));
	ASSERT_OK(assets_load(dir, &a, &e));
	ASSERT_EQ(a.n, 3);
	ASSERT_EQ(assets_find(&a, "/index.html")->n, 3);
	ASSERT_CONTAINS(assets_find(&a, "/index.html")->type, "text/html");
	ASSERT_CONTAINS(assets_find(&a, "/novnc/core/rfb.js")->type, "javascript");
	ASSERT_EQ(assets_find(&a, "/page.css")->n, 0);
	ASSERT(!assets_find(&a, "/"));
	ASSERT(!assets_find(&a, "/notes.txt"));
	ASSERT(!assets_find(&a, "/.hidden.js"));
	ASSERT(!assets_find(&a, "/link.js"));
	ASSERT(!assets_find(&a, "/novnc/../index.html"));
	ASSERT(!assets_find(&a, "index.html"));
}

TEST(what_no_page_has_is_refused)
{
	_cleanup_free_ char *dir = root(), *large = xcalloc(1, (1 << 20) + 1);
	struct assets a;
	struct error e = {};

	ASSERT_EQ(assets_load(dir, &a, &e), -ENOENT);
	ASSERT_CONTAINS(e.msg, dir);
	error_done(&e);
	assets_done(&a);
	put("large.js", large, (1 << 20) + 1);
	ASSERT_EQ(assets_load(dir, &a, &e), -EFBIG);
	ASSERT_CONTAINS(e.msg, "/large.js");
	error_done(&e);
	assets_done(&a);
	put("large.js", "", 0);
	for (int i = 0; i < 300; i++) {
		_cleanup_free_ char *name = xasprintf("%d.js", i);

		put(name, "", 0);
	}
	ASSERT_EQ(assets_load(dir, &a, &e), -E2BIG);
	error_done(&e);
	assets_done(&a);
}
