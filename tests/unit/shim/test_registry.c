/* What a shim that was killed has left is found by the registry and released from its record. The processes are real ones. */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/process.h"
#include "shim/bootstrap.h"
#include "shim/record.h"
#include "shim/registry.h"
#include "test.h"

/* No process has begun then: not even the first one, which begins within the boot's first ticks. */
#define NO_START UINT64_MAX

static char *below(const char *path)
{
	return xasprintf("%s/%s", test_tmpdir(), path);
}

static void set_up(void)
{
	_cleanup_free_ char *home = below("home");

	ASSERT_OK(setenv("SKERRY_HOME", home, 1));
	ASSERT_OK(unsetenv("SKERRY_RUN_DIR"));
}

/* A process that waits to be killed. */
static pid_t victim(uint64_t *ret_pid, uint64_t *ret_start)
{
	struct process_id id;
	pid_t pid = fork();

	ASSERT_OK(pid);
	if (pid == 0)
		for (;;)
			(void)pause();
	ASSERT_OK(process_identify(pid, &id));
	*ret_pid = (uint64_t)pid;
	*ret_start = id.start_time;
	return pid;
}

static bool is_alive(pid_t pid)
{
	return waitpid(pid, NULL, WNOHANG) == 0;
}

/* A bundle with that record, and its link. The record's strings become the caller's to release. */
static int make_bundle(const char *name, struct shim_record *r)
{
	_cleanup_free_ char *path = below(name),
			    *socket = xasprintf("/run/containerd/s/%s-hash", strrchr(name, '/') + 1);
	int fd;

	ASSERT_OK(mkdir_parents_at(AT_FDCWD, path, 0700));
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_OK(fd);
	r->link = registry_link(socket, NULL);
	ASSERT(r->link);
	ASSERT_OK(shim_record_write(fd, r, NULL));
	ASSERT_OK(registry_add(r->link, path, NULL));
	return fd;
}

static bool exists(const char *path)
{
	return faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* registry_recover(), and what it tells on standard output, which is the harness's otherwise. */
static int recover(struct buf *told, struct error *err)
{
	_cleanup_close_ int there = memfd_create("told", MFD_CLOEXEC), own = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	int r;

	ASSERT(there >= 0 && own >= 0 && fflush(stdout) == 0);
	ASSERT_OK(dup2(there, STDOUT_FILENO));
	r = registry_recover(err);
	ASSERT(fflush(stdout) == 0);
	ASSERT_OK(dup2(own, STDOUT_FILENO));
	buf_truncate(told, 0);
	ASSERT_OK(lseek(there, 0, SEEK_SET));
	ASSERT_OK(file_read_fd(there, 1 << 20, told));
	buf_adds(told, "");
	return r;
}

TEST(nothing_at_all_is_no_error)
{
	_cleanup_buf_ struct buf told = {};

	set_up();
	ASSERT_OK(recover(&told, NULL));
	ASSERT_OK(recover(&told, NULL));
	ASSERT_EQ(told.len, 0);
}

TEST(engine_and_file_server_of_a_killed_shim_are_ended)
{
	struct shim_record r = { .boot_id = xstrdup(boot_id()), .shim_pid = 1, .shim_start = NO_START };
	_cleanup_close_ int bundle = -EBADF;
	_cleanup_buf_ struct buf told = {};
	_cleanup_free_ char *line = NULL;
	pid_t engine, share;

	set_up();
	engine = victim(&r.engine_pid, &r.engine_start);
	share = victim(&r.share_pid, &r.share_start);
	bundle = make_bundle("t/default/c1", &r);
	ASSERT(is_alive(engine) && is_alive(share));
	ASSERT_OK(recover(&told, NULL));
	line = xasprintf("default/c1: its shim was killed; ended its engine, pid %d; ended its file server, pid %d; "
			 "released what it had\n",
			 engine, share);
	ASSERT_STREQ(told.p, line);
	ASSERT_EQ(waitpid(engine, NULL, 0), engine);
	ASSERT_EQ(waitpid(share, NULL, 0), share);
	ASSERT(!exists(r.link));
	ASSERT_EQ(faccessat(bundle, SHIM_RECORD, F_OK, 0), -1);
	ASSERT_OK(recover(&told, NULL));
	ASSERT_EQ(told.len, 0);
	shim_record_done(&r);
}

TEST(what_lives_is_not_touched)
{
	struct shim_record r = { .boot_id = xstrdup(boot_id()) };
	_cleanup_close_ int bundle = -EBADF;
	_cleanup_buf_ struct buf told = {};
	pid_t shim, engine;

	set_up();
	shim = victim(&r.shim_pid, &r.shim_start);
	engine = victim(&r.engine_pid, &r.engine_start);
	bundle = make_bundle("t/default/c1", &r);
	ASSERT_OK(recover(&told, NULL));
	ASSERT_EQ(told.len, 0);
	ASSERT(is_alive(shim) && is_alive(engine));
	ASSERT(exists(r.link));
	(void)kill(shim, SIGKILL);
	(void)kill(engine, SIGKILL);
	shim_record_done(&r);
}

/* Numbers come again: after a restart of the host, and for another process that began later. */
TEST(processes_of_others_are_not_ended)
{
	struct shim_record before = { .boot_id = xstrdup("another"), .shim_pid = 1, .shim_start = NO_START },
			   later = { .boot_id = xstrdup(boot_id()), .shim_pid = 1, .shim_start = NO_START };
	_cleanup_close_ int a = -EBADF, b = -EBADF;
	_cleanup_buf_ struct buf told = {};
	pid_t one, two;

	set_up();
	one = victim(&before.engine_pid, &before.engine_start);
	two = victim(&later.engine_pid, &later.engine_start);
	later.engine_start--;
	a = make_bundle("t/default/c1", &before);
	b = make_bundle("t/default/c2", &later);
	ASSERT_OK(recover(&told, NULL));
	ASSERT(!strstr(told.p, "ended"));
	ASSERT(is_alive(one) && is_alive(two));
	ASSERT(!exists(before.link) && !exists(later.link));
	(void)kill(one, SIGKILL);
	(void)kill(two, SIGKILL);
	shim_record_done(&before);
	shim_record_done(&later);
}

TEST(damage_is_told_and_stops_nobody_else)
{
	struct shim_record r = { .boot_id = xstrdup(boot_id()), .shim_pid = 1, .shim_start = NO_START }, bad = {};
	_cleanup_close_ int bundle = -EBADF, broken = -EBADF;
	_cleanup_free_ char *gone = NULL, *nowhere = below("nowhere");
	_cleanup_error_ struct error e = {};
	_cleanup_buf_ struct buf told = {};
	pid_t engine;

	set_up();
	gone = registry_link("/s/gone", NULL);
	ASSERT_OK(registry_add(gone, nowhere, NULL));
	broken = make_bundle("t/default/bad", &bad);
	ASSERT_OK(file_write_at(broken, SHIM_RECORD, "{\"shim_pid\":", 12, 0600, 0));
	engine = victim(&r.engine_pid, &r.engine_start);
	bundle = make_bundle("t/default/c1", &r);
	ASSERT(recover(&told, &e) < 0);
	ASSERT_CONTAINS(e.msg, "not everything");
	ASSERT_EQ(waitpid(engine, NULL, 0), engine);
	/* A bundle that containerd has removed is nobody's any more. */
	ASSERT(!exists(gone) && !exists(r.link) && exists(bad.link));
	shim_record_done(&r);
	shim_record_done(&bad);
}

/* A configuration whose hooks write down what they are told, and the record of a shim that was killed when they had begun. */
static int make_hooked(struct shim_record *r)
{
	_cleanup_free_ char *script = below("hook"), *told = below("told"), *program = NULL;
	_cleanup_close_ int file = open(script, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
	_cleanup_json_ struct json *spec = json_object(), *hooks = json_object(), *list = json_array(),
				   *hook = json_object();
	_cleanup_buf_ struct buf text = {};
	int bundle;

	program = xasprintf("#!/bin/sh\n/bin/cat >>%s\n", told);
	ASSERT_OK(write_full(file, program, strlen(program)));
	json_set_string(hook, "path", script);
	json_append(list, json_ref(hook));
	json_set(hooks, "poststop", json_ref(list));
	json_set(hooks, "createRuntime", json_ref(list));
	json_set(spec, "hooks", json_ref(hooks));
	json_render(spec, false, &text);
	*r = (struct shim_record){
		.boot_id = xstrdup(boot_id()), .shim_pid = 1, .shim_start = NO_START, .hooked = xstrdup("c1")
	};
	bundle = make_bundle("t/default/c1", r);
	ASSERT_OK(file_write_at(bundle, "config.json", text.p, text.len, 0600, 0));
	return bundle;
}

static void assert_told_once(void)
{
	_cleanup_free_ char *told = below("told");
	_cleanup_json_ struct json *state = NULL;
	_cleanup_buf_ struct buf text = {};

	ASSERT_OK(file_read_at(AT_FDCWD, told, 4096, &text));
	ASSERT_OK(json_parse(text.p, text.len, "state", &state, NULL));
	ASSERT_STREQ(json_string(json_get(state, "id")), "c1");
	ASSERT_STREQ(json_string(json_get(state, "status")), "stopped");
	ASSERT_CONTAINS(json_string(json_get(state, "bundle")), "t/default/c1");
}

TEST(hooks_that_a_killed_shim_owes_are_run_by_the_registry)
{
	struct shim_record r;
	_cleanup_close_ int bundle = -EBADF;
	_cleanup_buf_ struct buf said = {};

	set_up();
	bundle = make_hooked(&r);
	ASSERT_OK(recover(&said, NULL));
	assert_told_once();
	ASSERT_OK(recover(&said, NULL));
	assert_told_once();
	shim_record_done(&r);
}

TEST(hooks_that_a_killed_shim_owes_are_run_by_its_deletion)
{
	_cleanup_free_ char *path = below("t/default/c1");
	struct shim_args a = { .id = "c1", .namespace = "default", .address = "", .bundle = path };
	_cleanup_close_ int bundle = -EBADF, nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
	struct shim_record r;

	set_up();
	bundle = make_hooked(&r);
	ASSERT_OK(dup2(nowhere, STDOUT_FILENO));
	ASSERT_OK(shim_delete(&a, NULL));
	ASSERT_OK(shim_delete(&a, NULL));
	assert_told_once();
	shim_record_done(&r);
}

TEST(hooks_that_have_run_or_cannot_are_no_obstacle)
{
	_cleanup_free_ char *told = below("told"), *path = below("t/default/c1");
	_cleanup_close_ int bundle = -EBADF;
	_cleanup_buf_ struct buf said = {};
	struct shim_record r;

	set_up();
	bundle = make_hooked(&r);
	free(r.hooked);
	r.hooked = NULL;
	ASSERT_OK(shim_record_write(bundle, &r, NULL));
	ASSERT_OK(recover(&said, NULL));
	ASSERT(!exists(told));
	r.hooked = xstrdup("c1");
	ASSERT_OK(shim_record_write(bundle, &r, NULL));
	ASSERT_OK(registry_add(r.link, path, NULL));
	ASSERT_OK(unlinkat(bundle, "config.json", 0));
	ASSERT_OK(recover(&said, NULL));
	ASSERT(!exists(r.link));
	shim_record_done(&r);
}
