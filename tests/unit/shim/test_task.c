/* The shim's services before a guest that answers late, wrongly, at once for ever, or not at all (scene.h). */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "scene.h"

/* ---- Answers that come late, in another order or not at all ---- */

TEST(a_container_may_be_deleted_while_the_guest_withholds_its_pause)
{
	struct guest g;
	uint32_t pause, deletion, wait;

	begin(&g, &(struct scene){ RUNS });
	wait = ask(&g, "Wait");
	pause = ask(&g, "Pause");
	(void)asked(&g, "PauseContainer");
	guest_says_ended(&g);
	assert_exit(&g, wait, 7);
	deletion = ask(&g, "Delete");
	guest_answers(&g, asked(&g, "DeleteContainer"), NULL);
	assert_answer(&g, deletion, TTRPC_OK, "");
	guest_answers(&g, asked(&g, "PauseContainer"), NULL);
	assert_answer(&g, pause, TTRPC_NOT_FOUND, "c1");
	end(&g);
}

TEST(a_guest_that_goes_while_a_container_is_deleted)
{
	uint32_t started, deletion, wait;
	struct guest g;

	begin(&g, &(struct scene){ RUNS });
	wait = ask(&g, "Wait");
	started = ask_exec(&g);
	(void)asked(&g, "ExecContainer");
	guest_says_ended(&g);
	assert_exit(&g, wait, 7);
	deletion = ask(&g, "Delete");
	(void)asked(&g, "DeleteContainer");
	hang_up(&g);
	assert_answer(&g, deletion, TTRPC_OK, "");
	assert_answer(&g, started, TTRPC_UNAVAILABLE, ITS_REASON);
	end(&g);
}

TEST(a_guest_that_heeds_no_kill_is_ended)
{
	struct guest g;
	uint32_t wait, kill;

	begin(&g, &(struct scene){ RUNS, .limits.kill_ns = 200 * NS_PER_MS });
	wait = ask(&g, "Wait");
	kill = ask_kill(&g);
	(void)asked(&g, "KillContainer");
	assert_answer(&g, kill, TTRPC_OK, "");
	assert_exit(&g, wait, 137);
	assert_answer(&g, ask(&g, "Delete"), TTRPC_OK, "");
	end(&g);
}

TEST(a_guest_that_answers_a_kill_and_does_not_end_the_process_is_ended)
{
	struct guest g;
	uint32_t wait, kill;

	begin(&g, &(struct scene){ RUNS, .limits.kill_ns = 3 * NS_PER_SEC });
	wait = ask(&g, "Wait");
	kill = ask_kill(&g);
	guest_answers(&g, asked(&g, "KillContainer"), NULL);
	assert_answer(&g, kill, TTRPC_OK, "");
	assert_exit(&g, wait, 137);
	end(&g);
}

TEST(a_process_that_ends_in_time_costs_no_machine)
{
	struct guest g;
	uint32_t wait, kill;

	begin(&g, &(struct scene){ RUNS });
	wait = ask(&g, "Wait");
	kill = ask_kill(&g);
	guest_answers(&g, asked(&g, "KillContainer"), NULL);
	assert_answer(&g, kill, TTRPC_OK, "");
	guest_says_ended(&g);
	assert_exit(&g, wait, 7);
	end(&g);
}

TEST(a_deletion_that_the_guest_does_not_answer)
{
	struct guest g;
	uint32_t wait;

	begin(&g, &(struct scene){ RUNS, .limits.answer_ns = 500 * NS_PER_MS });
	wait = ask(&g, "Wait");
	guest_says_ended(&g);
	assert_exit(&g, wait, 7);
	assert_answer(&g, ask(&g, "Delete"), TTRPC_OK, "");
	end(&g);
}

TEST(a_container_that_the_guest_does_not_make)
{
	struct guest g;
	uint32_t start;

	begin(&g, &(struct scene){ DEFERRED, .limits.answer_ns = 500 * NS_PER_MS });
	start = ask(&g, "Start");
	(void)asked(&g, "CreateContainer");
	assert_answer(&g, start, TTRPC_DEADLINE_EXCEEDED, "the guest did not make the container within");
	(void)asked(&g, "DeleteContainer");
	end(&g);
}

TEST(outputs_that_the_guest_never_ends)
{
	struct guest g;
	uint32_t wait;

	begin(&g, &(struct scene){ RUNS, .output = true, .limits.silent_ns = 200 * NS_PER_MS });
	wait = ask(&g, "Wait");
	(void)asked(&g, "Read");
	guest_says_ended(&g);
	assert_exit(&g, wait, 7);
	end(&g);
}

TEST(a_process_that_joined_and_never_ends_does_not_outlive_the_first)
{
	struct guest g;
	uint32_t wait, first, joined;

	begin(&g, &(struct scene){ RUNS, .limits.kill_ns = 200 * NS_PER_MS });
	wait = ask(&g, "Wait");
	first = asked(&g, "Wait");
	add_exec(&g);
	joined = ask_of(&g, "Wait", "e1");
	guest_says_ended_to(&g, first);
	(void)asked(&g, "KillContainer");
	assert_exit(&g, joined, 137);
	assert_exit(&g, wait, 7);
	assert_answer(&g, ask_of(&g, "Delete", "e1"), TTRPC_OK, "");
	assert_answer(&g, ask(&g, "Delete"), TTRPC_OK, "");
	end(&g);
}

TEST(a_process_that_is_killed_while_it_joins_ends_when_it_has)
{
	Skerry__Agent__V1__ExecResponse m = SKERRY__AGENT__V1__EXEC_RESPONSE__INIT;
	uint32_t started, first, joined;
	struct guest g;

	begin(&g, &(struct scene){ RUNS, .limits.silent_ns = 200 * NS_PER_MS });
	first = asked(&g, "Wait");
	started = ask_exec(&g);
	(void)asked(&g, "ExecContainer");
	joined = ask_of(&g, "Wait", "e1");
	assert_answer(&g, ask_signal(&g, "e1", SIGKILL), TTRPC_OK, "");
	m.pid = 77;
	guest_answers(&g, asked(&g, "ExecContainer"), &m.base);
	(void)asked(&g, "KillContainer");
	assert_answer(&g, started, TTRPC_CANCELLED, "killed before it was started");
	assert_answer(&g, ask_of(&g, "Delete", "e1"), TTRPC_FAILED_PRECONDITION, "running");
	ASSERT(asked(&g, "Wait") != first);
	guest_says_ended_to(&g, asked(&g, "Wait"));
	assert_exit(&g, joined, 7);
	assert_answer(&g, ask_of(&g, "Delete", "e1"), TTRPC_OK, "");
	end(&g);
}

TEST(a_process_that_never_joins_is_waited_for_no_longer)
{
	uint32_t started, joined;
	struct guest g;

	begin(&g, &(struct scene){ RUNS, .limits.answer_ns = 3 * NS_PER_SEC });
	started = ask_exec(&g);
	(void)asked(&g, "ExecContainer");
	joined = ask_of(&g, "Wait", "e1");
	assert_answer(&g, ask_signal(&g, "e1", SIGKILL), TTRPC_OK, "");
	assert_answer(&g, started, TTRPC_DEADLINE_EXCEEDED, "start the process");
	assert_exit(&g, joined, 255);
	assert_answer(&g, ask_of(&g, "Delete", "e1"), TTRPC_OK, "");
	end(&g);
}

TEST(a_process_that_joined_and_heeds_no_kill_is_given_up_and_costs_no_machine)
{
	struct guest g;
	uint32_t wait, first, joined, kill;

	begin(&g,
	      &(struct scene){ RUNS, .limits = { .kill_shared_ns = 200 * NS_PER_MS, .silent_ns = 200 * NS_PER_MS } });
	wait = ask(&g, "Wait");
	first = asked(&g, "Wait");
	add_exec(&g);
	joined = ask_of(&g, "Wait", "e1");
	kill = ask_signal(&g, "e1", SIGKILL);
	guest_answers(&g, asked(&g, "KillContainer"), NULL);
	assert_answer(&g, kill, TTRPC_OK, "");
	assert_exit(&g, joined, 137);
	assert_answer(&g, ask_of(&g, "Delete", "e1"), TTRPC_OK, "");
	guest_says_ended_to(&g, first);
	assert_exit(&g, wait, 7);
	end(&g);
}

TEST(outputs_that_the_guest_trickles_for_ever)
{
	uint64_t deadline_ns = clock_monotonic_ns() + ANSWER_S * NS_PER_SEC;
	struct guest g;
	uint32_t wait;

	begin(&g, &(struct scene){ RUNS, .output = true, .limits.silent_ns = 300 * NS_PER_MS });
	wait = ask(&g, "Wait");
	guest_says_ended(&g);
	while (shim_unanswered(&g.caller, wait)) {
		struct pollfd f = { .fd = g.fd, .events = POLLIN };

		ASSERT(clock_monotonic_ns() < deadline_ns);
		while (g.n_reads)
			guest_says_a_byte(&g);
		if (poll(&f, 1, 100) > 0)
			hear(&g);
	}
	end(&g);
}

/* The guest's time does not run while somebody here takes theirs. */
TEST(output_that_is_taken_late_is_taken_whole)
{
	enum { MUCH = 400 << 10 };
	Skerry__Agent__V1__ReadResponse m = SKERRY__AGENT__V1__READ_RESPONSE__INIT;
	_cleanup_free_ char *path = xasprintf("%s/out", test_tmpdir());
	_cleanup_free_ uint8_t *much = xcalloc(1, MUCH);
	struct guest g;
	uint32_t wait;
	size_t got = 0;
	int fd;

	ASSERT_OK(mkfifo(path, 0600));
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ASSERT_OK(fd);
	begin(&g, &(struct scene){ RUNS, .output = true, .fifo = true, .limits.silent_ns = 200 * NS_PER_MS });
	wait = ask(&g, "Wait");
	while (g.n_reads < 2)
		hear(&g);
	m.data = (ProtobufCBinaryData){ MUCH, much };
	guest_answers(&g, g.reads[0], &m.base);
	m.data = (ProtobufCBinaryData){};
	m.eof = true;
	guest_answers(&g, g.reads[1], &m.base);
	g.n_reads = 0;
	guest_says_ended(&g);
	(void)answer_for_a_while(&g, "none", NULL);
	while (got < MUCH) {
		struct pollfd f = { .fd = fd, .events = POLLIN };
		uint8_t some[4096];
		ssize_t n;

		ASSERT_EQ(poll(&f, 1, ANSWER_S * 1000), 1);
		n = read(fd, some, sizeof(some));
		ASSERT(n > 0);
		got += (size_t)n;
	}
	while (!g.n_reads)
		hear(&g);
	guest_answers(&g, g.reads[0], &m.base);
	assert_exit(&g, wait, 7);
	close(fd);
	end(&g);
}

TEST(a_signal_that_the_guest_does_not_answer_is_as_good_as_sent)
{
	struct guest g;
	uint32_t wait, term;

	begin(&g, &(struct scene){ RUNS, .limits = { .signal_ns = 200 * NS_PER_MS, .kill_ns = 200 * NS_PER_MS } });
	wait = ask(&g, "Wait");
	term = ask_signal(&g, "", SIGTERM);
	(void)asked(&g, "KillContainer");
	assert_answer(&g, term, TTRPC_OK, "");
	ASSERT(shim_unanswered(&g.caller, wait));
	assert_answer(&g, ask_kill(&g), TTRPC_OK, "");
	assert_exit(&g, wait, 137);
	end(&g);
}

/* ---- Answers at once, for ever ---- */

static void answer_memory_is_out(struct guest *g, uint32_t stream)
{
	Skerry__Agent__V1__ContainerEvent m = SKERRY__AGENT__V1__CONTAINER_EVENT__INIT;
	char id[] = "c1";

	m.id = id;
	m.kind = SKERRY__AGENT__V1__CONTAINER_EVENT__KIND__OOM;
	guest_answers(g, stream, &m.base);
}

static void answer_no_room(struct guest *g, uint32_t stream)
{
	_cleanup_buf_ struct buf out = {};

	ASSERT_OK(ttrpc_response_encode(&out, stream, TTRPC_RESOURCE_EXHAUSTED, "full", NULL, 0));
	ASSERT_OK(write_full(g->fd, out.p, out.len));
}

TEST(a_guest_that_is_always_out_of_memory_is_heard_now_and_then)
{
	struct guest g;
	uint32_t wait;
	unsigned n;

	begin(&g, &(struct scene){ RUNS });
	wait = ask(&g, "Wait");
	n = answer_for_a_while(&g, "NextContainerEvent", answer_memory_is_out);
	ASSERT(n > 1 && n < 20);
	guest_says_ended(&g);
	assert_exit(&g, wait, 7);
	end(&g);
}

TEST(a_guest_without_room_is_asked_for_connections_again_and_not_at_once)
{
	struct guest g;
	unsigned n;

	begin(&g, &(struct scene){ RUNS, .socket = true });
	n = answer_for_a_while(&g, "Accept", answer_no_room);
	ASSERT(n > 1 && n < 20);
	end(&g);
}

/* ---- Machines that end meanwhile: with their reason ---- */

TEST(a_machine_that_ends_while_its_container_is_made)
{
	struct guest g;
	uint32_t start;

	begin(&g, &(struct scene){ DEFERRED });
	start = ask(&g, "Start");
	(void)asked(&g, "CreateContainer");
	hang_up(&g);
	assert_answer(&g, start, TTRPC_UNAVAILABLE, ITS_REASON);
	end(&g);
}

TEST(a_machine_that_ends_while_its_container_is_started)
{
	struct guest g;
	uint32_t start;

	begin(&g, &(struct scene){ MADE });
	start = ask(&g, "Start");
	(void)asked(&g, "StartContainer");
	hang_up(&g);
	assert_answer(&g, start, TTRPC_UNAVAILABLE, ITS_REASON);
	end(&g);
}

TEST(a_machine_that_ends_while_a_process_joins)
{
	struct guest g;
	uint32_t start, wait;

	begin(&g, &(struct scene){ RUNS });
	wait = ask(&g, "Wait");
	start = ask_exec(&g);
	(void)asked(&g, "ExecContainer");
	hang_up(&g);
	assert_answer(&g, start, TTRPC_UNAVAILABLE, ITS_REASON);
	assert_exit(&g, wait, 137);
	end(&g);
}
