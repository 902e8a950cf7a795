/* Blobs from a registry that breaks off, sends other things, or has them elsewhere. */
#include "image/fetch.h"

#include <pthread.h>
#include <unistd.h>

#include "base/file.h"
#include "image/blob.h"
#include "image/reference.h"

#include "registry_peer.h"
#include "test.h"

TEST(what_breaks_off_is_gone_on_with)
{
	peer_pull_whole(CUTS);
	ASSERT_EQ(peer_world.shared->blob_requests, PEER_LAYERS * 3 + 1);
	ASSERT_EQ(peer_world.shared->sent_bytes, PEER_LAYERS * PEER_LAYER_BYTES + strlen(peer_world.config));
}

TEST(a_registry_that_knows_no_ranges_will_do)
{
	peer_pull_whole(IGNORES_RANGE);
}

TEST(a_busy_registry_is_asked_again)
{
	peer_pull_whole(BUSY_FIRST);
}

TEST(nobody_waits_for_an_hour)
{
	peer_pull_refused(BUSY_ALWAYS, ERROR_BUSY, "asked less often");
}

TEST(a_byte_at_a_time_is_given_up)
{
	peer_pull_refused(DRIPS, ERROR_FAILED, "blob");
	ASSERT(peer_world.shared->blob_requests < 10 * (PEER_LAYERS + 1));
}

TEST(the_same_part_again_and_again_is_given_up)
{
	peer_pull_refused(NEVER_WHOLE, ERROR_FAILED, "blob");
	ASSERT(peer_world.shared->blob_requests < 10 * (PEER_LAYERS + 1));
}

TEST(another_part_than_asked_for_is_refused)
{
	peer_pull_refused(WRONG_RANGE, ERROR_DATA, "another part");
}

TEST(a_blob_that_is_shorter_is_refused)
{
	peer_pull_refused(SHORTER, ERROR_DATA, "the manifest says");
}

TEST(a_blob_that_is_longer_is_refused)
{
	peer_pull_refused(LONGER, ERROR_DATA, "the manifest says");
}

TEST(a_blob_with_another_content_is_refused_and_nothing_of_it_kept)
{
	peer_pull_refused(OTHER_BYTES, ERROR_DATA, "digest");
	for (size_t i = 0; i < PEER_LAYERS; i++)
		ASSERT(!blob_exists(&peer_store, peer_world.layer_digests[i]));
}

TEST(redirected_blobs_are_fetched_without_our_credentials)
{
	struct credential me = { .user = xstrdup("me"), .secret = xstrdup("pw"), .origin = xstrdup("test") };
	_cleanup_(oci_descriptor_done) struct oci_descriptor d = {};

	peer_open_store();
	peer_make_world();
	peer_world.shared->wants_token = true;
	peer_world.shared->how = REDIRECTS;
	peer_start();
	ASSERT_OK(peer_pull_as(&me, "linux/amd64", &d, NULL));
	peer_assert_whole();
	ASSERT_EQ(peer_world.shared->leaks, 0);
	credential_done(&me);
}

TEST(who_blobs_are_redirected_to_is_not_told_who_we_are)
{
	struct credential me = { .user = xstrdup("me"), .secret = xstrdup("pw"), .origin = xstrdup("test") };
	_cleanup_(oci_descriptor_done) struct oci_descriptor d = {};
	_cleanup_error_ struct error e = {};

	peer_open_store();
	peer_make_world();
	peer_world.shared->elsewhere_asks = true;
	peer_world.shared->how = REDIRECTS;
	peer_start();
	ASSERT(peer_pull_as(&me, "linux/amd64", &d, &e) < 0);
	ASSERT_EQ(e.kind, ERROR_DENIED);
	ASSERT_CONTAINS(e.msg, "only the registry itself is told one");
	ASSERT_EQ(peer_world.shared->leaks, 0);
	ASSERT_EQ(peer_world.shared->token_requests, 0);
	credential_done(&me);
}

TEST(a_damaged_beginning_is_fetched_again)
{
	_cleanup_free_ char *path = NULL;

	peer_open_store();
	peer_make_world();
	peer_start();
	ASSERT_OK(mkdir_parents_at(peer_store.images_fd, "partial", 0700));
	path = xasprintf("partial/%s", digest_hex(peer_world.layer_digests[1]));
	ASSERT_OK(file_write_at(peer_store.images_fd, path, "these are not its first bytes", 29, 0600, 0));
	ASSERT_OK(peer_pull(NULL));
	peer_assert_whole();
}

static void *pull_in_thread(void *ret)
{
	*(int *)ret = peer_pull(NULL);
	return NULL;
}

TEST(a_blob_that_somebody_fetches_is_waited_for)
{
	_cleanup_(blob_writer_freep) struct blob_writer *w = NULL;
	_cleanup_close_ int lock = -EBADF;
	pthread_t thread;
	int r = -1;

	peer_open_store();
	peer_make_world();
	peer_start();
	lock = blob_lock(&peer_store, false, NULL);
	ASSERT_EQ(blob_writer_open(&peer_store, peer_world.layer_digests[0], PEER_LAYER_BYTES, &w, NULL), 0);
	ASSERT_EQ(pthread_create(&thread, NULL, pull_in_thread, &r), 0);
	while (!blob_exists(&peer_store, peer_world.layer_digests[1]) ||
	       !blob_exists(&peer_store, peer_world.layer_digests[2]))
		ASSERT_EQ(usleep(10000), 0); /* lint: nothing announces this */
	ASSERT_OK(blob_writer_write(w, peer_world.layers[0], PEER_LAYER_BYTES, NULL));
	ASSERT_OK(blob_writer_finish(w, NULL, NULL));
	w = blob_writer_free(w);
	ASSERT_EQ(pthread_join(thread, NULL), 0);
	ASSERT_OK(r);
	peer_assert_whole();
	ASSERT_EQ(peer_world.shared->blob_requests, PEER_LAYERS);
}
