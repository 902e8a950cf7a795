/* The clean end of PID 1: SIGTERM to everybody, up to five seconds for the last of them to go (each exit is an event), SIGKILL, then
 * power.c unmounts and ends the machine. As PID 1 every process that lost its parent is a child of ours: "no child left" means nobody is. */
#include "guest/serve.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "guest/power.h"

enum { SYSTEMD_SIGRTMIN = 34 };
static const uint64_t term_grace_ns = 5 * NS_PER_SEC;
static const uint64_t kill_grace_ns = NS_PER_SEC;

struct serve {
	struct loop *loop;
	struct agent *agent;
	struct loop_source *timer;
	bool reboot_to_power_off;
	bool ending;
	bool killed;
	bool reboot;
};

static void say_goodbye(void *data)
{
	struct serve *s = data;

	if (s->agent)
		agent_say_goodbye(s->agent, s->reboot);
}

static void end(struct serve *s)
{
	power_off_now(s->reboot, s->reboot_to_power_off, say_goodbye, s);
	log_error("the machine does not power off; stopping here");
	for (;;)
		pause();
}

static void reap(struct serve *s)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (s->agent)
			agent_reaped(s->agent, pid, status);
	if (s->ending && pid < 0 && errno == ECHILD)
		end(s);
}

static int on_child(struct loop_source *src, const struct signalfd_siginfo *si, void *data)
{
	(void)src;
	(void)si;
	reap(data);
	return 0;
}

static int on_timer(struct loop_source *src, void *data)
{
	struct serve *s = data;

	(void)src;
	if (s->killed)
		end(s);
	s->killed = true;
	(void)kill(-1, SIGKILL);
	(void)loop_set_deadline(s->timer, clock_monotonic_ns() + kill_grace_ns);
	reap(s);
	return 0;
}

static void begin_end(bool reboot, void *data)
{
	struct serve *s = data;

	if (s->ending)
		return;
	s->ending = true;
	s->reboot = reboot;
	(void)kill(-1, SIGTERM);
	(void)kill(-1, SIGCONT);
	(void)loop_set_deadline(s->timer, clock_monotonic_ns() + term_grace_ns);
	reap(s);
}

static int on_power_off(struct loop_source *src, const struct signalfd_siginfo *si, void *data)
{
	(void)src;
	(void)si;
	begin_end(false, data);
	return 0;
}

/* Beside an init that is not systemd: it ends everything, us after the others. */
static int on_terminate(struct loop_source *src, const struct signalfd_siginfo *si, void *data)
{
	struct serve *s = data;

	(void)src;
	(void)si;
	agent_say_goodbye(s->agent, false);
	return 0;
}

static int on_reboot(struct loop_source *src, const struct signalfd_siginfo *si, void *data)
{
	(void)src;
	(void)si;
	begin_end(true, data);
	return 0;
}

/* What busybox's halt, poweroff and reboot send to PID 1, what Ctrl-Alt-Del does, and systemd's words for it. */
static int heed_signals(struct serve *s)
{
	static const int power_off[] = { SIGUSR1, SIGUSR2, SIGPWR, SYSTEMD_SIGRTMIN + 4 };
	static const int reboot[] = { SIGTERM, SIGINT, SYSTEMD_SIGRTMIN + 5 };
	struct loop_source *src;
	int r = 0;

	for (size_t i = 0; i < sizeof(power_off) / sizeof(power_off[0]) && r == 0; i++)
		r = loop_add_signal(s->loop, &src, power_off[i], on_power_off, s);
	for (size_t i = 0; i < sizeof(reboot) / sizeof(reboot[0]) && r == 0; i++)
		r = loop_add_signal(s->loop, &src, reboot[i], on_reboot, s);
	return r;
}

int serve(const struct serve_options *o)
{
	struct serve s = { .reboot_to_power_off = o->agent.reboot_to_power_off };
	struct agent_options agent = o->agent;
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	struct loop_source *children, *terminate;
	int r;

	(void)sigaction(SIGPIPE, &ignore, NULL);
	r = loop_new(&s.loop);
	if (r == 0)
		r = loop_add_signal(s.loop, &children, SIGCHLD, on_child, &s);
	if (r == 0)
		r = loop_add_timer(s.loop, &s.timer, UINT64_MAX, on_timer, &s);
	if (r == 0 && o->is_init) {
		r = heed_signals(&s);
		agent.shut_down = begin_end;
		agent.data = &s;
	}
	if (r == 0 && !o->is_init && o->agent.target.fd < 0)
		r = loop_add_signal(s.loop, &terminate, SIGTERM, on_terminate, &s);
	if (r == 0) {
		r = agent_new(s.loop, &agent, &s.agent);
		/* PID 1 goes on without the host: what runs must not die of that. */
		if (r < 0 && o->is_init) {
			log_error("the agent cannot start: %s", strerror(-r));
			r = 0;
		}
	}
	if (r == 0)
		r = loop_run(s.loop);
	if (o->is_init) {
		log_error("the event loop failed: %s", strerror(-r));
		(void)kill(-1, SIGKILL);
		end(&s);
	}
	agent_free(s.agent);
	return r; /* the loop's memory goes with the process */
}
