#include "base/log.h"

#include <fcntl.h>

#include "test.h"

static char text[8192];

static const char *logged(int fd)
{
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	ASSERT(n >= 0);
	text[n] = '\0';
	return text;
}

static int log_file(void)
{
	int fd = open(test_tmpdir(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	ASSERT(fd >= 0);
	return fd;
}

TEST(levels_above_the_chosen_one_are_silent)
{
	int fd = log_file();

	log_setup(fd, LOG_LEVEL_WARNING, false);
	log_info("no");
	log_debug("no");
	log_warning("one %d", 1);
	log_error("two");
	ASSERT_STREQ(logged(fd), "warning: one 1\nerror: two\n");
}

TEST(the_environment_chooses_the_level)
{
	int fd = log_file();

	log_setup(fd, LOG_LEVEL_ERROR, false);
	setenv("SKERRY_LOG", "debug", 1);
	log_setup_from_env();
	log_debug("seen");
	ASSERT_STREQ(logged(fd), "debug: seen\n");
	setenv("SKERRY_LOG", "nonsense", 1);
	log_setup_from_env();
	log_debug("seen");
	ASSERT_STREQ(logged(fd), "debug: seen\ndebug: seen\n");
}

TEST(one_message_is_one_line_without_control_characters)
{
	int fd = log_file();

	log_setup(fd, LOG_LEVEL_INFO, false);
	log_info("guest said: %s", "\033[31mred\nerror: forged");
	ASSERT_STREQ(logged(fd), "info: guest said: ?[31mred?error: forged\n");
}

TEST(a_long_message_is_cut_and_still_a_line)
{
	int fd = log_file();
	char *longer = malloc(100001);

	memset(longer, 'x', 100000);
	longer[100000] = '\0';
	log_setup(fd, LOG_LEVEL_INFO, true);
	log_info("%s", longer);
	free(longer);
	ASSERT(strlen(logged(fd)) <= 2048);
	ASSERT_EQ(text[strlen(text) - 1], '\n');
	ASSERT(!memchr(text, '\n', strlen(text) - 1));
}

TEST(timestamps_come_first)
{
	int fd = log_file();

	log_setup(fd, LOG_LEVEL_INFO, true);
	log_info("x");
	ASSERT_EQ(strlen(logged(fd)), strlen("2026-01-31T12:00:00Z info: x\n"));
	ASSERT_EQ(text[10], 'T');
	ASSERT_CONTAINS(text, "Z info: x\n");
}

TEST(errno_survives)
{
	log_setup(-1, LOG_LEVEL_DEBUG, false);
	errno = ENOSPC;
	log_error("x");
	log_setup(9999, LOG_LEVEL_DEBUG, false);
	log_error("x");
	ASSERT_EQ(errno, ENOSPC);
}
