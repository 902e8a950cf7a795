#include "image/token.h"

#include <errno.h>
#include <openssl/crypto.h>

#include "base/clock.h"
#include "image/address.h"
#include "json/json.h"

enum { ANSWER_MAX = 256 << 10, TOKEN_MAX = 64 << 10, SCOPES_MAX = 16 };
/* What the specification tells to assume, and what no token needs to live longer than. */
#define LIFE_DEFAULT_S 60
#define LIFE_MAX_S     (24 * 3600)
/* Given up a little before its end: a request takes a while to arrive. */
#define MARGIN_S 5

static const char client_id[] = "skerry";

static void wipe_buf(struct buf *b)
{
	if (b->p)
		OPENSSL_cleanse(b->p, b->len);
	buf_done(b);
}

void token_done(struct token *t)
{
	if (t->text)
		OPENSSL_cleanse(t->text, strlen(t->text));
	free(t->text);
	*t = (struct token){};
}

/* It becomes part of a header. */
static bool is_token(const char *s)
{
	size_t n = strlen(s);

	if (!n || n > TOKEN_MAX)
		return false;
	for (; *s; s++)
		if (*s <= ' ' || *s >= 0x7f)
			return false;
	return true;
}

int token_parse(const char *text, size_t len, const char *what, uint64_t now_ns, struct token *ret, struct error *err)
{
	_cleanup_json_ struct json *tree = NULL;
	uint64_t life_s = LIFE_DEFAULT_S;
	const char *token;

	/* Without the parser's words: what it could not read may be a secret. */
	if (json_parse(text, len, what, &tree, NULL) < 0)
		return error_set(err, EBADMSG, "%s: the token service's answer is no JSON", what);
	token = json_string(json_get(tree, "token"));
	if (!token || !*token)
		token = json_string(json_get(tree, "access_token"));
	if (!token || !is_token(token))
		return error_set(err, EBADMSG, "%s: the token service's answer has no token", what);
	(void)json_u64(json_get(tree, "expires_in"), &life_s);
	if (life_s < LIFE_DEFAULT_S)
		life_s = LIFE_DEFAULT_S;
	if (life_s > LIFE_MAX_S)
		life_s = LIFE_MAX_S;
	ret->text = xstrdup(token);
	ret->expires_ns = now_ns + (life_s - MARGIN_S) * NS_PER_SEC;
	return 0;
}

static void add_pair(struct buf *b, const char *key, const char *value)
{
	char *escaped = address_escape(value);

	buf_addf(b, "%s%s=%s", b->len && !strchr("?&", b->p[b->len - 1]) ? "&" : "", key, escaped);
	OPENSSL_cleanse(escaped, strlen(escaped));
	free(escaped);
}

/* Ours, and what the challenge asks for beyond them: words that white space keeps apart. */
static void all_scopes(const struct challenge *c, const struct strv *ours, struct strv *ret)
{
	strv_copy(ret, ours);
	for (const char *p = c->scope; p && *p && ret->n < SCOPES_MAX;) {
		size_t n = strcspn(p, " ");
		_cleanup_free_ char *word = xstrndup(p, n);

		if (n && !strv_has(ret, word))
			strv_add(ret, word);
		p += n + (p[n] == ' ');
	}
}

/* Who keeps a refresh token for us exchanges it; the words are those of OAuth 2. */
static void write_form(const struct challenge *challenge, const struct strv *scopes, const char *refresh,
		       struct buf *out)
{
	_cleanup_buf_ struct buf joined = {};

	add_pair(out, "grant_type", "refresh_token");
	add_pair(out, "client_id", client_id);
	if (challenge->service)
		add_pair(out, "service", challenge->service);
	for (size_t i = 0; i < scopes->n; i++)
		buf_addf(&joined, "%s%s", i ? " " : "", scopes->items[i]);
	if (joined.len)
		add_pair(out, "scope", joined.p);
	add_pair(out, "refresh_token", refresh);
}

static void write_address(const struct challenge *challenge, const struct strv *scopes, struct buf *out)
{
	buf_adds(out, challenge->realm);
	buf_addc(out, strchr(challenge->realm, '?') ? '&' : '?');
	if (challenge->service)
		add_pair(out, "service", challenge->service);
	for (size_t i = 0; i < scopes->n; i++)
		add_pair(out, "scope", scopes->items[i]);
}

static int refuse(const struct http_answer *a, const char *host, const struct credential *c, struct error *err)
{
	if (a->status == 401 || a->status == 403 || a->status == 400)
		return error_set_kind(err, ERROR_DENIED, EACCES, "%s: the token service does not accept %s%s", host,
				      c->origin ? "the credentials of " : "anonymous users",
				      c->origin ? c->origin : "");
	return error_set(err, EIO, "%s: the token service answered with status %ld", host, a->status);
}

int token_fetch(struct http *h, const struct challenge *challenge, const struct strv *scopes,
		const struct credential *c, struct token *ret, struct error *err)
{
	_cleanup_free_ char *host = address_host(challenge->realm);
	_cleanup_strv_ struct strv all = {}, headers = {};
	_cleanup_answer_ struct http_answer a = {};
	_cleanup_buf_ struct buf url = {};
	struct buf form = {};
	struct http_request req = { .limit = ANSWER_MAX, .body_fd = -1, .headers = &headers };
	int r;

	if (!host)
		return error_set(err, EBADMSG, "the registry names a token service without an address");
	all_scopes(challenge, scopes, &all);
	strv_add(&headers, "Accept: application/json");
	if (c->identity_token) {
		strv_add(&headers, "Content-Type: application/x-www-form-urlencoded");
		write_form(challenge, &all, c->identity_token, &form);
		req.method = HTTP_POST;
		req.url = challenge->realm;
		req.body = form.p;
		req.body_bytes = form.len;
	} else {
		write_address(challenge, &all, &url);
		req.method = HTTP_GET;
		req.url = url.p;
		req.user = c->user;
		req.secret = c->secret;
	}
	r = http_insist(h, &req, &a, err);
	wipe_buf(&form);
	if (r >= 0 && a.status != 200)
		r = refuse(&a, host, c, err);
	if (r >= 0)
		r = token_parse(a.body.p ? a.body.p : "", a.body.len, host, clock_monotonic_ns(), ret, err);
	wipe_buf(&a.body);
	return r;
}
