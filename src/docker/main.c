/* skerry-vm: the first process of a container that is a virtual machine; or, as `docker exec CONTAINER skerry-vm VERB`, what is asked of it. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "docker/account.h"
#include "docker/box.h"
#include "docker/bridge.h"
#include "docker/life.h"
#include "docker/privileges.h"
#include "docker/verbs.h"
#include "net/net.h"

enum { STATUS_CONFIG = 78, STATUS_USAGE = 64 };

static void print_error(const struct error *e)
{
	fprintf(stderr, "skerry-vm: %s\n", e->msg ? e->msg : "failed");
	if (e->hint)
		fprintf(stderr, "hint: %s\n", e->hint);
}

static int usage(FILE *f, int status)
{
	fprintf(f, "Usage: skerry-vm            run the container's machine (what the image does)\n"
		   "       skerry-vm VERB …     from inside: docker exec CONTAINER skerry-vm VERB\n\nVerbs:\n");
	for (const struct verb *v = verbs; v->name; v++)
		fprintf(f, "  %-12s %s\n", v->name, v->summary);
	fprintf(f, "\nSettings are environment variables; skerry-vm(8) tells them.\n");
	return status;
}

/* Until the machine runs there is nothing to be kept in order: what comes after is made good from the records. */
static void leave(int sig)
{
	_exit(128 + sig);
}

/* The first process of a container ignores signals that it has no handler for. */
static void leave_on_signals(void)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGQUIT };
	struct sigaction a = { .sa_handler = leave };

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		(void)sigaction(signals[i], &a, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
}

/* What the settings ask of where the container is. */
static void check_place(const struct settings *settings, struct strv *problems)
{
	privileges_check(problems);
	if (settings->network == NETWORK_BRIDGE)
		bridge_check(problems);
	else if (!settings->ports.n && net_is_hosts())
		strv_add(problems, "NETWORK: every port of the host would be the guest's: list PORTS, or leave "
				   "`--network host` out");
}

static int run_machine(struct error *err)
{
	_cleanup_strv_ struct strv problems = {};
	_cleanup_settings_ struct settings settings = {};
	_cleanup_store_ struct store s = {};
	struct settings_host host;
	int r;

	settings_host_read(&host);
	settings_read(environ, &host, &settings, &problems);
	/* Of what is started from here, some face the guest, and some whoever connects. */
	settings_forget(environ);
	check_place(&settings, &problems);
	for (size_t i = 0; i < problems.n; i++)
		fprintf(stderr, "skerry-vm: %s\n", problems.items[i]);
	if (problems.n)
		return STATUS_CONFIG;
	log_setup(STDERR_FILENO, settings.debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO, false);
	r = account_provide("/etc/passwd", geteuid(), getegid());
	if (r < 0)
		log_warning("user %u cannot be added to /etc/passwd, and programs may want them there: %s",
			    (unsigned)geteuid(), strerror(-r));
	r = store_open(&s, err);
	if (r >= 0)
		r = box_prepare(&s, &settings, err);
	return r < 0 ? r : life_run(&s, &settings, err);
}

static int run_verb(int argc, char **argv, struct error *err)
{
	_cleanup_store_ struct store s = {};
	const struct verb *v = verbs;
	int r;

	while (v->name && !streq(v->name, argv[0]))
		v++;
	if (!v->name) {
		error_set_kind(err, ERROR_USAGE, EINVAL, "'%.40s': no such verb", argv[0]);
		return error_hint(err, "skerry-vm --help");
	}
	r = store_open(&s, err);
	return r < 0 ? r : v->run(&s, argc, argv, err);
}

int main(int argc, char **argv)
{
	_cleanup_error_ struct error e = {};
	int r, status;

	/* Modes are said where files are made; the engine's own user opens some of them. */
	umask(022);
	if (argc > 1 && (streq(argv[1], "--help") || streq(argv[1], "-h") || streq(argv[1], "help")))
		return usage(stdout, 0);
	if (argc > 1 && argv[1][0] == '-')
		return usage(stderr, STATUS_USAGE);
	if (argc > 1 && streq(argv[1], "run"))
		argc = 1;
	if (argc > 1) {
		r = run_verb(argc - 1, argv + 1, &e);
	} else {
		leave_on_signals();
		r = run_machine(&e);
	}
	if (r >= 0 && fflush(stdout) < 0)
		r = error_set_errno(&e, errno, "cannot write to standard output");
	if (r >= 0)
		return r;
	print_error(&e);
	status = error_exit_status(&e);
	return status ? status : EXIT_FAILURE;
}
