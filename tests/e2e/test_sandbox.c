/* The sandbox API (containerd.runtime.sandbox.v1.Sandbox), called over ttrpc as containerd 2.x does: a shim for a sandbox, then containers in it. The
 * events go to a real containerd, which is asked for nothing else. */
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "containerd.h"
#include "containerd.pb-c.h"
#include "shim_peer.h"
#include "wire/message.h"
#include "wire/ttrpc.h"

#define SHIM "containerd-shim-skerry-v1 -namespace default -address $PWD/c.sock -publish-binary containerd "

static char sandbox_id[] = "sb1", container_id[] = "k1", none[] = "";

/* What a caller sees of `start` in a bundle. @input: standard input, NULL = empty. */
static struct cli start_in(const char *bundle, const char *id, const char *input)
{
	_cleanup_free_ char *script = xasprintf("cd '%s' && shim=\"" SHIM "\" && TTRPC_ADDRESS=$PWD/c.sock.ttrpc && "
						"export TTRPC_ADDRESS && cd %s && eval \"$shim\" -id %s start",
						test_tmpdir(), bundle, id);
	const char *argv[] = { CLI_SHELL, script, NULL };

	return cli_argv(argv, input, 120);
}

static void start_sandbox_shim(struct shim_peer *p, char **ret_address)
{
	_cleanup_cli_ struct cli r = {};
	const char *path;

	/* Kubernetes' sandboxes have no config.json: there is no container that it could be of. */
	ctd_sh("mkdir sb");
	r = start_in("sb", sandbox_id, NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_STREQ(r.err, "");
	path = after_prefix(r.out, "unix://");
	ASSERT(path);
	*ret_address = xstrdup(r.out);
	shim_peer_open(p, path);
}

static struct shim_answer create(struct shim_peer *p, const char *netns)
{
	_cleanup_free_ char *bundle = xasprintf("%s/sb", test_tmpdir()), *path = xstrdup(netns);
	Containerd__CreateSandboxRequest q = CONTAINERD__CREATE_SANDBOX_REQUEST__INIT;

	q.sandbox_id = sandbox_id;
	q.bundle_path = bundle;
	q.netns_path = path;
	return shim_call(p, SANDBOX_SERVICE, "CreateSandbox", &q.base, NULL);
}

static uint32_t ask(struct shim_peer *p, const char *method, char *id)
{
	Containerd__SandboxRequest q = CONTAINERD__SANDBOX_REQUEST__INIT;

	q.sandbox_id = id;
	return shim_ask(p, SANDBOX_SERVICE, method, &q.base);
}

static void *answer(struct shim_peer *p, uint32_t stream, const struct ProtobufCMessageDescriptor *type)
{
	_cleanup_answer_ struct shim_answer a = shim_answer(p, stream, type);

	if (a.code)
		test_fail(__FILE__, __LINE__, "%d: %s", a.code, a.text);
	return TAKE_PTR(a.m);
}

static int code(struct shim_peer *p, uint32_t stream)
{
	_cleanup_answer_ struct shim_answer a = shim_answer(p, stream, NULL);

	return a.code;
}

static void stop(struct shim_peer *p)
{
	Containerd__StopSandboxRequest q = CONTAINERD__STOP_SANDBOX_REQUEST__INIT;

	q.sandbox_id = sandbox_id;
	q.timeout_secs = 10;
	ASSERT_EQ(code(p, shim_ask(p, SANDBOX_SERVICE, "StopSandbox", &q.base)), 0);
}

static void check_state(struct shim_peer *p, const char *state, bool exited)
{
	Containerd__SandboxStatusRequest q = CONTAINERD__SANDBOX_STATUS_REQUEST__INIT;
	_cleanup_message_ Containerd__SandboxStatusResponse *r = NULL;

	q.sandbox_id = sandbox_id;
	q.verbose = true;
	r = answer(p, shim_ask(p, SANDBOX_SERVICE, "SandboxStatus", &q.base),
		   &containerd__sandbox_status_response__descriptor);
	ASSERT_STREQ(r->sandbox_id, sandbox_id);
	ASSERT_STREQ(r->state, state);
	ASSERT(r->created_at && r->created_at->seconds > 0);
	ASSERT_EQ(r->exited_at != NULL, exited);
	if (!exited)
		ASSERT(kill((int)r->pid, 0) == 0);
}

/* A bundle as containerd makes one for a container of the sandbox. */
static void make_bundle(const char *command)
{
	_cleanup_free_ char *script = xasprintf(
		"mkdir -p k1/rootfs && printf '%%s' "
		"'{\"ociVersion\":\"1.0.2\",\"process\":{\"args\":[\"/bin/sh\",\"-c\",\"%s\"],\"cwd\":\"/\",\"env\":["
		"\"PATH=/"
		"bin\"],\"user\":{\"uid\":0,\"gid\":0},\"capabilities\":{\"bounding\":[\"CAP_NET_RAW\"],\"effective\":["
		"\"CAP_NET_RAW\"],\"permitted\":[\"CAP_NET_RAW\"]}},\"root\":{\"path\":\"rootfs\"},\"hostname\":"
		"\"pod\","
		"\"mounts\":[{\"destination\":\"/proc\",\"type\":\"proc\",\"source\":\"proc\"},{\"destination\":\"/"
		"dev\",\"type\":\"tmpfs\",\"source\":\"tmpfs\"}],\"linux\":{"
		"\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"mount\"},{\"type\":\"ipc\"},{\"type\":\"uts\"}]},"
		"\"annotations\":{\"io.kubernetes.cri.container-type\":\"container\","
		"\"io.kubernetes.cri.sandbox-id\":\"sb1\"}}' >k1/config.json",
		command);

	ctd_sh(script);
}

static uint32_t ask_task(struct shim_peer *p, const char *method)
{
	Containerd__TaskRequest q = CONTAINERD__TASK_REQUEST__INIT;

	q.id = container_id;
	q.exec_id = none;
	return shim_ask(p, TASK_SERVICE, method, &q.base);
}

/* Creates and starts it: its Wait. */
static uint32_t run_container(struct shim_peer *p)
{
	_cleanup_free_ char *bundle = xasprintf("%s/k1", test_tmpdir()), *source = xasprintf("%s/r", test_tmpdir()),
			    *out = xasprintf("file://%s/k1.log", test_tmpdir());
	Containerd__CreateTaskRequest q = CONTAINERD__CREATE_TASK_REQUEST__INIT;
	Containerd__Mount m = CONTAINERD__MOUNT__INIT, *rootfs = &m;
	char type[] = "bind", rbind[] = "rbind", rw[] = "rw", *options[] = { rbind, rw };
	uint32_t waiting;

	m.type = type;
	m.source = source;
	m.options = options;
	m.n_options = ARRAY_SIZE(options);
	q.id = container_id;
	q.bundle = bundle;
	q.rootfs = &rootfs;
	q.n_rootfs = 1;
	q.stdout = q.stderr = out;
	message_free(answer(p, shim_ask(p, TASK_SERVICE, "Create", &q.base), NULL));
	waiting = ask_task(p, "Wait");
	ASSERT_EQ(code(p, ask_task(p, "Start")), 0);
	return waiting;
}

static void expect_log(const char *text)
{
	_cleanup_free_ char *path = xasprintf("%s/k1.log", test_tmpdir());
	uint64_t deadline_ns = clock_monotonic_ns() + 120 * NS_PER_SEC;

	for (;;) {
		_cleanup_buf_ struct buf log = {};

		if (file_read_at(AT_FDCWD, path, 1 << 20, &log) >= 0 && log.len && strstr(log.p, text))
			return;
		if (clock_monotonic_ns() > deadline_ns)
			test_fail(__FILE__, __LINE__, "no '%s' in the log, but: %s", text, log.len ? log.p : "");
		(void)usleep(50000); /* lint: the container writes in its own time */
	}
}

static void tell_to_go(struct shim_peer *p)
{
	Containerd__ShutdownRequest q = CONTAINERD__SHUTDOWN_REQUEST__INIT;

	q.id = sandbox_id;
	ASSERT_EQ(code(p, shim_ask(p, TASK_SERVICE, "Shutdown", &q.base)), 0);
}

static void shut_down(struct shim_peer *p)
{
	ASSERT_EQ(code(p, ask(p, "ShutdownSandbox", sandbox_id)), 0);
	shim_expect_end(p);
	ctd_nothing_left();
	ctd_sh("! grep \"$PWD/[sk]\" /proc/self/mounts");
}

TEST(a_sandbox_lives_and_ends_as_the_interface_says)
{
	_cleanup_free_ char *address = NULL;
	_cleanup_message_ Containerd__StartSandboxResponse *started = NULL;
	_cleanup_message_ Containerd__PlatformResponse *platform = NULL;
	_cleanup_message_ Containerd__SandboxMetricsResponse *metrics = NULL;
	_cleanup_message_ Containerd__WaitResponse *ended = NULL, *task = NULL, *again = NULL;
	_cleanup_answer_ struct shim_answer created = {}, twice = {};
	_cleanup_peer_ struct shim_peer p = {};
	_cleanup_cli_ struct cli member = {};
	uint32_t waiting, container;
	char other[] = "sb2";

	ctd_start();
	start_sandbox_shim(&p, &address);
	/* Before there is one. */
	ASSERT_EQ(code(&p, ask(&p, "StartSandbox", sandbox_id)), TTRPC_NOT_FOUND);
	created = create(&p, "");
	if (created.code)
		test_fail(__FILE__, __LINE__, "CreateSandbox: %s", created.text);
	twice = create(&p, "");
	ASSERT_EQ(twice.code, TTRPC_ALREADY_EXISTS);
	started = answer(&p, ask(&p, "StartSandbox", sandbox_id), &containerd__start_sandbox_response__descriptor);
	ASSERT(started->pid > 1 && kill((int)started->pid, 0) == 0);
	ASSERT(started->created_at && started->created_at->seconds > 0);
	platform = answer(&p, ask(&p, "Platform", sandbox_id), &containerd__platform_response__descriptor);
	ASSERT_STREQ(platform->platform->os, "linux");
	ASSERT_STREQ(platform->platform->architecture, "amd64");
	waiting = ask(&p, "WaitSandbox", sandbox_id);
	ASSERT_EQ(code(&p, ask(&p, "PingSandbox", sandbox_id)), 0);
	ASSERT_EQ(code(&p, ask(&p, "PingSandbox", other)), TTRPC_NOT_FOUND);
	check_state(&p, "SANDBOX_READY", false);
	metrics = answer(&p, ask(&p, "SandboxMetrics", sandbox_id), &containerd__sandbox_metrics_response__descriptor);
	ASSERT(metrics->metrics && streq(metrics->metrics->id, sandbox_id));

	/* A container of it: the same shim, the same machine. */
	make_bundle("hostname; cat /proc/sys/kernel/osrelease; exec sleep 1000");
	member = start_in("k1", container_id, NULL);
	ASSERT_STATUS(member, 0);
	ASSERT_STREQ(member.out, address);
	container = run_container(&p);
	expect_log("pod\n");
	ASSERT(shim_unanswered(&p, waiting) && shim_unanswered(&p, container));

	stop(&p);
	ended = answer(&p, waiting, &containerd__wait_response__descriptor);
	ASSERT_EQ(ended->exit_status, 0);
	ASSERT(ended->exited_at && ended->exited_at->seconds > 0);
	task = answer(&p, container, &containerd__wait_response__descriptor);
	ASSERT_EQ(task->exit_status, 137);
	again = answer(&p, ask(&p, "WaitSandbox", sandbox_id), &containerd__wait_response__descriptor);
	ASSERT_EQ(again->exited_at->seconds, ended->exited_at->seconds);
	check_state(&p, "SANDBOX_NOTREADY", true);
	ASSERT(code(&p, ask(&p, "PingSandbox", sandbox_id)) != 0);
	stop(&p);
	ASSERT_EQ(code(&p, ask_task(&p, "Delete")), 0);
	/* containerd 2.2 says so after each container. */
	tell_to_go(&p);
	check_state(&p, "SANDBOX_NOTREADY", true);
	shut_down(&p);
	/* containerd calls it when the connection has ended, whatever was before. */
	ctd_sh("cd sb && " SHIM "-id sb1 -bundle $PWD delete >/dev/null");
}

TEST(a_sandbox_has_the_network_that_was_made_for_it)
{
	_cleanup_free_ char *address = NULL, *netns = xasprintf("%s/netns", test_tmpdir());
	_cleanup_answer_ struct shim_answer created = {};
	_cleanup_peer_ struct shim_peer p = {};
	_cleanup_message_ Containerd__WaitResponse *task = NULL;
	uint32_t container;

	ctd_start_with_network();
	ctd_sh("touch netns && unshare --net=netns true && ip link add skt1 type veth peer name skt2 && "
	       "ip addr add 10.78.0.1/24 dev skt1 && ip link set skt1 up && "
	       "{ nsenter --net=netns sleep 1000 & echo $! >pid; } && "
	       "until test $(readlink /proc/$(cat pid)/ns/net) != $(readlink /proc/self/ns/net); do :; done && "
	       "ip link set skt2 netns $(cat pid) && kill $(cat pid) && "
	       "nsenter --net=netns ip link set skt2 name eth0 && "
	       "nsenter --net=netns ip addr add 10.78.0.2/24 dev eth0 && nsenter --net=netns ip link set eth0 up");
	start_sandbox_shim(&p, &address);
	created = create(&p, netns);
	if (created.code)
		test_fail(__FILE__, __LINE__, "CreateSandbox: %s", created.text);
	ASSERT_EQ(code(&p, ask(&p, "StartSandbox", sandbox_id)), 0);
	/* Neighbour tables give up sooner than a busy host answers. */
	make_bundle("ip -4 -o addr show eth0; until ping -c 1 -W 20 10.78.0.1; do sleep 1; done; echo ping $?");
	container = run_container(&p);
	task = answer(&p, container, &containerd__wait_response__descriptor);
	ASSERT_EQ(task->exit_status, 0);
	expect_log("10.78.0.2/24");
	expect_log("ping 0");
	ASSERT_EQ(code(&p, ask_task(&p, "Delete")), 0);
	stop(&p);
	/* It is given back as it was. */
	ASSERT_EQ(code(&p, ask(&p, "ShutdownSandbox", sandbox_id)), 0);
	shim_expect_end(&p);
	ctd_nothing_left();
	ctd_sh("nsenter --net=netns ip -4 -o addr show eth0 | grep -q '10.78.0.2/24' && umount netns");
}

TEST(a_sandbox_whose_machine_dies_says_so)
{
	_cleanup_free_ char *address = NULL;
	_cleanup_answer_ struct shim_answer created = {};
	_cleanup_message_ Containerd__WaitResponse *ended = NULL;
	_cleanup_peer_ struct shim_peer p = {};
	uint32_t waiting;
	int qemu;

	ctd_start();
	start_sandbox_shim(&p, &address);
	created = create(&p, "");
	ASSERT_EQ(created.code, 0);
	ASSERT_EQ(code(&p, ask(&p, "StartSandbox", sandbox_id)), 0);
	waiting = ask(&p, "WaitSandbox", sandbox_id);
	qemu = ctd_process("qemu-system-x86");
	ASSERT(qemu > 0);
	ASSERT_OK(kill(qemu, SIGKILL));
	ended = answer(&p, waiting, &containerd__wait_response__descriptor);
	ASSERT_EQ(ended->exit_status, 137);
	check_state(&p, "SANDBOX_NOTREADY", true);
	ASSERT(code(&p, ask(&p, "PingSandbox", sandbox_id)) != 0);
	shut_down(&p);
}

TEST(containerd_2_3_says_who_it_is_and_is_answered_in_its_way)
{
	_cleanup_free_ char *dir = xasprintf("%s/sockets", test_tmpdir());
	char namespace[] = "default", version[] = "2.3.0";
	Containerd__BootstrapParams q = CONTAINERD__BOOTSTRAP_PARAMS__INIT;
	_cleanup_message_ Containerd__BootstrapResult *r = NULL;
	_cleanup_peer_ struct shim_peer p = {};
	_cleanup_buf_ struct buf in = {};
	_cleanup_cli_ struct cli out = {};
	const char *path;

	ctd_start();
	ctd_sh("mkdir sb sockets");
	q.instance_id = sandbox_id;
	q.namespace_ = namespace;
	q.containerd_version = version;
	q.socket_dir = dir;
	message_pack(&in, &q.base);
	out = start_in("sb", sandbox_id, in.p);
	ASSERT_STATUS(out, 0);
	r = message_unpack(&containerd__bootstrap_result__descriptor, out.out, strlen(out.out));
	ASSERT(r);
	ASSERT_EQ(r->version, 3);
	ASSERT_STREQ(r->protocol, "ttrpc");
	path = after_prefix(r->address, "unix://");
	ASSERT(path && after_prefix(path, dir));
	shim_peer_open(&p, path);
	{
		_cleanup_answer_ struct shim_answer a = create(&p, "");

		ASSERT_EQ(a.code, 0);
	}
	shut_down(&p);
	ctd_sh("! ls sockets | grep .");
}

/* A shim with nothing to do, in a bundle of its own. */
static void start_idle(struct shim_peer *p, const char *bundle)
{
	_cleanup_cli_ struct cli r = start_in(bundle, sandbox_id, NULL);

	ASSERT_STATUS(r, 0);
	ASSERT(after_prefix(r.out, "unix://"));
	shim_peer_open(p, after_prefix(r.out, "unix://"));
}

/* containerd 2.x starts the next of a name while the one before is on its way out. */
TEST(a_shim_that_goes_is_nobodys_answer_any_more)
{
	enum { ROUNDS = 10 };

	ctd_start();
	ctd_sh("mkdir b0 b1");
	for (int i = 0; i < ROUNDS; i++) {
		_cleanup_peer_ struct shim_peer before = {}, after = {};

		start_idle(&before, "b0");
		tell_to_go(&before);
		start_idle(&after, "b1");
		ASSERT_EQ(code(&after, ask_task(&after, "State")), TTRPC_NOT_FOUND);
		shim_expect_end(&before);
		/* What it took with it was its own. */
		ASSERT_EQ(code(&after, ask_task(&after, "State")), TTRPC_NOT_FOUND);
		tell_to_go(&after);
		shim_expect_end(&after);
	}
	ctd_nothing_left();
}
