/* What speaks with registries: login, logout, pull-image, push-image. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <termios.h>
#include <unistd.h>

#include "base/file.h"
#include "base/lock.h"
#include "base/memory.h"
#include "base/parse.h"
#include "cli/image_disk.h"
#include "cli/image_layers.h"
#include "cli/image_verbs.h"
#include "cli/settings.h"
#include "image/auth.h"
#include "image/blob.h"
#include "image/image.h"
#include "image/pull.h"
#include "image/push.h"
#include "image/unpack.h"

enum { SECRET_MAX = 64 << 10 };

struct options {
	struct strv plain_hosts; /* the configuration's and the command line's */
	const char *ca_path, *user, *platform, *format;
	bool password_stdin, quiet, foreign_layers;
	uint64_t disk_bytes;
	const char *operands[2];
	size_t n_operands;
};

static void options_done(struct options *o)
{
	strv_done(&o->plain_hosts);
}

static void split_hosts(const char *list, struct strv *ret)
{
	while (list && *list) {
		size_t n = strcspn(list, ", ");

		if (n)
			strv_take(ret, xstrndup(list, n));
		list += n + (list[n] != '\0');
	}
}

static int parse(const struct store *s, int argc, char **argv, struct options *o, struct error *err)
{
	static const struct option longs[] = {
		{ "plain-http", required_argument, NULL, 'h' }, { "tls-ca", required_argument, NULL, 'c' },
		{ "user", required_argument, NULL, 'u' },       { "password-stdin", no_argument, NULL, 's' },
		{ "platform", required_argument, NULL, 'p' },   { "format", required_argument, NULL, 'f' },
		{ "disk", required_argument, NULL, 'd' },       { "quiet", no_argument, NULL, 'q' },
		{ "foreign-layers", no_argument, NULL, 'e' },   {},
	};
	_cleanup_settings_ struct settings settings = {};
	int c, r = settings_load(s, &settings, err);

	if (r < 0)
		return r;
	split_hosts(settings.values[SETTING_PLAIN_HTTP], &o->plain_hosts);
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'h': split_hosts(optarg, &o->plain_hosts); break;
		case 'c': o->ca_path = optarg; break;
		case 'u': o->user = optarg; break;
		case 's': o->password_stdin = true; break;
		case 'p': o->platform = optarg; break;
		case 'f': o->format = optarg; break;
		case 'd':
			if (parse_u64(optarg, 1, UINT64_MAX, &o->disk_bytes) < 0)
				return verb_usage(err, "--disk wants a number of bytes");
			break;
		case 'q': o->quiet = true; break;
		case 'e': o->foreign_layers = true; break;
		default: return verb_usage(err, "unknown option, or one without its value");
		}
	}
	if (optind + (int)ARRAY_SIZE(o->operands) < argc)
		return verb_usage(err, "too many arguments");
	while (optind < argc)
		o->operands[o->n_operands++] = argv[optind++];
	/* A registry that hangs up is an error of the transfer. */
	(void)signal(SIGPIPE, SIG_IGN);
	return 0;
}

static int open_http(const struct store *s, const struct options *o, struct http **ret, struct error *err)
{
	_cleanup_free_ char *certs = xasprintf("%s/certs.d", s->config_path);
	struct http_settings hs = { .plain_hosts = &o->plain_hosts, .ca_path = o->ca_path, .certs_path = certs };

	return http_new(&hs, ret, err);
}

static void tell(const struct options *o, const char *fmt, ...) _printf_(2, 3);
static void tell(const struct options *o, const char *fmt, ...)
{
	_cleanup_buf_ struct buf line = {};
	va_list ap;

	if (o->quiet)
		return;
	buf_adds(&line, "skerry: ");
	va_start(ap, fmt);
	buf_vaddf(&line, fmt, ap);
	va_end(ap);
	buf_addc(&line, '\n');
	/* For people only. */
	(void)write_full(STDERR_FILENO, line.p, line.len);
}

/* ---- login, logout ---- */

/* One line, without its end. */
static int read_line(int fd, struct buf *out, struct error *err)
{
	for (;;) {
		char c;
		ssize_t n = read(fd, &c, 1);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set_errno(err, errno, "cannot read the answer");
		if (n == 0 || c == '\n')
			break;
		if (out->len == SECRET_MAX)
			return error_set_kind(err, ERROR_USAGE, EFBIG, "the answer is longer than anybody's");
		buf_addc(out, c);
	}
	if (out->len && out->p[out->len - 1] == '\r')
		buf_truncate(out, out->len - 1);
	return 0;
}

/* The terminal's echo comes back whatever ends us: skerry, which waits for us, sees to it. */
static int ask(const char *question, bool echo, char **ret, struct error *err)
{
	_cleanup_buf_ struct buf answer = {};
	struct termios was, now;
	bool hidden;
	int r;

	if (!isatty(STDIN_FILENO)) {
		error_set_kind(err, ERROR_USAGE, ENOTTY, "there is no terminal to ask for the password on");
		return error_hint(err, "skerry login --user NAME --password-stdin <FILE");
	}
	hidden = !echo && tcgetattr(STDIN_FILENO, &was) == 0;
	if (hidden) {
		now = was;
		now.c_lflag &= ~(tcflag_t)ECHO;
		(void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &now);
	}
	/* Not before: what is typed at once would be shown, or thrown away. */
	(void)write_full(STDERR_FILENO, question, strlen(question));
	r = read_line(STDIN_FILENO, &answer, err);
	if (hidden) {
		(void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &was);
		(void)write_full(STDERR_FILENO, "\n", 1);
	}
	if (r < 0)
		return r;
	if (!answer.len)
		return error_set_kind(err, ERROR_USAGE, EINVAL, "nothing was entered");
	*ret = buf_take(&answer);
	return 0;
}

static int read_credential(const struct options *o, struct credential *c, struct error *err)
{
	_cleanup_buf_ struct buf secret = {};
	int r;

	c->origin = xstrdup("this login");
	c->user = xstrdup(o->user);
	if (o->password_stdin && !o->user)
		return error_set_kind(err, ERROR_USAGE, EINVAL, "--password-stdin goes with --user");
	r = c->user ? 0 : ask("User: ", true, &c->user, err);
	if (r < 0)
		return r;
	if (strpbrk(c->user, ":\r\n"))
		return error_set_kind(err, ERROR_USAGE, EINVAL, "a user's name has no ':' and no line breaks");
	if (!o->password_stdin)
		return ask("Password: ", false, &c->secret, err);
	r = read_line(STDIN_FILENO, &secret, err);
	if (r >= 0 && !secret.len)
		r = error_set_kind(err, ERROR_USAGE, EINVAL, "there is no password on standard input");
	if (r >= 0)
		c->secret = buf_take(&secret);
	return r;
}

/* "https://HOST/v2/" is what people copy. Checked as references are; owned by the caller. */
static int parse_host(const char *text, char **ret, struct error *err)
{
	_cleanup_free_ char *host = NULL, *name = NULL;
	struct reference ref;
	const char *rest = after_prefix(text, "https://");

	if (!rest)
		rest = after_prefix(text, "http://");
	rest = rest ? rest : text;
	host = xstrndup(rest, strcspn(rest, "/"));
	name = xasprintf("%s/x", host);
	if (reference_parse(name, &ref, NULL) < 0 || (streq(ref.registry, "docker.io") && !strstr(host, "docker.io")))
		return error_set_kind(err, ERROR_USAGE, EINVAL,
				      "'%.80s' is no registry: HOST[:PORT], with a dot or a port, or localhost", text);
	*ret = xstrdup(ref.registry);
	return 0;
}

static int login(const struct store *s, int argc, char **argv, struct error *err)
{
	_cleanup_(options_done) struct options o = {};
	_cleanup_credential_ struct credential c = {};
	_cleanup_(http_freep) struct http *h = NULL;
	_cleanup_(registry_closep) struct registry *registry = NULL;
	struct registry_settings rs = { .store = s, .credential = &c };
	_cleanup_free_ char *host = NULL;
	int r = parse(s, argc, argv, &o, err);

	if (r >= 0)
		r = parse_host(o.n_operands ? o.operands[0] : "docker.io", &host, err);
	if (r >= 0)
		r = read_credential(&o, &c, err);
	if (r >= 0)
		r = open_http(s, &o, &h, err);
	if (r < 0)
		return r;
	rs.http = h;
	rs.host = host;
	r = registry_open(&rs, &registry, err);
	if (r >= 0)
		r = registry_ping(registry, err);
	if (r >= 0)
		r = auth_store(s, host, &c, err);
	if (r >= 0)
		tell(&o, "logged in to %s; kept in %s/auth.json", host, s->config_path);
	return r;
}

static int logout(const struct store *s, int argc, char **argv, struct error *err)
{
	_cleanup_(options_done) struct options o = {};
	_cleanup_credential_ struct credential other = {};
	_cleanup_free_ char *host = NULL;
	int r = parse(s, argc, argv, &o, err);

	if (r >= 0)
		r = parse_host(o.n_operands ? o.operands[0] : "docker.io", &host, err);
	if (r >= 0)
		r = auth_remove(s, host, err);
	if (r < 0)
		return r;
	tell(&o, r ? "logged out of %s" : "there was no login to %s", host);
	/* Somebody who logs out wants to be unknown there. */
	if (auth_find(s, host, NULL, &other, NULL) > 0)
		tell(&o, "%s has credentials for %s, which still count", other.origin, host);
	return 0;
}

/* ---- pull-image ---- */

/* Is @name this image already, as it was asked for? */
static bool is_current(const struct store *s, const char *name, const char *digest, const struct options *o)
{
	_cleanup_(image_meta_done) struct image_meta meta = {};

	return image_find(s, name, &meta, NULL) >= 0 && streq(meta.digest, digest) &&
	       (!o->format || (meta.fstype && streq(meta.fstype, o->format))) &&
	       (!o->disk_bytes || meta.virtual_bytes == o->disk_bytes);
}

/* Two pulls of one image fetch each blob once; this has them unpack it once. The lock's file goes with the last of them. */
static int unpack_once(const struct store *s, const struct unpack_request *u, const struct options *o,
		       struct error *err)
{
	_cleanup_free_ char *lock_name = xasprintf("partial/%s.unpack", digest_hex(u->manifest->digest)),
			    *what = xasprintf("image '%s'", u->name);
	_cleanup_close_ int lock = -EBADF;
	int r = mkdir_parents_at(s->images_fd, "partial", 0700);

	if (r < 0)
		return error_set_errno(err, r, "images/partial");
	lock = lock_acquire(s->images_fd, lock_name, what, UINT64_MAX, err);
	if (lock < 0)
		return lock;
	r = is_current(s, u->name, u->manifest->digest, o) ? 0 : image_unpack(s, u, NULL, err);
	(void)unlinkat(s->images_fd, lock_name, 0);
	return r;
}

struct bringing {
	const struct store *store;
	const struct options *options;
	struct registry *registry;
	const struct oci_descriptor *manifest;
};

static int bring(struct arrivals *a, void *data, struct error *err)
{
	const struct bringing *b = data;
	struct progress_board *board = progress_board_new(b->options->quiet ? -1 : STDERR_FILENO);
	int r = pull_layers(b->registry, b->store, b->manifest, b->options->foreign_layers, a, board, err);

	board = progress_board_free(board);
	return r;
}

/* The layers are unpacked, from the lowest up, while those above them come. */
static int bring_and_unpack(struct bringing *b, struct unpack_request *u, struct error *err)
{
	_cleanup_(arrivals_freep) struct arrivals *arrivals = NULL;
	_cleanup_error_ struct error unpacking = {}, bringing = {};
	int r = arrivals_start(bring, b, &arrivals, err), k;

	if (r < 0)
		return r;
	u->arrivals = arrivals;
	r = unpack_once(b->store, u, b->options, &unpacking);
	k = arrivals_finish(arrivals, r < 0, &bringing);
	u->arrivals = NULL;
	/* Where both failed, one did because the other had. */
	if (k < 0 && (r >= 0 || r == -ECANCELED))
		return error_move(err, &bringing);
	return r < 0 ? error_move(err, &unpacking) : 0;
}

static int pull(const struct store *s, const struct options *o, const struct reference *ref, struct registry *registry,
		struct error *err)
{
	_cleanup_free_ char *name = reference_name(ref), *source = NULL;
	_cleanup_(oci_descriptor_done) struct oci_descriptor manifest = {};
	_cleanup_close_ int lock = blob_lock(s, false, err);
	struct bringing b = { .store = s, .options = o, .registry = registry, .manifest = &manifest };
	struct unpack_request u = {
		.manifest = &manifest,
		.name = name,
		.format = o->format,
		.disk_bytes = o->disk_bytes,
		.make_disk = image_disk_make,
		.progress_fd = o->quiet ? -1 : verb_progress_fd(),
	};
	int r = lock < 0 ? lock : image_disk_format(o->format, &u.create_tree, err);

	if (r >= 0)
		r = pull_resolve(registry, s, ref, o->platform, &manifest, err);

	if (r < 0)
		return r;
	if (is_current(s, name, manifest.digest, o)) {
		tell(o, "image '%s' is up to date", name);
		printf("%s\n", manifest.digest);
		return 0;
	}
	u.any_format = !u.format;
	if (!u.format)
		u.format = image_disk_usual(s, manifest.digest, name);
	r = image_disk_format(u.format, &u.create_tree, err);
	if (r < 0)
		return r;
	source = xasprintf("registry %s/%s%s%s", ref->registry, ref->repository, ref->tag[0] ? ":" : "@",
			   ref->tag[0] ? ref->tag : ref->digest);
	u.source = source;
	r = bring_and_unpack(&b, &u, err);
	if (r >= 0)
		printf("%s\n", manifest.digest);
	return r;
}

static int check_platform(const char *platform, struct error *err)
{
	const char *slash = platform ? strchr(platform, '/') : NULL;

	if (!platform || (slash && slash != platform && slash[1]))
		return 0;
	return error_set_kind(err, ERROR_USAGE, EINVAL,
			      "platform '%.40s': OS/ARCHITECTURE[/VARIANT], as in linux/arm64", platform);
}

static int pull_image(const struct store *s, int argc, char **argv, struct error *err)
{
	_cleanup_(options_done) struct options o = {};
	_cleanup_(http_freep) struct http *h = NULL;
	_cleanup_(registry_closep) struct registry *registry = NULL;
	struct registry_settings rs = { .store = s };
	struct reference ref;
	int r = parse(s, argc, argv, &o, err);

	if (r >= 0 && o.n_operands != 1)
		r = verb_usage(err, "pull-image wants a reference");
	if (r >= 0)
		r = check_platform(o.platform, err);
	if (r >= 0)
		r = reference_parse(o.operands[0], &ref, err);
	if (r >= 0)
		r = open_http(s, &o, &h, err);
	if (r < 0)
		return r;
	rs.http = h;
	rs.host = ref.registry;
	rs.repository = ref.repository;
	r = registry_open(&rs, &registry, err);
	return r < 0 ? r : pull(s, &o, &ref, registry, err);
}

/* ---- push-image ---- */

/* The repository on the same registry that the image, or what it was made on, came from: what it had need not be sent. Owned by the caller, or NULL. */
static char *known_source(const struct image_meta *meta, const struct reference *to)
{
	const char *known = image_registry_source(meta), *source = known ? after_prefix(known, "registry ") : NULL;
	struct reference from;

	if (!source || reference_parse(source, &from, NULL) < 0 || !streq(from.registry, to->registry) ||
	    streq(from.repository, to->repository))
		return NULL;
	return xstrdup(from.repository);
}

static int push(const struct store *s, const struct options *o, const struct image_meta *meta,
		const struct reference *to, struct error *err)
{
	_cleanup_free_ char *from = known_source(meta, to);
	_cleanup_close_ int lock = blob_lock(s, false, err);
	_cleanup_(oci_descriptor_done) struct oci_descriptor manifest = {};
	struct registry_settings rs = {
		.store = s, .host = to->registry, .repository = to->repository, .from = from, .push = true
	};
	_cleanup_(registry_closep) struct registry *registry = NULL;
	_cleanup_(http_freep) struct http *h = NULL;
	struct progress_board *board;
	int r = lock < 0 ? lock : open_http(s, o, &h, err);

	/* What was built here is a disk: its files become a layer first. */
	if (r >= 0)
		r = image_with_layers(s, meta, LAYER_GZIP, o->quiet ? -1 : verb_progress_fd(), &manifest, err);
	if (r < 0)
		return r;
	rs.http = h;
	r = registry_open(&rs, &registry, err);
	if (r < 0)
		return r;
	board = progress_board_new(o->quiet ? -1 : STDERR_FILENO);
	r = push_image(registry, s, &manifest, to->tag[0] ? to->tag : meta->digest, from, board, err);
	board = progress_board_free(board);
	registry = registry_close(registry);
	if (r >= 0)
		printf("%s\n", manifest.digest);
	return r;
}

static int push_verb(const struct store *s, int argc, char **argv, struct error *err)
{
	_cleanup_(options_done) struct options o = {};
	_cleanup_(image_meta_done) struct image_meta meta = {};
	struct reference to;
	int r = parse(s, argc, argv, &o, err);

	if (r >= 0 && !o.n_operands)
		r = verb_usage(err, "push-image wants an image");
	if (r >= 0)
		r = reference_parse(o.operands[o.n_operands - 1], &to, err);
	if (r >= 0 && to.digest[0])
		r = error_set_kind(err, ERROR_USAGE, EINVAL, "an image is pushed to a tag, not to a digest");
	if (r >= 0)
		r = image_find(s, o.operands[0], &meta, err);
	return r < 0 ? r : push(s, &o, &meta, &to, err);
}

const struct verb image_registry_verbs[] = {
	{ "login", "[HOST] [--user U] [--password-stdin]", false, login },
	{ "logout", "[HOST]", false, logout },
	{ "pull-image", "REFERENCE [--platform P] [--disk BYTES] [--format F] [--quiet]", false, pull_image },
	{ "push-image", "NAME [REFERENCE] [--quiet]", false, push_verb },
	{},
};
