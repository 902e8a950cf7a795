/* README's tour: every command of it is run as printed, in order, and must succeed. */
#include <unistd.h>

#include "cli.h"

#define TOUR_BEGINS    "## A tour"
#define COMMAND_INDENT "    "

/* The tour's commands are its indented lines. */
static FILE *open_tour(char *line, size_t n)
{
	FILE *f = fopen(SOURCE_DIR "/README.md", "re");

	ASSERT(f != NULL);
	while (fgets(line, (int)n, f))
		if (!strncmp(line, TOUR_BEGINS, strlen(TOUR_BEGINS)))
			return f;
	test_fail(__FILE__, __LINE__, "README.md has no tour");
}

static void put_skerry_first_in_path(void)
{
	char path[4096], *slash;

	snprintf(path, sizeof(path), "PATH=%s", cli_skerry());
	slash = strrchr(path, '/');
	ASSERT(slash != NULL);
	snprintf(slash, sizeof(path) - (size_t)(slash - path), ":%s", getenv("PATH"));
	cli_setenv(path);
}

TEST(every_command_of_the_tour_works_as_printed)
{
	unsigned commands = 0;
	char line[512];
	FILE *f;

	cli_home(true);
	put_skerry_first_in_path();
	ASSERT_EQ(chdir(SOURCE_DIR), 0);
	f = open_tour(line, sizeof(line));
	while (fgets(line, sizeof(line), f) && strncmp(line, "## ", 3) != 0) {
		const char *argv[] = { CLI_SHELL, line + strlen(COMMAND_INDENT), NULL };
		_cleanup_cli_ struct cli r = {};

		if (strncmp(line, COMMAND_INDENT, strlen(COMMAND_INDENT)) != 0)
			continue;
		line[strcspn(line, "\n")] = '\0';
		r = cli_argv(argv, NULL, 300);
		if (r.status != 0)
			test_fail(__FILE__, __LINE__, "`%s`: status %d\n# out: %s\n# err: %s",
				  line + strlen(COMMAND_INDENT), r.status, r.out, r.err);
		commands++;
	}
	fclose(f);
	printf("# %u commands\n", commands);
	ASSERT(commands >= 10);
	ASSERT(cli_processes_gone(120));
}
