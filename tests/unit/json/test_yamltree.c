#include "json/yamltree.h"

#include "test.h"

static int check(const char *text, struct error *err)
{
	return yaml_check(text, strlen(text), "x.yaml", err);
}

TEST(a_check_allows_whatever_yaml_allows)
{
	ASSERT_OK(check("#cloud-config\na: &x [1, 2.5, yes]\nb: *x\n---\nc: |\n  text\n...\n", NULL));
	ASSERT_OK(check("", NULL));
}

TEST(a_check_names_the_line)
{
	_cleanup_error_ struct error e = {};

	ASSERT_EQ(check("#cloud-config\nusers:\n  - name: a\n   shell: b\n", &e), -EBADMSG);
	ASSERT(after_prefix(e.msg, "x.yaml:4: "));
	ASSERT_EQ(error_exit_status(&e), 65);
	ASSERT_EQ(check("a: [1, 2\n", NULL), -EBADMSG);
	ASSERT_EQ(check("\tb: 1\n", NULL), -EBADMSG);
}

TEST(a_tree_has_no_references)
{
	struct json *j = NULL;

	ASSERT_EQ(yaml_parse("a: &x 1\nb: *x\n", 14, "x.yaml", &j, NULL), -EBADMSG);
	ASSERT(!j);
}
