#include "disk/namespace.h"

#include <errno.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "test.h"

static struct namespace *names;
static uint32_t next_ino = 11;

static int make(void *data, struct node *parent, const char *name, size_t len, struct node **ret)
{
	(void)data;
	return namespace_add(names, parent, name, len, next_ino++, S_IFDIR | 0755, NULL, ret);
}

/* Adds a path, its parents too. */
static struct node *add(const char *path, mode_t mode, const char *target)
{
	struct node *parent, *node;
	const char *last;

	if (!names)
		names = namespace_new(2, 8 << 20);
	ASSERT_OK(namespace_parent(names, path, make, NULL, &parent, &last));
	ASSERT_OK(namespace_add(names, parent, last, strlen(last), next_ino++, mode, target, &node));
	return node;
}

static int parent_of(const char *path, struct node **ret)
{
	const char *last;

	return namespace_parent(names, path, NULL, NULL, ret, &last);
}

TEST(hostile_paths_are_refused)
{
	static const char *const bad[] = {
		"", "/", "/etc", "a//b", "a/", "..", "a/../b", "./a", "a/.", "a/..", "../a"
	};
	_cleanup_free_ char *long_name = xcalloc(1, 258), *long_path = xcalloc(1, 5000);

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ASSERT_EQ(namespace_check_path(bad[i]), -EINVAL);
	memset(long_name, 'x', 256);
	ASSERT_EQ(namespace_check_path(long_name), -ENAMETOOLONG);
	for (size_t i = 0; i < 4998; i += 2)
		memcpy(long_path + i, "a/", 2);
	ASSERT_EQ(namespace_check_path(long_path), -ENAMETOOLONG);
	ASSERT_OK(namespace_check_path("."));
	ASSERT_OK(namespace_check_path("..."));
	ASSERT_OK(namespace_check_path("a/.b/..c"));
}

TEST(links_on_the_way_stay_inside_the_root)
{
	struct node *usr_lib = add("usr/lib", S_IFDIR | 0755, NULL), *etc = add("etc", S_IFDIR | 0755, NULL), *p;

	add("lib", S_IFLNK | 0777, "usr/lib");
	add("abs", S_IFLNK | 0777, "/usr/lib");
	add("out", S_IFLNK | 0777, "../../../../etc");
	add("usr/up", S_IFLNK | 0777, "../etc");
	add("chain", S_IFLNK | 0777, "abs/../up");
	ASSERT_OK(parent_of("lib/x", &p));
	ASSERT(p == usr_lib);
	ASSERT_OK(parent_of("abs/x", &p));
	ASSERT(p == usr_lib);
	ASSERT_OK(parent_of("out/passwd", &p));
	ASSERT(p == etc);
	ASSERT_OK(parent_of("usr/up/x", &p));
	ASSERT(p == etc);
	ASSERT_OK(parent_of("chain/x", &p));
	ASSERT(p == etc);
}

TEST(circles_of_links_end)
{
	struct node *p;

	add("a", S_IFLNK | 0777, "b");
	add("b", S_IFLNK | 0777, "a");
	add("self", S_IFLNK | 0777, "self/self/self");
	ASSERT_EQ(parent_of("a/x", &p), -ELOOP);
	ASSERT_EQ(parent_of("self/x", &p), -ELOOP);
}

TEST(files_are_no_directories_and_the_missing_is_made_or_reported)
{
	struct node *p;

	add("file", S_IFREG | 0644, NULL);
	add("to-file", S_IFLNK | 0777, "file");
	add("dangling", S_IFLNK | 0777, "not/yet");
	ASSERT_EQ(parent_of("file/x", &p), -ENOTDIR);
	ASSERT_EQ(parent_of("to-file/x", &p), -ENOTDIR);
	ASSERT_EQ(parent_of("none/x", &p), -ENOENT);
	add("dangling/x", S_IFREG | 0644, NULL);
	ASSERT_OK(parent_of("not/yet/x", &p));
	ASSERT_STREQ(p->name, "yet");
}

static unsigned count(const struct node *dir)
{
	unsigned n = 0;

	for (const struct node *c = namespace_first(names, dir); c; c = namespace_next(names, c)) {
		ASSERT(namespace_up(names, c) == dir);
		n++;
	}
	return n;
}

TEST(many_names_are_found_again_and_removed)
{
	struct node *dir, *n;
	char name[16];

	names = namespace_new(2, 8 << 20);
	dir = add("d", S_IFDIR | 0755, NULL);
	for (unsigned i = 0; i < 50000; i++) {
		int len = snprintf(name, sizeof(name), "n%u", i);

		ASSERT_OK(namespace_add(names, dir, name, (size_t)len, next_ino++, S_IFREG | 0644, NULL, &n));
	}
	ASSERT_EQ(count(dir), 50000);
	for (unsigned i = 0; i < 50000; i += 7) {
		int len = snprintf(name, sizeof(name), "n%u", i);

		n = namespace_lookup(names, dir, name, (size_t)len);
		ASSERT(n && streq(n->name, name));
		namespace_remove(names, n);
		ASSERT(!namespace_lookup(names, dir, name, (size_t)len));
	}
	ASSERT_EQ(count(dir), 50000 - (50000 + 6) / 7);
	namespace_free(names);
}

TEST(the_limit_holds_and_what_is_removed_makes_room)
{
	struct node *n, *last = NULL;
	char name[16];
	unsigned i;
	int r;

	names = namespace_new(2, 2 << 20);
	for (i = 0;; i++) {
		int len = snprintf(name, sizeof(name), "name-%07u", i);

		r = namespace_add(names, namespace_root(names), name, (size_t)len, next_ino++, S_IFREG | 0644, NULL,
				  &n);
		if (r < 0)
			break;
		last = n;
	}
	ASSERT_EQ(r, -E2BIG);
	/* Not far from what they were promised to take. */
	ASSERT(i > (1 << 20) / 60);
	namespace_remove(names, last);
	ASSERT_EQ(namespace_add(names, namespace_root(names), "much-longer-than-the-other-name", 31, 99, S_IFREG | 0644,
				NULL, &n),
		  -E2BIG);
	ASSERT_OK(namespace_add(names, namespace_root(names), "name-xxxxxxx", 12, 99, S_IFREG | 0644, NULL, &n));
	ASSERT_EQ(count(namespace_root(names)), i);
	namespace_free(names);
}

TEST(links_keep_their_targets)
{
	struct node *a = add("a", S_IFLNK | 0777, "target"), *b = add("b", S_IFLNK | 0777, "");
	_cleanup_free_ char *path = NULL;

	ASSERT_STREQ(node_target(a), "target");
	ASSERT_STREQ(node_target(b), "");
	namespace_remove(names, a);
	a = add("x/c", S_IFLNK | 0777, "other");
	ASSERT_STREQ(node_target(a), "other");
	path = namespace_path(names, a);
	ASSERT_STREQ(path, "x/c");
}
