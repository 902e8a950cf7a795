#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/stat.h>

#include "base/file.h"
#include "test.h"

struct thing {
	char *name;
	uint64_t size;
};

static const struct json_field fields[] = {
	{ "name", JSON_STRING, offsetof(struct thing, name), JSON_REQUIRED },
	{ "size", JSON_U64, offsetof(struct thing, size) },
	{},
};

static int dir(void)
{
	int fd = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	ASSERT(fd >= 0);
	return fd;
}

static int read_text(const char *text, size_t n, struct thing *t, struct json **tree, struct error *e)
{
	_cleanup_close_ int d = dir();

	ASSERT_OK(file_write_at(d, "r.json", text, n, 0600, 0));
	return record_read(d, "r.json", "machine.json", fields, t, tree, e);
}

TEST(a_record_comes_back)
{
	_cleanup_close_ int d = dir();
	_cleanup_json_ struct json *tree = NULL, *read_tree = NULL;
	struct thing t = { xstrdup("x"), UINT64_MAX }, got = {};
	struct stat st;
	uint64_t version;

	ASSERT_OK(record_write(d, "r.json", "r.json", fields, &t, &tree, RECORD_DURABLE, NULL));
	ASSERT_OK(fstatat(d, "r.json", &st, 0));
	ASSERT_EQ(st.st_mode & 0777, 0600);
	ASSERT_OK(record_read(d, "r.json", "r.json", fields, &got, &read_tree, NULL));
	ASSERT_STREQ(got.name, "x");
	ASSERT(got.size == UINT64_MAX);
	ASSERT(json_u64(json_get(read_tree, "version"), &version) && version == 1);
	json_fields_done(fields, &t);
	json_fields_done(fields, &got);
}

TEST(no_tree_is_needed)
{
	_cleanup_close_ int d = dir();
	struct thing t = { xstrdup("x"), 1 }, got = {};

	ASSERT_OK(record_write(d, "r.json", "r.json", fields, &t, NULL, 0, NULL));
	ASSERT_OK(record_read(d, "r.json", "r.json", fields, &got, NULL, NULL));
	ASSERT_STREQ(got.name, "x");
	json_fields_done(fields, &t);
	json_fields_done(fields, &got);
}

TEST(unknown_keys_are_kept)
{
	_cleanup_close_ int d = dir();
	_cleanup_json_ struct json *tree = NULL;
	_cleanup_buf_ struct buf b = {};
	static const char text[] = "{\"version\":1,\"name\":\"x\",\"future\":{\"a\":[1]}}";
	struct thing t = {};

	ASSERT_OK(read_text(text, strlen(text), &t, &tree, NULL));
	t.size = 7;
	ASSERT_OK(record_write(d, "r.json", "r.json", fields, &t, &tree, 0, NULL));
	ASSERT_OK(file_read_at(d, "r.json", 1000, &b));
	ASSERT_CONTAINS(b.p, "\"future\": {");
	ASSERT_CONTAINS(b.p, "\"size\": 7");
	json_fields_done(fields, &t);
}

TEST(a_missing_file_is_not_found)
{
	_cleanup_close_ int d = dir();
	_cleanup_error_ struct error e = {};
	struct thing t = {};

	ASSERT_EQ(record_read(d, "none.json", "machine.json", fields, &t, NULL, &e), -ENOENT);
	ASSERT_EQ(e.kind, ERROR_NOT_FOUND);
	ASSERT_CONTAINS(e.msg, "machine.json");
}

TEST(damaged_records_are_told)
{
	static const struct {
		const char *text, *message;
	} cases[] = {
		{ "", "machine.json: not valid JSON: line 1" },
		{ "{\"name\":", "machine.json: not valid JSON: line 1" },
		{ "[]", "machine.json: expected an object" },
		{ "null", "machine.json: expected an object" },
		{ "{\"version\":1}", "machine.json: name: missing" },
		{ "{\"name\":1}", "machine.json: name: expected a string" },
		{ "{\"name\":\"x\",\"size\":\"1G\"}", "machine.json: size: expected a number" },
		{ "{\"version\":\"1\",\"name\":\"x\"}", "machine.json: version: expected a number" },
		{ "{\"version\":2,\"name\":\"x\"}",
		  "machine.json: written by a later skerry (version 2, this one reads 1)" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_error_ struct error e = {};
		struct json *tree = NULL;
		struct thing t = {};

		ASSERT_EQ(read_text(cases[i].text, strlen(cases[i].text), &t, &tree, &e), -EBADMSG);
		ASSERT_CONTAINS(e.msg, cases[i].message);
		ASSERT_EQ(error_exit_status(&e), 65);
		ASSERT(!tree);
		json_fields_done(fields, &t);
	}
}

TEST(errors_are_the_same_without_an_error_object)
{
	static const char later[] = "{\"version\":2,\"name\":\"x\"}";
	struct thing t = {};

	ASSERT_EQ(read_text(later, strlen(later), &t, NULL, NULL), -EBADMSG);
}

TEST(a_record_cut_anywhere_is_an_error_and_nothing_worse)
{
	static const char text[] = "{\n  \"version\": 1,\n  \"name\": \"web\",\n  \"size\": 10737418240\n}\n";

	for (size_t n = 0; n < strlen(text) - 2; n++) {
		struct thing t = {};

		ASSERT_EQ(read_text(text, n, &t, NULL, NULL), -EBADMSG);
		json_fields_done(fields, &t);
	}
}

TEST(a_huge_record_is_refused)
{
	_cleanup_error_ struct error e = {};
	_cleanup_buf_ struct buf b = {};
	struct thing t = {};

	memset(buf_reserve(&b, (4 << 20) + 1), ' ', (4 << 20) + 1);
	buf_commit(&b, (4 << 20) + 1);
	ASSERT_EQ(read_text(b.p, b.len, &t, NULL, &e), -EBADMSG);
	ASSERT_CONTAINS(e.msg, "larger than 4 MiB");
}

TEST(exclusive_writing_does_not_replace)
{
	_cleanup_close_ int d = dir();
	_cleanup_error_ struct error e = {};
	struct thing t = { xstrdup("x"), 1 };

	ASSERT_OK(record_write(d, "r.json", "r.json", fields, &t, NULL, RECORD_EXCLUSIVE, NULL));
	ASSERT_EQ(record_write(d, "r.json", "r.json", fields, &t, NULL, RECORD_EXCLUSIVE, &e), -EEXIST);
	ASSERT_EQ(e.kind, ERROR_EXISTS);
	ASSERT_CONTAINS(e.msg, "r.json: cannot write it");
	json_fields_done(fields, &t);
}
