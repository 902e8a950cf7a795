#include "image/tar.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/memory.h"
#include "tarball.h"
#include "test.h"

struct pieces {
	const char *p;
	size_t left, piece;
};

static int next_piece(void *data, const void **ret, size_t *ret_n, struct error *err)
{
	struct pieces *s = data;

	(void)err;
	*ret = s->p;
	*ret_n = s->left < s->piece ? s->left : s->piece;
	s->p += *ret_n;
	s->left -= *ret_n;
	return 0;
}

/* An archive as one text: a line for each entry; ends with "error: …" where it is refused. */
static char *tell(const struct buf *archive, size_t piece)
{
	struct pieces s = { archive->p, archive->len, piece };
	_cleanup_(tar_freep) struct tar *t = tar_new(next_piece, &s);
	_cleanup_error_ struct error e = {};
	const struct tar_item *item;
	struct buf out = {};
	int r;

	while ((r = tar_next(t, &item, &e)) > 0) {
		const struct fs_entry *x = &item->entry;
		const void *p;
		uint64_t offset;
		size_t n;

		buf_addf(&out, "%06o %s %u:%u %llu.%09llu", x->mode, x->path, x->uid, x->gid,
			 (unsigned long long)(x->mtime_ns / 1000000000),
			 (unsigned long long)(x->mtime_ns % 1000000000));
		if (x->link)
			buf_addf(&out, " -> %s", x->link);
		if (item->hard_link)
			buf_addf(&out, " == %s", item->hard_link);
		if (x->rdev_major)
			buf_addf(&out, " %u,%u", x->rdev_major, x->rdev_minor);
		for (size_t i = 0; i < x->n_xattrs; i++)
			buf_addf(&out, " %s=%zu", x->xattrs[i].name, x->xattrs[i].len);
		if (x->size)
			buf_addf(&out, " size=%llu", (unsigned long long)x->size);
		/* Contents that start with '-' are not looked at. */
		if (x->path[0] != '-') {
			uint64_t expected = UINT64_MAX;

			while ((r = tar_content(t, &offset, &p, &n, &e)) > 0) {
				if (offset != expected)
					buf_addf(&out, " @%llu:", (unsigned long long)offset);
				buf_add(&out, p, n);
				expected = offset + n;
			}
		}
		buf_addc(&out, '\n');
		if (r < 0)
			break;
	}
	if (r < 0)
		buf_addf(&out, "error: %s\n", e.msg);
	if (r < 0 && e.kind != ERROR_DATA)
		buf_adds(&out, "not of kind DATA\n");
	return buf_take(&out);
}

static void check(const struct buf *archive, const char *expected)
{
	static const size_t pieces[] = { 1 << 20, 512, 513, 100, 1 };

	for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
		_cleanup_free_ char *told = tell(archive, pieces[i]);

		ASSERT_STREQ(told, expected);
	}
}

TEST(every_kind_of_entry)
{
	_cleanup_buf_ struct buf a = {};

	tarball_dir(&a, "./");
	tarball_add(&a, &(struct tarball_entry){ .name = "./usr//bin/su",
						 .mode = 04755,
						 .uid = 1000,
						 .gid = 100,
						 .mtime = 1700000000,
						 .content = "text",
						 .n = 4 });
	tarball_link(&a, '2', "/lib", "../usr/lib");
	tarball_link(&a, '1', "sbin/su", "./usr/bin/su");
	tarball_add(&a,
		    &(struct tarball_entry){ .name = "dev/sda", .type = '4', .mode = 0660, .major = 8, .minor = 1 });
	tarball_add(&a,
		    &(struct tarball_entry){ .name = "dev/null", .type = '3', .mode = 0666, .major = 1, .minor = 3 });
	tarball_add(&a, &(struct tarball_entry){ .name = "run/pipe", .type = '6', .mode = 0600 });
	tarball_add(&a, &(struct tarball_entry){ .name = "old", .type = '7', .content = "x", .n = 1 });
	tarball_end(&a);
	/* What follows the end is nobody's. */
	buf_adds(&a, "rubbish");
	check(&a, "040755 . 0:0 0.000000000\n"
		  "104755 usr/bin/su 1000:100 1700000000.000000000 size=4 @0:text\n"
		  "120777 lib 0:0 0.000000000 -> ../usr/lib\n"
		  "100777 sbin/su 0:0 0.000000000 == usr/bin/su\n"
		  "060660 dev/sda 0:0 0.000000000 8,1\n"
		  "020666 dev/null 0:0 0.000000000 1,3\n"
		  "010600 run/pipe 0:0 0.000000000\n"
		  "100644 old 0:0 0.000000000 size=1 @0:x\n");
}

TEST(pax_records_win_over_the_header)
{
	_cleanup_buf_ struct buf a = {}, records = {};
	char name[301];

	memset(name, 'n', 300);
	name[300] = 0;
	memcpy(name, "d/e\xcc\x81/\xff/", 8);
	tarball_record(&records, "path", name, 300);
	tarball_record(&records, "uid", "4000000000", 10);
	tarball_record(&records, "gid", "3000000", 7);
	tarball_record(&records, "mtime", "1700000000.123456789123", 23);
	tarball_record(&records, "size", "3", 1);
	tarball_record(&records, "uname", "someone", 7);
	tarball_record(&records, "SCHILY.xattr.security.capability", "\1\0\0\2\0", 5);
	tarball_record(&records, "SCHILY.xattr.user.x", "", 0);
	tarball_extended(&a, 'x', &records);
	tarball_add(&a, &(struct tarball_entry){
				.name = "short", .uid = 1, .gid = 2, .mtime = 3, .content = "abc", .n = 3 });
	/* The next one has its own again. */
	tarball_file(&a, "next", "");
	tarball_end(&a);
	{
		_cleanup_free_ char *expected = xasprintf("100644 %s 4000000000:3000000 1700000000.123456789"
							  " security.capability=5 user.x=0 size=3 @0:abc\n"
							  "100644 next 0:0 0.000000000\n",
							  name);

		check(&a, expected);
	}
}

TEST(a_number_ends_at_its_nul)
{
	static const struct {
		size_t at;
		const char *p;
		size_t n;
	} fields[] = { { 100, "640\0XYZW", 8 },
		       { 108, "17 \0abc\1", 8 },
		       { 124, "3\0!!!!!!!!!!", 12 },
		       { 136, "\0rubbish_777", 12 } };
	_cleanup_buf_ struct buf a = {};

	tarball_file(&a, "file", "abc");
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		memcpy(a.p + fields[i].at, fields[i].p, fields[i].n);
	tarball_sum(&a, 0);
	tarball_file(&a, "next", "");
	tarball_end(&a);
	check(&a, "100640 file 15:0 0.000000000 size=3 @0:abc\n"
		  "100644 next 0:0 0.000000000\n");
}

static void with_record(struct buf *out, const char *key, const char *value)
{
	_cleanup_buf_ struct buf records = {};

	tarball_record(&records, key, value, strlen(value));
	tarball_extended(out, 'x', &records);
	tarball_file(out, "file", "x");
}

TEST(labels_and_access_lists_are_attributes)
{
	_cleanup_buf_ struct buf a = {};

	with_record(&a, "RHT.security.selinux", "system_u:object_r:etc_t:s0");
	with_record(&a, "SCHILY.acl.access",
		    "user::rw-\nuser:1000:rw-\t#effective:r--\ngroup::r--\nmask::r--\nother::r--\n");
	with_record(&a, "SCHILY.acl.access", "other::r--,u::rw-,user:lisa:rw-:1000,g::r--,mask:r--,group:7:---");
	/* What the mode says already. */
	with_record(&a, "SCHILY.acl.access", "user::rw-\ngroup::r--\nother::r--\n");
	with_record(&a, "SCHILY.acl.access", "");
	with_record(&a, "SCHILY.acl.default", "user::rw-\ngroup::r--\nother::r--\n");
	tarball_end(&a);
	check(&a, "100644 file 0:0 0.000000000 security.selinux=27 size=1 @0:x\n"
		  "100644 file 0:0 0.000000000 system.posix_acl_access=44 size=1 @0:x\n"
		  "100644 file 0:0 0.000000000 system.posix_acl_access=52 size=1 @0:x\n"
		  "100644 file 0:0 0.000000000 size=1 @0:x\n"
		  "100644 file 0:0 0.000000000 size=1 @0:x\n"
		  "100644 file 0:0 0.000000000 system.posix_acl_default=28 size=1 @0:x\n");
}

TEST(long_names_of_gnu_tar)
{
	_cleanup_buf_ struct buf a = {}, long_name = {}, long_link = {};

	for (int i = 0; i < 50; i++) {
		buf_adds(&long_name, "name/");
		buf_adds(&long_link, "link/");
	}
	buf_addc(&long_name, 0);
	tarball_extended(&a, 'L', &long_name);
	tarball_extended(&a, 'K', &long_link);
	tarball_link(&a, '2', "short", "short");
	tarball_end(&a);
	buf_truncate(&long_name, long_name.len - 2);
	{
		_cleanup_free_ char *expected =
			xasprintf("120777 %s 0:0 0.000000000 -> %s\n", long_name.p, long_link.p);

		check(&a, expected);
	}
}

TEST(the_old_format_and_prefixes)
{
	_cleanup_buf_ struct buf a = {};

	tarball_dir(&a, "dir/");
	memset(a.p + 257, 0, 8);
	a.p[156] = 0;
	tarball_sum(&a, 0);
	tarball_file(&a, "base", "");
	memcpy(a.p + 512 + 345, "pre/fix", 7);
	tarball_sum(&a, 512);
	/* Numbers too large for octal digits. */
	tarball_file(&a, "big", "");
	memcpy(a.p + 1024 + 108, "\x80\0\0\0\x12\x34\x56\x78", 8);
	memcpy(a.p + 1024 + 136, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", 12);
	tarball_sum(&a, 1024);
	tarball_end(&a);
	check(&a, "040755 dir 0:0 0.000000000\n"
		  "100644 pre/fix/base 0:0 0.000000000\n"
		  "100644 big 305419896:0 0.000000000\n");
}

TEST(global_defaults_and_labels_are_passed_over)
{
	_cleanup_buf_ struct buf a = {}, records = {};

	tarball_record(&records, "path", "elsewhere", 9);
	tarball_extended(&a, 'g', &records);
	tarball_file(&a, "f", "1");
	tarball_add(&a, &(struct tarball_entry){ .name = "label", .type = 'V' });
	tarball_file(&a, "g", "2");
	check(&a, "100644 f 0:0 0.000000000 size=1 @0:1\n100644 g 0:0 0.000000000 size=1 @0:2\n");
}

TEST(contents_may_be_left_unread)
{
	_cleanup_buf_ struct buf a = {};
	_cleanup_free_ char *big = xcalloc(1, 100000);

	tarball_add(&a, &(struct tarball_entry){ .name = "-big", .content = big, .n = 99999 });
	tarball_file(&a, "after", "x");
	tarball_end(&a);
	check(&a, "100644 -big 0:0 0.000000000 size=99999\n100644 after 0:0 0.000000000 size=1 @0:x\n");
}

TEST(holes_as_gnu_tar_writes_them_today)
{
	_cleanup_buf_ struct buf a = {}, records = {}, content = {};

	tarball_record(&records, "GNU.sparse.major", "1", 1);
	tarball_record(&records, "GNU.sparse.minor", "0", 1);
	tarball_record(&records, "GNU.sparse.name", "real", 4);
	tarball_record(&records, "GNU.sparse.realsize", "10000", 5);
	tarball_extended(&a, 'x', &records);
	buf_adds(&content, "3\n4096\n3\n8192\n2\n10000\n0\n");
	while (content.len < 512)
		buf_addc(&content, 0);
	buf_adds(&content, "abcde");
	tarball_add(&a,
		    &(struct tarball_entry){ .name = "GNUSparseFile.1/real", .content = content.p, .n = content.len });
	tarball_end(&a);
	check(&a, "100644 real 0:0 0.000000000 size=10000 @4096:abc @8192:de\n");
}

TEST(holes_in_records)
{
	_cleanup_buf_ struct buf a = {}, one = {}, many = {};

	tarball_record(&one, "GNU.sparse.size", "9000", 4);
	tarball_record(&one, "GNU.sparse.numblocks", "2", 1);
	tarball_record(&one, "GNU.sparse.map", "0,1,4096,2", 10);
	tarball_extended(&a, 'x', &one);
	tarball_file(&a, "one", "abc");
	tarball_record(&many, "GNU.sparse.size", "9000", 4);
	tarball_record(&many, "GNU.sparse.offset", "10", 2);
	tarball_record(&many, "GNU.sparse.numbytes", "1", 1);
	tarball_record(&many, "GNU.sparse.offset", "20", 2);
	tarball_record(&many, "GNU.sparse.numbytes", "1", 1);
	tarball_extended(&a, 'x', &many);
	tarball_file(&a, "many", "de");
	tarball_end(&a);
	check(&a, "100644 one 0:0 0.000000000 size=9000 @0:a @4096:bc\n"
		  "100644 many 0:0 0.000000000 size=9000 @10:d @20:e\n");
}

TEST(holes_in_the_old_header)
{
	_cleanup_buf_ struct buf a = {};
	char more[512] = {};

	tarball_add(&a, &(struct tarball_entry){ .name = "old", .type = 'S', .size = 5 });
	(void)snprintf(a.p + 386, 12, "%011o", 0);
	(void)snprintf(a.p + 398, 12, "%011o", 2);
	for (int i = 1; i < 4; i++) {
		(void)snprintf(a.p + 386 + 24 * i, 12, "%011o", i * 512);
		(void)snprintf(a.p + 398 + 24 * i, 12, "%011o", 0);
	}
	a.p[482] = 1;
	(void)snprintf(a.p + 483, 12, "%011o", 9000);
	tarball_sum(&a, 0);
	(void)snprintf(more, 12, "%011o", 4096);
	(void)snprintf(more + 12, 12, "%011o", 3);
	buf_add(&a, more, 512);
	memset(more, 0, sizeof(more));
	memcpy(more, "abcde", 5);
	buf_add(&a, more, 512);
	tarball_file(&a, "next", "");
	tarball_end(&a);
	check(&a, "100644 old 0:0 0.000000000 size=9000 @0:ab @4096:cde\n100644 next 0:0 0.000000000\n");
}

static void refused(const struct buf *archive, const char *why)
{
	static const size_t pieces[] = { 1 << 20, 512, 7 };

	for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
		_cleanup_free_ char *told = tell(archive, pieces[i]);

		ASSERT_CONTAINS(told, "error: ");
		ASSERT_CONTAINS(told, why);
		ASSERT(!strstr(told, "not of kind DATA"));
	}
}

TEST(names_that_lead_out_are_refused)
{
	static const char *const names[] = { "../x", "a/../b", "a/..", "..", "/../etc/passwd", "./../x" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		_cleanup_buf_ struct buf a = {}, b = {};

		tarball_file(&a, names[i], "x");
		refused(&a, names[i]);
		tarball_link(&b, '1', "fine", names[i]);
		refused(&b, "'fine': a hard link to a name");
	}
	{
		_cleanup_buf_ struct buf a = {};

		tarball_file(&a, "", "x");
		refused(&a, "no name");
	}
}

TEST(a_truncated_archive_is_refused_wherever_it_ends)
{
	_cleanup_buf_ struct buf a = {}, records = {};

	tarball_record(&records, "path", "file", 4);
	tarball_extended(&a, 'x', &records);
	tarball_file(&a, "file", "content");
	for (size_t n = 1; n < a.len; n++) {
		struct buf cut = { .p = a.p, .len = n };

		refused(&cut, "ends in the middle");
	}
	/* Without any end it is taken as it is. */
	check(&a, "100644 file 0:0 0.000000000 size=7 @0:content\n");
}

TEST(damaged_headers_are_refused)
{
	_cleanup_buf_ struct buf a = {};

	for (size_t at = 0; at < 512; at += 3) {
		_cleanup_free_ char *told = NULL;

		buf_truncate(&a, 0);
		tarball_file(&a, "file", "x");
		a.p[at] ^= 0x21;
		told = tell(&a, 512);
		ASSERT_CONTAINS(told, "error: entry 1: ");
	}
}

TEST(numbers_out_of_range_are_refused)
{
	static const struct {
		size_t at, n;
		const char *bytes;
	} cases[] = {
		{ 124, 12, "\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" },
		{ 124, 12, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" },
		{ 124, 12, "123x5670000" },
		{ 108, 8, "\x80\0\0\1\0\0\0\0" },
		{ 116, 8, "\xff\xff\xff\xff\xff\xff\xff\xff" },
		{ 100, 8, "rwxrwxr" },
		{ 136, 12, "\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_buf_ struct buf a = {};

		tarball_file(&a, "file", "x");
		memcpy(a.p + cases[i].at, cases[i].bytes, cases[i].n);
		tarball_sum(&a, 0);
		refused(&a, "no number");
	}
}

TEST(damaged_records_are_refused)
{
	static const struct {
		const char *p;
		size_t n;
	} cases[] = {
		{ "5 a=b\n", 6 }, /* one short */
		{ "7 a=b\n", 6 }, /* one long */
		{ "999 a=b\n", 8 },
		{ "0 a=b\n", 6 },
		{ "-6 a=b\n", 7 },
		{ "18446744073709551622 a=b\n", 25 },
		{ "6 =bb\n", 6 },
		{ "6 abb\n", 6 },
		{ "a=b\n", 4 },
		{ "6 a=bX", 6 },
		{ "8 a\0b=c\n", 8 },
		{ "13 path=a\0bc\n", 13 },
		{ "17 linkpath=\0\0/\n", 17 },
		{ "2 ", 2 },
		{ "3 \n", 3 },
		{ "13 size=-123\n", 13 },
		{ "28 size=99999999999999999999\n", 29 },
		{ "18 uid=4294967295\n", 18 },
		{ "12 mtime=1x\n", 12 },
		{ "14 mtime=1.2x\n", 14 },
		{ "10 mtime=\n12 mtime=.5\n", 23 },
		{ "17 SCHILY.xattr.=\n", 18 },
		{ "29 GNU.sparse.offset=1x345678\n", 29 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_buf_ struct buf a = {}, records = {};

		buf_add(&records, cases[i].p, cases[i].n);
		tarball_extended(&a, 'x', &records);
		tarball_file(&a, "file", "x");
		refused(&a, "");
	}
}

TEST(access_lists_that_cannot_be_are_refused)
{
	static const char *const lists[][2] = {
		{ "user::rw-,user:lisa:r--,group::r--,mask::r--,other::r--", "the number of 'lisa' is not told" },
		{ "user::rw-,user:1:r--:x,group::r--,mask::r--,other::r--", "the number of 'x' is not told" },
		{ "user::rw-,user:4294967295:r--,group::r--,mask::r--,other::r--", "the number of '4294967295'" },
		{ "user::rw-,group::r--,other:1:r--", "'other:1:r--' is none" },
		{ "user::rw-,group::r--,other::r-s", "'other::r-s' is none" },
		{ "user::rw-,group::r--,other::r--:1:2", "'other::r--:1:2' is none" },
		{ "user::rw-,group::r--,other", "'other' is none" },
		{ "user::rw-,group::r--,others::r--", "'others::r--' is none" },
		{ "user::rw-,group::r--", "none that a file could have" },
		{ "user::rw-,user:1:r--,group::r--,other::r--", "none that a file could have" },
		{ "user::rw-,user::rw-,group::r--,other::r--", "none that a file could have" },
		{ "user::rw-,u:1:r--,u:1:rw-,group::r--,mask::r--,other::r--", "none that a file could have" },
		{ ",", "none that a file could have" },
	};
	_cleanup_buf_ struct buf many = {}, list = {};

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		_cleanup_buf_ struct buf a = {};

		with_record(&a, i % 2 ? "SCHILY.acl.default" : "SCHILY.acl.access", lists[i][0]);
		refused(&a, lists[i][1]);
		refused(&a, "'file': ");
	}
	for (int i = 0; i < 10000; i++)
		buf_addf(&list, "u:%d:r--,", i);
	with_record(&many, "SCHILY.acl.access", list.p);
	refused(&many, "its access list is too long");
}

TEST(an_extended_header_has_a_limit)
{
	_cleanup_buf_ struct buf a = {}, records = {};
	_cleanup_free_ char *value = xcalloc(1, 1 << 20);

	tarball_record(&records, "comment", value, 1 << 20);
	tarball_extended(&a, 'x', &records);
	tarball_file(&a, "file", "x");
	refused(&a, "larger than 1 MiB");
}

TEST(too_many_attributes_are_refused)
{
	_cleanup_buf_ struct buf a = {}, records = {};

	for (int i = 0; i < 1000; i++) {
		_cleanup_free_ char *key = xasprintf("SCHILY.xattr.user.%d", i);

		tarball_record(&records, key, "v", 1);
	}
	tarball_extended(&a, 'x', &records);
	tarball_file(&a, "file", "x");
	refused(&a, "too many extended attributes");
}

TEST(maps_that_lie_are_refused)
{
	static const char *const maps[] = {
		"0,1",        /* less than is stored */
		"0,5",        /* more */
		"0,2,1,1",    /* overlapping */
		"4096,2,0,1", /* backwards */
		"8999,3",     /* past the end */
		"0,1,9223372036854775807,2",
		"0,9223372036854775807,1,4",
		"0",
		"0,3,",
		"x,3",
		"0,18446744073709551619",
	};

	for (size_t i = 0; i < ARRAY_SIZE(maps); i++) {
		_cleanup_buf_ struct buf a = {}, records = {};

		tarball_record(&records, "GNU.sparse.size", "9000", 4);
		tarball_record(&records, "GNU.sparse.map", maps[i], strlen(maps[i]));
		tarball_extended(&a, 'x', &records);
		tarball_file(&a, "file", "abc");
		if (i == 8) /* a comma at the end says nothing */
			check(&a, "100644 file 0:0 0.000000000 size=9000 @0:abc\n");
		else
			refused(&a, "map of holes");
	}
}

TEST(unknown_types_are_refused)
{
	static const char types[] = "MNZ8";

	for (const char *t = types; *t; t++) {
		_cleanup_buf_ struct buf a = {};

		tarball_add(&a, &(struct tarball_entry){ .name = "odd", .type = *t });
		refused(&a, "'odd': an unknown type");
	}
}

TEST(an_empty_stream_is_an_empty_archive)
{
	struct buf a = {};

	check(&a, "");
	tarball_end(&a);
	check(&a, "");
	buf_done(&a);
}
