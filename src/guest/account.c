#include "guest/account.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parse.h"
#include "guest/root.h"

enum { FILE_BYTES_MAX = 4 << 20, GROUPS_MAX = 1024, PASSWD_FIELDS = 7, GROUP_FIELDS = 4 };
#define ID_MAX UINT64_C(0xfffffffe)

char *account_next_line(char **at, char **fields, size_t max)
{
	char *line = *at, *end, *p;

	if (!line || !*line)
		return NULL;
	end = strchr(line, '\n');
	*at = end ? end + 1 : line + strlen(line);
	if (end)
		*end = '\0';
	else
		end = *at;
	p = line;
	for (size_t i = 0; i < max; i++) {
		char *colon = i + 1 < max ? strchr(p, ':') : NULL;

		fields[i] = p;
		if (colon)
			*colon = '\0';
		p = colon ? colon + 1 : end;
	}
	return line;
}

static int parse_id(const char *s, uint32_t *ret)
{
	uint64_t v;
	int r = parse_u64(s, 0, ID_MAX, &v);

	if (r == 0)
		*ret = (uint32_t)v;
	return r;
}

static int find_user(int root, const char *name, struct account *ret)
{
	_cleanup_buf_ struct buf b = { 0 };
	uint32_t wanted = 0, uid = 0, gid = 0;
	bool by_id = parse_id(name, &wanted) == 0;
	char *at, *f[PASSWD_FIELDS];

	if (root_read(root, "/etc/passwd", FILE_BYTES_MAX, &b) == 0 && b.p) {
		at = b.p;
		while (account_next_line(&at, f, PASSWD_FIELDS)) {
			if (parse_id(f[2], &uid) < 0 || parse_id(f[3], &gid) < 0)
				continue;
			if (!(by_id ? uid == wanted : streq(f[0], name)))
				continue;
			ret->name = xstrdup(f[0]);
			ret->home = xstrdup(f[5][0] == '/' ? f[5] : "/");
			ret->shell = xstrdup(f[6][0] ? f[6] : "/bin/sh");
			ret->uid = uid;
			ret->gid = gid;
			return 0;
		}
	}
	if (!by_id && !streq(name, "root"))
		return -ENOENT;
	ret->name = xstrdup(by_id && wanted ? name : "root");
	ret->home = xstrdup(by_id && wanted ? "/" : "/root");
	ret->shell = xstrdup("/bin/sh");
	ret->uid = wanted;
	ret->gid = 0;
	return 0;
}

static bool list_has(const char *list, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = list; *p;) {
		size_t len = strcspn(p, ",");

		if (len == n && memcmp(p, name, n) == 0)
			return true;
		p += len + (p[len] == ',');
	}
	return false;
}

static void find_groups(int root, struct account *a)
{
	_cleanup_buf_ struct buf b = { 0 };
	char *at, *f[GROUP_FIELDS];
	uint32_t gid = 0;

	if (root_read(root, "/etc/group", FILE_BYTES_MAX, &b) < 0 || !b.p)
		return;
	at = b.p;
	while (a->n_groups < GROUPS_MAX && account_next_line(&at, f, GROUP_FIELDS)) {
		if (parse_id(f[2], &gid) < 0 || gid == a->gid || !list_has(f[3], a->name))
			continue;
		a->groups = xrealloc_array(a->groups, a->n_groups + 1, sizeof(*a->groups));
		a->groups[a->n_groups++] = gid;
	}
}

static int find_group(int root, const char *name, gid_t *ret)
{
	_cleanup_buf_ struct buf b = { 0 };
	char *at, *f[GROUP_FIELDS];
	uint32_t gid = 0;

	if (parse_id(name, &gid) == 0) {
		*ret = gid;
		return 0;
	}
	if (root_read(root, "/etc/group", FILE_BYTES_MAX, &b) < 0 || !b.p)
		return -ENOENT;
	at = b.p;
	while (account_next_line(&at, f, GROUP_FIELDS)) {
		if (!streq(f[0], name) || parse_id(f[2], &gid) < 0)
			continue;
		*ret = gid;
		return 0;
	}
	return -ENOENT;
}

int account_lookup(int root, const char *who, struct account *ret, struct error *err)
{
	_cleanup_account_ struct account a = { 0 };
	const char *colon = strchr(who, ':');
	_cleanup_free_ char *user = colon ? xstrndup(who, (size_t)(colon - who)) : xstrdup(who);
	int r;

	r = find_user(root, user[0] ? user : "root", &a);
	if (r < 0)
		return error_set(err, -r, "user '%s' does not exist in the guest", user);
	if (colon) {
		r = find_group(root, colon + 1, &a.gid);
		if (r < 0)
			return error_set(err, -r, "group '%s' does not exist in the guest", colon + 1);
	} else {
		find_groups(root, &a);
	}
	*ret = a;
	a = (struct account){ 0 };
	return 0;
}

void account_done(struct account *a)
{
	free(a->name);
	free(a->home);
	free(a->shell);
	free(a->groups);
	*a = (struct account){ 0 };
}
