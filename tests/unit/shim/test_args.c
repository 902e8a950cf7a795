#include "base/memory.h"
#include "shim/args.h"
#include "test.h"

static struct shim_args parse(const char *const *words, int expected)
{
	char *argv[16];
	struct shim_args a = {};
	int n = 0;

	argv[n++] = (char *)(uintptr_t) "shim";
	for (; *words; words++)
		argv[n++] = (char *)(uintptr_t)*words; /* nobody writes to it */
	ASSERT_EQ(shim_args_parse(n, argv, &a, NULL), expected);
	return a;
}

TEST(flags_are_read_as_the_callers_language_reads_them)
{
	static const char *const forms[][12] = {
		{ "-namespace", "k8s.io", "-address", "/c.sock", "-publish-binary", "/bin/c", "-id", "x", "start",
		  NULL },
		{ "--namespace", "k8s.io", "--address", "/c.sock", "--publish-binary", "/bin/c", "--id", "x", "start",
		  NULL },
		{ "-namespace=k8s.io", "--address=/c.sock", "-publish-binary=/bin/c", "-id=x", "start", NULL },
		{ "start", "-id", "x", "-namespace", "k8s.io", "-address", "/c.sock", "-publish-binary=/bin/c", NULL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		struct shim_args a = parse(forms[i], 0);

		ASSERT_STREQ(a.namespace, "k8s.io");
		ASSERT_STREQ(a.address, "/c.sock");
		ASSERT_STREQ(a.publish_binary, "/bin/c");
		ASSERT_STREQ(a.id, "x");
		ASSERT_STREQ(a.action, "start");
		ASSERT_STREQ(a.bundle, "");
		ASSERT(!a.debug);
	}
}

TEST(flags_without_a_value_may_have_one)
{
	ASSERT(parse((const char *const[]){ "-debug", "start", NULL }, 0).debug);
	ASSERT(parse((const char *const[]){ "-debug=true", NULL }, 0).debug);
	ASSERT(!parse((const char *const[]){ "-debug=false", NULL }, 0).debug);
	ASSERT(parse((const char *const[]){ "-info", NULL }, 0).info);
	ASSERT(parse((const char *const[]){ "-v", NULL }, 0).version);
	(void)parse((const char *const[]){ "-debug=perhaps", NULL }, -EINVAL);
}

TEST(what_nobody_knows_is_refused)
{
	(void)parse((const char *const[]){ "-nope", "x", NULL }, -EINVAL);
	(void)parse((const char *const[]){ "-id", NULL }, -EINVAL);
	(void)parse((const char *const[]){ "start", "delete", NULL }, -EINVAL);
	(void)parse((const char *const[]){ "-i", "x", NULL }, -EINVAL);
}
