#include "image/address.h"

#include <curl/curl.h>
#include <strings.h>

#include "base/memory.h"

static char *url_part(CURLU *u, CURLUPart part, unsigned flags)
{
	char *text = NULL, *copy;

	if (curl_url_get(u, part, &text, flags) != CURLUE_OK)
		return NULL;
	copy = xstrdup(text);
	curl_free(text);
	return copy;
}

static CURLU *url_parse(const char *url)
{
	CURLU *u = curl_url();

	if (u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK)
		return u;
	curl_url_cleanup(u);
	return NULL;
}

char *address_host(const char *url)
{
	CURLU *u = url_parse(url);
	_cleanup_free_ char *host = u ? url_part(u, CURLUPART_HOST, 0) : NULL,
			    *port = u ? url_part(u, CURLUPART_PORT, 0) : NULL;

	curl_url_cleanup(u);
	if (!host)
		return NULL;
	return port ? xasprintf("%s:%s", host, port) : TAKE_PTR(host);
}

char *address_escape(const char *text)
{
	char *escaped = curl_easy_escape(NULL, text, 0), *copy = xstrdup(escaped ? escaped : "");

	curl_free(escaped);
	return copy;
}

bool address_is_tls(const char *url)
{
	return strncasecmp(url, "https://", 8) == 0;
}

/* Scheme, host and port, the default port written out. Owned by the caller; NULL for what is no address. */
static char *origin_of(const char *url)
{
	CURLU *u = url_parse(url);
	_cleanup_free_ char *scheme = u ? url_part(u, CURLUPART_SCHEME, 0) : NULL,
			    *host = u ? url_part(u, CURLUPART_HOST, 0) : NULL,
			    *port = u ? url_part(u, CURLUPART_PORT, CURLU_DEFAULT_PORT) : NULL;

	curl_url_cleanup(u);
	if (!scheme || !host || !port)
		return NULL;
	return xasprintf("%s://%s:%s", scheme, host, port);
}

bool address_same_origin(const char *a, const char *b)
{
	_cleanup_free_ char *x = origin_of(a), *y = origin_of(b);

	return x && y && strcasecmp(x, y) == 0;
}

char *address_resolve(const char *base, const char *location)
{
	CURLU *u = url_parse(base);
	char *url = NULL;

	if (u && curl_url_set(u, CURLUPART_URL, location, 0) == CURLUE_OK)
		url = url_part(u, CURLUPART_URL, 0);
	curl_url_cleanup(u);
	return url;
}
