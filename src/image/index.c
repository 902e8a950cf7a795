/* The index is an OCI image index, so that other tools can read the store: each name is a manifest's annotation, and so are the facts about a
 * name that only we know. */
#include "image/index.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/lock.h"
#include "base/parse.h"
#include "image/oci.h"
#include "image/reference.h"

#define GENERATION "io.skerry.generation"
#define SEALED     "io.skerry.sealed-ns"
#define FSTYPE     "io.skerry.fstype"

struct entry {
	char *media_type, *digest;
	uint64_t size;
	struct strv annotations;
};

struct document {
	uint64_t schema;
	char *media_type;
	struct entry *entries;
	size_t n;
	struct strv annotations;
};

static const struct json_field entry_fields[] = {
	{ "mediaType", JSON_STRING, offsetof(struct entry, media_type), JSON_REQUIRED },
	{ "digest", JSON_STRING, offsetof(struct entry, digest), JSON_REQUIRED },
	{ "size", JSON_U64, offsetof(struct entry, size), JSON_REQUIRED },
	{ "annotations", JSON_MAP, offsetof(struct entry, annotations), 0 },
	{},
};

static const struct json_field document_fields[] = {
	{ "schemaVersion", JSON_U64, offsetof(struct document, schema), 0 },
	{ "mediaType", JSON_STRING, offsetof(struct document, media_type), 0 },
	{ "manifests", JSON_OBJECTS, offsetof(struct document, entries), JSON_REQUIRED, .fields = entry_fields,
	  .element_size = sizeof(struct entry), .count_offset = offsetof(struct document, n) },
	{ "annotations", JSON_MAP, offsetof(struct document, annotations), 0 },
	{},
};

static void document_done(struct document *d)
{
	json_fields_done(document_fields, d);
}

static void ref_done(struct image_ref *ref)
{
	free(ref->name);
	free(ref->digest);
	free(ref->media_type);
	free(ref->fstype);
	*ref = (struct image_ref){};
}

void image_index_done(struct image_index *i)
{
	for (size_t k = 0; k < i->n; k++)
		ref_done(&i->refs[k]);
	free(i->refs);
	strv_done(&i->generations);
	*i = (struct image_index){};
}

static const char *map_get(const struct strv *map, const char *key)
{
	for (size_t i = 0; i < map->n; i++) {
		const char *rest = after_prefix(map->items[i], key);

		if (rest && *rest == '=')
			return rest + 1;
	}
	return NULL;
}

static uint64_t map_number(const struct strv *map, const char *key)
{
	const char *text = map_get(map, key);
	uint64_t v;

	return text && parse_u64(text, 0, UINT64_MAX, &v) >= 0 ? v : 0;
}

static struct image_ref *append(struct image_index *index)
{
	index->refs = xrealloc_array(index->refs, index->n + 1, sizeof(*index->refs));
	index->refs[index->n] = (struct image_ref){};
	return &index->refs[index->n++];
}

static int take_entry(struct image_index *index, const struct entry *e, size_t i, struct error *err)
{
	const char *name = map_get(&e->annotations, OCI_ANNOTATION_REF_NAME);
	struct image_ref *ref;

	if (!is_digest(e->digest))
		return error_set(err, EBADMSG, "images/index.json: manifests[%zu].digest: no sha256 digest", i);
	/* Somebody else's: no image of ours has no name. */
	if (!name)
		return 0;
	ref = append(index);
	ref->name = xstrdup(name);
	ref->digest = xstrdup(e->digest);
	ref->media_type = xstrdup(e->media_type);
	ref->size = e->size;
	ref->generation = map_number(&e->annotations, GENERATION);
	ref->sealed_ns = map_number(&e->annotations, SEALED);
	if (map_get(&e->annotations, FSTYPE))
		ref->fstype = xstrdup(map_get(&e->annotations, FSTYPE));
	return 0;
}

int image_index_read(const struct store *s, struct image_index *ret, struct json **tree, struct error *err)
{
	_cleanup_(document_done) struct document d = {};
	_cleanup_error_ struct error e = {};
	int r;

	*ret = (struct image_index){};
	r = record_read(s->images_fd, "index.json", "images/index.json", document_fields, &d, tree, &e);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return error_move(err, &e);
	for (size_t i = 0; r >= 0 && i < d.n; i++)
		r = take_entry(ret, &d.entries[i], i, err);
	strv_copy(&ret->generations, &d.annotations);
	if (r < 0)
		image_index_done(ret);
	return r;
}

int image_index_load(const struct store *s, struct image_index *ret, struct error *err)
{
	_cleanup_json_ struct json *tree = NULL;

	return image_index_read(s, ret, &tree, err);
}

int image_index_write(const struct store *s, const struct image_index *index, struct json **tree, struct error *err)
{
	_cleanup_(document_done) struct document d = { .schema = 2 };
	int r = fault_point("image-index");

	if (r < 0)
		return error_set_errno(err, -r, "images/index.json");
	d.media_type = xstrdup(OCI_INDEX_TYPE);
	d.entries = xcalloc(index->n + 1, sizeof(*d.entries));
	d.n = index->n;
	for (size_t i = 0; i < index->n; i++) {
		const struct image_ref *ref = &index->refs[i];
		struct entry *e = &d.entries[i];

		e->media_type = xstrdup(ref->media_type);
		e->digest = xstrdup(ref->digest);
		e->size = ref->size;
		strv_addf(&e->annotations, OCI_ANNOTATION_REF_NAME "=%s", ref->name);
		strv_addf(&e->annotations, GENERATION "=%" PRIu64, ref->generation);
		strv_addf(&e->annotations, SEALED "=%" PRIu64, ref->sealed_ns);
		if (ref->fstype)
			strv_addf(&e->annotations, FSTYPE "=%s", ref->fstype);
	}
	strv_copy(&d.annotations, &index->generations);
	return record_write(s->images_fd, "index.json", "images/index.json", document_fields, &d, tree, RECORD_DURABLE,
			    err);
}

struct image_ref *image_index_find(const struct image_index *index, const char *name)
{
	for (size_t i = 0; i < index->n; i++)
		if (streq(index->refs[i].name, name))
			return &index->refs[i];
	return NULL;
}

bool image_index_uses(const struct image_index *index, const char *digest)
{
	for (size_t i = 0; i < index->n; i++)
		if (streq(index->refs[i].digest, digest))
			return true;
	return false;
}

/* The last generation of a name that is gone, and forgets it. */
static uint64_t take_generation(struct image_index *index, const char *name)
{
	_cleanup_free_ char *key = xasprintf(GENERATION "/%s", name);
	uint64_t v = map_number(&index->generations, key);
	struct strv kept = {};

	for (size_t i = 0; i < index->generations.n; i++) {
		const char *rest = after_prefix(index->generations.items[i], key);

		if (!rest || *rest != '=')
			strv_add(&kept, index->generations.items[i]);
	}
	strv_done(&index->generations);
	index->generations = kept;
	return v;
}

void image_index_set(struct image_index *index, const char *name, const char *digest, const char *media_type,
		     uint64_t size, const char *fstype)
{
	struct image_ref *ref = image_index_find(index, name);
	char *kind = fstype ? xstrdup(fstype) : NULL;

	if (!ref) {
		ref = append(index);
		ref->name = xstrdup(name);
		ref->generation = take_generation(index, name);
	}
	free(ref->digest);
	free(ref->media_type);
	free(ref->fstype);
	ref->fstype = kind;
	ref->digest = xstrdup(digest);
	ref->media_type = xstrdup(media_type);
	ref->size = size;
	ref->generation++;
	ref->sealed_ns = clock_realtime_ns();
}

void image_index_remove(struct image_index *index, struct image_ref *ref)
{
	size_t i = (size_t)(ref - index->refs);

	(void)take_generation(index, ref->name);
	strv_addf(&index->generations, GENERATION "/%s=%" PRIu64, ref->name, ref->generation);
	ref_done(ref);
	memmove(ref, ref + 1, (index->n - i - 1) * sizeof(*ref));
	index->n--;
}

int images_lock(const struct store *s, struct error *err)
{
	return lock_acquire(s->images_fd, "lock", "images", 30 * NS_PER_SEC, err);
}

int images_lock_disks(const struct store *s, int *ret_disks, struct error *err)
{
	_cleanup_close_ int lock = images_lock(s, err);

	*ret_disks = lock < 0 ? -EBADF : image_disks_open(s, err);
	return lock < 0 ? lock : *ret_disks < 0 ? *ret_disks : TAKE_FD(lock);
}
