/* What the builders have in common; each of them is tested with its own disks besides. */
#include "disk/fs_names.h"

#include <errno.h>
#include <sys/stat.h>

#include "test.h"

enum { INODES = 64, LINKS_MAX = 3 };

struct builder {
	struct fs_names names;
	uint32_t next;
	unsigned links[INODES];
};

static int new_dir(void *data, uint32_t *ret)
{
	struct builder *b = data;

	*ret = b->next++;
	b->links[*ret] = 1;
	return 0;
}

static int add_link(void *data, uint32_t ino, const char *path, struct error *err)
{
	struct builder *b = data;

	if (b->links[ino] == LINKS_MAX)
		return fs_names_error(-EMLINK, path, err);
	b->links[ino]++;
	return 0;
}

static int drop(void *data, const struct node *node, struct error *err)
{
	struct builder *b = data;

	(void)err;
	ASSERT(b->links[node->ino] > 0);
	b->links[node->ino]--;
	return 0;
}

static const struct fs_names_ops ops = { new_dir, add_link, drop };

static void begin(struct builder *b)
{
	*b = (struct builder){ .next = 1 };
	fs_names_init(&b->names, &ops, b, 0);
	namespace_root(b->names.space)->mode = S_IFDIR | 0755;
}

static int add(struct builder *b, const char *path, mode_t mode, struct error *err)
{
	struct fs_entry e = { .path = path, .mode = mode, .link = "x" };
	struct fs_place place;
	struct node *node;
	int r = fs_names_place(&b->names, &e, &place, &node, err);

	if (r != 0)
		return r;
	b->links[b->next] = 1;
	return fs_names_add(&b->names, &place, &e, b->next++, &node, err);
}

static uint32_t ino_of(struct builder *b, const char *path)
{
	struct node *node;

	ASSERT_OK(fs_names_find(&b->names, path, &node));
	return node->ino;
}

TEST(missing_directories_are_made_and_what_is_there_is_replaced)
{
	struct builder b;
	uint32_t file;

	begin(&b);
	ASSERT_EQ(add(&b, "a/b/file", S_IFREG | 0644, NULL), 0);
	file = ino_of(&b, "a/b/file");
	/* Directories merge, … */
	ASSERT_EQ(add(&b, "a", S_IFDIR | 0700, NULL), 1);
	ASSERT_EQ(add(&b, ".", S_IFDIR | 0700, NULL), 1);
	ASSERT_EQ(b.links[file], 1);
	/* … all else is replaced with what is in it. */
	ASSERT_EQ(add(&b, "a", S_IFREG | 0644, NULL), 0);
	ASSERT_EQ(b.links[file], 0);
	ASSERT_EQ(add(&b, ".", S_IFREG | 0644, NULL), -EINVAL);
	fs_names_done(&b.names);
}

TEST(entries_that_cannot_be_are_refused)
{
	struct builder b;
	struct fs_entry wrong[] = {
		{ .path = "f", .mode = S_IFREG, .size = UINT64_MAX },
		{ .path = "l", .mode = S_IFLNK },
		{ .path = "l", .mode = S_IFLNK, .link = "" },
		{ .path = "d", .mode = S_IFCHR, .rdev_major = 0x1000 },
		{ .path = "d", .mode = S_IFBLK, .rdev_minor = 0x100000 },
		{ .path = "n", .mode = 0644 },
		{ .path = "../n", .mode = S_IFREG },
		{ .path = "/n", .mode = S_IFREG },
	};

	begin(&b);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct fs_place place;
		struct node *node;

		ASSERT(fs_names_place(&b.names, &wrong[i], &place, &node, NULL) < 0);
	}
	fs_names_done(&b.names);
}

TEST(links_are_counted_before_what_they_replace_goes)
{
	_cleanup_error_ struct error e = {};
	struct builder b;
	uint32_t file;

	begin(&b);
	ASSERT_EQ(add(&b, "dir/file", S_IFREG | 0644, NULL), 0);
	file = ino_of(&b, "dir/file");
	ASSERT_OK(fs_names_link(&b.names, "one", "dir/file", NULL));
	ASSERT_OK(fs_names_link(&b.names, "one", "dir/file", NULL));
	ASSERT_EQ(b.links[file], 2);
	/* It takes the place of the directory that holds its target. */
	ASSERT_OK(fs_names_link(&b.names, "dir", "dir/file", NULL));
	ASSERT_EQ(b.links[file], 2);
	ASSERT_EQ(ino_of(&b, "dir"), file);
	ASSERT_OK(fs_names_link(&b.names, "two", "one", NULL));
	ASSERT_EQ(fs_names_link(&b.names, "three", "one", &e), -EMLINK);
	ASSERT_CONTAINS(e.msg, "'three'");
	ASSERT_EQ(fs_names_link(&b.names, "x", "missing", NULL), -ENOENT);
	ASSERT_EQ(fs_names_link(&b.names, "x", ".", NULL), -EINVAL);
	ASSERT_EQ(fs_names_link(&b.names, ".", "one", NULL), -EINVAL);
	fs_names_done(&b.names);
}

TEST(a_layer_takes_away_what_is_below_it_only)
{
	struct builder b;
	struct node *node;

	begin(&b);
	ASSERT_EQ(add(&b, "d/old", S_IFREG | 0644, NULL), 0);
	ASSERT_EQ(add(&b, "d/kept", S_IFREG | 0644, NULL), 0);
	ASSERT_OK(fs_names_next_layer(&b.names, NULL));
	ASSERT_EQ(add(&b, "d/new", S_IFREG | 0644, NULL), 0);
	ASSERT_OK(fs_names_find(&b.names, "d/kept", &node));
	ASSERT_OK(fs_names_remove_lower(&b.names, "d", true, node, NULL));
	ASSERT_EQ(fs_names_find(&b.names, "d/old", &node), -ENOENT);
	ASSERT_OK(fs_names_find(&b.names, "d/kept", &node));
	ASSERT_OK(fs_names_find(&b.names, "d/new", &node));
	ASSERT_OK(fs_names_remove_lower(&b.names, "nothing/there", false, NULL, NULL));
	ASSERT_EQ(fs_names_remove_lower(&b.names, ".", false, NULL, NULL), -EINVAL);
	b.names.layer = UINT16_MAX;
	ASSERT_EQ(fs_names_next_layer(&b.names, NULL), -E2BIG);
	fs_names_done(&b.names);
}

TEST(nothing_but_content_follows_a_file_s_beginning)
{
	struct builder b;

	begin(&b);
	b.names.in_file = true;
	ASSERT_EQ(add(&b, "x", S_IFREG | 0644, NULL), -EBUSY);
	ASSERT_EQ(fs_names_finish(&b.names, NULL), -EBUSY);
	b.names.in_file = false;
	ASSERT_OK(fs_names_finish(&b.names, NULL));
	ASSERT_EQ(fs_names_finish(&b.names, NULL), -EBUSY);
	ASSERT_EQ(fs_names_link(&b.names, "x", "y", NULL), -EBUSY);
	fs_names_done(&b.names);
}
