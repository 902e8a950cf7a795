/* logs and console. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/parse.h"
#include "base/process.h"
#include "cli/commands.h"
#include "cli/console_join.h"
#include "cli/filter.h"
#include "cli/output.h"
#include "cli/target.h"

enum { CHUNK = 64 << 10 };

/* ---- logs ---- */

struct logs_options {
	bool follow, engine, raw;
	const char *lines;
};

static const struct option logs_table[] = {
	FLAG('f', "follow", logs_options, follow, "Go on printing what comes, until the machine has ended"),
	FLAG(0, "engine", logs_options, engine, "The engine's and the monitor's log instead of the guest's console"),
	FLAG(0, "raw", logs_options, raw, "Leave escape sequences in, on a terminal too"),
	TEXT('n', "lines", "N", logs_options, lines, "Only the last N lines"),
};

struct tail {
	char *path; /* owned */
	int fd;     /* owned; -1 = the file is not there yet */
	uint64_t offset;
	bool filtered;
	struct filter filter;
	struct error *err; /* borrowed */
	struct loop *loop;
};

static int print_new(struct tail *t)
{
	for (;;) {
		_cleanup_buf_ struct buf clean = {}, raw = {};
		ssize_t n = pread(t->fd, buf_reserve(&raw, CHUNK), CHUNK, (off_t)t->offset);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set_errno(t->err, errno, "cannot read '%s'", t->path);
		if (n == 0)
			return 0;
		t->offset += (uint64_t)n;
		buf_commit(&raw, (size_t)n);
		if (t->filtered)
			filter_add(&t->filter, raw.p, raw.len, &clean);
		r = t->filtered ? output_text(clean.p, clean.len, t->err) : output_text(raw.p, raw.len, t->err);
		if (r < 0)
			return r;
	}
}

/* Offset of the first of the last @lines lines. */
static int seek_lines(struct tail *t, uint64_t lines)
{
	off_t end = lseek(t->fd, 0, SEEK_END);
	_cleanup_free_ char *block = xcalloc(1, CHUNK);
	uint64_t found = 0;

	if (end < 0)
		return error_set_errno(t->err, errno, "cannot read '%s'", t->path);
	t->offset = (uint64_t)end;
	while (t->offset) {
		uint64_t n = t->offset < CHUNK ? t->offset : CHUNK, from = t->offset - n;
		int r = pread_full(t->fd, block, n, from);

		if (r < 0)
			return error_set_errno(t->err, r, "cannot read '%s'", t->path);
		for (uint64_t i = n; i > 0; i--)
			/* The line end at the very end closes the last line. */
			if (block[i - 1] == '\n' && from + i != (uint64_t)end && ++found == lines) {
				t->offset = from + i;
				return 0;
			}
		t->offset = from;
	}
	return 0;
}

/* The file grew, or was moved away because it had become large: then its successor begins at 0. */
static int on_change(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct tail *t = data;
	char drop[4096];
	struct stat now, then;
	int r;

	(void)source;
	(void)events;
	while (read(fd, drop, sizeof(drop)) > 0)
		;
	r = t->fd >= 0 ? print_new(t) : 0;
	if (r < 0)
		return r;
	if (stat(t->path, &now) < 0)
		return 0;
	if (t->fd < 0 || (fstat(t->fd, &then) == 0 && then.st_ino != now.st_ino)) {
		safe_close(t->fd);
		t->fd = open(t->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		t->offset = 0;
		return t->fd >= 0 ? print_new(t) : 0;
	}
	if ((uint64_t)now.st_size < t->offset) {
		t->offset = 0;
		return print_new(t);
	}
	return 0;
}

static int on_monitor_gone(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct tail *t = data;

	(void)fd;
	(void)events;
	loop_source_free(source);
	loop_exit(t->loop, 0);
	return 0;
}

static int follow(struct tail *t, const struct machine_info *info, struct error *err)
{
	struct process_id id = { .pid = (pid_t)info->state.monitor_pid, .start_time = info->state.monitor_start };
	_cleanup_close_ int notify = -EBADF, monitor = -EBADF;
	struct loop_source *changes = NULL, *gone = NULL;
	_cleanup_free_ char *dir = xstrdup(t->path);
	int r;

	*strrchr(dir, '/') = '\0';
	/* What does not run writes nothing more, and what it wrote is printed. */
	if (!info->monitor_alive)
		return 0;
	monitor = process_open(&id);
	/* It has ended since that look: its last words may have come after what is printed. */
	if (monitor < 0)
		return on_change(NULL, -EBADF, 0, t);
	notify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	/* One that is deleted at its end may be gone. */
	if (notify < 0 || (inotify_add_watch(notify, dir, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0 && errno != ENOENT))
		return error_set_errno(err, errno, "cannot watch '%s'", dir);
	r = loop_new(&t->loop);
	if (r >= 0)
		r = loop_add_fd(t->loop, &changes, notify, EPOLLIN, on_change, t);
	if (r >= 0)
		r = loop_add_fd(t->loop, &gone, monitor, EPOLLIN, on_monitor_gone, t);
	if (r < 0) {
		error_set_errno(err, r, "cannot make an event loop");
	} else {
		/* What came between the first look and the watch. */
		r = on_change(changes, notify, 0, t);
		if (r >= 0)
			r = loop_run(t->loop);
		if (r >= 0)
			r = on_change(changes, notify, 0, t);
	}
	loop_source_free(changes);
	t->loop = loop_free(t->loop);
	return r;
}

static int run_logs(const struct invocation *inv, struct error *err)
{
	const struct logs_options *o = inv->options;
	_cleanup_store_ struct store s = {};
	_cleanup_info_ struct machine_info info = {};
	struct tail t = { .fd = -EBADF, .err = err, .filtered = !o->raw && isatty(STDOUT_FILENO) };
	uint64_t lines = 0;
	struct name name;
	int r;

	if (o->lines && parse_u64(o->lines, 1, 1000000, &lines) < 0)
		return error_set_kind(err, ERROR_USAGE, EINVAL, "logs: --lines '%s': expected a number of at least 1",
				      o->lines);
	r = store_open(&s, err);
	if (r >= 0)
		r = name_parse(inv->operands[0], "machine name", &name, err);
	if (r >= 0)
		r = machine_info_load(&s, &name, &info, err);
	if (r >= 0)
		r = machine_path(&s, &name, o->engine ? "engine.log" : "console.log", &t.path, err);
	if (r < 0)
		return r;
	t.fd = open(t.path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (t.fd < 0 && errno != ENOENT)
		r = error_set_errno(err, errno, "cannot read '%s'", t.path);
	if (r >= 0 && t.fd >= 0 && lines)
		r = seek_lines(&t, lines);
	if (r >= 0 && t.fd >= 0)
		r = print_new(&t);
	if (r >= 0 && o->follow)
		r = follow(&t, &info, err);
	safe_close(t.fd);
	free(t.path);
	return r;
}

const struct command logs_command = {
	.name = "logs",
	.operands = "NAME",
	.min_operands = 1,
	.max_operands = 1,
	.complete = "machine",
	.summary = "Print what a machine wrote on its console",
	.description = "On a terminal escape sequences are taken out: a guest must not drive the terminal of whoever "
		       "reads its log.",
	.examples = { { "skerry logs -f web", "And what comes" },
		      { "skerry logs --engine --lines 20 web", "Why does it not start?" } },
	.options = logs_table,
	.n_options = ARRAY_SIZE(logs_table),
	.options_size = sizeof(struct logs_options),
	.run = run_logs,
};

/* ---- console ---- */

static int run_console(const struct invocation *inv, struct error *err)
{
	_cleanup_store_ struct store s = {};
	struct name name;
	int r = store_open(&s, err);

	if (r >= 0) {
		/* Through the front door first: whoever lost its monitor gets one. */
		_cleanup_client_ struct client c = {};

		r = target_connect(&s, inv->operands[0], &name, &c, err);
	}
	r = r < 0 ? r : console_join(&s, &name, err);
	return r < 0 ? r : 0;
}

const struct command console_command = {
	.name = "console",
	.operands = "NAME",
	.min_operands = 1,
	.max_operands = 1,
	.complete = "machine",
	.summary = "Join a running machine's console",
	.description = "First what it wrote last, then both ways. Ctrl-] leaves it; the machine runs on. Several may "
		       "be there at once.",
	.examples = { { "skerry console web", "Join it" } },
	.run = run_console,
};
