#include "net/resolv.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>

#define SEARCH_MAX      6
#define SERVERS_MAX     3
#define NAME_MAX_LENGTH 253

static bool domain_like(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || n > NAME_MAX_LENGTH)
		return false;
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr("-._", *s))
			return false;
	return true;
}

static void take_server(char *word, struct resolv *ret)
{
	char *scope = strchr(word, '%');
	unsigned char a[16];
	bool four;

	if (scope)
		*scope = 0;
	four = inet_pton(AF_INET, word, a) == 1;
	if (!four && inet_pton(AF_INET6, word, a) != 1)
		return;
	if (four && a[0] != 127 && a[0] != 0) {
		ret->first_direct |= !ret->server;
		if (!ret->direct[0])
			(void)inet_ntop(AF_INET, a, ret->direct, sizeof(ret->direct));
	}
	if (ret->servers.n < SERVERS_MAX)
		strv_add(&ret->servers, word);
	ret->server = true;
}

/* Cuts the next word off *rest; NULL at the end. */
static char *next_word(char **rest)
{
	char *word = *rest + strspn(*rest, " \t");
	size_t n = strcspn(word, " \t");

	if (n == 0)
		return NULL;
	*rest = word + n + (word[n] ? 1 : 0);
	word[n] = 0;
	return word;
}

static void take_line(char *line, struct resolv *ret)
{
	char *word = next_word(&line), *arg;

	if (!word)
		return;
	if (streq(word, "nameserver")) {
		arg = next_word(&line);
		if (arg)
			take_server(arg, ret);
		return;
	}
	if (!streq(word, "search") && !streq(word, "domain"))
		return;
	strv_done(&ret->search);
	ret->search = (struct strv){};
	while ((arg = next_word(&line)))
		if (ret->search.n < SEARCH_MAX && domain_like(arg))
			strv_add(&ret->search, arg);
}

void resolv_parse(const char *text, size_t len, struct resolv *ret)
{
	const char *end = text + len;

	while (text < end) {
		const char *nl = memchr(text, '\n', (size_t)(end - text));
		size_t n = (size_t)((nl ? nl : end) - text);
		_cleanup_free_ char *line = xstrndup(text, n);

		line[strcspn(line, "#;\r")] = 0;
		take_line(line, ret);
		text += n + 1;
	}
}

void resolv_done(struct resolv *r)
{
	strv_done(&r->search);
	strv_done(&r->servers);
	r->search = r->servers = (struct strv){};
}
