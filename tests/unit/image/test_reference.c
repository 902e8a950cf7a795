#include "image/reference.h"

#include <errno.h>

#include "base/buf.h"
#include "base/memory.h"
#include "test.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

TEST(references_are_taken_apart_and_named_shortly)
{
	static const struct {
		const char *given, *registry, *repository, *tag, *digest, *name;
	} good[] = {
		{ "debian", "docker.io", "library/debian", "latest", "", "debian:latest" },
		{ "debian:12", "docker.io", "library/debian", "12", "", "debian:12" },
		{ "docker.io/library/debian:12", "docker.io", "library/debian", "12", "", "debian:12" },
		{ "index.docker.io/me/app", "docker.io", "me/app", "latest", "", "me/app:latest" },
		{ "index.docker.io/docker.io/x", "docker.io", "docker.io/x", "latest", "",
		  "docker.io/docker.io/x:latest" },
		{ "me/app:_v1.0-rc", "docker.io", "me/app", "_v1.0-rc", "", "me/app:_v1.0-rc" },
		{ "library/a/b", "docker.io", "library/a/b", "latest", "", "library/a/b:latest" },
		{ "localhost/x", "localhost", "x", "latest", "", "localhost/x:latest" },
		{ "localhost:5000/x:1", "localhost:5000", "x", "1", "", "localhost:5000/x:1" },
		{ "Registry.Example/a-b/c__d.e:T", "Registry.Example", "a-b/c__d.e", "T", "",
		  "Registry.Example/a-b/c__d.e:T" },
		{ "[::1]:5000/x", "[::1]:5000", "x", "latest", "", "[::1]:5000/x:latest" },
		{ "debian@sha256:" HEX, "docker.io", "library/debian", "", "sha256:" HEX, "debian@sha256:" HEX },
		{ "quay.io/a/b:1@sha256:" HEX, "quay.io", "a/b", "1", "sha256:" HEX, "quay.io/a/b@sha256:" HEX },
		{ "sha256", "docker.io", "library/sha256", "latest", "", "sha256:latest" },
		{ "a---b", "docker.io", "library/a---b", "latest", "", "a---b:latest" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		_cleanup_free_ char *name = NULL;
		struct reference r;

		ASSERT_OK(reference_parse(good[i].given, &r, NULL));
		ASSERT_STREQ(r.registry, good[i].registry);
		ASSERT_STREQ(r.repository, good[i].repository);
		ASSERT_STREQ(r.tag, good[i].tag);
		ASSERT_STREQ(r.digest, good[i].digest);
		name = reference_name(&r);
		ASSERT_STREQ(name, good[i].name);
	}
}

TEST(bad_references_are_refused)
{
	static const char *const bad[] = {
		"",
		":",
		":tag",
		"a:",
		"a:-x",
		"a:.x",
		"a:b:c",
		"a//b",
		"/a",
		"a/",
		"../a",
		"a/../b",
		"a/.b",
		"a b",
		"a:b c",
		"a:\n",
		"a@b",
		"a/:x",
		"\xff",
		"Upper",
		"a/Bc",
		"a..b",
		"a._b",
		"-a",
		"a-",
		"a___b_.c",
		"x:y/z",
		"a@sha256:12",
		"[::1/x",
		"h:port/x",
		"h:123456/x",
		"-h.x/a",
		("a@md5:" HEX),
		"a:b@",
		"http://x/y",
		"sha256:aaaa",
		("sha256:" HEX),
	};
	_cleanup_buf_ struct buf b = {};
	struct reference r;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_error_ struct error e = {};

		if (reference_parse(bad[i], &r, &e) != -EINVAL)
			test_fail(__FILE__, __LINE__, "'%s' is taken", bad[i]);
		ASSERT_EQ(error_exit_status(&e), 64);
	}
	/* A host may be called so. */
	ASSERT_OK(reference_parse("sha256:5000/x", &r, NULL));
	for (int i = 0; i < 247; i++)
		buf_addc(&b, 'x');
	ASSERT_OK(reference_parse(b.p, &r, NULL));
	buf_addc(&b, 'x');
	ASSERT_EQ(reference_parse(b.p, &r, NULL), -EINVAL);
	buf_truncate(&b, 0);
	buf_adds(&b, "a:");
	for (int i = 0; i < 128; i++)
		buf_addc(&b, 'x');
	ASSERT_OK(reference_parse(b.p, &r, NULL));
	buf_addc(&b, 'x');
	ASSERT_EQ(reference_parse(b.p, &r, NULL), -EINVAL);
}

TEST(digests_are_told_from_names)
{
	ASSERT(is_digest("sha256:" HEX));
	ASSERT_STREQ(digest_hex("sha256:" HEX), HEX);
	ASSERT(!is_digest("sha256:" HEX "0"));
	ASSERT(!is_digest("sha256:../../../../etc/passwd"));
	ASSERT(!is_digest(NULL));
	ASSERT(is_digest_prefix("sha256:0123456789ab"));
	ASSERT(!is_digest_prefix("sha256:0123456789a"));
	ASSERT(!is_digest_prefix("sha256:0123456789AB"));
	ASSERT(!is_digest_prefix("sha256:latest"));
}
