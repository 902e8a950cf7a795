#include "image/auth.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

#include "test.h"

/* base64 of "me:pass:word" */
#define ME "bWU6cGFzczp3b3Jk"

static int look(const char *text, const char *registry, const char *repository, struct credential *c, char **helper,
		struct error *err)
{
	_cleanup_free_ char *server = NULL;

	return auth_parse(text, strlen(text), "auth.json", registry, repository, c, helper, &server, err);
}

TEST(a_host_s_entry_is_found_whichever_way_it_is_written)
{
	static const char *const keys[] = { "r.example:5000", "https://r.example:5000", "https://r.example:5000/v1/" };

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		_cleanup_free_ char *text = xasprintf("{\"auths\":{\"other\":{},\"%s\":{\"auth\":\"" ME "\"}}}",
						      keys[i]),
				    *helper = NULL;
		_cleanup_credential_ struct credential c = {};

		ASSERT_EQ(look(text, "r.example:5000", "a/b", &c, &helper, NULL), 1);
		ASSERT_STREQ(c.user, "me");
		ASSERT_STREQ(c.secret, "pass:word");
		ASSERT_STREQ(c.origin, "auth.json");
	}
}

TEST(docker_s_registry_has_many_names)
{
	static const char *const keys[] = { "docker.io", "index.docker.io", "https://index.docker.io/v1/" };

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		_cleanup_free_ char *text = xasprintf("{\"auths\":{\"%s\":{\"auth\":\"" ME "\"}}}", keys[i]),
				    *helper = NULL;
		_cleanup_credential_ struct credential c = {};

		ASSERT_EQ(look(text, "docker.io", NULL, &c, &helper, NULL), 1);
		ASSERT_EQ(look(text, "example.io", NULL, &c, &helper, NULL), 0);
	}
}

TEST(the_longest_namespace_wins_and_ends_at_a_slash)
{
	static const char text[] = "{\"auths\":{\"r\":{\"username\":\"host\",\"password\":\"1\"},"
				   "\"r/a\":{\"username\":\"a\",\"password\":\"1\"},"
				   "\"r/a/b\":{\"username\":\"b\",\"password\":\"1\"}}}";
	static const char *const cases[][2] = {
		{ NULL, "host" }, { "x", "host" }, { "ab", "host" }, { "a", "a" }, { "a/c", "a" }, { "a/b/c", "b" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_credential_ struct credential c = {};
		_cleanup_free_ char *helper = NULL;

		ASSERT_EQ(look(text, "r", cases[i][0], &c, &helper, NULL), 1);
		ASSERT_STREQ(c.user, cases[i][1]);
	}
}

TEST(an_identity_token_stands_beside_the_user)
{
	_cleanup_credential_ struct credential c = {};
	_cleanup_free_ char *helper = NULL;

	ASSERT_EQ(look("{\"auths\":{\"r\":{\"auth\":\"MDAwMDo=\",\"identitytoken\":\"tok\"}}}", "r", NULL, &c, &helper,
		       NULL),
		  1);
	ASSERT_STREQ(c.identity_token, "tok");
	ASSERT_STREQ(c.secret, "");
}

TEST(a_helper_for_the_host_goes_before_entries_and_a_store_after_them)
{
	static const char text[] = "{\"auths\":{\"a\":{\"auth\":\"" ME "\"},\"b\":{\"auth\":\"" ME "\"},\"c\":{}},"
				   "\"credHelpers\":{\"a\":\"pass\"},\"credsStore\":\"secretservice\"}";
	static const char *const cases[][2] = {
		{ "a", "pass" }, { "b", NULL }, { "c", "secretservice" }, { "d", "secretservice" }
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_credential_ struct credential c = {};
		_cleanup_free_ char *helper = NULL;

		ASSERT_EQ(look(text, cases[i][0], NULL, &c, &helper, NULL), cases[i][1] ? 2 : 1);
		if (cases[i][1])
			ASSERT_STREQ(helper, cases[i][1]);
	}
}

TEST(damage_is_refused_and_no_secret_is_in_the_message)
{
	static const char *const bad[] = {
		"[]",
		"{",
		"{\"auths\":{\"r\":[]}}",
		"{\"auths\":{\"r\":{\"auth\":\"bWU6cGFz*\"}}}",
		"{\"auths\":{\"r\":{\"auth\":\"bWVwYXNz\"}}}",
		"{\"credHelpers\":{\"r\":\"../../bin/sh\"}}",
		"{\"credHelpers\":{\"r\":\"a b\"}}",
		/* base64 of "me:a\r\nX: y" */
		"{\"auths\":{\"r\":{\"auth\":\"bWU6YQ0KWDogeQ==\"}}}",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_credential_ struct credential c = {};
		_cleanup_error_ struct error e = {};
		_cleanup_free_ char *helper = NULL;

		ASSERT(look(bad[i], "r", NULL, &c, &helper, &e) < 0);
		ASSERT_EQ((int)e.kind, ERROR_CONFIG);
		ASSERT(!strstr(e.msg, "bWU6") && !strstr(e.msg, "bWVw"));
		ASSERT(!c.user && !c.secret && !c.identity_token);
	}
}

TEST(a_helper_s_answer_is_read)
{
	static const char password[] = "{\"ServerURL\":\"r\",\"Username\":\"u\",\"Secret\":\"s\"}",
			  token[] = "{\"Username\":\"<token>\",\"Secret\":\"t\"}";
	_cleanup_credential_ struct credential a = {}, b = {}, none = {};
	_cleanup_error_ struct error e = {};

	ASSERT_EQ(auth_helper_parse(password, strlen(password), "h", &a, NULL), 1);
	ASSERT_STREQ(a.user, "u");
	ASSERT_STREQ(a.secret, "s");
	ASSERT_EQ(auth_helper_parse(token, strlen(token), "h", &b, NULL), 1);
	ASSERT(!b.user);
	ASSERT_STREQ(b.identity_token, "t");
	ASSERT(auth_helper_parse("{\"Username\":1}", 14, "h", &none, &e) < 0);
}

/* ---- files and programs ---- */

static void set_up(struct store *s)
{
	_cleanup_free_ char *home = xasprintf("%s/home", test_tmpdir()),
			    *docker = xasprintf("%s/docker", test_tmpdir()),
			    *auth = xasprintf("%s/containers.json", test_tmpdir());

	setenv("SKERRY_HOME", home, 1);
	setenv("HOME", test_tmpdir(), 1);
	setenv("DOCKER_CONFIG", docker, 1);
	setenv("REGISTRY_AUTH_FILE", auth, 1);
	unsetenv("XDG_CONFIG_HOME");
	ASSERT_EQ(mkdir(docker, 0700), 0);
	ASSERT_OK(store_open(s, NULL));
}

static void put(const char *path, const char *text, mode_t mode)
{
	_cleanup_free_ char *full = xasprintf("%s/%s", test_tmpdir(), path);

	ASSERT_OK(file_write_at(AT_FDCWD, full, text, strlen(text), mode, 0));
}

TEST(what_is_stored_is_found_again_and_removed)
{
	_cleanup_store_ struct store s = {};
	struct credential me = { .user = xstrdup("me"), .secret = xstrdup("pass:word") }, c = {};
	struct stat st;

	set_up(&s);
	ASSERT_EQ(auth_find(&s, "docker.io", NULL, &c, NULL), 0);
	ASSERT_OK(auth_store(&s, "docker.io", &me, NULL));
	ASSERT_OK(auth_store(&s, "localhost:5000", &me, NULL));
	ASSERT_OK(auth_store(&s, "localhost:5000", &me, NULL));
	ASSERT_EQ(fstatat(s.config_fd, "auth.json", &st, 0), 0);
	ASSERT_EQ(st.st_mode & 07777, 0600);
	ASSERT_EQ(auth_find(&s, "docker.io", "library/debian", &c, NULL), 1);
	ASSERT_STREQ(c.secret, "pass:word");
	credential_done(&c);
	ASSERT_EQ(auth_remove(&s, "docker.io", NULL), 1);
	ASSERT_EQ(auth_remove(&s, "docker.io", NULL), 0);
	ASSERT_EQ(auth_find(&s, "docker.io", NULL, &c, NULL), 0);
	ASSERT_EQ(auth_find(&s, "localhost:5000", NULL, &c, NULL), 1);
	credential_done(&c);
	credential_done(&me);
}

TEST(ours_goes_before_docker_s_before_containers)
{
	_cleanup_store_ struct store s = {};
	struct credential me = { .user = xstrdup("ours"), .secret = xstrdup("x") }, c = {};

	set_up(&s);
	put("containers.json", "{\"auths\":{\"r\":{\"username\":\"containers\",\"password\":\"x\"}}}", 0600);
	ASSERT_EQ(auth_find(&s, "r", NULL, &c, NULL), 1);
	ASSERT_STREQ(c.user, "containers");
	credential_done(&c);
	put("docker/config.json", "{\"auths\":{\"r\":{\"username\":\"docker\",\"password\":\"x\"}}}", 0600);
	ASSERT_EQ(auth_find(&s, "r", NULL, &c, NULL), 1);
	ASSERT_STREQ(c.user, "docker");
	credential_done(&c);
	ASSERT_OK(auth_store(&s, "r", &me, NULL));
	ASSERT_EQ(auth_find(&s, "r", NULL, &c, NULL), 1);
	ASSERT_STREQ(c.user, "ours");
	credential_done(&c);
	credential_done(&me);
}

/* A helper of the test's own, in a PATH of the test's own. */
static void put_helper(const char *script)
{
	_cleanup_free_ char *path = xasprintf("%s:%s", test_tmpdir(), getenv("PATH"));

	put("docker-credential-test", script, 0700);
	put("docker/config.json", "{\"credHelpers\":{\"r\":\"test\"}}", 0600);
	setenv("PATH", path, 1);
}

TEST(a_helper_is_asked_over_its_standard_input)
{
	_cleanup_store_ struct store s = {};
	_cleanup_credential_ struct credential c = {};

	set_up(&s);
	put_helper("#!/bin/sh\n[ \"$1\" = get ] && read -r server; printf '{\"Username\":\"%s\",\"Secret\":\"s\"}' "
		   "\"$server\"\n");
	ASSERT_EQ(auth_find(&s, "r", NULL, &c, NULL), 1);
	ASSERT_STREQ(c.user, "r");
	ASSERT_CONTAINS(c.origin, "docker-credential-test");
}

TEST(a_helper_that_knows_nothing_is_no_error_and_one_that_fails_is)
{
	_cleanup_store_ struct store s = {};
	_cleanup_error_ struct error e = {};
	struct credential c = {};

	set_up(&s);
	put_helper("#!/bin/sh\necho credentials not found in native keychain; exit 1\n");
	ASSERT_EQ(auth_find(&s, "r", NULL, &c, NULL), 0);
	put_helper("#!/bin/sh\necho hunter2; exit 1\n");
	ASSERT(auth_find(&s, "r", NULL, &c, &e) < 0);
	ASSERT_CONTAINS(e.msg, "docker-credential-test");
	ASSERT(!strstr(e.msg, "hunter2"));
	error_done(&e);
	put("docker/config.json", "{\"credHelpers\":{\"r\":\"absent\"}}", 0600);
	ASSERT(auth_find(&s, "r", NULL, &c, &e) < 0);
	ASSERT_CONTAINS(e.msg, "docker-credential-absent");
}
