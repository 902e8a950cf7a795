/* Writes the source of one manual page from the table of commands, at build time: skerry-manual PAGE [FRAGMENT], PAGE "skerry" or a command's
 * name; FRAGMENT is a file with hand-written sections. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/file.h"
#include "cli/commands.h"
#include "cli/help.h"
#include "cli/output.h"

enum { FRAGMENT_LIMIT = 1 << 20 };

int main(int argc, char **argv)
{
	_cleanup_buf_ struct buf out = {}, fragment = {};
	_cleanup_error_ struct error err = {};
	const struct command *c = NULL;

	if (argc < 2 || argc > 3) {
		fprintf(stderr, "usage: skerry-manual PAGE [FRAGMENT]\n");
		return 64;
	}
	if (!streq(argv[1], "skerry")) {
		c = command_find(commands, argv[1]);
		if (!c || c->hidden) {
			fprintf(stderr, "skerry-manual: no command '%s'\n", argv[1]);
			return 64;
		}
	}
	if (argc == 3 && file_read_at(AT_FDCWD, argv[2], FRAGMENT_LIMIT, &fragment) < 0) {
		fprintf(stderr, "skerry-manual: cannot read '%s'\n", argv[2]);
		return 1;
	}
	help_manual(commands, c, fragment.p, &out);
	if (output_text(out.p, out.len, &err) >= 0)
		return 0;
	output_error(&err);
	return 1;
}
