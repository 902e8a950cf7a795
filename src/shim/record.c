#include "shim/record.h"

#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/process.h"
#include "net/takeover.h"
#include "engine/host_cgroup.h"
#include "shim/lease.h"
#include "store/store.h"

#define PROCESSES_NS (2 * NS_PER_SEC)
#define CGROUPS_NS   (500 * NS_PER_MS)

#define FIELD(key, type)                                      \
	{                                                     \
#key, type, offsetof(struct shim_record, key) \
	}

static const struct json_field fields[] = {
	FIELD(boot_id, JSON_STRING),    FIELD(shim_pid, JSON_U64),       FIELD(shim_start, JSON_U64),
	FIELD(engine_pid, JSON_U64),    FIELD(engine_start, JSON_U64),   FIELD(share_pid, JSON_U64),
	FIELD(share_start, JSON_U64),   FIELD(helper_pid, JSON_U64),     FIELD(helper_start, JSON_U64),
	FIELD(socket, JSON_STRING),     FIELD(link, JSON_STRING),        FIELD(netns, JSON_STRING),
	FIELD(cgroups, JSON_STRINGS),   FIELD(cni_network, JSON_STRING), FIELD(cni_id, JSON_STRING),
	FIELD(cni_result, JSON_STRING), FIELD(hooked, JSON_STRING),      {},
};

void shim_record_done(struct shim_record *r)
{
	json_fields_done(fields, r);
	*r = (struct shim_record){};
}

int shim_record_read(int bundle_fd, struct shim_record *ret, struct error *err)
{
	_cleanup_json_ struct json *tree = NULL;

	*ret = (struct shim_record){};
	return record_read(bundle_fd, SHIM_RECORD, SHIM_RECORD, fields, ret, &tree, err);
}

int shim_record_write(int bundle_fd, const struct shim_record *r, struct error *err)
{
	_cleanup_json_ struct json *tree = NULL;

	/* Not durable: after a power failure nothing of what it names is left. */
	return record_write(bundle_fd, SHIM_RECORD, SHIM_RECORD, fields, r, &tree, 0, err);
}

static void end_process(uint64_t pid, uint64_t start, uint64_t deadline_ns)
{
	struct process_id id = { .pid = (pid_t)pid, .start_time = start };
	_cleanup_close_ int fd = pid && (pid_t)pid != getpid() ? process_open(&id) : -EBADF;

	if (fd < 0)
		return;
	(void)pidfd_kill(fd, SIGKILL);
	(void)pidfd_wait_exit(fd, deadline_ns);
}

/* Interfaces go back to their namespace, where that is still there; leases and rules of plugins go in any case. A namespace that plugins were called for
 * was our process's and has gone with it: what is at its path now is another's. */
static void release_network(const struct shim_record *r, uint64_t deadline_ns)
{
	_cleanup_close_ int netns = r->netns ? open(r->netns, O_RDONLY | O_CLOEXEC) : -EBADF;
	_cleanup_error_ struct error e = {};

	/* Our engine has ended: who has one of them by now is another machine, which needs nothing of ours. */
	if (netns >= 0 && net_takeover_free(netns, NULL) != -EBUSY)
		(void)net_takeover_release(netns, NULL);
	if (lease_release(r, NULL, deadline_ns, &e) < 0)
		log_warning("%s, ignoring", e.msg);
}

void shim_record_release(const struct shim_record *r, uint64_t deadline_ns)
{
	uint64_t processes = clock_monotonic_ns() + PROCESSES_NS, cgroups;

	if (r->boot_id && streq(r->boot_id, boot_id())) {
		end_process(r->shim_pid, r->shim_start, processes);
		end_process(r->engine_pid, r->engine_start, processes);
		end_process(r->share_pid, r->share_start, processes);
		end_process(r->helper_pid, r->helper_start, processes);
	}
	release_network(r, deadline_ns);
	if (r->socket)
		(void)unlink(r->socket);
	/* Children of what was ended may take as long as the host lets them. */
	cgroups = clock_monotonic_ns() + CGROUPS_NS;
	host_cgroup_remove(&r->cgroups, deadline_ns > cgroups ? deadline_ns : cgroups);
	if (r->link)
		(void)unlink(r->link);
}
