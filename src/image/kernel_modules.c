#include "image/kernel_modules.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#include "image/pack.h"

enum { MODULE_LIMIT = 64 << 20, MODULES_MAX = 256, NAME_MAX_LEN = 64, SECTIONS_MAX = 4096, INFO_MAX = 1 << 20 };

/* In the order of use: bus, console, disk, network, and what makes the rest of a guest's life good. A name that a kernel has built in, or
 * does not have, is not missed. */
static const char *const wanted[] = {
	"virtio_pci",     "virtio_mmio", "virtio_console", "virtio_blk", "virtio_net", "virtio_rng",
	"virtio_balloon", "overlay",     "crc32c_intel",   "erofs",      "virtiofs",   "vmw_vsock_virtio_transport",
	"qemu_fw_cfg",    "loop",
};

static struct kernel_module *find(struct kernel_modules *m, const char *name)
{
	for (size_t i = 0; i < m->n; i++)
		if (streq(m->items[i].name, name))
			return &m->items[i];
	return NULL;
}

static struct kernel_module *add(struct kernel_modules *m, const char *name)
{
	struct kernel_module *k = find(m, name);

	if (k || m->n >= MODULES_MAX)
		return k;
	m->items = xrealloc_array(m->items, m->n + 1, sizeof(*m->items));
	k = &m->items[m->n++];
	*k = (struct kernel_module){ .name = xstrdup(name) };
	return k;
}

void kernel_modules_init(struct kernel_modules *m)
{
	*m = (struct kernel_modules){};
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
		add(m, wanted[i])->wanted = true;
}

void kernel_modules_done(struct kernel_modules *m)
{
	for (size_t i = 0; i < m->n; i++) {
		free(m->items[i].name);
		buf_done(&m->items[i].content);
		strv_done(&m->items[i].depends);
	}
	free(m->items);
	*m = (struct kernel_modules){};
}

struct kernel_module *kernel_modules_match(struct kernel_modules *m, const char *path)
{
	const char *base = strrchr(path, '/'), *end;
	char name[NAME_MAX_LEN + 1];
	struct kernel_module *k;
	size_t n;

	base = base ? base + 1 : path;
	end = strstr(base, ".ko");
	if (!end || end == base || (end[3] && end[3] != '.'))
		return NULL;
	n = (size_t)(end - base);
	if (n > NAME_MAX_LEN)
		return NULL;
	for (size_t i = 0; i < n; i++)
		name[i] = base[i] == '-' ? '_' : base[i];
	name[n] = 0;
	k = find(m, name);
	return k && !k->content.len ? k : NULL;
}

/* Names in a module become names of files in the initrd. */
static bool name_is_fit(const char *s, size_t n)
{
	if (n == 0 || n > NAME_MAX_LEN)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') || (s[i] >= '0' && s[i] <= '9') ||
		      s[i] == '_' || s[i] == '-'))
			return false;
	return true;
}

static int add_depends(struct kernel_modules *m, size_t index, const char *list, size_t len)
{
	for (size_t at = 0; at < len;) {
		size_t n = 0;
		char name[NAME_MAX_LEN + 1];

		while (at + n < len && list[at + n] != ',')
			n++;
		if (n) {
			if (!name_is_fit(list + at, n))
				return -EBADMSG;
			for (size_t i = 0; i < n; i++)
				name[i] = list[at + i] == '-' ? '_' : list[at + i];
			name[n] = 0;
			if (!add(m, name))
				return -E2BIG;
			strv_add(&m->items[index].depends, name);
		}
		at += n + 1;
	}
	return 0;
}

/* Section .modinfo: "key=value" strings, each ended by zeros. */
static int read_modinfo(struct kernel_modules *m, size_t index, const char *p, size_t n)
{
	while (n) {
		size_t len = strnlen(p, n);
		const char *list = len >= 8 && memcmp(p, "depends=", 8) == 0 ? p + 8 : NULL;
		int r = list ? add_depends(m, index, list, len - 8) : 0;

		if (r < 0)
			return r;
		while (len < n && !p[len])
			len++;
		p += len;
		n -= len;
	}
	return 0;
}

static int read_depends(struct kernel_modules *m, size_t index)
{
	const struct buf *b = &m->items[index].content;
	Elf64_Ehdr h;
	Elf64_Shdr names, s;

	if (b->len < sizeof(h))
		return -EBADMSG;
	memcpy(&h, b->p, sizeof(h));
	if (memcmp(h.e_ident, ELFMAG, SELFMAG) != 0 || h.e_ident[EI_CLASS] != ELFCLASS64 || h.e_type != ET_REL ||
	    h.e_machine != EM_X86_64 || h.e_shentsize != sizeof(s) || h.e_shnum > SECTIONS_MAX || h.e_shoff > b->len ||
	    h.e_shnum > (b->len - h.e_shoff) / sizeof(s) || h.e_shstrndx >= h.e_shnum)
		return -EBADMSG;
	memcpy(&names, b->p + h.e_shoff + h.e_shstrndx * sizeof(s), sizeof(names));
	if (names.sh_offset > b->len || names.sh_size > b->len - names.sh_offset)
		return -EBADMSG;
	for (size_t i = 0; i < h.e_shnum; i++) {
		memcpy(&s, b->p + h.e_shoff + i * sizeof(s), sizeof(s));
		if (s.sh_name >= names.sh_size || names.sh_size - s.sh_name < sizeof(".modinfo") ||
		    memcmp(b->p + names.sh_offset + s.sh_name, ".modinfo", sizeof(".modinfo")) != 0)
			continue;
		if (s.sh_offset > b->len || s.sh_size > b->len - s.sh_offset || s.sh_size > INFO_MAX)
			return -EBADMSG;
		return read_modinfo(m, index, b->p + s.sh_offset, s.sh_size);
	}
	return -EBADMSG;
}

int kernel_modules_set(struct kernel_modules *m, struct kernel_module *module, const char *path,
		       const struct buf *content, struct error *err)
{
	size_t index = (size_t)(module - m->items);
	int r;

	if (content->len >= 4 && memcmp(content->p, ELFMAG, SELFMAG) == 0) {
		buf_add(&module->content, content->p, content->len);
	} else {
		r = archive_unpack(content->p, content->len, path, MODULE_LIMIT, &module->content, err);
		if (r < 0)
			return r;
	}
	/* @module may move: what it depends on is added to the same list. */
	r = read_depends(m, index);
	return r < 0 ? error_set(err, -r, "'%s' is not a kernel module", path) : 0;
}

size_t kernel_modules_missing(const struct kernel_modules *m)
{
	size_t n = 0;

	for (size_t i = 0; i < m->n; i++)
		n += !m->items[i].wanted && !m->items[i].content.len;
	return n;
}

static void order(struct kernel_modules *m, struct kernel_module *k, struct buf *load)
{
	/* Marked first: a circle of dependencies, which only a hostile package has, ends here. */
	if (k->done)
		return;
	k->done = true;
	for (size_t i = 0; i < k->depends.n; i++) {
		struct kernel_module *d = find(m, k->depends.items[i]);

		if (d)
			order(m, d, load);
	}
	if (k->content.len)
		buf_addf(load, "%s.ko\n", k->name);
}

void kernel_modules_order(struct kernel_modules *m, struct buf *load)
{
	for (size_t i = 0; i < m->n; i++)
		m->items[i].done = false;
	for (size_t i = 0; i < m->n; i++)
		if (m->items[i].wanted)
			order(m, &m->items[i], load);
}
