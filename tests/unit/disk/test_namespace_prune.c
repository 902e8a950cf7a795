#include "disk/namespace_prune.h"

#include <errno.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "test.h"

struct tree {
	uint32_t next;
	struct namespace *n;
	struct strv dropped;
};

static int mkdir_node(void *data, struct node *parent, const char *name, size_t len, struct node **ret)
{
	struct tree *t = data;

	return namespace_add(t->n, parent, name, len, ++t->next, S_IFDIR | 0755, NULL, ret);
}

static void add(struct tree *t, const char *path, uint16_t layer)
{
	struct node *parent, *node;
	const char *last;

	ASSERT_OK(namespace_parent(t->n, path, mkdir_node, t, &parent, &last));
	ASSERT_OK(namespace_add(t->n, parent, last, strlen(last), ++t->next, S_IFREG, NULL, &node));
	node->layer = layer;
}

static int drop(void *data, const struct node *node, struct error *err)
{
	struct tree *t = data;

	if (streq(node->name, "refused"))
		return error_set(err, EIO, "refused");
	strv_take(&t->dropped, namespace_path(t->n, node));
	return 0;
}

static struct node *find(const struct tree *t, const char *path)
{
	struct node *node;

	return namespace_resolve(t->n, path, &node) < 0 ? NULL : node;
}

static void done(struct tree *t)
{
	namespace_free(t->n);
	strv_done(&t->dropped);
}

TEST(a_tree_goes_children_first)
{
	struct tree t = { .n = namespace_new(2, 1 << 22) };

	add(&t, "a/b/c/d", 0);
	add(&t, "a/e", 0);
	add(&t, "f", 0);
	ASSERT_OK(namespace_remove_tree(t.n, find(&t, "a"), drop, &t, NULL));
	ASSERT_EQ(t.dropped.n, 5);
	ASSERT_STREQ(t.dropped.items[4], "a");
	ASSERT(!find(&t, "a") && find(&t, "f"));
	done(&t);
}

TEST(what_is_of_the_layer_or_kept_stays)
{
	struct tree t = { .n = namespace_new(2, 1 << 22) };
	uint64_t visits = 100;

	add(&t, "a/old", 0);
	add(&t, "a/b/new", 1);
	add(&t, "a/b/old", 0);
	add(&t, "a/keep", 0);
	ASSERT_OK(namespace_remove_lower(t.n, find(&t, "a"), 1, false, find(&t, "a/keep"), &visits, drop, &t, NULL));
	ASSERT_EQ(t.dropped.n, 2);
	ASSERT(find(&t, "a/b/new") && find(&t, "a/keep") && !find(&t, "a/old") && !find(&t, "a/b/old"));
	ASSERT_OK(namespace_remove_lower(t.n, namespace_root(t.n), 2, true, NULL, &visits, drop, &t, NULL));
	ASSERT(!namespace_first(t.n, namespace_root(t.n)));
	done(&t);
}

TEST(an_error_ends_it)
{
	struct tree t = { .n = namespace_new(2, 1 << 22) };
	_cleanup_error_ struct error e = {};
	uint64_t visits = 100;

	add(&t, "a/refused", 0);
	ASSERT_EQ(namespace_remove_tree(t.n, find(&t, "a"), drop, &t, &e), -EIO);
	ASSERT(find(&t, "a/refused"));
	ASSERT_EQ(namespace_remove_lower(t.n, find(&t, "a"), 1, false, NULL, &visits, drop, &t, NULL), -EIO);
	done(&t);
}

TEST(marks_without_end_are_refused)
{
	struct tree t = { .n = namespace_new(2, 1 << 22) };
	_cleanup_error_ struct error e = {};
	uint64_t visits = 10;

	add(&t, "a/b", 1);
	add(&t, "a/c", 1);
	for (int i = 0; i < 3; i++)
		ASSERT_OK(namespace_remove_lower(t.n, find(&t, "a"), 1, true, NULL, &visits, drop, &t, &e));
	ASSERT_EQ(visits, 1);
	ASSERT_EQ(namespace_remove_lower(t.n, find(&t, "a"), 1, true, NULL, &visits, drop, &t, &e), -E2BIG);
	ASSERT_EQ(e.kind, ERROR_DATA);
	ASSERT(find(&t, "a/b") && find(&t, "a/c"));
	done(&t);
}

TEST(a_walk_tells_directories_before_what_is_in_them)
{
	struct tree t = { .n = namespace_new(2, 1 << 22) };
	size_t n = 0;

	add(&t, "a/b/c", 0);
	add(&t, "d", 0);
	for (const struct node *at = namespace_root(t.n); at; at = namespace_walk(t.n, at), n++)
		ASSERT(n == 0 || namespace_up(t.n, at)->layer == 0);
	ASSERT_EQ(n, 5);
	done(&t);
}
