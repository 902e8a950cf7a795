/* Threads beside the one of main(). Signals are the program's: no thread that is started here gets any. */
#pragma once

#include <pthread.h>

/* Runs @run(@data); the caller joins it. Errors: of pthread_create(3), negative. */
int thread_start(pthread_t *ret, void *(*run)(void *data), void *data);
