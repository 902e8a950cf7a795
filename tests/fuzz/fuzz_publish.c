/* "[IP:]HOST:GUEST[/tcp|/udp]": what is taken must come back in the same form, and read again be the same. The same bytes are read as a
 * resolv.conf. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "net/net.h"
#include "net/resolv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A newline at the end belongs to the corpus' files. */
	_cleanup_free_ char *text = xstrndup((const char *)data, size && data[size - 1] == '\n' ? size - 1 : size);
	_cleanup_(resolv_done) struct resolv conf = {};
	struct net_publish p = {}, again = {};
	struct error e = {};
	int r = net_publish_parse(text, &p, &e);

	if (r < 0) {
		if (e.kind != ERROR_USAGE || !e.msg)
			abort();
		error_done(&e);
	} else {
		_cleanup_free_ char *form = net_publish_format(&p);

		if (net_publish_parse(form, &again, NULL) < 0 || strcmp(p.ip, again.ip) != 0 ||
		    p.host_port != again.host_port || p.guest_port != again.guest_port || p.udp != again.udp ||
		    p.guest_port == 0)
			abort();
	}
	resolv_parse((const char *)data, size, &conf);
	if (conf.search.n > 6 || (conf.first_direct && !conf.direct[0]))
		abort();
	return 0;
}
