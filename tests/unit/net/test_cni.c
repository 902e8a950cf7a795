/* Lists of plugins: which is chosen, and what the plugins (scripts here, that write down how they were called) are told. */
#include "net/cni.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "test.h"

#define LIST                                                                                    \
	"{\"cniVersion\":\"1.0.0\",\"name\":\"net\",\"plugins\":[{\"type\":\"first\",\"a\":1}," \
	"{\"type\":\"second\",\"capabilities\":{\"portMappings\":true,\"mac\":true,\"ips\":false}}]}"

static void put(const char *name, const char *text, mode_t mode)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", test_tmpdir(), name);

	ASSERT_OK(file_write_at(AT_FDCWD, path, text, strlen(text), mode, 0));
}

static void put_plugin(const char *name, const char *then)
{
	_cleanup_free_ char *text = xasprintf(
		"#!/bin/sh\n"
		"{ echo \"$CNI_COMMAND %s $CNI_CONTAINERID $CNI_NETNS $CNI_IFNAME $CNI_PATH\"; cat; echo; } >>%s/log\n"
		"%s\n",
		name, test_tmpdir(), then);

	put(name, text, 0755);
}

static char *take_log(void)
{
	_cleanup_free_ char *path = xasprintf("%s/log", test_tmpdir());
	_cleanup_buf_ struct buf b = {};

	(void)file_read_at(AT_FDCWD, path, 1 << 20, &b);
	(void)unlink(path);
	return buf_take(&b);
}

static struct json *parsed(const char *text)
{
	struct json *j = NULL;
	struct error e = {};

	if (cni_network_parse(text, strlen(text), "test", &j, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	return j;
}

static struct cni here(void)
{
	static const char *directories[3];

	directories[0] = "/nonexistent";
	directories[1] = test_tmpdir();
	return (struct cni){ .config_directory = test_tmpdir(),
			     .plugin_directories = directories,
			     .timeout_ns = 100 * NS_PER_SEC };
}

static void assert_no_network(const char *text, const char *why)
{
	struct json *j = NULL;
	struct error e = {};

	if (cni_network_parse(text, strlen(text), "test.conflist", &j, &e) >= 0)
		test_fail(__FILE__, __LINE__, "taken: %s", text);
	ASSERT_EQ(e.kind, ERROR_DATA);
	ASSERT_CONTAINS(e.msg, "test.conflist");
	ASSERT_CONTAINS(e.msg, why);
	error_done(&e);
}

TEST(what_is_no_network_is_refused)
{
	_cleanup_buf_ struct buf many = {};

	assert_no_network("", "not valid JSON");
	assert_no_network("[]", "no object");
	assert_no_network("{}", "name");
	assert_no_network("{\"cniVersion\":\"1.0.0\",\"name\":\"a/b\",\"plugins\":[{\"type\":\"x\"}]}", "name");
	assert_no_network("{\"cniVersion\":\"0.2.0\",\"name\":\"a\",\"plugins\":[{\"type\":\"x\"}]}",
			  "cniVersion '0.2.0'");
	assert_no_network("{\"name\":\"a\",\"plugins\":[{\"type\":\"x\"}]}", "cniVersion ''");
	assert_no_network("{\"cniVersion\":\"1.0.0\",\"name\":\"a\",\"plugins\":[]}", "no plugins");
	assert_no_network("{\"cniVersion\":\"1.0.0\",\"name\":\"a\",\"plugins\":{}}", "no plugins");
	assert_no_network("{\"cniVersion\":\"1.0.0\",\"name\":\"a\",\"plugins\":[1]}", "plugin 1");
	assert_no_network("{\"cniVersion\":\"1.0.0\",\"name\":\"a\",\"plugins\":[{\"type\":\"../sh\"}]}", "plugin 1");
	assert_no_network("{\"cniVersion\":\"1.0.0\",\"name\":\"a\",\"plugins\":[{\"type\":\"..\"}]}", "plugin 1");
	assert_no_network("{\"cniVersion\":\"1.0.0\",\"name\":\"a\",\"plugins\":[{\"type\":\"x\"},{}]}", "plugin 2");
	buf_adds(&many, "{\"cniVersion\":\"1.0.0\",\"name\":\"a\",\"plugins\":[");
	for (int i = 0; i < 33; i++)
		buf_addf(&many, "%s{\"type\":\"x\"}", i ? "," : "");
	buf_adds(&many, "]}");
	assert_no_network(many.p, "more than 32");
}

TEST(one_plugin_alone_is_a_list_of_one)
{
	_cleanup_json_ struct json *j = parsed("{\"cniVersion\":\"0.4.0\",\"name\":\"old\",\"type\":\"first\"}");

	ASSERT_STREQ(json_string(json_get(j, "name")), "old");
	ASSERT_EQ(json_length(json_get(j, "plugins")), 1);
	ASSERT_STREQ(json_string(json_get(json_at(json_get(j, "plugins"), 0), "type")), "first");
}

TEST(the_first_by_name_is_chosen_or_the_one_that_is_called_so)
{
	struct cni c = here();
	_cleanup_json_ struct json *first = NULL, *named = NULL, *none = NULL;
	struct error e = {};

	ASSERT_EQ(cni_network(&c, NULL, &none, &e), -ENOENT);
	ASSERT(e.hint);
	error_done(&e);
	put("notes.txt", "no network", 0644);
	put("20-other.conflist", "{\"cniVersion\":\"1.0.0\",\"name\":\"other\",\"plugins\":[{\"type\":\"x\"}]}", 0644);
	put("10-net.conflist", LIST, 0644);
	ASSERT_OK(cni_network(&c, NULL, &first, &e));
	ASSERT_STREQ(json_string(json_get(first, "name")), "net");
	ASSERT_OK(cni_network(&c, "other", &named, &e));
	ASSERT_STREQ(json_string(json_get(named, "name")), "other");
	ASSERT_EQ(cni_network(&c, "third", &none, &e), -ENOENT);
	ASSERT_CONTAINS(e.msg, "'third'");
	error_done(&e);
	put("00-bad.conf", "{", 0644);
	ASSERT(cni_network(&c, NULL, &none, &e) < 0);
	ASSERT_CONTAINS(e.msg, "00-bad.conf");
	error_done(&e);
	c.config_directory = "/nonexistent/net.d";
	ASSERT_EQ(cni_network(&c, NULL, &none, &e), -ENOENT);
	error_done(&e);
}

TEST(plugins_are_called_in_order_each_with_the_result_before)
{
	static const char arguments[] = "{\"portMappings\":[{\"hostPort\":1}],\"ips\":[\"10.0.0.1\"]}";
	_cleanup_json_ struct json *network = parsed(LIST), *capabilities = NULL, *result = NULL;
	struct cni_attachment a = { network, "c1", "/run/netns/c1", "eth0", NULL };
	_cleanup_free_ char *log = NULL, *unlog = NULL;
	struct cni c = here();
	struct error e = {};

	ASSERT_OK(json_parse(arguments, strlen(arguments), "", &capabilities, NULL));
	a.capabilities = capabilities;
	put_plugin("first", "[ $CNI_COMMAND = DEL ] || echo '{\"by\":\"first\"}'");
	put_plugin(
		"second",
		"[ $CNI_COMMAND = DEL ] || echo "
		"'{\"by\":\"second\",\"dns\":{\"nameservers\":[\"10.0.0.53\",\"x\",5],\"search\":[\"a.b\",\"-\"]}}'");
	if (cni_add(&c, &a, &result, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	ASSERT_STREQ(json_string(json_get(result, "by")), "second");
	log = take_log();
	ASSERT_CONTAINS(log, "ADD first c1 /run/netns/c1 eth0 /nonexistent:/");
	ASSERT(strstr(log, "ADD first") < strstr(log, "ADD second"));
	ASSERT_CONTAINS(log, "{\"type\":\"first\",\"a\":1,\"cniVersion\":\"1.0.0\",\"name\":\"net\"}");
	ASSERT_CONTAINS(log,
			"\"runtimeConfig\":{\"portMappings\":[{\"hostPort\":1}]},\"prevResult\":{\"by\":\"first\"}");
	a.netns = NULL;
	ASSERT_OK(cni_del(&c, &a, result, &e));
	unlog = take_log();
	ASSERT(strstr(unlog, "DEL second") < strstr(unlog, "DEL first"));
	ASSERT_CONTAINS(unlog, "DEL first c1  eth0");
	ASSERT_CONTAINS(strstr(unlog, "DEL first"), "\"prevResult\":{\"by\":\"second\"");
	{
		_cleanup_strv_ struct strv servers = {}, search = {};

		cni_dns(result, &servers, &search);
		cni_dns(NULL, &servers, &search);
		ASSERT_EQ(servers.n, 1);
		ASSERT_STREQ(servers.items[0], "10.0.0.53");
		ASSERT_EQ(search.n, 1);
	}
}

static void assert_add_fails(const struct json *network, const char *text, enum error_kind kind)
{
	const struct cni_attachment a = { network, "c1", "/run/netns/c1", "eth0", NULL };
	struct json *result = NULL;
	struct cni c = here();
	struct error e = {};

	if (kind == ERROR_TIMEOUT)
		c.timeout_ns = 3 * NS_PER_SEC;
	ASSERT(cni_add(&c, &a, &result, &e) < 0);
	ASSERT(!result);
	ASSERT_CONTAINS(e.msg, "network 'net': ");
	ASSERT_CONTAINS(e.msg, text);
	ASSERT_EQ(e.kind, kind);
	error_done(&e);
}

TEST(an_add_that_fails_is_undone_and_says_why)
{
	_cleanup_json_ struct json *network = parsed(LIST);
	_cleanup_free_ char *log = NULL;

	assert_add_fails(network, "plugin 'first' is not installed", ERROR_UNAVAILABLE);
	put_plugin("first", "echo '{}'");
	put_plugin("second", "[ $CNI_COMMAND = DEL ] || { echo '{\"code\":100,\"msg\":\"no \\u001b "
			     "way\",\"details\":\"none left\"}'; exit 1; }");
	assert_add_fails(network, "plugin 'second': no ", ERROR_FAILED);
	log = take_log();
	ASSERT_CONTAINS(log, "DEL second");
	ASSERT_CONTAINS(log, "DEL first");
	put_plugin("second", "[ $CNI_COMMAND = DEL ] || { echo '{\"code\":11,\"msg\":\"later\"}'; exit 1; }");
	assert_add_fails(network, "plugin 'second': later", ERROR_BUSY);
	put_plugin("second", "[ $CNI_COMMAND = DEL ] || { echo noise >&2; echo 'the reason' >&2; exit 3; }");
	assert_add_fails(network, "plugin 'second': the reason", ERROR_FAILED);
	put_plugin("second", "[ $CNI_COMMAND = DEL ] || exit 3");
	assert_add_fails(network, "gives no reason", ERROR_FAILED);
	put_plugin("second", "exit 0");
	assert_add_fails(network, "plugin 'second': its result", ERROR_DATA);
	put_plugin("second", "echo '[1]'");
	assert_add_fails(network, "its result: it is no object", ERROR_DATA);
	put_plugin("second", "[ $CNI_COMMAND = DEL ] || exec tail -f /dev/null");
	assert_add_fails(network, "plugin 'second'", ERROR_TIMEOUT);
}

TEST(a_del_goes_on_after_a_failure)
{
	_cleanup_json_ struct json *network = parsed(LIST);
	const struct cni_attachment a = { network, "c1", NULL, "eth0", NULL };
	_cleanup_free_ char *log = NULL;
	struct cni c = here();
	struct error e = {};

	put_plugin("first", "exit 0");
	put_plugin("second", "echo '{\"code\":7,\"msg\":\"busy\"}'; exit 1");
	ASSERT(cni_del(&c, &a, NULL, &e) < 0);
	ASSERT_CONTAINS(e.msg, "network 'net': plugin 'second': busy");
	error_done(&e);
	log = take_log();
	ASSERT_CONTAINS(log, "DEL first");
	ASSERT(!strstr(log, "prevResult"));
}

TEST(ids_and_interfaces_are_checked)
{
	static const char *const ids[] = { "", "a/b", "-x", ".x", "a b", "a\n" };
	static const char *const interfaces[] = { "", "a/b", "..", "a:b", "sixteen-bytes-xx", "a b" };
	_cleanup_json_ struct json *network = parsed(LIST);
	struct cni c = here();

	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		const struct cni_attachment a = { network, ids[i], "/x", "eth0", NULL };

		ASSERT_EQ(cni_del(&c, &a, NULL, NULL), -EINVAL);
	}
	for (size_t i = 0; i < ARRAY_SIZE(interfaces); i++) {
		const struct cni_attachment a = { network, "c1", "/x", interfaces[i], NULL };
		struct json *result = NULL;

		ASSERT_EQ(cni_add(&c, &a, &result, NULL), -EINVAL);
	}
}
