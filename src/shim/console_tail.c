#include "shim/console_tail.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"

#define PANIC "Kernel panic - not syncing: "

enum { TAIL = 8192, REASON_MAX = 120 };

char *console_tail_read(int dir_fd)
{
	_cleanup_close_ int fd = openat(dir_fd, "console.log", O_RDONLY | O_CLOEXEC);
	_cleanup_free_ char *raw = xcalloc(1, TAIL + 1);
	off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	ssize_t n = size <= 0 ? -1 : pread(fd, raw, TAIL, size > TAIL ? size - TAIL : 0);

	if (n <= 0)
		return NULL;
	for (ssize_t i = 0; i < n; i++)
		if (raw[i] != '\n' && raw[i] != '\r' && (raw[i] < ' ' || raw[i] > '~'))
			raw[i] = ' ';
	return TAKE_PTR(raw);
}

char *console_tail_panic(const char *tail)
{
	const char *at = strstr(tail, PANIC);
	size_t n;

	if (!at)
		return NULL;
	at += strlen(PANIC);
	n = strcspn(at, "\r\n");
	return xstrndup(at, n < REASON_MAX ? n : REASON_MAX);
}

void console_tail_log(const char *tail, const char *name)
{
	for (const char *line = tail; *line;) {
		size_t n = strcspn(line, "\r\n");

		if (n)
			log_warning("%s: console: %.*s", name, (int)n, line);
		line += n + strspn(line + n, "\r\n");
	}
}
