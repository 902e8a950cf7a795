#include "docker/settings_lists.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "machine/share.h"

enum { DOMAIN_MAX = 253, SERVERS_MAX = 3, SEARCH_MAX = 6, SHARES_MAX = 3, ARGS_MAX = 256 };

/* ---- Names ---- */

static bool is_address(const char *s)
{
	struct in6_addr raw;

	return inet_pton(AF_INET, s, &raw) == 1 || inet_pton(AF_INET6, s, &raw) == 1;
}

static bool is_domain(const char *s)
{
	size_t n = strlen(s);
	bool letter = false;

	if (n == 0 || n > DOMAIN_MAX || s[0] == '.' || s[0] == '-')
		return false;
	for (size_t i = 0; i < n; i++) {
		if (!isalnum((unsigned char)s[i]) && s[i] != '-' && s[i] != '.')
			return false;
		letter = letter || isalpha((unsigned char)s[i]);
	}
	/* What has none was meant to be an address. */
	return letter;
}

void dns_parse(const char *text, struct strv *ret_servers, struct strv *ret_search, struct strv *wrongs)
{
	_cleanup_free_ char *copy = xstrdup(text);
	char *save = NULL;

	for (char *w = strtok_r(copy, ", \t\n", &save); w; w = strtok_r(NULL, ", \t\n", &save)) {
		if (is_address(w))
			strv_add(ret_servers, w);
		else if (is_domain(w))
			strv_add(ret_search, w);
		else
			strv_addf(wrongs, "'%.80s' is neither the address of a name server nor a domain to search", w);
	}
	/* resolv.conf(5), MAXNS: more are not asked. */
	if (ret_servers->n > SERVERS_MAX)
		strv_addf(wrongs, "%zu name servers are more than the %d that are ever asked", ret_servers->n,
			  SERVERS_MAX);
	if (ret_search->n > SEARCH_MAX)
		strv_addf(wrongs, "%zu domains are more than the %d that are ever searched", ret_search->n, SEARCH_MAX);
}

/* ---- Keys ---- */

static bool is_key_type(const char *word)
{
	static const char *const types[] = { "ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-" };

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (after_prefix(word, types[i]))
			return true;
	return false;
}

/* No blank is in options but in quotes. */
static const char *skip_options(const char *p)
{
	for (bool quoted = false; *p && (quoted || *p != ' '); p++) {
		if (p[0] == '\\' && p[1] == '"')
			p++;
		else if (*p == '"')
			quoted = !quoted;
	}
	return p + strspn(p, " ");
}

/* "[OPTIONS ]TYPE BASE64…": what follows the base64, where there is such a thing. */
static const char *after_key(const char *p)
{
	size_t type, blob;

	if (!is_key_type(p))
		p = skip_options(p);
	type = is_key_type(p) ? strspn(p, "abcdefghijklmnopqrstuvwxyz0123456789-@.") : 0;
	if (!type || p[type] != ' ')
		return NULL;
	p += type + strspn(p + type, " ");
	blob = strspn(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/=");
	return blob ? p + blob : NULL;
}

/* The comma in a line between two keys, or behind the last one, from @p on. Others are a comment's. */
static char *comma_between(const char *p)
{
	for (p = strchr(p, ','); p; p = strchr(p + 1, ',')) {
		const char *next = p + 1 + strspn(p + 1, ", ");

		if (!*next || after_key(next))
			return (char *)(uintptr_t)p;
	}
	return NULL;
}

static bool line_parse(char *line, struct strv *ret)
{
	bool good = true;

	for (char *k = line + strspn(line, ", "), *next = k; next && *k && *k != '#'; k = next) {
		const char *rest = after_key(k);

		next = rest ? comma_between(rest) : NULL;
		if (next) {
			*next++ = '\0';
			next += strspn(next, ", ");
		}
		if (rest && (!*rest || *rest == ' '))
			strv_add(ret, k);
		else
			good = false;
	}
	return good;
}

void keys_parse(const char *text, struct strv *ret, struct strv *wrongs)
{
	_cleanup_free_ char *copy = NULL;
	unsigned number = 1;

	if (strstr(text, "PRIVATE KEY-----")) {
		strv_add(wrongs, "it is a private key: give the public one, the file beside it that ends in .pub");
		return;
	}
	copy = xstrdup(text);
	/* A tab would be as good, but no other control character is. */
	for (char *p = copy; (p = strchr(p, '\t')); p++)
		*p = ' ';
	for (char *line = copy, *next; line; line = next) {
		size_t n = strcspn(line, "\r\n");
		char end = line[n];

		next = end ? line + n + 1 : NULL;
		line[n] = '\0';
		if (!line_parse(line, ret))
			strv_addf(wrongs, "line %u is no public key: give lines of an id_….pub or authorized_keys file",
				  number);
		number += end == '\n';
	}
	explicit_bzero(copy, strlen(text));
}

/* ---- Directories ---- */

void shares_parse(const char *text, struct strv *ret, struct strv *wrongs)
{
	_cleanup_free_ char *copy = xstrdup(text);
	char *save = NULL;

	for (char *w = strtok_r(copy, ",\n", &save); w; w = strtok_r(NULL, ",\n", &save)) {
		_cleanup_error_ struct error e = {};
		_cleanup_(share_done) struct share s = {};
		struct stat st;

		w += strspn(w, " \t");
		if (!*w)
			continue;
		if (share_parse(w, &s, &e) < 0)
			strv_addf(wrongs, "%s: give /DIRECTORY[:/WHERE-IN-THE-GUEST][:ro]", e.msg);
		else if (stat(s.source, &st) < 0 || !S_ISDIR(st.st_mode))
			strv_addf(wrongs,
				  "'%.200s' is no directory of the container: give one that is mounted, as with -v",
				  s.source);
		else
			strv_take(ret, share_format(&s));
	}
	if (ret->n > SHARES_MAX)
		strv_addf(wrongs, "%zu directories are more than the %d that a machine has room for", ret->n,
			  SHARES_MAX);
}

/* ---- Words ---- */

/* Takes the next word off *text into @ret: 1, 0 at the end, -1 for a quote that is not closed. */
static int next_word(const char **text, struct buf *ret)
{
	const char *p = *text + strspn(*text, " \t\r\n");
	char quote = '\0';

	buf_adds(ret, "");
	if (!*p)
		return 0;
	for (; *p && (quote || !strchr(" \t\r\n", *p)); p++) {
		if (quote == '\'' ? *p == '\'' : (*p == '"' && (!quote || quote == '"'))) {
			quote = quote ? '\0' : *p;
		} else if (!quote && *p == '\'') {
			quote = *p;
		} else if (*p == '\\' && quote != '\'' && p[1] && (!quote || strchr("\"\\$`", p[1]))) {
			buf_addc(ret, *++p);
		} else {
			buf_addc(ret, *p);
		}
	}
	*text = p;
	return quote ? -1 : 1;
}

/* What would take it away from its monitor, its console or its confinement; with what to do instead. */
static const struct {
	const char *option, *instead;
} kept[] = {
	{ "accel", "ACCEL chooses it" },
	{ "action", "the end of the machine is the container's" },
	{ "add-fd", "descriptors are ours" },
	{ "chroot", "it is confined already" },
	{ "daemonize", "it is watched" },
	{ "display", "there is no screen" },
	{ "enable-kvm", "ACCEL chooses it" },
	{ "h", "it would not run" },
	{ "help", "it would not run" },
	{ "incoming", "it would wait for another machine" },
	{ "loadvm", "SNAPSHOT goes back to one" },
	{ "mon", "its control is ours" },
	{ "monitor", "its control is ours" },
	{ "no-shutdown", "the end of the machine is the container's" },
	{ "nographic", "there is no screen, and the console is ours" },
	{ "only-migratable", "it is not moved" },
	{ "pidfile", "it is watched" },
	{ "preconfig", "it would wait" },
	{ "qmp", "its control is ours" },
	{ "qmp-pretty", "its control is ours" },
	{ "readconfig", "give the options themselves" },
	{ "run-with", "it is confined already" },
	{ "runas", "it is confined already" },
	{ "S", "it would wait" },
	{ "sandbox", "it is confined already" },
	{ "snapshot", "EPHEMERAL does that" },
	{ "version", "it would not run" },
};

static const char *why_kept(const char *word)
{
	const char *name = word + 1 + (word[1] == '-');

	for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
		if (streq(name, kept[i].option))
			return kept[i].instead;
	return NULL;
}

void engine_args_parse(const char *text, struct strv *ret, struct strv *wrongs)
{
	for (;;) {
		_cleanup_buf_ struct buf word = {};
		int r = next_word(&text, &word);
		const char *why;

		if (r == 0)
			break;
		if (r < 0) {
			strv_addf(wrongs, "a quote is not closed");
			break;
		}
		for (const char *p = word.p; *p; p++)
			if (iscntrl((unsigned char)*p)) {
				strv_addf(wrongs, "a word has a control character in it");
				return;
			}
		why = word.p[0] == '-' ? why_kept(word.p) : NULL;
		if (why)
			strv_addf(wrongs, "%s: %s: leave it out", word.p, why);
		else if (!ret->n && word.p[0] != '-')
			strv_addf(wrongs, "'%.80s' is no option: the first word begins with -", word.p);
		strv_add(ret, word.p);
	}
	if (ret->n > ARGS_MAX)
		strv_addf(wrongs, "more than %d words", ARGS_MAX);
}
