/* The shells' scripts, run by the shells where they are installed. */
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/spawn.h"
#include "cli/commands.h"
#include "cli/completion.h"
#include "test.h"

/* What bash offers for a line whose last word is being completed. Owned by the caller. */
static char *bash_offers(const char *words)
{
	_cleanup_free_ char *bash = program_find("bash");
	_cleanup_buf_ struct buf input = {}, out = {};
	const char *argv[] = { bash, "--noprofile", "--norc", NULL };
	struct spawn sp = SPAWN_INIT;
	int status;

	if (!bash)
		test_skip("no bash here");
	/* Stands in for the program: dynamic names come from it. */
	buf_adds(&input, "skerry() { if [ \"$1\" = __complete ]; then echo \"$2-one\"; echo \"$2-two\"; fi; }\n");
	completion_script(commands, COMPLETION_BASH, &input);
	buf_addf(&input,
		 "COMP_WORDS=(skerry %s)\nCOMP_CWORD=$((${#COMP_WORDS[@]} - 1))\nCOMPREPLY=()\n_skerry\necho "
		 "\"${COMPREPLY[*]}\"\n",
		 words);
	sp.argv = argv;
	ASSERT_OK(spawn_run(&sp, &input, &out, NULL, 1 << 20, 100 * NS_PER_SEC, &status, NULL));
	ASSERT_EQ(status, 0);
	return buf_take(&out);
}

static void offers(const char *words, const char *expected)
{
	_cleanup_free_ char *got = bash_offers(words), *line = xasprintf("%s\n", expected);

	printf("# skerry %s\n", words);
	ASSERT_STREQ(got, line);
}

TEST(bash_completes_commands)
{
	offers("sta", "start status stats");
	offers("imag", "image");
	offers("image b", "build");
	offers("image delete ''", "image-one image-two");
	offers("config ''", "show init");
}

TEST(bash_completes_options)
{
	offers("stop --t", "--timeout");
	offers("run --fo", "");
	offers("list --format ''", "table json");
	offers("list --format = j", "json");
	offers("create x --image ''", "image-one image-two");
	offers("run --shape m", "micro");
}

TEST(bash_completes_names)
{
	offers("start ''", "machine-one machine-two");
	offers("start a b machine-t", "machine-two");
	offers("run ''", "image-one image-two");
	offers("exec machine-o", "machine-one");
	offers("path x ''", "resource-one resource-two");
	offers("list ''", "");
	offers("pid a ''", "");
	offers("kernel delete kernel-t", "kernel-two");
}

TEST(a_value_of_an_option_is_no_operand)
{
	offers("run --name web image-o", "image-one");
	offers("run --name = web image-o", "image-one");
	offers("run -p 80:80 -e A=B --memory 1G image-o", "image-one");
	offers("create web --image = debian : trixie --kernel ''", "kernel-one kernel-two");
	offers("exec --user root machine-o", "machine-one");
	offers("stop --timeout 5 a machine-t", "machine-two");
	offers("path -- x ''", "resource-one resource-two");
	offers("list --label x ''", "");
	offers("path a b ''", "");
}

/* One kind of @kinds after the other, "machine image+": the hidden command says something of each, if there is anything. */
static void answers(const char *kinds)
{
	while (kinds && *kinds) {
		size_t n = strcspn(kinds, " +");
		_cleanup_free_ char *kind = xstrndup(kinds, n);
		struct invocation inv = { .command = &complete_command, .operands = &kind, .n_operands = 1 };
		_cleanup_error_ struct error e = {};

		kinds += n + strspn(kinds + n, " +");
		if (streq(kind, "file") || streq(kind, "directory") || streq(kind, "path") || streq(kind, "none"))
			continue;
		if (complete_command.run(&inv, &e) < 0)
			test_fail(__FILE__, __LINE__, "%s: %s", kind, e.msg);
	}
}

TEST(every_kind_of_the_table_is_known)
{
	int out = dup(STDOUT_FILENO), null = open("/dev/null", O_WRONLY | O_CLOEXEC); /* lint: for a moment */

	ASSERT_OK(setenv("SKERRY_HOME", test_tmpdir(), 1));
	ASSERT(out >= 0 && dup2(null, STDOUT_FILENO) >= 0);
	for (const struct command *const *c = commands; *c; c++) {
		static const struct command *const none[] = { NULL };
		const struct command *const *sub = (*c)->subcommands ? (*c)->subcommands : none;

		for (const struct command *each = *c; each; each = *sub ? *sub++ : NULL) {
			answers(each->complete);
			for (size_t i = 0; i < each->n_options; i++)
				answers(each->options[i].complete);
		}
	}
	(void)dup2(out, STDOUT_FILENO);
}

static void parses(const char *shell, enum completion_shell kind, const char *flag)
{
	_cleanup_free_ char *program = program_find(shell), *path = xasprintf("%s/script", test_tmpdir());
	_cleanup_buf_ struct buf script = {};
	const char *argv[] = { program, flag, path, NULL };
	struct spawn sp = SPAWN_INIT;
	int fd, status;

	completion_script(commands, kind, &script);
	ASSERT(script.len > 1000);
	if (!program)
		test_skip("no %s here", shell);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_OK(fd);
	ASSERT_EQ(write(fd, script.p, script.len), (long long)script.len);
	close(fd);
	sp.argv = argv;
	sp.stdio[2] = STDOUT_FILENO;
	ASSERT_OK(spawn_run(&sp, NULL, NULL, NULL, 4096, 100 * NS_PER_SEC, &status, NULL));
	ASSERT_EQ(status, 0);
}

TEST(bash_parses_its_script)
{
	parses("bash", COMPLETION_BASH, "-n");
}

TEST(zsh_parses_its_script)
{
	parses("zsh", COMPLETION_ZSH, "-n");
}

TEST(fish_parses_its_script)
{
	parses("fish", COMPLETION_FISH, "-n");
}
