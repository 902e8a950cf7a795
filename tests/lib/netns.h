/* Network namespaces for tests: made by a descriptor alone, so that they vanish with the test's process. Root only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

/* A new one with its loopback up; skips the test where that is not possible. */
int netns_new(void);
/* Enters @ns and returns the one that was left, for netns_leave(). Only for processes with one thread. */
int netns_enter(int ns);
void netns_leave(int before);
/* Runs a program there, words apart by single spaces; a status other than 0 fails the test. netns_try returns the status. */
void netns_run(int ns, const char *command, ...) __attribute__((format(printf, 2, 3)));
int netns_try(int ns, const char *command, ...) __attribute__((format(printf, 2, 3)));
/* What it prints, owned by the caller. */
char *netns_output(int ns, const char *command);
/* Everything that iproute2 tells of it: links, addresses, routes, neighbours, queueing disciplines and filters of @interface. */
char *netns_picture(int ns, const char *interface);
/* A socket that hears of changes there (RTMGRP_… of rtnetlink(7)), and whether it has heard of some before the deadline. */
int netns_listen(int ns, unsigned groups);
bool netns_heard(int fd, uint64_t deadline_ns);
/* A pair of interfaces between two namespaces, up, with carrier at both ends. */
void netns_pair(int inside, const char *name, int outside, const char *peer);
