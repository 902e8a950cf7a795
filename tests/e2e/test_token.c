/* The Bearer flow against Debian's docker-registry, which believes the tokens of a service that is this test's: JSON Web Tokens (RFC 7519), signed
 * with a key made here. Source: the distribution's "Token Authentication Specification" and "Token Authentication Implementation". */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"

#include "cli.h"
#include "registry.h"
#include "web.h"

/* docker-registry takes a token for so long after its end. */
enum { BLOBS = 3, LEEWAY_S = 60, LIFE_S = 300, COMMAND_S = 120 };

static struct shared {
	int registry_port;
	unsigned tokens, refusals, anonymous;
	bool read_only;                /* nobody gets "push" */
	bool first_ends;               /* the first token is good for no layer any more: … */
	char first[4096], ended[4096]; /* … it, and the same as it is after its end; for "Authorization:" */
	char scope[512];               /* asked for last */
} * shared;
static struct registry_server server;

/* ---- the token service ---- */

static void add_base64url(struct buf *out, const void *p, size_t n)
{
	char *text = malloc(n / 3 * 4 + 5);
	int len = EVP_EncodeBlock((unsigned char *)text, p, (int)n);

	while (len && text[len - 1] == '=')
		len--;
	for (int i = 0; i < len; i++)
		buf_addc(out, text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i]);
	free(text);
}

static char *read_text(const char *name)
{
	char path[400], *text = calloc(1, 1 << 16);
	int fd;

	snprintf(path, sizeof(path), "%s/%s", test_tmpdir(), name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT(fd >= 0);
	ASSERT(read(fd, text, (1 << 16) - 1) > 0);
	close(fd);
	return text;
}

/* {"alg":"RS256","x5c":[the certificate]} */
static void add_header(struct buf *out)
{
	char *pem = read_text("token.crt"), *begin = strchr(pem, '\n'), *end = strstr(pem, "-----END");
	struct buf head = {};

	ASSERT(begin && end);
	buf_adds(&head, "{\"typ\":\"JWT\",\"alg\":\"RS256\",\"x5c\":[\"");
	for (char *p = begin; p < end; p++)
		if (*p != '\n')
			buf_addc(&head, *p);
	buf_adds(&head, "\"]}");
	add_base64url(out, head.p, head.len);
	buf_done(&head);
	free(pem);
}

static void sign(struct buf *token)
{
	char *pem = read_text("token.key");
	BIO *bio = BIO_new_mem_buf(pem, -1);
	EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	unsigned char signature[1024];
	size_t n = sizeof(signature);

	ASSERT(key && EVP_DigestSignInit(md, NULL, EVP_sha256(), NULL, key) == 1);
	ASSERT_EQ(EVP_DigestSign(md, signature, &n, (const unsigned char *)token->p, token->len), 1);
	buf_addc(token, '.');
	add_base64url(token, signature, n);
	EVP_MD_CTX_free(md);
	EVP_PKEY_free(key);
	BIO_free(bio);
	free(pem);
}

/* "…scope=repository%3Ame%2Fapp%3Apull%2Cpush…": what follows "repository:" of the nth, decoded. */
static bool nth_scope(const char *target, unsigned nth, char name[200], char actions[64])
{
	char text[256] = "", *colon;
	size_t n = 0;

	for (const char *p = target; (p = strstr(p, "scope="));) {
		p += strlen("scope=");
		if (nth--)
			continue;
		for (; *p && *p != '&' && n < sizeof(text) - 1; p++) {
			unsigned c = (unsigned char)*p;

			if (c == '%' && sscanf(p + 1, "%2x", &c) == 1) /* lint: our own client's */
				p += 2;
			text[n++] = (char)c;
		}
		text[n] = '\0';
		ASSERT(strncmp(text, "repository:", 11) == 0);
		colon = strrchr(text, ':');
		snprintf(name, 200, "%.*s", (int)(colon - text - 11), text + 11);
		snprintf(actions, 64, "%s", colon + 1);
		return true;
	}
	return false;
}

static void add_access(struct buf *out, const char *target)
{
	char name[200], actions[64];

	buf_adds(out, "\"access\":[");
	for (unsigned i = 0; nth_scope(target, i, name, actions); i++)
		buf_addf(out, "%s{\"type\":\"repository\",\"name\":\"%s\",\"actions\":[\"pull\"%s]}", i ? "," : "",
			 name, strstr(actions, "push") && !shared->read_only ? ",\"push\"" : "");
	buf_adds(out, "]}");
}

static void make_token(struct buf *token, const char *target, unsigned nth, long ends)
{
	long begins = (long)time(NULL) - LIFE_S * 2;
	struct buf claims = {};

	add_header(token);
	buf_addf(&claims,
		 "{\"iss\":\"test\",\"sub\":\"me\",\"aud\":\"registry\",\"exp\":%ld,\"nbf\":%ld,\"iat\":%ld,\"jti\":\"%"
		 "u\",",
		 ends, begins, begins, nth);
	add_access(&claims, target);
	buf_addc(token, '.');
	add_base64url(token, claims.p, claims.len);
	sign(token);
	buf_done(&claims);
}

static void give_token(const struct web_request *q, struct web_answer *a, void *data)
{
	static const char me[] = "Basic bWU6cHc=" /* me:pw */;
	const char *given = web_header(q, "Authorization");
	unsigned nth = __atomic_add_fetch(&shared->tokens, 1, __ATOMIC_SEQ_CST);
	long now = (long)time(NULL);
	struct buf token = {}, ended = {}, body = {};

	(void)data;
	snprintf(shared->scope, sizeof(shared->scope), "%s", strchr(q->target, '?') ? strchr(q->target, '?') : "");
	if (!*given)
		(void)__atomic_add_fetch(&shared->anonymous, 1, __ATOMIC_SEQ_CST);
	if (strcmp(given, me) != 0) {
		(void)__atomic_add_fetch(&shared->refusals, 1, __ATOMIC_SEQ_CST);
		a->status = 401;
		return;
	}
	make_token(&token, q->target, nth, now + LIFE_S);
	if (nth == 1 && shared->first_ends) {
		make_token(&ended, q->target, nth, now - LEEWAY_S * 2);
		snprintf(shared->first, sizeof(shared->first), "Bearer %s", token.p);
		snprintf(shared->ended, sizeof(shared->ended), "Bearer %s", ended.p);
	}
	/* What it says of its life is not what is in it. */
	buf_addf(&body, "{\"token\":\"%s\",\"expires_in\":%d}", token.p, LIFE_S);
	a->body = body.p;
	a->len = body.len;
}

/* ---- before the registry ---- */

static int dial(int port)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				  .sin_port = htons((uint16_t)port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ASSERT_EQ(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

static void read_all(int fd, struct buf *out)
{
	char piece[65536];
	ssize_t n;

	while ((n = read(fd, piece, sizeof(piece))) > 0)
		buf_add(out, piece, (size_t)n);
}

/* Passes a request on, and its answer back. When layers are asked for, the first token has ended: however long it took to come to that, the
 * registry sees the one that has. */
static void relay(const struct web_request *q, struct web_answer *a, void *data)
{
	static const char *const kept[] = { "Content-Type", "Docker-Content-Digest", "WWW-Authenticate", "Location" };
	struct buf ask = {}, got = {};
	struct web_request answer = {};
	const char *body, *authorization;
	int fd;

	(void)data;
	fd = dial(shared->registry_port);
	buf_addf(&ask, "%s %s HTTP/1.0\r\nHost: %s\r\nUser-Agent: %s\r\n", q->method, q->target, web_header(q, "Host"),
		 "relay");
	authorization = web_header(q, "Authorization");
	if (strstr(q->target, "/blobs/") && *authorization && strcmp(authorization, shared->first) == 0)
		authorization = shared->ended;
	if (*authorization)
		buf_addf(&ask, "Authorization: %s\r\n", authorization);
	if (*web_header(q, "Accept"))
		buf_addf(&ask, "Accept: %s\r\n", "application/vnd.oci.image.manifest.v1+json");
	buf_adds(&ask, "\r\n");
	ASSERT_EQ(write(fd, ask.p, ask.len), (ssize_t)ask.len);
	read_all(fd, &got);
	close(fd);
	ASSERT_EQ(sscanf(got.p, "HTTP/%*s %d", &a->status), 1); /* lint: a server of ours */
	body = strstr(got.p, "\r\n\r\n");
	ASSERT(body != NULL);
	snprintf(answer.head, sizeof(answer.head), "%.*s", (int)(body + 2 - got.p), got.p);
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		if (*web_header(&answer, kept[i]))
			web_add_header(a, "%s: %s", kept[i], web_header(&answer, kept[i]));
	a->body = body + 4;
	a->len = got.len - (size_t)(body + 4 - got.p);
}

/* ---- the tests ---- */

static void make_key(void)
{
	char script[1024];
	_cleanup_cli_ struct cli r = {};

	snprintf(script, sizeof(script),
		 "cd '%s' && openssl req -x509 -newkey rsa:2048 -nodes -keyout token.key -out token.crt -days 3 -subj "
		 "/CN=tokens 2>openssl.log",
		 test_tmpdir());
	r = cli_argv((const char *[]){ CLI_SHELL, script, NULL }, NULL, COMMAND_S);
	if (r.status != 0)
		test_skip("openssl cannot make a key");
}

static void start(void)
{
	char realm[64], hosts[256];
	int tokens, front;

	unsetenv("SKERRY_TEST_STORE");
	unsetenv("DOCKER_CONFIG");
	unsetenv("REGISTRY_AUTH_FILE");
	unsetenv("XDG_CONFIG_HOME");
	unsetenv("XDG_RUNTIME_DIR");
	setenv("HOME", test_tmpdir(), 1);
	(void)cli_home(false);
	make_key();
	shared = web_shared(sizeof(*shared));
	tokens = web_start(give_token, NULL);
	front = web_start(relay, NULL);
	snprintf(realm, sizeof(realm), "http://127.0.0.1:%d/token", tokens);
	registry_server_start_with_tokens(&server, realm);
	ASSERT_EQ(sscanf(server.host, "localhost:%d", &shared->registry_port), 1); /* lint: ours */
	snprintf(hosts, sizeof(hosts), "%s,127.0.0.1:%d,localhost:%d", server.host, tokens, front);
	setenv("SKERRY_PLAIN_HTTP", hosts, 1);
}

static const char *at(int port, const char *repository)
{
	static char text[4][256];
	static unsigned n;
	char *p = text[n++ % 4];

	snprintf(p, sizeof(text[0]), "localhost:%d/%s", port, repository);
	return p;
}

static const char *name(const char *repository)
{
	return at(shared->registry_port, repository);
}

static struct cli login(const char *host, const char *password)
{
	return cli_argv((const char *[]){ cli_skerry(), "login", "--user", "me", "--password-stdin", host, NULL },
			password, COMMAND_S);
}

/* An image of two layers, which skopeo has put there as me: so others believe these tokens, too. */
static void put_image(const char *to)
{
	char script[1024];
	_cleanup_cli_ struct cli r = {};

	registry_make_image("one", 3000);
	snprintf(script, sizeof(script),
		 "cd '%s' && skopeo copy -q --dest-tls-verify=false --dest-creds me:pw oci:layout:one docker://%s",
		 test_tmpdir(), to);
	r = cli_argv((const char *[]){ CLI_SHELL, script, NULL }, NULL, COMMAND_S);
	ASSERT_STATUS(r, 0);
}

TEST(with_tokens_an_image_is_pulled_pushed_and_taken_over)
{
	_cleanup_cli_ struct cli anonymous = {}, wrong = {}, right = {}, pull = {}, push = {}, other = {}, back = {};
	unsigned before;
	char digest[90];

	start();
	put_image(name("me/app:1"));
	snprintf(digest, sizeof(digest), "%s\n", registry_layout_digest("one"));
	anonymous = cli("image", "pull", name("me/app:1"), NULL);
	ASSERT_STATUS(anonymous, 77);
	ASSERT_CONTAINS(anonymous.err, "anonymous");
	ASSERT_CONTAINS(anonymous.err, "hint: skerry login localhost");
	ASSERT(shared->anonymous > 0);
	wrong = login(server.host, "hunter2");
	ASSERT_STATUS(wrong, 77);
	ASSERT(!strstr(wrong.err, "hunter2"));
	right = login(server.host, "pw");
	ASSERT_STATUS(right, 0);
	before = shared->tokens;
	pull = cli("image", "pull", name("me/app:1"), NULL);
	ASSERT_STATUS(pull, 0);
	ASSERT_STREQ(pull.out, digest);
	/* One for all of it. */
	ASSERT_EQ(shared->tokens, before + 1);
	ASSERT_CONTAINS(shared->scope, "service=registry");
	ASSERT_CONTAINS(shared->scope, "scope=repository%3Ame%2Fapp%3Apull");
	push = cli("image", "push", name("me/app:1"), name("me/app:2"), NULL);
	ASSERT_STATUS(push, 0);
	ASSERT_CONTAINS(shared->scope, "pull%2Cpush");
	/* Another repository there takes the blobs over: that needs the right to read the first one. */
	other = cli("image", "push", name("me/app:1"), name("you/copy:1"), NULL);
	ASSERT_STATUS(other, 0);
	ASSERT_STREQ(other.out, digest);
	ASSERT_CONTAINS(shared->scope, "scope=repository%3Ame%2Fapp%3Apull");
	ASSERT_CONTAINS(shared->scope, "scope=repository%3Ayou%2Fcopy%3Apull%2Cpush");
	ASSERT_EQ(registry_server_await(&server, "from=me%2Fapp", " 201 ", 3), 3);
	back = cli("image", "pull", name("you/copy:1"), NULL);
	ASSERT_STATUS(back, 0);
	ASSERT_STREQ(back.out, digest);
}

/* The service gives a token that is good for less than what was asked for: the registry says so at each request, and nobody goes in circles. */
TEST(a_token_without_the_right_to_push_is_refused)
{
	_cleanup_cli_ struct cli in = {}, pull = {}, push = {};
	unsigned before;

	start();
	put_image(name("me/app:1"));
	in = login(server.host, "pw");
	ASSERT_STATUS(in, 0);
	pull = cli("image", "pull", "--quiet", name("me/app:1"), NULL);
	ASSERT_STATUS(pull, 0);
	shared->read_only = true;
	before = shared->tokens;
	push = cli("image", "push", "--quiet", name("me/app:1"), name("me/app:2"), NULL);
	ASSERT_STATUS(push, 77);
	ASSERT_CONTAINS(push.err, "me/app: the registry does not allow it");
	ASSERT_CONTAINS(push.err, "as somebody who may");
	ASSERT(!strstr(push.err, "eyJ"));
	/* One for the blobs, of which each may have asked at the same moment, and one for the manifest. */
	ASSERT(shared->tokens - before <= BLOBS + 1);
	ASSERT_EQ(registry_server_count(&server, "PUT /v2/me/app/manifests/2", " 201 "), 0);
}

TEST(a_token_that_ends_in_the_midst_of_a_pull_is_renewed)
{
	_cleanup_cli_ struct cli in = {}, pull = {};
	char digest[90], host[64], from[128];
	int front;

	start();
	put_image(name("me/app:1"));
	snprintf(digest, sizeof(digest), "%s\n", registry_layout_digest("one"));
	ASSERT_EQ(sscanf(strrchr(getenv("SKERRY_PLAIN_HTTP"), ':'), ":%d", &front), 1); /* lint: ours */
	snprintf(host, sizeof(host), "localhost:%d", front);
	snprintf(from, sizeof(from), "%s", at(front, "me/app:1"));
	in = login(host, "pw");
	ASSERT_STATUS(in, 0);
	shared->tokens = 0;
	shared->first_ends = true;
	pull = cli("image", "pull", from, NULL);
	ASSERT_STATUS(pull, 0);
	ASSERT_STREQ(pull.out, digest);
	ASSERT(shared->tokens >= 2);
	/* The registry has refused the first one for blobs. */
	ASSERT(registry_server_await(&server, "GET /v2/me/app/blobs/", " 401 ", 1) > 0);
	ASSERT_EQ(registry_server_await(&server, "GET /v2/me/app/blobs/", " 200 ", 3), 3);
}
