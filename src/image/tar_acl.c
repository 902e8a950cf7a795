/* Access lists as text, as GNU tar, star and bsdtar write them: "user::rw-", "user:1000:r--", with a number behind it where the name is one
 * ("user:lisa:r--:1000"), apart from each other by commas or line ends. They become attributes as system calls have them
 * (linux/posix_acl_xattr.h). Sources: acl(5); the manual of star(5), "SCHILY.acl.access". */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parse.h"
#include "image/tar_parts.h"

enum { VERSION = 2, HEAD_BYTES = 4, ENTRIES_MAX = 8191, FIELDS_MAX = 4 };
#define NOBODY UINT32_MAX

/* In the order in which the kernel wants them. */
enum { USER_OBJ = 0x01, USER = 0x02, GROUP_OBJ = 0x04, GROUP = 0x08, MASK = 0x10, OTHER = 0x20 };

struct entry {
	uint16_t tag, perm;
	uint32_t id;
};

struct list {
	struct entry *items; /* owned */
	size_t n;
};

static int bad(struct tar *t, const char *text, struct error *err)
{
	return error_set(err, EBADMSG, "'%.200s': access list: '%.100s' is none of its entries", t->path, text);
}

static int parse_perm(const char *p, uint16_t *ret)
{
	static const char letters[] = "xwr";

	for (*ret = 0; *p; p++) {
		const char *at = strchr(letters, *p);

		if (at)
			*ret |= (uint16_t)(1u << (at - letters));
		else if (*p != '-')
			return -EINVAL;
	}
	return 0;
}

static uint16_t tag_of(const char *name, bool named)
{
	static const struct {
		const char *name, *brief;
		uint16_t own, named;
	} tags[] = { { "user", "u", USER_OBJ, USER },
		     { "group", "g", GROUP_OBJ, GROUP },
		     { "mask", "m", MASK, 0 },
		     { "other", "o", OTHER, 0 } };

	for (size_t i = 0; i < ARRAY_SIZE(tags); i++)
		if (streq(name, tags[i].name) || streq(name, tags[i].brief))
			return named ? tags[i].named : tags[i].own;
	return 0;
}

static int parse_entry(struct tar *t, const char *text, struct entry *ret, struct error *err)
{
	_cleanup_free_ char *copy = xstrdup(text);
	char *fields[FIELDS_MAX] = {}, *at = copy;
	const char *who;
	size_t n = 0;
	uint64_t id;

	/* What the mask leaves of it may be told behind it. */
	copy[strcspn(copy, " \t#")] = '\0';
	while (at && n < FIELDS_MAX) {
		fields[n++] = at;
		at = strchr(at, ':');
		if (at)
			*at++ = '\0';
	}
	/* "mask:r--", as Solaris has it. */
	if (n == 2 && tag_of(fields[0], false) & (MASK | OTHER)) {
		fields[2] = fields[1];
		fields[1] = fields[2] + strlen(fields[2]);
		n = 3;
	}
	if (at || n < 3)
		return bad(t, text, err);
	*ret = (struct entry){ .tag = tag_of(fields[0], *fields[1]), .id = NOBODY };
	if (!ret->tag || parse_perm(fields[2], &ret->perm) < 0)
		return bad(t, text, err);
	if (ret->tag != USER && ret->tag != GROUP)
		return 0;
	who = n == FIELDS_MAX && *fields[3] ? fields[3] : fields[1];
	if (parse_u64(who, 0, NOBODY - 1, &id) < 0) {
		(void)error_set(err, EBADMSG, "'%.200s': access list: '%.100s': the number of '%.32s' is not told",
				t->path, text, who);
		return error_hint(err, "pack it with bsdtar, which tells numbers as well, or without access lists");
	}
	ret->id = (uint32_t)id;
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->tag != y->tag)
		return x->tag < y->tag ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

/* As the kernel wants it: each of the three that every file has, nobody twice, and a mask where somebody is named. */
static bool is_sound(const struct list *l)
{
	unsigned tags = 0;

	for (size_t i = 0; i < l->n; i++) {
		if (i && compare(&l->items[i - 1], &l->items[i]) == 0)
			return false;
		tags |= l->items[i].tag;
	}
	return (tags & (USER_OBJ | GROUP_OBJ | OTHER)) == (USER_OBJ | GROUP_OBJ | OTHER) &&
	       (tags & MASK || !(tags & (USER | GROUP)));
}

static int parse(struct tar *t, const char *text, struct list *l, struct error *err)
{
	int r = 0;

	while (r >= 0 && *text) {
		size_t n = strcspn(text, ",\n");
		_cleanup_free_ char *one = xstrndup(text, n);

		text += n + (text[n] != '\0');
		if (!n)
			continue;
		if (l->n == ENTRIES_MAX)
			return tar_bad(t, err, "its access list is too long");
		if ((l->n & (l->n - 1)) == 0)
			l->items = xrealloc_array(l->items, l->n ? 2 * l->n : 1, sizeof(*l->items));
		r = parse_entry(t, one, &l->items[l->n++], err);
	}
	if (r < 0)
		return r;
	if (l->n)
		qsort(l->items, l->n, sizeof(*l->items), compare);
	return is_sound(l) ? 0 : tar_bad(t, err, "its access list is none that a file could have");
}

static void put(struct buf *out, uint32_t v, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		buf_addc(out, (char)(v >> 8 * i));
}

static int apply(struct tar *t, const struct tar_text *text, const char *xattr, bool is_default, struct error *err)
{
	_cleanup_buf_ struct buf value = {};
	struct list l = {};
	int r;

	if (!text->set)
		return 0;
	r = parse(t, text->p, &l, err);
	/* Three entries say what the mode does. */
	if (r >= 0 && (is_default || l.n > 3)) {
		put(&value, VERSION, HEAD_BYTES);
		for (size_t i = 0; i < l.n; i++) {
			put(&value, l.items[i].tag, sizeof(l.items[i].tag));
			put(&value, l.items[i].perm, sizeof(l.items[i].perm));
			put(&value, l.items[i].id, sizeof(l.items[i].id));
		}
		r = tar_xattr_add(t, xattr, value.p, value.len, err);
	}
	free(l.items);
	return r;
}

int tar_acl_apply(struct tar *t, struct error *err)
{
	int r = apply(t, &t->extended.acl_access, "system.posix_acl_access", false, err);

	return r < 0 ? r : apply(t, &t->extended.acl_default, "system.posix_acl_default", true, err);
}
