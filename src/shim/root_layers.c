/* How this works. What containerd hands over (containerd, docs/mounts.md; plugins/snapshots/erofs) is mounts in their order, of which the last is the
 * root. "format/" in front of its type says that its words name earlier ones, "{{ mount N }}" for where the Nth is mounted and "{{ overlay A B }}" for
 * all from A to B with colons between them; "mkdir/", that X-containerd.mkdir.path=PATH[:MODE[:UID:GID]] wants directories. In the guest the Nth is
 * mounted on the directory N, so that is what such a word becomes. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/parse.h"
#include "shim/root.h"

enum { MOUNTS_MAX = 256, DIRECTORIES_MAX = 16, NAME_MAX_LEN = 255, MODE_MAX = 01777, OPTIONS_MAX = 4095 };

/* What an overlay takes besides its directories; those with "=" with a value. */
static const char *const overlay_options[] = {
	"ro",    "rw",      "noatime",   "nodiratime", "relatime", "nosuid",    "nodev",         "noexec",
	"sync",  "dirsync", "userxattr", "volatile",   "index=",   "metacopy=", "redirect_dir=", "nfs_export=",
	"xino=", "uuid=",   "defaults",
};
static const char *const bind_options[] = { "ro",     "rw",    "bind",   "rbind",   "noatime",
					    "nosuid", "nodev", "noexec", "defaults" };

static bool names_others(const char *text)
{
	return text && strstr(text, "{{");
}

bool root_is_layered(const struct share_mount *mounts, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (strchr(mounts[i].type, '/') || names_others(mounts[i].source) || names_others(mounts[i].target))
			return true;
		for (size_t k = 0; k < mounts[i].n_options; k++)
			if (names_others(mounts[i].options[k]))
				return true;
	}
	return false;
}

static int bad(struct error *err, const char *what, const char *text)
{
	return error_set(err, EINVAL, "root file system: %s '%.200s' is not understood", what, text);
}

/* ---- Words that name other mounts ---- */

static const char *skip_spaces(const char *p)
{
	return p + strspn(p, " \t");
}

/* A number below @limit. */
static const char *read_number(const char *p, size_t limit, size_t *ret)
{
	size_t len = strspn(p, "0123456789");
	_cleanup_free_ char *digits = xstrndup(p, len);
	uint64_t n;

	if (parse_u64(digits, 0, limit - 1, &n) < 0)
		return NULL;
	*ret = (size_t)n;
	return skip_spaces(p + len);
}

/* Appends what "{{ … }}" at @p names of @n mounts. Returns what follows it, NULL = it is not understood. @several: a list may come of it. */
static const char *expand(const char *p, size_t n, bool several, struct buf *out)
{
	size_t first, last;
	const char *word;

	if (!(p = after_prefix(p, "{{")))
		return NULL;
	p = skip_spaces(p);
	word = p;
	p = after_prefix(p, "mount ");
	if (!p && several)
		p = after_prefix(word, "overlay ");
	if (!p || !(p = read_number(skip_spaces(p), n, &first)))
		return NULL;
	last = first;
	if (word[0] == 'o' && !(p = read_number(p, n, &last)))
		return NULL;
	buf_addf(out, "%zu", first);
	while (first != last) {
		first = first < last ? first + 1 : first - 1;
		buf_addf(out, ":%zu", first);
	}
	return after_prefix(p, "}}");
}

/* "/a/b": of plain names. */
static bool path_valid(const char *p)
{
	if (!*p)
		return true;
	if (strpbrk(p, ",:\\\"'") || names_others(p))
		return false;
	for (const char *s = p; *s;) {
		size_t len;

		if (*s++ != '/')
			return false;
		len = strcspn(s, "/");
		if (len == 0 || len > NAME_MAX_LEN || (len == 1 && s[0] == '.') ||
		    (len == 2 && s[0] == '.' && s[1] == '.'))
			return false;
		for (size_t i = 0; i < len; i++)
			if ((unsigned char)s[i] < ' ' || s[i] == 0x7f)
				return false;
		s += len;
	}
	return true;
}

/* "{{ mount 0 }}/upper" becomes "0/upper". Owned by the caller; NULL = it is not understood. */
static char *expand_path(const char *text, size_t n)
{
	_cleanup_buf_ struct buf out = {};
	const char *rest = expand(text, n, false, &out);

	if (!rest || !path_valid(rest))
		return NULL;
	buf_adds(&out, rest);
	return buf_take(&out);
}

static char *expand_list(const char *text, size_t n)
{
	_cleanup_buf_ struct buf out = {};

	for (const char *p = text;;) {
		size_t len;
		_cleanup_free_ char *below = NULL;

		p = expand(p, n, true, &out);
		if (!p)
			return NULL;
		len = strcspn(p, ":");
		below = xstrndup(p, len);
		if (!path_valid(below))
			return NULL;
		buf_adds(&out, below);
		p += len;
		if (!*p)
			return buf_take(&out);
		buf_adds(&out, ":");
		p++;
	}
}

/* ---- The last mount ---- */

/* PATH[:MODE[:UID:GID]] */
static int add_directory(struct root *r, const char *text, struct error *err)
{
	_cleanup_strv_ struct strv parts = {};
	struct root_directory d = { .mode = 0700 };
	uint64_t mode = 0700, uid = 0, gid = 0;
	bool valid;

	/* The first colon that is not inside of "{{ … }}" ends the path; none is in there. */
	for (const char *p = text;; p++) {
		size_t len = strcspn(p, ":");

		strv_take(&parts, xstrndup(p, len));
		p += len;
		if (!*p)
			break;
	}
	valid = parts.n == 1 || parts.n == 2 || parts.n == 4;
	if (valid && parts.n >= 2) {
		char *end = NULL;

		mode = 0;
		for (end = parts.items[1]; *end >= '0' && *end <= '7' && mode <= MODE_MAX; end++)
			mode = mode * 8 + (uint64_t)(*end - '0');
		valid = end != parts.items[1] && !*end && mode <= MODE_MAX;
	}
	if (valid && parts.n == 4)
		valid = parse_u64(parts.items[2], 0, UINT32_MAX - 1, &uid) == 0 &&
			parse_u64(parts.items[3], 0, UINT32_MAX - 1, &gid) == 0;
	d.path = valid && r->n_directories < DIRECTORIES_MAX ? expand_path(parts.items[0], r->n_mounts) : NULL;
	if (!d.path)
		return bad(err, "the directory", text);
	d.mode = (uint32_t)mode;
	d.uid = (uint32_t)uid;
	d.gid = (uint32_t)gid;
	r->directories = xrealloc_array(r->directories, r->n_directories + 1, sizeof(*r->directories));
	r->directories[r->n_directories++] = d;
	return 0;
}

static bool known(const char *const *options, size_t n, const char *o)
{
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(options[i]);

		if (options[i][len - 1] == '=' ? strncmp(o, options[i], len) == 0 && !strchr(o, ',')
					       : streq(o, options[i]))
			return true;
	}
	return false;
}

/* A directory of the host's that the guest is to write to. */
static int check_host_directory(const char *path, struct error *err)
{
	struct stat st;

	if (!path_valid(path) || streq(path, ""))
		return bad(err, "the directory", path);
	if (lstat(path, &st) < 0)
		return error_set_errno(err, errno, "root file system: %.200s", path);
	return S_ISDIR(st.st_mode) ? 0 : error_set(err, ENOTDIR, "root file system: %.200s is no directory", path);
}

/* Both in one directory, which is what is shared: between two mounts nothing can be renamed. */
static int add_host_directories(struct root *r, const char *upper, const char *work, struct error *err)
{
	const char *a = strrchr(upper, '/'), *b = strrchr(work, '/');
	int k = check_host_directory(upper, err);

	if (k >= 0)
		k = check_host_directory(work, err);
	if (k < 0)
		return k;
	if (a == upper || a - upper != b - work || strncmp(upper, work, (size_t)(a - upper)) != 0 || streq(a, b))
		return error_set(
			err, EINVAL,
			"root file system: upperdir '%.200s' and workdir '%.200s' are not two directories of one",
			upper, work);
	r->upper_parent = xstrndup(upper, (size_t)(a - upper));
	r->upper = xstrdup(a + 1);
	r->work = xstrdup(b + 1);
	return 0;
}

static int add_writable(struct root *r, const char *upper, const char *work, struct error *err)
{
	if (!upper && !work)
		return 0;
	if (!upper || !work)
		return error_set(err, EINVAL, "root file system: an overlay with %s alone",
				 upper ? "an upperdir" : "a workdir");
	if (upper[0] == '/' && work[0] == '/')
		return add_host_directories(r, upper, work, err);
	r->upper = expand_path(upper, r->n_mounts);
	r->work = expand_path(work, r->n_mounts);
	if (!r->upper || !r->work)
		return bad(err, "the directory", r->upper ? work : upper);
	return 0;
}

static int read_overlay(const struct share_mount *m, struct root *r, struct error *err)
{
	const char *lower = NULL, *upper = NULL, *work = NULL, *value;
	_cleanup_free_ char *list = NULL;
	int k = 0;

	for (size_t i = 0; k >= 0 && i < m->n_options; i++) {
		const char *o = m->options[i];

		if ((value = after_prefix(o, "lowerdir=")))
			lower = value;
		else if ((value = after_prefix(o, "upperdir=")))
			upper = value;
		else if ((value = after_prefix(o, "workdir=")))
			work = value;
		else if ((value = after_prefix(o, "X-containerd.mkdir.path=")))
			k = add_directory(r, value, err);
		else if (known(overlay_options, ARRAY_SIZE(overlay_options), o))
			strv_add(&r->options, o);
		else
			k = bad(err, "an overlay's option", o);
	}
	if (k < 0)
		return k;
	if (!lower)
		return error_set(err, EINVAL, "root file system: an overlay without a lowerdir");
	list = expand_list(lower, r->n_mounts);
	if (!list)
		return bad(err, "lowerdir", lower);
	strv_addf(&r->options, "lowerdir=%s", list);
	return add_writable(r, upper, work, err);
}

static int read_bind(const struct share_mount *m, struct root *r, struct error *err)
{
	int k = 0;

	for (size_t i = 0; k >= 0 && i < m->n_options; i++) {
		const char *o = m->options[i], *value = after_prefix(o, "X-containerd.mkdir.path=");

		if (value)
			k = add_directory(r, value, err);
		else if (known(bind_options, ARRAY_SIZE(bind_options), o))
			strv_add(&r->options, o);
		else
			k = bad(err, "a bind mount's option", o);
	}
	if (k < 0)
		return k;
	r->source = expand_path(m->source, r->n_mounts);
	return r->source ? 0 : bad(err, "the bind mount of", m->source);
}

/* What follows "format/" and "mkdir/". */
static const char *plain_type(const char *type)
{
	for (const char *next; (next = after_prefix(type, "format/")) || (next = after_prefix(type, "mkdir/"));)
		type = next;
	return type;
}

int root_read_layers(const struct share_mount *mounts, size_t n, struct root *ret, struct error *err)
{
	const struct share_mount *top = &mounts[n - 1];
	size_t len = 0;
	int k = 0;

	if (n > MOUNTS_MAX)
		return error_set(err, E2BIG, "root file system: %zu mounts, %d at most", n, MOUNTS_MAX);
	if (n == 1)
		return root_add_mount(ret, top, plain_type(top->type), err);
	for (size_t i = 0; k >= 0 && i < n - 1; i++)
		k = root_add_mount(ret, &mounts[i], plain_type(mounts[i].type), err);
	if (k < 0)
		return k;
	if (top->target && *top->target && !streq(top->target, "/"))
		return bad(err, "a mount below the root,", top->target);
	ret->top = xstrdup(plain_type(top->type));
	if (streq(ret->top, "overlay"))
		k = read_overlay(top, ret, err);
	else if (streq(ret->top, "bind"))
		k = read_bind(top, ret, err);
	else
		k = bad(err, "a mount above others of type", top->type);
	for (size_t i = 0; i < ret->options.n; i++)
		len += strlen(ret->options.items[i]) + 1;
	if (k >= 0 && len > OPTIONS_MAX)
		k = error_set(err, E2BIG,
			      "root file system: too many layers for one mount: %zu bytes of options, %d at most", len,
			      OPTIONS_MAX);
	return k;
}
