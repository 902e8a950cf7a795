#include "bench/containers.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/parse.h"
#include "base/process.h"
#include "base/spawn.h"

enum { WORDS_MAX = 24, FAMILY_MAX = 32, ANSWER_MAX = 1 << 20 };
#define ANSWER_NS UINT64_C(60000000000)

void containers_prepare(const char *directory)
{
	const char *path = getenv("PATH");
	_cleanup_free_ char *longer = xasprintf("%s:%s", directory, path ? path : "/usr/bin:/bin");

	(void)setenv("PATH", longer, 1);
}

int containers_add_file(const char *rootfs, const char *name, uint64_t bytes, struct error *err)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", rootfs, name), *chunk = xcalloc(1, 1 << 20);
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	int r = fd < 0 ? -errno : 0;

	/* Not zeros: nobody shall be clever about them. */
	for (size_t i = 0; i < 1 << 20; i++)
		chunk[i] = (char)(i * 2654435761u >> 13);
	for (uint64_t at = 0; r >= 0 && at < bytes; at += 1 << 20)
		r = write_full(fd, chunk, 1 << 20);
	return r < 0 ? error_set_errno(err, r, "%s", path) : 0;
}

/* "ctr --address SOCKET", then @rest. The peer's own command begins so. */
static void words_of(const struct peer *ctr, const char *const *rest, const char **argv)
{
	size_t n = 0;

	for (; n < 3; n++)
		argv[n] = ctr->words[n];
	for (; *rest && n < WORDS_MAX - 1; rest++)
		argv[n++] = *rest;
	argv[n] = NULL;
}

static const char *rootfs_of(const struct peer *ctr)
{
	for (size_t i = 0; ctr->words[i]; i++)
		if (streq(ctr->words[i], "--rootfs"))
			return ctr->words[i + 1];
	return "/";
}

int containers_run(const struct peer *ctr, const char *runtime, unsigned nth, const char *script, uint64_t *ret_ns,
		   struct error *err)
{
	_cleanup_free_ char *id = xasprintf("bench-c%u", nth);
	const char *rest[] = { "run",      "--rm",         "--runtime", runtime ? runtime : "io.containerd.runc.v2",
			       "--rootfs", rootfs_of(ctr), id,          "/bin/sh",
			       "-c",       script,         NULL };
	const char *argv[WORDS_MAX];

	words_of(ctr, rest, argv);
	return measure_command(argv, ret_ns, err);
}

static uint64_t parent_of(uint64_t pid)
{
	_cleanup_free_ char *path = xasprintf("/proc/%llu/stat", (unsigned long long)pid);
	_cleanup_buf_ struct buf text = {};
	char *p;
	uint64_t parent;

	/* "PID (NAME) STATE PARENT …": the name may hold anything. */
	if (file_read_at(AT_FDCWD, path, 4096, &text) < 0 || !text.p || !(p = strrchr(text.p, ')')) || strlen(p) < 5)
		return 0;
	p += 4;
	p[strcspn(p, " ")] = '\0';
	return parse_u64(p, 1, INT32_MAX, &parent) < 0 ? 0 : parent;
}

/* The process and all below it. */
static uint64_t family_memory(uint64_t root)
{
	uint64_t family[FAMILY_MAX] = { root }, sum = 0;
	size_t n = 1;

	for (bool more = true; more;) {
		DIR *d = opendir("/proc");
		const struct dirent *e;

		more = false;
		while (d && (e = readdir(d)) && n < FAMILY_MAX) {
			uint64_t pid, parent;
			bool known = false, child = false;

			if (parse_u64(e->d_name, 1, INT32_MAX, &pid) < 0)
				continue;
			parent = parent_of(pid);
			for (size_t i = 0; i < n; i++) {
				known = known || family[i] == pid;
				child = child || family[i] == parent;
			}
			if (known || !child)
				continue;
			family[n++] = pid;
			more = true;
		}
		if (d)
			closedir(d);
	}
	for (size_t i = 0; i < n; i++) {
		uint64_t private_bytes, pss, rss;

		if (process_memory((pid_t)family[i], &private_bytes, &pss, &rss) >= 0)
			sum += pss;
	}
	return sum;
}

static int answer(const char *const *argv, struct buf *out, struct error *err)
{
	struct spawn s = SPAWN_INIT;

	s.argv = argv;
	return spawn_check(&s, NULL, out, ANSWER_MAX, ANSWER_NS, err);
}

/* The pid that `ctr task ls` prints behind the id. */
static int task_pid(const struct peer *ctr, const char *id, uint64_t *ret, struct error *err)
{
	const char *rest[] = { "task", "ls", NULL }, *argv[WORDS_MAX];
	_cleanup_buf_ struct buf out = {};
	char *line;
	int r;

	words_of(ctr, rest, argv);
	r = answer(argv, &out, err);
	if (r < 0)
		return r;
	line = out.p ? strstr(out.p, id) : NULL;
	if (!line)
		return error_set(err, ENOENT, "%s does not run", id);
	line += strlen(id);
	line += strspn(line, " ");
	line[strcspn(line, " ")] = '\0';
	return parse_u64(line, 1, INT32_MAX, ret) < 0 ? error_set(err, EBADMSG, "%s has no pid", id) : 0;
}

int containers_memory(const struct peer *ctr, const char *runtime, uint64_t *ret_bytes, uint64_t *ret_shim_bytes,
		      struct error *err)
{
	static const char id[] = "bench-memory";
	const char *steps[][16] = {
		{ "run", "-d", "--runtime", runtime ? runtime : "io.containerd.runc.v2", "--rootfs", rootfs_of(ctr), id,
		  "/bin/sleep", "1000", NULL },
		{ "task", "rm", "-f", id, NULL },
		{ "container", "rm", id, NULL },
	};
	const char *argv[WORDS_MAX];
	uint64_t pid = 0, shim, pss, rss;
	int r;

	words_of(ctr, steps[0], argv);
	r = answer(argv, NULL, err);
	if (r >= 0)
		r = task_pid(ctr, id, &pid, err);
	/* Its parent is the shim, of whom everything else is a child. */
	if (r >= 0) {
		shim = parent_of(pid);
		*ret_bytes = family_memory(shim);
		r = process_memory((pid_t)shim, ret_shim_bytes, &pss, &rss);
		if (r < 0)
			(void)error_set_errno(err, r, "the memory of %s's shim", id);
	}
	for (size_t i = 1; i < ARRAY_SIZE(steps); i++) {
		words_of(ctr, steps[i], argv);
		(void)answer(argv, NULL, NULL);
	}
	return r;
}
