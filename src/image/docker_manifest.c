#include "image/docker_manifest.h"

#include <errno.h>

#include "base/buf.h"
#include "image/reference.h"
#include "json/json.h"

enum { NAMES_SHOWN = 20 };

static const struct json_field entry_fields[] = {
	{ "Config", JSON_STRING, offsetof(struct docker_manifest_image, config), JSON_REQUIRED },
	{ "RepoTags", JSON_STRINGS, offsetof(struct docker_manifest_image, tags), 0 },
	{ "Layers", JSON_STRINGS, offsetof(struct docker_manifest_image, layers), JSON_REQUIRED },
	{},
};
static const struct json_field list_fields[] = {
	{ "images", JSON_OBJECTS, offsetof(struct docker_manifest, images), JSON_REQUIRED, .fields = entry_fields,
	  .element_size = sizeof(struct docker_manifest_image), .count_offset = offsetof(struct docker_manifest, n) },
	{},
};

void docker_manifest_done(struct docker_manifest *m)
{
	json_fields_done(list_fields, m);
	*m = (struct docker_manifest){};
}

/* manifest.json is an array; a table wants an object. */
int docker_manifest_parse(const char *text, size_t len, struct docker_manifest *ret, struct error *err)
{
	_cleanup_json_ struct json *tree = NULL, *object = json_object();
	int r = json_parse(text, len, "manifest.json", &tree, err);

	if (r < 0)
		return r;
	if (!json_is_array(tree))
		return error_set(err, EBADMSG, "manifest.json: expected an array");
	json_set(object, "images", json_ref(tree));
	return json_load(object, list_fields, ret, "manifest.json", err);
}

static bool same_name(const char *a, const char *b)
{
	struct reference x, y;
	_cleanup_free_ char *nx = NULL, *ny = NULL;

	if (reference_parse(a, &x, NULL) < 0 || reference_parse(b, &y, NULL) < 0)
		return streq(a, b);
	nx = reference_name(&x);
	ny = reference_name(&y);
	return streq(nx, ny);
}

int docker_manifest_choose(const struct docker_manifest *m, const char *select, const char *what,
			   const struct docker_manifest_image **ret, const char **ret_name, struct error *err)
{
	_cleanup_buf_ struct buf names = {};
	size_t shown = 0;

	*ret_name = NULL;
	if (!m->n)
		return error_set(err, EBADMSG, "%s: there is no image in it", what);
	for (size_t i = 0; i < m->n; i++)
		for (size_t k = 0; k < m->images[i].tags.n; k++) {
			const char *tag = m->images[i].tags.items[k];

			if (select && same_name(tag, select)) {
				*ret = &m->images[i];
				*ret_name = tag;
				return 0;
			}
			if (shown++ < NAMES_SHOWN)
				buf_addf(&names, "%s%s", names.len ? ", " : "", tag);
		}
	if (select) {
		(void)error_set_kind(err, ERROR_NOT_FOUND, ENOENT, "%s holds no image named '%.100s'", what, select);
		return names.len ? error_hint(err, "it holds %s", names.p) : -ENOENT;
	}
	if (m->n > 1) {
		(void)error_set_kind(err, ERROR_USAGE, EINVAL, "%s holds several images", what);
		return error_hint(err, "choose one with --select: %s", names.len ? names.p : "none of them has a name");
	}
	*ret = &m->images[0];
	*ret_name = m->images[0].tags.n ? m->images[0].tags.items[0] : NULL;
	return 0;
}
