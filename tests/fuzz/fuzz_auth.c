/* auth.json and a credential helper's answer: what is taken fits into a header, a helper's name into no path, and an error names no secret. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "image/auth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct credential *c, int r, const struct error *e)
{
	if (r < 0 ? !e->msg || c->secret || c->identity_token : e->num)
		abort();
	if (r == 1 && (!c->origin || (!c->identity_token && (!c->user || !c->secret))))
		abort();
	if ((c->user && strpbrk(c->user, "\r\n")) || (c->secret && strpbrk(c->secret, "\r\n")) ||
	    (c->identity_token && strpbrk(c->identity_token, "\r\n")))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_credential_ struct credential c = {}, answer = {};
	_cleanup_free_ char *helper = NULL, *server = NULL;
	_cleanup_error_ struct error e = {}, second = {};
	int r = auth_parse((const char *)data, size, "auth.json", "docker.io", "library/debian", &c, &helper, &server,
			   &e);

	check(&c, r, &e);
	if ((r == 2) != (helper && server) || (helper && strchr(helper, '/')))
		abort();
	r = auth_helper_parse((const char *)data, size, "helper", &answer, &second);
	check(&answer, r, &second);
	return 0;
}
