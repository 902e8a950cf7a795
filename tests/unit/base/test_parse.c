#include "base/parse.h"

#include <errno.h>

#include "base/clock.h"
#include "base/cleanup.h"
#include "test.h"

TEST(u64_takes_whole_decimal_strings_only)
{
	static const char *const bad[] = {
		"", " 1", "1 ", "+1", "-1", "0x10", "1.0", "a", "1a", "99999999999999999999x"
	};
	uint64_t v = 77;

	ASSERT_OK(parse_u64("0", 0, UINT64_MAX, &v));
	ASSERT_EQ(v, 0);
	ASSERT_OK(parse_u64("18446744073709551615", 0, UINT64_MAX, &v));
	ASSERT(v == UINT64_MAX);
	ASSERT_OK(parse_u64("007", 0, 10, &v));
	ASSERT_EQ(v, 7);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ASSERT_EQ(parse_u64(bad[i], 0, UINT64_MAX, &v), -EINVAL);
	ASSERT_EQ(parse_u64(NULL, 0, 1, &v), -EINVAL);
	ASSERT_EQ(v, 7);
}

TEST(u64_keeps_to_its_range)
{
	uint64_t v = 7;

	ASSERT_EQ(parse_u64("18446744073709551616", 0, UINT64_MAX, &v), -ERANGE);
	ASSERT_EQ(parse_u64("99999999999999999999999", 0, UINT64_MAX, &v), -ERANGE);
	ASSERT_EQ(parse_u64("0", 1, 65535, &v), -ERANGE);
	ASSERT_EQ(parse_u64("65536", 1, 65535, &v), -ERANGE);
	ASSERT_EQ(v, 7);
	ASSERT_OK(parse_u64("1", 1, 65535, &v));
	ASSERT_OK(parse_u64("65535", 1, 65535, &v));
}

TEST(bytes_takes_suffixes)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} cases[] = {
		{ "512M", UINT64_C(512) << 20 },
		{ "2G", UINT64_C(2) << 30 },
		{ "1.5G", UINT64_C(3) << 29 },
		{ "64MiB", UINT64_C(64) << 20 },
		{ "64mib", UINT64_C(64) << 20 },
		{ "100k", 102400 },
		{ "100KB", 102400 },
		{ "1T", UINT64_C(1) << 40 },
		{ "512B", 512 },
		{ "512b", 512 },
		{ "3", 3 << 20 },
		{ "0", 0 },
		{ "0.5k", 512 },
		{ "1.000000K", 1024 },
		{ "16777215T", UINT64_C(16777215) << 40 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t v = 1;

		ASSERT_OK(parse_bytes(cases[i].text, 1 << 20, &v));
		ASSERT_EQ(v, cases[i].bytes);
	}
}

TEST(bytes_refuses_what_is_no_size)
{
	static const char *const bad[] = { "",
					   "G",
					   "-1G",
					   "+1G",
					   " 1G",
					   "1G ",
					   "1 G",
					   "1X",
					   "1GG",
					   "1GiBx",
					   "1.G",
					   ".5G",
					   "1.5",
					   "1.5B",
					   "1.1234567G",
					   "1,5G",
					   "1e3",
					   "0x10",
					   "1.5.5G",
					   "nan",
					   "1i",
					   "1KiBB",
					   "99999999999999999999x" };
	static const char *const large[] = { "16777216T", "18446744073709551616B", "99999999999999999999G",
					     "18014398509481984K" };
	uint64_t v = 7;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (parse_bytes(bad[i], 1 << 20, &v) != -EINVAL)
			test_fail(__FILE__, __LINE__, "'%s' is taken", bad[i]);
	for (size_t i = 0; i < ARRAY_SIZE(large); i++)
		if (parse_bytes(large[i], 1 << 20, &v) != -ERANGE)
			test_fail(__FILE__, __LINE__, "'%s' is in range", large[i]);
	ASSERT_EQ(parse_bytes(NULL, 1, &v), -EINVAL);
	ASSERT_EQ(v, 7);
}

TEST(durations)
{
	uint64_t v;

	ASSERT_OK(parse_duration_ns("90", &v));
	ASSERT_EQ(v, 90 * NS_PER_SEC);
	ASSERT_OK(parse_duration_ns("90s", &v));
	ASSERT_EQ(v, 90 * NS_PER_SEC);
	ASSERT_OK(parse_duration_ns("500ms", &v));
	ASSERT_EQ(v, 500 * NS_PER_MS);
	ASSERT_OK(parse_duration_ns("2m", &v));
	ASSERT_EQ(v, 120 * NS_PER_SEC);
	ASSERT_OK(parse_duration_ns("1h", &v));
	ASSERT_EQ(v, 3600 * NS_PER_SEC);
	ASSERT_EQ(parse_duration_ns("", &v), -EINVAL);
	ASSERT_EQ(parse_duration_ns("s", &v), -EINVAL);
	ASSERT_EQ(parse_duration_ns("-1", &v), -EINVAL);
	ASSERT_EQ(parse_duration_ns("1.5s", &v), -EINVAL);
	ASSERT_EQ(parse_duration_ns("1 s", &v), -EINVAL);
	ASSERT_EQ(parse_duration_ns("1d", &v), -EINVAL);
	ASSERT_EQ(parse_duration_ns("18446744073710", &v), -ERANGE);
	ASSERT_EQ(parse_duration_ns("99999999999999999999", &v), -ERANGE);
}

TEST(booleans)
{
	static const char *const yes[] = { "yes", "true", "on", "1" }, *const no[] = { "no", "false", "off", "0" };
	bool v;

	for (int i = 0; i < 4; i++) {
		v = false;
		ASSERT_OK(parse_bool(yes[i], &v));
		ASSERT(v);
		ASSERT_OK(parse_bool(no[i], &v));
		ASSERT(!v);
	}
	ASSERT_EQ(parse_bool("Yes", &v), -EINVAL);
	ASSERT_EQ(parse_bool("", &v), -EINVAL);
	ASSERT_EQ(parse_bool("2", &v), -EINVAL);
}

TEST(bytes_are_shown_short)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} cases[] = {
		{ 0, "0 B" },
		{ 1, "1 B" },
		{ 1023, "1023 B" },
		{ 1024, "1 KiB" },
		{ 1536, "1.5 KiB" },
		{ 1500, "1.46 KiB" },
		{ 10 * 1024 + 300, "10.3 KiB" },
		{ UINT64_C(512) << 20, "512 MiB" },
		{ UINT64_C(1000) << 20, "1000 MiB" },
		{ UINT64_C(3) << 29, "1.5 GiB" },
		{ (UINT64_C(1) << 20) - 1, "1 MiB" },
		{ (UINT64_C(1) << 30) - 1, "1 GiB" },
		{ (UINT64_C(100) << 20) + (UINT64_C(6) << 16), "100 MiB" },
		{ UINT64_C(1) << 63, "8 EiB" },
		{ UINT64_MAX, "16 EiB" },
	};
	char out[16];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		ASSERT_STREQ(format_bytes(cases[i].bytes, out, sizeof(out)), cases[i].text);
}

TEST(shown_bytes_fit_and_stay_near)
{
	char out[16];

	/* Every magnitude: it fits into 16 bytes and ends with its unit. */
	for (unsigned shift = 0; shift < 64; shift++)
		for (int d = -3; d <= 3; d++) {
			uint64_t v = (UINT64_C(1) << shift) + (uint64_t)(int64_t)d;

			format_bytes(v, out, sizeof(out));
			ASSERT(strlen(out) < 15);
			ASSERT_EQ(out[strlen(out) - 1], 'B');
		}
}

TEST(ages)
{
	char out[16];

	ASSERT_STREQ(format_age(0, out, sizeof(out)), "0 s");
	ASSERT_STREQ(format_age(59, out, sizeof(out)), "59 s");
	ASSERT_STREQ(format_age(60, out, sizeof(out)), "1 min");
	ASSERT_STREQ(format_age(3599, out, sizeof(out)), "59 min");
	ASSERT_STREQ(format_age(3600, out, sizeof(out)), "1 h");
	ASSERT_STREQ(format_age(86400 * 5, out, sizeof(out)), "5 d");
}

TEST(signals_by_name_and_number)
{
	static const struct {
		const char *text;
		int number;
	} good[] = { { "SIGTERM", 15 }, { "term", 15 },       { "15", 15 },      { "SIGKILL", 9 },   { "Quit", 3 },
		     { "RTMIN", 34 },   { "SIGRTMIN+3", 37 }, { "rtmax-1", 63 }, { "SIGRTMAX", 64 }, { "64", 64 } };
	static const char *const bad[] = { "", "0", "65", "SIG", "SIGSIGTERM", "TERM ", "RTMIN+31", "RTMIN+", "-1" };

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		ASSERT_EQ(signal_parse(good[i].text), good[i].number);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ASSERT_EQ(signal_parse(bad[i]), -EINVAL);
}
