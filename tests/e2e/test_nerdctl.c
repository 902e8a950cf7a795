/* Containers in virtual machines, by nerdctl, as people use it who come from docker. */
#include <signal.h>
#include <unistd.h>

#include "base/memory.h"
#include "containerd.h"
#include "terminal.h"

#define RUNTIME "--runtime=io.containerd.skerry.v1"

enum { SECONDS = 120 };

static char *program;

/* In the test's directory; every line must succeed. */
static void sh(const char *script)
{
	_cleanup_free_ char *text = xasprintf("nerdctl() { '%s' --address=$PWD/c.sock --namespace=%s "
					      "--data-root=$PWD/nerdctl --cni-path=/usr/lib/cni "
					      "--cni-netconfpath=$PWD/nets \"$@\"; }; run() { nerdctl run " RUNTIME
					      " \"$@\"; }; image=" CTD_IMAGE "; set -ex\n%s",
					      program, ctd_namespace(), script);

	ctd_sh(text);
}

static void on_terminal(struct terminal *t, const char *const *words)
{
	const char *d = test_tmpdir();
	_cleanup_free_ char *address = xasprintf("--address=%s/c.sock", d),
			    *namespace = xasprintf("--namespace=%s", ctd_namespace()),
			    *root = xasprintf("--data-root=%s/nerdctl", d),
			    *nets = xasprintf("--cni-netconfpath=%s/nets", d);
	const char *argv[32] = { program, address, namespace, root, nets, "--cni-path=/usr/lib/cni" };

	for (size_t n = 6; (argv[n] = *words) && n < ARRAY_SIZE(argv) - 1; n++)
		words++;
	terminal_begin(t, argv);
}

static void begin(void)
{
	program = ctd_client("nerdctl");
	if (access("/usr/sbin/iptables", X_OK) < 0)
		test_skip("iptables, which nerdctl's networks need, is not installed");
	ctd_start_with_network();
	/* What CNI's plugins remember is the host's otherwise. */
	ctd_sh("mkdir -p /var/lib/cni leases nets && mount --bind leases /var/lib/cni");
}

static void check_options(void)
{
	sh("mkdir vol; echo hello >vol/f\n"
	   "run -d --name web -p 8080:80 -v $PWD/vol:/src -e A=b --hostname hh --add-host xx:1.2.3.4 --dns 9.9.9.9 "
	   "--annotation io.skerry.max_memory=512M --memory 128m --cpus 0.5 --pids-limit 99 --tmpfs /t:size=1m "
	   "--ulimit nofile=77:88 --cap-add SYS_TIME "
	   "--shm-size 32m --sysctl net.core.somaxconn=777 --workdir /tmp --entrypoint sh $image "
	   "-c 'mkdir /www; echo page >/www/index.html; echo started; echo err >&2; exec httpd -f -p 80 -h /www'\n"
	   "until busybox wget -q -O - http://127.0.0.1:8080/ | grep -x page; do sleep 0.1; done\n"
	   "nerdctl ps | grep 0.0.0.0:8080; nerdctl port web | grep 8080\n"
	   "nerdctl exec web sh -c 'cat /src/f; echo back >/src/g; hostname; echo $A; pwd; ulimit -n; ulimit -Hn; cat "
	   "/etc/hosts "
	   "/etc/resolv.conf /proc/sys/net/core/somaxconn; df -k /t /dev/shm; cd /sys/fs/cgroup; cat memory.max "
	   "cpu.max pids.max' >out\n"
	   "test $(cat vol/g) = back\n"
	   "for line in hello hh b /tmp 77 88 777 134217728 '50000 100000' 99 'nameserver 9.9.9.9'; do grep -x "
	   "\"$line\" out; done\n"
	   "grep 1.2.3.4 out; grep '1024 .*/t$' out; grep '32768 .*/dev/shm$' out");
}

static void check_looks(void)
{
	sh("! nerdctl exec web sh -c 'exit 7' 2>err; grep 'exit code 7' err\n"
	   "test \"$(echo typed | nerdctl exec -i web cat)\" = typed\n"
	   "until nerdctl logs web >out 2>err && grep -x started out && grep -x err err; do sleep 0.1; done\n"
	   /* Its second look has half a second, or it shows nothing. */
	   "nerdctl top web | grep root; until nerdctl stats --no-stream web | grep '128MiB'; do sleep 0.1; done\n"
	   "nerdctl inspect --format '{{.State.Status}} {{.NetworkSettings.IPAddress}}' web | grep '^running 10[.]'\n"
	   "echo in >file; nerdctl cp file web:/tmp/copied; test $(nerdctl exec web cat /tmp/copied) = in\n"
	   "nerdctl cp web:/www/index.html page; test $(cat page) = page\n"
	   "nerdctl pause web; nerdctl ps -a | grep Paused; nerdctl unpause web\n"
	   "nerdctl commit web saved; nerdctl update --memory 256m web; nerdctl exec web cat /sys/fs/cgroup/memory.max "
	   "| grep -x 268435456");
}

static void check_ends(void)
{
	/* What is not possible is said, and leaves nothing. */
	sh("! run --rm --pid=container:web $image true 2>err; grep 'pid namespace' err\n"
	   "nerdctl stop -t 1 web; nerdctl ps -a | grep Exited; nerdctl start web\n"
	   "until busybox wget -q -O - http://127.0.0.1:8080/ | grep -x page; do sleep 0.1; done\n"
	   "nerdctl kill web; test $(nerdctl wait web) = 137; nerdctl rm web\n");
	/* The committed image, without a network, and all that it says. nerdctl's logger stops where it is as soon as the container has ended, whatever
	 * the pipe still holds: so it ends when all of it has been seen. */
	sh("mkdir go; run -d --name burst --network none --read-only --user 1000:1000 -v $PWD/go:/go saved sh -c '"
	   "cat /www/index.html; ip -o link; id; ! touch /x; seq 50000; until test -e /go/on; do sleep 0.1; done; "
	   "exit 42'\n"
	   "until nerdctl logs burst >out 2>err && tail -n 1 out | grep -x 50000 && grep /x err; do sleep 0.2; done\n"
	   "grep -x page out; ! grep eth0 out; grep uid=1000 out; test $(wc -l <out) -ge 50003\n"
	   "touch go/on; test $(nerdctl wait burst) = 42; nerdctl rm burst\n"
	   /* Nor does a client that waits for the end take what is left: this one's input ends when its output has come. */
	   ": >got; { echo piped; until grep -x piped got >&2; do sleep 0.1; done; } | run -i --rm --network host "
	   "$image cat >got\n"
	   "test \"$(cat got)\" = piped");
}

TEST(a_container_from_its_start_to_its_end)
{
	begin();
	check_options();
	check_looks();
	check_ends();
	ctd_nothing_left();
}

TEST(a_terminal_is_left_and_joined_again)
{
	static const char *const run[] = { "run", RUNTIME, "-it", "--name", "term", CTD_IMAGE, NULL };
	static const char *const attach[] = { "attach", "term", NULL };
	static const char *const exec[] = { "exec", "-it", "term", "sh", NULL };
	struct terminal t;

	begin();
	on_terminal(&t, run);
	terminal_try_shell(&t, SECONDS);
	/* The keys with which a client goes. */
	terminal_type(&t, "\020\021");
	terminal_end(&t, 0);
	on_terminal(&t, exec);
	terminal_expect(&t, "#", SECONDS);
	terminal_type(&t, "exit\n");
	terminal_end(&t, 0);
	on_terminal(&t, attach);
	terminal_type(&t, "echo back $((2+2))\n");
	terminal_expect(&t, "back 4", SECONDS);
	terminal_type(&t, "exit 5\n");
	terminal_end(&t, 5);
	sh("nerdctl rm term");
	ctd_nothing_left();
}

TEST(services_find_each_other_by_name)
{
	begin();
	sh("mkdir app; cat >app/compose.yaml <<END\n"
	   "services:\n"
	   "  one:\n"
	   "    image: $image\n"
	   "    runtime: io.containerd.skerry.v1\n"
	   "    command: nc -ll -p 7000 -e echo from one\n"
	   "  two:\n"
	   "    image: $image\n"
	   "    runtime: io.containerd.skerry.v1\n"
	   "    depends_on: [one]\n"
	   "    command: sh -c 'until nc -w 5 one 7000 </dev/null; do sleep 0.2; done; exec sleep 1000'\n"
	   "END\n"
	   "nerdctl compose -f app/compose.yaml up -d\n"
	   "until nerdctl compose -f app/compose.yaml logs two | grep 'from one'; do sleep 0.2; done\n"
	   "until nerdctl compose -f app/compose.yaml exec -T one ping -c 1 -w 20 two; do sleep 0.2; done\n"
	   "nerdctl compose -f app/compose.yaml down; test -z \"$(nerdctl ps -a -q)\"");
	ctd_nothing_left();
}
