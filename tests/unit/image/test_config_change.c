#include "image/config_change.h"

#include <errno.h>

#include "base/memory.h"
#include "test.h"

static struct json *parse(const char *text)
{
	struct json *j = NULL;

	ASSERT_OK(json_parse(text, strlen(text), "test", &j, NULL));
	return j;
}

static void expect(const char *before, const char *change, const char *after)
{
	_cleanup_json_ struct json *j = parse(before);
	_cleanup_error_ struct error e = {};
	_cleanup_buf_ struct buf out = {};

	if (config_change(j, change, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s: %s", change, e.msg);
	json_render(j, false, &out);
	ASSERT_STREQ(out.p, after);
}

#define C(body) "{\"config\":{" body "}}"

TEST(each_change)
{
	expect("{}", "CMD echo hi", C("\"Cmd\":[\"/bin/sh\",\"-c\",\"echo hi\"]"));
	expect("{}", "cmd [\"a\",\"b c\"]", C("\"Cmd\":[\"a\",\"b c\"]"));
	expect(C("\"Cmd\":[\"x\"]"), "ENTRYPOINT [\"/app\"]", C("\"Entrypoint\":[\"/app\"]"));
	expect(C("\"Cmd\":[\"x\"]"), "CMD []", C("\"Cmd\":[]"));
	expect("{}", "ENV A=b c", C("\"Env\":[\"A=b c\"]"));
	expect(C("\"Env\":[\"AB=1\",\"A=x\",\"B=2\"]"), "ENV A \"y z\"", C("\"Env\":[\"AB=1\",\"A=y z\",\"B=2\"]"));
	expect("{}", "USER dev:dev", C("\"User\":\"dev:dev\""));
	expect("{}", " WORKDIR   /srv ", C("\"WorkingDir\":\"/srv\""));
	expect("{}", "EXPOSE 80 53/udp", C("\"ExposedPorts\":{\"80/tcp\":{},\"53/udp\":{}}"));
	expect(C("\"Labels\":{\"a\":\"1\"}"), "LABEL b=2", C("\"Labels\":{\"a\":\"1\",\"b\":\"2\"}"));
	expect("{}", "VOLUME [\"/a b\", \"/c\"]", C("\"Volumes\":{\"/a b\":{},\"/c\":{}}"));
	expect("{}", "STOPSIGNAL SIGINT", C("\"StopSignal\":\"SIGINT\""));
	expect(C("\"Labels\":null"), "LABEL b=2", C("\"Labels\":{\"b\":\"2\"}"));
}

TEST(what_is_none_is_refused)
{
	static const char *const wrong[] = { "",       "FROM x",      "RUN x",       "ENV",         "ENV =x",
					     "ENV A",  "WORKDIR srv", "EXPOSE http", "VOLUME data", "USER",
					     "LABEL x" };

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		_cleanup_json_ struct json *j = json_object();
		_cleanup_error_ struct error e = {};

		if (config_change(j, wrong[i], &e) != -EINVAL || e.kind != ERROR_USAGE)
			test_fail(__FILE__, __LINE__, "'%s' was taken", wrong[i]);
	}
}
