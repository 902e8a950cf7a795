#include "base/thread.h"

#include <signal.h>

int thread_start(pthread_t *ret, void *(*run)(void *data), void *data)
{
	sigset_t all, old;
	int r;

	/* Inherited; before it runs, so that there is no moment without. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(ret, NULL, run, data);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -r;
}
