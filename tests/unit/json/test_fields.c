#include "json/json.h"

#include <errno.h>
#include <stddef.h>

#include "test.h"

struct disk {
	char *name;
	uint64_t size;
	struct strv tags;
};

struct machine {
	char *image;
	uint64_t memory;
	uint32_t cpus;
	bool agent;
	struct strv command, labels;
	int shape;
	struct {
		char *mode;
		uint32_t mtu;
	} net;
	struct disk *disks;
	size_t n_disks;
};

static const char *const shapes[] = { "micro", "full", NULL };
static const struct json_field net_fields[] = {
	{ "mode", JSON_STRING, offsetof(struct machine, net.mode) - offsetof(struct machine, net) },
	{ "mtu", JSON_U32, offsetof(struct machine, net.mtu) - offsetof(struct machine, net) },
	{},
};
static const struct json_field disk_fields[] = {
	{ "name", JSON_STRING, offsetof(struct disk, name), JSON_REQUIRED },
	{ "size", JSON_U64, offsetof(struct disk, size) },
	{ "tags", JSON_STRINGS, offsetof(struct disk, tags) },
	{},
};
static const struct json_field fields[] = {
	{ "image", JSON_STRING, offsetof(struct machine, image), JSON_REQUIRED },
	{ "memory", JSON_U64, offsetof(struct machine, memory) },
	{ "cpus", JSON_U32, offsetof(struct machine, cpus) },
	{ "agent", JSON_BOOL, offsetof(struct machine, agent) },
	{ "command", JSON_STRINGS, offsetof(struct machine, command) },
	{ "labels", JSON_MAP, offsetof(struct machine, labels) },
	{ "shape", JSON_ENUM, offsetof(struct machine, shape), .names = shapes },
	{ "net", JSON_OBJECT, offsetof(struct machine, net), .fields = net_fields },
	{ "disks", JSON_OBJECTS, offsetof(struct machine, disks), .fields = disk_fields,
	  .element_size = sizeof(struct disk), .count_offset = offsetof(struct machine, n_disks) },
	{},
};

static int load(const char *text, struct machine *m, struct json **ret, struct error *e)
{
	struct json *j = NULL;
	int r;

	ASSERT_OK(json_parse(text, strlen(text), "test", &j, NULL));
	r = json_load(j, fields, m, "machine.json", e);
	if (ret)
		*ret = j;
	else
		json_free(j);
	return r;
}

static const char whole[] =
	"{\"image\":\"debian\",\"memory\":18446744073709551615,\"cpus\":4,\"agent\":true,"
	"\"command\":[\"sh\",\"-c\",\"\"],\"labels\":{\"a\":\"1\",\"b\":\"x=y\"},\"shape\":\"full\","
	"\"net\":{\"mode\":\"user\",\"mtu\":1500},"
	"\"disks\":[{\"name\":\"system\",\"size\":5,\"tags\":[\"t\"]},{\"name\":\"home\",\"size\":0,\"tags\":[]}]}";

TEST(a_whole_record_is_loaded_and_stored_back)
{
	struct machine m = {};
	_cleanup_json_ struct json *out = json_object();
	_cleanup_buf_ struct buf b = {};

	ASSERT_OK(load(whole, &m, NULL, NULL));
	ASSERT_STREQ(m.image, "debian");
	ASSERT(m.memory == UINT64_MAX);
	ASSERT_EQ(m.cpus, 4);
	ASSERT(m.agent);
	ASSERT_EQ(m.command.n, 3);
	ASSERT_STREQ(m.labels.items[1], "b=x=y");
	ASSERT_EQ(m.shape, 1);
	ASSERT_STREQ(m.net.mode, "user");
	ASSERT_EQ(m.n_disks, 2);
	ASSERT_STREQ(m.disks[0].tags.items[0], "t");
	ASSERT_STREQ(m.disks[1].name, "home");
	json_store(out, fields, &m);
	json_render(out, false, &b);
	ASSERT_STREQ(b.p, whole);
	json_fields_done(fields, &m);
	ASSERT(!m.image && !m.disks && !m.n_disks && !m.command.n);
	json_fields_done(fields, &m);
}

TEST(what_is_missing_or_null_keeps_its_default)
{
	struct machine m = { .cpus = 2, .memory = 512, .agent = true, .shape = 1 };

	m.net.mode = xstrdup("user");
	strv_add(&m.command, "default");
	ASSERT_OK(load("{\"image\":\"x\",\"memory\":null,\"net\":{\"mtu\":9000},\"command\":null}", &m, NULL, NULL));
	ASSERT_EQ(m.cpus, 2);
	ASSERT_EQ(m.memory, 512);
	ASSERT(m.agent);
	ASSERT_EQ(m.shape, 1);
	ASSERT_STREQ(m.net.mode, "user");
	ASSERT_EQ(m.net.mtu, 9000);
	ASSERT_STREQ(m.command.items[0], "default");
	json_fields_done(fields, &m);
}

TEST(loading_twice_replaces)
{
	struct machine m = {};

	ASSERT_OK(load(whole, &m, NULL, NULL));
	ASSERT_OK(load("{\"image\":\"other\",\"disks\":[{\"name\":\"one\"}],\"command\":[\"x\"],\"labels\":{}}", &m,
		       NULL, NULL));
	ASSERT_STREQ(m.image, "other");
	ASSERT_EQ(m.n_disks, 1);
	ASSERT_EQ(m.command.n, 1);
	ASSERT_EQ(m.labels.n, 0);
	ASSERT_EQ(m.cpus, 4);
	json_fields_done(fields, &m);
}

TEST(a_wrong_type_is_told_with_its_path)
{
	static const struct {
		const char *text, *message;
	} cases[] = {
		{ "{}", "machine.json: image: missing" },
		{ "{\"image\":null}", "machine.json: image: missing" },
		{ "[]", "machine.json: document: expected an object" },
		{ "7", "machine.json: document: expected an object" },
		{ "{\"image\":7}", "machine.json: image: expected a string" },
		{ "{\"image\":\"x\",\"memory\":\"1\"}", "machine.json: memory: expected a number" },
		{ "{\"image\":\"x\",\"memory\":1.5}", "machine.json: memory: expected a number" },
		{ "{\"image\":\"x\",\"memory\":-1}", "machine.json: memory: number out of range" },
		{ "{\"image\":\"x\",\"cpus\":4294967296}", "machine.json: cpus: number out of range" },
		{ "{\"image\":\"x\",\"agent\":1}", "machine.json: agent: expected true or false" },
		{ "{\"image\":\"x\",\"command\":\"sh\"}", "machine.json: command: expected an array of strings" },
		{ "{\"image\":\"x\",\"command\":[\"a\",2]}", "machine.json: command[1]: expected a string" },
		{ "{\"image\":\"x\",\"command\":[null]}", "machine.json: command[0]: expected a string" },
		{ "{\"image\":\"x\",\"labels\":[]}", "machine.json: labels: expected an object of strings" },
		{ "{\"image\":\"x\",\"labels\":{\"k\":1}}", "machine.json: labels.k: expected a string" },
		{ "{\"image\":\"x\",\"labels\":{\"a=b\":\"1\"}}",
		  "machine.json: labels.a=b: a key must not be empty or hold '='" },
		{ "{\"image\":\"x\",\"shape\":2}", "machine.json: shape: expected a string" },
		{ "{\"image\":\"x\",\"shape\":\"big\"}",
		  "machine.json: shape: unknown value 'big', expected micro, full" },
		{ "{\"image\":\"x\",\"net\":[]}", "machine.json: net: expected an object" },
		{ "{\"image\":\"x\",\"net\":{\"mtu\":true}}", "machine.json: net.mtu: expected a number" },
		{ "{\"image\":\"x\",\"disks\":{}}", "machine.json: disks: expected an array of objects" },
		{ "{\"image\":\"x\",\"disks\":[{\"name\":\"a\"},3]}", "machine.json: disks[1]: expected an object" },
		{ "{\"image\":\"x\",\"disks\":[{\"name\":\"a\"},{\"name\":\"b\",\"size\":\"x\"}]}",
		  "machine.json: disks[1].size: expected a number" },
		{ "{\"image\":\"x\",\"disks\":[{\"size\":1}]}", "machine.json: disks[0].name: missing" },
		{ "{\"image\":\"x\",\"disks\":[{\"name\":\"a\",\"tags\":[\"x\",[]]}]}",
		  "machine.json: disks[0].tags[1]: expected a string" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_error_ struct error e = {};
		struct machine m = {};

		ASSERT_EQ(load(cases[i].text, &m, NULL, &e), -EBADMSG);
		ASSERT_STREQ(e.msg, cases[i].message);
		ASSERT_EQ(error_exit_status(&e), 65);
		json_fields_done(fields, &m);
	}
}

TEST(what_the_document_says_is_shown_safely)
{
	_cleanup_error_ struct error e = {};
	struct machine m = {};

	ASSERT_EQ(load("{\"image\":\"x\",\"shape\":\"\\u001b[2J0123456789012345678901234567890123456789\"}", &m, NULL,
		       &e),
		  -EBADMSG);
	ASSERT_STREQ(
		e.msg,
		"machine.json: shape: unknown value '?[2J012345678901234567890123456789012345…', expected micro, full");
	ASSERT_EQ(load("{\"image\":\"x\",\"labels\":{\"\\n\":1}}", &m, NULL, &e), -EBADMSG);
	ASSERT_STREQ(e.msg, "machine.json: labels.?: expected a string");
	json_fields_done(fields, &m);
}

TEST(unknown_keys_survive)
{
	static const char text[] = "{\"future\":[1],\"image\":\"x\",\"net\":{\"vlan\":7,\"mode\":\"user\"},"
				   "\"disks\":[{\"name\":\"a\",\"cache\":\"none\"},{\"name\":\"b\",\"bus\":\"scsi\"}]}";
	_cleanup_json_ struct json *j = NULL;
	_cleanup_buf_ struct buf b = {};
	struct machine m = {};
	struct disk first;

	ASSERT_OK(load(text, &m, &j, NULL));
	/* Entries change places: what belongs to a disk goes with it. */
	first = m.disks[0];
	m.disks[0] = m.disks[1];
	m.disks[1] = first;
	json_store(j, fields, &m);
	json_render(j, false, &b);
	ASSERT_CONTAINS(b.p, "\"future\":[1]");
	ASSERT_CONTAINS(b.p, "\"vlan\":7");
	ASSERT_CONTAINS(b.p, "[{\"name\":\"b\",\"size\":0,\"tags\":[],\"bus\":\"scsi\"},{\"name\":\"a\",\"size\":0,"
			     "\"tags\":[],\"cache\":\"none\"}]");
	json_fields_done(fields, &m);
}

TEST(a_null_string_is_left_out)
{
	_cleanup_json_ struct json *j = NULL;
	struct machine m = {};

	ASSERT_OK(load(whole, &m, &j, NULL));
	free(m.net.mode);
	m.net.mode = NULL;
	json_store(j, fields, &m);
	ASSERT(json_is_null(json_get(json_get(j, "net"), "mode")));
	json_fields_done(fields, &m);
}

TEST(what_is_empty_may_be_left_out)
{
	static const char text[] = "{\"future\":[],\"image\":\"x\",\"command\":[],\"labels\":{},"
				   "\"disks\":[{\"name\":\"a\",\"tags\":[]}]}";
	_cleanup_json_ struct json *j = NULL;
	struct machine m = {}, again = {};

	ASSERT_OK(load(text, &m, &j, NULL));
	json_store_short(j, fields, &m);
	ASSERT(json_get(j, "future") && json_get(j, "disks"));
	ASSERT(!json_get(j, "command") && !json_get(j, "labels"));
	ASSERT(!json_get(json_at(json_get(j, "disks"), 0), "tags"));
	/* The same is read again. */
	ASSERT_OK(json_load(j, fields, &again, "t", NULL));
	ASSERT_EQ(again.n_disks, 1);
	ASSERT_EQ(again.command.n + again.labels.n + again.disks[0].tags.n, 0);
	json_fields_done(fields, &again);
	json_fields_done(fields, &m);
}

TEST(arrays_have_a_limit)
{
	_cleanup_error_ struct error e = {};
	_cleanup_buf_ struct buf b = {};
	struct machine m = {};

	buf_adds(&b, "{\"image\":\"x\",\"disks\":[{}");
	for (int i = 0; i < 70000; i++)
		buf_adds(&b, ",{}");
	buf_adds(&b, "]}");
	ASSERT_EQ(load(b.p, &m, NULL, &e), -EBADMSG);
	ASSERT_STREQ(e.msg, "machine.json: disks: too many entries");
	ASSERT(!m.disks);
	json_fields_done(fields, &m);
}
