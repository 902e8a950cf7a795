/* `make bench`: every figure that is promised, as a median on this machine, beside its aim and what a user would pick instead.
 *
 *   bench SKERRY JSON   SKERRY is the program under test, JSON the file for the figures
 *
 * SKERRY_HOME names a store with the images tiny and debian and the kernels built and debian (scripts/test-store.sh makes one). */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/process.h"
#include "base/spawn.h"
#include "base/table.h"
#include "bench/containers.h"
#include "bench/docker_vm.h"
#include "bench/import.h"
#include "bench/peers.h"
#include "json/json.h"
#include "store/store.h"

enum { RUNS = 10, LONG_RUNS = 3, QUICK_RUNS = 50, MANY_MACHINES = 1000 };

enum unit { UNIT_MS, UNIT_KIB };

struct figure {
	const char *key, *what;
	enum unit unit;
	double aim; /* 0 = none */
	struct samples s;
	const char *peer; /* NULL = none */
	struct samples peer_s;
	char *failed; /* owned */
};

struct bench {
	const char *skerry;
	struct store store;
	struct figure **figures; /* owned, and so is each */
	size_t n;
	char *scratch; /* owned */
};

static struct figure *figure(struct bench *b, const char *key, const char *what, enum unit unit, double aim)
{
	struct figure *f = xnew(struct figure);

	b->figures = xrealloc_array(b->figures, b->n + 1, sizeof(*b->figures));
	b->figures[b->n++] = f;
	*f = (struct figure){ .key = key, .what = what, .unit = unit, .aim = aim };
	fprintf(stderr, "%s\n", what);
	return f;
}

static void failed(struct figure *f, const struct error *e)
{
	if (!f->failed)
		f->failed = xstrdup(e->msg ? e->msg : "failed");
}

/* One command of skerry's; 0 when it did. */
static int skerry(struct bench *b, struct figure *f, uint64_t *ret_ns, const char *const *words)
{
	_cleanup_error_ struct error e = {};
	const char *argv[16] = { b->skerry };
	uint64_t ns;
	int r;

	for (size_t i = 0; words[i] && i + 2 < ARRAY_SIZE(argv); i++)
		argv[i + 1] = words[i];
	r = measure_command(argv, ret_ns ? ret_ns : &ns, &e);
	if (r < 0)
		failed(f, &e);
	return r;
}
#define SKERRY(b, f, ns, ...) skerry(b, f, ns, (const char *const[]){ __VA_ARGS__, NULL })

/* Warm-up, then RUNS times, in turn with the peer. */
static void run_and_peer(struct bench *b, struct figure *f, const char *kernel, struct peer *p)
{
	for (unsigned i = 0; i <= RUNS && !f->failed; i++) {
		_cleanup_error_ struct error e = {};
		uint64_t ns;

		if (SKERRY(b, f, &ns, "run", "--rm", "--kernel", kernel, "tiny", "true") >= 0 && i)
			samples_add(&f->s, ns);
		if (!p || p->missing)
			continue;
		if (peer_run(p, i, &ns, &e) < 0)
			fprintf(stderr, "  %s: %s\n", p->name, e.msg);
		else if (i)
			samples_add(&f->peer_s, ns);
	}
	f->peer = p && !p->missing ? p->name : NULL;
}

static void starts(struct bench *b, struct figure *agent, struct figure *ssh)
{
	if (SKERRY(b, agent, NULL, "create", "bench", "--image", "debian", "--kernel", "built") < 0)
		return;
	for (unsigned i = 0; i <= RUNS && !agent->failed && !ssh->failed; i++) {
		uint64_t begun = clock_monotonic_ns(), ns;

		if (SKERRY(b, agent, &ns, "start", "--wait", "bench") < 0 ||
		    SKERRY(b, ssh, NULL, "wait", "--for", "ssh", "bench") < 0)
			break;
		if (i) {
			samples_add(&agent->s, ns);
			samples_add(&ssh->s, clock_monotonic_ns() - begun);
		}
		(void)SKERRY(b, agent, NULL, "stop", "bench");
	}
	(void)SKERRY(b, agent, NULL, "delete", "--force", "-y", "bench");
}

/* Until virtual processors run: what other tools call started. */
static void start_and_peer(struct bench *b, struct figure *f, struct peer *p)
{
	if (SKERRY(b, f, NULL, "create", "bench", "--image", "debian", "--kernel", "built") < 0)
		return;
	for (unsigned i = 0; i <= RUNS && !f->failed; i++) {
		_cleanup_error_ struct error e = {};
		uint64_t ns;

		if (SKERRY(b, f, &ns, "start", "bench") >= 0 && i)
			samples_add(&f->s, ns);
		(void)SKERRY(b, f, NULL, "kill", "bench");
		if (p->missing)
			continue;
		if (peer_run(p, i, &ns, &e) < 0 || peer_after(p, &e) < 0)
			fprintf(stderr, "  %s: %s\n", p->name, e.msg);
		else if (i)
			samples_add(&f->peer_s, ns);
	}
	f->peer = p->missing ? NULL : p->name;
	(void)SKERRY(b, f, NULL, "delete", "--force", "-y", "bench");
}

/* Records of machines that were never started: one made by skerry, copied under other names. */
static int make_many(struct bench *b, struct figure *f)
{
	_cleanup_json_ struct json *tree = NULL;
	_cleanup_buf_ struct buf text = {};
	int r;

	if (SKERRY(b, f, NULL, "create", "many", "--image", "tiny") < 0)
		return -EIO;
	r = file_read_at(b->store.machines_fd, "many/machine.json", 1 << 20, &text);
	if (r >= 0)
		r = json_parse(text.p, text.len, "machine.json", &tree, NULL);
	for (unsigned i = 1; r >= 0 && i < MANY_MACHINES; i++) {
		_cleanup_free_ char *name = xasprintf("many-%u", i);
		_cleanup_close_ int dir = -EBADF;
		_cleanup_buf_ struct buf out = {};

		json_set_string(tree, "name", name);
		json_render(tree, true, &out);
		if (mkdirat(b->store.machines_fd, name, 0700) < 0)
			return -errno;
		dir = openat(b->store.machines_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = dir < 0 ? -errno : file_write_at(dir, "machine.json", out.p, out.len, 0600, 0);
	}
	return r;
}

static void listing(struct bench *b, struct figure *list, struct figure *status)
{
	_cleanup_error_ struct error e = {};
	int r = make_many(b, list);
	uint64_t ns;

	if (r < 0) {
		error_set_errno(&e, r, "cannot make %d machines", MANY_MACHINES);
		failed(list, &e);
	}
	for (unsigned i = 0; i <= QUICK_RUNS && !list->failed; i++) {
		if (SKERRY(b, list, &ns, "list") >= 0 && i)
			samples_add(&list->s, ns);
		if (SKERRY(b, status, &ns, "status", "many") >= 0 && i)
			samples_add(&status->s, ns);
	}
	for (unsigned i = 1; i < MANY_MACHINES; i++) {
		_cleanup_free_ char *name = xasprintf("many-%u", i);

		(void)remove_tree_at(b->store.machines_fd, name);
	}
	(void)SKERRY(b, list, NULL, "delete", "-y", "many");
}

static void monitor_memory(struct bench *b, struct figure *f)
{
	_cleanup_buf_ struct buf text = {};
	_cleanup_json_ struct json *state = NULL;
	uint64_t pid, private_bytes, pss, rss;

	if (SKERRY(b, f, NULL, "create", "memory", "--image", "tiny", "--kernel", "built") < 0)
		return;
	for (unsigned i = 0; i < RUNS && SKERRY(b, f, NULL, "start", "--wait", "memory") >= 0; i++) {
		buf_truncate(&text, 0);
		if (file_read_at(b->store.run_fd, "memory/state.json", 1 << 20, &text) >= 0 &&
		    json_parse(text.p, text.len, "state.json", &state, NULL) >= 0 &&
		    json_u64(json_get(state, "monitor_pid"), &pid) &&
		    process_memory((pid_t)pid, &private_bytes, &pss, &rss) >= 0)
			samples_add(&f->s, private_bytes);
		state = json_free(state);
		(void)SKERRY(b, f, NULL, "stop", "memory");
	}
	(void)SKERRY(b, f, NULL, "delete", "--force", "-y", "memory");
}

static void stripped_size(struct bench *b, struct figure *f, const char *program)
{
	_cleanup_free_ char *out = xasprintf("%s/stripped", b->scratch);
	const char *argv[] = { "strip", "-o", out, program, NULL };
	_cleanup_error_ struct error e = {};
	struct stat st;
	uint64_t ns;

	if (!program || measure_command(argv, &ns, &e) < 0 || stat(out, &st) < 0)
		failed(f, &e);
	else
		samples_add(&f->s, (uint64_t)st.st_size);
}

/* The same root file system for everybody: busybox and the names of its applets that are needed. */
static char *make_rootfs(struct bench *b)
{
	char *root = xasprintf("%s/rootfs", b->scratch);
	_cleanup_free_ char *bin = xasprintf("%s/bin", root), *to = xasprintf("%s/busybox", bin);
	static const char *const applets[] = { "true", "sh", "cat", "sleep" };
	const char *argv[] = { "cp", "/bin/busybox", to, NULL };
	_cleanup_close_ int fd = dir_open_create(bin, 0755);
	bool made = fd >= 0;
	uint64_t ns;

	made = made && measure_command(argv, &ns, NULL) >= 0;
	for (size_t i = 0; i < ARRAY_SIZE(applets); i++)
		made = made && symlinkat("busybox", fd, applets[i]) == 0;
	if (made)
		return root;
	free(root);
	return NULL;
}

static double in_unit(const struct figure *f, uint64_t v)
{
	return (double)v / (f->unit == UNIT_MS ? 1e6 : 1024.0);
}

static void cell(struct table *t, const struct figure *f, uint64_t v, size_t n)
{
	_cleanup_free_ char *s = n ? xasprintf("%.1f", in_unit(f, v)) : NULL;

	table_text(t, s);
}

static void print_table(struct bench *b)
{
	static const struct table_column columns[] = {
		{ "what", "WHAT", TABLE_TEXT },
		{ "median", "MEDIAN", TABLE_TEXT },
		{ "min", "MIN", TABLE_TEXT },
		{ "max", "MAX", TABLE_TEXT },
		{ "unit", "UNIT", TABLE_TEXT },
		{ "aim", "AIM", TABLE_TEXT },
		{ "verdict", "", TABLE_TEXT },
		{ "peer", "PEER", TABLE_TEXT },
		{ "peer_median", "ITS MEDIAN", TABLE_TEXT },
		{ "ratio", "RATIO", TABLE_TEXT },
	};
	struct table *t = table_new(columns, ARRAY_SIZE(columns));
	_cleanup_buf_ struct buf out = {};

	for (size_t i = 0; i < b->n; i++) {
		struct figure *f = b->figures[i];
		uint64_t median = samples_median(&f->s), peer = samples_median(&f->peer_s);
		_cleanup_free_ char *aim = f->aim > 0 ? xasprintf("%.0f", f->aim) : NULL;
		_cleanup_free_ char *ratio = peer ? xasprintf("%.2f", (double)median / (double)peer) : NULL;

		table_text(t, f->what);
		cell(t, f, median, f->s.n);
		cell(t, f, samples_min(&f->s), f->s.n);
		cell(t, f, samples_max(&f->s), f->s.n);
		table_text(t, f->unit == UNIT_MS ? "ms" : "KiB");
		table_text(t, aim);
		table_text(t, f->failed                      ? f->failed
			      : !f->s.n || f->aim <= 0       ? NULL
			      : in_unit(f, median) <= f->aim ? "ok"
							     : "MISSED");
		table_text(t, f->peer);
		cell(t, f, peer, f->peer_s.n);
		table_text(t, ratio);
	}
	table_render(t, true, &out);
	fputs(out.p, stdout);
	table_free(t);
}

static int write_json(struct bench *b, const char *path)
{
	_cleanup_json_ struct json *o = json_object();
	struct json *a = json_array();
	_cleanup_buf_ struct buf out = {};
	char when[21];

	for (size_t i = 0; i < b->n; i++) {
		struct figure *f = b->figures[i];
		struct json *e = json_object();

		json_set_string(e, "key", f->key);
		json_set_string(e, "unit", f->unit == UNIT_MS ? "ns" : "bytes");
		json_set_u64(e, "median", samples_median(&f->s));
		json_set_u64(e, "min", samples_min(&f->s));
		json_set_u64(e, "max", samples_max(&f->s));
		json_set_u64(e, "samples", f->s.n);
		if (f->peer) {
			json_set_string(e, "peer", f->peer);
			json_set_u64(e, "peer_median", samples_median(&f->peer_s));
		}
		if (f->failed)
			json_set_string(e, "failed", f->failed);
		json_append(a, e);
	}
	json_set_string(o, "when", clock_format_rfc3339(clock_realtime_ns(), when, sizeof(when)));
	json_set(o, "figures", a);
	json_render(o, true, &out);
	return file_write_at(AT_FDCWD, path, out.p, out.len, 0644, 0);
}

static void sample(struct figure *f, int r, uint64_t v, struct error *e)
{
	if (r < 0)
		failed(f, e);
	else
		samples_add(&f->s, v);
	error_done(e);
}

static void peer_sample(struct figure *f, const char *name, int r, uint64_t v, struct error *e)
{
	if (r < 0) {
		fprintf(stderr, "  %s: %s\n", name, e->msg);
	} else {
		samples_add(&f->peer_s, v);
		f->peer = name;
	}
	error_done(e);
}

static void imports(struct bench *b, struct peer *docker)
{
	static const char umoci[] = "skopeo copy + umoci unpack";
	struct figure *time = figure(b, "import", "import, 1 GiB in 30,000 files", UNIT_MS, 0);
	struct figure *again = figure(b, "import_beside_umoci", "the same", UNIT_MS, 0);
	struct figure *memory = figure(b, "import_memory", "the same, peak memory", UNIT_KIB, 65536);
	_cleanup_(import_bench_done) struct import_bench i = {};
	_cleanup_error_ struct error e = {};

	if (import_bench_prepare(&i, b->scratch, &e) < 0) {
		failed(time, &e);
		return;
	}
	for (unsigned n = 0; n < LONG_RUNS && !time->failed; n++) {
		uint64_t ns, bytes;
		int r = import_by_skerry(&i, b->skerry, &ns, &bytes, &e);

		if (r >= 0) {
			samples_add(&again->s, ns);
			samples_add(&memory->s, bytes);
		}
		sample(time, r, ns, &e);
		if (!docker->missing) {
			r = import_by_docker(&i, docker, &ns, &e);
			peer_sample(time, "docker load", r, ns, &e);
		}
		r = import_by_umoci(&i, &ns, &bytes, &e);
		if (r >= 0)
			peer_sample(memory, umoci, r, bytes, &e);
		peer_sample(again, umoci, r, ns, &e);
	}
}

/* An image that came from elsewhere starts as fast as one of ours: busybox in a tar, beside tiny. */
static void run_imported(struct bench *b, struct figure *f, const char *rootfs)
{
	_cleanup_free_ char *tar = xasprintf("%s/imported.tar", b->scratch), *from = xasprintf("tar:%s", tar);
	const char *pack[] = { "tar", "-C", rootfs, "-cf", tar, ".", NULL };
	_cleanup_error_ struct error e = {};
	uint64_t ns;

	if (measure_command(pack, &ns, &e) < 0)
		failed(f, &e);
	else
		(void)SKERRY(b, f, NULL, "image", "import", from, "--name", "bench-imported:1");
	for (unsigned i = 0; i <= RUNS && !f->failed; i++) {
		if (SKERRY(b, f, &ns, "run", "--rm", "--kernel", "built", "bench-imported:1", "true") >= 0 && i)
			samples_add(&f->s, ns);
		if (SKERRY(b, f, &ns, "run", "--rm", "--kernel", "built", "tiny", "true") >= 0 && i)
			samples_add(&f->peer_s, ns);
	}
	f->peer = "run --rm tiny";
	(void)SKERRY(b, f, NULL, "image", "delete", "bench-imported:1");
}

/* A program of the build tree that skerry is in. Owned by the caller. */
static char *beside(const struct bench *b, const char *program)
{
	const char *slash = strrchr(b->skerry, '/');

	return xasprintf("%.*s/../%s", slash ? (int)(slash - b->skerry) : 1, slash ? b->skerry : ".", program);
}

/* The same root file system in a virtual machine and in a container, by one containerd. */
static void containers(struct bench *b, const struct peer *ctr, const char *rootfs)
{
	static const struct {
		const char *id, *what, *script;
	} rows[] = {
		{ "ctr_run", "ctr run --rm true, our runtime", "true" },
		{ "ctr_read", "the same, reading 256 MiB of its root", "cat /big >/dev/null" },
	};
	_cleanup_error_ struct error e = {};
	struct figure *memory, *shim;

	if (ctr->missing || containers_add_file(rootfs, "big", UINT64_C(256) << 20, &e) < 0)
		return;
	for (size_t k = 0; k < ARRAY_SIZE(rows); k++) {
		struct figure *f = figure(b, rows[k].id, rows[k].what, UNIT_MS, 0);

		for (unsigned i = 0; i <= RUNS && !f->failed; i++) {
			uint64_t ns;
			int r = containers_run(ctr, BENCH_RUNTIME, i, rows[k].script, &ns, &e);

			if (i || r < 0)
				sample(f, r, ns, &e);
			r = containers_run(ctr, NULL, i, rows[k].script, &ns, &e);
			if (i || r < 0)
				peer_sample(f, "ctr run, runc", r, ns, &e);
		}
	}
	memory = figure(b, "ctr_memory", "shim, engine and virtiofsd of a container", UNIT_KIB, 0);
	shim = figure(b, "shim_memory", "shim, private memory", UNIT_KIB, 2048);
	for (unsigned i = 0; i < LONG_RUNS && !memory->failed; i++) {
		uint64_t bytes, own;
		int r = containers_memory(ctr, BENCH_RUNTIME, &bytes, &own, &e);

		if (r >= 0)
			samples_add(&shim->s, own);
		sample(memory, r, bytes, &e);
		r = containers_memory(ctr, NULL, &bytes, &own, &e);
		if (r >= 0)
			peer_sample(shim, "runc", 0, own, &e);
		peer_sample(memory, "runc", r, bytes, &e);
	}
}

/* In a network namespace of its own from here on: the last of all. */
static void docker_vms(struct bench *b, const char *rootfs)
{
	struct figure *f = figure(b, "docker_run_ssh", "docker run skerry/debian to ssh", UNIT_MS, 15000);
	const char *runtime = getenv("SKERRY_TEST_RUNTIME");
	const char *up[] = { "ip", "link", "set", "lo", "up", NULL };
	_cleanup_error_ struct error e = {};
	struct peer docker;
	uint64_t ns;
	int r = 0;

	if (geteuid() != 0 || !runtime || unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || measure_command(up, &ns, &e) < 0) {
		fprintf(stderr, "  skipped: it needs root, and the runtime image (scripts/test-runtime-image.sh)\n");
		return;
	}
	/* What is mounted later must be seen by the shims of containers that run already. */
	(void)mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL);
	peer_start_docker(&docker, b->scratch, rootfs, true);
	if (docker.missing) {
		fprintf(stderr, "  skipped: %s\n", docker.missing);
		return;
	}
	r = docker_vm_prepare(&docker, b->scratch, runtime, &e);
	if (r < 0)
		failed(f, &e);
	for (unsigned i = 0; i <= RUNS && !f->failed; i++) {
		r = docker_vm_run(&docker, b->scratch, &ns, &e);
		if (i || r < 0)
			sample(f, r, ns, &e);
	}
	peer_stop(&docker);
}

static void measure_all(struct bench *b)
{
	_cleanup_free_ char *rootfs = make_rootfs(b), *init = beside(b, "guest/skerry-init"),
			    *monitor = beside(b, "machine/skerry-monitor"), *shim = beside(b, "shim");
	_cleanup_free_ char *kernel = xasprintf("%s/kernels/built/vmlinux", b->store.home_path);
	struct peer ctr, docker, virsh;
	struct figure *f, *g;

	containers_prepare(shim);
	peer_start_ctr(&ctr, b->scratch, rootfs);
	peer_start_docker(&docker, b->scratch, rootfs, false);
	if (ctr.missing)
		fprintf(stderr, "ctr: skipped: %s (apt install containerd runc)\n", ctr.missing);
	if (docker.missing)
		fprintf(stderr, "docker: skipped: %s (apt install docker.io)\n", docker.missing);
	run_and_peer(b, figure(b, "run_built", "run --rm tiny true, built kernel", UNIT_MS, 1000), "built", &docker);
	run_and_peer(b, figure(b, "run_debian_kernel", "run --rm tiny true, Debian's kernel", UNIT_MS, 2000), "debian",
		     &ctr);
	containers(b, &ctr, rootfs);
	peer_stop(&ctr);
	run_imported(b, figure(b, "run_imported", "run --rm of an imported image", UNIT_MS, 0), rootfs);
	imports(b, &docker);
	peer_stop(&docker);
	peer_start_virsh(&virsh, b->scratch, kernel);
	if (virsh.missing)
		fprintf(stderr, "virsh: skipped: %s (apt install libvirt-daemon-system libvirt-clients)\n",
			virsh.missing);
	start_and_peer(b, figure(b, "debian_start", "debian: start", UNIT_MS, 0), &virsh);
	peer_stop(&virsh);
	f = figure(b, "debian_start_agent", "debian: start to agent", UNIT_MS, 0);
	g = figure(b, "debian_start_ssh", "debian: start to ssh", UNIT_MS, 0);
	starts(b, f, g);
	f = figure(b, "list_1000", "list, 1,000 machines", UNIT_MS, 25);
	g = figure(b, "status", "status", UNIT_MS, 5);
	listing(b, f, g);
	monitor_memory(b, figure(b, "monitor_private", "monitor, private memory", UNIT_KIB, 1536));
	stripped_size(b, figure(b, "size_skerry", "skerry, stripped", UNIT_KIB, 1024), b->skerry);
	stripped_size(b, figure(b, "size_init", "skerry-init, stripped", UNIT_KIB, 400), init);
	stripped_size(b, figure(b, "size_monitor", "skerry-monitor, stripped", UNIT_KIB, 0), monitor);
	docker_vms(b, rootfs);
}

int main(int argc, char **argv)
{
	struct bench b = {};
	_cleanup_error_ struct error e = {};
	char scratch[] = "/tmp/skerry-bench-XXXXXX";
	int missed = 0;

	if (argc != 3) {
		fprintf(stderr, "usage: bench SKERRY JSON\n");
		return 64;
	}
	b.skerry = argv[1];
	b.scratch = mkdtemp(scratch);
	/* A peer that runs as nobody has a directory of its own in there. */
	if (b.scratch)
		(void)chmod(b.scratch, 0711);
	if (!b.scratch || store_open(&b.store, &e) < 0) {
		fprintf(stderr, "bench: %s\n", e.msg ? e.msg : "cannot make a directory below /tmp");
		return 1;
	}
	measure_all(&b);
	print_table(&b);
	if (write_json(&b, argv[2]) < 0)
		fprintf(stderr, "bench: cannot write %s\n", argv[2]);
	for (size_t i = 0; i < b.n; i++) {
		missed += b.figures[i]->failed != NULL;
		free(b.figures[i]->failed);
		free(b.figures[i]);
	}
	free(b.figures);
	scratch_remove(b.scratch);
	store_done(&b.store);
	return missed != 0;
}
