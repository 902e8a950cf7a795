#include "base/error.h"

#include "test.h"

TEST(set_fills_number_kind_and_text)
{
	_cleanup_error_ struct error e = {};

	ASSERT_EQ(error_set(&e, -ENOENT, "no machine named '%s'", "web"), -ENOENT);
	ASSERT_EQ(e.num, ENOENT);
	ASSERT_EQ(e.kind, ERROR_NOT_FOUND);
	ASSERT_STREQ(e.msg, "no machine named 'web'");
	ASSERT(!e.hint);
}

TEST(set_errno_appends_the_reason)
{
	_cleanup_error_ struct error e = {};

	ASSERT_EQ(error_set_errno(&e, EACCES, "cannot open '%s'", "/x"), -EACCES);
	ASSERT_STREQ(e.msg, "cannot open '/x': Permission denied");
	ASSERT_EQ(e.kind, ERROR_DENIED);
}

TEST(kind_can_differ_from_the_number)
{
	_cleanup_error_ struct error e = {};

	ASSERT_EQ(error_set_kind(&e, ERROR_UNAVAILABLE, ENOENT, "qemu: not installed"), -ENOENT);
	ASSERT_EQ(e.kind, ERROR_UNAVAILABLE);
	ASSERT_EQ(error_exit_status(&e), 69);
}

TEST(every_kind_has_its_exit_status)
{
	static const struct {
		int num, status;
	} cases[] = {
		{ ENOENT, 1 },  { EEXIST, 73 },   { EBUSY, 75 },   { EAGAIN, 75 }, { EACCES, 77 },
		{ EPERM, 77 },  { ETIMEDOUT, 1 }, { EBADMSG, 65 }, { EILSEQ, 65 }, { ENOSPC, 73 },
		{ EDQUOT, 73 }, { EROFS, 73 },    { EIO, 1 },
	};
	static const int by_kind[ERROR_KIND_MAX] = { 1, 64, 65, 69, 73, 75, 77, 78, 1, 73, 1 };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_error_ struct error e = {};

		error_set(&e, cases[i].num, "x");
		ASSERT_EQ(error_exit_status(&e), cases[i].status);
	}
	for (int k = 0; k < ERROR_KIND_MAX; k++) {
		_cleanup_error_ struct error e = {};

		error_set_kind(&e, (enum error_kind)k, EIO, "x");
		ASSERT_EQ(error_exit_status(&e), by_kind[k]);
	}
	ASSERT_EQ(error_exit_status(&(struct error){}), 0);
}

TEST(prefix_and_hint_keep_the_number)
{
	_cleanup_error_ struct error e = {};

	error_set(&e, ENOSPC, "cannot write");
	ASSERT_EQ(error_prefix(&e, "disk '%s'", "system"), -ENOSPC);
	ASSERT_STREQ(e.msg, "disk 'system': cannot write");
	ASSERT_EQ(error_hint(&e, "free %d MiB", 3), -ENOSPC);
	ASSERT_STREQ(e.hint, "free 3 MiB");
	error_hint(&e, "another");
	ASSERT_STREQ(e.hint, "free 3 MiB");
	ASSERT_EQ(e.kind, ERROR_CANTCREATE);
}

TEST(null_is_accepted_everywhere)
{
	struct error from = {};

	ASSERT_EQ(error_set(NULL, ENOENT, "x"), -ENOENT);
	ASSERT_EQ(error_set_errno(NULL, -EBUSY, "x"), -EBUSY);
	ASSERT_EQ(error_set_kind(NULL, ERROR_DATA, EINVAL, "x"), -EINVAL);
	ASSERT_EQ(error_prefix(NULL, "x"), -EIO);
	ASSERT_EQ(error_hint(NULL, "x"), -EIO);
	ASSERT_EQ(error_exit_status(NULL), 0);
	error_done(NULL);
	error_set(&from, ENOENT, "lost");
	ASSERT_EQ(error_move(NULL, &from), -ENOENT);
	ASSERT(!from.msg && !from.num);
}

TEST(a_failure_without_a_number_is_still_one)
{
	_cleanup_error_ struct error e = {};

	ASSERT_EQ(error_set(&e, 0, "x"), -EIO);
	ASSERT_EQ(error_exit_status(&e), 1);
}

TEST(setting_twice_keeps_the_last_and_leaks_nothing)
{
	_cleanup_error_ struct error e = {};

	error_set(&e, EIO, "first");
	error_hint(&e, "hint of the first");
	error_set(&e, ENOENT, "second");
	ASSERT_STREQ(e.msg, "second");
	ASSERT(!e.hint);
}

TEST(move_hands_over_everything)
{
	_cleanup_error_ struct error to = {}, from = {};

	error_set(&from, EBUSY, "taken");
	error_hint(&from, "wait");
	error_set(&to, EIO, "old");
	ASSERT_EQ(error_move(&to, &from), -EBUSY);
	ASSERT_STREQ(to.msg, "taken");
	ASSERT_STREQ(to.hint, "wait");
	ASSERT(!from.msg && !from.hint && !from.num);
}

TEST(nothing_in_a_message_steers_a_terminal)
{
	_cleanup_error_ struct error e = {};

	error_set(&e, EBADMSG, "'%s': bad",
		  "a\033[2Jb\nc\rd\x7f\xc2\x9b"
		  "e\xc3\xa9\xff");
	error_prefix(&e, "%s", "x\a");
	error_hint(&e, "%s", "\t\nlast\r");
	ASSERT_STREQ(e.msg, "x?: 'a?[2Jb?c?d???e\xc3\xa9\xff': bad");
	ASSERT_STREQ(e.hint, "?\nlast?");
}
