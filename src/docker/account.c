#include "docker/account.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

#define PASSWD_LIMIT (1 << 20)

/* NAME:PASSWORD:UID:…, by its third word. */
static bool has_user(const char *text, uid_t uid)
{
	_cleanup_free_ char *word = xasprintf("%u", (unsigned)uid);
	size_t n = strlen(word);

	for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		const char *p = line;

		for (int i = 0; i < 2 && p; i++) {
			p += strcspn(p, ":\n");
			p = *p == ':' ? p + 1 : NULL;
		}
		if (p && strncmp(p, word, n) == 0 && p[n] == ':')
			return true;
	}
	return false;
}

int account_provide(const char *passwd, uid_t uid, gid_t gid)
{
	_cleanup_close_ int fd = -EBADF;
	_cleanup_free_ char *entry = NULL;
	_cleanup_buf_ struct buf text = {};
	int r = file_read_at(AT_FDCWD, passwd, PASSWD_LIMIT, &text);

	if (r < 0)
		return r;
	if (text.p && has_user(text.p, uid))
		return 0;
	fd = open(passwd, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	entry = xasprintf("%suser%u:x:%u:%u::/disks:/bin/sh\n", text.len && text.p[text.len - 1] != '\n' ? "\n" : "",
			  (unsigned)uid, (unsigned)uid, (unsigned)gid);
	return write_full(fd, entry, strlen(entry));
}
