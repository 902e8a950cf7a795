#include "image/arrivals.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>

#include "test.h"

enum { MANY = 500 };

static int bring_many(struct arrivals *a, void *data, struct error *err)
{
	const atomic_bool *stop = arrivals_stop_flag(a);
	char digest[32];

	(void)data;
	(void)err;
	for (int i = 0; i < MANY && !atomic_load(stop); i++) {
		snprintf(digest, sizeof(digest), "sha256:%d", i);
		arrivals_add(a, digest, i % 2);
	}
	return 0;
}

TEST(each_is_waited_for_in_any_order)
{
	_cleanup_(arrivals_freep) struct arrivals *a = NULL;
	bool fresh;

	ASSERT_OK(arrivals_start(bring_many, NULL, &a, NULL));
	ASSERT_OK(arrivals_wait(a, "sha256:499", &fresh, NULL));
	ASSERT(fresh);
	for (int i = 0; i < MANY; i++) {
		char digest[32];

		snprintf(digest, sizeof(digest), "sha256:%d", i);
		ASSERT_OK(arrivals_wait(a, digest, &fresh, NULL));
		ASSERT_EQ(fresh, i % 2);
	}
	ASSERT_OK(arrivals_finish(a, false, NULL));
	ASSERT(arrivals_have_ended(a));
}

static int bring_some(struct arrivals *a, void *data, struct error *err)
{
	(void)data;
	arrivals_add(a, "sha256:first", true);
	return error_set_kind(err, ERROR_DATA, EBADMSG, "the second is another");
}

TEST(what_does_not_come_is_not_waited_for)
{
	_cleanup_(arrivals_freep) struct arrivals *a = NULL;
	_cleanup_error_ struct error e = {}, why = {};
	bool fresh;

	ASSERT_OK(arrivals_start(bring_some, NULL, &a, NULL));
	ASSERT_OK(arrivals_wait(a, "sha256:first", &fresh, NULL));
	ASSERT_EQ(arrivals_wait(a, "sha256:second", &fresh, &e), -ECANCELED);
	ASSERT_CONTAINS(e.msg, "sha256:second");
	ASSERT_EQ(arrivals_finish(a, false, &why), -EBADMSG);
	ASSERT_STREQ(why.msg, "the second is another");
	ASSERT_EQ((int)why.kind, ERROR_DATA);
	/* What came stays. */
	ASSERT_OK(arrivals_wait(a, "sha256:first", &fresh, NULL));
}

static int bring_until_stopped(struct arrivals *a, void *data, struct error *err)
{
	(void)data;
	while (!atomic_load(arrivals_stop_flag(a)))
		sched_yield();
	return error_set(err, ECANCELED, "stopped");
}

TEST(who_wants_no_more_ends_it)
{
	_cleanup_(arrivals_freep) struct arrivals *a = NULL, *left = NULL;

	ASSERT_OK(arrivals_start(bring_until_stopped, NULL, &a, NULL));
	ASSERT(!arrivals_have_ended(a));
	ASSERT_EQ(arrivals_finish(a, true, NULL), -ECANCELED);
	ASSERT_OK(arrivals_start(bring_until_stopped, NULL, &left, NULL));
}

TEST(nobody_need_be_told)
{
	arrivals_add(NULL, "sha256:x", true);
	ASSERT(!arrivals_stop_flag(NULL));
}
