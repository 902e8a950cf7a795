/* Which process the host's kernel ends first where its memory does not suffice (proc(5), oom_score_adj). What a machine runs in would otherwise have
 * containerd's own score, which is to be ended last. */
#pragma once

#include <sys/types.h>

struct container;
struct shim;

enum { OOM_SCORE_MIN = -1000, OOM_SCORE_MAX = 1000 };

/* The process, and those that it has made already. Where this process may not, they keep what they have. */
void oom_score_set(pid_t pid, int score);
/* The machine's becomes the highest of those who are in it: of a container that is alone, or of a pod's members. */
void oom_score_follow(struct shim *s);
