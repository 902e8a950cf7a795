#include "base/log.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"

/* The one mutable state of the tree: where a program's diagnostics go. */
static struct {
	int fd;
	enum log_level level;
	bool timestamps;
} target = { STDERR_FILENO, LOG_LEVEL_WARNING, false };

static const char *const level_names[LOG_LEVEL_MAX] = { "error", "warning", "info", "debug" };

void log_setup(int fd, enum log_level level, bool timestamps)
{
	target.fd = fd;
	target.level = level;
	target.timestamps = timestamps;
}

void log_setup_from_env(void)
{
	const char *s = getenv("SKERRY_LOG");

	for (int i = 0; s && i < LOG_LEVEL_MAX; i++)
		if (streq(s, level_names[i]))
			target.level = (enum log_level)i;
}

void log_line(enum log_level level, const char *fmt, ...)
{
	int saved = errno;
	char line[2048], *text = line;
	size_t room = sizeof(line) - 1; /* the newline's place */
	va_list ap;
	int n;

	if (level > target.level || target.fd < 0)
		return;
	if (target.timestamps) {
		clock_format_rfc3339(clock_realtime_ns(), text, 21);
		text += strlen(text);
		*text++ = ' ';
	}
	text += snprintf(text, 16, "%s: ", level_names[level]);
	room -= (size_t)(text - line);
	va_start(ap, fmt);
	n = vsnprintf(text, room, fmt, ap);
	va_end(ap);
	if (n < 0)
		n = 0;
	if ((size_t)n >= room)
		n = (int)room - 1;
	/* What a guest or a helper said may be in here: one line stays one line, and drives no terminal. */
	for (int i = 0; i < n; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			text[i] = '?';
	text[n++] = '\n';
	/* One write, so that lines of several processes do not mix. There is nowhere to report its failure to. */
	if (write(target.fd, line, (size_t)(text - line) + (size_t)n) < 0)
		errno = saved;
	errno = saved;
}
