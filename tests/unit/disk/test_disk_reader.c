#include "disk/disk_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/spawn.h"
#include "disk/qcow2.h"
#include "test.h"

#define MIB (UINT64_C(1) << 20)

static void run(const char *const *argv)
{
	struct spawn s = SPAWN_INIT;
	_cleanup_error_ struct error e = {};
	_cleanup_free_ char *program = program_find(argv[0]);

	if (!program)
		test_skip("no %s", argv[0]);
	s.argv = argv;
	s.cwd = test_tmpdir();
	if (spawn_check(&s, NULL, NULL, 1 << 20, 0, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s: %s", argv[0], e.msg);
}

static int open_file(const char *name, int flags)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", test_tmpdir(), name);
	int fd = open(path, flags | O_CLOEXEC, 0600);

	ASSERT_OK(fd);
	return fd;
}

static uint32_t next_random(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

/* A base with a pattern in every fourth cluster or so. */
static void make_base(const char *name, uint64_t bytes)
{
	_cleanup_close_ int fd = open_file(name, O_RDWR | O_CREAT);
	uint32_t seed = 7;
	char block[4096];

	ASSERT_OK(ftruncate(fd, (off_t)bytes));
	for (uint64_t at = 0; at < bytes; at += 16384) {
		memset(block, (int)(next_random(&seed) | 1), sizeof(block));
		if (next_random(&seed) % 4 == 0)
			ASSERT_OK(pwrite_full(fd, block, sizeof(block), at));
	}
}

static void make_delta(const char *name, uint64_t bytes)
{
	_cleanup_close_ int dir = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	ASSERT_OK(qcow2_create(dir, name, bytes, "base.raw", "raw", false, NULL));
}

/* What a guest does: writes, zeroes, discards, at any place and of any length. */
static void scribble(const char *name, uint64_t bytes, uint32_t seed, int n)
{
	const char *argv[90] = { "qemu-io", "-f", "qcow2", "-d", "unmap", name };
	_cleanup_strv_ struct strv commands = {};
	size_t k = 6;

	for (int i = 0; i < n; i++) {
		uint64_t at = next_random(&seed) % (bytes / 512) * 512;
		uint64_t len = (next_random(&seed) % 300 + 1) * 512;

		if (len > bytes - at)
			len = bytes - at;
		switch (next_random(&seed) % 4) {
		case 0: strv_addf(&commands, "write -z %" PRIu64 " %" PRIu64, at, len); break;
		case 1: strv_addf(&commands, "discard %" PRIu64 " %" PRIu64, at, len); break;
		default:
			strv_addf(&commands, "write -P %u %" PRIu64 " %" PRIu64, next_random(&seed) & 255, at, len);
			break;
		}
	}
	for (size_t i = 0; i < commands.n; i++) {
		argv[k++] = "-c";
		argv[k++] = commands.items[i];
	}
	run(argv);
}

struct opened {
	int base_fd, fd;
	struct disk_reader *base, *delta;
};

static void open_both(struct opened *o, const char *delta)
{
	_cleanup_error_ struct error e = {};

	o->base_fd = open_file("base.raw", O_RDONLY);
	o->fd = open_file(delta, O_RDONLY);
	ASSERT_OK(disk_reader_raw(o->base_fd, "base", &o->base, &e));
	if (disk_reader_qcow2(o->fd, "delta", o->base, &o->delta, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
}

static void close_both(struct opened *o)
{
	disk_reader_free(o->delta);
	disk_reader_free(o->base);
	safe_close(o->fd);
	safe_close(o->base_fd);
}

TEST(an_empty_delta_reads_as_its_base_and_zeros_behind_it)
{
	struct opened o;
	uint8_t a[70000], b[70000];
	uint64_t n;

	make_base("base.raw", 4 * MIB);
	make_delta("d.qcow2", 8 * MIB);
	open_both(&o, "d.qcow2");
	ASSERT_EQ(disk_reader_bytes(o.delta), 8 * MIB);
	ASSERT_OK(disk_reader_read(o.base, 12345, a, sizeof(a), NULL));
	ASSERT_OK(disk_reader_read(o.delta, 12345, b, sizeof(b), NULL));
	ASSERT_MEMEQ(a, b, sizeof(a));
	ASSERT_OK(disk_reader_read(o.delta, 4 * MIB - 100, b, sizeof(b), NULL));
	for (size_t i = 100; i < sizeof(b); i++)
		ASSERT_EQ(b[i], 0);
	ASSERT_EQ(disk_reader_is_base(o.delta, 0, 8 * MIB, &n, NULL), 1);
	ASSERT_EQ(n, 8 * MIB);
	ASSERT_EQ(disk_reader_differs(o.delta, 0, 8 * MIB, NULL), 0);
	close_both(&o);
}

TEST(what_qemu_wrote_reads_as_qemu_reads_it)
{
	uint64_t bytes = 48 * MIB;

	make_base("base.raw", 40 * MIB + 512);
	for (uint32_t seed = 1; seed <= 6; seed++) {
		_cleanup_close_ int flat = -EBADF;
		_cleanup_free_ char *ours = xcalloc(1, 1 << 20), *theirs = xcalloc(1, 1 << 20),
				    *below = xcalloc(1, 1 << 20);
		struct opened o;
		uint64_t from_base = 0;

		_cleanup_free_ char *name = xasprintf("d%u.qcow2", seed);

		make_delta(name, bytes);
		scribble(name, bytes, seed * 7919, 40);
		run((const char *const[]){ "qemu-img", "convert", "-O", "raw", name, "flat.raw", NULL });
		flat = open_file("flat.raw", O_RDONLY);
		open_both(&o, name);
		for (uint64_t at = 0; at < bytes; at += MIB) {
			uint64_t reach;
			bool same;

			ASSERT_OK(disk_reader_read(o.delta, at, ours, MIB, NULL));
			ASSERT_OK(pread_full(flat, theirs, MIB, at));
			ASSERT_MEMEQ(ours, theirs, MIB);
			memset(below, 0, MIB);
			if (at < 40 * MIB)
				ASSERT_OK(disk_reader_read(o.base, at, below, MIB, NULL));
			else if (at == 40 * MIB)
				ASSERT_OK(disk_reader_read(o.base, at, below, 512, NULL));
			same = memcmp(below, theirs, MIB) == 0;
			ASSERT_EQ(disk_reader_differs(o.delta, at, MIB, NULL), !same);
			/* What is said to be the base's is. */
			for (uint64_t k = 0; k < MIB; k += reach) {
				int r = disk_reader_is_base(o.delta, at + k, MIB - k, &reach, NULL);

				ASSERT_OK(r);
				ASSERT(reach > 0);
				if (r)
					ASSERT_MEMEQ(below + k, theirs + k, reach);
				from_base += r ? reach : 0;
			}
		}
		ASSERT(from_base > 0);
		close_both(&o);
	}
}

TEST(a_place_past_the_end_is_refused)
{
	struct opened o;
	char c[16];

	make_base("base.raw", MIB);
	make_delta("d.qcow2", MIB);
	open_both(&o, "d.qcow2");
	ASSERT_EQ(disk_reader_read(o.delta, MIB - 8, c, 16, NULL), -ERANGE);
	ASSERT_EQ(disk_reader_read(o.delta, UINT64_MAX - 4, c, 16, NULL), -ERANGE);
	ASSERT_OK(disk_reader_read(o.delta, MIB - 16, c, 16, NULL));
	close_both(&o);
}

/* Every byte of the tables, turned into something else: an error or other bytes, never a crash, never an endless walk. */
TEST(damaged_tables_are_refused_or_read)
{
	uint64_t bytes = 4 * MIB;
	_cleanup_close_ int fd = -EBADF;
	_cleanup_free_ char *to = xcalloc(1, bytes);
	struct stat st;

	make_base("base.raw", bytes);
	make_delta("d.qcow2", bytes);
	scribble("d.qcow2", bytes, 99, 40);
	fd = open_file("d.qcow2", O_RDWR);
	ASSERT_OK(fstat(fd, &st));
	for (uint64_t at = 0; at < (uint64_t)st.st_size && at < 8 * 65536; at += at % 65536 < 1024 ? 3 : 1021) {
		uint8_t was, is;
		_cleanup_close_ int base_fd = open_file("base.raw", O_RDONLY);
		_cleanup_(disk_reader_freep) struct disk_reader *base = NULL, *delta = NULL;
		_cleanup_error_ struct error e = {};

		ASSERT_OK(pread_full(fd, &was, 1, at));
		is = (uint8_t)(was ^ (1u << (at % 8)));
		ASSERT_OK(pwrite_full(fd, &is, 1, at));
		ASSERT_OK(disk_reader_raw(base_fd, "base", &base, NULL));
		if (disk_reader_qcow2(fd, "delta", base, &delta, &e) >= 0 && disk_reader_bytes(delta) >= bytes)
			(void)disk_reader_read(delta, 0, to, bytes, NULL);
		ASSERT_OK(pwrite_full(fd, &was, 1, at));
	}
}
