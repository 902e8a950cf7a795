#include "net/resolv.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>

#define SEARCH_MAX      6
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

static bool is_server(char *word)
{
	unsigned char a[16];
	char *scope = strchr(word, '%');

	if (scope)
		*scope = 0;
	return inet_pton(AF_INET, word, a) == 1 || inet_pton(AF_INET6, word, a) == 1;
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

static bool take_line(char *line, struct strv *search)
{
	char *word = next_word(&line), *arg;

	if (!word)
		return false;
	if (streq(word, "nameserver")) {
		arg = next_word(&line);
		return arg && is_server(arg);
	}
	if (!streq(word, "search") && !streq(word, "domain"))
		return false;
	strv_done(search);
	*search = (struct strv){};
	while ((arg = next_word(&line)))
		if (search->n < SEARCH_MAX && domain_like(arg))
			strv_add(search, arg);
	return false;
}

bool resolv_parse(const char *text, size_t len, struct strv *search)
{
	const char *end = text + len;
	bool server = false;

	while (text < end) {
		const char *nl = memchr(text, '\n', (size_t)(end - text));
		size_t n = (size_t)((nl ? nl : end) - text);
		_cleanup_free_ char *line = xstrndup(text, n);

		line[strcspn(line, "#;\r")] = 0;
		if (take_line(line, search))
			server = true;
		text += n + 1;
	}
	return server;
}
