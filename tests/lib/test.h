/* The test harness: TEST(name) { … } registers itself, assertions print both sides, results go out as TAP.
 *
 *   TEST(parse_bytes_takes_suffixes)
 *   {
 *           uint64_t v;
 *
 *           ASSERT_OK(parse_bytes("2G", 1, &v));
 *           ASSERT_EQ(v, UINT64_C(2) << 30);
 *   }
 *
 * Each test runs in a child process of its own, with a time limit (TEST_TIMEOUT, default 120 s): a crash or a hang is one failure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct test_case {
	const char *name;
	void (*fn)(void);
	struct test_case *next;
};
void test_register(struct test_case *t);
void test_fail(const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4), noreturn));
void test_skip(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
/* A fresh directory, removed when the test's process ends. Borrowed string. */
const char *test_tmpdir(void);

#define TEST(id)                                                           \
	static void test_##id(void);                                       \
	static struct test_case test_case_##id = { #id, test_##id, NULL }; \
	__attribute__((constructor)) static void test_register_##id(void)  \
	{                                                                  \
		test_register(&test_case_##id);                            \
	}                                                                  \
	static void test_##id(void)

#define ASSERT(cond)                                                       \
	do {                                                               \
		if (!(cond))                                               \
			test_fail(__FILE__, __LINE__, "false: %s", #cond); \
	} while (0)
#define ASSERT_OK(expr)                                                                                 \
	do {                                                                                            \
		long long _r = (long long)(expr);                                                       \
		if (_r < 0)                                                                             \
			test_fail(__FILE__, __LINE__, "%s = %lld (%s)", #expr, _r, strerror((int)-_r)); \
	} while (0)
#define ASSERT_EQ(a, b)                                                                                 \
	do {                                                                                            \
		long long _a = (long long)(a), _b = (long long)(b);                                     \
		if (_a != _b)                                                                           \
			test_fail(__FILE__, __LINE__, "%s = %lld, expected %s = %lld", #a, _a, #b, _b); \
	} while (0)
#define ASSERT_STREQ(a, b)                                                                                             \
	do {                                                                                                           \
		const char *_a = (a), *_b = (b);                                                                       \
		if (!_a || !_b || strcmp(_a, _b) != 0)                                                                 \
			test_fail(__FILE__, __LINE__, "%s = \"%s\", expected %s = \"%s\"", #a, _a ? _a : "(null)", #b, \
				  _b ? _b : "(null)");                                                                 \
	} while (0)
#define ASSERT_CONTAINS(haystack, needle)                                                               \
	do {                                                                                            \
		const char *_h = (haystack), *_n = (needle);                                            \
		if (!_h || !strstr(_h, _n))                                                             \
			test_fail(__FILE__, __LINE__, "%s = \"%s\" does not contain \"%s\"", #haystack, \
				  _h ? _h : "(null)", _n);                                              \
	} while (0)
#define ASSERT_MEMEQ(a, b, n)                                                                                    \
	do {                                                                                                     \
		if (memcmp((a), (b), (n)) != 0)                                                                  \
			test_fail(__FILE__, __LINE__, "%s and %s differ within %zu bytes", #a, #b, (size_t)(n)); \
	} while (0)
