#include "docker/base.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/process.h"
#include "base/spawn.h"
#include "json/json.h"
#include "store/paths.h"

#define RECORD           "base.json"
#define ADOPT_TIMEOUT_NS (600 * NS_PER_SEC)
enum { ISO_MAGIC_AT = 0x8001 };

static const struct json_field base_fields[] = {
	{ "path", JSON_STRING, offsetof(struct base, path), JSON_REQUIRED },
	{ "digest", JSON_STRING, offsetof(struct base, digest), JSON_REQUIRED },
	{ "virtual_bytes", JSON_U64, offsetof(struct base, virtual_bytes), JSON_REQUIRED },
	{ "file_system", JSON_BOOL, offsetof(struct base, file_system), JSON_REQUIRED },
	{ "bytes", JSON_U64, offsetof(struct base, bytes), 0 },
	{ "changed_ns", JSON_U64, offsetof(struct base, changed_ns), 0 },
	{ "status_ns", JSON_U64, offsetof(struct base, status_ns), 0 },
	{ "inode", JSON_U64, offsetof(struct base, inode), 0 },
	{},
};

static const struct json_field answer_fields[] = {
	{ "digest", JSON_STRING, offsetof(struct base, digest), JSON_REQUIRED },
	{ "virtual_bytes", JSON_U64, offsetof(struct base, virtual_bytes), JSON_REQUIRED },
	{ "file_system", JSON_BOOL, offsetof(struct base, file_system), JSON_REQUIRED },
	{},
};

void base_done(struct base *b)
{
	json_fields_done(base_fields, b);
	*b = (struct base){};
}

static bool is_disk_name(const char *name)
{
	static const char *const ends[] = { ".qcow2", ".img", ".raw", ".iso" };
	size_t n = strlen(name);

	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		size_t k = strlen(ends[i]);

		if (n > k && name[0] != '.' && streq(name + n - k, ends[i]))
			return true;
	}
	return false;
}

static void list_disks(const char *dir, struct strv *ret)
{
	DIR *d = opendir(dir);
	const struct dirent *e;

	while (d && (e = readdir(d)))
		if (is_disk_name(e->d_name))
			strv_addf(ret, "%s/%s", dir, e->d_name);
	if (d)
		(void)closedir(d);
}

static bool is_address(const char *s)
{
	return after_prefix(s, "https://") || after_prefix(s, "http://");
}

/* /disk is where images of the containerDisk kind have theirs. */
static int choose_path(const struct settings *settings, char **ret, struct error *err)
{
	static const char *const places[] = { "/image", "/disk" };
	_cleanup_strv_ struct strv found = {};

	if (settings->boot) {
		*ret = xstrdup(settings->boot);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(places) && !found.n; i++)
		list_disks(places[i], &found);
	if (found.n == 1) {
		*ret = xstrdup(found.items[0]);
		return 0;
	}
	if (!found.n) {
		error_set_kind(err, ERROR_CONFIG, ENODATA,
			       "no base disk: /image and /disk have no file *.qcow2, *.img, *.raw or *.iso");
		return error_hint(err, "use an image that brings one (skerry/debian), mount one (-v $PWD/disk.qcow2:"
				       "/image/disk.qcow2:ro), or name one, or its address, with BOOT");
	}
	error_set_kind(err, ERROR_CONFIG, EEXIST, "more than one base disk: %s and %s", found.items[0], found.items[1]);
	return error_hint(err, "name the one to boot with BOOT");
}

static void identify(struct base *b, const struct stat *st)
{
	b->bytes = (uint64_t)st->st_size;
	b->inode = (uint64_t)st->st_ino;
	b->changed_ns = (uint64_t)st->st_mtim.tv_sec * NS_PER_SEC + (uint64_t)st->st_mtim.tv_nsec;
	b->status_ns = (uint64_t)st->st_ctim.tv_sec * NS_PER_SEC + (uint64_t)st->st_ctim.tv_nsec;
}

/* The store's image is a link to where its disk lies. Who was ended between that and the record has left another one. */
static bool leads_to(const struct store *s, const char *hex, const char *path)
{
	static const char *const files[] = { "disk.raw", "disk.qcow2" };
	size_t n = strlen(path);
	_cleanup_free_ char *target = xcalloc(1, n + 1);

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_free_ char *link = xasprintf("disks/%s/%s", hex, files[i]);

		if (readlinkat(s->images_fd, link, target, n + 1) == (ssize_t)n && memcmp(target, path, n) == 0)
			return true;
	}
	return false;
}

/* Is what is on record still so? The store must have the image as well. */
static bool still_known(const struct store *s, const struct base *now, const struct base *then)
{
	const char *hex = then->digest ? after_prefix(then->digest, "sha256:") : NULL;
	_cleanup_free_ char *meta = hex ? xasprintf("disks/%s/meta.json", hex) : NULL;

	return meta && streq(now->path, then->path) && now->bytes == then->bytes && now->inode == then->inode &&
	       now->changed_ns == then->changed_ns && now->status_ns == then->status_ns &&
	       faccessat(s->images_fd, meta, F_OK, 0) == 0 && leads_to(s, hex, now->path);
}

/* The line "PREFIX…" among @text, cut there; NULL when there is none. */
static char *line_after(const char *text, const char *prefix)
{
	for (const char *line = text; line && *line;) {
		const char *rest = after_prefix(line, prefix);
		size_t n = strcspn(line, "\n");

		if (rest)
			return xstrndup(rest, strcspn(rest, "\n"));
		line += n + (line[n] == '\n');
	}
	return NULL;
}

/* What skerry-image said, and its status, become our error. */
static int told(int status, const char *text, struct error *err)
{
	_cleanup_free_ char *message = line_after(text, "skerry: "), *hint = line_after(text, "hint: ");
	static const enum error_kind kinds[] = { ERROR_DATA, ERROR_UNAVAILABLE, ERROR_CANTCREATE, ERROR_BUSY,
						 ERROR_DENIED };
	enum error_kind kind = ERROR_FAILED;
	char how[64];

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (WIFEXITED(status) &&
		    error_exit_status(&(struct error){ .num = EIO, .kind = kinds[i] }) == WEXITSTATUS(status))
			kind = kinds[i];
	error_set_kind(err, kind, EIO, "%s", message ? message : wait_status_text(status, how, sizeof(how)));
	return hint ? error_hint(err, "%s", hint) : -EIO;
}

/* Into the volume, unless it is there; what it does meanwhile is told on our standard error. */
static int fetch(char **path, struct error *err)
{
	_cleanup_free_ char *program = libexec_path("skerry-image");
	const char *argv[] = { program, "fetch-disk", "--progress-fd", "3", *path, NULL };
	const struct spawn_fd progress = { STDERR_FILENO, 3 };
	_cleanup_json_ struct json *tree = NULL;
	_cleanup_buf_ struct buf out = {}, words = {};
	struct spawn sp = SPAWN_INIT;
	int r, status = 0;

	if (!program)
		return error_set_kind(err, ERROR_UNAVAILABLE, ENOENT, "skerry-image: not installed");
	if (!strchr(*path, '#') && after_prefix(*path, "http://"))
		log_warning("BOOT: without TLS anybody on the way may have changed it: add #sha256:HEX to the address");
	sp.argv = argv;
	sp.fds = &progress;
	sp.n_fds = 1;
	sp.death_signal = SIGTERM;
	r = spawn_run(&sp, NULL, &out, &words, 65536, 0, &status, err);
	if (r >= 0 && status != 0)
		r = told(status, words.p, err);
	if (r >= 0)
		r = json_parse(out.p ? out.p : "", out.len, "what skerry-image says", &tree, err);
	if (r < 0)
		return error_prefix(err, "BOOT");
	if (!json_string(json_get(tree, "path")))
		return error_set(err, EBADMSG, "what skerry-image says: no path");
	free(*path);
	*path = xstrdup(json_string(json_get(tree, "path")));
	return 0;
}

/* ISO 9660, 8.4: the volume descriptors begin at the 16th sector. Many are disks at the same time, with a partition table before that: as disks they
 * are read-only, which is of no use here. */
static bool is_installer(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	char magic[5];

	return fd >= 0 && pread_full(fd, magic, sizeof(magic), ISO_MAGIC_AT) >= 0 && memcmp(magic, "CD001", 5) == 0;
}

static int adopt(struct base *b, struct error *err)
{
	_cleanup_free_ char *program = libexec_path("skerry-image");
	const char *argv[] = { program, "adopt-disk", b->path, NULL };
	_cleanup_json_ struct json *tree = NULL;
	_cleanup_buf_ struct buf out = {}, words = {};
	struct spawn sp = SPAWN_INIT;
	int r, status = 0;

	if (!program)
		return error_set_kind(err, ERROR_UNAVAILABLE, ENOENT, "skerry-image: not installed");
	sp.argv = argv;
	r = spawn_run(&sp, NULL, &out, &words, 65536, ADOPT_TIMEOUT_NS, &status, err);
	if (r >= 0 && status != 0)
		r = told(status, words.p, err);
	if (r >= 0)
		r = json_parse(out.p ? out.p : "", out.len, "what skerry-image says", &tree, err);
	return r < 0 ? r : json_load(tree, answer_fields, b, "what skerry-image says", err);
}

int base_find(const struct store *s, const struct settings *settings, struct base *ret, struct error *err)
{
	_cleanup_base_ struct base b = {}, then = {};
	_cleanup_json_ struct json *tree = NULL;
	struct stat st;
	int r = choose_path(settings, &b.path, err);

	if (r >= 0 && is_address(b.path))
		r = fetch(&b.path, err);
	if (r < 0)
		return r;
	if (stat(b.path, &st) < 0)
		return error_set_kind(err, ERROR_CONFIG, errno, "base disk '%s': %s", b.path, strerror(errno));
	if (S_ISREG(st.st_mode) && is_installer(b.path)) {
		b.installer = true;
		*ret = b;
		b = (struct base){};
		return 0;
	}
	identify(&b, &st);
	if (record_read(s->home_fd, RECORD, RECORD, base_fields, &then, &tree, NULL) >= 0 &&
	    still_known(s, &b, &then)) {
		*ret = then;
		then = (struct base){};
		return 0;
	}
	r = adopt(&b, err);
	if (r >= 0)
		r = record_write(s->home_fd, RECORD, RECORD, base_fields, &b, &tree, RECORD_DURABLE, err);
	if (r < 0)
		return r;
	*ret = b;
	b = (struct base){};
	return 0;
}
