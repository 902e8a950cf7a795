/* docker-daemon:NAME[:TAG], an image of Docker's, read as `docker save` would write it and written as `docker load` would read it; and
 * docker-container:NAME, the files of one of its containers with the configuration of the container's image. */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "base/memory.h"
#include "image/bundle_write.h"
#include "image/docker.h"
#include "image/reference.h"
#include "image/source.h"

/* What a name of Docker's may hold; it goes into a path. */
static int check_name(const char *name, const char *scheme, bool image, struct error *err)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
	struct reference ref;
	size_t n = strspn(name, plain);

	if (!*name || name[0] == '.' || name[0] == '-' || strlen(name) > 255 || (!image && name[n]) ||
	    (image && name[strspn(name, plain)] && reference_parse(name, &ref, NULL) < 0))
		return error_set_kind(err, ERROR_USAGE, EINVAL, "%s: '%.100s' is no name", scheme, name);
	return 0;
}

/* What the daemon says of a transfer that failed tells more than what our side of it found; unless that is where it failed (@ours). */
static int settle(struct docker_transfer *t, int r, struct error *e, bool ours, struct error *err)
{
	_cleanup_error_ struct error daemon = {};

	if (docker_end(t, &daemon) < 0 && (r >= 0 || !ours))
		return error_move(err, &daemon);
	return r < 0 ? error_move(err, e) : 0;
}

/* A name without a tag stands for all of its tags here, and for its latest everywhere else; it may be an id as well. Owned by the caller. */
static int full_name(const char *name, char **ret, struct error *err)
{
	const char *slash = strrchr(name, '/'), *last = slash ? slash + 1 : name;
	_cleanup_free_ char *latest = xasprintf("%s:latest", name), *path = xasprintf("/images/%s/json", latest);
	_cleanup_error_ struct error e = {};
	_cleanup_buf_ struct buf text = {};
	int r = strpbrk(last, ":@") ? -ENOENT : docker_read(path, &text, &e);

	if (r < 0 && r != -ENOENT)
		return error_move(err, &e);
	*ret = r < 0 ? xstrdup(name) : TAKE_PTR(latest);
	return 0;
}

static int fetch_image(const struct store *s, const struct source_request *q, struct oci_descriptor *ret,
		       char **ret_name, struct error *err)
{
	_cleanup_(stream_freep) struct stream *stream = NULL;
	_cleanup_free_ char *name = NULL, *path = NULL;
	_cleanup_error_ struct error e = {};
	struct docker_transfer t;
	int r = check_name(q->operand, "docker-daemon", true, err);

	if (r >= 0)
		r = full_name(q->operand, &name, err);
	if (r < 0)
		return r;
	path = xasprintf("/images/%s/get", name);
	r = docker_get(path, &t, err);
	if (r < 0)
		return r;
	r = stream_new(t.fd, "docker's image", &stream, &e);
	if (r >= 0)
		r = source_read_archive(s, stream, "docker's image", q, true, ret, ret_name, &e);
	if (r >= 0 && !*ret_name)
		*ret_name = xstrdup(q->operand);
	r = settle(&t, r, &e, false, err);
	return r < 0 ? error_prefix(err, "docker-daemon:%s", q->operand) : 0;
}

static int save_image(const struct store *s, const struct oci_descriptor *manifest, const char *name,
		      const char *operand, int progress_fd, struct error *err)
{
	_cleanup_error_ struct error e = {};
	struct docker_transfer t;
	int r = *operand ? check_name(operand, "docker-daemon", true, err) : 0;

	if (r >= 0)
		r = docker_post("/images/load?quiet=1", &t, err);
	if (r < 0)
		return r;
	/* The daemon may refuse and close its end. */
	(void)signal(SIGPIPE, SIG_IGN);
	r = bundle_write_docker(s, manifest, *operand ? operand : name, t.fd, "docker", progress_fd, &e);
	return settle(&t, r, &e, e.num != EPIPE, err);
}

/* Of `docker inspect`: the part that an image's configuration has too. */
static int read_config(const char *name, struct json **ret, struct error *err)
{
	static const char *const keys[] = { "User",    "ExposedPorts", "Env",        "Entrypoint", "Cmd",
					    "Volumes", "WorkingDir",   "StopSignal", "Labels" };
	_cleanup_free_ char *path = xasprintf("/containers/%s/json", name);
	_cleanup_json_ struct json *tree = NULL, *config = json_object();
	_cleanup_buf_ struct buf text = {};
	int r = docker_read(path, &text, err);

	if (r >= 0)
		r = json_parse(text.p ? text.p : "", text.len, "docker's container", &tree, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		struct json *v = json_get(json_get(tree, "Config"), keys[i]);

		if (!json_is_null(v))
			json_set(config, keys[i], json_ref(v));
	}
	*ret = TAKE_PTR(config);
	return 0;
}

static int fetch_container(const struct store *s, const struct source_request *q, struct oci_descriptor *ret,
			   char **ret_name, struct error *err)
{
	_cleanup_free_ char *path = xasprintf("/containers/%s/export", q->operand);
	_cleanup_(stream_freep) struct stream *stream = NULL;
	_cleanup_json_ struct json *config = NULL;
	_cleanup_error_ struct error e = {};
	struct docker_transfer t;
	int r = check_name(q->operand, "docker-container", false, err);

	(void)ret_name;
	if (r >= 0 && q->select)
		r = error_set_kind(err, ERROR_USAGE, EINVAL, "--select: a container is one image");
	if (r >= 0)
		r = read_config(q->operand, &config, err);
	if (r >= 0)
		r = docker_get(path, &t, err);
	if (r < 0)
		return r;
	r = stream_new(t.fd, "docker's container", &stream, &e);
	if (r >= 0)
		r = source_read_root(s, stream, "docker's container", config, ret, &e);
	r = settle(&t, r, &e, false, err);
	return r < 0 ? error_prefix(err, "docker-container:%s", q->operand) : 0;
}

const struct source source_docker_daemon = {
	.scheme = "docker-daemon",
	.help = "docker-daemon:NAME[:TAG], an image of Docker's",
	.fetch = fetch_image,
	.save = save_image,
};

const struct source source_docker_container = {
	.scheme = "docker-container",
	.help = "docker-container:NAME, the files of one of Docker's containers",
	.fetch = fetch_container,
};
