#include "base/fault.h"

#ifdef SKERRY_FAULTS
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/parse.h"

static const struct {
	const char *name;
	int num;
} errnos[] = {
	{ "EACCES", EACCES }, { "EAGAIN", EAGAIN }, { "EBUSY", EBUSY },         { "ECONNREFUSED", ECONNREFUSED },
	{ "EDQUOT", EDQUOT }, { "EEXIST", EEXIST }, { "EINTR", EINTR },         { "EIO", EIO },
	{ "EMFILE", EMFILE }, { "ENFILE", ENFILE }, { "ENODEV", ENODEV },       { "ENOENT", ENOENT },
	{ "ENOMEM", ENOMEM }, { "ENOSPC", ENOSPC }, { "ENOSYS", ENOSYS },       { "EPERM", EPERM },
	{ "EPIPE", EPIPE },   { "EROFS", EROFS },   { "ETIMEDOUT", ETIMEDOUT },
};

/* A test that asks for what does not exist must not pass. */
static _noreturn_ void refuse(const char *spec)
{
	fprintf(stderr, "skerry: SKERRY_FAULT: cannot understand '%s'\n", spec);
	abort();
}

static void record(const char *label)
{
	const char *path = getenv("SKERRY_FAULT_LOG");
	_cleanup_close_ int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -EBADF;

	if (fd >= 0) {
		_cleanup_free_ char *line = xasprintf("%s\n", label);

		(void)write_full(fd, line, strlen(line));
	}
}

static int act(const char *action, const char *spec)
{
	if (streq(action, "kill") || streq(action, "stop")) {
		(void)kill(getpid(), streq(action, "kill") ? SIGKILL : SIGSTOP);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(errnos); i++)
		if (streq(errnos[i].name, action))
			return -errnos[i].num;
	refuse(spec);
}

int fault_point(const char *label)
{
	static uint64_t passed; /* of the one label that SKERRY_FAULT names */
	const char *spec = getenv("SKERRY_FAULT"), *rest, *equals;
	_cleanup_free_ char *count = NULL;
	uint64_t n = 1;

	record(label);
	if (!spec || !*spec)
		return 0;
	equals = strchr(spec, '=');
	if (!equals)
		refuse(spec);
	rest = after_prefix(spec, label);
	if (!rest || (*rest != '=' && *rest != ':'))
		return 0;
	if (*rest == ':') {
		count = xstrndup(rest + 1, (size_t)(equals - rest - 1));
		if (equals < rest || parse_u64(count, 1, UINT64_MAX, &n) < 0)
			refuse(spec);
	}
	return ++passed == n ? act(equals + 1, spec) : 0;
}
#endif
