#include "machine/share.h"

#include <errno.h>
#include <string.h>

#include "base/memory.h"

enum { PATH_LIMIT = 1024 };

void share_done(struct share *s)
{
	free(s->source);
	free(s->target);
	*s = (struct share){};
}

/* Absolute, with something in it, and without a component that leads elsewhere. */
static bool is_path(const char *p)
{
	if (p[0] != '/' || strlen(p) > PATH_LIMIT)
		return false;
	for (const char *c = p; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			return false;
	if (streq(p, "/"))
		return false;
	while (*p) {
		size_t n = strcspn(++p, "/");

		if (n == 0 || n > 255 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
			return false;
		p += n;
	}
	return true;
}

int share_parse(const char *text, struct share *ret, struct error *err)
{
	_cleanup_(share_done) struct share s = {};
	size_t n = strcspn(text, ":");
	const char *rest = text + n;

	s.source = xstrndup(text, n);
	if (rest[0] == ':' && rest[1] == '/') {
		n = strcspn(++rest, ":");
		s.target = xstrndup(rest, n);
		rest += n;
	} else {
		s.target = xstrdup(s.source);
	}
	s.read_only = streq(rest, ":ro");
	if (!is_path(s.source) || !is_path(s.target) || (*rest && !s.read_only && !streq(rest, ":rw")))
		return error_set_kind(err, ERROR_USAGE, EINVAL, "'%.200s' is no directory to share", text);
	*ret = s;
	s = (struct share){};
	return 0;
}

char *share_format(const struct share *s)
{
	return xasprintf("%s:%s%s", s->source, s->target, s->read_only ? ":ro" : "");
}

char *share_tag(unsigned index)
{
	return xasprintf("share:%u", index);
}
