#include "base/thread.h"

#include <errno.h>
#include <signal.h>

#include "test.h"

static void *look_at_mask(void *data)
{
	(void)pthread_sigmask(SIG_SETMASK, NULL, data);
	return data;
}

TEST(a_thread_gets_no_signals_and_its_starter_all_as_before)
{
	sigset_t theirs, before, after;
	pthread_t t;
	void *ret;

	(void)sigemptyset(&before);
	(void)sigaddset(&before, SIGUSR1);
	ASSERT_EQ(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
	ASSERT_OK(thread_start(&t, look_at_mask, &theirs));
	ASSERT_EQ(pthread_join(t, &ret), 0);
	ASSERT(ret == &theirs);
	ASSERT_EQ(sigismember(&theirs, SIGTERM), 1);
	ASSERT_EQ(sigismember(&theirs, SIGINT), 1);
	ASSERT_EQ(pthread_sigmask(SIG_SETMASK, NULL, &after), 0);
	ASSERT_EQ(sigismember(&after, SIGUSR1), 1);
	ASSERT_EQ(sigismember(&after, SIGTERM), 0);
}
