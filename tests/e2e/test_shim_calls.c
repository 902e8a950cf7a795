/* The calls of the shim's socket, beside what ctr can ask for: many at once, limits that change, and peers that break the rules. */
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "cgroups.pb-c.h"
#include "containerd.h"
#include "containerd.pb-c.h"
#include "shim_peer.h"
#include "wire/message.h"
#include "wire/ttrpc.h"

#define CTR          "ctr -a $PWD/c.sock "
#define PROCESS_TYPE "types.containerd.io/opencontainers/runtime-spec/1/Process"

enum { AT_ONCE = 100, WAIT_S = 120 };

static void open_shim(struct shim_peer *p, const char *id)
{
	_cleanup_free_ char *path = xasprintf("%s/ctd-state/io.containerd.runtime.v2.task/%s/%s/address", test_tmpdir(),
					      ctd_namespace(), id);
	_cleanup_buf_ struct buf text = {};
	const char *socket_path;

	ASSERT_OK(file_read_at(AT_FDCWD, path, 4096, &text));
	socket_path = after_prefix(text.p, "unix://");
	ASSERT(socket_path);
	shim_peer_open(p, socket_path);
}

static void begin(struct shim_peer *p)
{
	_cleanup_cli_ struct cli r = {};

	ctd_start();
	r = ctr_run(NULL, "-d", "--mount", "type=cgroup,src=cgroup,dst=/sys/fs/cgroup,options=ro", CTD_IMAGE, "c1",
		    "sleep", "1000", NULL);
	ASSERT_STATUS(r, 0);
	open_shim(p, "c1");
}

static void finish(void)
{
	ctd_remove("c1");
	ctd_nothing_left();
}

static uint32_t ask_exec(struct shim_peer *p, char *exec_id, const char *command)
{
	_cleanup_free_ char *spec = xasprintf("{\"args\":[\"/bin/sh\",\"-c\",\"%s\"],\"cwd\":\"/\",\"user\":{\"uid\":0,"
					      "\"gid\":0},\"env\":[\"PATH=/bin\"]}",
					      command);
	char id[] = "c1", type[] = PROCESS_TYPE;
	Containerd__ExecProcessRequest q = CONTAINERD__EXEC_PROCESS_REQUEST__INIT;
	Containerd__Any any = CONTAINERD__ANY__INIT;

	any.type_url = type;
	any.value = (ProtobufCBinaryData){ strlen(spec), (uint8_t *)spec };
	q.id = id;
	q.exec_id = exec_id;
	q.spec = &any;
	return shim_ask(p, TASK_SERVICE, "Exec", &q.base);
}

static uint32_t ask_task(struct shim_peer *p, const char *method, char *exec_id)
{
	char id[] = "c1", none[] = "";
	Containerd__TaskRequest q = CONTAINERD__TASK_REQUEST__INIT;

	q.id = id;
	q.exec_id = exec_id ? exec_id : none;
	return shim_ask(p, TASK_SERVICE, method, &q.base);
}

static void expect_ok(struct shim_peer *p, uint32_t stream, const char *what)
{
	_cleanup_answer_ struct shim_answer a = shim_answer(p, stream, NULL);

	if (a.code)
		test_fail(__FILE__, __LINE__, "%s: %d: %s", what, a.code, a.text);
}

static uint32_t waited(struct shim_peer *p, uint32_t stream)
{
	_cleanup_answer_ struct shim_answer a = shim_answer(p, stream, &containerd__wait_response__descriptor);

	if (a.code)
		test_fail(__FILE__, __LINE__, "Wait: %d: %s", a.code, a.text);
	return ((Containerd__WaitResponse *)a.m)->exit_status;
}

struct group {
	int n;
	char ids[AT_ONCE][16];
	uint32_t waits[AT_ONCE];
};

/* Runs them all at once; every call is under way before the first answer is read. */
static void start_all(struct shim_peer *p, struct group *g, const char *(*command)(int i, void *data), void *data)
{
	uint32_t starts[AT_ONCE], execs[AT_ONCE];

	for (int i = 0; i < g->n; i++) {
		snprintf(g->ids[i], sizeof(g->ids[i]), "e%d", i);
		execs[i] = ask_exec(p, g->ids[i], command(i, data));
		g->waits[i] = ask_task(p, "Wait", g->ids[i]);
		starts[i] = ask_task(p, "Start", g->ids[i]);
	}
	for (int i = 0; i < g->n; i++) {
		expect_ok(p, execs[i], "Exec");
		expect_ok(p, starts[i], "Start");
	}
}

static void delete_all(struct shim_peer *p, struct group *g)
{
	uint32_t deletes[AT_ONCE];

	for (int i = 0; i < g->n; i++)
		deletes[i] = ask_task(p, "Delete", g->ids[i]);
	for (int i = 0; i < g->n; i++)
		expect_ok(p, deletes[i], "Delete");
}

static const char *exit_with(int i, void *data)
{
	static char text[32];

	snprintf(text, sizeof(text), "exit %d", *(int *)data + i);
	return text;
}

TEST(every_exit_code_is_told_and_a_hundred_join_at_once)
{
	_cleanup_peer_ struct shim_peer p = {};
	struct group g;

	begin(&p);
	for (int first = 0; first < 256; first += AT_ONCE) {
		g.n = 256 - first < AT_ONCE ? 256 - first : AT_ONCE;
		start_all(&p, &g, exit_with, &first);
		for (int i = 0; i < g.n; i++)
			ASSERT_EQ(waited(&p, g.waits[i]), first + i);
		delete_all(&p, &g);
	}
	finish();
}

/* Those that end a process that does not ask for them. */
static bool is_deadly(int sig)
{
	return sig != SIGCHLD && sig != SIGCONT && sig != SIGSTOP && sig != SIGTSTP && sig != SIGTTIN &&
	       sig != SIGTTOU && sig != SIGURG && sig != SIGWINCH;
}

static const char *sleep_long(int i, void *data)
{
	(void)i;
	(void)data;
	return "exec sleep 1000";
}

TEST(who_asks_during_the_start_is_told_what_came_of_it)
{
	_cleanup_peer_ struct shim_peer p = {};

	begin(&p);
	for (int i = 0; i < 5; i++) {
		char name[16];
		uint32_t start, state;
		_cleanup_answer_ struct shim_answer a = {};

		snprintf(name, sizeof(name), "e%d", i);
		expect_ok(&p, ask_exec(&p, name, "exec sleep 1000"), "Exec");
		start = ask_task(&p, "Start", name);
		state = ask_task(&p, "State", name);
		a = shim_answer(&p, state, &containerd__state_response__descriptor);
		ASSERT_EQ(a.code, 0);
		ASSERT_EQ(((Containerd__StateResponse *)a.m)->status, CONTAINERD__STATUS__RUNNING);
		expect_ok(&p, start, "Start");
	}
	finish();
}

/* What has been started is a shell at first, which has ideas of its own about signals. */
static void wait_for_sleepers(int n)
{
	uint64_t deadline_ns = clock_monotonic_ns() + WAIT_S * NS_PER_SEC;

	for (int i = 0;; i++) {
		_cleanup_free_ char *exec_id = xasprintf("look%d", i), *expected = xasprintf("%d\n", n);
		_cleanup_cli_ struct cli r = ctr("task", "exec", "--exec-id", exec_id, "c1", CLI_SHELL,
						 "cat /proc/[0-9]*/comm 2>/dev/null | grep -cx sleep", NULL);

		if (streq(r.out, expected))
			return;
		if (clock_monotonic_ns() > deadline_ns)
			test_fail(__FILE__, __LINE__, "%d sleepers expected: %s%s", n, r.out, r.err);
		(void)usleep(100000); /* lint: a process says to nobody what it has become */
	}
}

TEST(every_signal_ends_with_its_number)
{
	_cleanup_peer_ struct shim_peer p = {};
	struct group g = {};
	int signals[AT_ONCE];

	begin(&p);
	for (int sig = 1; sig <= 64; sig++)
		if (is_deadly(sig))
			signals[g.n++] = sig;
	start_all(&p, &g, sleep_long, NULL);
	/* And the container's own. */
	wait_for_sleepers(g.n + 1);
	for (int i = 0; i < g.n; i++) {
		char id[] = "c1";
		Containerd__KillRequest q = CONTAINERD__KILL_REQUEST__INIT;

		q.id = id;
		q.exec_id = g.ids[i];
		q.signal = (uint32_t)signals[i];
		expect_ok(&p, shim_ask(&p, TASK_SERVICE, "Kill", &q.base), "Kill");
	}
	for (int i = 0; i < g.n; i++)
		ASSERT_EQ(waited(&p, g.waits[i]), 128 + signals[i]);
	delete_all(&p, &g);
	finish();
}

TEST(a_burst_is_whole_fifty_times)
{
	_cleanup_free_ char *mount = xasprintf("type=bind,src=%s/in,dst=/in,options=bind:ro", test_tmpdir());
	_cleanup_cli_ struct cli r = {};

	ctd_start();
	ctd_sh("head -c 8388608 /dev/urandom >in");
	r = ctr_run(NULL, "-d", "--mount", mount, CTD_IMAGE, "c1", "sleep", "1000", NULL);
	ASSERT_STATUS(r, 0);
	for (int i = 0; i < 50; i++) {
		_cleanup_free_ char *script = xasprintf(CTR "task exec --exec-id e%d c1 sh -c 'cat /in; exit %d' >out; "
							    "test $? = %d && cmp in out",
							i, i, i);

		ctd_sh(script);
	}
	finish();
}

static struct shim_answer update(struct shim_peer *p, const char *container, const char *resources)
{
	_cleanup_free_ char *id = xstrdup(container), *text = xstrdup(resources);
	Containerd__UpdateTaskRequest q = CONTAINERD__UPDATE_TASK_REQUEST__INIT;
	char type[] = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";
	Containerd__Any any = CONTAINERD__ANY__INIT;

	any.type_url = type;
	any.value = (ProtobufCBinaryData){ strlen(text), (uint8_t *)text };
	q.id = id;
	q.resources = &any;
	return shim_call(p, TASK_SERVICE, "Update", &q.base, NULL);
}

static void check_inside(const char *exec_id, const char *files, const char *expected)
{
	_cleanup_free_ char *script = xasprintf("cd /sys/fs/cgroup && cat %s", files);
	_cleanup_cli_ struct cli r = ctr("task", "exec", "--exec-id", exec_id, "c1", CLI_SHELL, script, NULL);

	ASSERT_STATUS(r, 0);
	ASSERT_STREQ(r.out, expected);
}

TEST(limits_change_while_it_runs_and_use_is_told)
{
	_cleanup_answer_ struct shim_answer a = {}, wrong = {}, unknown = {}, pids = {}, stats = {};
	_cleanup_peer_ struct shim_peer p = {};
	_cleanup_message_ Cgroups__Metrics *m = NULL;
	Containerd__PidsResponse *all;
	Containerd__StatsResponse *s;

	begin(&p);
	a = update(
		&p, "c1",
		"{\"memory\":{\"limit\":67108864},\"pids\":{\"limit\":7},\"cpu\":{\"quota\":50000,\"period\":100000}}");
	ASSERT_EQ(a.code, 0);
	check_inside("e1", "memory.max pids.max cpu.max", "67108864\n7\n50000 100000\n");
	/* The limit is the kernel's, not a number in a file. */
	{
		_cleanup_cli_ struct cli r = ctr("task", "exec", "--exec-id", "e2", "c1", CLI_SHELL,
						 "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; wait", NULL);

		ASSERT(r.status != 0);
		ASSERT_CONTAINS(r.err, "fork");
	}
	shim_answer_done(&a);
	a = update(&p, "c1", "{\"pids\":{\"limit\":50}}");
	ASSERT_EQ(a.code, 0);
	check_inside("e3", "memory.max pids.max", "67108864\n50\n");
	wrong = update(&p, "c1", "{\"memory\":");
	ASSERT_EQ(wrong.code, TTRPC_INVALID_ARGUMENT);
	unknown = update(&p, "c2", "{}");
	ASSERT_EQ(unknown.code, TTRPC_NOT_FOUND);
	check_inside("e4", "memory.max", "67108864\n");
	pids = shim_answer(&p, ask_task(&p, "Pids", NULL), &containerd__pids_response__descriptor);
	ASSERT_EQ(pids.code, 0);
	all = pids.m;
	ASSERT_EQ(all->n_processes, 1);
	ASSERT(all->processes[0]->pid > 1 && kill((int)all->processes[0]->pid, 0) == 0);
	stats = shim_answer(&p, ask_task(&p, "Stats", NULL), &containerd__stats_response__descriptor);
	ASSERT_EQ(stats.code, 0);
	s = stats.m;
	ASSERT_STREQ(s->stats->type_url, "io.containerd.cgroups.v2.Metrics");
	m = message_unpack(&cgroups__metrics__descriptor, s->stats->value.data, s->stats->value.len);
	ASSERT(m && m->pids && m->cpu && m->memory);
	ASSERT_EQ(m->pids->limit, 50);
	ASSERT(m->pids->current >= 1 && m->cpu->usage_usec > 0);
	ASSERT_EQ(m->memory->usage_limit, 67108864);
	ASSERT(m->memory->usage > 0 && m->memory->usage < 67108864);
	finish();
}

TEST(a_checkpoint_is_refused_in_one_line)
{
	_cleanup_answer_ struct shim_answer a = {};
	_cleanup_peer_ struct shim_peer p = {};
	_cleanup_cli_ struct cli r = {};

	begin(&p);
	a = shim_answer(&p, ask_task(&p, "Checkpoint", NULL), NULL);
	ASSERT_EQ(a.code, TTRPC_UNIMPLEMENTED);
	r = ctr("task", "checkpoint", "c1", NULL);
	ASSERT_STATUS(r, 1);
	ASSERT_CONTAINS(r.err, "checkpoint is not implemented");
	ASSERT(strchr(r.err, '\n') == r.err + strlen(r.err) - 1);
	/* It goes on as if nothing had been asked. */
	ctd_wait_status("c1", "RUNNING");
	finish();
}

static void check_alive(struct shim_peer *p)
{
	expect_ok(p, ask_task(p, "State", NULL), "State");
}

static int code_of(struct shim_peer *p, uint32_t stream)
{
	_cleanup_answer_ struct shim_answer a = shim_answer(p, stream, NULL);

	return a.code;
}

static void send_frame(struct shim_peer *p, uint32_t stream, uint8_t type, const char *data, size_t n)
{
	_cleanup_buf_ struct buf b = {};

	ASSERT_OK(ttrpc_encode(&b, stream, type, 0, data, n));
	shim_send(p, b.p, b.len);
}

TEST(peers_that_break_the_rules_are_told_and_heard_further)
{
	_cleanup_free_ char *big = xcalloc(1, (5 << 20) + 10);
	_cleanup_peer_ struct shim_peer p = {}, http = {}, half = {}, other = {};
	static const char header[] = "\0\x50\0\0\0\0\1\1\1";

	begin(&p);
	check_alive(&p);
	send_frame(&p, 0, TTRPC_REQUEST, "x", 1);
	ASSERT_EQ(code_of(&p, 0), TTRPC_INVALID_ARGUMENT);
	send_frame(&p, 2, TTRPC_REQUEST, "x", 1);
	ASSERT_EQ(code_of(&p, 2), TTRPC_INVALID_ARGUMENT);
	send_frame(&p, 1, TTRPC_REQUEST, "x", 1);
	ASSERT_EQ(code_of(&p, 1), TTRPC_INVALID_ARGUMENT);
	send_frame(&p, 77, TTRPC_DATA, "x", 1);
	ASSERT_EQ(code_of(&p, 77), TTRPC_INVALID_ARGUMENT);
	send_frame(&p, 79, TTRPC_RESPONSE, "x", 1);
	send_frame(&p, 81, 9, "x", 1);
	/* 5 MiB on stream 0x101. */
	memcpy(big, header, sizeof(header));
	shim_send(&p, big, (5 << 20) + 10);
	ASSERT_EQ(code_of(&p, 0x101), TTRPC_RESOURCE_EXHAUSTED);
	p.last = 0x101;
	send_frame(&p, p.last += 2, TTRPC_REQUEST, "\377\377", 2);
	ASSERT_EQ(code_of(&p, p.last), TTRPC_INVALID_ARGUMENT);
	ASSERT_EQ(code_of(&p, shim_ask(&p, TASK_SERVICE, "Juggle", NULL)), TTRPC_UNIMPLEMENTED);
	ASSERT_EQ(code_of(&p, shim_ask(&p, "containerd.task.v9.Task", "State", NULL)), TTRPC_UNIMPLEMENTED);
	ASSERT_EQ(code_of(&p, shim_ask(&p, TASK_SERVICE, "State", NULL)), TTRPC_NOT_FOUND);
	check_alive(&p);
	/* Others on connections of their own: no ttrpc at all, half a frame, a call whose caller goes. */
	open_shim(&http, "c1");
	shim_send(&http, "GET / HTTP/1.1\r\n\r\n", 18);
	shim_expect_end(&http);
	open_shim(&half, "c1");
	shim_send(&half, "\0\0\1\0\0\0\0\1\1\0abc", 13);
	open_shim(&other, "c1");
	(void)ask_task(&other, "Wait", NULL);
	shim_peer_close(&other);
	check_alive(&p);
	finish();
}

TEST(more_connections_than_it_takes_end_no_other)
{
	_cleanup_peer_ struct shim_peer p = {};
	struct shim_peer many[200];

	begin(&p);
	check_alive(&p);
	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		open_shim(&many[i], "c1");
	check_alive(&p);
	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		shim_peer_close(&many[i]);
	finish();
}
