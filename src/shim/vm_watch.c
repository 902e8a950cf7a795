#include "shim/vm_parts.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/process.h"
#include "shim/console_tail.h"

/* An engine that ends closes the agent's connection first; when its machine is large, that takes a while. */
#define LOST_NS NS_PER_SEC

static void ended(struct vm *vm, const char *reason)
{
	if (vm->ended)
		return;
	vm->ended = true;
	vm->ready = false;
	vm->overdue = loop_source_free(vm->overdue);
	vm->agent = agent_link_free(vm->agent);
	vm->events->ended(reason, vm->data);
}

void vm_kill(struct vm *vm)
{
	vm->killed = true;
	if (vm->engine_pidfd >= 0)
		(void)pidfd_kill(vm->engine_pidfd, SIGKILL);
}

void vm_end(struct vm *vm, const char *reason)
{
	vm->overdue = loop_source_free(vm->overdue);
	if (vm->ended || vm->killed || vm->end_reason || vm->engine_pidfd < 0)
		return;
	vm->end_reason = xstrdup(reason);
	(void)pidfd_kill(vm->engine_pidfd, SIGKILL);
}

static int on_engine_exit(struct loop_source *s, int pidfd, void *data)
{
	struct vm *vm = data;
	_cleanup_free_ char *tail = NULL, *panic = NULL;
	char how[64], reason[200];
	int status = 0;

	(void)s;
	(void)pidfd_reap(pidfd, &status);
	vm->engine_source = loop_source_free(vm->engine_source);
	vm->engine_pidfd = safe_close(vm->engine_pidfd);
	/* With its end what the engine said last is read out of its socket. */
	vm->console = console_free(vm->console);
	tail = vm->killed ? NULL : console_tail_read(vm->dir_fd);
	panic = tail ? console_tail_panic(tail) : NULL;
	if (tail)
		console_tail_log(tail, vm->name);
	if (panic || vm->panicked)
		(void)snprintf(reason, sizeof(reason), "the guest's kernel panicked%s%s", panic ? ": " : "",
			       panic ? panic : "");
	else if (vm->end_reason && WIFSIGNALED(status))
		(void)snprintf(reason, sizeof(reason), "%s", vm->end_reason);
	else if (vm->share_lost && WIFSIGNALED(status))
		(void)snprintf(reason, sizeof(reason),
			       "the virtual machine was ended: the server of its files has gone");
	else
		(void)snprintf(reason, sizeof(reason), "the virtual machine ended: %s %s", vm->engine->name,
			       wait_status_text(status, how, sizeof(how)));
	ended(vm, reason);
	return 0;
}

int vm_watch_engine(struct vm *vm, struct error *err)
{
	int r = loop_add_child(vm->loop, &vm->engine_source, vm->engine_pidfd, on_engine_exit, vm);

	return r < 0 ? error_set_errno(err, r, "%s: cannot watch its engine", vm->name) : 0;
}

static int on_share_exit(struct loop_source *s, int pidfd, void *data)
{
	struct vm *vm = data;

	(void)s;
	(void)pidfd_reap(pidfd, NULL);
	vm->share_source = loop_source_free(vm->share_source);
	vm->share_pidfd = safe_close(vm->share_pidfd);
	/* Without its files the guest can only hang. Or it was the engine's end that ended this one: then that tells the reason. */
	vm->share_lost = true;
	if (!vm->ended && !vm->killed && vm->engine_pidfd >= 0)
		(void)pidfd_kill(vm->engine_pidfd, SIGKILL);
	return 0;
}

int vm_watch_share(struct vm *vm, struct error *err)
{
	int r = loop_add_child(vm->loop, &vm->share_source, vm->share_pidfd, on_share_exit, vm);

	return r < 0 ? error_set_errno(err, r, "%s: cannot watch virtiofsd", vm->name) : 0;
}

static int on_helper_exit(struct loop_source *s, int pidfd, void *data)
{
	struct vm *vm = data;

	(void)s;
	(void)pidfd_reap(pidfd, NULL);
	vm->helper_source = loop_source_free(vm->helper_source);
	vm->helper_pidfd = safe_close(vm->helper_pidfd);
	if (!vm->ended && !vm->killed)
		log_error("%s: the network's helper has ended: the guest is off the network", vm->name);
	return 0;
}

void vm_watch_helper(struct vm *vm)
{
	if (vm->helper_pidfd >= 0)
		(void)loop_add_child(vm->loop, &vm->helper_source, vm->helper_pidfd, on_helper_exit, vm);
}

static void on_engine_event(enum engine_event ev, const char *detail, void *data)
{
	struct vm *vm = data;

	(void)detail;
	if (ev == ENGINE_EVENT_PANIC)
		vm->panicked = true;
}

static void on_engine_ready(const struct error *err, uint64_t value, void *data)
{
	struct vm *vm = data;

	(void)value;
	if (err)
		log_error("%s: engine: %s", vm->name, err->msg);
	else if (vm->size.start_memory_bytes < vm->size.max_memory_bytes)
		vm_set_memory(vm, vm->size.start_memory_bytes);
}

int vm_watch_control(struct vm *vm, int fd, struct error *err)
{
	return vm->engine->connect(vm->loop, fd, on_engine_event, on_engine_ready, vm, &vm->control, err);
}

static void on_clock_changed(void *data)
{
	struct vm *vm = data;

	guest_clock_tell(vm_agent(vm));
}

static void on_agent_ready(const char *version, const char *error, void *data)
{
	struct vm *vm = data;

	(void)version;
	vm->overdue = loop_source_free(vm->overdue);
	vm->ready = true;
	if (!vm->clock && guest_clock_new(vm->loop, on_clock_changed, vm, &vm->clock) < 0)
		log_warning("%s: the guest's clock will not follow the host's, ignoring", vm->name);
	vm->events->ready(error, vm->data);
}

static void on_agent_ending(enum agent_ending how, void *data)
{
	(void)how;
	(void)data;
}

static int on_lost_overdue(struct loop_source *s, void *data)
{
	(void)s;
	vm_end(data, "the virtual machine was ended: its agent broke the protocol or hung up");
	return 0;
}

static int on_boot_overdue(struct loop_source *s, void *data)
{
	struct vm *vm = data;
	_cleanup_free_ char *reason =
		xasprintf("the virtual machine was ended: its agent did not answer within %" PRIu64 " s of its start",
			  vm->boot_ns / NS_PER_SEC);

	(void)s;
	vm_end(vm, reason);
	return 0;
}

static void on_agent_lost(void *data)
{
	struct vm *vm = data;

	vm->ready = false;
	/* Nothing can be asked of it any more, nor will it say when anything ends. */
	vm->overdue = loop_source_free(vm->overdue);
	if (!vm->ended &&
	    loop_add_timer(vm->loop, &vm->overdue, clock_monotonic_ns() + LOST_NS, on_lost_overdue, vm) < 0)
		(void)on_lost_overdue(NULL, vm);
}

static const struct agent_link_events agent_events = {
	.ready = on_agent_ready,
	.ending = on_agent_ending,
	.lost = on_agent_lost,
};

int vm_watch_agent(struct vm *vm, int fd, struct error *err)
{
	int r = agent_link_new(vm->loop, fd, vm->token, &agent_events, vm, &vm->agent);

	if (r >= 0)
		r = loop_add_timer(vm->loop, &vm->overdue, clock_monotonic_ns() + vm->boot_ns, on_boot_overdue, vm);
	return r < 0 ? error_set_errno(err, r, "%s: cannot reach the agent's socket", vm->name) : 0;
}
