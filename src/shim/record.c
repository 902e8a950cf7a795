#include "shim/record.h"

#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/process.h"
#include "net/cni.h"
#include "net/takeover.h"
#include "engine/host_cgroup.h"
#include "store/store.h"

#define RELEASE_WAIT_NS (2 * NS_PER_SEC)

#define FIELD(key, type)                                      \
	{                                                     \
#key, type, offsetof(struct shim_record, key) \
	}

static const struct json_field fields[] = {
	FIELD(boot_id, JSON_STRING),
	FIELD(shim_pid, JSON_U64),
	FIELD(shim_start, JSON_U64),
	FIELD(engine_pid, JSON_U64),
	FIELD(engine_start, JSON_U64),
	FIELD(share_pid, JSON_U64),
	FIELD(share_start, JSON_U64),
	FIELD(helper_pid, JSON_U64),
	FIELD(helper_start, JSON_U64),
	FIELD(socket, JSON_STRING),
	FIELD(netns, JSON_STRING),
	FIELD(cgroups, JSON_STRINGS),
	FIELD(cni_network, JSON_STRING),
	FIELD(cni_id, JSON_STRING),
	FIELD(cni_netns, JSON_STRING),
	FIELD(cni_result, JSON_STRING),
	{},
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

/* Interfaces go back to their namespace, where that is still there; leases and rules of plugins go in any case. */
static void release_network(const struct shim_record *r)
{
	_cleanup_close_ int netns = r->netns ? open(r->netns, O_RDONLY | O_CLOEXEC) : -EBADF;
	_cleanup_json_ struct json *network = NULL, *result = NULL;

	if (netns >= 0)
		(void)net_takeover_release(netns, NULL);
	if (!r->cni_network || !r->cni_id ||
	    json_parse(r->cni_network, strlen(r->cni_network), "network", &network, NULL) < 0)
		return;
	if (r->cni_result)
		(void)json_parse(r->cni_result, strlen(r->cni_result), "result", &result, NULL);
	{
		struct cni_attachment a = {
			.network = network,
			.id = r->cni_id,
			.netns = r->cni_netns && access(r->cni_netns, F_OK) == 0 ? r->cni_netns : NULL,
			.interface = "eth0",
		};

		const struct cni c = { .timeout_ns = RELEASE_WAIT_NS };

		/* Nobody comes after us who would know of the lease. */
		if (cni_del(&c, &a, result, NULL) < 0)
			(void)cni_del(&c, &a, result, NULL);
	}
}

void shim_record_release(const struct shim_record *r)
{
	uint64_t deadline = clock_monotonic_ns() + RELEASE_WAIT_NS;

	if (r->boot_id && streq(r->boot_id, boot_id())) {
		end_process(r->shim_pid, r->shim_start, deadline);
		end_process(r->engine_pid, r->engine_start, deadline);
		end_process(r->share_pid, r->share_start, deadline);
		end_process(r->helper_pid, r->helper_start, deadline);
	}
	release_network(r);
	if (r->socket)
		(void)unlink(r->socket);
	host_cgroup_remove(&r->cgroups, deadline);
}
