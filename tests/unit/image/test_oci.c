#include "image/oci.h"

#include <errno.h>

#include "test.h"

#define HEX  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define DESC "\"mediaType\":\"x/y\",\"digest\":\"sha256:" HEX "\",\"size\":3"

static int manifest(const char *text, struct oci_manifest *ret, struct error *err)
{
	return oci_manifest_parse(text, strlen(text), "manifest", ret, err);
}

TEST(a_manifest_comes_back_as_it_was_written)
{
	static const char text[] = "{\"schemaVersion\":2,\"config\":{" DESC "},\"layers\":[{" DESC
				   ",\"annotations\":{\"a\":\"b\",\"n\":3}}],\"annotations\":{\"k\":\"v=w\"}}";
	_cleanup_(oci_manifest_done) struct oci_manifest m = {}, again = {};
	_cleanup_buf_ struct buf out = {};

	ASSERT_OK(manifest(text, &m, NULL));
	ASSERT_STREQ(m.media_type, OCI_MANIFEST_TYPE);
	ASSERT_EQ(m.n_layers, 1);
	ASSERT_EQ(m.layers[0].size, 3);
	ASSERT_STREQ(oci_annotation(&m.layers[0], "a"), "b");
	ASSERT(!oci_annotation(&m.layers[0], "n"));
	oci_manifest_render(&m, &out);
	ASSERT_OK(manifest(out.p, &again, NULL));
	ASSERT_STREQ(again.annotations.items[0], "k=v=w");
	ASSERT_STREQ(again.layers[0].digest, m.layers[0].digest);
}

TEST(damaged_manifests_are_refused)
{
	static const char *const bad[] = {
		"",
		"[]",
		"{}",
		"{\"config\":{" DESC "}}",
		"{\"config\":3,\"layers\":[]}",
		"{\"config\":{" DESC "},\"layers\":{}}",
		"{\"config\":{" DESC "},\"layers\":[3]}",
		"{\"config\":{\"mediaType\":\"x\",\"digest\":\"sha256:../..\",\"size\":3},\"layers\":[]}",
		"{\"config\":{\"mediaType\":\"x\",\"digest\":\"sha256:" HEX "\",\"size\":-1},\"layers\":[]}",
		"{\"config\":{\"mediaType\":\"x\",\"digest\":\"sha256:" HEX
		"\",\"size\":18446744073709551615},\"layers\":[]}",
		"{\"config\":{\"mediaType\":\"x\",\"digest\":\"sha256:" HEX
		"\",\"size\":99999999999999999999},\"layers\":[]}",
		"{\"mediaType\":\"" OCI_INDEX_TYPE "\",\"config\":{" DESC "},\"layers\":[]}",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_error_ struct error e = {};
		struct oci_manifest m = {};

		if (manifest(bad[i], &m, &e) >= 0)
			test_fail(__FILE__, __LINE__, "taken: %s", bad[i]);
		ASSERT_EQ(error_exit_status(&e), 65);
	}
}

TEST(an_index_is_chosen_from_by_platform)
{
	static const char text[] = "{\"manifests\":[{" DESC
				   ",\"platform\":{\"os\":\"linux\",\"architecture\":\"arm64\",\"variant\":\"v8\"}},"
				   "{" DESC ",\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}},"
				   "{" DESC ",\"platform\":{\"os\":\"unknown\",\"architecture\":\"unknown\"}}]}";
	_cleanup_(oci_index_done) struct oci_index i = {};

	ASSERT_OK(oci_index_parse(text, strlen(text), "index", &i, NULL));
	ASSERT(oci_index_choose(&i, "linux/amd64") == &i.manifests[1]);
	ASSERT(oci_index_choose(&i, "linux/arm64") == &i.manifests[0]);
	ASSERT(oci_index_choose(&i, "linux/arm64/v8") == &i.manifests[0]);
	ASSERT(!oci_index_choose(&i, "linux/arm64/v7"));
	ASSERT(!oci_index_choose(&i, "linux/amd"));
	ASSERT(!oci_index_choose(&i, "linux"));
	ASSERT(oci_index_choose(&i, NULL));
}

/* linux/amd64/VARIANT in this order; "" = without one. */
static int chosen(const char *const *variants, size_t n, const char *platform)
{
	_cleanup_(oci_index_done) struct oci_index i = {};
	const struct oci_descriptor *d;
	_cleanup_buf_ struct buf text = {};

	buf_adds(&text, "{\"manifests\":[");
	for (size_t k = 0; k < n; k++) {
		buf_adds(&text, k ? ",{" : "{");
		buf_adds(&text, DESC ",\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"");
		if (*variants[k])
			buf_addf(&text, ",\"variant\":\"%s\"", variants[k]);
		buf_adds(&text, "}}");
	}
	buf_adds(&text, "]}");
	ASSERT_OK(oci_index_parse(text.p, text.len, "index", &i, NULL));
	d = oci_index_choose(&i, platform);
	return d ? (int)(d - i.manifests) : -1;
}

TEST(without_a_variant_the_one_that_runs_everywhere_is_chosen)
{
	ASSERT_EQ(chosen((const char *[]){ "v3", "", "v2" }, 3, "linux/amd64"), 1);
	ASSERT_EQ(chosen((const char *[]){ "v3", "v2", "v1" }, 3, "linux/amd64"), 2);
	ASSERT_EQ(chosen((const char *[]){ "v3", "v2" }, 2, "linux/amd64"), 0);
	ASSERT_EQ(chosen((const char *[]){ "", "v3" }, 2, "linux/amd64/v3"), 1);
	ASSERT_EQ(chosen((const char *[]){ "", "v3" }, 2, "linux/amd64/v2"), -1);
}

TEST(a_configuration_gives_what_concerns_us)
{
	static const char text[] =
		"{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{\"Env\":[\"A=1\"],\"Entrypoint\":null,"
		"\"Cmd\":[\"sh\"],"
		"\"Volumes\":{\"/data\":{}},\"ExposedPorts\":{\"80/tcp\":{},\"53/udp\":{}},\"Labels\":{\"a\":\"b\"},"
		"\"User\":\"1:2\",\"WorkingDir\":\"/w\",\"StopSignal\":\"SIGINT\"},"
		"\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:" HEX "\"]}}";
	_cleanup_(oci_config_done) struct oci_config c = {};
	_cleanup_error_ struct error e = {};
	static const char bad[] = "{\"config\":{\"Cmd\":\"sh\"}}";
	struct oci_config none = {};

	ASSERT_OK(oci_config_parse(text, strlen(text), "config", &c, NULL, NULL));
	ASSERT_EQ(c.entrypoint.n, 0);
	ASSERT_STREQ(c.command.items[0], "sh");
	ASSERT_STREQ(c.volumes.items[0], "/data");
	ASSERT_EQ(c.exposed_ports.n, 2);
	ASSERT_STREQ(c.labels.items[0], "a=b");
	ASSERT_STREQ(c.user, "1:2");
	ASSERT_STREQ(c.workdir, "/w");
	ASSERT_STREQ(c.stop_signal, "SIGINT");
	ASSERT_EQ(c.diff_ids.n, 1);
	ASSERT_EQ(oci_config_parse(bad, strlen(bad), "config", &none, NULL, &e), -EBADMSG);
	ASSERT_CONTAINS(e.msg, "Cmd");
}
