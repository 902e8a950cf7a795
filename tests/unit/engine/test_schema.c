#include "engine/qemu/schema.h"

#include "test.h"

static const char text[] =
	"[{\"meta-type\":\"command\",\"name\":\"netdev_add\",\"arg-type\":\"1\",\"ret-type\":\"0\"},"
	"{\"meta-type\":\"object\",\"name\":\"1\",\"tag\":\"type\",\"members\":[{\"name\":\"type\",\"type\":\"2\"},{"
	"\"name\":\"id\",\"type\":\"str\"}],"
	"\"variants\":[{\"case\":\"user\",\"type\":\"3\"},{\"case\":\"loop\",\"type\":\"5\"}]},"
	"{\"meta-type\":\"enum\",\"name\":\"2\",\"values\":[\"user\",\"stream\"]},"
	"{\"meta-type\":\"object\",\"name\":\"3\",\"members\":[{\"name\":\"hostfwd\",\"type\":\"[4]\"}]},"
	"{\"meta-type\":\"array\",\"name\":\"[4]\",\"element-type\":\"4\"},"
	"{\"meta-type\":\"alternate\",\"name\":\"4\",\"members\":[{\"type\":\"str\"},{\"type\":\"2\"}]},"
	"{\"meta-type\":\"object\",\"name\":\"5\",\"members\":[{\"name\":\"self\",\"type\":\"5\"}],\"variants\":[{"
	"\"case\":\"x\",\"type\":\"5\"}]},"
	"{\"meta-type\":\"builtin\",\"name\":\"str\",\"json-type\":\"string\"},"
	"{\"meta-type\":\"event\",\"name\":\"SHUTDOWN\",\"arg-type\":\"3\"}]";

static struct json *schema(void)
{
	struct json *j = NULL;

	ASSERT_OK(json_parse(text, strlen(text), "schema", &j, NULL));
	return j;
}

TEST(commands_events_members_values_and_variants_are_found)
{
	_cleanup_json_ struct json *s = schema();

	ASSERT(qmp_schema_has(s, "netdev_add"));
	ASSERT(qmp_schema_has(s, "SHUTDOWN"));
	ASSERT(qmp_schema_has(s, "SHUTDOWN/hostfwd"));
	ASSERT(qmp_schema_has(s, "netdev_add/id"));
	ASSERT(qmp_schema_has(s, "netdev_add/type/stream"));
	ASSERT(qmp_schema_has(s, "netdev_add/hostfwd"));
	ASSERT(qmp_schema_has(s, "netdev_add/hostfwd/user"));
}

TEST(what_is_not_there_is_not_found)
{
	_cleanup_json_ struct json *s = schema();
	_cleanup_json_ struct json *other = json_object();

	ASSERT(!qmp_schema_has(s, ""));
	ASSERT(!qmp_schema_has(s, "netdev"));
	ASSERT(!qmp_schema_has(s, "netdev_add2"));
	ASSERT(!qmp_schema_has(s, "1"));
	ASSERT(!qmp_schema_has(s, "netdev_add/type/dgram"));
	ASSERT(!qmp_schema_has(s, "netdev_add/type/stream/x"));
	ASSERT(!qmp_schema_has(s, "netdev_add/id/x"));
	ASSERT(!qmp_schema_has(s, "netdev_add/i"));
	ASSERT(!qmp_schema_has(other, "netdev_add"));
	ASSERT(!qmp_schema_has(NULL, "netdev_add"));
}

TEST(a_circle_of_types_ends)
{
	_cleanup_json_ struct json *s = schema();

	ASSERT(qmp_schema_has(s, "netdev_add/self/self/self"));
	ASSERT(!qmp_schema_has(s, "netdev_add/self/nothing"));
}
