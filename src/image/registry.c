#include "image/registry.h"

#include <errno.h>
#include <openssl/crypto.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "image/address.h"
#include "image/token.h"
#include "json/json.h"

enum { SAID_MAX = 200, ATTEMPTS_MAX = 3 };

struct registry {
	struct http *http;                     /* borrowed */
	char *host, *base, *repository, *noun; /* owned */
	struct strv scopes;
	struct registry *taking; /* owned; NULL = there is nothing to take from */
	struct credential credential;
	enum challenge_scheme scheme; /* what it asked for */
	struct challenge challenge;
	/* All tokens that there were: transfers under way point at theirs. The last one counts. */
	struct token *tokens;
	size_t n_tokens;
	unsigned known; /* counts what we learned */
};

/* Docker's registry is not where its name says. */
static const char *real_host(const char *host)
{
	return streq(host, "docker.io") ? "registry-1.docker.io" : host;
}

int registry_open(const struct registry_settings *s, struct registry **ret, struct error *err)
{
	_cleanup_(registry_closep) struct registry *r = xnew(struct registry);
	const char *host = real_host(s->host);
	int found = 0;

	r->http = s->http;
	r->host = xstrdup(s->host);
	r->base = xasprintf("%s://%s/v2/", http_is_plain(s->http, s->host) ? "http" : "https", host);
	r->repository = xstrdup(s->repository);
	r->noun = s->repository ? xasprintf("%s/%s", s->host, s->repository) : xstrdup(s->host);
	if (s->repository)
		strv_addf(&r->scopes, "repository:%s:%s", s->repository, s->push ? "pull,push" : "pull");
	if (!s->credential) {
		found = auth_find(s->store, s->host, s->repository, &r->credential, err);
	} else {
		r->credential.user = xstrdup(s->credential->user);
		r->credential.secret = xstrdup(s->credential->secret);
		r->credential.identity_token = xstrdup(s->credential->identity_token);
		r->credential.origin = xstrdup(s->credential->origin);
	}
	if (found < 0)
		return found;
	if (s->from) {
		struct registry_settings taking = *s;

		taking.from = NULL;
		taking.credential = &r->credential;
		found = registry_open(&taking, &r->taking, err);
		if (found < 0)
			return found;
		strv_addf(&r->taking->scopes, "repository:%s:pull", s->from);
	}
	*ret = TAKE_PTR(r);
	return 0;
}

struct registry *registry_close(struct registry *r)
{
	if (!r)
		return NULL;
	(void)registry_close(r->taking);
	for (size_t i = 0; i < r->n_tokens; i++)
		token_done(&r->tokens[i]);
	free(r->tokens);
	challenge_done(&r->challenge);
	credential_done(&r->credential);
	strv_done(&r->scopes);
	free(r->host);
	free(r->base);
	free(r->repository);
	free(r->noun);
	free(r);
	return NULL;
}

struct registry *registry_taking(struct registry *r)
{
	/* A password is good for both, or for none. */
	return r->taking && r->scheme == CHALLENGE_BASIC ? r : r->taking;
}

struct http *registry_http(const struct registry *r)
{
	return r->http;
}

const char *registry_repository(const struct registry *r)
{
	return r->repository;
}

const char *registry_noun(const struct registry *r)
{
	return r->noun;
}

char *registry_url(const struct registry *r, const char *fmt, ...)
{
	_cleanup_buf_ struct buf b = {};
	va_list ap;

	buf_adds(&b, r->base);
	if (r->repository)
		buf_addf(&b, "%s/", r->repository);
	va_start(ap, fmt);
	buf_vaddf(&b, fmt, ap);
	va_end(ap);
	return buf_take(&b);
}

/* ---- who we are ---- */

/* Uploads go where the registry says; only the registry itself is told who we are. */
static bool is_ours(const struct registry *r, const char *url)
{
	return address_same_origin(url, r->base);
}

unsigned registry_authorize(const struct registry *r, struct http_request *req)
{
	req->bearer = req->user = req->secret = NULL;
	if (!is_ours(r, req->url))
		return r->known;
	if (r->scheme == CHALLENGE_BASIC && r->credential.user) {
		req->user = r->credential.user;
		req->secret = r->credential.secret;
	} else if (r->n_tokens && r->tokens[r->n_tokens - 1].expires_ns > clock_monotonic_ns()) {
		req->bearer = r->tokens[r->n_tokens - 1].text;
	}
	return r->known;
}

static int denied(const struct registry *r, struct error *err)
{
	if (r->credential.origin) {
		error_set_kind(err, ERROR_DENIED, EACCES, "%s: the registry does not accept the credentials of %s",
			       r->noun, r->credential.origin);
	} else {
		error_set_kind(err, ERROR_DENIED, EACCES, "%s: it does not exist, or needs a login", r->noun);
	}
	return error_hint(err, "skerry login %s", r->host);
}

static int denied_elsewhere(const struct registry *r, const struct http_answer *a, struct error *err)
{
	_cleanup_free_ char *host = a->url ? address_host(a->url) : NULL;

	return error_set_kind(err, ERROR_DENIED, EACCES,
			      "%s: %s wants a login, and only the registry itself is told one", r->noun,
			      host ? host : "another host");
}

static int not_allowed(const struct registry *r, const char *what, const char *words, struct error *err)
{
	error_set_kind(err, ERROR_DENIED, EACCES, "%s: the registry does not allow it%s%s", what, *words ? ": " : "",
		       words);
	return error_hint(err, r->credential.origin ? "skerry login %s, as somebody who may" : "skerry login %s",
			  r->host);
}

/* The token that was got for this scope is not good for it: another one would not be either. */
static bool is_final(const struct registry *r, const struct challenge *c)
{
	return c->error && streq(c->error, "insufficient_scope") && r->n_tokens && r->challenge.scope && c->scope &&
	       scope_covers(r->challenge.scope, c->scope);
}

static int fetch_token(struct registry *r, struct error *err)
{
	struct token t = {};
	int ret = token_fetch(r->http, &r->challenge, &r->scopes, &r->credential, &t, err);

	if (ret < 0) {
		if (err && err->kind == ERROR_DENIED)
			error_hint(err, "skerry login %s", r->host);
		return ret;
	}
	r->tokens = xrealloc_array(r->tokens, r->n_tokens + 1, sizeof(*r->tokens));
	r->tokens[r->n_tokens++] = t;
	r->known++;
	return 0;
}

int registry_challenged(struct registry *r, const struct http_answer *a, unsigned known, struct error *err)
{
	if (!a->url || !is_ours(r, a->url))
		return denied_elsewhere(r, a, err);
	/* Somebody else has asked meanwhile. */
	if (known != r->known)
		return 0;
	if (is_final(r, &a->challenge))
		return not_allowed(r, r->noun, "", err);
	if (a->challenge.scheme == CHALLENGE_BEARER) {
		challenge_done(&r->challenge);
		r->challenge = (struct challenge){
			.scheme = CHALLENGE_BEARER,
			.realm = xstrdup(a->challenge.realm),
			.service = xstrdup(a->challenge.service),
			.scope = xstrdup(a->challenge.scope),
		};
		r->scheme = CHALLENGE_BEARER;
		return fetch_token(r, err);
	}
	if (a->challenge.scheme == CHALLENGE_BASIC && r->scheme != CHALLENGE_BASIC && r->credential.user) {
		r->scheme = CHALLENGE_BASIC;
		r->known++;
		return 0;
	}
	return denied(r, err);
}

int registry_exchange(struct registry *r, struct http_request *req, struct http_answer *ret, struct error *err)
{
	for (int i = 0; i < ATTEMPTS_MAX; i++) {
		unsigned known = registry_authorize(r, req);
		int n = http_insist(r->http, req, ret, err);

		if (n < 0 || ret->status != 401)
			return n;
		n = registry_challenged(r, ret, known, err);
		http_answer_done(ret);
		if (n < 0)
			return n;
	}
	return denied(r, err);
}

/* ---- what it says ---- */

/* The first of the errors that the body lists, made fit to be shown. Owned by the caller; NULL when it says nothing. */
static char *said(const struct http_answer *a)
{
	_cleanup_json_ struct json *tree = NULL;
	_cleanup_buf_ struct buf shown = {};
	_cleanup_free_ char *cut = NULL;
	const struct json *first;
	const char *text;

	if (!a->body.len || json_parse(a->body.p, a->body.len, "answer", &tree, NULL) < 0)
		return NULL;
	first = json_at(json_get(tree, "errors"), 0);
	text = json_string(json_get(first, "message"));
	if (!text || !*text)
		text = json_string(json_get(first, "code"));
	if (!text || !*text)
		return NULL;
	cut = xstrndup(text, SAID_MAX);
	(void)utf8_add_shown(&shown, cut);
	return buf_take(&shown);
}

int registry_refuse(const struct registry *r, const struct http_answer *a, const char *what, struct error *err)
{
	_cleanup_free_ char *text = said(a);
	const char *colon = text ? ": " : "", *words = text ? text : "";

	switch (a->status) {
	case 403: return not_allowed(r, what, words, err);
	case 404: return error_set(err, ENOENT, "%s: the registry does not have it%s%s", what, colon, words);
	case 429: return error_set(err, EBUSY, "%s: the registry wants to be asked less often%s%s", what, colon, words);
	default:
		return error_set(err, EIO, "%s: the registry answered with status %ld%s%s", what, a->status, colon,
				 words);
	}
}

int registry_ping(struct registry *r, struct error *err)
{
	_cleanup_answer_ struct http_answer a = {};
	struct http_request req = { .method = HTTP_GET, .url = r->base, .body_fd = -1, .limit = 64 << 10 };
	int ret = registry_exchange(r, &req, &a, err);

	if (ret < 0)
		return ret;
	if (a.status == 404)
		return error_set_kind(err, ERROR_FAILED, ENOENT, "%s: no registry there", r->host);
	return a.status == 200 ? 0 : registry_refuse(r, &a, r->host, err);
}
