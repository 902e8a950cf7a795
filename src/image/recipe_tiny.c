/* tiny: one static busybox, its applets as links, and as little of /etc as programs expect. skerry-init stays the first process. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/spawn.h"
#include "image/pack.h"
#include "image/recipe.h"

enum { BUSYBOX_LIMIT = 32 << 20 };

struct tiny {
	char *p; /* busybox; the state is one allocation, this points into it */
	size_t n;
};

static const struct {
	const char *path;
	mode_t mode;
} directories[] = {
	{ "bin", 0755 },      { "dev", 0755 },  { "etc", 0755 },     { "etc/profile.d", 0755 }, { "home", 0755 },
	{ "mnt", 0755 },      { "proc", 0555 }, { "root", 0700 },    { "run", 0755 },           { "sbin", 0755 },
	{ "srv", 0755 },      { "sys", 0555 },  { "tmp", 01777 },    { "usr", 0755 },           { "usr/bin", 0755 },
	{ "usr/sbin", 0755 }, { "var", 0755 },  { "var/log", 0755 }, { "var/spool", 0755 },     { "var/tmp", 01777 },
};

static const struct {
	const char *path, *text;
	mode_t mode;
} files[] = {
	{ "etc/passwd",
	  "root:x:0:0:root:/root:/bin/sh\n"
	  "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
	  0644 },
	{ "etc/group",
	  "root:x:0:\n"
	  "tty:x:5:\n"
	  "nogroup:x:65534:\n",
	  0644 },
	{ "etc/shadow",
	  "root:*:19000:0:99999:7:::\n"
	  "nobody:*:19000:0:99999:7:::\n",
	  0640 },
	{ "etc/shells", "/bin/sh\n", 0644 },
	{ "etc/hosts",
	  "127.0.0.1\tlocalhost\n"
	  "::1\tlocalhost ip6-localhost ip6-loopback\n",
	  0644 },
	{ "etc/profile",
	  "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
	  "[ \"$PS1\" ] && PS1='\\h:\\w\\$ '\n"
	  "umask 022\n"
	  "for i in /etc/profile.d/*.sh; do [ -r \"$i\" ] && . \"$i\"; done\n"
	  "unset i\n",
	  0644 },
	{ "etc/os-release",
	  "NAME=\"Skerry tiny\"\n"
	  "PRETTY_NAME=\"Skerry tiny (busybox)\"\n"
	  "ID=skerry-tiny\n"
	  "ID_LIKE=debian\n",
	  0644 },
};

/* An ELF program for this machine that names no interpreter. */
static bool is_static(const char *p, size_t n)
{
	Elf64_Ehdr h;

	if (n < sizeof(h))
		return false;
	memcpy(&h, p, sizeof(h));
	if (memcmp(h.e_ident, ELFMAG, SELFMAG) != 0 || h.e_ident[EI_CLASS] != ELFCLASS64 || h.e_machine != EM_X86_64 ||
	    h.e_phentsize != sizeof(Elf64_Phdr) || h.e_phoff > n || h.e_phnum > (n - h.e_phoff) / sizeof(Elf64_Phdr))
		return false;
	for (size_t i = 0; i < h.e_phnum; i++) {
		Elf64_Phdr ph;

		memcpy(&ph, p + h.e_phoff + i * sizeof(ph), sizeof(ph));
		if (ph.p_type == PT_INTERP)
			return false;
	}
	return true;
}

static int pick_busybox(const struct archive_item *item, void *data, struct error *err)
{
	int r;

	if (!S_ISREG(item->entry.mode) || item->hard_link ||
	    (!streq(item->entry.path, "bin/busybox") && !streq(item->entry.path, "usr/bin/busybox")))
		return 0;
	r = archive_item_read(item, BUSYBOX_LIMIT, data, err);
	return r < 0 ? r : 1;
}

static int busybox_from_package(const struct store *s, struct buf *out, struct error *err)
{
	static const struct archive_limits limits = { .bytes = 256 << 20, .entries = 10000 };
	_cleanup_free_ char *path = NULL;
	_cleanup_close_ int fd = -EBADF;
	int r;

	r = package_fetch(s, "busybox-static", &path, err);
	if (r < 0)
		return r;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_set_errno(err, errno, "'%s'", path);
	r = archive_walk_deb(fd, path, &limits, pick_busybox, out, err);
	if (r < 0)
		return r;
	if (!is_static(out->p, out->len))
		return error_set(err, EBADMSG, "'%s' holds no static busybox", path);
	return 0;
}

static int prepare(struct recipe_run *run, struct error *err)
{
	static const char *const installed[] = { "/bin/busybox", "/usr/bin/busybox" };
	_cleanup_buf_ struct buf busybox = {};
	struct tiny *t;
	bool found = false;
	int r;

	if (run->variant)
		return error_set_kind(err, ERROR_USAGE, EINVAL, "recipe 'tiny' has no variant '%.50s'", run->variant);
	if (run->request->packages && run->request->packages->n)
		return error_set_kind(err, ERROR_USAGE, EINVAL, "recipe 'tiny' takes no packages");
	for (size_t i = 0; i < ARRAY_SIZE(installed) && !found; i++) {
		buf_truncate(&busybox, 0);
		found = file_read_at(AT_FDCWD, installed[i], BUSYBOX_LIMIT, &busybox) >= 0 &&
			is_static(busybox.p, busybox.len);
	}
	if (!found) {
		buf_truncate(&busybox, 0);
		r = busybox_from_package(run->store, &busybox, err);
		if (r < 0)
			return r;
	}
	t = xcalloc(1, sizeof(*t) + busybox.len);
	t->p = (char *)(t + 1);
	t->n = busybox.len;
	memcpy(t->p, busybox.p, busybox.len);
	run->state = t;
	/* The same program makes the same image, whenever that is done. */
	if (!run->time_s)
		run->time_s = UINT64_C(1700000000);
	run->meta->init = IMAGE_INIT_AGENT;
	strv_add(&run->meta->command, "/bin/sh");
	strv_add(&run->meta->command, "-l");
	return 0;
}

/* The applets' paths, as busybox itself tells them. It runs from the scratch directory: it may not be installed here. */
static int list_applets(struct recipe_run *run, const struct tiny *t, struct buf *out, struct error *err)
{
	_cleanup_free_ char *path = xasprintf("%s/busybox", run->scratch_path);
	const char *argv[] = { path, "--list-full", NULL };
	_cleanup_close_ int scratch = open(run->scratch_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct spawn s = SPAWN_INIT;
	int r;

	r = scratch < 0 ? -errno : file_write_at(scratch, "busybox", t->p, t->n, 0700, 0);
	if (r < 0)
		return error_set_errno(err, -r, "'%s'", path);
	s.argv = argv;
	return spawn_check(&s, NULL, out, 256 << 10, 30 * NS_PER_SEC, err);
}

static int add_applets(struct recipe_run *run, const struct tiny *t, struct error *err)
{
	_cleanup_buf_ struct buf list = {};
	int r;

	r = list_applets(run, t, &list, err);
	if (r < 0)
		return r;
	for (char *line = list.p, *end; line && *line; line = end) {
		end = line + strcspn(line, "\n");
		if (*end)
			*end++ = 0;
		/* At the root nothing but directories; its linuxrc is no use here. */
		if (!strchr(line, '/') || strstr(line, "..") || streq(line, "bin/busybox"))
			continue;
		r = tree_add_symlink(run->tree, line, "/bin/busybox", run->time_s, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int fill(struct recipe_run *run, struct error *err)
{
	const struct tiny *t = run->state;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(directories); i++)
		r = tree_add_dir(run->tree, directories[i].path, directories[i].mode, run->time_s, err);
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(files); i++)
		r = tree_add_file(run->tree, files[i].path, files[i].mode, files[i].text, strlen(files[i].text),
				  run->time_s, err);
	if (r >= 0)
		r = tree_add_file(run->tree, "bin/busybox", 0755, t->p, t->n, run->time_s, err);
	return r < 0 ? r : add_applets(run, t, err);
}

const struct recipe recipe_tiny = {
	.facts = {
		.name = "tiny",
		.description = "busybox alone, boots in a moment",
		.virtual_bytes = UINT64_C(1) << 30,
		.default_memory_bytes = UINT64_C(128) << 20,
	},
	.journal = true,
	.prepare = prepare,
	.fill = fill,
};
