#include "shim/lease.h"

#include <dirent.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "json/json.h"
#include "net/cni.h"
#include "shim/registry.h"
#include "store/store.h"

#define PREFIX "lease-"

struct lease {
	char *network, *id, *result;
};

static const struct json_field fields[] = {
	{ "network", JSON_STRING, offsetof(struct lease, network) },
	{ "id", JSON_STRING, offsetof(struct lease, id) },
	{ "result", JSON_STRING, offsetof(struct lease, result) },
	{},
};

static void lease_done(struct lease *l)
{
	json_fields_done(fields, l);
}

/* Where they are: a descriptor, owned by the caller. */
static int open_directory(bool make, struct error *err)
{
	_cleanup_store_ struct store s = {};
	int fd, r = store_open(&s, err);

	if (r >= 0 && make)
		r = mkdir_parents_at(s.run_fd, REGISTRY_DIRECTORY, 0700);
	if (r < 0)
		return r;
	fd = openat(s.run_fd, REGISTRY_DIRECTORY, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? error_set_errno(err, errno, "%s/" REGISTRY_DIRECTORY, s.run_path) : fd;
}

static void keep(const struct lease *l)
{
	_cleanup_free_ char *name = xasprintf(PREFIX "%s", l->id);
	_cleanup_json_ struct json *tree = NULL;
	_cleanup_error_ struct error e = {};
	_cleanup_close_ int fd = open_directory(true, &e);
	int r = fd < 0 ? fd : fault_point("shim.lease");

	if (r >= 0)
		r = record_write(fd, name, name, fields, l, &tree, 0, &e);
	if (r < 0)
		log_warning("network: what %s has of it is not on record: %s, ignoring", l->id,
			    e.msg ? e.msg : strerror(-r));
}

void lease_forget(const char *id)
{
	_cleanup_free_ char *name = xasprintf(PREFIX "%s", id);
	_cleanup_close_ int fd = open_directory(false, NULL);

	if (fd >= 0)
		(void)unlinkat(fd, name, 0);
}

static int give_back(const struct lease *l, const char *netns, uint64_t deadline_ns, struct error *err)
{
	_cleanup_json_ struct json *network = NULL, *result = NULL;
	struct cni_attachment a = { .id = l->id, .netns = netns, .interface = "eth0" };
	int r = json_parse(l->network, strlen(l->network), "network", &network, err);

	if (r < 0)
		return r;
	if (l->result)
		(void)json_parse(l->result, strlen(l->result), "result", &result, NULL);
	a.network = network;
	return cni_del(&(struct cni){ .deadline_ns = deadline_ns }, &a, result, err);
}

int lease_release(const struct shim_record *r, const char *netns, uint64_t deadline_ns, struct error *err)
{
	struct lease l = { .network = r->cni_network, .id = r->cni_id, .result = r->cni_result };
	int e;

	/* It becomes a file's name. */
	if (!l.network || !l.id || strchr(l.id, '/'))
		return 0;
	keep(&l);
	e = give_back(&l, netns, deadline_ns, err);
	if (e >= 0)
		lease_forget(l.id);
	return e;
}

static int recover_one(int directory, const char *name, bool tell, uint64_t deadline_ns, struct error *err)
{
	_cleanup_(lease_done) struct lease l = {};
	_cleanup_json_ struct json *tree = NULL;
	int r = record_read(directory, name, name, fields, &l, &tree, err);

	if (r == -ENOENT)
		return 0;
	if (r >= 0 && l.network && l.id)
		r = give_back(&l, NULL, deadline_ns, err);
	if (r < 0)
		return r;
	(void)unlinkat(directory, name, 0);
	if (tell)
		printf("%s: its network took back what it had given\n", l.id ? l.id : name);
	return 0;
}

int lease_recover(bool tell, uint64_t deadline_ns)
{
	_cleanup_strv_ struct strv names = {};
	int fd = open_directory(false, NULL), failed = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d) {
		(void)safe_close(fd);
		return 0;
	}
	for (const struct dirent *e; (e = readdir(d));)
		if (after_prefix(e->d_name, PREFIX))
			strv_add(&names, e->d_name);
	for (size_t i = 0; i < names.n; i++) {
		_cleanup_error_ struct error e = {};
		int r = recover_one(fd, names.items[i], tell, deadline_ns, &e);

		if (r < 0) {
			log_error("%s: %s", names.items[i], e.msg);
			failed = r;
		}
	}
	(void)closedir(d);
	return failed;
}
