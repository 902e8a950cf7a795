/* The key that all machines of a user share. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "machine/machine.h"
#include "test.h"

TEST(it_is_made_once_and_again_when_a_power_failure_emptied_it)
{
	_cleanup_free_ char *home = xasprintf("%s/home", test_tmpdir()), *private = NULL, *first = NULL, *again = NULL;
	_cleanup_free_ char *fresh = NULL, *public = NULL;
	_cleanup_store_ struct store s = {};
	struct stat st;

	setenv("SKERRY_HOME", home, 1);
	ASSERT_OK(store_open(&s, NULL));
	ASSERT_OK(machine_ssh_key(&s, &private, &first, NULL));
	ASSERT(after_prefix(first, "ssh-ed25519 "));
	ASSERT_OK(stat(private, &st));
	ASSERT_EQ(st.st_mode & 0777, 0600);
	ASSERT_OK(machine_ssh_key(&s, NULL, &again, NULL));
	ASSERT_STREQ(again, first);
	public = xasprintf("%s.pub", private);
	ASSERT_OK(truncate(public, 0));
	ASSERT_OK(truncate(private, 0));
	ASSERT_OK(machine_ssh_key(&s, NULL, &fresh, NULL));
	ASSERT(after_prefix(fresh, "ssh-ed25519 "));
	ASSERT(!streq(fresh, first));
	ASSERT_OK(stat(private, &st));
	ASSERT(st.st_size > 0);
}
