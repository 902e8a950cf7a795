#include "disk/namespace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/memory.h"

enum {
	PATH_LIMIT = 4096,
	NAME_LIMIT = 255,
	LINKS_LIMIT = 40,
	UNIT = 8,              /* a node's number counts these */
	CHUNK_UNITS = 1 << 17, /* 1 MiB */
	NODE_UNITS_MAX = (sizeof(struct node) + NAME_LIMIT + PATH_LIMIT + 2) / UNIT + 1,
	CHUNKS_MAX = 1 << 15,
	FIRST_BUCKETS = 1024,
};

struct namespace
{
	struct node *root;
	char **chunks; /* owned, each of them too */
	size_t n_chunks;
	uint32_t used;                      /* units of the last chunk */
	uint32_t spare[NODE_UNITS_MAX + 1]; /* by size: nodes that were removed, linked by their next */
	uint32_t *buckets;                  /* owned */
	size_t n_buckets;                   /* a power of two */
	size_t n, limit_bytes;
	uint64_t seed; /* names are others' choice, and shall not be chosen to be in one bucket */
};

/* Number 0 is nobody's: the first unit is never given away. */
static struct node *at(const struct namespace *n, uint32_t number)
{
	if (!number)
		return NULL;
	return (struct node *)(void *)(n->chunks[number / CHUNK_UNITS] + (size_t)(number % CHUNK_UNITS) * UNIT);
}

struct node *namespace_root(const struct namespace *n)
{
	return n->root;
}

struct node *namespace_up(const struct namespace *n, const struct node *node)
{
	return at(n, node->up);
}

struct node *namespace_first(const struct namespace *n, const struct node *node)
{
	return at(n, node->first);
}

struct node *namespace_next(const struct namespace *n, const struct node *node)
{
	return at(n, node->next);
}

static uint32_t units_of(size_t name_len, size_t target_len)
{
	return (uint32_t)((sizeof(struct node) + name_len + 1 + target_len + 1 + UNIT - 1) / UNIT);
}

static uint32_t node_units(const struct node *node)
{
	return units_of(strlen(node->name), S_ISLNK(node->mode) ? strlen(node_target(node)) : 0);
}

/* What is beyond the limit is refused before it is taken. */
static int take_units(struct namespace *n, uint32_t units, uint32_t *ret)
{
	if (n->spare[units]) {
		*ret = n->spare[units];
		n->spare[units] = at(n, *ret)->next;
		return 0;
	}
	if (!n->n_chunks || n->used + units > CHUNK_UNITS) {
		size_t chunk = (size_t)CHUNK_UNITS * UNIT;

		if ((n->n_chunks + 1) * chunk + n->n_buckets * sizeof(*n->buckets) > n->limit_bytes ||
		    n->n_chunks == CHUNKS_MAX)
			return -E2BIG;
		n->chunks = xrealloc_array(n->chunks, n->n_chunks + 1, sizeof(*n->chunks));
		n->chunks[n->n_chunks] = xcalloc(1, chunk);
		n->used = n->n_chunks ? 0 : 1;
		n->n_chunks++;
	}
	*ret = (uint32_t)(n->n_chunks - 1) * CHUNK_UNITS + n->used;
	n->used += units;
	return 0;
}

static uint32_t *bucket(const struct namespace *n, uint32_t up, const char *name, size_t len)
{
	uint64_t h = n->seed ^ up;

	h *= UINT64_C(0x100000001b3);
	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)name[i]) * UINT64_C(0x100000001b3);
	return &n->buckets[(h ^ h >> 29) & (n->n_buckets - 1)];
}

struct namespace *namespace_new(uint32_t root_ino, size_t limit_bytes)
{
	struct namespace *n = xnew(struct namespace);
	uint32_t root;

	if (getrandom(&n->seed, sizeof(n->seed), GRND_NONBLOCK) != (ssize_t)sizeof(n->seed))
		n->seed = UINT64_C(0xcbf29ce484222325);
	n->limit_bytes = limit_bytes;
	n->n_buckets = FIRST_BUCKETS;
	n->buckets = xnew_n(uint32_t, n->n_buckets);
	if (take_units(n, units_of(0, 0), &root) < 0)
		abort(); /* a limit that holds nothing at all */
	n->root = at(n, root);
	n->root->self = n->root->up = root;
	n->root->ino = root_ino;
	n->root->mode = S_IFDIR | 0755;
	return n;
}

struct namespace *namespace_free(struct namespace *n)
{
	if (!n)
		return NULL;
	for (size_t i = 0; i < n->n_chunks; i++)
		free(n->chunks[i]);
	free(n->chunks);
	free(n->buckets);
	free(n);
	return NULL;
}

int namespace_check_path(const char *path)
{
	if (strlen(path) >= PATH_LIMIT)
		return -ENAMETOOLONG;
	if (streq(path, "."))
		return 0;
	for (const char *p = path;; p++) {
		size_t len = strcspn(p, "/");

		if (len == 0 || (p[0] == '.' && (len == 1 || (len == 2 && p[1] == '.'))))
			return -EINVAL;
		if (len > NAME_LIMIT)
			return -ENAMETOOLONG;
		p += len;
		if (!*p)
			return 0;
	}
}

struct node *namespace_lookup(const struct namespace *n, const struct node *parent, const char *name, size_t len)
{
	for (struct node *p = at(n, *bucket(n, parent->self, name, len)); p; p = at(n, p->hash_next))
		if (p->up == parent->self && strncmp(p->name, name, len) == 0 && !p->name[len])
			return p;
	return NULL;
}

static void rehash(struct namespace *n)
{
	uint32_t *old = n->buckets;
	size_t n_old = n->n_buckets;

	n->n_buckets *= 2;
	n->buckets = xnew_n(uint32_t, n->n_buckets);
	for (size_t i = 0; i < n_old; i++)
		for (uint32_t k = old[i], next; k; k = next) {
			struct node *p = at(n, k);
			uint32_t *b = bucket(n, p->up, p->name, strlen(p->name));

			next = p->hash_next;
			p->hash_next = *b;
			*b = k;
		}
	free(old);
}

int namespace_add(struct namespace *n, struct node *parent, const char *name, size_t len, uint32_t ino, mode_t mode,
		  const char *target, struct node **ret)
{
	size_t target_len = S_ISLNK(mode) && target ? strlen(target) : 0;
	uint32_t number, *b;
	struct node *p;
	int r;

	if (len > NAME_LIMIT || target_len > PATH_LIMIT)
		return -ENAMETOOLONG;
	if (n->n >= n->n_buckets)
		rehash(n);
	r = take_units(n, units_of(len, target_len), &number);
	if (r < 0)
		return r;
	p = at(n, number);
	memset(p, 0, sizeof(*p));
	memcpy(p->name, name, len);
	p->name[len] = '\0';
	memcpy(p->name + len + 1, target_len ? target : "", target_len + 1);
	p->self = number;
	p->up = parent->self;
	p->ino = ino;
	p->mode = (uint16_t)mode;
	p->next = parent->first;
	if (p->next)
		at(n, p->next)->prev = number;
	parent->first = number;
	parent->n_subdirs += S_ISDIR(mode);
	b = bucket(n, p->up, name, len);
	p->hash_next = *b;
	*b = number;
	n->n++;
	*ret = p;
	return 0;
}

void namespace_remove(struct namespace *n, struct node *node)
{
	uint32_t *b = bucket(n, node->up, node->name, strlen(node->name)), units = node_units(node);
	struct node *parent = at(n, node->up);

	while (*b != node->self)
		b = &at(n, *b)->hash_next;
	*b = node->hash_next;
	if (node->prev)
		at(n, node->prev)->next = node->next;
	else
		parent->first = node->next;
	if (node->next)
		at(n, node->next)->prev = node->prev;
	parent->n_subdirs -= S_ISDIR(node->mode);
	n->n--;
	node->next = n->spare[units];
	n->spare[units] = node->self;
}

/* One component on the way. */
static int step(struct namespace *n, struct node *dir, const char *name, size_t len, namespace_mkdir_fn mkdir,
		void *data, struct node **ret)
{
	*ret = namespace_lookup(n, dir, name, len);
	if (*ret)
		return 0;
	return mkdir ? mkdir(data, dir, name, len, ret) : -ENOENT;
}

/* Walks @rest (consumed piece by piece) from the root; every component is followed. @any: the last one may be no directory. */
static int walk(struct namespace *n, struct buf *rest, bool any, namespace_mkdir_fn mkdir, void *data,
		struct node **ret)
{
	struct node *dir = n->root;
	unsigned links = 0;

	while (rest->len) {
		size_t len = strcspn(rest->p, "/");
		struct node *next;
		int r;

		if (len == 2 && memcmp(rest->p, "..", 2) == 0) {
			dir = namespace_up(n, dir); /* only a link's target can say this; the root is its own parent */
		} else if (len && !(len == 1 && rest->p[0] == '.')) {
			if (len > NAME_LIMIT)
				return -ENAMETOOLONG;
			r = step(n, dir, rest->p, len, mkdir, data, &next);
			if (r < 0)
				return r;
			if (S_ISLNK(next->mode)) {
				_cleanup_buf_ struct buf joined = {};

				if (++links > LINKS_LIMIT)
					return -ELOOP;
				buf_adds(&joined, node_target(next));
				buf_add(&joined, rest->p + len, rest->len - len);
				if (node_target(next)[0] == '/')
					dir = n->root;
				buf_truncate(rest, 0);
				buf_add(rest, joined.p, joined.len);
				continue;
			}
			if (!S_ISDIR(next->mode) && !(any && len == rest->len))
				return -ENOTDIR;
			dir = next;
		}
		buf_consume(rest, len + (rest->p[len] == '/'));
	}
	*ret = dir;
	return 0;
}

int namespace_parent(struct namespace *n, const char *path, namespace_mkdir_fn mkdir, void *data,
		     struct node **ret_parent, const char **ret_last)
{
	_cleanup_buf_ struct buf rest = {};
	const char *slash;
	int r;

	r = namespace_check_path(path);
	if (r < 0)
		return r;
	if (streq(path, ".")) {
		*ret_parent = n->root;
		*ret_last = "";
		return 0;
	}
	slash = strrchr(path, '/');
	if (slash)
		buf_add(&rest, path, (size_t)(slash - path));
	*ret_last = slash ? slash + 1 : path;
	return walk(n, &rest, false, mkdir, data, ret_parent);
}

int namespace_resolve(struct namespace *n, const char *path, struct node **ret)
{
	_cleanup_buf_ struct buf rest = {};
	int r = namespace_check_path(path);

	if (r < 0)
		return r;
	buf_adds(&rest, path);
	return walk(n, &rest, true, NULL, NULL, ret);
}

char *namespace_path(const struct namespace *n, const struct node *node)
{
	struct strv names = {};
	struct buf out = {};

	for (; node != n->root; node = namespace_up(n, node))
		strv_add(&names, node->name);
	while (names.n) {
		names.n--;
		buf_addf(&out, "%s%s", out.len ? "/" : "", names.items[names.n]);
		free(names.items[names.n]);
	}
	free(names.items);
	if (!out.len)
		buf_addc(&out, '.');
	return buf_take(&out);
}
