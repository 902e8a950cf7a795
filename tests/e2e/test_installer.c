/* The installer of Kubernetes' nodes, without Kubernetes: a tree that looks like a node's, and a real containerd that reads what came of it. */
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "containerd.h"

#define INSTALL                                                                                                \
	"HOST= PAYLOAD=$PWD/payload PREFIX=$PWD/n/opt/skerry LINKS=$PWD/n/bin DATA=$PWD/n/lib ETC=$PWD/n/etc " \
	"RUN=${SKERRY_HOME-$PWD/home}/run RESTART=${RESTART-} "                                                \
	"sh " SOURCE_DIR "/images/installer/install.sh "
#define SHIM "containerd-shim-skerry-v1"

static char *output(const char *script)
{
	_cleanup_free_ char *text = xasprintf("cd '%s' && { %s; } 2>&1", test_tmpdir(), script);
	const char *argv[] = { CLI_SHELL, text, NULL };
	_cleanup_cli_ struct cli r = cli_argv(argv, NULL, 120);

	ASSERT_STATUS(r, 0);
	return xstrdup(r.out);
}

static void make_payload(void)
{
	ctd_sh("mkdir -p payload/bin payload/libexec/skerry payload/kernels/k1 n/etc && cp " SHIM_DIR "/" SHIM
	       " payload/bin/ && cp " SHIM_DIR
	       "/../guest/skerry-init payload/libexec/skerry/ && echo x >payload/kernels/k1/vmlinux");
}

/* What containerd itself makes of the configuration. */
static char *dump(void)
{
	return output("containerd --config n/etc/config.toml config dump 2>/dev/null");
}

TEST(a_node_gets_it_keeps_what_it_has_and_is_as_before)
{
	_cleanup_free_ char *seen = NULL, *again = NULL;

	if (geteuid() != 0)
		test_skip("a node's files are root's");
	make_payload();
	ctd_sh("printf 'version = 2\\nroot = \"/x\"\\n\\n# ours\\n[plugins.\"io.containerd.grpc.v1.cri\"]\\n  "
	       "sandbox_image = "
	       "\"mine\"\\n' >n/etc/config.toml && chmod 640 n/etc/config.toml && cp -p n/etc/config.toml before");
	ctd_sh(INSTALL "install");
	ctd_sh("test -x n/opt/skerry/bin/" SHIM " && test -x n/opt/skerry/libexec/skerry/skerry-init && n/bin/" SHIM
	       " -v >/dev/null && test -e n/lib/kernels/k1/vmlinux");
	seen = dump();
	ASSERT_CONTAINS(seen, "runtime_type = \"io.containerd.skerry.v1\"");
	ASSERT_CONTAINS(seen, "runtime_type = \"io.containerd.runc.v2\"");
	ASSERT_CONTAINS(seen, "sandbox_image = \"mine\"");
	ASSERT_CONTAINS(seen, "root = \"/x\"");
	/* Twice is as good as once, and a kernel that somebody has changed stays. */
	ctd_sh("cp n/etc/config.toml once && echo changed >n/lib/kernels/k1/vmlinux && " INSTALL
	       "install && cmp once n/etc/config.toml && grep -q changed n/lib/kernels/k1/vmlinux");
	ctd_sh(INSTALL "remove && cmp before n/etc/config.toml && test \"$(stat -c %a n/etc/config.toml)\" = 640 && "
		       "test ! -e n/opt/skerry && test ! -e n/etc/conf.d && test -z \"$(ls n/bin)\"");
	again = output(INSTALL "remove");
	ASSERT_CONTAINS(again, "removed");
	ctd_sh("cmp before n/etc/config.toml");
}

TEST(configurations_of_every_kind)
{
	static const struct {
		const char *before, *has, *not ;
	} cases[] = {
		/* None, one with runtimes of its own, and those of containerd 2.x: without imports, with some, with the usual directory. */
		{ "rm -f n/etc/config.toml", "containerd.runtimes.skerry", "imports" },
		{ "printf 'version = 2\\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.mine]\\n  "
		  "runtime_type = \"a\"\\n' "
		  ">n/etc/config.toml",
		  "containerd.runtimes.skerry", "io.containerd.runc.v2" },
		{ "printf 'version = 3\\n' >n/etc/config.toml", "imports = [\"", NULL },
		{ "printf 'version = 3\\nimports = [\"/a.toml\"]\\n' >n/etc/config.toml", "skerry.toml\", \"/a.toml\"]",
		  NULL },
		{ "printf 'version = 3\\nimports = [\"/etc/containerd/conf.d/*.toml\"]\\n' >n/etc/config.toml",
		  "version = 3", "skerry" },
		/* One that tells no version, which Debian's containerd takes for 1. */
		{ "printf 'root = \"/x\"\n[grpc]\n  gid = 5\n' >n/etc/config.toml",
		  "# skerry: begin\nversion = 2\n# skerry: end\nroot = ", NULL },
	};

	if (geteuid() != 0)
		test_skip("a node's files are root's");
	make_payload();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *text = NULL;

		ctd_sh("rm -rf n/etc/* before");
		ctd_sh(cases[i].before);
		ctd_sh("cp n/etc/config.toml before 2>/dev/null || :");
		ctd_sh(INSTALL "install && " INSTALL "install");
		text = output("cat n/etc/config.toml");
		ASSERT_CONTAINS(text, cases[i].has);
		if (cases[i].not &&strstr(text, cases[i].not ))
			test_fail(__FILE__, __LINE__, "case %zu: %s", i, text);
		if (after_prefix(text, "version = 3") || strstr(text, "imports"))
			ctd_sh("grep -q io.containerd.skerry.v1 n/etc/conf.d/skerry.toml");
		ctd_sh(INSTALL "remove && if [ -e before ]; then cmp before n/etc/config.toml; else test ! -e "
			       "n/etc/config.toml; fi");
	}
}

/* What is to be added by hand: to a file that has what Debian's has, and, without runc's part, to all that containerd has by itself. */
TEST(what_deploy_has_can_be_added)
{
	static const struct {
		const char *program, *file;
		unsigned version;
	} cases[] = {
		{ "containerd", SOURCE_DIR "/deploy/containerd/config-1.x.toml", 2 },
		{ "\"$SKERRY_TEST_CONTAINERD/containerd\"", SOURCE_DIR "/deploy/containerd/config-2.x.toml", 3 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *script =
			xasprintf("! test -x \"$(command -v %s)\" || { { printf 'version = %u\\n[grpc]\\n  gid = 5\\n' "
				  "&& cat %s; } >a.toml && "
				  "{ %s config default && sed '/^# .*runtime/,$d' %s; } >b.toml && for f in a b; do "
				  "%s --config $f.toml config dump | grep 'runtimes.skerry]'; done; }",
				  cases[i].program, cases[i].version, cases[i].file, cases[i].program, cases[i].file,
				  cases[i].program);
		_cleanup_free_ char *seen = output(script);
		const char *second = strstr(seen, "runtimes.skerry]");

		if (i == 0 || *seen)
			ASSERT(second && strstr(second + 1, "runtimes.skerry]"));
	}
}

TEST(what_is_not_there_is_said_and_the_end_takes_it_away)
{
	_cleanup_free_ char *said = NULL;

	if (geteuid() != 0)
		test_skip("a node's files are root's");
	ctd_sh("mkdir -p payload n/etc");
	said = output(INSTALL "install || :");
	ASSERT_CONTAINS(said, "nothing to install");
	free(said);
	said = output("sh " SOURCE_DIR "/images/installer/install.sh || :");
	ASSERT_CONTAINS(said, "usage: install.sh");
	make_payload();
	/* As the DaemonSet's container: it waits until it is told to end. */
	ctd_sh("{ " INSTALL
	       "run 2>log & } && pid=$! && until grep -q installed log; do sleep 0.1; done && test -e n/opt/skerry && "
	       "kill $pid && { wait $pid || :; } && grep -q removed log && test ! -e n/opt/skerry && test ! -e "
	       "n/etc/config.toml");
}

/* A file of version 1, which it is without a word about it, is somebody's to bring up to date. */
TEST(a_configuration_of_version_1_is_refused_before_anything_is_done)
{
	static const char *const cases[] = {
		"disabled_plugins = [\"cri\"]",
		"version = 1",
		"[plugins.cri]\n  sandbox_image = \"mine\"",
	};

	if (geteuid() != 0)
		test_skip("a node's files are root's");
	make_payload();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *script = xasprintf("printf '%s\n' >n/etc/config.toml", cases[i]), *said = NULL;

		ctd_sh(script);
		ctd_sh("cp n/etc/config.toml before");
		said = output(INSTALL "install || test $? = 78");
		ASSERT_CONTAINS(said, "version = 2");
		ctd_sh("cmp before n/etc/config.toml && test ! -e n/opt && test ! -e n/lib");
	}
}

TEST(a_restart_that_failed_is_made_up_for)
{
	if (geteuid() != 0)
		test_skip("a node's files are root's");
	make_payload();
	ctd_sh("! RESTART=false " INSTALL "install");
	ctd_sh("export RESTART=\"touch $PWD/restarted\"; " INSTALL "install && rm restarted && " INSTALL
	       "install && test ! -e restarted");
	ctd_sh("! RESTART=false " INSTALL "remove && test -e n/opt/skerry");
	ctd_sh("export RESTART=\"touch $PWD/restarted\"; " INSTALL "remove && rm restarted && test -z \"$(ls n/opt)\"");
	/* Told to end while containerd restarts. */
	ctd_sh("export RESTART='sleep 1'; { " INSTALL
	       "run 2>log & } && pid=$! && until test -e n/etc/config.toml; do sleep 0.1; done && kill $pid && "
	       "{ wait $pid || :; } && grep -q removed log && test -z \"$(ls n/opt)\" && test ! -e n/etc/config.toml");
}

TEST(a_node_that_cannot_have_it_is_left_as_it_was)
{
	_cleanup_free_ char *said = NULL;

	if (geteuid() != 0)
		test_skip("a node's files are root's");
	make_payload();
	ctd_sh("mkdir few && for p in sh sed grep head cat cp mv rm mkdir ln basename readlink; do ln -s \"$(command "
	       "-v "
	       "$p)\" few/; done");
	said = output("export PATH=$PWD/few; " INSTALL "install || test $? = 69");
	ASSERT_CONTAINS(said, "the node lacks qemu-system-x86_64 crun");
	ctd_sh("test ! -e n/opt && test ! -e n/bin && test ! -e n/lib && test -z \"$(ls n/etc)\"");
	/* One that does not run there leaves the one that does. */
	ctd_sh(INSTALL "install");
	ctd_sh("printf '#!/bin/sh\nexit 1\n' >payload/bin/" SHIM);
	free(said);
	said = output(INSTALL "install || test $? = 69");
	ASSERT_CONTAINS(said, "the shim does not run on this node");
	ctd_sh("n/bin/" SHIM " -v >/dev/null && test \"$(ls n/opt)\" = skerry");
}

/* A containerd that was configured so runs a container by what was installed. */
TEST(a_containerd_runs_what_was_installed)
{
	_cleanup_cli_ struct cli r = {}, d = {};
	_cleanup_free_ char *path = NULL, *which = NULL, *said = NULL;

	ctd_start();
	make_payload();
	ctd_stop(SIGTERM);
	ctd_sh("rm -rf n/etc && mkdir n/etc && cp config.toml n/etc/config.toml && " INSTALL
	       "install && cp n/etc/config.toml config.toml");
	path = xasprintf("PATH=%s/n/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", test_tmpdir());
	cli_setenv(path);
	ctd_restart();
	r = ctr_run(NULL, "-d", CTD_IMAGE, "c1", "sleep", "1000", NULL);
	ASSERT_STATUS(r, 0);
	which = xasprintf("readlink /proc/%d/exe | grep -q 'n/opt/skerry/bin/'", ctd_process("skerry-shim"));
	ctd_sh(which);
	/* Taken away under it: what runs is not disturbed, and found again by the next containerd. */
	said = output(INSTALL "remove");
	ASSERT_CONTAINS(said, "1 of its machines run");
	ctd_sh("! grep -q io.containerd.skerry n/etc/config.toml && test -x n/bin/" SHIM);
	ctd_stop(SIGKILL);
	ctd_restart();
	ctd_wait_status("c1", "RUNNING");
	d = ctr("task", "exec", "--exec-id", "e1", "c1", "true", NULL);
	ASSERT_STATUS(d, 0);
	ctd_remove("c1");
	ctd_nothing_left();
	ctd_sh(INSTALL "remove && test -z \"$(ls n/opt; ls n/bin)\"");
}
