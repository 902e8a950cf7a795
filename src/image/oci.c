#include "image/oci.h"

#include <errno.h>
#include <stdio.h>
#include <sys/utsname.h>

#include "image/reference.h"

enum { INDEX_MAX = 4096, STRINGS_MAX = 10000 };

static const struct json_field platform_fields[] = {
	{ "architecture", JSON_STRING, offsetof(struct oci_platform, architecture), 0 },
	{ "os", JSON_STRING, offsetof(struct oci_platform, os), 0 },
	{ "variant", JSON_STRING, offsetof(struct oci_platform, variant), 0 },
	{},
};

static const struct json_field descriptor_fields[] = {
	{ "mediaType", JSON_STRING, offsetof(struct oci_descriptor, media_type), JSON_REQUIRED },
	{ "digest", JSON_STRING, offsetof(struct oci_descriptor, digest), JSON_REQUIRED },
	{ "size", JSON_U64, offsetof(struct oci_descriptor, size), JSON_REQUIRED },
	{ "platform", JSON_OBJECT, offsetof(struct oci_descriptor, platform), 0, .fields = platform_fields },
	{},
};

static const struct json_field manifest_fields[] = {
	{ "mediaType", JSON_STRING, offsetof(struct oci_manifest, media_type), 0 },
	{ "config", JSON_OBJECT, offsetof(struct oci_manifest, config), JSON_REQUIRED, .fields = descriptor_fields },
	{ "layers", JSON_OBJECTS, offsetof(struct oci_manifest, layers), JSON_REQUIRED, .fields = descriptor_fields,
	  .element_size = sizeof(struct oci_descriptor), .count_offset = offsetof(struct oci_manifest, n_layers) },
	{},
};

static const struct json_field index_fields[] = {
	{ "mediaType", JSON_STRING, offsetof(struct oci_index, media_type), 0 },
	{ "manifests", JSON_OBJECTS, offsetof(struct oci_index, manifests), JSON_REQUIRED, .fields = descriptor_fields,
	  .element_size = sizeof(struct oci_descriptor), .count_offset = offsetof(struct oci_index, n) },
	{},
};

static const struct json_field process_fields[] = {
	{ "User", JSON_STRING, offsetof(struct oci_config, user), 0 },
	{ "WorkingDir", JSON_STRING, offsetof(struct oci_config, workdir), 0 },
	{ "StopSignal", JSON_STRING, offsetof(struct oci_config, stop_signal), 0 },
	{ "Env", JSON_STRINGS, offsetof(struct oci_config, env), 0 },
	{ "Entrypoint", JSON_STRINGS, offsetof(struct oci_config, entrypoint), 0 },
	{ "Cmd", JSON_STRINGS, offsetof(struct oci_config, command), 0 },
	{},
};

static const struct json_field rootfs_fields[] = {
	{ "diff_ids", JSON_STRINGS, offsetof(struct oci_config, diff_ids), JSON_REQUIRED },
	{},
};

static const struct json_field config_fields[] = {
	{ "architecture", JSON_STRING, offsetof(struct oci_config, architecture), 0 },
	{ "os", JSON_STRING, offsetof(struct oci_config, os), 0 },
	{ "created", JSON_STRING, offsetof(struct oci_config, created), 0 },
	{},
};

static void platform_done(struct oci_platform *p)
{
	free(p->architecture);
	free(p->os);
	free(p->variant);
}

void oci_descriptor_done(struct oci_descriptor *d)
{
	free(d->media_type);
	free(d->digest);
	platform_done(&d->platform);
	strv_done(&d->annotations);
	*d = (struct oci_descriptor){};
}

static void descriptors_done(struct oci_descriptor *d, size_t n)
{
	for (size_t i = 0; i < n; i++)
		oci_descriptor_done(&d[i]);
	free(d);
}

void oci_manifest_done(struct oci_manifest *m)
{
	free(m->media_type);
	oci_descriptor_done(&m->config);
	descriptors_done(m->layers, m->n_layers);
	strv_done(&m->annotations);
	*m = (struct oci_manifest){};
}

void oci_index_done(struct oci_index *i)
{
	free(i->media_type);
	descriptors_done(i->manifests, i->n);
	strv_done(&i->annotations);
	*i = (struct oci_index){};
}

void oci_config_done(struct oci_config *c)
{
	free(c->architecture);
	free(c->os);
	free(c->created);
	free(c->user);
	free(c->workdir);
	free(c->stop_signal);
	strv_done(&c->env);
	strv_done(&c->entrypoint);
	strv_done(&c->command);
	strv_done(&c->volumes);
	strv_done(&c->exposed_ports);
	strv_done(&c->labels);
	strv_done(&c->diff_ids);
	*c = (struct oci_config){};
}

const char *oci_annotation(const struct oci_descriptor *d, const char *key)
{
	for (size_t i = 0; i < d->annotations.n; i++) {
		const char *rest = after_prefix(d->annotations.items[i], key);

		if (rest && *rest == '=')
			return rest + 1;
	}
	return NULL;
}

/* An object of strings that is for people: what is no string, or a key that we could not carry, is passed over. */
static void load_strings(const struct json *object, struct strv *to)
{
	const char *key;
	struct json *value;

	for (size_t i = 0; i < STRINGS_MAX && json_member(object, i, &key, &value); i++)
		if (json_string(value) && *key && !strchr(key, '='))
			strv_addf(to, "%s=%s", key, json_string(value));
}

/* The keys of an object: how volumes and ports are written. */
static void load_keys(const struct json *object, struct strv *to)
{
	const char *key;
	struct json *value;

	for (size_t i = 0; i < STRINGS_MAX && json_member(object, i, &key, &value); i++)
		if (*key)
			strv_add(to, key);
}

static int check_descriptor(const struct oci_descriptor *d, const char *what, const char *which, struct error *err)
{
	if (!is_digest(d->digest))
		return error_set(err, EBADMSG, "%s: %s: the digest is no sha256 digest", what, which);
	if (d->size > INT64_MAX)
		return error_set(err, EBADMSG, "%s: %s: the size is out of range", what, which);
	return 0;
}

static int check_all(const struct oci_descriptor *d, size_t n, const char *what, const char *noun, struct error *err)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < n; i++) {
		_cleanup_free_ char *which = xasprintf("%s[%zu]", noun, i);

		r = check_descriptor(&d[i], what, which, err);
	}
	return r;
}

static void load_annotations(const struct json *tree, const char *array, struct oci_descriptor *d, size_t n)
{
	const struct json *items = json_get(tree, array);

	for (size_t i = 0; i < n; i++)
		load_strings(json_get(json_at(items, i), "annotations"), &d[i].annotations);
}

static int parse_document(const char *text, size_t len, const char *what, struct json **ret, struct error *err)
{
	int r;

	if (len > OCI_DOCUMENT_MAX)
		return error_set_kind(err, ERROR_DATA, EFBIG, "%s: larger than 4 MiB", what);
	r = json_parse(text, len, what, ret, err);
	if (r >= 0 && !json_is_object(*ret))
		r = error_set(err, EBADMSG, "%s: expected an object", what);
	return r;
}

bool oci_is_manifest_type(const char *media_type)
{
	return streq(media_type, OCI_MANIFEST_TYPE) || streq(media_type, DOCKER_MANIFEST_TYPE);
}

bool oci_is_index_type(const char *media_type)
{
	return streq(media_type, OCI_INDEX_TYPE) || streq(media_type, DOCKER_INDEX_TYPE);
}

/* The media type is optional in OCI's documents; one that is there and another is a document of another kind. */
static int check_type(char **media_type, bool (*is_right)(const char *), const char *usual, const char *what,
		      struct error *err)
{
	if (!*media_type)
		*media_type = xstrdup(usual);
	if (!is_right(*media_type))
		return error_set(err, EBADMSG, "%s: mediaType: not '%s'", what, usual);
	return 0;
}

int oci_manifest_parse(const char *text, size_t len, const char *what, struct oci_manifest *ret, struct error *err)
{
	_cleanup_(oci_manifest_done) struct oci_manifest m = {};
	_cleanup_json_ struct json *tree = NULL;
	int r = parse_document(text, len, what, &tree, err);

	if (r >= 0)
		r = json_load(tree, manifest_fields, &m, what, err);
	if (r >= 0)
		r = check_type(&m.media_type, oci_is_manifest_type, OCI_MANIFEST_TYPE, what, err);
	if (r >= 0)
		r = check_descriptor(&m.config, what, "config", err);
	if (r >= 0 && m.n_layers > OCI_LAYERS_MAX)
		r = error_set(err, EBADMSG, "%s: layers: more than %d", what, OCI_LAYERS_MAX);
	if (r >= 0)
		r = check_all(m.layers, m.n_layers, what, "layers", err);
	if (r < 0)
		return r;
	load_annotations(tree, "layers", m.layers, m.n_layers);
	load_strings(json_get(tree, "annotations"), &m.annotations);
	*ret = m;
	m = (struct oci_manifest){};
	return 0;
}

int oci_index_parse(const char *text, size_t len, const char *what, struct oci_index *ret, struct error *err)
{
	_cleanup_(oci_index_done) struct oci_index x = {};
	_cleanup_json_ struct json *tree = NULL;
	int r = parse_document(text, len, what, &tree, err);

	if (r >= 0)
		r = json_load(tree, index_fields, &x, what, err);
	if (r >= 0)
		r = check_type(&x.media_type, oci_is_index_type, OCI_INDEX_TYPE, what, err);
	if (r >= 0 && x.n > INDEX_MAX)
		r = error_set(err, EBADMSG, "%s: manifests: more than %d", what, INDEX_MAX);
	if (r >= 0)
		r = check_all(x.manifests, x.n, what, "manifests", err);
	if (r < 0)
		return r;
	load_annotations(tree, "manifests", x.manifests, x.n);
	load_strings(json_get(tree, "annotations"), &x.annotations);
	*ret = x;
	x = (struct oci_index){};
	return 0;
}

static int check_config(const struct oci_config *c, const char *what, struct error *err)
{
	for (size_t i = 0; i < c->diff_ids.n; i++)
		if (!is_digest(c->diff_ids.items[i]))
			return error_set(err, EBADMSG, "%s: rootfs.diff_ids[%zu]: no sha256 digest", what, i);
	return 0;
}

int oci_config_parse(const char *text, size_t len, const char *what, struct oci_config *ret, struct json **ret_tree,
		     struct error *err)
{
	_cleanup_(oci_config_done) struct oci_config c = {};
	_cleanup_json_ struct json *tree = NULL;
	const struct json *process, *rootfs;
	int r = parse_document(text, len, what, &tree, err);

	if (r < 0)
		return r;
	process = json_get(tree, "config");
	rootfs = json_get(tree, "rootfs");
	r = json_load(tree, config_fields, &c, what, err);
	if (r >= 0 && !json_is_null(process)) {
		_cleanup_free_ char *where = xasprintf("%s: config", what);

		r = json_load(process, process_fields, &c, where, err);
	}
	if (r >= 0 && !json_is_null(rootfs)) {
		_cleanup_free_ char *where = xasprintf("%s: rootfs", what);

		r = json_load(rootfs, rootfs_fields, &c, where, err);
	}
	if (r >= 0)
		r = check_config(&c, what, err);
	if (r < 0)
		return r;
	load_keys(json_get(process, "Volumes"), &c.volumes);
	load_keys(json_get(process, "ExposedPorts"), &c.exposed_ports);
	load_strings(json_get(process, "Labels"), &c.labels);
	*ret = c;
	c = (struct oci_config){};
	if (ret_tree)
		*ret_tree = TAKE_PTR(tree);
	return 0;
}

static struct json *strings_json(const struct strv *v)
{
	struct json *j = json_object();

	for (size_t i = 0; i < v->n; i++) {
		_cleanup_free_ char *key = xstrndup(v->items[i], strcspn(v->items[i], "="));
		const char *value = v->items[i] + strlen(key);

		json_set_string(j, key, *value ? value + 1 : "");
	}
	return j;
}

static struct json *descriptor_json(const struct oci_descriptor *d)
{
	struct json *j = json_object();

	json_set_string(j, "mediaType", d->media_type);
	json_set_string(j, "digest", d->digest);
	json_set_u64(j, "size", d->size);
	if (d->annotations.n)
		json_set(j, "annotations", strings_json(&d->annotations));
	return j;
}

void oci_manifest_render(const struct oci_manifest *m, struct buf *out)
{
	_cleanup_json_ struct json *j = json_object();
	struct json *layers = json_array();

	json_set_u64(j, "schemaVersion", 2);
	json_set_string(j, "mediaType", m->media_type ? m->media_type : OCI_MANIFEST_TYPE);
	json_set(j, "config", descriptor_json(&m->config));
	for (size_t i = 0; i < m->n_layers; i++)
		json_append(layers, descriptor_json(&m->layers[i]));
	json_set(j, "layers", layers);
	if (m->annotations.n)
		json_set(j, "annotations", strings_json(&m->annotations));
	json_render(j, false, out);
}

/* The names that Go gives to what uname(2) tells, as images use them. */
const char *oci_own_architecture(void)
{
	static const char *const names[][2] = { { "x86_64", "amd64" },
						{ "aarch64", "arm64" },
						{ "riscv64", "riscv64" },
						{ "ppc64le", "ppc64le" },
						{ "s390x", "s390x" } };
	static const char fallback[] = "amd64";
	struct utsname u;

	if (uname(&u) < 0)
		return fallback;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (streq(u.machine, names[i][0]))
			return names[i][1];
	return fallback;
}

static bool part_equals(const char *text, size_t n, const char *value)
{
	return value && strlen(value) == n && memcmp(text, value, n) == 0;
}

/* What every machine of the architecture can run. */
static bool is_base(const struct oci_platform *p)
{
	const char *base = streq(p->architecture, "amd64") ? "v1" : streq(p->architecture, "arm64") ? "v8" : NULL;

	return !p->variant || !*p->variant || (base && streq(p->variant, base));
}

const struct oci_descriptor *oci_index_choose(const struct oci_index *i, const char *platform)
{
	_cleanup_free_ char *own = xasprintf("linux/%s", oci_own_architecture());
	const char *os = platform ? platform : own, *architecture = strchr(os, '/'), *variant;
	const struct oci_descriptor *other = NULL;
	size_t os_len = strcspn(os, "/"), len;

	if (!architecture)
		return NULL;
	architecture++;
	len = strcspn(architecture, "/");
	variant = architecture[len] ? architecture + len + 1 : NULL;
	for (size_t k = 0; k < i->n; k++) {
		const struct oci_platform *p = &i->manifests[k].platform;

		if (!part_equals(os, os_len, p->os) || !part_equals(architecture, len, p->architecture))
			continue;
		if (variant ? p->variant && streq(variant, p->variant) : is_base(p))
			return &i->manifests[k];
		if (!variant && !other)
			other = &i->manifests[k];
	}
	if (other)
		return other;
	/* A single one without a platform is what tools write that know one platform only. */
	if (!platform && i->n == 1 && !i->manifests[0].platform.architecture)
		return &i->manifests[0];
	return NULL;
}

void oci_layout_render(struct buf *out)
{
	_cleanup_json_ struct json *j = json_object();

	json_set_string(j, "imageLayoutVersion", "1.0.0");
	json_render(j, false, out);
}
