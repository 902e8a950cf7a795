/* A disk or installer from the web, fetched once: downloads/NAME of the store, and its digest beside it in NAME.json, which says that it is whole. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/lock.h"
#include "base/parse.h"
#include "cli/image_verbs.h"
#include "image/address.h"
#include "image/digest.h"
#include "image/download.h"

#define DIRECTORY    "downloads"
#define TELL_EACH_NS (5 * NS_PER_SEC)
enum { NAME_HEX = 16, NAME_MAX_TAIL = 80, DIGEST_HEX = 64 };

struct fetched {
	char *url, *digest;
	uint64_t bytes;
};

static const struct json_field fetched_fields[] = {
	{ "url", JSON_STRING, offsetof(struct fetched, url), JSON_REQUIRED },
	{ "digest", JSON_STRING, offsetof(struct fetched, digest), JSON_REQUIRED },
	{ "bytes", JSON_U64, offsetof(struct fetched, bytes), JSON_REQUIRED },
	{},
};

static void fetched_done(struct fetched *f)
{
	json_fields_done(fetched_fields, f);
}

struct fetch {
	char *url, *digest;  /* owned: the address without its fragment; what that says, or NULL */
	char *name, *record; /* owned */
	int dir;             /* owned */
	int tell_fd;         /* -1 = nobody is told */
	uint64_t told_ns;
};

static void fetch_done(struct fetch *f)
{
	free(f->url);
	free(f->digest);
	free(f->name);
	free(f->record);
	safe_close(f->dir);
}

/* "…#sha256:HEX": the digest that it must have. */
static int split(const char *address, struct fetch *f, struct error *err)
{
	const char *mark = strchr(address, '#'), *hex;

	f->url = xstrndup(address, mark ? (size_t)(mark - address) : strlen(address));
	if (!mark)
		return 0;
	hex = after_prefix(mark, "#sha256");
	if (!hex || (*hex != ':' && *hex != '=') || strlen(hex + 1) != DIGEST_HEX ||
	    strspn(hex + 1, "0123456789abcdefABCDEF") != DIGEST_HEX)
		return error_set_kind(err, ERROR_USAGE, EINVAL, "'%.80s' is no digest: #sha256: and 64 hex digits",
				      mark);
	f->digest = xasprintf("sha256:%s", hex + 1);
	for (char *p = f->digest; *p; p++)
		if (*p >= 'A' && *p <= 'F')
			*p = (char)(*p - 'A' + 'a');
	return 0;
}

/* Told apart by the address, and recognised by people by its last part. */
static void make_name(struct fetch *f)
{
	_cleanup_free_ char *digest = digest_bytes(f->url, strlen(f->url));
	const char *hex = after_prefix(digest, "sha256:"), *end = f->url + strcspn(f->url, "?"), *slash = end;
	size_t n;

	while (slash > f->url && slash[-1] != '/')
		slash--;
	n = (size_t)(end - slash);
	f->name = xasprintf("%.*s-%.*s", NAME_HEX, hex, n < NAME_MAX_TAIL ? (int)n : NAME_MAX_TAIL, slash);
	for (char *p = f->name; *p; p++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", *p))
			*p = '_';
	f->record = xasprintf("%s.json", f->name);
}

static void on_progress(uint64_t bytes, uint64_t total, void *data)
{
	struct fetch *f = data;
	uint64_t now = clock_monotonic_ns();
	_cleanup_free_ char *line = NULL;
	char a[16], b[16];

	if (f->tell_fd < 0 || (now < f->told_ns + TELL_EACH_NS && bytes != total))
		return;
	f->told_ns = now;
	if (total != UINT64_MAX && total)
		line = xasprintf("fetched %s of %s (%u %%)\n", format_bytes(bytes, a, sizeof(a)),
				 format_bytes(total, b, sizeof(b)), (unsigned)(bytes * 100 / total));
	else
		line = xasprintf("fetched %s\n", format_bytes(bytes, a, sizeof(a)));
	(void)write_full(f->tell_fd, line, strlen(line));
}

static int fetch(const struct store *s, struct fetch *f, struct fetched *ret, struct error *err)
{
	_cleanup_free_ char *certs = xasprintf("%s/certs.d", s->config_path), *host = address_host(f->url);
	_cleanup_(http_freep) struct http *h = NULL;
	_cleanup_strv_ struct strv plain = {};
	struct http_settings hs = { .plain_hosts = &plain, .certs_path = certs };
	struct download d = { .url = f->url,
			      .digest = f->digest,
			      .dir_fd = f->dir,
			      .name = f->name,
			      .progress = on_progress,
			      .data = f };
	_cleanup_json_ struct json *tree = NULL;
	int r;

	if (!host)
		return error_set_kind(err, ERROR_USAGE, EINVAL, "'%.200s' is no address", f->url);
	/* It was named so. Where it redirects to was not. */
	if (!address_is_tls(f->url))
		strv_add(&plain, host);
	(void)signal(SIGPIPE, SIG_IGN);
	r = http_new(&hs, &h, err);
	if (r >= 0)
		r = download_file(h, &d, &ret->digest, &ret->bytes, err);
	if (r < 0)
		return r;
	ret->url = xstrdup(f->url);
	return record_write(f->dir, f->record, f->record, fetched_fields, ret, &tree, RECORD_DURABLE, err);
}

static bool is_there(const struct fetch *f, struct fetched *ret)
{
	_cleanup_json_ struct json *tree = NULL;

	return record_read(f->dir, f->record, f->record, fetched_fields, ret, &tree, NULL) >= 0 &&
	       streq(ret->url, f->url) && faccessat(f->dir, f->name, R_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void print_result(const struct store *s, const struct fetch *f, const struct fetched *got)
{
	_cleanup_json_ struct json *o = json_object();
	_cleanup_buf_ struct buf text = {};

	json_setf(o, "path", "%s/" DIRECTORY "/%s", s->home_path, f->name);
	json_set_string(o, "digest", got->digest);
	json_render(o, false, &text);
	printf("%s\n", text.p);
}

static int fetch_disk(const struct store *s, int argc, char **argv, struct error *err)
{
	static const struct option longs[] = { { "progress-fd", required_argument, NULL, 'p' }, {} };
	_cleanup_(fetch_done) struct fetch f = { .dir = -EBADF, .tell_fd = -1 };
	_cleanup_free_ char *directory = xasprintf("%s/" DIRECTORY, s->home_path);
	_cleanup_(fetched_done) struct fetched got = {};
	_cleanup_close_ int lock = -EBADF;
	uint64_t fd;
	int c, r;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c != 'p' || parse_u64(optarg, 2, 1024, &fd) < 0)
			return verb_usage(err, "unknown option, or one with a wrong value");
		f.tell_fd = (int)fd;
	}
	if (optind + 1 != argc)
		return verb_usage(err, "fetch-disk wants one address");
	r = split(argv[optind], &f, err);
	if (r < 0)
		return r;
	make_name(&f);
	f.dir = dir_open_create(directory, 0700);
	if (f.dir < 0)
		return error_set_errno(err, f.dir, "cannot create %s", directory);
	lock = lock_acquire(f.dir, "lock", "the download", 0, err);
	if (lock < 0)
		return lock;
	(void)file_remove_temporaries(f.dir);
	if (!is_there(&f, &got)) {
		fetched_done(&got);
		got = (struct fetched){};
		r = fetch(s, &f, &got, err);
	} else if (f.digest && !streq(f.digest, got.digest)) {
		r = error_set_kind(err, ERROR_DATA, EBADMSG, "what was fetched from there is %s, and not %s",
				   got.digest, f.digest);
	}
	if (r < 0)
		return r;
	/* About to be used: what is pruned is what nobody has asked for lately. */
	(void)utimensat(f.dir, f.record, NULL, 0);
	print_result(s, &f, &got);
	return 0;
}

const struct verb image_fetch_verbs[] = {
	{ "fetch-disk", "[--progress-fd N] URL", .run = fetch_disk },
	{},
};
