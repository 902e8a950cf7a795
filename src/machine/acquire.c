#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "engine/host_cgroup.h"
#include "machine/launch.h"
#include "machine/monitor.h"
#include "machine/record.h"
#include "machine/share.h"
#include "machine/snapshot.h"
#include "machine/vsock.h"

enum { VSOCK_TRIES = 64, BOOT_CONFIG_MAX = 1 << 20 /* guest/bootconfig.h */ };
/* Processes that have just ended may take a moment to leave theirs. */
#define CGROUP_WAIT_NS (2 * NS_PER_SEC)

int monitor_save_state(struct monitor *m, struct error *err)
{
	_cleanup_free_ char *what = xasprintf("run/%s/state.json", m->name.s);

	return record_write(m->run_fd, "state.json", what, machine_state_fields, &m->state, &m->state_tree, 0, err);
}

/* Saves the record, and passes the fault points before and after it. */
static int record_step(struct monitor *m, const char *label, struct error *err)
{
	_cleanup_free_ char *before = xasprintf("start.%s.record", label),
			    *after = xasprintf("start.%s.acquire", label);
	int r = fault_point(before);

	if (r < 0)
		return error_set_errno(err, r, "machine '%s': cannot record", m->name.s);
	r = monitor_save_state(m, err);
	if (r < 0)
		return r;
	r = fault_point(after);
	return r < 0 ? error_set_errno(err, r, "machine '%s': cannot start", m->name.s) : 0;
}

static int begin_record(struct monitor *m, struct error *err)
{
	struct process_id self;
	int r = process_identify(getpid(), &self);

	if (r >= 0 && !*boot_id())
		r = -EIO;
	if (r < 0)
		return error_set_errno(err, r, "cannot identify this process and boot");
	free(m->state.boot_id);
	m->state.boot_id = xstrdup(boot_id());
	m->state.monitor_pid = (uint64_t)self.pid;
	m->state.monitor_start = self.start_time;
	return 0;
}

static void set_string(char **to, const char *s)
{
	free(*to);
	*to = xstrdup(s);
}

static int resolve_ports(struct monitor *m, struct error *err)
{
	strv_done(&m->state.publish);
	m->state.publish = (struct strv){};
	for (size_t i = 0; i < m->facts.n_publish; i++) {
		int r = net_publish_resolve(&m->facts.publish[i], err);

		if (r == -EADDRINUSE && m->spec.remove)
			return error_hint(err, "host port 0 picks a free one");
		if (r == -EADDRINUSE)
			return error_hint(err,
					  "free it, or write another, or 0 for a free one, under \"publish\" in the "
					  "file that `skerry path %s spec` tells",
					  m->name.s);
		if (r < 0)
			return r;
		strv_take(&m->state.publish, net_publish_format(&m->facts.publish[i]));
	}
	return 0;
}

static int read_password(struct monitor *m, char **ret, struct error *err)
{
	_cleanup_buf_ struct buf b = {};
	int r = file_read_at(m->machine_fd, MACHINE_PASSWORD, 4096, &b);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return error_set_errno(err, r, "machine '%s': cannot read its password", m->name.s);
	*ret = buf_take(&b);
	return 0;
}

int monitor_read_secrets(struct monitor *m, struct boot_secrets *b, struct error *err)
{
	_cleanup_free_ char *private_path = NULL;
	int r;

	if (getrandom(b->token, sizeof(b->token), 0) != (ssize_t)sizeof(b->token) ||
	    getrandom(b->seed, sizeof(b->seed), 0) != (ssize_t)sizeof(b->seed))
		return error_set_errno(err, EIO, "no random numbers");
	b->realtime_ns = clock_realtime_ns();
	if (!m->facts.image.ssh)
		return 0;
	r = read_password(m, &b->password, err);
	if (r < 0)
		return r;
	r = file_read_at(m->machine_fd, "ssh/ssh_host_ed25519_key", 8192, &b->host_key);
	if (r >= 0)
		r = file_read_at(m->machine_fd, "ssh/ssh_host_ed25519_key.pub", 8192, &b->host_key_public);
	if (r < 0)
		return error_set_errno(err, r, "machine '%s': cannot read its ssh host key", m->name.s);
	return machine_ssh_key(&m->store, &private_path, &b->client_key, err);
}

static int boot_memfd(struct monitor *m, struct error *err)
{
	_cleanup_(boot_secrets_done) struct boot_secrets secrets = {};
	_cleanup_close_ int fd = -EBADF;
	_cleanup_buf_ struct buf packed = {};
	struct buf hex = {};
	int r = monitor_read_secrets(m, &secrets, err);

	if (r < 0)
		return r;
	memcpy(m->token, secrets.token, sizeof(m->token));
	for (size_t i = 0; i < sizeof(m->token); i++)
		buf_addf(&hex, "%02x", m->token[i]);
	free(m->state.token);
	m->state.token = buf_take(&hex);
	plan_boot_config(&m->spec, &m->facts, &m->plan, &secrets, &packed);
	if (packed.len > BOOT_CONFIG_MAX) {
		explicit_bzero(packed.p, packed.len);
		return error_set_kind(
			err, ERROR_USAGE, E2BIG,
			"machine '%s': its settings and its image's environment are more than the guest takes, 1 MiB",
			m->name.s);
	}
	fd = memfd_create("skerry-boot", MFD_CLOEXEC);
	r = fd < 0 ? -errno : write_full(fd, packed.p, packed.len);
	explicit_bzero(packed.p, packed.len);
	if (r < 0)
		return error_set_errno(err, r, "cannot hold the boot configuration");
	return TAKE_FD(fd);
}

/* The CID and the port of the same number, both free. <0 when there is none after all. */
static int take_vsock(struct monitor *m, uint32_t cid)
{
	int fd = vsock_take(cid);

	if (fd < 0)
		return fd;
	m->vsock_fd = vsock_listen(cid);
	if (m->vsock_fd < 0) {
		safe_close(fd);
		return m->vsock_fd;
	}
	m->vhost_fd = fd;
	return 0;
}

/* The plan is made again with the CID that was free, and without one where none is. */
static int acquire_vsock(struct monitor *m, struct error *err)
{
	uint32_t planned = m->plan.vsock_cid;
	int r = planned ? -EADDRINUSE : 0;

	for (unsigned n = 0; r == -EADDRINUSE && n < VSOCK_TRIES; n++) {
		m->state.vsock_cid = vsock_candidate(m->spec.id, n);
		r = record_step(m, "vsock", err);
		if (r < 0)
			return r;
		r = take_vsock(m, (uint32_t)m->state.vsock_cid);
	}
	if (r < 0) {
		log_warning("vsock: %s; the agent is reached over virtio-serial", strerror(-r));
		m->state.vsock_cid = 0;
	}
	if (m->state.vsock_cid == planned)
		return 0;
	m->facts.vsock_cid = (uint32_t)m->state.vsock_cid;
	plan_done(&m->plan);
	return plan_make(&m->spec, &m->facts, &m->plan, err);
}

/* What the engine and the network's helper use is accounted apart, where we may. */
static int make_cgroup(struct monitor *m, struct error *err)
{
	_cleanup_free_ char *name = xasprintf("skerry-%s", m->spec.id);
	int r;

	strv_done(&m->state.cgroups);
	m->state.cgroups = (struct strv){};
	host_cgroup_plan_own(name, &m->state.cgroups);
	if (!m->state.cgroups.n)
		return 0;
	r = record_step(m, "cgroup", err);
	if (r >= 0)
		host_cgroup_make(&m->state.cgroups);
	return r;
}

/* What the network gives for the engine's NICs; at least one place, as modes have it. */
struct nic_fds {
	int fds[NET_NICS_MAX];
};

static void nic_fds_clear(struct nic_fds *n)
{
	for (size_t i = 0; i < NET_NICS_MAX; i++)
		n->fds[i] = -EBADF;
}

static void nic_fds_done(struct nic_fds *n)
{
	for (size_t i = 0; i < NET_NICS_MAX; i++)
		n->fds[i] = safe_close(n->fds[i]);
}

static int prepare_network(struct monitor *m, struct nic_fds *ret, struct error *err)
{
	pid_t pid = 0;
	struct process_id id;
	int r;

	set_string(&m->state.net, m->plan.net->name);
	r = record_step(m, "network", err);
	if (r < 0)
		return r;
	m->plan.net_request.log_fd = m->log_fd;
	r = m->plan.net->prepare(&m->plan.net_request, &m->plan.net_plan, ret->fds, &pid, &m->helper_pidfd, err);
	if (r < 0)
		return r;
	/* Between its start and this record the helper needs none: it ends when our end of its socket does. */
	if (pid > 0 && process_identify(pid, &id) >= 0) {
		m->state.helper_pid = (uint64_t)id.pid;
		m->state.helper_start = id.start_time;
		host_cgroup_add(&m->state.cgroups, pid);
	}
	if (m->helper_pidfd >= 0)
		(void)loop_add_child(m->loop, &m->helper_source, m->helper_pidfd, monitor_helper_exited, m);
	return 0;
}

/* The engine is held at its first instruction until its pid is on record. */
static int record_engine(pid_t pid, void *data)
{
	struct monitor *m = data;
	struct process_id id;
	int r = process_identify(pid, &id);

	if (r < 0)
		return r;
	m->state.engine_pid = (uint64_t)id.pid;
	m->state.engine_start = id.start_time;
	host_cgroup_add(&m->state.cgroups, pid);
	return record_step(m, "engine", NULL);
}

/* An engine that serves a directory does so with its own rights: they are those of whom the directory is. Not root's, though. */
static void choose_share_user(const struct monitor *m, struct engine_launch *l)
{
	_cleanup_(share_done) struct share share = {};
	struct stat st;

	if (!m->spec.shares.n || share_parse(m->spec.shares.items[0], &share, NULL) < 0 || stat(share.source, &st) < 0)
		return;
	l->uid = st.st_uid;
	l->gid = st.st_gid;
	if (!l->uid && geteuid() == 0)
		log_warning("share: '%s' is root's: the guest can read there what everybody can", share.source);
}

/* Best effort: on a full disk a machine starts that writes nothing. */
static void mark_begun(struct monitor *m)
{
	const struct machine_begun b = { m->state.boot_id, m->store.run_path, m->state.started_ns, 0 };
	_cleanup_error_ struct error e = {};

	if (machine_begun_save(m->machine_fd, m->name.s, &b, &e) < 0)
		log_warning("%s, ignoring", e.msg);
}

static int launch_engine(struct monitor *m, int boot_fd, const struct nic_fds *nics, struct error *err)
{
	_cleanup_(engine_fds_done) struct engine_fds h = {};
	_cleanup_free_ char *what = xasprintf("machine '%s'", m->name.s);
	struct engine_launch l = {
		.what = what,
		.id = m->spec.id,
		.plan = &m->plan.exec,
		.accel = m->facts.accel,
		.run_fd = m->run_fd,
		.log_fd = m->log_fd,
		.boot_fd = boot_fd,
		.nic_fds = nics->fds,
		.n_nic_fds = NET_NICS_MAX,
		.vhost_fd = &m->vhost_fd,
		.privileged_ports = m->plan.net_plan.privileged_ports,
		.on_pid = record_engine,
		.data = m,
	};
	int r = engine_fds_open(&l, &h, err);

	choose_share_user(m, &l);
	if (r >= 0)
		r = record_step(m, "sockets", err);
	if (r < 0)
		return r;
	mark_begun(m);
	r = engine_launch(&l, &h, &m->state.uid, &m->engine_pidfd, err);
	m->engine_is_child = r >= 0;
	m->vhost_fd = safe_close(m->vhost_fd);
	return r;
}

static int connect_socket(struct monitor *m, const char *name, struct error *err)
{
	int fd = unix_connect_at(m->run_fd, name);

	return fd < 0 ? error_set_errno(err, fd, "machine '%s': cannot connect to %s", m->name.s, name) : fd;
}

/* Its connections come one after another: the newest is the one that lives. */
static void on_agent_call(int fd, void *data)
{
	struct monitor *m = data;
	int r;

	m->agent = agent_link_free(m->agent);
	m->state.agent_ready = false;
	memset(m->draining, 0, sizeof(m->draining));
	r = agent_link_new(m->loop, fd, m->token, &monitor_agent_events, m, &m->agent);
	if (r < 0)
		log_error("cannot talk to the agent: %s", strerror(-r));
}

static int await_agent(struct monitor *m, struct error *err)
{
	int r = m->vsock_fd >= 0 ? 0 : vsock_listen((uint32_t)m->state.vsock_cid);

	if (m->vsock_fd < 0)
		m->vsock_fd = r;
	/* An adopted machine is better without its agent than without a monitor. */
	if (r < 0) {
		log_error("vsock: port %llu: %s: the agent cannot be reached", (unsigned long long)m->state.vsock_cid,
			  strerror(-r));
		return 0;
	}
	r = vsock_listener_new(m->loop, TAKE_FD(m->vsock_fd), (uint32_t)m->state.vsock_cid, on_agent_call, m,
			       &m->vsock);
	return r < 0 ? error_set_errno(err, r, "machine '%s': cannot wait for the agent", m->name.s) : 0;
}

/* The sockets exist and listen from before the engine's start, so connecting never waits for it. */
static int connect_engine(struct monitor *m, struct error *err)
{
	const struct engine *e = m->facts.engine;
	int fd, r;

	fd = connect_socket(m, e->control_socket, err);
	if (fd < 0)
		return fd;
	r = e->connect(m->loop, fd, monitor_engine_event, monitor_engine_ready, m, &m->vm, err);
	if (r < 0)
		return r;
	fd = connect_socket(m, e->console_socket, err);
	if (fd < 0)
		return fd;
	r = console_new(m->loop, fd, m->machine_fd, m->run_fd, &m->console);
	if (r < 0)
		return error_set_errno(err, r, "machine '%s': cannot serve its console", m->name.s);
	if (m->state.vsock_cid)
		return await_agent(m, err);
	fd = connect_socket(m, e->agent_socket, err);
	if (fd < 0)
		return fd;
	r = agent_link_new(m->loop, fd, m->token, &monitor_agent_events, m, &m->agent);
	if (r < 0)
		return error_set_errno(err, r, "machine '%s': cannot reach the agent's socket", m->name.s);
	return 0;
}

static int open_run_dir(struct monitor *m, struct error *err)
{
	m->run_fd = store_machine_run_dir(&m->store, &m->name, err);
	return m->run_fd < 0 ? m->run_fd : 0;
}

static int watch_engine(struct monitor *m, struct error *err)
{
	int r = loop_add_child(m->loop, &m->engine_source, m->engine_pidfd, monitor_engine_exited, m);

	if (r >= 0)
		r = guest_clock_new(m->loop, monitor_clock_changed, m, &m->clock);
	if (r >= 0 && !m->control)
		r = control_new(m->loop, m->run_fd, &monitor_control_handler, m, &m->control);
	return r < 0 ? error_set_errno(err, r, "machine '%s': cannot watch its engine", m->name.s) : 0;
}

static int make_plan(struct monitor *m, bool resolve, struct error *err)
{
	int r = plan_facts_gather(&m->store, &m->spec, &m->facts, err);

	if (r >= 0 && resolve)
		r = resolve_ports(m, err);
	if (r >= 0)
		r = plan_make(&m->spec, &m->facts, &m->plan, err);
	return r;
}

int monitor_acquire(struct monitor *m, struct error *err)
{
	_cleanup_(nic_fds_done) struct nic_fds nics = {};
	_cleanup_close_ int boot_fd = -EBADF;
	int r = begin_record(m, err);

	nic_fds_clear(&nics);

	if (r >= 0)
		r = snapshot_revert_pending(&m->store, &m->name, m->machine_fd, err);
	if (r >= 0)
		r = make_plan(m, true, err);
	if (r >= 0)
		r = open_run_dir(m, err);
	if (r >= 0)
		r = monitor_prepare_firmware(m, err);
	if (r < 0)
		return r;
	m->state.status = MACHINE_STARTING;
	m->state.started_ns = clock_realtime_ns();
	m->state.ready_ns = 0;
	set_string(&m->state.engine, m->facts.engine->name);
	set_string(&m->state.accel, accel_name(m->facts.accel));
	set_string(&m->state.accel_why, m->facts.accel_why);
	set_string(&m->state.shape, engine_shape_name(m->plan.shape));
	set_string(&m->state.kernel, m->facts.kernel.name);
	r = acquire_vsock(m, err);
	if (r >= 0)
		r = make_cgroup(m, err);
	if (r >= 0)
		r = prepare_network(m, &nics, err);
	if (r >= 0)
		r = boot_fd = boot_memfd(m, err);
	if (r >= 0)
		r = launch_engine(m, boot_fd, &nics, err);
	if (r >= 0)
		r = watch_engine(m, err);
	if (r >= 0)
		r = connect_engine(m, err);
	return r;
}

static int decode_token(struct monitor *m)
{
	const char *s = m->state.token;

	if (!s || strlen(s) != 2 * sizeof(m->token))
		return -EBADMSG;
	for (size_t i = 0; i < sizeof(m->token); i++) {
		static const char digits[] = "0123456789abcdef";
		const char *hi = memchr(digits, s[2 * i], 16), *lo = memchr(digits, s[2 * i + 1], 16);

		if (!hi || !lo)
			return -EBADMSG;
		m->token[i] = (uint8_t)((hi - digits) << 4 | (lo - digits));
	}
	return 0;
}

int monitor_adopt(struct monitor *m, struct error *err)
{
	struct process_id id;
	int r;

	m->adopting = true;
	r = machine_state_load(&m->store, m->name.s, &m->state, err);
	if (r < 0)
		return r;
	id = machine_process(m->state.engine_pid, m->state.engine_start);
	m->engine_pidfd = process_open(&id);
	if (m->engine_pidfd < 0)
		return error_set_errno(err, m->engine_pidfd, "machine '%s': its engine has ended", m->name.s);
	r = make_plan(m, false, err);
	if (r >= 0)
		r = open_run_dir(m, err);
	if (r >= 0)
		r = begin_record(m, err);
	if (r < 0)
		return r;
	if (decode_token(m) < 0)
		return error_set_kind(err, ERROR_DATA, EBADMSG, "run/%s/state.json: token: damaged", m->name.s);
	if (m->state.helper_pid) {
		id = machine_process(m->state.helper_pid, m->state.helper_start);
		m->helper_pidfd = process_open(&id);
	}
	m->state.agent_ready = false;
	monitor_forwards_adopt(m);
	r = record_step(m, "adopt", err);
	if (r >= 0)
		r = watch_engine(m, err);
	if (r >= 0)
		r = connect_engine(m, err);
	m->adopting = r < 0;
	return r;
}

static void end_pidfd(int pidfd, bool child)
{
	if (pidfd < 0)
		return;
	(void)pidfd_kill(pidfd, SIGKILL);
	(void)pidfd_wait_exit(pidfd, clock_monotonic_ns() + 10 * NS_PER_SEC);
	if (child)
		(void)pidfd_reap(pidfd, NULL);
}

static void disconnect(struct monitor *m)
{
	m->stop_timer = loop_source_free(m->stop_timer);
	m->useless_timer = loop_source_free(m->useless_timer);
	m->engine_source = loop_source_free(m->engine_source);
	m->helper_source = loop_source_free(m->helper_source);
	m->clock = guest_clock_free(m->clock);
	m->vsock = vsock_listener_free(m->vsock);
	m->vsock_fd = safe_close(m->vsock_fd);
	m->vhost_fd = safe_close(m->vhost_fd);
	m->agent = agent_link_free(m->agent);
	if (m->vm)
		m->vm = m->facts.engine->vm_free(m->vm);
	monitor_forwards_forget(m);
}

void monitor_let_go(struct monitor *m)
{
	disconnect(m);
	m->console = console_free(m->console);
	m->engine_pidfd = safe_close(m->engine_pidfd);
	m->helper_pidfd = safe_close(m->helper_pidfd);
	plan_done(&m->plan);
	plan_facts_done(&m->facts);
	m->run_fd = safe_close(m->run_fd);
}

void monitor_release(struct monitor *m)
{
	disconnect(m);
	if (!m->engine_gone)
		end_pidfd(m->engine_pidfd, m->engine_is_child);
	m->engine_pidfd = safe_close(m->engine_pidfd);
	m->console = console_free(m->console);
	end_pidfd(m->helper_pidfd, true);
	m->helper_pidfd = safe_close(m->helper_pidfd);
	if (m->plan.net)
		m->plan.net->release(&m->plan.net_request);
	host_cgroup_remove(&m->state.cgroups, clock_monotonic_ns() + CGROUP_WAIT_NS);
	plan_done(&m->plan);
	plan_facts_done(&m->facts);
	(void)fault_point("stop.release");
	m->run_fd = safe_close(m->run_fd);
}
