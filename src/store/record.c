/* Records: the format's version is one key among others. A record of a later version is refused, because what this program does not
 * know of may be what matters; keys that it does not know are kept. */
#include "store/store.h"

#include <inttypes.h>

#include "base/file.h"

enum { RECORD_VERSION = 1, RECORD_SIZE_MAX = 4 * 1024 * 1024 };

static int check_version(const struct json *tree, const char *what, struct error *err)
{
	const struct json *j = json_get(tree, "version");
	uint64_t version;

	if (!j)
		return 0;
	if (!json_u64(j, &version))
		return error_set(err, EBADMSG, "%s: version: expected a number", what);
	if (version > RECORD_VERSION) {
		error_set(err, EBADMSG, "%s: written by a later skerry (version %" PRIu64 ", this one reads %d)", what,
			  version, RECORD_VERSION);
		error_hint(err, "upgrade skerry");
		return -EBADMSG;
	}
	return 0;
}

int record_read(int dirfd, const char *name, const char *what, const struct json_field *fields, void *target,
		struct json **tree, struct error *err)
{
	_cleanup_buf_ struct buf text = {};
	_cleanup_json_ struct json *parsed = NULL;
	int r;

	r = file_read_at(dirfd, name, RECORD_SIZE_MAX, &text);
	if (r == -EFBIG)
		return error_set(err, EBADMSG, "%s: larger than 4 MiB", what);
	if (r < 0)
		return error_set_errno(err, r, "%s: cannot read it", what);
	r = json_parse(text.p ? text.p : "", text.len, what, &parsed, err);
	if (r < 0)
		return r;
	if (!json_is_object(parsed))
		return error_set(err, EBADMSG, "%s: expected an object", what);
	r = check_version(parsed, what, err);
	if (r < 0)
		return r;
	r = json_load(parsed, fields, target, what, err);
	if (r < 0)
		return r;
	if (tree) {
		json_free(*tree);
		*tree = TAKE_PTR(parsed);
	}
	return 0;
}

int record_write(int dirfd, const char *name, const char *what, const struct json_field *fields, const void *source,
		 struct json **tree, unsigned flags, struct error *err)
{
	_cleanup_buf_ struct buf text = {};
	_cleanup_json_ struct json *own = NULL;
	struct json **to = tree ? tree : &own;
	unsigned file_flags = 0;
	int r;

	if (!*to)
		*to = json_object();
	json_set_u64(*to, "version", RECORD_VERSION);
	json_store_short(*to, fields, source);
	json_render(*to, true, &text);
	if (flags & RECORD_DURABLE)
		file_flags |= FILE_DURABLE;
	if (flags & RECORD_EXCLUSIVE)
		file_flags |= FILE_EXCLUSIVE;
	r = file_write_at(dirfd, name, text.p, text.len, 0600, file_flags);
	return r < 0 ? error_set_errno(err, r, "%s: cannot write it", what) : 0;
}
