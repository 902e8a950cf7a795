/* The Makefile's part in installing, around a program that is quickly built. */
#include <unistd.h>

#include "base/memory.h"
#include "cli.h"

static const char project[] = "project('x', 'c')\nexecutable('x', 'x.c', install: true)\n";

static void sh(const char *script, const char *input)
{
	_cleanup_free_ char *text = xasprintf("cd '%s' && { %s; }", test_tmpdir(), script);
	const char *argv[] = { CLI_SHELL, text, NULL };
	_cleanup_cli_ struct cli r = cli_argv(argv, input, 400);

	ASSERT_STATUS(r, 0);
}

#define USER "setpriv --reuid=nobody --regid=nogroup --clear-groups "
/* As sudo runs it. */
#define SUDO "SUDO_UID=$(id -u nobody) SUDO_GID=$(id -g nobody) "

TEST(what_root_installs_leaves_the_build_directory_to_its_owner)
{
	if (geteuid() != 0)
		test_skip("needs root, to be another");
	sh("mkdir own && cat >own/meson.build && echo 'int main(void) { return 0; }' >own/x.c && "
	   "cp " SOURCE_DIR "/Makefile own/ && chmod 755 . && chown -R nobody own",
	   project);
	/* From a fresh checkout, and once more. */
	sh("cd own && " SUDO "make install DESTDIR=$PWD/../all && " SUDO "make install DESTDIR=$PWD/../all && test -x "
	   "../all/usr/local/bin/x && test -z \"$(find . -user root)\"",
	   NULL);
	sh("cd own && " USER "make install PREFIX=$PWD/local && test -x local/bin/x && " USER "make", NULL);
	sh("cd own && " SUDO "make install DESTDIR=$PWD/../again && test -x ../again/usr/local/bin/x && test -z "
	   "\"$(find . -user root)\"",
	   NULL);
	/* root's own is root's. */
	sh("rm -rf own/build && chown -R root own && cd own && " SUDO
	   "make install DESTDIR=$PWD/../all && test -z \"$(find build "
	   "-user nobody)\"",
	   NULL);
}
