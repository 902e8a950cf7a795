/* Documents: what a reference leads to, and who may see it. */
#include "image/pull.h"

#include "image/blob.h"

#include "registry_peer.h"
#include "test.h"

TEST(an_image_is_pulled_and_nothing_of_it_again)
{
	unsigned blobs, gets;

	peer_pull_whole(HONEST);
	blobs = peer_world.shared->blob_requests;
	gets = peer_world.shared->manifest_gets;
	ASSERT_EQ(blobs, PEER_LAYERS + 1);
	ASSERT_EQ(gets, 1);
	ASSERT_OK(peer_pull(NULL));
	ASSERT_EQ(peer_world.shared->blob_requests, blobs);
	ASSERT_EQ(peer_world.shared->manifest_gets, gets);
}

TEST(a_registry_that_tells_no_digest_will_do)
{
	peer_pull_whole(NO_DIGEST);
}

TEST(a_document_that_is_not_what_was_announced_is_refused)
{
	peer_pull_refused(WRONG_DIGEST, ERROR_DATA, "the registry says that it is");
}

TEST(a_document_without_end_is_refused)
{
	peer_pull_refused(ENDLESS_DOCUMENT, ERROR_DATA, "longer than");
}

TEST(a_token_is_fetched_once_and_again_when_it_has_run_out)
{
	struct credential me = { .user = xstrdup("me"), .secret = xstrdup("pw"), .origin = xstrdup("test") };
	_cleanup_(oci_descriptor_done) struct oci_descriptor d = {}, again = {};
	struct store other;

	peer_open_store();
	peer_make_world();
	peer_world.shared->wants_token = true;
	peer_start();
	ASSERT_OK(peer_pull_as(&me, "linux/amd64", &d, NULL));
	peer_assert_whole();
	ASSERT_EQ(peer_world.shared->token_requests, 1);
	ASSERT_CONTAINS(peer_world.shared->scope, "service=test");
	ASSERT_CONTAINS(peer_world.shared->scope, "scope=repository%3Ame%2Fapp%3Apull");
	other = peer_store;
	{
		_cleanup_free_ char *home = xasprintf("%s/second", test_tmpdir());

		setenv("SKERRY_HOME", home, 1);
		ASSERT_OK(store_open(&peer_store, NULL));
	}
	peer_world.shared->token_runs_out = true;
	ASSERT_OK(peer_pull_as(&me, "linux/amd64", &again, NULL));
	peer_assert_whole();
	ASSERT(peer_world.shared->token_requests > 2);
	store_done(&other);
	credential_done(&me);
}

TEST(wrong_credentials_are_told_from_missing_ones)
{
	struct credential wrong = { .user = xstrdup("me"),
				    .secret = xstrdup("hunter2"),
				    .origin = xstrdup("auth.json") };
	_cleanup_(oci_descriptor_done) struct oci_descriptor d = {};
	_cleanup_error_ struct error e = {};

	peer_open_store();
	peer_make_world();
	peer_world.shared->wants_token = true;
	peer_start();
	ASSERT(peer_pull_as(&wrong, NULL, &d, &e) < 0);
	ASSERT_EQ((int)e.kind, ERROR_DENIED);
	ASSERT_CONTAINS(e.msg, "auth.json");
	ASSERT_CONTAINS(e.hint, "skerry login 127.0.0.1");
	ASSERT(!strstr(e.msg, "hunter2"));
	credential_done(&wrong);
}

TEST(what_is_not_there_is_said_in_the_registry_s_words_made_harmless)
{
	_cleanup_error_ struct error e = {};

	peer_open_store();
	peer_make_world();
	peer_world.shared->how = NO_DIGEST;
	peer_world.tag_digest = "sha256:none";
	peer_start();
	ASSERT(peer_pull(&e) < 0);
	ASSERT_EQ((int)e.kind, ERROR_NOT_FOUND);
	ASSERT(!strchr(e.msg, 033));
}

TEST(an_index_leads_to_the_platform_s_manifest)
{
	_cleanup_(oci_descriptor_done) struct oci_descriptor d = {}, none = {};
	_cleanup_error_ struct error e = {};
	char *inner;

	peer_open_store();
	peer_make_world();
	inner = peer_add_document(peer_index(peer_world.documents[0].digest, strlen(peer_world.documents[0].text),
					     OCI_MANIFEST_TYPE, "arm64"),
				  OCI_INDEX_TYPE);
	peer_world.tag_digest = peer_add_document(
		peer_index(inner, strlen(peer_world.documents[1].text), OCI_INDEX_TYPE, ""), OCI_INDEX_TYPE);
	peer_start();
	ASSERT_OK(peer_pull_as(NULL, "linux/arm64", &d, NULL));
	ASSERT_STREQ(d.digest, peer_world.documents[0].digest);
	peer_assert_whole();
	ASSERT(peer_pull_as(NULL, "linux/s390x", &none, &e) < 0);
	ASSERT_EQ((int)e.kind, ERROR_NOT_FOUND);
	ASSERT_CONTAINS(e.hint, "linux/arm64");
}

TEST(indexes_in_indexes_have_an_end)
{
	_cleanup_error_ struct error e = {};
	char *digest = peer_world.documents[0].digest;

	peer_open_store();
	peer_make_world();
	digest = peer_world.documents[0].digest;
	for (int i = 0; i < 8; i++)
		digest = peer_add_document(peer_index(digest, strlen(peer_world.documents[peer_world.n - 1].text),
						      i ? OCI_INDEX_TYPE : OCI_MANIFEST_TYPE, "amd64"),
					   OCI_INDEX_TYPE);
	peer_world.tag_digest = digest;
	peer_start();
	ASSERT(peer_pull(&e) < 0);
	ASSERT_CONTAINS(e.msg, "deeper than");
}

TEST(an_index_that_points_at_itself_is_refused)
{
	_cleanup_error_ struct error e = {};

	peer_open_store();
	peer_make_world();
	peer_world.tag_digest =
		peer_add_document(peer_index(peer_world.config_digest, 100, OCI_INDEX_TYPE, "amd64"), OCI_INDEX_TYPE);
	peer_world.shared->how = OTHER_DOCUMENT;
	peer_start();
	ASSERT(peer_pull(&e) < 0);
	ASSERT_EQ((int)e.kind, ERROR_DATA);
	ASSERT_CONTAINS(e.msg, "another document");
}

static void refuse_document(char *text, const char *why)
{
	_cleanup_error_ struct error e = {};

	peer_open_store();
	peer_make_world();
	peer_world.tag_digest = peer_add_document(
		text ? text : peer_manifest("application/vnd.cncf.helm.config.v1+json", OCI_LAYER_TAR_TYPE),
		OCI_MANIFEST_TYPE);
	peer_start();
	ASSERT(peer_pull(&e) < 0);
	ASSERT_EQ((int)e.kind, ERROR_DATA);
	ASSERT_CONTAINS(e.msg, why);
	ASSERT_EQ(peer_world.shared->blob_requests, 0);
}

TEST(docker_s_first_format_is_refused)
{
	refuse_document(xstrdup("{\"schemaVersion\":1,\"name\":\"me/app\",\"tag\":\"1\",\"fsLayers\":[]}"),
			"first format");
}

TEST(what_is_manifest_and_index_is_neither)
{
	refuse_document(xstrdup("{\"schemaVersion\":2,\"manifests\":[],\"layers\":[],\"config\":{}}"), "neither");
}

TEST(what_is_no_document_is_refused)
{
	refuse_document(xstrdup("<html>"), "me/app");
}

TEST(an_artifact_is_no_image)
{
	refuse_document(NULL, "helm");
}

TEST(a_layer_that_is_kept_elsewhere_is_refused)
{
	_cleanup_error_ struct error e = {};

	peer_open_store();
	peer_make_world();
	peer_world.tag_digest = peer_add_document(
		peer_manifest(OCI_CONFIG_TYPE, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
		OCI_MANIFEST_TYPE);
	peer_start();
	ASSERT(peer_pull(&e) < 0);
	ASSERT_CONTAINS(e.msg, "kept elsewhere");
}

TEST(a_layer_that_is_kept_elsewhere_is_fetched_there_when_that_is_wanted)
{
	struct credential me = { .user = xstrdup("me"), .secret = xstrdup("pw"), .origin = xstrdup("test") };
	_cleanup_(oci_descriptor_done) struct oci_descriptor d = {};

	peer_open_store();
	peer_make_world();
	peer_world.shared->wants_token = true;
	peer_world.shared->elsewhere = web_start(peer_elsewhere, NULL);
	peer_world.tag_digest = peer_add_document(
		xasprintf("{\"schemaVersion\":2,\"config\":{\"mediaType\":\"" OCI_CONFIG_TYPE
			  "\",\"digest\":\"%s\",\"size\":%zu},"
			  "\"layers\":[{\"mediaType\":\"application/"
			  "vnd.docker.image.rootfs.foreign.diff.tar.gzip\",\"digest\":\"%s\","
			  "\"size\":%d,\"urls\":[\"http://127.0.0.1:%d/%s\"]}]}",
			  peer_world.config_digest, strlen(peer_world.config), peer_world.layer_digests[0],
			  PEER_LAYER_BYTES, peer_world.shared->elsewhere, peer_world.layer_digests[0]),
		OCI_MANIFEST_TYPE);
	peer_world.shared->port = web_start(peer_registry, NULL);
	peer_takes_foreign = true;
	ASSERT_OK(peer_pull_as(&me, "linux/amd64", &d, NULL));
	ASSERT(blob_exists(&peer_store, peer_world.layer_digests[0]));
	ASSERT_EQ(peer_world.shared->leaks, 0);
	credential_done(&me);
}
