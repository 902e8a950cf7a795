#include "image/reference.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/memory.h"

enum { SHOWN_MAX = 80, DIGEST_PREFIX_MIN = 12, DIGEST_LEN = 64, TAG_MAX = 128, NAME_MAX_LEN = 255 };

static const char lower_alnum[] = "abcdefghijklmnopqrstuvwxyz0123456789";
static const char hex_digits[] = "0123456789abcdef";
static const char word_chars[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";

static int refuse(const char *s, const char *why, struct error *err)
{
	_cleanup_buf_ struct buf shown = {};

	for (size_t i = 0; s[i]; i++) {
		unsigned char c = (unsigned char)s[i];

		if (i == SHOWN_MAX) {
			buf_adds(&shown, "...");
			break;
		}
		if (c < 0x20 || c >= 0x7f)
			buf_addf(&shown, "\\x%02x", c);
		else
			buf_addc(&shown, (char)c);
	}
	return error_set_kind(err, ERROR_USAGE, EINVAL, "image '%s': %s", shown.len ? shown.p : "", why);
}

const char *digest_hex(const char *digest)
{
	const char *hex = digest ? after_prefix(digest, "sha256:") : NULL;

	return hex && strlen(hex) == DIGEST_LEN && strspn(hex, hex_digits) == DIGEST_LEN ? hex : NULL;
}

bool is_digest(const char *s)
{
	return digest_hex(s);
}

bool is_digest_prefix(const char *s)
{
	const char *hex = after_prefix(s, "sha256:");
	size_t n = hex ? strspn(hex, hex_digits) : 0;

	return n >= DIGEST_PREFIX_MIN && n <= DIGEST_LEN && !hex[n];
}

/* One component of a repository: letters and digits in groups, joined by '.', '_', '__' or any number of '-'. */
static const char *component_fault(const char *s, size_t n)
{
	size_t i = 0;

	if (!n)
		return "an empty part in its name";
	while (i < n) {
		size_t group = 0, joint = 0;

		while (i < n && strchr(lower_alnum, s[i])) {
			i++;
			group++;
		}
		if (!group)
			return s[i] >= 'A' && s[i] <= 'Z'
				       ? "the name must be in lower case"
				       : "the name takes a-z and 0-9, joined by '.', '_', '-' or '/'";
		if (i == n)
			return NULL;
		while (i < n && strchr("._-", s[i])) {
			i++;
			joint++;
		}
		if (!joint)
			return s[i] >= 'A' && s[i] <= 'Z'
				       ? "the name must be in lower case"
				       : "the name takes a-z and 0-9, joined by '.', '_', '-' or '/'";
		if (joint > 1 && memchr(s + i - joint, '.', joint))
			return "two joining signs in a row in its name";
		if (i == n)
			return "a joining sign at the end of its name";
	}
	return NULL;
}

static const char *repository_fault(const char *s)
{
	for (const char *part = s;;) {
		size_t n = strcspn(part, "/");
		const char *fault = component_fault(part, n);

		if (fault || !part[n])
			return fault;
		part += n + 1;
	}
}

static const char *tag_fault(const char *tag)
{
	if (!*tag)
		return "the tag must not be empty";
	if (!strchr(word_chars, *tag))
		return "the tag must begin with a letter, a digit or '_'";
	for (const char *p = tag; *p; p++)
		if (!strchr(word_chars, *p) && *p != '.' && *p != '-')
			return "letters, digits, '.', '_' and '-' are allowed in a tag";
	return strlen(tag) > TAG_MAX ? "the tag is longer than 128 characters" : NULL;
}

/* HOST[:PORT]: a DNS name, an IPv4 address or an IPv6 one in brackets. */
static const char *registry_fault(const char *s)
{
	const char *port;

	if (*s == '[') {
		const char *end = strchr(s, ']');

		if (!end || end == s + 1 || s + 1 + strspn(s + 1, "0123456789abcdefABCDEF:.") != end)
			return "the registry is no IPv6 address in brackets";
		port = end + 1;
	} else {
		size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.");

		if (!n || *s == '-' || *s == '.')
			return "the registry is no host name";
		port = s + n;
	}
	if (!*port)
		return NULL;
	if (*port != ':' || !port[1] || strlen(port + 1) > 5 || port[1 + strspn(port + 1, "0123456789")])
		return "the registry's port is no number";
	return NULL;
}

/* A first part that looks like a host is one: the rule that Docker made. */
static bool is_registry(const char *first, size_t n)
{
	if (n == strlen("localhost") && memcmp(first, "localhost", n) == 0)
		return true;
	for (size_t i = 0; i < n; i++)
		if (strchr(".:[", first[i]) || (first[i] >= 'A' && first[i] <= 'Z'))
			return true;
	return false;
}

/* Ends the text at @mark; what follows it, or NULL when there is no mark. */
static char *cut(char *mark)
{
	if (!mark)
		return NULL;
	*mark = '\0';
	return mark + 1;
}

int reference_parse(const char *s, struct reference *ret, struct error *err)
{
	char text[1024], *name = text, *digest, *tag, *slash, *last;
	const char *fault = NULL, *registry = "docker.io", *prefix = "";

	*ret = (struct reference){};
	if (!*s)
		return refuse(s, "the name must not be empty", err);
	if (strlen(s) >= sizeof(text))
		return refuse(s, "longer than any reference", err);
	/* Whoever asked for it would be taken to mean a digest. */
	if (after_prefix(s, "sha256:") && !strchr(s, '/'))
		return refuse(s, "a digest cannot be given as a name", err);
	memcpy(text, s, strlen(s) + 1);
	digest = cut(strchr(text, '@'));
	if (digest && !is_digest(digest))
		return refuse(s, "what follows '@' is no sha256 digest", err);
	last = strrchr(text, '/');
	tag = cut(strchr(last ? last : text, ':'));
	slash = strchr(text, '/');
	if (slash && is_registry(text, (size_t)(slash - text))) {
		*slash = '\0';
		registry = text;
		name = slash + 1;
		fault = registry_fault(registry);
	}
	if (streq(registry, "index.docker.io"))
		registry = "docker.io";
	if (streq(registry, "docker.io") && !strchr(name, '/'))
		prefix = "library/";
	if (!fault)
		fault = repository_fault(name);
	if (!fault && tag)
		fault = tag_fault(tag);
	if (!fault && (strlen(prefix) + strlen(name) > NAME_MAX_LEN || strlen(registry) > NAME_MAX_LEN))
		fault = "longer than 255 characters";
	if (fault)
		return refuse(s, fault, err);
	(void)snprintf(ret->registry, sizeof(ret->registry), "%s", registry);
	(void)snprintf(ret->repository, sizeof(ret->repository), "%s%s", prefix, name);
	(void)snprintf(ret->tag, sizeof(ret->tag), "%s", tag ? tag : digest ? "" : "latest");
	(void)snprintf(ret->digest, sizeof(ret->digest), "%s", digest ? digest : "");
	return 0;
}

char *reference_name(const struct reference *r)
{
	bool docker = streq(r->registry, "docker.io");
	const char *library = docker ? after_prefix(r->repository, "library/") : NULL;
	const char *path = library && !strchr(library, '/') ? library : r->repository, *slash = strchr(path, '/');
	/* Not shortened when its first part would be taken for a registry then. */
	bool whole = !docker || (slash && is_registry(path, (size_t)(slash - path)));
	bool by_tag = !r->digest[0];

	return xasprintf("%s%s%s%s%s", whole ? r->registry : "", whole ? "/" : "", path, by_tag ? ":" : "@",
			 by_tag ? r->tag : r->digest);
}
