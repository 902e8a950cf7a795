#include "image/kernel_file.h"

#include <ctype.h>
#include <elf.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "base/memory.h"
#include "image/pack.h"

enum {
	/* The setup header (Documentation/x86/boot.rst). */
	SETUP_SECTS = 0x1f1,
	SETUP_MAGIC = 0x202,
	SETUP_VERSION = 0x206,
	SETUP_KERNEL_VERSION = 0x20e,
	SETUP_PAYLOAD_OFFSET = 0x248,
	SETUP_PAYLOAD_LENGTH = 0x24c,
	SETUP_END = 0x250,
	PROTOCOL_MIN = 0x208, /* the first with a payload field */
	NOTE_PHYS32_ENTRY = 18,
	HEADERS_MAX = 256,
	NOTES_MAX = 1 << 20,
	RELEASE_MAX = 100,
	UNPACKED_MAX = 512 << 20,
};

static int bad(struct error *err, const char *what, const char *why)
{
	return error_set(err, EBADMSG, "%s: not a kernel: %s", what, why);
}

static uint32_t le32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static uint16_t le16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return le16toh(v);
}

/* Notes: name size, description size, type, then both, each padded to four bytes. */
static bool has_pvh_note(const uint8_t *p, size_t n)
{
	while (n >= 12) {
		uint64_t name = le32(p), desc = le32(p + 4);
		uint64_t size = 12 + ((name + 3) & ~UINT64_C(3)) + ((desc + 3) & ~UINT64_C(3));

		if (size > n && 12 + ((name + 3) & ~UINT64_C(3)) + desc > n)
			return false;
		if (le32(p + 8) == NOTE_PHYS32_ENTRY && name == 4 && memcmp(p + 12, "Xen", 4) == 0 && desc >= 4)
			return true;
		if (size > n)
			return false;
		p += size;
		n -= size;
	}
	return false;
}

int kernel_check_vmlinux(const void *data, size_t n, const char *what, bool *ret_pvh, struct error *err)
{
	const uint8_t *p = data;
	bool pvh = false, load = false;
	Elf64_Ehdr h;

	if (n < sizeof(h))
		return bad(err, what, "it is too short");
	memcpy(&h, p, sizeof(h));
	if (memcmp(h.e_ident, ELFMAG, SELFMAG) != 0)
		return bad(err, what, "it is neither an ELF file nor a bzImage");
	if (h.e_ident[EI_CLASS] != ELFCLASS64 || h.e_ident[EI_DATA] != ELFDATA2LSB || h.e_machine != EM_X86_64)
		return bad(err, what, "it is for another kind of processor");
	if (h.e_type != ET_EXEC)
		return bad(err, what, "it is an ELF file, but not one to boot");
	if (h.e_phentsize != sizeof(Elf64_Phdr) || h.e_phnum == 0 || h.e_phnum > HEADERS_MAX || h.e_phoff > n ||
	    h.e_phnum > (n - h.e_phoff) / sizeof(Elf64_Phdr))
		return bad(err, what, "its program headers lie outside it");
	for (size_t i = 0; i < h.e_phnum; i++) {
		Elf64_Phdr ph;

		memcpy(&ph, p + h.e_phoff + i * sizeof(ph), sizeof(ph));
		if (ph.p_type != PT_LOAD && ph.p_type != PT_NOTE)
			continue;
		if (ph.p_offset > n || ph.p_filesz > n - ph.p_offset || ph.p_filesz > ph.p_memsz)
			return bad(err, what, "a segment lies outside it");
		if (ph.p_type == PT_LOAD)
			load = true;
		else if (ph.p_filesz <= NOTES_MAX && has_pvh_note(p + ph.p_offset, ph.p_filesz))
			pvh = true;
	}
	if (!load)
		return bad(err, what, "it has nothing to load");
	*ret_pvh = pvh;
	return 0;
}

bool kernel_is_bzimage(const void *data, size_t n)
{
	const uint8_t *p = data;

	return n >= SETUP_END && le16(p + 0x1fe) == 0xaa55 && memcmp(p + SETUP_MAGIC, "HdrS", 4) == 0;
}

int kernel_unpack_bzimage(const void *data, size_t n, const char *what, struct buf *ret, struct error *err)
{
	static const uint8_t gzip[] = { 0x1f, 0x8b };
	const uint8_t *p = data;
	uint64_t start, len;

	if (!kernel_is_bzimage(p, n))
		return bad(err, what, "it has no setup header");
	if (le16(p + SETUP_VERSION) < PROTOCOL_MIN)
		return bad(err, what, "its boot protocol is older than 2.08");
	start = ((uint64_t)(p[SETUP_SECTS] ? p[SETUP_SECTS] : 4) + 1) * 512 + le32(p + SETUP_PAYLOAD_OFFSET);
	len = le32(p + SETUP_PAYLOAD_LENGTH);
	if (start > n || len > n - start || len < 16)
		return bad(err, what, "its payload lies outside it");
	/* Behind every packing but gzip, which has it built in, the kernel's build appends the unpacked size. */
	if (memcmp(p + start, gzip, sizeof(gzip)) != 0)
		len -= 4;
	if (memcmp(p + start, ELFMAG, SELFMAG) == 0) {
		buf_add(ret, p + start, len);
		return 0;
	}
	return archive_unpack(p + start, len, what, UNPACKED_MAX, ret, err);
}

/* Up to the first blank, when all of it is what releases are made of. */
static char *release_word(const uint8_t *p, size_t n)
{
	size_t len = 0;

	while (len < n && len < RELEASE_MAX && (isalnum(p[len]) || (p[len] && strchr(".-_+~", p[len]))))
		len++;
	if (len == 0 || len == n || !isdigit(p[0]) || (p[len] != ' ' && p[len] != 0))
		return NULL;
	return xstrndup((const char *)p, len);
}

char *kernel_release(const void *data, size_t n)
{
	static const char banner[] = "Linux version ";
	const uint8_t *p = data;

	if (kernel_is_bzimage(p, n)) {
		size_t at = (size_t)le16(p + SETUP_KERNEL_VERSION) + 512;

		return at < n ? release_word(p + at, n - at) : NULL;
	}
	for (const uint8_t *at = p; at;) {
		char *word;

		at = memmem(at, n - (size_t)(at - p), banner, sizeof(banner) - 1);
		if (!at)
			break;
		at += sizeof(banner) - 1;
		word = release_word(at, n - (size_t)(at - p));
		if (word)
			return word;
	}
	return NULL;
}
