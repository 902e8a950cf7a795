/* The last line of ./check is worth what this sum is worth. */
#include "test.h"

#include <fcntl.h>
#include <sys/wait.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/spawn.h"

enum { LIMIT = 1 << 20 };

/* Adds up a log of one program whose output is @tap, with @options; the sum must end with @last and exit with @status. */
static void sums_to(const char *result, const char *tap, const char *const *options, const char *last, int status)
{
	_cleanup_free_ char *log = xasprintf("%s/log.json", test_tmpdir()), *end = NULL;
	_cleanup_buf_ struct buf text = {}, out = {};
	_cleanup_strv_ struct strv argv = {};
	struct spawn s = SPAWN_INIT;
	struct error err = {};
	int wait_status;

	buf_addf(&text, "{\"name\": \"p\", \"result\": \"%s\", \"stdout\": \"%s\"}\n", result, tap);
	ASSERT_OK(file_write_at(AT_FDCWD, log, text.p, text.len, 0600, 0));
	strv_add(&argv, TAP_SUMMARY);
	for (; options && *options; options++)
		strv_add(&argv, *options);
	strv_add(&argv, log);
	s.argv = (const char *const *)argv.items;
	ASSERT_OK(spawn_run(&s, NULL, &out, NULL, LIMIT, UINT64_C(30000000000), &wait_status, &err));
	end = xasprintf("%s\n", last);
	ASSERT(out.len >= strlen(end));
	ASSERT_STREQ(out.p + out.len - strlen(end), end);
	ASSERT_EQ(WEXITSTATUS(wait_status), status);
}

TEST(every_single_result_counts)
{
	sums_to("OK", "1..3\\nok 1 - a\\n# ok\\nok 2 - b\\nok 3 - c\\n", NULL, "3 passed, 0 failed", 0);
	sums_to("FAIL", "1..3\\nok 1 - a\\nnot ok 2 - b\\nok 3 - c\\n", NULL, "2 passed, 1 failed", 1);
}

TEST(a_plan_cut_short_is_as_many_failures)
{
	sums_to("ERROR", "1..5\\nok 1 - a\\nok 2 - b\\n", NULL, "2 passed, 3 failed", 1);
	sums_to("TIMEOUT", "1..2\\nok 1 - a\\n", NULL, "1 passed, 1 failed", 1);
}

TEST(a_program_that_fails_in_silence_is_a_failure)
{
	sums_to("FAIL", "", NULL, "0 passed, 1 failed", 1);
	sums_to("ERROR", "1..1\\nok 1 - a\\n", NULL, "1 passed, 1 failed", 1);
}

TEST(nothing_passed_is_no_success)
{
	sums_to("OK", "1..0 # SKIP all\\n", NULL, "0 passed, 0 failed", 1);
}

TEST(a_skip_counts_by_itself_and_fails_where_strict)
{
	static const char *const strict[] = { "--strict", NULL };
	static const char tap[] = "1..2\\nok 1 - a\\nok 2 - b # SKIP\\n";

	sums_to("OK", tap, NULL, "1 passed, 0 failed, 1 skipped", 0);
	sums_to("OK", tap, strict, "1 passed, 1 failed", 1);
}

TEST(a_skip_with_a_reason_is_allowed_where_strict)
{
	_cleanup_free_ char *list = xasprintf("%s/allowed", test_tmpdir());
	const char *options[] = { "--strict", "--allow", list, NULL };
	static const char reason[] = "# reasons\np b: not here\n";

	ASSERT_OK(file_write_at(AT_FDCWD, list, reason, strlen(reason), 0600, 0));
	sums_to("OK", "1..2\\nok 1 - a\\nok 2 - b # SKIP\\n", options, "1 passed, 0 failed, 1 skipped", 0);
	sums_to("OK", "1..2\\nok 1 - a\\nok 2 - bb # SKIP\\n", options, "1 passed, 1 failed", 1);
}

TEST(a_step_that_failed_outside_counts)
{
	static const char *const options[] = { "--failed", "build", NULL };

	sums_to("OK", "1..1\\nok 1 - a\\n", options, "1 passed, 1 failed", 1);
}
