#include "bench/import.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/spawn.h"
#include "json/json.h"

enum { FILES = 30000, DIRECTORIES = 1000, NOISE = 1 << 20, SIZE_MIN = 1000, SIZE_RANGE = 69583 };
#define PACK_TIMEOUT_NS UINT64_C(600000000000)

static int run(const char *const *argv, struct buf *out, struct error *err)
{
	struct spawn s = SPAWN_INIT;

	s.argv = argv;
	return spawn_check(&s, NULL, out, 4096, PACK_TIMEOUT_NS, err);
}
#define RUN(out, err, ...) run((const char *const[]){ __VA_ARGS__, NULL }, out, err)

static uint32_t next_number(uint32_t *v)
{
	*v = *v * 1664525 + 1013904223;
	return *v >> 8;
}

/* One file in three cannot be packed; the others are like text. */
static void fill(char *noise, char *text)
{
	uint32_t v = 1;

	for (size_t i = 0; i < NOISE; i++) {
		noise[i] = (char)next_number(&v);
		text[i] = next_number(&v) % 5 ? "etaoin shrdlu"[next_number(&v) % 13] : '\n';
	}
}

static int make_files(const char *root)
{
	_cleanup_close_ int fd = dir_open_create(root, 0755);
	_cleanup_free_ char *noise = xcalloc(1, NOISE), *text = xcalloc(1, NOISE);
	uint32_t v = 2;
	int r = fd;

	fill(noise, text);
	for (unsigned i = 0; r >= 0 && i < DIRECTORIES; i++) {
		_cleanup_free_ char *name = xasprintf("d%u", i);

		r = mkdirat(fd, name, 0755) < 0 ? -errno : 0;
	}
	for (unsigned i = 0; r >= 0 && i < FILES; i++) {
		_cleanup_free_ char *name = xasprintf("d%u/file-%u", i % DIRECTORIES, i);
		_cleanup_close_ int file = openat(fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		size_t size = SIZE_MIN + next_number(&v) % SIZE_RANGE, at = next_number(&v) % (NOISE - size);

		r = file < 0 ? -errno : write_full(file, (i % 3 ? text : noise) + at, size);
	}
	return r;
}

static int write_json(int dir, const char *name, const struct json *j)
{
	_cleanup_buf_ struct buf out = {};

	json_render(j, false, &out);
	return file_write_at(dir, name, out.p, out.len, 0644, 0);
}

/* The two documents that stand beside the layer in such an archive. */
static int write_documents(const char *dir, const char *diff_id)
{
	_cleanup_json_ struct json *config = json_object(), *list = json_array();
	struct json *rootfs = json_object(), *ids = json_array(), *image = json_object(), *tags = json_array(),
		    *layers = json_array();
	_cleanup_close_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	json_append_string(ids, diff_id);
	json_set_string(rootfs, "type", "layers");
	json_set(rootfs, "diff_ids", ids);
	json_set_string(config, "architecture", "amd64");
	json_set_string(config, "os", "linux");
	json_set(config, "rootfs", rootfs);
	json_append_string(tags, "bench-import:1");
	json_append_string(layers, "layer.tar");
	json_set_string(image, "Config", "config.json");
	json_set(image, "RepoTags", tags);
	json_set(image, "Layers", layers);
	json_append(list, image);
	r = fd < 0 ? -errno : write_json(fd, "config.json", config);
	return r < 0 ? r : write_json(fd, "manifest.json", list);
}

int import_bench_prepare(struct import_bench *b, const char *scratch, struct error *err)
{
	_cleanup_free_ char *root = NULL, *layer = NULL, *diff_id = NULL;
	_cleanup_buf_ struct buf sum = {};
	int r;

	*b = (struct import_bench){ .dir = xasprintf("%s/import", scratch) };
	b->archive = xasprintf("%s/archive.tar", b->dir);
	root = xasprintf("%s/root", b->dir);
	layer = xasprintf("%s/layer.tar", b->dir);
	r = make_files(root);
	if (r < 0)
		return error_set_errno(err, r, "%s", root);
	r = RUN(NULL, err, "tar", "--sort=name", "--owner=0", "--group=0", "-C", root, "-cf", layer, ".");
	if (r >= 0)
		r = RUN(&sum, err, "sha256sum", layer);
	if (r < 0)
		return r;
	diff_id = xasprintf("sha256:%.64s", sum.len >= 64 ? sum.p : "");
	r = write_documents(b->dir, diff_id);
	if (r < 0)
		return error_set_errno(err, r, "%s", b->dir);
	r = RUN(NULL, err, "tar", "-C", b->dir, "-cf", b->archive, "config.json", "layer.tar", "manifest.json");
	(void)unlink(layer);
	return r;
}

void import_bench_done(struct import_bench *b)
{
	free(b->dir);
	free(b->archive);
	*b = (struct import_bench){};
}

static void remove_below(const struct import_bench *b, const char *name)
{
	_cleanup_close_ int fd = open(b->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0)
		(void)remove_tree_at(fd, name);
}

int import_by_skerry(const struct import_bench *b, const char *skerry, uint64_t *ret_ns, uint64_t *ret_peak_bytes,
		     struct error *err)
{
	_cleanup_free_ char *home = xasprintf("SKERRY_HOME=%s/home", b->dir),
			    *from = xasprintf("docker-archive:%s", b->archive);
	const char *argv[] = { "env", home, skerry, "image", "import", from, "--name", "bench-import:1", NULL };
	int r = measure_peak(argv, ret_ns, ret_peak_bytes, err);

	remove_below(b, "home");
	return r;
}

int import_by_docker(const struct import_bench *b, const struct peer *docker, uint64_t *ret_ns, struct error *err)
{
	/* Its command line begins with the host that the daemon listens on. */
	const char *load[] = { "docker", docker->words[1], docker->words[2], "load", "-i", b->archive, NULL };
	const char *remove[] = { "docker", docker->words[1], docker->words[2], "rmi", "-f", "bench-import:1", NULL };
	uint64_t ns;
	int r = measure_command(load, ret_ns, err);

	return r < 0 ? r : measure_command(remove, &ns, err);
}

int import_by_umoci(const struct import_bench *b, uint64_t *ret_ns, uint64_t *ret_peak_bytes, struct error *err)
{
	_cleanup_free_ char *from = xasprintf("docker-archive:%s", b->archive),
			    *to = xasprintf("oci:%s/layout:t", b->dir), *image = xasprintf("%s/layout:t", b->dir),
			    *bundle = xasprintf("%s/bundle", b->dir);
	const char *copy[] = { "skopeo", "--insecure-policy", "copy", "-q", from, to, NULL };
	const char *unpack[] = { "umoci", "unpack", "--image", image, bundle, NULL };
	uint64_t copy_ns, unpack_ns, copy_peak, unpack_peak;
	int r = measure_peak(copy, &copy_ns, &copy_peak, err);

	if (r >= 0)
		r = measure_peak(unpack, &unpack_ns, &unpack_peak, err);
	if (r >= 0) {
		*ret_ns = copy_ns + unpack_ns;
		*ret_peak_bytes = copy_peak > unpack_peak ? copy_peak : unpack_peak;
	}
	remove_below(b, "layout");
	remove_below(b, "bundle");
	return r;
}
