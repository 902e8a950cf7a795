/* Pods in virtual machines, by crictl, as those do it who look after a node. One pod for all of it. */
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/memory.h"
#include "containerd.h"
#include "cri.h"
#include "terminal.h"

enum { SECONDS = 120 };

static char *program;

/* The parent of the pods' cgroups is a kubelet's; the test is ours. */
static void remove_parent(void)
{
	_cleanup_free_ char *script = xasprintf(
		"find /sys/fs/cgroup -depth -type d -path '*/skerry-crictl-%d*' -exec rmdir {} ';'", (int)getpid());

	(void)cli_wait(cli_spawn((const char *const[]){ CLI_SHELL, script, NULL }), 120);
}

/* In the test's directory, where $pod and $main are ids once they are there; every line must succeed. */
static void sh(const char *script)
{
	_cleanup_free_ char *text =
		xasprintf("crictl() { '%s' -r unix://$PWD/c.sock -i unix://$PWD/c.sock --timeout 300s \"$@\"; }; "
			  "pod=$(cat pod 2>/dev/null) main=$(cat main 2>/dev/null) group=skerry-crictl-%d; set -ex\n%s",
			  program, (int)getpid(), script);

	ctd_sh(text);
}

static void on_terminal(struct terminal *t, const char *const *words)
{
	_cleanup_free_ char *address = xasprintf("unix://%s/c.sock", test_tmpdir());
	const char *argv[32] = { program, "-r", address };

	for (size_t n = 3; (argv[n] = *words) && n < ARRAY_SIZE(argv) - 1; n++)
		words++;
	terminal_begin(t, argv);
}

static char *id_of(const char *file)
{
	_cleanup_free_ char *path = xasprintf("cat '%s/%s'", test_tmpdir(), file);
	_cleanup_cli_ struct cli r = cli_argv((const char *const[]){ CLI_SHELL, path, NULL }, NULL, 120);

	ASSERT_STATUS(r, 0);
	return xstrndup(r.out, strcspn(r.out, "\n"));
}

static void make_pod(void)
{
	sh("cat >pod.json <<END\n"
	   "{\"metadata\": {\"name\": \"web\", \"namespace\": \"default\", \"uid\": \"u1\"}, \"hostname\": \"web\",\n"
	   " \"log_directory\": \"$PWD/logs\", \"linux\": {\"cgroup_parent\": \"/$group\", \"sysctls\": "
	   "{\"net.core.somaxconn\": \"777\"}}}\n"
	   "END\n"
	   "cat >main.json <<END\n"
	   "{\"metadata\": {\"name\": \"main\"}, \"image\": {\"image\": \"" CTD_IMAGE
	   "\"}, \"log_path\": \"main.log\",\n"
	   " \"stdin\": true, \"linux\": {}, \"command\": [\"sh\", \"-c\", \"echo out; echo err >&2;"
	   " mkdir /www; head -c 3000000 /dev/urandom >/www/file; httpd -p 127.0.0.1:7000 -h /www; while read line; do "
	   "echo heard \\$line; done; exec sleep 1000\"]}\n"
	   "END\n"
	   "mkdir -p logs\n"
	   "crictl runp -r skerry pod.json >pod; pod=$(cat pod)\n"
	   "crictl create $pod main.json pod.json >main; crictl start $(cat main)");
}

static void check_lists(void)
{
	sh("crictl pods | grep ' Ready '; crictl ps | grep ' Running '\n"
	   "crictl inspect -o go-template --template '{{.status.state}}' $main | grep CONTAINER_RUNNING\n"
	   "crictl inspectp -o go-template --template '{{.status.network.ip}}' $pod | grep '^10[.]77[.]0[.]'\n"
	   "crictl stats -o json $main | grep usageCoreNanoSeconds\n"
	   "crictl statsp -o json $pod | grep usageCoreNanoSeconds\n"
	   "crictl stats $main | grep main");
}

static void check_exec(void)
{
	sh("crictl exec -s $main sh -c 'hostname; echo e >&2' >out; grep -x web out; grep -x e out\n"
	   "crictl exec $main sh -c 'echo one; echo two >&2' >out 2>err; grep -x one out; grep -x two err\n"
	   "test \"$(echo typed | crictl exec -i $main cat)\" = typed\n"
	   "crictl exec -s $main cat /proc/sys/net/core/somaxconn | grep -x 777\n"
	   "! crictl exec -s $main sh -c 'exit 3' 2>err; grep 'exited with 3' err\n"
	   "! crictl exec $main sh -c 'exit 4' 2>err; grep 'exit code 4' err\n"
	   "! crictl exec -s $main /nonexistent 2>err; grep nonexistent err");
}

/* A key that ends what is in front, and what its end is. */
static void check_terminal(void)
{
	_cleanup_free_ char *main_ = id_of("main");
	const char *const words[] = { "exec", "-it", main_, "sh", NULL };
	struct terminal t;

	on_terminal(&t, words);
	terminal_expect(&t, "#", SECONDS);
	terminal_type(&t, "until stty size | grep '30 90'; do :; done; echo sum $((40+2))\n");
	terminal_expect(&t, "sum 42", SECONDS);
	terminal_type(&t, "sh -c 'echo begun $((1+1)); exec sleep 1000'\n");
	terminal_expect(&t, "begun 2", SECONDS);
	terminal_type(&t, "\003");
	terminal_type(&t, "echo ended $?\n");
	terminal_expect(&t, "ended 130", SECONDS);
	terminal_type(&t, "exit\n");
	terminal_end(&t, 0);
}

static void check_logs(void)
{
	sh("echo words | crictl attach -i $main >attached & job=$!\n"
	   "until crictl logs $main 2>&1 | grep 'heard words'; do sleep 0.2; done\n"
	   "kill $(cat /proc/$job/task/*/children) || true; wait $job || true\n"
	   "until crictl logs $main >out 2>err && grep -x out out && grep -x err err; do sleep 0.2; done");
}

/* Its server listens on the pod's own loopback. */
static void check_ports(void)
{
	sh("crictl port-forward $pod 17000:7000 17001:7001 >forward 2>&1 & job=$!\n"
	   "until grep -q ':17001 ' forward; do kill -0 $job; sleep 0.1; done\n"
	   "for i in 1 2; do busybox wget -q -O got http://127.0.0.1:17000/file; done\n"
	   "crictl exec $main md5sum /www/file | cut -c 1-32 >sum; md5sum got | grep \"$(cat sum)\"\n"
	   /* Where nobody listens. */
	   "! busybox wget -q -O - http://127.0.0.1:17001/\n"
	   "kill $(cat /proc/$job/task/*/children) || true; wait $job || true");
}

static void check_end(void)
{
	sh("crictl update --memory 200000000 $main; crictl exec -s $main cat /sys/fs/cgroup/memory.max | grep '^1999'\n"
	   "crictl stop -t 1 $main; crictl ps -a | grep Exited; crictl rm $main\n"
	   "crictl stopp $pod; crictl rmp $pod; test -z \"$(crictl pods -q)\"");
	ctd_nothing_left();
}

TEST(a_pod_from_its_start_to_its_end)
{
	program = ctd_client("crictl");
	/* Before everything else: so it is the last that is done. */
	atexit(remove_parent);
	ctd_start_with_cri();
	cri_wait_ready();
	make_pod();
	check_lists();
	check_exec();
	check_terminal();
	check_logs();
	check_ports();
	check_end();
}
