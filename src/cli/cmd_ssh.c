/* ssh: the system's ssh with a configuration of our own; and what it connects through. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/parse.h"
#include "base/spawn.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/target.h"
#include "image/image.h"
#include "machine/attach.h"

#define AGENT_TIMEOUT_NS (120 * NS_PER_SEC)

struct ssh_options {
	const char *user;
	uint64_t timeout_ns;
};

static const struct option ssh_table[] = {
	TEXT('u', "user", "USER", ssh_options, user, "Who logs in (the machine's user unless given)"),
	DURATION(0, "timeout", "TIME", ssh_options, timeout_ns,
		 "How long the ssh server may take until it answers (120s; 0 = no limit)"),
};

/* A word for the shell that ssh runs ProxyCommand with; ssh itself looks for %. */
static void add_quoted(struct buf *b, const char *word)
{
	buf_addc(b, '\'');
	for (; *word; word++) {
		if (*word == '\'')
			buf_adds(b, "'\\''");
		else if (*word == '%')
			buf_adds(b, "%%");
		else
			buf_addc(b, *word);
	}
	buf_addc(b, '\'');
}

static bool unfit_for_config(const char *s)
{
	return strpbrk(s, "\"\n\r\\") != NULL;
}

static char *own_program(void)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path));

	return n > 0 && (size_t)n < sizeof(path) ? xstrndup(path, (size_t)n) : NULL;
}

/* run/NAME/ssh_config. @direct NULL = through the agent. *ret_path is owned by the caller. */
static int write_config(const struct store *s, const struct name *name, const char *user,
			const struct ssh_address *direct, char **ret_path, struct error *err)
{
	_cleanup_free_ char *key = NULL, *public = NULL, *known = machine_known_hosts_path(s, name),
			    *self = own_program();
	_cleanup_close_ int dir = -EBADF;
	_cleanup_buf_ struct buf b = {};
	int r = machine_ssh_key(s, &key, &public, err);

	if (r < 0)
		return r;
	if (!self || unfit_for_config(key) || unfit_for_config(known) || unfit_for_config(self) ||
	    unfit_for_config(user))
		return error_set(err, EINVAL,
				 "ssh cannot be told a path or user with quotes, backslashes or line ends in it");
	buf_addf(&b, "Host *\n\tHostName %s\n\tHostKeyAlias %s\n\tUser \"%s\"\n", direct ? direct->ip : name->s,
		 name->s, user);
	if (direct) {
		buf_addf(&b, "\tPort %u\n\tProxyCommand none\n", direct->port);
	} else {
		buf_adds(&b, "\tProxyCommand ");
		add_quoted(&b, self);
		buf_addf(&b, " proxy %s 22\n", name->s);
	}
	buf_addf(&b, "\tUserKnownHostsFile \"%s\"\n\tIdentityFile \"%s\"\n", known, key);
	buf_adds(
		&b,
		"\tGlobalKnownHostsFile /dev/null\n\tStrictHostKeyChecking yes\n\tUpdateHostKeys no\n\tCheckHostIP no\n"
		"\tIdentitiesOnly yes\n\tForwardAgent no\n\tBatchMode no\n\tControlMaster no\n\tControlPath none\n");
	dir = store_machine_run_dir(s, name, err);
	if (dir < 0)
		return dir;
	r = file_write_at(dir, "ssh_config", b.p, b.len, 0600, 0);
	if (r < 0)
		return error_set_errno(err, r, "machine '%s': cannot write ssh's configuration", name->s);
	*ret_path = xasprintf("%s/%s/ssh_config", s->run_path, name->s);
	return 0;
}

static int check_server(const struct store *s, const struct machine_info *info, struct error *err)
{
	struct image_meta image = {};
	bool ssh = true;

	/* An image that is not there any more cannot be asked: then the guest is. */
	if (image_find(s, info->spec.image_digest, &image, NULL) >= 0)
		ssh = image.ssh;
	image_meta_done(&image);
	if (ssh)
		return 0;
	error_set(err, ENOTSUP, "machine '%s': its image '%s' has no ssh server", info->spec.name, info->spec.image);
	return error_hint(err, "skerry exec -it %s sh", info->spec.name);
}

static int run_ssh(const struct invocation *inv, struct error *err)
{
	const struct ssh_options *o = inv->options;
	_cleanup_store_ struct store s = {};
	_cleanup_info_ struct machine_info info = {};
	_cleanup_free_ char *program = program_find("ssh"), *config = NULL, *user = NULL;
	_cleanup_strv_ struct strv argv = {};
	uint64_t deadline = target_deadline(o->timeout_ns);
	struct name name;
	struct ssh_address address;
	bool direct = false;
	int r;

	if (!program) {
		error_set_kind(err, ERROR_UNAVAILABLE, ENOENT, "ssh: not installed");
		return error_hint(err, "apt-get install openssh-client");
	}
	r = store_open(&s, err);
	if (r >= 0) {
		_cleanup_client_ struct client c = {};

		r = target_connect(&s, inv->operands[0], &name, &c, err);
		if (r >= 0)
			r = machine_info_load(&s, &name, &info, err);
		if (r >= 0)
			r = check_server(&s, &info, err);
		if (r >= 0)
			r = target_wait_ssh(&s, &name, &c, deadline, err);
	}
	if (r < 0)
		return r;
	if (!info.state.agent_ready && target_lacks_agent(&s, &info.spec))
		direct = target_ssh_address(&info, &address);
	user = target_user(&s, &info.spec);
	r = write_config(&s, &name, user ? user : "root", direct ? &address : NULL, &config, err);
	if (r < 0)
		return r;
	strv_add(&argv, program);
	strv_add(&argv, "-F");
	strv_add(&argv, config);
	/* All calls share the file, and other programs read it: who is wanted this time is told beside it. */
	if (o->user) {
		strv_add(&argv, "-l");
		strv_add(&argv, o->user);
	}
	strv_add(&argv, name.s);
	for (size_t i = 1; i < inv->n_operands; i++)
		strv_add(&argv, inv->operands[i]);
	/* In place of this process: terminal, signals and exit status are ssh's own affair. */
	execv(program, argv.items);
	return error_set_errno(err, errno, "cannot execute '%s'", program);
}

const struct command ssh_command = {
	.name = "ssh",
	.operands = "NAME [ARG...]",
	.min_operands = 1,
	.max_operands = OPERANDS_ANY,
	.complete = "machine",
	.summary = "Log in to a running machine, or run a command over ssh",
	.description = "The system's ssh with a configuration made for this: your ~/.ssh/config is not read, the host "
		       "key is known and checked, your agent is not "
		       "forwarded. What follows NAME is ssh's: its options, or -- and a command.",
	.examples = { { "skerry ssh web", "A login" },
		      { "skerry ssh web -- sudo apt-get update", "A command" },
		      { "skerry ssh web -L 8080:localhost:80 -N", "A tunnel: ssh's own options after the name" } },
	.options = ssh_table,
	.n_options = ARRAY_SIZE(ssh_table),
	.options_size = sizeof(struct ssh_options),
	.defaults = &(const struct ssh_options){ .timeout_ns = AGENT_TIMEOUT_NS },
	.options_end_after = 1,
	.own_status = true,
	.run = run_ssh,
};

static int run_proxy(const struct invocation *inv, struct error *err)
{
	_cleanup_store_ struct store s = {};
	_cleanup_client_ struct client c = {};
	struct name name;
	uint64_t port;
	int r;

	if (parse_u64(inv->operands[1], 1, UINT16_MAX, &port) < 0)
		return error_set_kind(err, ERROR_USAGE, EINVAL, "proxy: '%s' is no port", inv->operands[1]);
	r = store_open(&s, err);
	if (r >= 0)
		r = target_connect(&s, inv->operands[0], &name, &c, err);
	return r < 0 ? r : dial_run(&c, (uint16_t)port, err);
}

const struct command proxy_command = {
	.name = "proxy",
	.operands = "NAME PORT",
	.min_operands = 2,
	.max_operands = 2,
	.complete = "machine",
	.summary = "Join standard input and output to a port of the guest",
	.examples = { { "ssh -o ProxyCommand='skerry proxy web 22' dev@web", "As ssh uses it" } },
	.hidden = true,
	.run = run_proxy,
};
