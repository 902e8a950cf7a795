#include <fcntl.h>
#include <malloc.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/process.h"
#include "machine/client.h"
#include "shim/ending.h"
#include "shim/loopback.h"
#include "shim/registry.h"
#include "shim/sandbox.h"
#include "shim/shim.h"
#include "store/paths.h"
#include "wire/message.h"

#define EXIT_GRACE_NS  (5 * NS_PER_SEC)
#define EXIT_TICK_NS   (10 * NS_PER_MS)
#define EVENT_PAUSE_NS NS_PER_SEC
#define RELEASE_NS     (10 * NS_PER_SEC)

static const struct shim_limits limits = {
	.boot_ns = 300 * NS_PER_SEC,
	.answer_ns = 300 * NS_PER_SEC,
	.signal_ns = 10 * NS_PER_SEC,
	.kill_ns = 15 * NS_PER_SEC,
	.kill_shared_ns = 60 * NS_PER_SEC,
	.silent_ns = 30 * NS_PER_SEC,
	.ending_ns = 5 * NS_PER_SEC,
	.write_back_ns = 20 * NS_PER_SEC,
};

struct container *shim_find(struct shim *s, const char *id)
{
	for (struct container *k = s->containers; k; k = k->next)
		if (streq(k->id, id))
			return k;
	return NULL;
}

/* Its last events reach containerd, which may need them to clean up; then it goes. */
static int on_exit_tick(struct loop_source *src, void *data)
{
	struct shim *s = data;
	uint64_t now = clock_monotonic_ns();

	if (now < s->exit_deadline_ns && (events_pending(s->events) || server_backlog(s->server)))
		return loop_set_deadline(src, now + EXIT_TICK_NS);
	loop_exit(s->loop, 0);
	return 0;
}

/* From now on a "start" for its name finds nobody and makes a new shim: it must not get the address of one that is on its way out, nor may that
 * one take away the new one's when it goes. */
static void leave_address(struct shim *s)
{
	struct shim_record *r = &s->record;

	if (r->socket)
		(void)unlink(r->socket);
	if (r->link)
		(void)unlink(r->link);
	free(r->socket);
	free(r->link);
	r->socket = r->link = NULL;
	(void)shim_record_write(s->bundle_fd, r, NULL);
}

void shim_shut_down(struct shim *s)
{
	uint64_t now = clock_monotonic_ns();

	if (s->shutting_down)
		return;
	s->shutting_down = true;
	s->ending_timer = loop_source_free(s->ending_timer);
	leave_address(s);
	s->exit_deadline_ns = now + EXIT_GRACE_NS;
	if (s->vm)
		vm_kill(s->vm);
	if (loop_add_timer(s->loop, &s->exit_timer, now, on_exit_tick, s) < 0)
		loop_exit(s->loop, 0);
}

static int on_term(struct loop_source *src, const struct signalfd_siginfo *si, void *data)
{
	struct shim *s = data;

	(void)src;
	log_info("signal %u: ending", si->ssi_signo);
	/* Who says so twice does not want to wait. */
	if (s->ending)
		shim_shut_down(s);
	else
		ending_begin(s);
	return 0;
}

/* ---- The VM ---- */

static void watch_guest(struct shim *s);

static int on_watch_time(struct loop_source *src, void *data)
{
	(void)src;
	watch_guest(data);
	return 0;
}

/* The next one. Whoever has many of them is asked no more than about once a second. */
static void watch_guest_again(struct shim *s)
{
	uint64_t now = clock_monotonic_ns(), due = s->guest_event_ns ? s->guest_event_ns + EVENT_PAUSE_NS : now;

	s->guest_event_ns = now;
	if (due <= now)
		watch_guest(s);
	else if (s->watch_timer ? loop_set_deadline(s->watch_timer, due) < 0
				: loop_add_timer(s->loop, &s->watch_timer, due, on_watch_time, s) < 0)
		log_warning("the guest's events cannot be watched, ignoring");
}

static void on_guest_event(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct shim *s = data;
	_cleanup_message_ Skerry__Agent__V1__ContainerEvent *ev = NULL;

	if (err)
		return;
	ev = message_unpack(&skerry__agent__v1__container_event__descriptor, payload, len);
	if (ev && ev->kind == SKERRY__AGENT__V1__CONTAINER_EVENT__KIND__OOM && shim_find(s, ev->id)) {
		Containerd__TaskContainer e = CONTAINERD__TASK_CONTAINER__INIT;

		e.container_id = ev->id;
		events_publish_once(s->events, "/tasks/oom", "containerd.events.TaskOOM", &e.base);
	}
	watch_guest_again(s);
}

static void watch_guest(struct shim *s)
{
	(void)guest_wait(s, "NextContainerEvent", NULL, on_guest_event, s, NULL);
}

static void on_vm_ready(const char *error, void *data)
{
	struct shim *s = data;
	_cleanup_error_ struct error e = {};
	struct container *next;

	if (*error)
		log_warning("guest: %s", error);
	watch_guest(s);
	if (resize_vm_ready(s->resize, &e) < 0)
		log_warning("%s, ignoring", e.msg);
	loopback_start(s->loopback);
	sandbox_vm_ready(s);
	for (struct container *k = s->containers; k; k = next) {
		next = k->next;
		container_vm_ready(k);
	}
	/* What the start needed, kernels' descriptions and plans, is not needed again. */
	(void)malloc_trim(0);
}

static void on_vm_ended(const char *reason, void *data)
{
	struct shim *s = data;
	struct container *next;

	s->vm_ended = true;
	s->loopback = loopback_free(s->loopback);
	resize_vm_ended(s->resize);
	free(s->vm_reason);
	s->vm_reason = xstrdup(reason);
	if (!s->shutting_down)
		log_error("%s", reason);
	sandbox_vm_ended(s);
	for (struct container *k = s->containers; k; k = next) {
		next = k->next;
		container_vm_ended(k);
	}
}

static const struct vm_events vm_events = { .ready = on_vm_ready, .ended = on_vm_ended };

int shim_configure(struct shim *s, struct spec_info *info, struct error *err)
{
	int r = s->configured ? 0 : shim_config_load(&s->config, err);

	if (r < 0)
		return r;
	s->configured = true;
	return shim_config_apply(&s->config, info, err);
}

int shim_need_vm(struct shim *s, const struct spec_info *info, const struct root *root, int netns_fd, const char *netns,
		 struct error *err)
{
	_cleanup_free_ char *name = NULL;
	struct vm_request q;

	if (s->vm_ended)
		return error_set(err, ENOTCONN, "%s", s->vm_reason);
	if (s->vm)
		return 0;
	resize_free(s->resize);
	s->resize = resize_new(s, &s->config, info);
	name = xasprintf("%s/%s", s->namespace, s->id);
	q = (struct vm_request){ .id = s->id,
				 .name = name,
				 .bundle_fd = s->bundle_fd,
				 .bundle = s->bundle,
				 .share_dir = s->share_dir,
				 .guest = s->guest,
				 .spec = info,
				 .root = root,
				 .size = resize_begin(s->resize),
				 .netns_fd = netns_fd,
				 .netns = netns,
				 .boot_ns = s->limits.boot_ns };
	if (!s->loopback && info->role == SPEC_SANDBOX && info->netns)
		s->loopback = loopback_new(s, netns_fd);
	return vm_start(s->loop, &q, &s->record, &vm_events, s, &s->vm, err);
}

/* ---- The process ---- */

static int record_self(struct shim *s, const char *socket_path, struct error *err)
{
	_cleanup_error_ struct error e = {};
	struct process_id self;
	int r = process_identify(getpid(), &self);

	if (r < 0)
		return error_set_errno(err, r, "cannot identify this process");
	s->record.boot_id = xstrdup(boot_id());
	s->record.shim_pid = (uint64_t)self.pid;
	s->record.shim_start = self.start_time;
	s->record.socket = xstrdup(socket_path);
	s->record.link = registry_link(socket_path, &e);
	r = shim_record_write(s->bundle_fd, &s->record, err);
	/* Without it containers run, and are released by containerd as ever. */
	if (r >= 0 && (!s->record.link || registry_add(s->record.link, s->bundle, &e) < 0))
		log_warning("%s, ignoring", e.msg);
	return r;
}

static int open_bundle(struct shim *s, struct error *err)
{
	s->bundle = getcwd(NULL, 0);
	s->bundle_fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!s->bundle || s->bundle_fd < 0)
		return error_set_errno(err, errno, "cannot open the bundle");
	s->share_dir = xasprintf("%s/share", s->bundle);
	/* Below a chroot, what /proc/self/exe says is wrong once the mount namespace is another. */
	s->guest = libexec_path("skerry-init");
	if (!s->guest)
		return error_set_kind(err, ERROR_UNAVAILABLE, ENOENT, "skerry-init: not installed beside the shim");
	return share_begin(s->share_dir, &s->share, err);
}

static int prepare(struct shim *s, int listen_fd, const char *socket_path, struct error *err)
{
	const char *address = getenv("TTRPC_ADDRESS");
	int r = open_bundle(s, err);

	if (r >= 0)
		r = record_self(s, socket_path, err);
	if (r < 0)
		return r;
	r = loop_new(&s->loop);
	if (r >= 0)
		r = loop_add_signal(s->loop, &s->term_source, SIGTERM, on_term, s);
	if (r >= 0)
		r = events_new(s->loop, address ? address : "", s->namespace, &s->events);
	if (r >= 0)
		r = server_new(s->loop, listen_fd, shim_methods, s, &s->server);
	return r < 0 ? error_set_errno(err, r, "cannot serve") : 0;
}

static void cleanup(struct shim *s)
{
	while (s->containers)
		container_free(s->containers);
	loopback_free(s->loopback);
	vm_free(s->vm);
	share_free(s->share);
	resize_free(s->resize);
	shim_config_done(&s->config);
	server_free(s->server);
	events_free(s->events);
	loop_source_free(s->ending_timer);
	loop_source_free(s->exit_timer);
	loop_source_free(s->watch_timer);
	loop_source_free(s->term_source);
	loop_free(s->loop);
	shim_record_release(&s->record, clock_monotonic_ns() + RELEASE_NS);
	if (s->bundle_fd >= 0)
		(void)unlinkat(s->bundle_fd, SHIM_RECORD, 0);
	shim_record_done(&s->record);
	safe_close(s->bundle_fd);
	free(s->bundle);
	free(s->share_dir);
	free(s->guest);
	free(s->vm_reason);
	free(s->sandbox_id);
	json_free(s->parameters);
	free(s->namespace);
	free(s->id);
}

int shim_serve(const char *namespace, const char *id, int listen_fd, const char *socket_path)
{
	struct shim s = { .namespace = xstrdup(namespace), .id = xstrdup(id), .bundle_fd = -EBADF, .limits = limits };
	_cleanup_error_ struct error e = {};
	int log_fd = open("log", O_WRONLY | O_NONBLOCK | O_CLOEXEC), r;

	/* containerd copies what comes there into its own log. Without it there is nobody to tell. */
	log_setup(log_fd, getenv("SKERRY_SHIM_DEBUG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO, false);
	signal(SIGPIPE, SIG_IGN);
	(void)prctl(PR_SET_NAME, "skerry-shim");
	r = prepare(&s, listen_fd, socket_path, &e);
	if (r < 0)
		log_error("%s", e.msg);
	else
		(void)loop_run(s.loop);
	cleanup(&s);
	safe_close(log_fd);
	return r < 0 ? 1 : 0;
}
