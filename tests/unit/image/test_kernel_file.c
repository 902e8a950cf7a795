#include "image/kernel_file.h"

#include <elf.h>
#include <errno.h>
#include <zlib.h>

#include "base/memory.h"
#include "test.h"

struct kernel {
	Elf64_Ehdr h;
	Elf64_Phdr load, note;
	uint32_t note_sizes[3];
	char note_name[4];
	uint32_t entry;
	char text[64];
};

static struct kernel good(void)
{
	struct kernel k = {
		.h = { .e_type = ET_EXEC,
		       .e_machine = EM_X86_64,
		       .e_phoff = sizeof(Elf64_Ehdr),
		       .e_phentsize = sizeof(Elf64_Phdr),
		       .e_phnum = 2 },
		.load = { .p_type = PT_LOAD,
			  .p_offset = offsetof(struct kernel, text),
			  .p_filesz = sizeof(k.text),
			  .p_memsz = sizeof(k.text) },
		.note = { .p_type = PT_NOTE,
			  .p_offset = offsetof(struct kernel, note_sizes),
			  .p_filesz = 20,
			  .p_memsz = 20 },
		.note_sizes = { 4, 4, 18 },
		.note_name = "Xen",
		.text = "Linux version 6.1.0-1-cloud (x)",
	};

	memcpy(k.h.e_ident, ELFMAG, SELFMAG);
	k.h.e_ident[EI_CLASS] = ELFCLASS64;
	k.h.e_ident[EI_DATA] = ELFDATA2LSB;
	return k;
}

TEST(a_vmlinux_and_its_note_are_known)
{
	struct kernel k = good();
	_cleanup_free_ char *release = NULL;
	bool pvh = false;

	ASSERT_OK(kernel_check_vmlinux(&k, sizeof(k), "k", &pvh, NULL));
	ASSERT(pvh);
	release = kernel_release(&k, sizeof(k));
	ASSERT_STREQ(release, "6.1.0-1-cloud");
	k.note_sizes[2] = 17;
	ASSERT_OK(kernel_check_vmlinux(&k, sizeof(k), "k", &pvh, NULL));
	ASSERT(!pvh);
}

TEST(headers_that_lie_are_data_errors)
{
	bool pvh;

	for (int i = 0; i < 12; i++) {
		_cleanup_error_ struct error e = {};
		struct kernel k = good();
		size_t n = sizeof(k);

		switch (i) {
		case 0: k.h.e_ident[1] = 'X'; break;
		case 1: k.h.e_ident[EI_CLASS] = ELFCLASS32; break;
		case 2: k.h.e_machine = EM_AARCH64; break;
		case 3: k.h.e_type = ET_REL; break;
		case 4: k.h.e_phoff = UINT64_MAX; break;
		case 5: k.h.e_phnum = 0; break;
		case 6: k.h.e_phnum = 200; break;
		case 7: k.h.e_phentsize = 1; break;
		case 8: k.load.p_offset = UINT64_MAX - 3; break;
		case 9: k.load.p_filesz = UINT64_MAX; break;
		case 10: k.load.p_type = PT_NULL; break;
		default: n = 20; break;
		}
		if (kernel_check_vmlinux(&k, n, "k", &pvh, &e) != -EBADMSG)
			test_fail(__FILE__, __LINE__, "case %d passed", i);
		ASSERT_EQ(e.kind, ERROR_DATA);
	}
}

TEST(notes_that_lie_do_no_harm)
{
	static const uint32_t sizes[] = { 0, 1, 5, 100, 0x7fffffff, 0xfffffffe, 0xffffffff };
	bool pvh;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		for (size_t j = 0; j < ARRAY_SIZE(sizes); j++) {
			struct kernel k = good();

			k.note_sizes[0] = sizes[i];
			k.note_sizes[1] = sizes[j];
			ASSERT_OK(kernel_check_vmlinux(&k, sizeof(k), "k", &pvh, NULL));
			ASSERT(!pvh);
		}
}

/* A bzImage around @payload. */
static void wrap(struct buf *out, const void *payload, size_t n, size_t extra)
{
	uint8_t setup[5 * 512] = {};
	uint32_t offset = 16, len = (uint32_t)(n + extra);
	uint16_t magic = 0xaa55, version = 0x20f, name = 0x300;
	char pad[16] = {};

	setup[0x1f1] = 4;
	memcpy(setup + 0x1fe, &magic, 2);
	memcpy(setup + 0x202, "HdrS", 4);
	memcpy(setup + 0x206, &version, 2);
	memcpy(setup + 0x20e, &name, 2);
	memcpy(setup + 0x248, &offset, 4);
	memcpy(setup + 0x24c, &len, 4);
	memcpy(setup + 0x500, "6.1.0-9-test (builder)", 23);
	buf_add(out, setup, sizeof(setup));
	buf_add(out, pad, sizeof(pad));
	buf_add(out, payload, n);
	buf_add(out, pad, extra);
}

static void gzip(const void *p, size_t n, struct buf *out)
{
	z_stream z = {};

	ASSERT_EQ(deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
	z.next_in = (Bytef *)(uintptr_t)p;
	z.avail_in = (uInt)n;
	z.next_out = buf_reserve(out, n + 1024);
	z.avail_out = (uInt)n + 1024;
	ASSERT_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
	buf_commit(out, z.total_out);
	deflateEnd(&z);
}

TEST(a_bzimage_is_unpacked)
{
	_cleanup_buf_ struct buf image = {}, packed = {}, out = {};
	_cleanup_free_ char *release = NULL;
	struct kernel k = good();

	gzip(&k, sizeof(k), &packed);
	wrap(&image, packed.p, packed.len, 0);
	ASSERT(kernel_is_bzimage(image.p, image.len));
	ASSERT_OK(kernel_unpack_bzimage(image.p, image.len, "b", &out, NULL));
	ASSERT_EQ(out.len, sizeof(k));
	ASSERT_MEMEQ(out.p, &k, sizeof(k));
	release = kernel_release(image.p, image.len);
	ASSERT_STREQ(release, "6.1.0-9-test");
}

/* As `lz4 -l` does (lz4_Frame_format.md, "Legacy frame"), all of it literals (lz4_Block_format.md). */
static void lz4_legacy(const void *p, size_t n, struct buf *out)
{
	static const uint8_t magic[] = { 0x02, 0x21, 0x4c, 0x18 };
	_cleanup_buf_ struct buf block = {};
	size_t left = n - 15;
	uint32_t size;

	ASSERT(n >= 15);
	buf_addc(&block, (char)0xf0);
	for (; left >= 255; left -= 255)
		buf_addc(&block, (char)0xff);
	buf_addc(&block, (char)left);
	buf_add(&block, p, n);
	size = (uint32_t)block.len;
	buf_add(out, magic, sizeof(magic));
	buf_add(out, &size, sizeof(size));
	buf_add(out, block.p, block.len);
}

/* Of the packings that a kernel's configuration offers, the one that Debian's cloud kernel has. Its build appends the unpacked size. */
TEST(a_bzimage_packed_by_lz4_is_unpacked)
{
	_cleanup_buf_ struct buf image = {}, packed = {}, out = {};
	struct kernel k = good();
	uint32_t size = sizeof(k);

	lz4_legacy(&k, sizeof(k), &packed);
	buf_add(&packed, &size, sizeof(size));
	wrap(&image, packed.p, packed.len, 0);
	ASSERT_OK(kernel_unpack_bzimage(image.p, image.len, "b", &out, NULL));
	ASSERT_EQ(out.len, sizeof(k));
	ASSERT_MEMEQ(out.p, &k, sizeof(k));
}

TEST(damaged_bzimages_are_data_errors)
{
	_cleanup_buf_ struct buf image = {}, packed = {};
	struct kernel k = good();

	gzip(&k, sizeof(k), &packed);
	wrap(&image, packed.p, packed.len, 0);
	for (int i = 0; i < 6; i++) {
		_cleanup_buf_ struct buf copy = {}, out = {};
		_cleanup_error_ struct error e = {};

		buf_add(&copy, image.p, image.len);
		switch (i) {
		case 0: memset(copy.p + 0x248, 0xff, 4); break;
		case 1: memset(copy.p + 0x24c, 0xff, 4); break;
		case 2: memset(copy.p + 0x24c, 0, 4); break;
		case 3: memset(copy.p + 0x206, 0, 2); break;
		case 4: memset(copy.p + 5 * 512 + 16 + 20, 0x55, 40); break;
		default: memset(copy.p + 0x202, 0, 4); break;
		}
		if (kernel_unpack_bzimage(copy.p, copy.len, "b", &out, &e) != -EBADMSG)
			test_fail(__FILE__, __LINE__, "case %d passed", i);
		ASSERT_EQ(e.kind, ERROR_DATA);
	}
	ASSERT(!kernel_is_bzimage(image.p, 0x24f));
	ASSERT(!kernel_release("x", 1));
}
