/* Without recursion: depth is the input's choice. */
#include "disk/namespace_prune.h"

#include <errno.h>

int namespace_remove_tree(struct namespace *n, struct node *top, namespace_drop_fn drop, void *data, struct error *err)
{
	struct node *at = top;

	for (;;) {
		struct node *up = namespace_up(n, at), *child = namespace_first(n, at);
		bool last = at == top;
		int r;

		if (child) {
			at = child;
			continue;
		}
		r = drop(data, at, err);
		if (r < 0)
			return r;
		namespace_remove(n, at);
		if (last)
			return 0;
		at = up;
	}
}

static struct node *first_leaf(const struct namespace *n, struct node *at)
{
	for (struct node *child; (child = namespace_first(n, at));)
		at = child;
	return at;
}

/* Children first: a directory goes when nothing of this layer is left in it. */
int namespace_remove_lower(struct namespace *n, struct node *top, uint16_t layer, bool below, const struct node *kept,
			   uint64_t *visits, namespace_drop_fn drop, void *data, struct error *err)
{
	struct node *at = first_leaf(n, top), *next;

	for (;; at = next) {
		bool last = at == top;
		struct node *beside = last ? NULL : namespace_next(n, at);

		if (!*visits)
			return error_set_kind(err, ERROR_DATA, E2BIG,
					      "its layers' whiteouts take more work than is allowed");
		--*visits;
		next = beside ? first_leaf(n, beside) : namespace_up(n, at);
		if (at->layer < layer && !at->first && !(below && last) && at != kept) {
			int r = drop(data, at, err);

			if (r < 0)
				return r;
			namespace_remove(n, at);
		}
		if (last)
			return 0;
	}
}

const struct node *namespace_walk(const struct namespace *n, const struct node *at)
{
	const struct node *root = namespace_root(n), *next = namespace_first(n, at);

	while (!next && at != root) {
		next = namespace_next(n, at);
		at = namespace_up(n, at);
	}
	return next;
}
