#include "shim/oom_score.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/parse.h"
#include "shim/shim.h"

static void set_one(pid_t pid, int score)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/oom_score_adj", (int)pid);
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
	char value[16];

	(void)snprintf(value, sizeof(value), "%d", score);
	if (fd >= 0)
		(void)!write(fd, value, strlen(value));
}

void oom_score_set(pid_t pid, int score)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/task/%d/children", (int)pid, (int)pid);
	_cleanup_buf_ struct buf text = {};
	uint64_t child;

	if (pid <= 0)
		return;
	set_one(pid, score);
	if (file_read_at(AT_FDCWD, path, 4096, &text) < 0)
		return;
	for (char *p = text.p, *end; p && *p; p = end) {
		size_t n = strcspn(p, " ");

		end = p + n + (p[n] == ' ');
		p[n] = '\0';
		if (parse_u64(p, 2, INT32_MAX, &child) >= 0)
			set_one((pid_t)child, score);
	}
}

void oom_score_follow(struct shim *s)
{
	int score = 0;
	bool any = false;

	for (const struct container *k = s->containers; k; k = k->next) {
		if (k->sandbox || !k->spec)
			continue;
		score = any && score > k->info.oom_score ? score : k->info.oom_score;
		any = true;
	}
	if (s->vm)
		vm_set_oom_score(s->vm, score);
}
