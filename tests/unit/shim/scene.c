#include "scene.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "wire/message.h"

/* ---- A virtual machine that is a socket ---- */

#define LATER_NS (200 * NS_PER_MS)

struct vm {
	struct loop *loop;
	struct rpc *agent;
	struct loop_source *timer;
	const struct vm_events *events;
	void *data;
	bool lost;
	const char *reason;
	char *given; /* owned */
};

static int agent_fd; /* of the shim's process: the end that its machine takes */

/* As of a real one, its agent's socket is closed before anybody learns why. */
static int on_later(struct loop_source *s, void *data)
{
	struct vm *vm = data;

	(void)s;
	vm->lost = true;
	vm->agent = rpc_free(vm->agent);
	vm->events->ended(vm->reason, vm->data);
	return 0;
}

static void end_later(struct vm *vm, const char *reason)
{
	vm->reason = reason;
	if (!vm->timer)
		ASSERT_OK(loop_add_timer(vm->loop, &vm->timer, clock_monotonic_ns() + LATER_NS, on_later, vm));
}

static void on_agent_closed(struct rpc *r, int num, void *data)
{
	(void)r;
	(void)num;
	end_later(data, ITS_REASON);
}

int vm_start(struct loop *l, const struct vm_request *q, struct shim_record *record, const struct vm_events *events,
	     void *data, struct vm **ret, struct error *err)
{
	struct vm *vm = xnew(struct vm);

	(void)q;
	(void)record;
	(void)err;
	*vm = (struct vm){ .loop = l, .events = events, .data = data };
	ASSERT_OK(rpc_new(l, agent_fd, NULL, on_agent_closed, vm, &vm->agent));
	*ret = vm;
	return 0;
}

struct rpc *vm_agent(const struct vm *vm)
{
	return vm && vm->agent && rpc_is_open(vm->agent) ? vm->agent : NULL;
}

void vm_cancel(struct vm *vm, int call)
{
	if (vm->agent)
		rpc_cancel(vm->agent, call);
}

pid_t vm_pid(const struct vm *vm)
{
	return vm ? 1 : 0;
}

bool vm_resolves(const struct vm *vm)
{
	(void)vm;
	return false;
}

void vm_kill(struct vm *vm)
{
	end_later(vm, "killed");
}

void vm_end(struct vm *vm, const char *reason)
{
	free(vm->given);
	vm->given = xstrdup(reason);
	end_later(vm, vm->given);
}

void vm_set_memory(struct vm *vm, uint64_t bytes)
{
	(void)vm;
	(void)bytes;
}

void vm_memory(struct vm *vm, engine_done_fn done, void *data)
{
	(void)vm;
	done(&(const struct error){ .num = ENOTCONN }, 0, data);
}

void vm_set_oom_score(struct vm *vm, int score)
{
	(void)vm;
	(void)score;
}

struct vm *vm_free(struct vm *vm)
{
	if (vm) {
		rpc_free(vm->agent);
		loop_source_free(vm->timer);
		free(vm->given);
		free(vm);
	}
	return NULL;
}

/* ---- The shim ---- */

static void add_container(struct shim *s, const char *id, const struct scene *scene)
{
	_cleanup_free_ char *out =
		scene->output ? xasprintf("%s://%s/out", scene->fifo ? "fifo" : "file", test_tmpdir()) : xstrdup("");
	struct container *k = xnew(struct container);
	struct process *init;

	*k = (struct container){ .shim = s,
				 .id = xstrdup(id),
				 .bundle = xstrdup(test_tmpdir()),
				 .spec = json_object(),
				 .holder = { .pidfd = -EBADF, .netns = -EBADF },
				 .deferred = scene->container == DEFERRED,
				 .made = scene->container != DEFERRED,
				 .next = s->containers };
	s->containers = k;
	init = process_new(k, "", false, "", out, "");
	if (scene->socket) {
		k->sockets = sockets_new(k);
		sockets_add(k->sockets, "s0", "/no/such/socket");
	}
	if (scene->output || scene->container != RUNS)
		ASSERT_OK(process_open_streams(init, NULL));
	if (k->deferred)
		return;
	init->made = true;
	if (scene->container == RUNS) {
		init->started = true;
		init->status = CONTAINERD__STATUS__RUNNING;
	}
	ASSERT_OK(process_watch(init, NULL));
}

static int on_term(struct loop_source *src, const struct signalfd_siginfo *si, void *data)
{
	struct shim *s = data;

	(void)src;
	(void)si;
	loop_exit(s->loop, 0);
	return 0;
}

static _Noreturn void serve(int listen_fd, const struct scene *scene)
{
	struct shim s = { .namespace = xstrdup("ns"), .id = xstrdup("s1"), .bundle_fd = -EBADF };
	uint64_t *limit = (uint64_t *)&s.limits;
	struct spec_info info = {};
	struct container *k;

	/* What a test does not say is none that it could reach. */
	s.limits = scene->limits;
	for (size_t i = 0; i < sizeof(s.limits) / sizeof(*limit); i++)
		limit[i] = limit[i] ? limit[i] : 120 * NS_PER_SEC;
	log_setup(-1, LOG_LEVEL_ERROR, false);
	ASSERT_OK(loop_new(&s.loop));
	ASSERT_OK(loop_add_signal(s.loop, &s.term_source, SIGTERM, on_term, &s));
	ASSERT_OK(events_new(s.loop, "", "ns", &s.events));
	ASSERT_OK(server_new(s.loop, listen_fd, shim_methods, &s, &s.server));
	ASSERT_OK(shim_configure(&s, &info, NULL));
	ASSERT_OK(shim_need_vm(&s, &info, NULL, -1, NULL, NULL));
	add_container(&s, "c1", scene);
	s.vm->events->ready("", &s);
	if (scene->socket)
		sockets_start(s.containers->sockets);
	(void)loop_run(s.loop);
	while ((k = s.containers))
		container_free(k);
	s.vm = vm_free(s.vm);
	resize_free(s.resize);
	shim_config_done(&s.config);
	server_free(s.server);
	events_free(s.events);
	loop_source_free(s.term_source);
	loop_source_free(s.watch_timer);
	loop_free(s.loop);
	shim_record_done(&s.record);
	spec_info_done(&info);
	free(s.vm_reason);
	free(s.namespace);
	free(s.id);
	exit(0);
}

/* ---- Those who call it, and its guest ---- */

enum { WATCHED_MS = 2500 };

void begin(struct guest *g, const struct scene *scene)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int pair[2], fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*g = (struct guest){};
	ASSERT_OK(setenv("SKERRY_HOME", test_tmpdir(), 1));
	(void)snprintf(a.sun_path, sizeof(a.sun_path), "%s/s", test_tmpdir());
	ASSERT_OK(bind(fd, (struct sockaddr *)&a, sizeof(a)));
	ASSERT_OK(listen(fd, 4));
	ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	g->fd = pair[0];
	agent_fd = pair[1];
	g->pid = fork();
	ASSERT_OK(g->pid);
	if (g->pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
		close(g->fd);
		serve(fd, scene);
	}
	close(agent_fd);
	close(fd);
	shim_peer_open(&g->caller, a.sun_path);
}

void end(struct guest *g)
{
	int status;

	shim_peer_close(&g->caller);
	ASSERT_OK(kill(g->pid, SIGTERM));
	ASSERT_EQ(waitpid(g->pid, &status, 0), g->pid);
	ASSERT(WIFEXITED(status));
	ASSERT_EQ(WEXITSTATUS(status), 0);
	if (g->fd >= 0)
		close(g->fd);
	buf_done(&g->in);
}

static void take_request(struct guest *g, const struct ttrpc_frame *f)
{
	struct ttrpc_request q;
	size_t i = 0;

	ASSERT_OK(ttrpc_request_decode(f, &q));
	while (i < g->n && strcmp(g->asked[i].name, q.method) != 0)
		i++;
	ASSERT(i < METHODS);
	g->n += i == g->n;
	(void)snprintf(g->asked[i].name, sizeof(g->asked[i].name), "%s", q.method);
	g->asked[i].stream = f->stream_id;
	g->asked[i].times++;
	if (strcmp(q.method, "Read") == 0 && g->n_reads < READS)
		g->reads[g->n_reads++] = f->stream_id;
	ttrpc_request_done(&q);
}

static void take_requests(struct guest *g)
{
	struct ttrpc_frame f;
	size_t used;

	while (ttrpc_decode(&g->in, &f, &used) == 1) {
		take_request(g, &f);
		buf_consume(&g->in, used);
	}
}

void hear(struct guest *g)
{
	ssize_t n = read(g->fd, buf_reserve(&g->in, 4096), 4096);

	ASSERT(n > 0);
	buf_commit(&g->in, (size_t)n);
	take_requests(g);
}

uint32_t asked(struct guest *g, const char *method)
{
	for (;;) {
		take_requests(g);
		for (size_t i = 0; i < g->n; i++)
			if (strcmp(g->asked[i].name, method) == 0)
				return g->asked[i].stream;
		hear(g);
	}
}

void guest_answers(struct guest *g, uint32_t stream, const struct ProtobufCMessage *m)
{
	_cleanup_buf_ struct buf payload = {}, out = {};

	if (m)
		message_pack(&payload, m);
	ASSERT_OK(ttrpc_response_encode(&out, stream, TTRPC_OK, "", payload.p, payload.len));
	ASSERT_OK(write_full(g->fd, out.p, out.len));
}

void guest_says_ended_to(struct guest *g, uint32_t stream)
{
	Skerry__Agent__V1__WaitResponse m = SKERRY__AGENT__V1__WAIT_RESPONSE__INIT;

	m.status = 7;
	guest_answers(g, stream, &m.base);
}

void guest_says_ended(struct guest *g)
{
	guest_says_ended_to(g, asked(g, "Wait"));
}

void guest_says_a_byte(struct guest *g)
{
	Skerry__Agent__V1__ReadResponse m = SKERRY__AGENT__V1__READ_RESPONSE__INIT;
	uint8_t byte = 'x';

	m.data = (ProtobufCBinaryData){ 1, &byte };
	guest_answers(g, g->reads[0], &m.base);
	memmove(g->reads, g->reads + 1, --g->n_reads * sizeof(g->reads[0]));
}

uint32_t ask_exec(struct guest *g)
{
	char id[] = "c1", exec_id[] = "e1", type[] = "json", spec[] = "{}";
	Containerd__ExecProcessRequest x = CONTAINERD__EXEC_PROCESS_REQUEST__INIT;
	Containerd__TaskRequest q = CONTAINERD__TASK_REQUEST__INIT;
	Containerd__Any any = CONTAINERD__ANY__INIT;
	struct shim_answer a;

	any.type_url = type;
	any.value = (ProtobufCBinaryData){ 2, (uint8_t *)spec };
	x.id = q.id = id;
	x.exec_id = q.exec_id = exec_id;
	x.spec = &any;
	a = shim_call(&g->caller, TASK_SERVICE, "Exec", &x.base, NULL);
	ASSERT_EQ(a.code, TTRPC_OK);
	shim_answer_done(&a);
	return shim_ask(&g->caller, TASK_SERVICE, "Start", &q.base);
}

void add_exec(struct guest *g)
{
	Skerry__Agent__V1__ExecResponse m = SKERRY__AGENT__V1__EXEC_RESPONSE__INIT;
	uint32_t started = ask_exec(g);
	_cleanup_answer_ struct shim_answer a = {};

	m.pid = 77;
	guest_answers(g, asked(g, "ExecContainer"), &m.base);
	a = shim_answer(&g->caller, started, NULL);
	ASSERT_EQ(a.code, TTRPC_OK);
}

uint32_t ask_of(struct guest *g, const char *method, const char *exec)
{
	_cleanup_free_ char *exec_id = xstrdup(exec);
	char id[] = "c1";
	Containerd__TaskRequest q = CONTAINERD__TASK_REQUEST__INIT;

	q.id = id;
	q.exec_id = exec_id;
	return shim_ask(&g->caller, TASK_SERVICE, method, &q.base);
}

uint32_t ask(struct guest *g, const char *method)
{
	return ask_of(g, method, "");
}

uint32_t ask_signal(struct guest *g, const char *exec, uint32_t sig)
{
	_cleanup_free_ char *exec_id = xstrdup(exec);
	char id[] = "c1";
	Containerd__KillRequest q = CONTAINERD__KILL_REQUEST__INIT;

	q.id = id;
	q.exec_id = exec_id;
	q.signal = sig;
	return shim_ask(&g->caller, TASK_SERVICE, "Kill", &q.base);
}

uint32_t ask_kill(struct guest *g)
{
	return ask_signal(g, "", SIGKILL);
}

void hang_up(struct guest *g)
{
	close(g->fd);
	g->fd = -1;
}

void assert_answer(struct guest *g, uint32_t stream, int code, const char *text)
{
	_cleanup_answer_ struct shim_answer a = shim_answer(&g->caller, stream, NULL);

	ASSERT_EQ(a.code, code);
	ASSERT_CONTAINS(a.text, text);
}

void assert_exit(struct guest *g, uint32_t stream, uint32_t status)
{
	_cleanup_answer_ struct shim_answer a = shim_answer(&g->caller, stream, &containerd__wait_response__descriptor);

	ASSERT_EQ(a.code, TTRPC_OK);
	ASSERT_EQ(((Containerd__WaitResponse *)a.m)->exit_status, status);
}

static unsigned times_asked(const struct guest *g, const char *method)
{
	for (size_t i = 0; i < g->n; i++)
		if (strcmp(g->asked[i].name, method) == 0)
			return g->asked[i].times;
	return 0;
}

unsigned answer_for_a_while(struct guest *g, const char *method, void (*answer)(struct guest *g, uint32_t stream))
{
	uint64_t end_ns = clock_monotonic_ns() + WATCHED_MS * NS_PER_MS;
	unsigned done = 0;

	/* Who was held up has not seen yet whether it is asked a second time. */
	while (clock_monotonic_ns() < end_ns || (answer && done < 2)) {
		struct pollfd f = { .fd = g->fd, .events = POLLIN };

		if (times_asked(g, method) > done) {
			done = times_asked(g, method);
			answer(g, asked(g, method));
		}
		if (poll(&f, 1, 100) > 0)
			hear(g);
	}
	return done;
}
