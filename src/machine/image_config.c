#include "machine/image_config.h"

#include <errno.h>

#include "base/parse.h"

enum { PORTS_MAX = 1024, DIRECTORIES_MAX = 256, PATH_BYTES_MAX = 4095 };

static bool has_key(const struct strv *v, const char *assignment)
{
	size_t n = strcspn(assignment, "=") + 1;

	for (size_t i = 0; i < v->n; i++)
		if (strncmp(v->items[i], assignment, n) == 0)
			return true;
	return false;
}

/* "80/tcp", "53/udp", "8000-8010/tcp", "80" (image-spec, config.md: ExposedPorts). */
static int publish_port(const char *port, struct strv *publish, struct error *err)
{
	size_t n = strcspn(port, "/"), first_n = strcspn(port, "-/");
	const char *protocol = port[n] ? port + n + 1 : "tcp";
	_cleanup_free_ char *first = xstrndup(port, first_n), *last = NULL;
	uint64_t from, to;

	last = first_n < n ? xstrndup(port + first_n + 1, n - first_n - 1) : xstrdup(first);
	if (parse_u64(first, 1, 65535, &from) < 0 || parse_u64(last, from, 65535, &to) < 0 ||
	    !(streq(protocol, "tcp") || streq(protocol, "udp")))
		return error_set(err, EBADMSG, "the image exposes '%.60s', which is no port of TCP or UDP", port);
	for (uint64_t p = from; p <= to; p++) {
		if (publish->n >= PORTS_MAX)
			return error_set(err, EBADMSG, "the image exposes more than %d ports", PORTS_MAX);
		strv_addf(publish, "0:%llu%s", (unsigned long long)p, streq(protocol, "udp") ? "/udp" : "");
	}
	return 0;
}

int image_config_apply(const struct image_meta *image, struct machine_spec *spec, struct error *err)
{
	int r = 0;

	for (size_t i = 0; i < image->labels.n; i++)
		if (!has_key(&spec->labels, image->labels.items[i]))
			strv_add(&spec->labels, image->labels.items[i]);
	for (size_t i = 0; r >= 0 && spec->publish_all && i < image->ports.n; i++)
		r = publish_port(image->ports.items[i], &spec->publish, err);
	return r;
}

void image_config_env(const struct image_meta *image, const struct machine_spec *spec, struct strv *ret)
{
	for (size_t i = 0; i < image->env.n && ret->n + spec->env.n < MACHINE_ENV_MAX; i++) {
		const char *e = image->env.items[i], *eq = strchr(e, '=');

		/* Other tools have written names alone, which set nothing. */
		if (eq && eq != e && !has_key(&spec->env, e))
			strv_add(ret, e);
	}
	strv_copy(ret, &spec->env);
}

const char *image_config_workdir(const struct image_meta *image, const struct machine_spec *spec)
{
	const char *dir = spec->workdir ? spec->workdir : image->workdir;

	return dir && dir[0] == '/' ? dir : "";
}

void image_config_directories(const struct image_meta *image, const struct machine_spec *spec, struct strv *ret)
{
	const char *workdir = image_config_workdir(image, spec);

	if (*workdir && strlen(workdir) <= PATH_BYTES_MAX)
		strv_add(ret, workdir);
	for (size_t i = 0; i < image->volumes.n && ret->n < DIRECTORIES_MAX; i++)
		if (image->volumes.items[i][0] == '/' && strlen(image->volumes.items[i]) <= PATH_BYTES_MAX)
			strv_add(ret, image->volumes.items[i]);
}

char *image_config_account(const struct image_meta *image, const struct machine_spec *spec)
{
	const char *user = spec->user ? spec->user : image->user ? image->user : "";
	size_t n = strcspn(user, ":");

	return n && strspn(user, "0123456789") < n ? xstrndup(user, n) : xstrdup("root");
}

int image_config_stop_signal(const struct image_meta *image, const struct machine_spec *spec)
{
	const char *name = spec->stop_signal ? spec->stop_signal : image->stop_signal;
	int number = name ? signal_parse(name) : 0;

	return number > 0 ? number : 0;
}
