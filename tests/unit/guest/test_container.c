/* Jobs of crun, which is a script here: what it leaves behind, also when that has ended by then, or nobody can have it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "base/file.h"
#include "guest/container_parts.h"
#include "test.h"
#include "wire/message.h"

enum { STRANGERS = 300, STRANGER = 5000000 /* above every pid */ };

struct scene {
	struct loop *loop;
	struct sessions *sessions;
	struct containers *t;
	struct link *link;
	int host; /* the link's other end */
	struct buf in;
	char *crun;
};

static char *below(const char *name)
{
	return xasprintf("%s/%s", test_tmpdir(), name);
}

/* Notes what it is asked; "exec" leaves the process that is written into the FIFO, "create" no word of any. */
static void write_crun(struct scene *s)
{
	_cleanup_free_ char *log = below("log"), *fifo = below("pid"), *text = NULL;
	_cleanup_close_ int fd = -EBADF;

	s->crun = below("crun");
	text = xasprintf("#!/bin/sh\n"
			 "while [ $# -gt 0 ]; do\n"
			 "	case $1 in\n"
			 "	--pid-file) pid=$2; shift ;;\n"
			 "	create | exec | delete) verb=$1 ;;\n"
			 "	esac\n"
			 "	shift\n"
			 "done\n"
			 "echo $verb >>%s\n"
			 "[ $verb != exec ] || cat %s >$pid\n",
			 log, fifo);
	fd = open(s->crun, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
	ASSERT_OK(write_full(fd, text, strlen(text)));
	ASSERT_OK(mkfifo(fifo, 0600));
}

static void begin(struct scene *s)
{
	int pair[2];

	if (geteuid() != 0)
		test_skip("needs root, for a /run of its own");
	*s = (struct scene){};
	ASSERT_OK(unshare(CLONE_NEWNS));
	ASSERT_OK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	ASSERT_OK(mount("run", "/run", "tmpfs", 0, NULL));
	write_crun(s);
	ASSERT_OK(loop_new(&s->loop));
	ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair));
	s->host = pair[0];
	ASSERT_OK(link_new(s->loop, &(struct link_target){ .fd = pair[1] }, NULL, NULL, NULL, &s->link));
	ASSERT_OK(link_start(s->link));
	s->sessions = sessions_new(s->loop);
	sessions_set_link(s->sessions, s->link);
	s->t = containers_new(s->loop, s->sessions);
	containers_set_link(s->t, s->link);
	s->t->crun = s->crun;
}

static void end(struct scene *s)
{
	containers_free(s->t);
	sessions_free(s->sessions);
	link_free(s->link);
	loop_free(s->loop);
	close(s->host);
	buf_done(&s->in);
	free(s->crun);
}

/* As the agent does with each child that ends. */
static void reap_one(struct scene *s, pid_t pid)
{
	int status;

	pid = waitpid(pid, &status, 0);
	ASSERT(pid > 0);
	if (!containers_reaped(s->t, pid, status))
		(void)sessions_reaped(s->sessions, pid, status);
}

/* The next answer, which must be on @stream: its code; its text or its message. */
static int answer(struct scene *s, uint32_t stream, char **ret_text, const ProtobufCMessageDescriptor *type, void **ret)
{
	for (;;) {
		struct pollfd p = { .fd = s->host, .events = POLLIN };
		struct ttrpc_response r;
		struct ttrpc_frame f;
		size_t used;
		ssize_t n;
		int code;

		if (ttrpc_decode(&s->in, &f, &used) == 1) {
			ASSERT_EQ(f.stream_id, stream);
			ASSERT_OK(ttrpc_response_decode(&f, &r));
			code = r.code;
			if (ret_text)
				*ret_text = xstrdup(r.message);
			if (ret)
				*ret = message_unpack(type, r.payload, r.payload_len);
			ttrpc_response_done(&r);
			buf_consume(&s->in, used);
			return code;
		}
		ASSERT_EQ(poll(&p, 1, 100000), 1);
		n = read(s->host, buf_reserve(&s->in, 4096), 4096);
		ASSERT(n > 0);
		buf_commit(&s->in, (size_t)n);
	}
}

static int make(struct scene *s, uint32_t stream, struct error *err)
{
	char id[] = "c1", session[] = "p1", spec[] = "{}";
	Skerry__Agent__V1__CreateContainerRequest q = SKERRY__AGENT__V1__CREATE_CONTAINER_REQUEST__INIT;

	q.id = id;
	q.session = session;
	q.spec = (ProtobufCBinaryData){ 2, (uint8_t *)spec };
	return container_create(s->t, &q, stream, err);
}

/* A container that is there as far as the table goes: an exec asks no more of it. */
static struct container *add_container(struct scene *s)
{
	struct container *k = xnew(struct container);

	*k = (struct container){ .id = xstrdup("c1"), .session = xstrdup("p1"), .events = -EBADF };
	s->t->first = k;
	s->t->n = 1;
	ASSERT_OK(mkdir_parents_at(AT_FDCWD, CONTAINER_DIRECTORY "/c1", 0700));
	return k;
}

static int join(struct scene *s, const char *session, uint32_t stream, struct error *err)
{
	_cleanup_free_ char *copy = xstrdup(session);
	char id[] = "c1", process[] = "{}";
	Skerry__Agent__V1__ExecContainerRequest q = SKERRY__AGENT__V1__EXEC_CONTAINER_REQUEST__INIT;

	q.id = id;
	q.session = copy;
	q.process = (ProtobufCBinaryData){ 2, (uint8_t *)process };
	return container_exec(s->t, &q, stream, err);
}

static void crun_leaves(pid_t pid)
{
	_cleanup_free_ char *fifo = below("pid"), *text = xasprintf("%d", (int)pid);
	_cleanup_close_ int fd = open(fifo, O_WRONLY | O_CLOEXEC);

	ASSERT_OK(write_full(fd, text, strlen(text)));
}

static pid_t child(bool lives)
{
	pid_t pid = fork();

	ASSERT_OK(pid);
	if (pid == 0) {
		while (lives)
			(void)pause();
		_exit(3);
	}
	return pid;
}

static void strangers_end(struct scene *s)
{
	for (int i = 0; i < STRANGERS; i++)
		ASSERT(!containers_reaped(s->t, STRANGER + i, 0));
}

static void assert_wait(struct scene *s, const char *session, uint32_t status)
{
	_cleanup_message_ Skerry__Agent__V1__WaitResponse *r = NULL;

	for (unsigned i = 1; i <= 2; i++) {
		ASSERT_OK(session_read(s->sessions, session, i, 64, 100 + i, NULL));
		ASSERT_EQ(answer(s, 100 + i, NULL, NULL, NULL), TTRPC_OK);
	}
	ASSERT_OK(session_wait(s->sessions, session, 111, NULL));
	ASSERT_EQ(answer(s, 111, NULL, &skerry__agent__v1__wait_response__descriptor, (void **)&r), TTRPC_OK);
	ASSERT_EQ(r->status, status);
}

/* A container, and "e1", which is on its way into it. Returns who leads it there. */
static pid_t begin_with_one_that_joins(struct scene *s)
{
	begin(s);
	(void)add_container(s);
	ASSERT_OK(join(s, "e1", 1, NULL));
	return s->t->jobs->pid;
}

/* ---- Processes that ended before crun did ---- */

TEST(the_latest_end_is_known_however_many_there_were)
{
	struct scene s;
	pid_t crun, left;

	crun = begin_with_one_that_joins(&s);
	strangers_end(&s);
	left = child(false);
	reap_one(&s, left);
	crun_leaves(left);
	reap_one(&s, crun);
	ASSERT_EQ(answer(&s, 1, NULL, NULL, NULL), TTRPC_OK);
	assert_wait(&s, "e1", 3);
	ASSERT_EQ(s.t->n_ended, 0);
	end(&s);
}

TEST(an_end_that_is_not_known_any_more_is_an_end)
{
	struct scene s;
	pid_t crun, left;

	crun = begin_with_one_that_joins(&s);
	left = child(false);
	reap_one(&s, left);
	strangers_end(&s);
	crun_leaves(left);
	reap_one(&s, crun);
	ASSERT_EQ(answer(&s, 1, NULL, NULL, NULL), TTRPC_OK);
	assert_wait(&s, "e1", 255);
	end(&s);
}

TEST(ends_of_those_that_are_known_take_no_room)
{
	struct scene s;
	pid_t crun, left;

	crun = begin_with_one_that_joins(&s);
	left = child(true);
	crun_leaves(left);
	reap_one(&s, crun);
	ASSERT_EQ(answer(&s, 1, NULL, NULL, NULL), TTRPC_OK);
	/* Another one is on its way when the first ends. */
	ASSERT_OK(join(&s, "e2", 3, NULL));
	crun = s.t->jobs->pid;
	ASSERT_OK(kill(left, SIGKILL));
	reap_one(&s, left);
	ASSERT_EQ(s.t->n_ended, 0);
	assert_wait(&s, "e1", 137);
	/* A pid that comes again is not the one that ended before. */
	ASSERT(!containers_reaped(s.t, STRANGER, 0));
	ASSERT_EQ(s.t->n_ended, 1);
	left = child(false);
	crun_leaves(left);
	reap_one(&s, crun);
	ASSERT_EQ(s.t->n_ended, 0);
	ASSERT_EQ(answer(&s, 3, NULL, NULL, NULL), TTRPC_OK);
	reap_one(&s, left);
	assert_wait(&s, "e2", 3);
	end(&s);
}

/* ---- Those that nobody can have ---- */

TEST(what_has_no_room_is_not_started)
{
	_cleanup_free_ char *log = below("log");
	_cleanup_error_ struct error err = {};
	struct scene s;

	begin(&s);
	(void)add_container(&s);
	for (unsigned i = 0; i < SESSIONS_MAX; i++) {
		_cleanup_free_ char *id = xasprintf("r%u", i);

		ASSERT_OK(session_reserve(s.sessions, id, NULL));
	}
	ASSERT_EQ(join(&s, "e1", 1, &err), -EMFILE);
	ASSERT_EQ(access(log, F_OK), -1);
	ASSERT(!s.t->jobs);
	session_unreserve(s.sessions, "r0");
	/* What has a place is not found yet, and its name is taken. */
	ASSERT_EQ(session_kill(s.sessions, "r1", SIGTERM, NULL), -ENOENT);
	ASSERT_EQ(join(&s, "r1", 1, NULL), -EEXIST);
	ASSERT_OK(join(&s, "e1", 1, NULL));
	crun_leaves(1 << 22); /* none */
	reap_one(&s, s.t->jobs->pid);
	ASSERT_EQ(answer(&s, 1, NULL, NULL, NULL), TTRPC_OK);
	end(&s);
}

TEST(a_container_that_nobody_can_have_leaves_its_name)
{
	_cleanup_free_ char *log = below("log"), *text = NULL;
	_cleanup_buf_ struct buf verbs = {};
	struct scene s;

	begin(&s);
	ASSERT_OK(make(&s, 1, NULL));
	reap_one(&s, s.t->jobs->pid);
	ASSERT(answer(&s, 1, &text, NULL, NULL) != TTRPC_OK);
	ASSERT_CONTAINS(text, "cannot be taken over");
	ASSERT(s.t->jobs);
	reap_one(&s, s.t->jobs->pid);
	ASSERT_OK(file_read_at(AT_FDCWD, log, 4096, &verbs));
	ASSERT_STREQ(verbs.p, "create\ndelete\n");
	ASSERT(!s.t->first && !s.t->jobs);
	ASSERT_OK(make(&s, 3, NULL));
	reap_one(&s, s.t->jobs->pid);
	end(&s);
}
