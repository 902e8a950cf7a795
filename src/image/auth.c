#include "image/auth.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/lock.h"
#include "base/memory.h"
#include "base/spawn.h"
#include "json/json.h"

enum { FILE_LIMIT = 1 << 20, SECRET_MAX = 64 << 10, HELPER_LIMIT = 256 << 10 };
#define HELPER_TIMEOUT_NS (30 * NS_PER_SEC)
#define LOCK_TIMEOUT_NS   (10 * NS_PER_SEC)
/* Docker's oldest name for its registry, and the key that it still files the credentials under. */
#define DOCKER_KEY "https://index.docker.io/v1/"

static const char auth_file[] = "auth.json";

static void wipe(char **s)
{
	if (*s)
		OPENSSL_cleanse(*s, strlen(*s));
	free(*s);
	*s = NULL;
}

static void wipe_buf(struct buf *b)
{
	if (b->p)
		OPENSSL_cleanse(b->p, b->len);
	buf_done(b);
}

void credential_done(struct credential *c)
{
	wipe(&c->secret);
	wipe(&c->identity_token);
	free(c->user);
	free(c->origin);
	*c = (struct credential){};
}

/* ---- one document ---- */

/* "https://HOST/v1/" as Docker once wrote it, is HOST. Owned by the caller. */
static char *plain_key(const char *key)
{
	const char *rest = after_prefix(key, "https://");
	size_t n;

	if (!rest)
		rest = after_prefix(key, "http://");
	if (!rest)
		return xstrdup(key);
	n = strcspn(rest, "/");
	return xstrndup(rest, n);
}

static bool is_docker(const char *host)
{
	return streq(host, "docker.io") || streq(host, "index.docker.io") || streq(host, "registry-1.docker.io");
}

static bool same_host(const char *a, const char *b)
{
	return streq(a, b) || (is_docker(a) && is_docker(b));
}

/* How well @key fits: 0 not at all, else the longer the namespace the better. */
static size_t fit(const char *key, const char *registry, const char *repository)
{
	_cleanup_free_ char *plain = plain_key(key), *host = NULL;
	const char *slash = strchr(plain, '/'), *name;
	size_t n;

	host = xstrndup(plain, slash ? (size_t)(slash - plain) : strlen(plain));
	if (!same_host(host, registry))
		return 0;
	if (!slash)
		return 1;
	name = slash + 1;
	n = strlen(name);
	if (!repository || strncmp(repository, name, n) != 0 || (repository[n] && repository[n] != '/'))
		return 0;
	return 1 + n;
}

/* The member of @object whose key fits best; *ret_key is borrowed. */
static struct json *best_member(const struct json *object, const char *registry, const char *repository,
				const char **ret_key)
{
	struct json *best = NULL, *value;
	size_t best_fit = 0;
	const char *key;

	if (!json_is_object(object))
		return NULL;
	for (size_t i = 0; json_member(object, i, &key, &value); i++) {
		size_t f = fit(key, registry, repository);

		if (f > best_fit) {
			best_fit = f;
			best = value;
			*ret_key = key;
		}
	}
	return best;
}

static int damaged(const char *what, const char *why, struct error *err)
{
	return error_set_kind(err, ERROR_CONFIG, EBADMSG, "%s: %s", what, why);
}

/* A secret becomes part of a header: one line, no NUL, of a size that makes sense. */
static bool is_secret(const char *s)
{
	return strlen(s) <= SECRET_MAX && !strpbrk(s, "\r\n");
}

/* base64 of USER:PASSWORD. Docker pads with NULs in places; they end the text. */
static int decode_auth(const char *text, const char *what, struct credential *ret, struct error *err)
{
	_cleanup_buf_ struct buf b = {};
	size_t n = strlen(text);
	char *colon;
	int len;

	if (n % 4 || n > SECRET_MAX)
		return damaged(what, "auth: no base64", err);
	len = EVP_DecodeBlock(buf_reserve(&b, n / 4 * 3 + 1), (const unsigned char *)text, (int)n);
	if (len < 0)
		return damaged(what, "auth: no base64", err);
	/* EVP_DecodeBlock() counts the padding as zero bytes. */
	buf_commit(&b, (size_t)len);
	colon = memchr(b.p, ':', b.len);
	if (!colon) {
		wipe_buf(&b);
		return damaged(what, "auth: no USER:PASSWORD in it", err);
	}
	ret->user = xstrndup(b.p, (size_t)(colon - b.p));
	ret->secret = xstrdup(colon + 1);
	wipe_buf(&b);
	if (!is_secret(ret->user) || !is_secret(ret->secret))
		return damaged(what, "auth: control characters in it", err);
	return 1;
}

static int take_entry(const struct json *entry, const char *what, struct credential *ret, struct error *err)
{
	const char *auth = json_string(json_get(entry, "auth")), *token = json_string(json_get(entry, "identitytoken"));
	const char *user = json_string(json_get(entry, "username")), *secret = json_string(json_get(entry, "password"));
	int r = 0;

	if (!json_is_object(entry))
		return damaged(what, "auths: expected objects", err);
	if (auth && *auth)
		r = decode_auth(auth, what, ret, err);
	else if (user && secret && is_secret(user) && is_secret(secret)) {
		ret->user = xstrdup(user);
		ret->secret = xstrdup(secret);
		r = 1;
	}
	if (r >= 0 && token && *token && is_secret(token)) {
		ret->identity_token = xstrdup(token);
		r = 1;
	}
	if (r < 0)
		credential_done(ret);
	else if (r > 0)
		ret->origin = xstrdup(what);
	return r;
}

/* Part of a program's name, never of a path. */
static bool is_helper_name(const char *s)
{
	return *s && strlen(s) < 64 && s[0] != '.' &&
	       !s[strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")];
}

static int take_helper(const char *name, const char *server, const char *what, char **ret_helper, char **ret_server,
		       struct error *err)
{
	if (!is_helper_name(name))
		return damaged(what, "the name of a credential helper takes letters, digits, '.', '_' and '-'", err);
	*ret_helper = xstrdup(name);
	*ret_server = xstrdup(server);
	return 2;
}

int auth_parse(const char *text, size_t len, const char *what, const char *registry, const char *repository,
	       struct credential *ret, char **ret_helper, char **ret_server, struct error *err)
{
	_cleanup_json_ struct json *tree = NULL;
	const char *server = is_docker(registry) ? DOCKER_KEY : registry, *key = NULL, *helper;
	struct json *entry;
	int r;

	if (!len)
		return 0;
	r = json_parse(text, len, what, &tree, err);
	if (r < 0) {
		if (err)
			err->kind = ERROR_CONFIG;
		return r;
	}
	if (!json_is_object(tree))
		return damaged(what, "expected an object", err);
	helper = json_string(best_member(json_get(tree, "credHelpers"), registry, repository, &key));
	if (helper)
		return take_helper(helper, key, what, ret_helper, ret_server, err);
	entry = best_member(json_get(tree, "auths"), registry, repository, &key);
	r = entry ? take_entry(entry, what, ret, err) : 0;
	if (r != 0)
		return r;
	helper = json_string(json_get(tree, "credsStore"));
	/* Docker leaves an empty entry in "auths" for what its store holds; a registry that it never saw has none. */
	return helper && *helper ? take_helper(helper, server, what, ret_helper, ret_server, err) : 0;
}

int auth_helper_parse(const char *text, size_t len, const char *what, struct credential *ret, struct error *err)
{
	_cleanup_json_ struct json *tree = NULL;
	const char *user, *secret;

	/* Not the parser's own message: it could quote what it could not read. */
	if (json_parse(text, len, what, &tree, NULL) < 0)
		return error_set_kind(err, ERROR_CONFIG, EBADMSG, "%s: its answer is no JSON", what);
	user = json_string(json_get(tree, "Username"));
	secret = json_string(json_get(tree, "Secret"));
	if (!user || !secret || !is_secret(user) || !is_secret(secret))
		return error_set_kind(err, ERROR_CONFIG, EBADMSG, "%s: its answer has no Username and Secret", what);
	if (!*user && !*secret)
		return 0;
	/* The word that Docker made for "this is no password". */
	if (streq(user, "<token>")) {
		ret->identity_token = xstrdup(secret);
	} else {
		ret->user = xstrdup(user);
		ret->secret = xstrdup(secret);
	}
	ret->origin = xstrdup(what);
	return 1;
}

/* ---- where documents are ---- */

static int ask_helper(const char *helper, const char *server, struct credential *ret, struct error *err)
{
	_cleanup_free_ char *program = xasprintf("docker-credential-%s", helper);
	_cleanup_buf_ struct buf input = {}, out = {}, errout = {};
	struct spawn sp = SPAWN_INIT;
	int r, status = 0;

	buf_adds(&input, server);
	sp.argv = (const char *const[]){ program, "get", NULL };
	sp.death_signal = SIGKILL;
	r = spawn_run(&sp, &input, &out, &errout, HELPER_LIMIT, HELPER_TIMEOUT_NS, &status, err);
	if (r < 0)
		return error_prefix(err, "credential helper for %s", server);
	/* It says so in words, with a status that means anything. */
	if (status && ((out.p && strstr(out.p, "credentials not found")) ||
		       (errout.p && strstr(errout.p, "credentials not found"))))
		return 0;
	if (status)
		r = error_set_kind(err, ERROR_CONFIG, EIO, "%s failed for %s", program, server);
	else
		r = auth_helper_parse(out.p ? out.p : "", out.len, program, ret, err);
	wipe_buf(&out);
	return r;
}

static int look_into(int dirfd, const char *path, const char *what, const char *registry, const char *repository,
		     struct credential *ret, struct error *err)
{
	_cleanup_free_ char *helper = NULL, *server = NULL;
	struct buf text = {};
	int r = file_read_at(dirfd, path, FILE_LIMIT, &text);

	/* Somebody else's directory may be closed to us, or its path lead through a file: then nothing is there for us. */
	if (r == -ENOENT || r == -ENOTDIR || r == -EACCES)
		r = 0;
	else if (r < 0)
		r = error_set_kind(err, ERROR_CONFIG, -r, "cannot read %s: %s", what, strerror(-r));
	else
		r = auth_parse(text.p ? text.p : "", text.len, what, registry, repository, ret, &helper, &server, err);
	wipe_buf(&text);
	return r == 2 ? ask_helper(helper, server, ret, err) : r;
}

static void add_path(struct strv *paths, const char *directory, const char *fallback, const char *rest)
{
	if (directory && *directory)
		strv_addf(paths, "%s/%s", directory, rest);
	else if (fallback && *fallback)
		strv_addf(paths, "%s/%s", fallback, rest);
}

static void other_files(struct strv *paths)
{
	const char *home = getenv("HOME"), *file = getenv("REGISTRY_AUTH_FILE"), *runtime = getenv("XDG_RUNTIME_DIR");
	_cleanup_free_ char *docker = home ? xasprintf("%s/.docker", home) : NULL,
			    *config = home ? xasprintf("%s/.config", home) : NULL;

	add_path(paths, getenv("DOCKER_CONFIG"), docker, "config.json");
	if (file && *file)
		strv_add(paths, file);
	else
		add_path(paths, runtime, NULL, "containers/auth.json");
	add_path(paths, getenv("XDG_CONFIG_HOME"), config, "containers/auth.json");
}

int auth_find(const struct store *s, const char *registry, const char *repository, struct credential *ret,
	      struct error *err)
{
	_cleanup_free_ char *own = xasprintf("%s/%s", s->config_path, auth_file);
	_cleanup_strv_ struct strv paths = {};
	int r = 0;

	*ret = (struct credential){};
	if (s->config_fd >= 0)
		r = look_into(s->config_fd, auth_file, own, registry, repository, ret, err);
	other_files(&paths);
	for (size_t i = 0; r == 0 && i < paths.n; i++)
		r = look_into(AT_FDCWD, paths.items[i], paths.items[i], registry, repository, ret, err);
	return r;
}

/* ---- our own document ---- */

static int own_load(const struct store *s, struct json **ret, struct error *err)
{
	struct buf text = {};
	int r = file_read_at(s->config_fd, auth_file, FILE_LIMIT, &text);

	if (r == -ENOENT || (r >= 0 && !text.len)) {
		*ret = json_object();
		r = 0;
	} else if (r < 0) {
		r = error_set_errno(err, r, "cannot read %s/%s", s->config_path, auth_file);
	} else {
		_cleanup_free_ char *what = xasprintf("%s/%s", s->config_path, auth_file);

		r = json_parse(text.p, text.len, what, ret, err);
		if (r >= 0 && !json_is_object(*ret))
			r = damaged(what, "expected an object", err);
	}
	wipe_buf(&text);
	return r < 0 ? r : 0;
}

static int own_save(const struct store *s, const struct json *tree, struct error *err)
{
	struct buf text = {};
	int r = fault_point("auth-write");

	json_render(tree, true, &text);
	if (r >= 0)
		r = file_write_at(s->config_fd, auth_file, text.p, text.len, 0600, FILE_DURABLE);
	wipe_buf(&text);
	return r < 0 ? error_set_errno(err, r, "cannot write %s/%s", s->config_path, auth_file) : 0;
}

static char *encode_auth(const struct credential *c)
{
	_cleanup_buf_ struct buf plain = {}, out = {};
	int n;

	buf_addf(&plain, "%s:%s", c->user ? c->user : "", c->secret ? c->secret : "");
	n = EVP_EncodeBlock(buf_reserve(&out, (plain.len + 2) / 3 * 4 + 1), (const unsigned char *)plain.p,
			    (int)plain.len);
	buf_commit(&out, (size_t)n);
	wipe_buf(&plain);
	return buf_take(&out);
}

static int lock_own(const struct store *s, struct error *err)
{
	int dir = store_config(s, err);

	return dir < 0 ? dir : lock_acquire(dir, ".auth.lock", "the credentials' file", LOCK_TIMEOUT_NS, err);
}

/* Every key that means this registry as a whole. Returns how many there were. */
static size_t remove_keys(struct json *auths, const char *registry)
{
	size_t n = 0;
	const char *key;
	struct json *value;

	for (size_t i = 0; json_member(auths, i, &key, &value);) {
		if (fit(key, registry, NULL)) {
			_cleanup_free_ char *copy = xstrdup(key);

			json_remove(auths, copy);
			n++;
		} else {
			i++;
		}
	}
	return n;
}

int auth_store(const struct store *s, const char *registry, const struct credential *c, struct error *err)
{
	_cleanup_json_ struct json *tree = NULL;
	_cleanup_close_ int lock = lock_own(s, err);
	struct json *auths, *entry;
	char *encoded;
	int r = lock < 0 ? lock : own_load(s, &tree, err);

	if (r < 0)
		return r;
	if (!json_is_object(json_get(tree, "auths")))
		json_set(tree, "auths", json_object());
	auths = json_get(tree, "auths");
	(void)remove_keys(auths, registry);
	entry = json_object();
	encoded = encode_auth(c);
	json_set_string(entry, "auth", encoded);
	wipe(&encoded);
	if (c->identity_token)
		json_set_string(entry, "identitytoken", c->identity_token);
	json_set(auths, is_docker(registry) ? DOCKER_KEY : registry, entry);
	return own_save(s, tree, err);
}

int auth_remove(const struct store *s, const char *registry, struct error *err)
{
	_cleanup_json_ struct json *tree = NULL;
	_cleanup_close_ int lock = lock_own(s, err);
	int r = lock < 0 ? lock : own_load(s, &tree, err);

	if (r < 0)
		return r;
	if (!json_is_object(json_get(tree, "auths")) || !remove_keys(json_get(tree, "auths"), registry))
		return 0;
	r = own_save(s, tree, err);
	return r < 0 ? r : 1;
}
