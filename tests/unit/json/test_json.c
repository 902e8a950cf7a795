#include "json/json.h"

#include <errno.h>

#include "test.h"

static struct json *parse(const char *text)
{
	_cleanup_error_ struct error e = {};
	struct json *j = NULL;

	if (json_parse(text, strlen(text), "test", &j, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s: %s", text, e.msg);
	return j;
}

static int refused(const char *text, struct error *e)
{
	struct json *j = NULL;
	int r = json_parse(text, strlen(text), "machine.json", &j, e);

	if (r == 0)
		json_free(j);
	return r;
}

TEST(values_have_their_types)
{
	_cleanup_json_ struct json *j =
		parse("{\"s\":\"x\",\"n\":7,\"b\":true,\"z\":null,\"a\":[1,2],\"o\":{},\"f\":1.5,\"m\":-3}");
	uint64_t u = 0;
	int64_t i = 0;
	bool b = false;

	ASSERT(json_is_object(j));
	ASSERT_STREQ(json_string(json_get(j, "s")), "x");
	ASSERT(json_u64(json_get(j, "n"), &u) && u == 7);
	ASSERT(json_i64(json_get(j, "m"), &i) && i == -3);
	ASSERT(json_bool(json_get(j, "b"), &b) && b);
	ASSERT(json_is_null(json_get(j, "z")));
	ASSERT(json_is_null(json_get(j, "absent")));
	ASSERT_EQ(json_length(json_get(j, "a")), 2);
	ASSERT(json_is_array(json_get(j, "a")));
	ASSERT(json_is_object(json_get(j, "o")));
	ASSERT(!json_string(json_get(j, "n")));
	ASSERT(!json_u64(json_get(j, "s"), &u));
	ASSERT(!json_u64(json_get(j, "f"), &u));
	ASSERT(!json_u64(json_get(j, "m"), &u));
	ASSERT(!json_i64(json_get(j, "f"), &i));
	ASSERT(!json_bool(json_get(j, "n"), &b));
	ASSERT_EQ(json_length(json_get(j, "o")), 0);
	ASSERT(!json_at(json_get(j, "a"), 2));
	ASSERT(!json_at(json_get(j, "s"), 0));
	ASSERT(!json_get(json_get(j, "a"), "x"));
	ASSERT(!json_get(NULL, "x"));
	ASSERT(!json_string(NULL));
	ASSERT_EQ(u, 7);
}

TEST(numbers_keep_all_64_bits)
{
	_cleanup_json_ struct json *j =
		parse("[18446744073709551615,9223372036854775807,9223372036854775808,-9223372036854775808,0]");
	_cleanup_buf_ struct buf b = {};
	uint64_t u;
	int64_t i;

	ASSERT(json_u64(json_at(j, 0), &u) && u == UINT64_MAX);
	ASSERT(json_u64(json_at(j, 2), &u) && u == UINT64_C(1) << 63);
	ASSERT(json_i64(json_at(j, 1), &i) && i == INT64_MAX);
	ASSERT(json_i64(json_at(j, 3), &i) && i == INT64_MIN);
	ASSERT(!json_i64(json_at(j, 0), &i));
	ASSERT(!json_i64(json_at(j, 2), &i));
	ASSERT(!json_u64(json_at(j, 3), &u));
	json_render(j, false, &b);
	ASSERT_STREQ(b.p, "[18446744073709551615,9223372036854775807,9223372036854775808,-9223372036854775808,0]");
}

TEST(anything_is_a_document)
{
	static const char *const good[] = { "1", "true", "null", "\"x\"", " [1] \n", "1.5e3", "-0" };

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		_cleanup_json_ struct json *j = parse(good[i]);

		(void)j;
	}
}

TEST(broken_documents_are_refused_with_line_and_name)
{
	static const char *const bad[] = {
		"",
		" ",
		"{",
		"[",
		"[1,]",
		"{\"a\":1,}",
		"{\"a\"}",
		"{\"a\":}",
		"{a:1}",
		"[1 2]",
		"{\"a\":1 \"b\":2}",
		"1 2",
		"{} x",
		"]",
		"{]",
		"[}",
		"{\"a\":1}}",
		"[,1]",
		"[1,,2]",
		"{,}",
		":",
		",",
		"\"a\" \"b\"",
		"nul",
		"truefalse",
		"[1]]",
		"{\"a\":1",
		"1-2",
		"1.2.3",
		"{1:2}",
		"[true false]",
		"{'a':1}",
		"NaN",
	};
	_cleanup_error_ struct error e = {};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		int r = refused(bad[i], &e);

		if (r != -EBADMSG)
			test_fail(__FILE__, __LINE__, "'%s' gives %d", bad[i], r);
		ASSERT_EQ(error_exit_status(&e), 65);
		ASSERT_CONTAINS(e.msg, "machine.json: not valid JSON: line ");
	}
	ASSERT_EQ(refused("{\n\"a\": 1,\n\"b\": x\n}", &e), -EBADMSG);
	ASSERT_CONTAINS(e.msg, "line 3");
}

TEST(depth_64_is_read_and_65_is_not)
{
	_cleanup_buf_ struct buf b = {};
	_cleanup_error_ struct error e = {};
	_cleanup_json_ struct json *j = NULL;

	for (int i = 0; i < 64; i++)
		buf_addc(&b, '[');
	buf_addc(&b, '1');
	for (int i = 0; i < 64; i++)
		buf_addc(&b, ']');
	ASSERT_OK(json_parse(b.p, b.len, "x", &j, NULL));
	buf_truncate(&b, 0);
	for (int i = 0; i < 100000; i++)
		buf_addc(&b, '[');
	ASSERT_EQ(refused(b.p, &e), -EBADMSG);
	ASSERT_CONTAINS(e.msg, "too deeply nested");
}

TEST(the_text_need_not_be_terminated)
{
	static const char *const texts[] = { "123", "{\"a\":1}", "\"abc\"", "true", "[1,2" };

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		for (size_t n = 0; n <= strlen(texts[i]); n++) {
			struct json *j = NULL;
			char *copy = malloc(n ? n : 1);

			memcpy(copy, texts[i], n);
			if (json_parse(copy, n, "x", &j, NULL) == 0)
				json_free(j);
			free(copy);
		}
}

TEST(the_last_of_two_equal_keys_wins)
{
	_cleanup_json_ struct json *j = parse("{\"a\":1,\"a\":2}");
	uint64_t u;

	ASSERT(json_u64(json_get(j, "a"), &u) && u == 2);
}

TEST(members_come_in_order)
{
	_cleanup_json_ struct json *j = parse("{\"b\":1,\"a\":2,\"c\":3}");
	const char *k;
	struct json *v;
	char keys[8] = "";
	size_t i;

	for (i = 0; json_member(j, i, &k, &v); i++)
		keys[i] = *k;
	ASSERT_EQ(i, 3);
	ASSERT_STREQ(keys, "bac");
	ASSERT(!json_member(NULL, 0, &k, &v));
	ASSERT(!json_member(json_get(j, "a"), 0, &k, &v));
}

TEST(builders_build)
{
	_cleanup_json_ struct json *j = json_object();
	struct json *array = json_array();
	_cleanup_buf_ struct buf b = {};

	json_set_string(j, "s", "x");
	json_set_string(j, "none", NULL);
	json_setf(j, "f", "%s-%d", "a", 1);
	json_set_u64(j, "u", UINT64_MAX);
	json_set_i64(j, "i", -1);
	json_set_bool(j, "b", false);
	json_append_string(array, "one");
	json_append(array, json_new_u64(2));
	json_append(array, json_new_bool(true));
	json_append(array, json_null());
	json_set(j, "a", array);
	json_set(j, "again", json_ref(array));
	json_set_string(j, "s", "y");
	json_remove(j, "f");
	json_remove(j, "absent");
	json_render(j, false, &b);
	ASSERT_STREQ(b.p, "{\"s\":\"y\",\"none\":null,\"u\":18446744073709551615,\"i\":-1,\"b\":false,"
			  "\"a\":[\"one\",2,true,null],\"again\":[\"one\",2,true,null]}");
}

TEST(pretty_text_is_indented_and_ends_its_line)
{
	_cleanup_json_ struct json *j = parse("{\"a\":[1,{\"b\":2}],\"e\":{},\"f\":[],\"p\":\"/x\",\"d\":0.10}");
	_cleanup_buf_ struct buf b = {};

	json_render(j, true, &b);
	ASSERT_STREQ(b.p, "{\n  \"a\": [\n    1,\n    {\n      \"b\": 2\n    }\n  ],\n  \"e\": {},\n  \"f\": [],\n  "
			  "\"p\": \"/x\",\n"
			  "  \"d\": 0.10\n}\n");
}

TEST(what_is_rendered_can_be_shown_and_read_again)
{
	_cleanup_json_ struct json *j = json_object(), *again = NULL;
	_cleanup_buf_ struct buf b = {};

	json_set_string(j, "k\n\"", "\b\f\n\r\t\"\\/\033\x7f\xc2\x9b\xc3\xa9\xff\xed\xa0\x80");
	json_render(j, false, &b);
	ASSERT_STREQ(b.p, "{\"k\\n\\\"\":\"\\b\\f\\n\\r\\t\\\"\\\\/\\u001b\\u007f\\u009b\xc3\xa9"
			  "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"}");
	ASSERT_OK(json_parse(b.p, b.len, "x", &again, NULL));
	ASSERT_CONTAINS(json_string(json_get(again, "k\n\"")), "\033\x7f\xc2\x9b\xc3\xa9");
}

TEST(freeing_nothing_is_fine)
{
	ASSERT(!json_free(NULL));
	ASSERT(!json_ref(NULL));
}

TEST(bytes_flipped_at_random_never_break_it)
{
	static const char text[] =
		"{\"version\":1,\"disks\":[{\"size\":10737418240,\"n\":\"\\u00e9\"}],\"x\":[-1.5e+3,true,null]}";
	unsigned seed = 42;

	for (int i = 0; i < 20000; i++) {
		char copy[sizeof(text)];
		struct json *j = NULL;

		memcpy(copy, text, sizeof(text));
		for (int k = 0; k < 3; k++) {
			seed = seed * 1103515245 + 12345;
			copy[(seed >> 16) % (sizeof(text) - 1)] = (char)(seed >> 8);
		}
		if (json_parse(copy, sizeof(text) - 1, "x", &j, NULL) == 0) {
			_cleanup_buf_ struct buf b = {};
			struct json *again = NULL;

			/* What was taken can be written and is taken again. */
			json_render(j, i & 1, &b);
			ASSERT_OK(json_parse(b.p, b.len, "x", &again, NULL));
			json_free(again);
			json_free(j);
		}
	}
}
