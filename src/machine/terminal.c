#include "machine/terminal.h"

#include <errno.h>
#include <unistd.h>

int raw_terminal_enter(struct raw_terminal *t, int fd, struct error *err)
{
	struct termios raw;

	if (!isatty(fd))
		return 0;
	if (tcgetattr(fd, &t->before) < 0)
		return error_set_errno(err, errno, "cannot read the terminal's settings");
	raw = t->before;
	cfmakeraw(&raw);
	if (tcsetattr(fd, TCSADRAIN, &raw) < 0)
		return error_set_errno(err, errno, "cannot set the terminal");
	t->fd = fd;
	return 0;
}

void raw_terminal_restore(struct raw_terminal *t)
{
	if (t->fd >= 0)
		(void)tcsetattr(t->fd, TCSADRAIN, &t->before);
	t->fd = -1;
}
