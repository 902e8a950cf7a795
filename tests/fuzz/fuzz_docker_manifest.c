/* What a docker-archive says that it holds: its manifest.json, and which of its images a user means. A first line without '[' is what the user asks
 * for. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "image/docker_manifest.h"
#include "image/reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int ok)
{
	if (!ok)
		abort();
}

static void choose(const struct docker_manifest *m, const char *select)
{
	_cleanup_error_ struct error e = {};
	const struct docker_manifest_image *image = NULL;
	const char *name = NULL;
	int r = docker_manifest_choose(m, select, "archive", &image, &name, &e);

	if (r < 0) {
		check(e.msg != NULL);
		return;
	}
	check(image >= m->images && image < m->images + m->n && image->config);
	check(name ? strv_has(&image->tags, name) : !image->tags.n);
	if (select)
		check(name != NULL);
	else
		check(m->n == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(docker_manifest_done) struct docker_manifest m = {};
	_cleanup_free_ char *select = NULL;
	const char *text = (const char *)data, *end = size ? memchr(data, '\n', size) : NULL;

	if (end && !memchr(text, '[', (size_t)(end - text))) {
		select = xstrndup(text, (size_t)(end - text));
		size -= (size_t)(end + 1 - text);
		text = end + 1;
	}
	if (docker_manifest_parse(text, size, &m, NULL) < 0)
		return 0;
	choose(&m, NULL);
	if (select)
		choose(&m, select);
	/* Every tag that is one finds an image that has it. */
	for (size_t i = 0; i < m.n; i++)
		for (size_t k = 0; k < m.images[i].tags.n; k++)
			choose(&m, m.images[i].tags.items[k]);
	return 0;
}
