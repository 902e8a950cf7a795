#include "image/elf_needed.h"

#include <elf.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"

enum { FILES_MAX = 64, FILE_LIMIT = 64 << 20, NAME_LIMIT = 256 };

static const char *const directories[] = {
	"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"
};

/* A part of the file that lies within it, or NULL. */
static const void *part(const struct buf *f, uint64_t at, uint64_t n)
{
	return at <= f->len && n <= f->len - at ? f->p + at : NULL;
}

/* Copied out: nothing in a damaged file is where it should be. */
static bool header(const struct buf *f, size_t i, Elf64_Phdr *ret)
{
	const Elf64_Ehdr *e = part(f, 0, sizeof(*e));
	const void *p = part(f, e->e_phoff + i * sizeof(*ret), sizeof(*ret));

	if (p)
		memcpy(ret, p, sizeof(*ret));
	return p;
}

static Elf64_Dyn dynamic_at(const char *p, size_t i)
{
	Elf64_Dyn d;

	memcpy(&d, p + i * sizeof(d), sizeof(d));
	return d;
}

/* A string at an address, as the segments map the file. */
static const char *string_at(const struct buf *f, uint64_t address)
{
	const Elf64_Ehdr *e = part(f, 0, sizeof(*e));

	for (size_t i = 0; i < e->e_phnum; i++) {
		Elf64_Phdr h;
		const char *s;

		if (!header(f, i, &h) || h.p_type != PT_LOAD || address < h.p_vaddr ||
		    address - h.p_vaddr >= h.p_filesz)
			continue;
		s = part(f, h.p_offset + (address - h.p_vaddr), 1);
		if (s && strnlen(s, f->len - (size_t)(s - f->p)) < f->len - (size_t)(s - f->p))
			return s;
	}
	return NULL;
}

static int add_once(struct strv *v, const char *path, const char *of, struct error *err)
{
	if (strv_has(v, path))
		return 0;
	if (v->n >= FILES_MAX)
		return error_set_kind(err, ERROR_DATA, E2BIG, "%s: needs too many libraries", of);
	strv_add(v, path);
	return 0;
}

static int add_library(const char *name, const char *of, struct strv *ret, struct error *err)
{
	if (!name || !*name || strlen(name) > NAME_LIMIT || strchr(name, '/'))
		return error_set_kind(err, ERROR_DATA, EINVAL, "%s: the name of a library cannot be used", of);
	for (size_t i = 0; i < ARRAY_SIZE(directories); i++) {
		_cleanup_free_ char *path = xasprintf("%s/%s", directories[i], name);

		if (access(path, R_OK) == 0)
			return add_once(ret, path, of, err);
	}
	return error_set_kind(err, ERROR_UNAVAILABLE, ENOENT, "%s: its library %s is not installed", of, name);
}

/* What one file names: its loader, and the libraries that it needs itself. */
static int read_one(const char *path, struct strv *ret, struct error *err)
{
	_cleanup_buf_ struct buf f = {};
	const Elf64_Ehdr *e;
	const char *dynamic = NULL;
	size_t n_dynamic = 0;
	uint64_t strings = 0;
	int r = file_read_at(AT_FDCWD, path, FILE_LIMIT, &f);

	if (r < 0)
		return error_set_errno(err, r, "%s", path);
	e = part(&f, 0, sizeof(*e));
	if (!e || memcmp(e->e_ident, ELFMAG, SELFMAG) != 0 || e->e_ident[EI_CLASS] != ELFCLASS64 ||
	    e->e_machine != EM_X86_64 || e->e_phentsize != sizeof(Elf64_Phdr))
		return error_set_kind(err, ERROR_DATA, EINVAL, "%s: no program for x86-64", path);
	for (size_t i = 0; i < e->e_phnum; i++) {
		Elf64_Phdr h;

		if (!header(&f, i, &h))
			return error_set_kind(err, ERROR_DATA, EINVAL, "%s: cut short", path);
		if (h.p_type == PT_DYNAMIC) {
			n_dynamic = h.p_filesz / sizeof(Elf64_Dyn);
			dynamic = part(&f, h.p_offset, h.p_filesz);
		}
		if (h.p_type == PT_INTERP) {
			const char *s = part(&f, h.p_offset, h.p_filesz);

			if (!s || !h.p_filesz || s[h.p_filesz - 1] || s[0] != '/')
				return error_set_kind(err, ERROR_DATA, EINVAL, "%s: its loader has no name", path);
			r = add_once(ret, s, path, err);
			if (r < 0)
				return r;
		}
	}
	for (size_t i = 0; dynamic && i < n_dynamic; i++)
		if (dynamic_at(dynamic, i).d_tag == DT_STRTAB)
			strings = dynamic_at(dynamic, i).d_un.d_ptr;
	for (size_t i = 0; dynamic && i < n_dynamic && dynamic_at(dynamic, i).d_tag != DT_NULL; i++)
		if (dynamic_at(dynamic, i).d_tag == DT_NEEDED) {
			r = add_library(string_at(&f, strings + dynamic_at(dynamic, i).d_un.d_val), path, ret, err);
			if (r < 0)
				return r;
		}
	return 0;
}

int elf_needed(const char *program, struct strv *ret, struct error *err)
{
	size_t from = ret->n;
	int r = read_one(program, ret, err);

	for (size_t i = from; r >= 0 && i < ret->n; i++)
		r = read_one(ret->items[i], ret, err);
	return r;
}
