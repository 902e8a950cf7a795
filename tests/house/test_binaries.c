/* What is shipped is hardened and small. The programs come in SKERRY_PROGRAMS (dynamic) and SKERRY_GUEST (static), separated by ":". */
#include "test.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/spawn.h"

enum { PROGRAM_LIMIT = 64 << 20 };

struct elf {
	struct buf bytes;
	const Elf64_Ehdr *head;
	const Elf64_Phdr *segments;
};

static void elf_load(struct elf *e, const char *path)
{
	ASSERT_OK(file_read_at(AT_FDCWD, path, PROGRAM_LIMIT, &e->bytes));
	ASSERT(e->bytes.len > sizeof(Elf64_Ehdr));
	e->head = (const void *)e->bytes.p;
	ASSERT_MEMEQ(e->head->e_ident, ELFMAG, SELFMAG);
	ASSERT(e->head->e_phoff + (uint64_t)e->head->e_phnum * sizeof(Elf64_Phdr) <= e->bytes.len);
	e->segments = (const void *)(e->bytes.p + e->head->e_phoff);
}

static const Elf64_Phdr *elf_segment(const struct elf *e, uint32_t type)
{
	for (unsigned i = 0; i < e->head->e_phnum; i++)
		if (e->segments[i].p_type == type)
			return &e->segments[i];
	return NULL;
}

static uint64_t elf_dynamic(const struct elf *e, int64_t tag)
{
	const Elf64_Phdr *p = elf_segment(e, PT_DYNAMIC);
	const Elf64_Dyn *d = p ? (const void *)(e->bytes.p + p->p_offset) : NULL;

	for (; d && d->d_tag != DT_NULL; d++)
		if (d->d_tag == tag)
			return d->d_un.d_val;
	return 0;
}

/* Names of functions from libraries stand in the dynamic string table. */
static bool elf_imports(const struct elf *e, const char *part)
{
	return memmem(e->bytes.p, e->bytes.len, part, strlen(part)) != NULL;
}

static void each_program(const char *variable, void (*fn)(const char *path))
{
	_cleanup_free_ char *list = xstrdup(getenv(variable));

	if (!list || !*list)
		test_skip("%s names no program", variable);
	for (char *p = list; *p;) {
		size_t n = strcspn(p, ":");
		_cleanup_free_ char *path = xstrndup(p, n);

		printf("# %s\n", path);
		fn(path);
		p += n + (p[n] == ':');
	}
}

static void check_hardening(const char *path)
{
	struct elf e = {};

	elf_load(&e, path);
	ASSERT_EQ(e.head->e_type, ET_DYN);
	ASSERT(elf_dynamic(&e, DT_FLAGS_1) & DF_1_PIE);
	ASSERT(elf_segment(&e, PT_GNU_RELRO));
	ASSERT(elf_dynamic(&e, DT_FLAGS_1) & DF_1_NOW);
	ASSERT(elf_imports(&e, "__stack_chk_fail"));
	ASSERT(elf_imports(&e, "_chk"));
	buf_done(&e.bytes);
}

TEST(programs_are_pie_with_full_relro_protected_stacks_and_fortified_calls)
{
	each_program("SKERRY_PROGRAMS", check_hardening);
}

static void check_memory_rights(const char *path)
{
	struct elf e = {};
	const Elf64_Phdr *stack;

	elf_load(&e, path);
	stack = elf_segment(&e, PT_GNU_STACK);
	ASSERT(stack && !(stack->p_flags & PF_X));
	for (unsigned i = 0; i < e.head->e_phnum; i++)
		if (e.segments[i].p_type == PT_LOAD)
			ASSERT((e.segments[i].p_flags & (PF_W | PF_X)) != (PF_W | PF_X));
	buf_done(&e.bytes);
}

TEST(nothing_is_both_writable_and_executable)
{
	each_program("SKERRY_PROGRAMS", check_memory_rights);
	each_program("SKERRY_GUEST", check_memory_rights);
}

static void check_static(const char *path)
{
	struct elf e = {};

	elf_load(&e, path);
	ASSERT(!elf_segment(&e, PT_INTERP));
	ASSERT_EQ(elf_dynamic(&e, DT_NEEDED), 0);
	buf_done(&e.bytes);
}

TEST(guest_needs_no_library)
{
	each_program("SKERRY_GUEST", check_static);
}

static uint64_t stripped_size(const char *path)
{
	_cleanup_free_ char *out = xasprintf("%s/stripped", test_tmpdir());
	const char *argv[] = { "strip", "-o", out, path, NULL };
	struct spawn s = SPAWN_INIT;
	struct error err = {};
	struct stat st;

	s.argv = argv;
	ASSERT_OK(spawn_check(&s, NULL, NULL, 0, UINT64_C(30000000000), &err));
	ASSERT_OK(stat(out, &st) < 0 ? -errno : 0);
	printf("# %lld bytes stripped\n", (long long)st.st_size);
	return (uint64_t)st.st_size;
}

/* The first one is `skerry` itself. */
TEST(skerry_is_at_most_1_mib_stripped)
{
	_cleanup_free_ char *list = xstrdup(getenv("SKERRY_PROGRAMS"));

	if (!list || !*list)
		test_skip("no program");
	list[strcspn(list, ":")] = '\0';
	ASSERT(stripped_size(list) <= UINT64_C(1) << 20);
}

static void check_guest_size(const char *path)
{
	ASSERT(stripped_size(path) <= UINT64_C(400) << 10);
}

TEST(guest_is_at_most_400_kib_stripped)
{
	each_program("SKERRY_GUEST", check_guest_size);
}
