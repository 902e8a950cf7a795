/* login, logout, image pull, image push: speaking with registries is skerry-image's; the command line is read here. */
#include <errno.h>
#include <inttypes.h>
#include <termios.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/provide.h"

struct registry_options {
	struct strv plain_http;
	const char *tls_ca, *user, *platform;
	bool password_stdin, quiet, foreign_layers;
	int format;
	uint64_t disk_bytes;
};

#define PLAIN_HTTP_OPTION \
	LIST(0, "plain-http", "HOST[:PORT]", registry_options, plain_http, "Speak with this registry without TLS")
#define TLS_CA_OPTION                                                                                               \
	TEXT(0, "tls-ca", "FILE", registry_options, tls_ca, "Trust the certificate authorities in this file (PEM)", \
	     .complete = "file")

static void add(struct strv *args, const char *option, const char *value)
{
	if (value) {
		strv_add(args, option);
		strv_add(args, value);
	}
}

static int run_verb(const char *verb, const struct invocation *inv, int in_fd, struct error *err)
{
	const struct registry_options *o = inv->options;
	static const char *const formats[] = { NULL, "ext4", "erofs" };
	_cleanup_strv_ struct strv args = {};
	struct termios was;
	bool terminal = tcgetattr(STDIN_FILENO, &was) == 0;
	int r;

	strv_add(&args, verb);
	for (size_t i = 0; i < o->plain_http.n; i++)
		add(&args, "--plain-http", o->plain_http.items[i]);
	add(&args, "--tls-ca", o->tls_ca);
	add(&args, "--user", o->user);
	add(&args, "--platform", o->platform);
	add(&args, "--format", formats[o->format]);
	if (o->password_stdin)
		strv_add(&args, "--password-stdin");
	if (o->foreign_layers)
		strv_add(&args, "--foreign-layers");
	if (o->quiet)
		strv_add(&args, "--quiet");
	if (o->disk_bytes) {
		strv_add(&args, "--disk");
		strv_addf(&args, "%" PRIu64, o->disk_bytes);
	}
	strv_add(&args, "--");
	for (size_t i = 0; i < inv->n_operands; i++)
		strv_add(&args, inv->operands[i]);
	r = provide_run_from((const char *const *)args.items, in_fd, STDOUT_FILENO, err);
	/* Who is ended at the question for a password cannot give the terminal its echo back. */
	if (terminal && in_fd == STDIN_FILENO && r != 0)
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &was);
	return r;
}

/* ---- login, logout ---- */

static const struct option login_table[] = {
	TEXT('u', "user", "NAME", registry_options, user, "Who you are there (asked for unless given)"),
	FLAG(0, "password-stdin", registry_options, password_stdin, "Read the password, or token, from standard input"),
	PLAIN_HTTP_OPTION,
	TLS_CA_OPTION,
};

static int run_login(const struct invocation *inv, struct error *err)
{
	return run_verb("login", inv, STDIN_FILENO, err);
}

const struct command login_command = {
	.name = "login",
	.operands = "[HOST]",
	.max_operands = 1,
	.summary = "Log in to a registry",
	.description =
		"The registry, docker.io unless another is named, is asked whether it accepts the password before it "
		"is "
		"kept, in auth.json beside the configuration, readable by you alone. Logins of docker and podman are "
		"used as well, with the programs that keep passwords for them.",
	.examples = { { "skerry login", "docker.io; user and password are asked for" },
		      { "skerry login --user ci --password-stdin registry.example <token", "Without a terminal" } },
	.options = login_table,
	.n_options = ARRAY_SIZE(login_table),
	.options_size = sizeof(struct registry_options),
	.run = run_login,
};

static int run_logout(const struct invocation *inv, struct error *err)
{
	return run_verb("logout", inv, -1, err);
}

const struct command logout_command = {
	.name = "logout",
	.operands = "[HOST]",
	.max_operands = 1,
	.summary = "Forget the login to a registry",
	.description = "What docker or podman keep stays; it is named when there is something.",
	.examples = { { "skerry logout registry.example", "Its password is not kept any longer" } },
	.options_size = sizeof(struct registry_options),
	.run = run_logout,
};

/* ---- image pull ---- */

static const struct option pull_table[] = {
	TEXT(0, "platform", "OS/ARCH", registry_options, platform, "Another platform than this machine's"),
	BYTES(0, "disk", "SIZE", registry_options, disk_bytes, "Size of its disk (chosen by its content unless given)"),
	CHOICE(0, "format", "FORMAT", registry_options, format,
	       "File system of its disk: ext4, or a read-only erofs (as before, else ext4, unless given)",
	       .words = "auto|ext4|erofs"),
	FLAG(0, "foreign-layers", registry_options, foreign_layers,
	     "Fetch layers that the image says are kept elsewhere"),
	PLAIN_HTTP_OPTION,
	TLS_CA_OPTION,
	FLAG('q', "quiet", registry_options, quiet, "Print the digest only"),
};

static int run_pull(const struct invocation *inv, struct error *err)
{
	return run_verb("pull-image", inv, -1, err);
}

const struct command image_pull_command = {
	.name = "pull",
	.operands = "REFERENCE",
	.min_operands = 1,
	.max_operands = 1,
	.summary = "Pull an image from a registry",
	.description =
		"REFERENCE is [HOST[:PORT]/]PATH[:TAG][@DIGEST]; docker.io is the registry and latest the tag unless "
		"others "
		"are given. What is here already is not fetched again, and what breaks off goes on at the next try. "
		"Proxies come from https_proxy, http_proxy and no_proxy. A registry's own authority is trusted when "
		"its certificate is certs.d/HOST:PORT/ca.crt below the configuration, /etc/docker or /etc/containers.",
	.examples = { { "skerry image pull debian:12", "From docker.io" },
		      { "skerry image pull --plain-http localhost:5000 localhost:5000/app",
			"From a registry without TLS" } },
	.options = pull_table,
	.n_options = ARRAY_SIZE(pull_table),
	.options_size = sizeof(struct registry_options),
	.run = run_pull,
};

/* ---- image push ---- */

static const struct option push_table[] = {
	PLAIN_HTTP_OPTION,
	TLS_CA_OPTION,
	FLAG('q', "quiet", registry_options, quiet, "Print the digest only"),
};

static int run_push(const struct invocation *inv, struct error *err)
{
	return run_verb("push-image", inv, -1, err);
}

const struct command image_push_command = {
	.name = "push",
	.operands = "IMAGE [REFERENCE]",
	.min_operands = 1,
	.max_operands = 2,
	.complete = "image",
	.summary = "Push an image to a registry",
	.description = "Layers that the registry has are not sent; those that another repository there has are taken "
		       "over from it.",
	.examples = { { "skerry image push app registry.example/me/app:1", "Under another name than here" } },
	.options = push_table,
	.n_options = ARRAY_SIZE(push_table),
	.options_size = sizeof(struct registry_options),
	.run = run_push,
};
