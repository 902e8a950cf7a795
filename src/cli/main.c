/* skerry: the command-line door. Everything it can do stands in the table of commands (commands.c). */
#include <errno.h>
#include <signal.h>

#include "base/log.h"
#include "cli/commands.h"
#include "cli/help.h"
#include "cli/output.h"

enum { EXIT_OWN_FAILURE = 125 };

static int show_help(const struct invocation *inv, struct error *err)
{
	_cleanup_buf_ struct buf out = {};

	if (inv->command)
		help_command(inv->group, inv->command, &out);
	else
		help_overview(commands, &out);
	return output_text(out.p, out.len, err);
}

int main(int argc, char **argv)
{
	_cleanup_invocation_ struct invocation inv = {};
	_cleanup_error_ struct error err = {};
	int r;

	log_setup_from_env();
	/* A reader that went away is an error of the write, not an end without a word. */
	(void)signal(SIGPIPE, SIG_IGN);
	r = invocation_parse(commands, argc - 1, argv + 1, &inv, &err);
	if (r >= 0)
		r = inv.help ? show_help(&inv, &err) : inv.command->run(&inv, &err);
	if (r >= 0)
		return r;
	/* `skerry list | head` has what it wanted. */
	if (err.num != EPIPE)
		output_error(&err);
	if (inv.command && inv.command->own_status)
		return EXIT_OWN_FAILURE;
	return err.num ? error_exit_status(&err) : 1;
}
