/* commit: the machine is kept from writing here, its disk is read by skerry-image (image_commit.c tells the conversation between the two). */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/process.h"
#include "base/spawn.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/target.h"
#include "image/image.h"
#include "monitor.pb-c.h"
#include "store/paths.h"

#define HOLD_TIMEOUT_NS  (30 * NS_PER_SEC)
#define AGENT_TIMEOUT_NS (30 * NS_PER_SEC)
#define REPLY_TIMEOUT_NS (30 * NS_PER_SEC)
enum { LINE_MAX_BYTES = 256 };

struct commit_options {
	const char *message, *author;
	struct strv changes;
	int pause, compression;
};

static const struct option commit_table[] = {
	TEXT('m', "message", "TEXT", commit_options, message, "What was done, for the image's history"),
	TEXT('a', "author", "TEXT", commit_options, author, "Who did it"),
	LIST('c', "change", "CHANGE", commit_options, changes,
	     "Change the configuration: CMD, ENTRYPOINT, ENV, USER, WORKDIR, EXPOSE, LABEL, VOLUME or STOPSIGNAL and a "
	     "value (may be given again)"),
	CHOICE(0, "compression", "gzip|zstd|none", commit_options, compression, "How to pack the layer",
	       .words = "gzip|zstd|none"),
	CHOICE('p', "pause", "true|false", commit_options, pause,
	       "Accepted for its like elsewhere: a running machine always stands still while its disk is read",
	       .words = "true|false"),
};

/* The other program, and the two pipes to it. */
struct committer {
	int pidfd, in_fd, out_fd; /* owned */
};

static void committer_done(struct committer *c)
{
	c->in_fd = safe_close(c->in_fd);
	c->out_fd = safe_close(c->out_fd);
	if (c->pidfd >= 0) {
		(void)pidfd_kill(c->pidfd, SIGTERM);
		(void)pidfd_wait_exit(c->pidfd, UINT64_MAX);
		(void)pidfd_reap(c->pidfd, NULL);
		c->pidfd = safe_close(c->pidfd);
	}
}

static int start_committer(const struct store *s, const struct machine_info *info, const char *image,
			   const struct commit_options *o, struct committer *ret, struct error *err)
{
	static const char *const compressions[] = { "gzip", "zstd", "none" };
	_cleanup_free_ char *program = libexec_path("skerry-image");
	_cleanup_free_ char *disk = xasprintf("%s/machines/%s/system.qcow2", s->home_path, info->spec.name);
	_cleanup_free_ char *what = xasprintf("machine '%s'", info->spec.name);
	_cleanup_close_ int in_read = -EBADF, out_write = -EBADF;
	_cleanup_strv_ struct strv argv = {};
	struct spawn sp = SPAWN_INIT;
	int p[2];

	if (!program)
		return error_set_kind(err, ERROR_UNAVAILABLE, ENOENT, "skerry-image: not installed beside skerry");
	strv_add(&argv, program);
	strv_add(&argv, "commit-disk");
	strv_addf(&argv, "--base=%s", info->spec.image_digest);
	if (info->spec.blank_digest)
		strv_addf(&argv, "--blank=%s", info->spec.blank_digest);
	strv_addf(&argv, "--disk=%s", disk);
	strv_addf(&argv, "--what=%s", what);
	strv_addf(&argv, "--compression=%s", compressions[o->compression]);
	if (image)
		strv_addf(&argv, "--name=%s", image);
	if (o->message)
		strv_addf(&argv, "--message=%s", o->message);
	if (o->author)
		strv_addf(&argv, "--author=%s", o->author);
	for (size_t i = 0; i < o->changes.n; i++)
		strv_addf(&argv, "--change=%s", o->changes.items[i]);
	if (pipe2(p, O_CLOEXEC) < 0)
		return error_set_errno(err, errno, "cannot open a pipe");
	in_read = p[0];
	ret->in_fd = p[1];
	if (pipe2(p, O_CLOEXEC) < 0)
		return error_set_errno(err, errno, "cannot open a pipe");
	ret->out_fd = p[0];
	out_write = p[1];
	sp.argv = (const char *const *)argv.items;
	sp.stdio[0] = in_read;
	sp.stdio[1] = out_write;
	sp.stdio[2] = STDERR_FILENO;
	sp.death_signal = SIGTERM;
	return spawn_start(&sp, NULL, &ret->pidfd, err);
}

/* One line of its output, without the newline; owned by the caller. NULL: it has ended. */
static char *read_line(struct committer *c)
{
	struct buf b = {};
	char ch;

	while (b.len < LINE_MAX_BYTES && read_full(c->out_fd, &ch, 1) >= 0) {
		if (ch == '\n')
			return buf_take(&b);
		buf_addc(&b, ch);
	}
	buf_done(&b);
	return NULL;
}

static bool expect(struct committer *c, const char *word)
{
	_cleanup_free_ char *line = read_line(c);

	return line && streq(line, word);
}

/* It has told why by itself; its status is ours. */
static int status_of(struct committer *c)
{
	int status = 0, r;

	c->in_fd = safe_close(c->in_fd);
	r = pidfd_wait_exit(c->pidfd, UINT64_MAX);
	if (r >= 0)
		r = pidfd_reap(c->pidfd, &status);
	c->pidfd = safe_close(c->pidfd);
	if (r < 0 || !WIFEXITED(status))
		return EXIT_FAILURE;
	return WEXITSTATUS(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
}

static int go_on(struct committer *c, struct error *err)
{
	int r = write_full(c->in_fd, "\n", 1);

	return r < 0 ? error_set_errno(err, r, "skerry-image has ended") : 0;
}

/* What keeps the machine from writing: its lock, when it does not run; else the monitor, by this connection. */
struct keeping {
	int lock_fd;
	struct client client;
	bool running;
};

static void keeping_done(struct keeping *k)
{
	client_done(&k->client);
	k->lock_fd = safe_close(k->lock_fd);
}

static int hold(struct keeping *k, struct error *err)
{
	Skerry__Monitor__V1__HoldRequest req = SKERRY__MONITOR__V1__HOLD_REQUEST__INIT;
	Skerry__Monitor__V1__HoldResponse *resp;
	_cleanup_buf_ struct buf out = {};
	int r;

	req.timeout_ns = HOLD_TIMEOUT_NS;
	r = client_call(&k->client, MONITOR_SERVICE, "Hold", &req.base, HOLD_TIMEOUT_NS + REPLY_TIMEOUT_NS, &out, err);
	if (r < 0)
		return r;
	resp = skerry__monitor__v1__hold_response__unpack(NULL, out.len, (const uint8_t *)out.p);
	if (!resp || !resp->frozen)
		output_notice("the guest does not answer: the disk is taken as it is");
	if (resp)
		skerry__monitor__v1__hold_response__free_unpacked(resp, NULL);
	return 0;
}

/* A guest that boots our kernel has the agent; its link may be young: the machine has just been started, or its monitor. */
static void wait_for_agent(const struct store *s, const struct machine_info *info, struct keeping *k)
{
	_cleanup_(image_meta_done) struct image_meta meta = {};

	if (image_meta_read(s, info->spec.image_digest, &meta, NULL) >= 0 && meta.boot == IMAGE_BOOT_KERNEL)
		(void)client_wait_agent(&k->client, AGENT_TIMEOUT_NS, NULL);
}

/* Once more when the monitor died over it: the next one, which connecting starts, knows from the record what was held. */
static int connect_and_hold(const struct store *s, const struct name *name, const struct machine_info *info,
			    struct keeping *k, struct error *err)
{
	_cleanup_error_ struct error e = {};
	int r;

	for (int i = 0;; i++) {
		r = client_connect(s, name, &k->client, &e);
		if (r < 0)
			return error_move(err, &e);
		wait_for_agent(s, info, k);
		r = hold(k, &e);
		if (r >= 0)
			return r;
		if (r != -ECONNRESET || i > 0)
			return error_move(err, &e);
		client_done(&k->client);
		error_done(&e);
		e = (struct error){};
	}
}

static int keep(const struct store *s, const struct name *name, struct keeping *k, struct error *err)
{
	struct machine_info info;
	int r = machine_info_load(s, name, &info, err);

	if (r < 0)
		return r;
	if (info.status == MACHINE_PAUSED && !info.state.held) {
		(void)error_set(err, EBUSY, "machine '%s' is paused: its guest cannot write out what it holds back",
				name->s);
		r = error_hint(err, "skerry resume %s", name->s);
	} else if (info.status == MACHINE_CREATED || info.status == MACHINE_STOPPED || info.status == MACHINE_FAILED) {
		k->lock_fd = store_machine_lock(s, name, 0, err);
		r = k->lock_fd;
	} else {
		k->running = true;
		r = connect_and_hold(s, name, &info, k, err);
	}
	machine_info_done(&info);
	return r < 0 ? r : 0;
}

static int let_go(struct keeping *k, struct error *err)
{
	if (k->running)
		return client_call(&k->client, MONITOR_SERVICE, "Unhold", NULL, REPLY_TIMEOUT_NS, NULL, err);
	k->lock_fd = safe_close(k->lock_fd);
	return 0;
}

/* The monitor may have died while it kept the machine still: whoever connects next has it replaced, and the machine goes on. */
static void let_it_go_on(const struct store *s, const struct name *name, struct keeping *k)
{
	_cleanup_client_ struct client again = {};

	client_done(&k->client);
	(void)client_connect(s, name, &again, NULL);
}

/* From the first line to the last. Returns 0 with *ret_digest, an exit status, or <0. */
static int converse(const struct store *s, const struct name *name, struct committer *c, char **ret_digest,
		    struct error *err)
{
	_cleanup_(keeping_done) struct keeping k = { .lock_fd = -EBADF };
	int r;

	if (!expect(c, "prepared"))
		return status_of(c);
	r = keep(s, name, &k, err);
	if (r >= 0) {
		r = fault_point("commit-held");
		if (r < 0)
			(void)error_set_errno(err, r, "fault");
	}
	if (r >= 0)
		r = go_on(c, err);
	if (r >= 0 && !expect(c, "read"))
		return status_of(c);
	if (r >= 0)
		r = let_go(&k, err);
	if (r < 0 && k.running)
		let_it_go_on(s, name, &k);
	if (r >= 0)
		r = go_on(c, err);
	if (r < 0)
		return r;
	*ret_digest = read_line(c);
	return *ret_digest ? 0 : status_of(c);
}

static int run_commit(const struct invocation *inv, struct error *err)
{
	const struct commit_options *o = inv->options;
	_cleanup_(committer_done) struct committer c = { -EBADF, -EBADF, -EBADF };
	_cleanup_store_ struct store s = {};
	_cleanup_free_ char *digest = NULL;
	struct machine_info info = {};
	struct name name;
	int r = name_parse(inv->operands[0], "machine name", &name, err);

	if (o->pause == 1) {
		(void)error_set_kind(err, ERROR_USAGE, EINVAL,
				     "--pause=false: a running machine has to stand still "
				     "while its disk is read");
		return error_hint(err, "it goes on before the image is made");
	}
	if (r >= 0)
		r = store_open(&s, err);
	if (r >= 0)
		r = machine_info_load(&s, &name, &info, err);
	if (r >= 0)
		r = start_committer(&s, &info, inv->n_operands > 1 ? inv->operands[1] : NULL, o, &c, err);
	machine_info_done(&info);
	if (r >= 0)
		r = converse(&s, &name, &c, &digest, err);
	return r ? r : output_line(err, "%s", digest);
}

const struct command commit_command = {
	.name = "commit",
	.operands = "MACHINE [NAME[:TAG]]",
	.min_operands = 1,
	.max_operands = 2,
	.complete = "machine",
	.summary = "Make an image of what a machine has become",
	.description = "What has changed on the machine's system disk becomes one layer on those of its image, so that "
		       "pushing the "
		       "new image sends that layer only. A running machine writes out what it holds back and stands "
		       "still while its "
		       "disk is read, not longer; whatever becomes of this command, it goes on. The home disk is not "
		       "in it, nor is "
		       "what skerry writes at each start: the host's name, /etc/hosts, resolv.conf, the machine's id, "
		       "ssh host keys "
		       "and authorized_keys are as in the image it was made from.",
	.examples = { { "skerry commit dev mytools:1", "An image that machines can be made from at once" },
		      { "skerry commit dev mytools:2 --message 'with git' --change 'CMD git --version'",
			"With a note in its history and another command" } },
	.options = commit_table,
	.n_options = ARRAY_SIZE(commit_table),
	.options_size = sizeof(struct commit_options),
	.run = run_commit,
};
