#include "image/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "test.h"

static const struct archive_limits limits = { .bytes = 1 << 20, .entries = 100 };

/* One ustar header and its content. */
static void add(struct buf *out, const char *name, char type, const char *link, const char *content, uint64_t size)
{
	size_t n = content ? strlen(content) : 0;
	char h[512] = {};
	unsigned sum = 0;

	memcpy(h, name, strlen(name));
	(void)snprintf(h + 100, 8, "%07o", 0644);
	(void)snprintf(h + 108, 8, "%07o", 1000);
	(void)snprintf(h + 116, 8, "%07o", 1000);
	(void)snprintf(h + 124, 12, "%011llo", (unsigned long long)size);
	(void)snprintf(h + 136, 12, "%011o", 1700000000);
	memset(h + 148, ' ', 8);
	h[156] = type;
	if (link)
		memcpy(h + 157, link, strlen(link));
	memcpy(h + 257, "ustar\00000", 8);
	for (size_t i = 0; i < sizeof(h); i++)
		sum += (unsigned char)h[i];
	(void)snprintf(h + 148, 8, "%06o", sum);
	buf_add(out, h, sizeof(h));
	buf_add(out, content, n);
	while (out->len % 512)
		buf_addc(out, 0);
}

static int as_file(struct buf *b)
{
	_cleanup_free_ char *path = xasprintf("%s/archive", test_tmpdir());
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ASSERT_OK(fd);
	ASSERT_OK(write_full(fd, b->p, b->len));
	ASSERT_EQ(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

static int note(const struct archive_item *item, void *data, struct error *err)
{
	struct buf *out = data;

	buf_addf(out, "%s", item->entry.path);
	if (item->hard_link)
		buf_addf(out, "=%s", item->hard_link);
	else if (S_ISLNK(item->entry.mode))
		buf_addf(out, ">%s", item->entry.link);
	else if (S_ISREG(item->entry.mode)) {
		_cleanup_buf_ struct buf text = {};
		int r = archive_item_read(item, 1000, &text, err);

		if (r < 0)
			return r;
		buf_addf(out, ":%.*s", (int)text.len, text.len ? text.p : "");
	}
	buf_addc(out, ' ');
	return 0;
}

static int walk(struct buf *tar, struct buf *out, struct error *err)
{
	char end[1024] = {};
	int fd, r;

	buf_add(tar, end, sizeof(end));
	fd = as_file(tar);
	r = archive_walk(fd, "test", &limits, note, out, err);
	close(fd);
	return r;
}

TEST(names_come_out_normalised)
{
	_cleanup_buf_ struct buf tar = {}, out = {};

	add(&tar, "./", '5', NULL, NULL, 0);
	add(&tar, "./usr//bin/", '5', NULL, NULL, 0);
	add(&tar, "/etc/x", '0', NULL, "text", 4);
	add(&tar, "usr/./y", '1', "./etc/x", NULL, 0);
	add(&tar, "link", '2', "../../etc", NULL, 0);
	ASSERT_OK(walk(&tar, &out, NULL));
	ASSERT_STREQ(out.p, ". usr/bin etc/x:text usr/y=etc/x link>../../etc ");
}

TEST(names_that_leave_the_root_are_data_errors)
{
	static const char *const bad[] = { "..", "../x", "a/../b", "./../x", "/../x" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_buf_ struct buf tar = {}, out = {}, tar2 = {};
		_cleanup_error_ struct error e = {};

		add(&tar, bad[i], '0', NULL, "x", 1);
		ASSERT_EQ(walk(&tar, &out, &e), -EBADMSG);
		ASSERT_EQ(e.kind, ERROR_DATA);
		add(&tar2, "fine", '1', bad[i], NULL, 0);
		ASSERT_EQ(walk(&tar2, &out, NULL), -EBADMSG);
	}
}

TEST(limits_hold)
{
	_cleanup_buf_ struct buf large = {}, many = {}, out = {};
	_cleanup_error_ struct error e = {};

	/* The size in the header is what counts: nothing of that size is read. */
	add(&large, "big", '0', NULL, "x", UINT64_C(1) << 32);
	ASSERT_EQ(walk(&large, &out, &e), -EFBIG);
	ASSERT_EQ(e.kind, ERROR_DATA);
	for (int i = 0; i < 101; i++)
		add(&many, "d", '5', NULL, NULL, 0);
	ASSERT_EQ(walk(&many, &out, NULL), -EFBIG);
}

TEST(damaged_archives_are_data_errors)
{
	_cleanup_buf_ struct buf garbage = {}, cut = {}, out = {};
	_cleanup_error_ struct error e = {};
	int fd;

	buf_adds(&garbage, "this is no archive at all, whatever its name may say");
	fd = as_file(&garbage);
	ASSERT_EQ(archive_walk(fd, "test", &limits, note, &out, &e), -EBADMSG);
	ASSERT_EQ(e.kind, ERROR_DATA);
	close(fd);
	add(&cut, "f", '0', NULL, "only this", 900);
	fd = as_file(&cut);
	ASSERT_EQ(archive_walk(fd, "test", &limits, note, &out, NULL), -EBADMSG);
	close(fd);
	fd = as_file(&cut);
	ASSERT_EQ(archive_walk_deb(fd, "test", &limits, note, &out, NULL), -EBADMSG);
	close(fd);
}

TEST(unpacking_is_bounded)
{
	static const uint8_t gzip[] = { 0x1f, 0x8b, 8, 0,    0,    0,    0,    0, 2, 3, 0x4b, 0x4c,
					0x44, 0x05, 0, 0x73, 0x8d, 0xad, 0x91, 8, 0, 0, 0 };
	_cleanup_buf_ struct buf out = {};

	ASSERT(archive_unpack(gzip, sizeof(gzip), "z", 4, &out, NULL) < 0);
	ASSERT(archive_unpack("garbage", 7, "z", 1, &out, NULL) < 0);
}
