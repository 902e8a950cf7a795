#include "image/source.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "image/blob.h"
#include "image/stream.h"
#include "image/tar.h"

/* In the order in which they are asked whether a file is theirs. */
static const struct source *const sources[] = {
	&source_docker_archive, &source_oci_archive,     &source_oci, &source_tar,
	&source_docker_daemon,  &source_docker_container
};

enum { HEAD_BYTES = 1 << 16 };

const struct source *source_at(size_t i)
{
	return i < ARRAY_SIZE(sources) ? sources[i] : NULL;
}

static const struct source *by_scheme(const char *given, const char **ret_operand)
{
	for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
		const char *rest = after_prefix(given, sources[i]->scheme);

		if (!rest || *rest != ':')
			continue;
		*ret_operand = rest + 1;
		return sources[i];
	}
	return NULL;
}

static int unknown(const char *given, struct error *err)
{
	_cleanup_buf_ struct buf list = {};

	for (size_t i = 0; i < ARRAY_SIZE(sources); i++)
		buf_addf(&list, "%s%s:", i ? ", " : "", sources[i]->scheme);
	(void)error_set_kind(err, ERROR_USAGE, EINVAL, "'%.200s' is no file and no known kind of image", given);
	return error_hint(err, "a path, or one of %s", list.p);
}

int source_open(const char *path, struct error *err)
{
	int fd;

	if (streq(path, "-"))
		fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	else
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return error_set_errno(err, errno, "'%s'", path);
	if (isatty(fd)) {
		(void)close(fd);
		return error_set_kind(err, ERROR_USAGE, EINVAL,
				      "standard input is a terminal, where an archive is expected");
	}
	return fd;
}

/* The first entry of a tar, or NULL. */
static char *first_entry(int fd, const char *path)
{
	_cleanup_(stream_freep) struct stream *stream = NULL;
	_cleanup_(tar_freep) struct tar *t = NULL;
	const struct tar_item *item;

	if (stream_new(fd, path, &stream, NULL) < 0)
		return NULL;
	t = tar_new(stream_read, stream);
	return tar_next(t, &item, NULL) > 0 ? xstrdup(item->entry.path) : NULL;
}

static int by_content(const char *path, const struct source **ret, struct error *err)
{
	_cleanup_close_ int fd = source_open(path, err);
	_cleanup_free_ char *bytes = NULL, *entry = NULL;
	struct source_head head = {};
	struct stat st;
	ssize_t n;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
		*ret = &source_oci;
		return 0;
	}
	/* What cannot be read twice is told while it is read. */
	if (lseek(fd, 0, SEEK_CUR) < 0) {
		*ret = &source_piped;
		return 0;
	}
	bytes = xcalloc(1, HEAD_BYTES);
	n = pread(fd, bytes, HEAD_BYTES, 0);
	if (n < 0)
		return error_set_errno(err, errno, "'%s'", path);
	entry = first_entry(fd, path);
	head = (struct source_head){ bytes, (size_t)n, entry };
	if (streq(path, "-") && lseek(fd, 0, SEEK_SET) < 0)
		return error_set_errno(err, errno, "'%s'", path);
	for (size_t i = 0; i < ARRAY_SIZE(sources); i++)
		if (sources[i]->recognise && sources[i]->recognise(&head)) {
			*ret = sources[i];
			return 0;
		}
	return error_set_kind(err, ERROR_DATA, EBADMSG, "'%s': neither an archive nor a disk that is known", path);
}

int source_find(const char *given, const struct source **ret, const char **ret_operand, struct error *err)
{
	*ret = by_scheme(given, ret_operand);
	if (*ret)
		return 0;
	*ret_operand = given;
	if (!streq(given, "-") && access(given, F_OK) < 0 && strchr(given, ':') && !strchr(given, '/'))
		return unknown(given, err);
	return by_content(given, ret, err);
}

int source_find_sink(const char *given, const struct source **ret, const char **ret_operand, struct error *err)
{
	*ret = by_scheme(given, ret_operand);
	if (!*ret) {
		*ret = &source_docker_archive;
		*ret_operand = given;
	}
	if (!(*ret)->save)
		return error_set_kind(err, ERROR_USAGE, EINVAL, "images cannot be written as '%s:'", (*ret)->scheme);
	return 0;
}

int source_put_manifest(const struct store *s, struct oci_manifest *m, struct oci_descriptor *ret, struct error *err)
{
	_cleanup_buf_ struct buf text = {};

	oci_manifest_render(m, &text);
	*ret = (struct oci_descriptor){ .media_type = xstrdup(m->media_type ? m->media_type : OCI_MANIFEST_TYPE),
					.size = text.len };
	return blob_put(s, text.p, text.len, &ret->digest, err);
}
