#include "disk/namespace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/memory.h"

enum { PATH_LIMIT = 4096, NAME_LIMIT = 255, LINKS_LIMIT = 40 };

struct namespace
{
	struct node *root;
	struct node **buckets;
	size_t n_buckets; /* a power of two */
	size_t n, limit;
};

static size_t hash(const struct node *parent, const char *name, size_t len)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325) ^ parent->ino;

	h *= UINT64_C(0x100000001b3);
	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)name[i]) * UINT64_C(0x100000001b3);
	return (size_t)(h ^ h >> 29);
}

struct namespace *namespace_new(uint32_t root_ino, size_t limit)
{
	struct namespace *n = xnew(struct namespace);

	n->limit = limit;
	n->n_buckets = 1024;
	n->buckets = xnew_n(struct node *, n->n_buckets);
	n->root = xcalloc(1, sizeof(*n->root) + 1);
	n->root->parent = n->root;
	n->root->ino = root_ino;
	n->root->mode = S_IFDIR | 0755;
	return n;
}

struct namespace *namespace_free(struct namespace *n)
{
	if (!n)
		return NULL;
	for (size_t i = 0; i < n->n_buckets; i++)
		for (struct node *p = n->buckets[i], *next; p; p = next) {
			next = p->hash_next;
			free(p->target);
			free(p);
		}
	free(n->buckets);
	free(n->root);
	free(n);
	return NULL;
}

struct node *namespace_root(struct namespace *n)
{
	return n->root;
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

struct node *namespace_lookup(struct namespace *n, const struct node *parent, const char *name, size_t len)
{
	for (struct node *p = n->buckets[hash(parent, name, len) & (n->n_buckets - 1)]; p; p = p->hash_next)
		if (p->parent == parent && strncmp(p->name, name, len) == 0 && !p->name[len])
			return p;
	return NULL;
}

static void rehash(struct namespace *n)
{
	size_t size = n->n_buckets * 4;
	struct node **buckets = xnew_n(struct node *, size);

	for (size_t i = 0; i < n->n_buckets; i++)
		for (struct node *p = n->buckets[i], *next; p; p = next) {
			struct node **b = &buckets[hash(p->parent, p->name, strlen(p->name)) & (size - 1)];

			next = p->hash_next;
			p->hash_next = *b;
			*b = p;
		}
	free(n->buckets);
	n->buckets = buckets;
	n->n_buckets = size;
}

int namespace_add(struct namespace *n, struct node *parent, const char *name, size_t len, uint32_t ino, mode_t mode,
		  const char *target, struct node **ret)
{
	struct node *p, **b;

	if (n->n >= n->limit)
		return -E2BIG;
	if (n->n >= n->n_buckets)
		rehash(n);
	p = xcalloc(1, sizeof(*p) + len + 1);
	memcpy(p->name, name, len);
	p->parent = parent;
	p->ino = ino;
	p->mode = mode;
	p->target = xstrdup(target);
	p->next = parent->first_child;
	if (p->next)
		p->next->prev = p;
	parent->first_child = p;
	parent->n_children++;
	parent->n_subdirs += S_ISDIR(mode);
	b = &n->buckets[hash(parent, name, len) & (n->n_buckets - 1)];
	p->hash_next = *b;
	*b = p;
	n->n++;
	*ret = p;
	return 0;
}

void namespace_remove(struct namespace *n, struct node *node)
{
	struct node **b = &n->buckets[hash(node->parent, node->name, strlen(node->name)) & (n->n_buckets - 1)];

	while (*b != node)
		b = &(*b)->hash_next;
	*b = node->hash_next;
	if (node->prev)
		node->prev->next = node->next;
	else
		node->parent->first_child = node->next;
	if (node->next)
		node->next->prev = node->prev;
	node->parent->n_children--;
	node->parent->n_subdirs -= S_ISDIR(node->mode);
	n->n--;
	free(node->target);
	free(node);
}

/* One component on the way. */
static int step(struct namespace *n, struct node *at, const char *name, size_t len, namespace_mkdir_fn mkdir,
		void *data, struct node **ret)
{
	*ret = namespace_lookup(n, at, name, len);
	if (*ret)
		return 0;
	return mkdir ? mkdir(data, at, name, len, ret) : -ENOENT;
}

/* Walks @rest (consumed piece by piece) from the root; every component is followed. @any: the last one may be no directory. */
static int walk(struct namespace *n, struct buf *rest, bool any, namespace_mkdir_fn mkdir, void *data,
		struct node **ret)
{
	struct node *at = n->root;
	unsigned links = 0;

	while (rest->len) {
		size_t len = strcspn(rest->p, "/");
		struct node *next;
		int r;

		if (len == 2 && memcmp(rest->p, "..", 2) == 0) {
			at = at->parent; /* only a link's target can say this; the root is its own parent */
		} else if (len && !(len == 1 && rest->p[0] == '.')) {
			if (len > NAME_LIMIT)
				return -ENAMETOOLONG;
			r = step(n, at, rest->p, len, mkdir, data, &next);
			if (r < 0)
				return r;
			if (S_ISLNK(next->mode)) {
				_cleanup_buf_ struct buf joined = {};

				if (++links > LINKS_LIMIT)
					return -ELOOP;
				buf_adds(&joined, next->target);
				buf_add(&joined, rest->p + len, rest->len - len);
				if (next->target[0] == '/')
					at = n->root;
				buf_truncate(rest, 0);
				buf_add(rest, joined.p, joined.len);
				continue;
			}
			if (!S_ISDIR(next->mode) && !(any && len == rest->len))
				return -ENOTDIR;
			at = next;
		}
		buf_consume(rest, len + (rest->p[len] == '/'));
	}
	*ret = at;
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

char *namespace_path(const struct node *node)
{
	struct strv names = {};
	struct buf out = {};

	for (; node->parent != node; node = node->parent)
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
