#include "image/kernel_modules.h"

#include <elf.h>
#include <errno.h>

#include "test.h"

struct module {
	Elf64_Ehdr h;
	Elf64_Shdr sections[3];
	char names[24];
	char info[128];
};

/* A module with one .modinfo; @depends as the build writes it: "a,b". */
static struct module make(const char *depends)
{
	struct module m = {
		.h = { .e_type = ET_REL,
		       .e_machine = EM_X86_64,
		       .e_shoff = offsetof(struct module, sections),
		       .e_shentsize = sizeof(Elf64_Shdr),
		       .e_shnum = 3,
		       .e_shstrndx = 1 },
		.sections = { {},
			      { .sh_offset = offsetof(struct module, names), .sh_size = sizeof(m.names) },
			      { .sh_name = 1, .sh_offset = offsetof(struct module, info), .sh_size = sizeof(m.info) } },
		.names = "\0.modinfo",
	};

	memcpy(m.h.e_ident, ELFMAG, SELFMAG);
	m.h.e_ident[EI_CLASS] = ELFCLASS64;
	(void)snprintf(m.info, sizeof(m.info), "license=GPL%cdepends=%s%cname=x", 0, depends, 0);
	return m;
}

static int set(struct kernel_modules *all, const char *path, const char *depends)
{
	struct module m = make(depends);
	struct kernel_module *k = kernel_modules_match(all, path);
	struct buf b = {};
	int r;

	ASSERT(k);
	buf_add(&b, &m, sizeof(m));
	r = kernel_modules_set(all, k, path, &b, NULL);
	buf_done(&b);
	return r;
}

TEST(dependencies_come_before_what_needs_them)
{
	_cleanup_(kernel_modules_done) struct kernel_modules m = {};
	_cleanup_buf_ struct buf load = {};

	kernel_modules_init(&m);
	ASSERT(!kernel_modules_match(&m, "6.1/kernel/drivers/virtio/virtio_ring.ko"));
	ASSERT_OK(set(&m, "6.1/kernel/drivers/block/virtio_blk.ko", "virtio_ring,virtio"));
	ASSERT_EQ(kernel_modules_missing(&m), 2);
	ASSERT_OK(set(&m, "6.1/kernel/drivers/virtio/virtio.ko", "virtio_ring"));
	ASSERT_OK(set(&m, "6.1/kernel/drivers/virtio/virtio_ring.ko", ""));
	ASSERT_OK(set(&m, "6.1/kernel/drivers/char/hw_random/virtio-rng.ko", "virtio"));
	ASSERT_EQ(kernel_modules_missing(&m), 0);
	kernel_modules_order(&m, &load);
	ASSERT_STREQ(load.p, "virtio_ring.ko\nvirtio.ko\nvirtio_blk.ko\nvirtio_rng.ko\n");
}

TEST(only_wanted_modules_match)
{
	_cleanup_(kernel_modules_done) struct kernel_modules m = {};

	kernel_modules_init(&m);
	ASSERT(kernel_modules_match(&m, "x/kernel/fs/fuse/virtiofs.ko.xz"));
	ASSERT(!kernel_modules_match(&m, "x/kernel/fs/fuse/virtiofs.kon"));
	ASSERT(!kernel_modules_match(&m, "x/kernel/fs/nfs/nfs.ko"));
	ASSERT(!kernel_modules_match(&m, ".ko"));
}

TEST(circles_end)
{
	_cleanup_(kernel_modules_done) struct kernel_modules m = {};
	_cleanup_buf_ struct buf load = {};

	kernel_modules_init(&m);
	ASSERT_OK(set(&m, "virtio_blk.ko", "virtio_net"));
	ASSERT_OK(set(&m, "virtio_net.ko", "virtio_blk"));
	kernel_modules_order(&m, &load);
	ASSERT_STREQ(load.p, "virtio_net.ko\nvirtio_blk.ko\n");
}

TEST(hostile_modules_are_refused)
{
	for (int i = 0; i < 7; i++) {
		_cleanup_(kernel_modules_done) struct kernel_modules all = {};
		struct module m = make(i == 0 ? "../../etc/x" : "virtio");
		_cleanup_buf_ struct buf b = {};

		kernel_modules_init(&all);
		switch (i) {
		case 1: m.h.e_shoff = UINT64_MAX; break;
		case 2: m.h.e_shstrndx = 9; break;
		case 3: m.sections[1].sh_size = UINT64_MAX; break;
		case 4: m.sections[2].sh_offset = UINT64_MAX; break;
		case 5: m.h.e_shnum = 60000; break;
		case 6: m.h.e_type = ET_EXEC; break;
		default: break;
		}
		buf_add(&b, &m, sizeof(m));
		if (kernel_modules_set(&all, kernel_modules_match(&all, "virtio_blk.ko"), "virtio_blk.ko", &b, NULL) !=
		    -EBADMSG)
			test_fail(__FILE__, __LINE__, "case %d passed", i);
	}
}
