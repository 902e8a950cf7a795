#include "machine/plan.h"

#include <sys/stat.h>
#include <unistd.h>

#include "engine/firmware.h"
#include "machine/share.h"
#include "machine/vsock.h"
#include "store/paths.h"

enum { SSH_PORT = 22, SHARES_MAX = 4 };
/* What installers need. */
#define DRAFT_MEMORY (UINT64_C(2) << 30)

void plan_facts_done(struct plan_facts *f)
{
	free(f->program);
	free(f->accel_why);
	image_meta_done(&f->image);
	kernel_meta_done(&f->kernel);
	free(f->kernel_path);
	free(f->initrd_path);
	free(f->firmware_path);
	free(f->firmware_variables);
	free(f->image_disk);
	free(f->home_base);
	free(f->blank_disk);
	free(f->machine_dir);
	free(f->run_dir);
	free(f->publish);
	*f = (struct plan_facts){};
}

static int gather_kernel(const struct store *s, const struct machine_spec *spec, struct plan_facts *f,
			 struct error *err)
{
	_cleanup_free_ char *guest = libexec_path("skerry-init");
	int r;

	if (!guest)
		return error_set_kind(err, ERROR_UNAVAILABLE, ENOENT, "skerry-init: not installed beside skerry");
	r = spec->kernel ? kernel_find(s, spec->kernel, &f->kernel, err) : kernel_default(s, &f->kernel, err);
	if (r < 0)
		return r;
	f->kernel_path = kernel_file_path(s, &f->kernel);
	return kernel_initrd_path(s, &f->kernel, guest, &f->initrd_path, err);
}

static int gather_accel(const struct store *s, const struct machine_spec *spec, struct plan_facts *f, struct error *err)
{
	struct accel_probe probe = {};
	int r;

	/* Also for TCG: it tells the clock's rate. The result is cached. */
	accel_probe(s->cache_fd, f->program, &probe);
	r = accel_resolve((enum accel)spec->accel, &probe, &f->accel, err);
	if (r < 0)
		return r;
	f->tsc_khz = probe.tsc_khz;
	if (f->accel == ACCEL_KVM)
		memcpy(f->cpu_model, probe.cpu_model, sizeof(f->cpu_model));
	else
		f->accel_why = xstrdup(spec->accel == ACCEL_TCG ? "asked for" : probe.why);
	return 0;
}

char *plan_image_file(const struct store *s, const struct image_meta *image, const char *file)
{
	_cleanup_free_ char *disk = image->digest ? image_disk_path(s, image) : NULL, *path = NULL;
	const char *slash = disk ? strrchr(disk, '/') : NULL;

	if (!slash)
		return NULL;
	path = xasprintf("%.*s/%s", (int)(slash - disk), disk, file);
	return access(path, R_OK) < 0 ? NULL : TAKE_PTR(path);
}

static int gather_home(const struct store *s, const struct machine_spec *spec, struct plan_facts *f, struct error *err)
{
	_cleanup_(image_meta_done) struct image_meta blank = {};
	int r;

	f->home_format = "qcow2";
	if (streq(spec->home_digest, spec->image_digest)) {
		/* Installed together with the system. */
		f->home_base = plan_image_file(s, &f->image, MACHINE_HOME);
		return f->home_base ? 0
				    : error_set(err, EBADMSG, "image '%s': its second disk is missing", spec->image);
	}
	r = image_find(s, spec->home_digest, &blank, err);
	if (r >= 0) {
		f->home_base = image_disk_path(s, &blank);
		f->home_format = streq(blank.format, "raw") ? "raw" : "qcow2";
	}
	return r;
}

static int gather_blank(const struct store *s, const struct machine_spec *spec, struct plan_facts *f, struct error *err)
{
	_cleanup_(image_meta_done) struct image_meta blank = {};
	int r = image_find(s, spec->blank_digest, &blank, err);

	if (r < 0)
		return r;
	if (!blank.format || !streq(blank.format, "raw"))
		return error_set(err, EBADMSG, "image %.19s: not the blank file system that machine '%s' has",
				 spec->blank_digest, spec->name);
	f->blank_disk = image_disk_path(s, &blank);
	return 0;
}

static int gather_publish(const struct machine_spec *spec, struct plan_facts *f, struct error *err)
{
	bool ssh = false;

	f->publish = xnew_n(struct net_publish, spec->publish.n + 1);
	for (size_t i = 0; i < spec->publish.n; i++) {
		struct net_publish *p = &f->publish[i];
		int r = net_publish_parse(spec->publish.items[i], p, err);

		if (r < 0)
			return r;
		ssh = ssh || (p->guest_port == SSH_PORT && !p->udp);
		f->n_publish++;
	}
	/* Without an agent the way in is the network: some port of this host's loopback. */
	if (f->image.boot == IMAGE_BOOT_FIRMWARE && f->image.ssh && !ssh && streq(spec->net, "user"))
		f->publish[f->n_publish++] = (struct net_publish){ .ip = "127.0.0.1", .guest_port = SSH_PORT };
	return 0;
}

int plan_image(const struct store *s, const struct machine_spec *spec, struct image_meta *ret, struct error *err)
{
	if (!spec->draft) {
		/* A machine that writes beside its image has a read-only one below it. */
		const char *fstype = spec->blank_digest ? "erofs" : "ext4";
		int r = image_find(s, spec->image_digest, ret, err);

		if (r < 0 || !ret->fstype || streq(ret->fstype, fstype))
			return r;
		image_meta_done(ret);
		return image_meta_read_kind(s, spec->image_digest, fstype, ret, err);
	}
	*ret = (struct image_meta){
		.boot = IMAGE_BOOT_FIRMWARE,
		.init = IMAGE_INIT_SYSTEM,
		.default_memory_bytes = DRAFT_MEMORY,
	};
	return 0;
}

/* An image may come from where the firmware is built otherwise. */
static bool fits_firmware(const char *variables, const char *template)
{
	struct stat own, theirs;

	return stat(variables, &own) == 0 && stat(template, &theirs) == 0 && own.st_size == theirs.st_size;
}

int plan_facts_gather(const struct store *s, const struct machine_spec *spec, struct plan_facts *f, struct error *err)
{
	int r;

	*f = (struct plan_facts){ .engine = engine_find("qemu") };
	r = f->engine->find_program(&f->program, err);
	if (r >= 0)
		r = plan_image(s, spec, &f->image, err);
	if (r >= 0 && spec->home_digest)
		r = gather_home(s, spec, f, err);
	if (r >= 0 && spec->blank_digest)
		r = gather_blank(s, spec, f, err);
	if (r >= 0 && f->image.boot == IMAGE_BOOT_FIRMWARE)
		r = firmware_find((enum firmware_kind)spec->firmware, &f->firmware_path, &f->firmware_variables, err);
	else if (r >= 0)
		r = gather_kernel(s, spec, f, err);
	if (r >= 0)
		r = gather_accel(s, spec, f, err);
	if (r < 0)
		return r;
	if (!spec->draft)
		f->image_disk = image_disk_path(s, &f->image);
	if (f->firmware_variables && spec->firmware == FIRMWARE_UEFI) {
		/* Those of an installed image know where its boot loader is. */
		_cleanup_free_ char *own = plan_image_file(s, &f->image, MACHINE_NVRAM);

		if (own && fits_firmware(own, f->firmware_variables)) {
			free(f->firmware_variables);
			f->firmware_variables = TAKE_PTR(own);
		}
	}
	f->machine_dir = xasprintf("%s/machines/%s", s->home_path, spec->name);
	f->run_dir = xasprintf("%s/%s", s->run_path, spec->name);
	/* Of a kernel from elsewhere it is not known whether it has vsock. */
	if ((f->kernel.built || f->kernel.modular) && vsock_usable(NULL))
		f->vsock_cid = vsock_candidate(spec->id, 0);
	return gather_publish(spec, f, err);
}

void plan_done(struct plan *p)
{
	engine_plan_done(&p->exec);
	guest_interfaces_done(&p->taken);
	net_plan_done(&p->net_plan);
	*p = (struct plan){};
}

const char *machine_nvram_file(const struct machine_spec *spec)
{
	return spec->firmware == FIRMWARE_SECURE ? MACHINE_NVRAM_SECURE : MACHINE_NVRAM;
}

/* Paths of the machine's own disks, which struct engine_disk only borrows. */
struct disk_paths {
	char *system, *home, *seed, *answers;
};

static void disk_paths_done(struct disk_paths *d)
{
	free(d->system);
	free(d->home);
	free(d->seed);
	free(d->answers);
}

enum { DISKS_MAX = 6 };

static struct engine_disk read_only_raw(const char *id, const char *path)
{
	return (struct engine_disk){ .id = id, .path = path, .format = "raw", .read_only = true };
}

/* In the order in which the guest sees them. Returns how many. */
static size_t plan_disks(const struct machine_spec *spec, const struct plan_facts *f, const struct plan *p,
			 struct disk_paths *paths, struct engine_disk disks[DISKS_MAX])
{
	const char *image_format = f->image.format ? f->image.format : "raw";
	size_t n = 0;

	paths->system = xasprintf("%s/system.qcow2", f->machine_dir);
	paths->home = xasprintf("%s/home.qcow2", f->machine_dir);
	paths->seed = xasprintf("%s/" MACHINE_SEED, f->machine_dir);
	paths->answers = xasprintf("%s/" MACHINE_ANSWERS, f->machine_dir);
	disks[n++] = (struct engine_disk){ .id = "system",
					   .path = paths->system,
					   .format = "qcow2",
					   .backing_path = f->blank_disk ? f->blank_disk : f->image_disk,
					   .backing_format = f->blank_disk ? "raw" : image_format };
	if (f->home_base || (spec->draft && spec->home_bytes))
		disks[n++] = (struct engine_disk){ .id = "home",
						   .path = paths->home,
						   .format = "qcow2",
						   .backing_path = f->home_base,
						   .backing_format = f->home_format ? f->home_format : "raw" };
	if (f->blank_disk)
		disks[n++] = (struct engine_disk){
			.id = "image", .path = f->image_disk, .format = image_format, .read_only = true
		};
	if (p->seed)
		disks[n++] = read_only_raw("seed", paths->seed);
	if (spec->answers)
		disks[n++] = read_only_raw("answers", paths->answers);
	if (spec->installer) {
		disks[n] = read_only_raw("installer", spec->installer);
		disks[n++].cdrom = true;
	}
	return n;
}

static int plan_network(const struct machine_spec *spec, const struct plan_facts *f, struct plan *p,
			struct engine_nic *nic, struct error *err)
{
	int r;

	if (!p->net)
		return error_set_kind(err, ERROR_CONFIG, EINVAL, "net '%s': no such mode", spec->net);
	p->net_request = (struct net_request){ .machine_id = spec->id,
					       .publish = f->publish,
					       .n_publish = f->n_publish,
					       .forwards = spec->forwards,
					       .kept_port = (uint16_t)spec->kept_port,
					       .guest_dhcp = p->firmware,
					       .run_dir = f->run_dir,
					       .log_fd = -1 };
	r = p->net->plan(&p->net_request, &p->net_plan, err);
	if (r < 0)
		return r;
	/* Whoever is named is asked, instead of whom the network would name. */
	if (spec->dns.n) {
		strv_done(&p->net_plan.dns);
		p->net_plan.dns = (struct strv){};
		strv_copy(&p->net_plan.dns, &spec->dns);
	}
	if (spec->dns_search.n) {
		strv_done(&p->net_plan.search);
		p->net_plan.search = (struct strv){};
		strv_copy(&p->net_plan.search, &spec->dns_search);
	}
	if (p->net_plan.kind == NET_ATTACH_TAP) {
		guest_interfaces_make(&p->net_plan.taken, &p->taken);
		return 0;
	}
	*nic = (struct engine_nic){
		.mac = p->net_plan.mac,
		.kind = p->net_plan.kind == NET_ATTACH_STREAM ? NIC_STREAM : NIC_USER,
		.host_forwards = (const char *const *)p->net_plan.host_forwards.items,
		.n_host_forwards = p->net_plan.host_forwards.n,
	};
	return 0;
}

/* What struct engine_share only borrows. */
struct share_plans {
	struct share shares[SHARES_MAX];
	char *tags[SHARES_MAX];
	struct engine_share engine[SHARES_MAX];
	size_t n;
};

static void share_plans_done(struct share_plans *p)
{
	for (size_t i = 0; i < p->n; i++) {
		share_done(&p->shares[i]);
		free(p->tags[i]);
	}
}

static int plan_shares(const struct machine_spec *spec, struct share_plans *p, struct error *err)
{
	if (spec->shares.n > SHARES_MAX)
		return error_set_kind(err, ERROR_CONFIG, E2BIG, "shares: %zu are more than the %d that are possible",
				      spec->shares.n, SHARES_MAX);
	for (; p->n < spec->shares.n; p->n++) {
		int r = share_parse(spec->shares.items[p->n], &p->shares[p->n], err);

		if (r < 0)
			return r;
		p->tags[p->n] = share_tag((unsigned)p->n);
		p->engine[p->n] = (struct engine_share){ .tag = p->tags[p->n],
							 .path = p->shares[p->n].source,
							 .read_only = p->shares[p->n].read_only };
	}
	return 0;
}

int plan_make(const struct machine_spec *spec, const struct plan_facts *f, struct plan *p, struct error *err)
{
	_cleanup_(disk_paths_done) struct disk_paths paths = {};
	_cleanup_free_ char *nvram_path = xasprintf("%s/%s", f->machine_dir, machine_nvram_file(spec));
	_cleanup_(share_plans_done) struct share_plans shares = {};
	_cleanup_free_ char *uuid = NULL;
	struct engine_disk disks[DISKS_MAX];
	struct engine_nic nic = {};
	struct engine_request req;
	size_t n_disks;
	int r;

	*p = (struct plan){ .shape = (enum engine_shape)spec->shape, .net = net_mode_find(spec->net) };
	p->firmware = f->image.boot == IMAGE_BOOT_FIRMWARE;
	/* Firmware is q35's. The distribution's kernel finds virtio devices through PCI (or ACPI) only, and micro has neither. */
	if (p->firmware || f->kernel.modular)
		p->shape = SHAPE_FULL;
	/* A draft is told by its answers, and nobody logs in to it by itself. */
	p->seed = p->firmware && !spec->draft;
	p->memory_bytes = spec->memory_bytes              ? spec->memory_bytes
			  : f->image.default_memory_bytes ? f->image.default_memory_bytes
							  : UINT64_C(512) << 20;
	/* "1.3G" is no whole number of them. */
	p->memory_bytes -= p->memory_bytes % (UINT64_C(1) << 20);
	n_disks = plan_disks(spec, f, p, &paths, disks);
	r = plan_network(spec, f, p, &nic, err);
	if (r >= 0)
		r = plan_shares(spec, &shares, err);
	if (r < 0)
		return r;
	uuid = xasprintf("%.8s-%.4s-%.4s-%.4s-%.12s", spec->id, spec->id + 8, spec->id + 12, spec->id + 16,
			 spec->id + 20);
	req = (struct engine_request){
		.name = spec->name,
		.uuid = uuid,
		.shape = p->shape,
		.accel = f->accel,
		.cpu_model = f->cpu_model[0] ? f->cpu_model : NULL,
		.cpus = (uint32_t)spec->cpus,
		.tsc_khz = f->tsc_khz,
		.memory_bytes = p->memory_bytes,
		.kernel_path = f->kernel_path,
		.initrd_path = f->initrd_path,
		.kernel_modular = f->kernel.modular,
		.firmware = (enum firmware_kind)spec->firmware,
		.firmware_path = f->firmware_path,
		.nvram_path = p->firmware ? nvram_path : NULL,
		.disks = disks,
		.n_disks = n_disks,
		.nics = p->taken.n ? p->taken.nics : &nic,
		.n_nics = net_plan_nics(&p->net_plan),
		.shares = shares.engine,
		.n_shares = shares.n,
		.run_dir = f->run_dir,
		.vsock_cid = f->vsock_cid,
		.display = spec->display,
		.sandbox = true,
		.extra_args = &spec->engine_args,
	};
	p->vsock_cid = req.vsock_cid;
	r = f->engine->plan(&req, f->program, &p->exec, req.vsock_cid || req.n_nics > 1 ? NULL : err);
	if (r < 0 && req.vsock_cid) {
		/* It is one device more, and micro has few places. */
		p->vsock_cid = req.vsock_cid = 0;
		r = f->engine->plan(&req, f->program, &p->exec, req.n_nics > 1 ? NULL : err);
	}
	if (r < 0 && req.n_nics > 1) {
		/* How many networks there are is not for the machine's owner to choose. */
		p->shape = req.shape = SHAPE_FULL;
		p->vsock_cid = req.vsock_cid = f->vsock_cid;
		r = f->engine->plan(&req, f->program, &p->exec, err);
	}
	return r;
}

static struct json *strings_json(const struct strv *v)
{
	struct json *a = json_array();

	for (size_t i = 0; i < v->n; i++)
		json_append_string(a, v->items[i]);
	return a;
}

static struct json *taken_json(const struct net_takeover *t)
{
	struct json *a = json_array();

	for (size_t i = 0; i < t->n; i++) {
		struct json *o = json_object();

		json_set_string(o, "name", t->nics[i].name);
		json_set_string(o, "mac", t->nics[i].mac);
		json_set(o, "addresses", strings_json(&t->nics[i].addresses));
		json_set_string(o, "gateway", t->nics[i].gateway);
		json_set_string(o, "gateway6", t->nics[i].gateway6);
		json_set_u64(o, "mtu", t->nics[i].mtu);
		json_append(a, o);
	}
	return a;
}

struct json *plan_json(const struct machine_spec *spec, const struct plan_facts *f, const struct plan *p)
{
	static const char *const kinds[] = {
		[ENGINE_FD_OPEN] = "open",          [ENGINE_FD_LISTEN] = "listen",
		[ENGINE_FD_BOOT] = "boot-config",   [ENGINE_FD_NIC] = "network",
		[ENGINE_FD_SHARE] = "share",        [ENGINE_FD_VHOST_VSOCK] = "vhost-vsock",
		[ENGINE_FD_DIRECTORY] = "directory"
	};
	struct json *o = json_object(), *fds = json_array(), *net = json_object();

	json_set_string(o, "machine", spec->name);
	json_set_string(o, "engine", f->engine->name);
	json_set_string(o, "shape", engine_shape_name(p->shape));
	json_set_string(o, "accel", accel_name(f->accel));
	if (f->accel_why)
		json_set_string(o, "accel_why", f->accel_why);
	if (p->firmware)
		json_set_string(o, "firmware", f->firmware_path);
	else
		json_set_string(o, "kernel", f->kernel.name);
	json_set_u64(o, "memory_bytes", p->memory_bytes);
	json_set(o, "argv", strings_json(&p->exec.argv));
	for (size_t i = 0; i < p->exec.n_fds; i++) {
		const struct engine_fd *fd = &p->exec.fds[i];
		struct json *e = json_object();

		json_set_u64(e, "number", (uint64_t)fd->number);
		json_set_string(e, "kind", kinds[fd->kind]);
		if (fd->path)
			json_set_string(e, "path", fd->path);
		json_append(fds, e);
	}
	json_set(o, "descriptors", fds);
	json_set_string(net, "mode", p->net->name);
	if (p->net_plan.taken.n) {
		json_set(net, "interfaces", taken_json(&p->net_plan.taken));
	} else {
		json_set_string(net, "mac", p->net_plan.mac);
		json_set(net, "addresses", strings_json(&p->net_plan.addresses));
		json_set_string(net, "gateway", p->net_plan.gateway);
	}
	json_set(net, "dns", strings_json(&p->net_plan.dns));
	if (p->net_plan.helper_argv.n)
		json_set(net, "helper", strings_json(&p->net_plan.helper_argv));
	json_set(o, "network", net);
	return o;
}
