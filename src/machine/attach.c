/* Processes of the guest with this process's terminal or standard streams. */
#include "machine/attach.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "base/clock.h"
#include "machine/session.h"
#include "machine/terminal.h"

#define EXEC_TIMEOUT_NS (60 * NS_PER_SEC)
enum { STATUS_FAILED = 125 };

static int run_with_streams(struct client *c, const char *id, bool terminal, bool interactive, int *ret_status,
			    struct error *err)
{
	_cleanup_raw_terminal_ struct raw_terminal raw = RAW_TERMINAL_INIT;
	struct session s = {
		.id = id,
		.in_fd = interactive ? STDIN_FILENO : -1,
		.out_fd = STDOUT_FILENO,
		/* A terminal has one stream. */
		.err_fd = terminal ? -1 : STDERR_FILENO,
		.wait = true,
		.terminal = terminal,
		.signals = !terminal,
	};
	int r = 0;

	if (terminal && interactive)
		r = raw_terminal_enter(&raw, STDIN_FILENO, err);
	return r < 0 ? r : session_run(c, &s, ret_status, err);
}

static void set_window(Skerry__Agent__V1__ExecRequest *m)
{
	static const int fds[] = { STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO };
	struct winsize w;

	m->rows = 24;
	m->cols = 80;
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (ioctl(fds[i], TIOCGWINSZ, &w) == 0 && w.ws_row && w.ws_col) {
			m->rows = w.ws_row;
			m->cols = w.ws_col;
			return;
		}
}

static bool env_has(const struct strv *env, const char *prefix)
{
	for (size_t i = 0; env && i < env->n; i++)
		if (after_prefix(env->items[i], prefix))
			return true;
	return false;
}

int exec_run(struct client *c, const struct exec_options *o, int *ret_status, struct error *err)
{
	Skerry__Agent__V1__ExecRequest m = SKERRY__AGENT__V1__EXEC_REQUEST__INIT;
	_cleanup_free_ char *id = session_new_id("exec");
	_cleanup_strv_ struct strv env = {};
	const char *term = getenv("TERM");
	int r;

	if (o->env)
		strv_copy(&env, o->env);
	if (o->terminal && !env_has(&env, "TERM="))
		strv_addf(&env, "TERM=%s", term && *term ? term : "linux");
	m.id = id;
	m.n_args = o->args->n;
	m.args = o->args->items;
	m.n_env = env.n;
	m.env = env.items;
	m.cwd = o->cwd ? (char *)(uintptr_t)o->cwd : m.cwd;
	m.user = o->user ? (char *)(uintptr_t)o->user : m.user;
	m.terminal = o->terminal;
	m.open_stdin = o->interactive;
	if (o->terminal)
		set_window(&m);
	/* A command that is not there, or cannot be executed, is no refusal: it ends with 127 or 126. */
	*ret_status = STATUS_FAILED;
	r = client_call(c, AGENT_SERVICE, "Exec", &m.base, EXEC_TIMEOUT_NS, NULL, err);
	if (r < 0)
		return r;
	r = run_with_streams(c, id, o->terminal, o->interactive, ret_status, err);
	session_release(c, id);
	return r;
}

int attach_run(struct client *c, const char *id, bool terminal, bool interactive, int *ret_status, struct error *err)
{
	return run_with_streams(c, id, terminal, interactive, ret_status, err);
}

int dial_run(struct client *c, uint16_t port, struct error *err)
{
	Skerry__Agent__V1__DialRequest m = SKERRY__AGENT__V1__DIAL_REQUEST__INIT;
	_cleanup_free_ char *id = session_new_id("dial");
	struct session s = {
		.id = id, .in_fd = STDIN_FILENO, .out_fd = STDOUT_FILENO, .err_fd = -1, .end_on_broken = true
	};
	int r;

	m.id = id;
	m.port = port;
	r = client_call(c, AGENT_SERVICE, "Dial", &m.base, 30 * NS_PER_SEC, NULL, err);
	if (r < 0)
		return error_prefix(err, "port %u of machine '%s'", port, c->name);
	r = session_run(c, &s, NULL, err);
	session_release(c, id);
	return r;
}
