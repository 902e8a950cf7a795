#include "engine/qemu/argv.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "engine/engine.h"
#include "test.h"

#define PROGRAM "/usr/bin/qemu-system-x86_64"

static const struct engine_disk disks[] = {
	{ .id = "system",
	  .path = "/h/machines/web/system.qcow2",
	  .format = "qcow2",
	  .backing_path = "/h/images/disks/ab/disk.raw",
	  .backing_format = "raw" },
	{ .id = "home", .path = "/h/machines/web/home.qcow2", .format = "qcow2" },
	{ .id = "seed", .path = "/h/machines/web/seed,1\n.iso", .format = "raw", .read_only = true },
};
static const char *const forwards[] = { "tcp:127.0.0.1:8080-:80", "udp:0.0.0.0:53-:53" };
static const struct engine_nic nics[] = {
	{ .mac = "02:71:8d:47:0c:86", .kind = NIC_USER, .host_forwards = forwards, .n_host_forwards = 2 },
	{ .mac = "02:71:8d:47:0c:87", .kind = NIC_STREAM },
	{ .mac = "02:71:8d:47:0c:88", .kind = NIC_TAP },
};

static struct engine_request request(void)
{
	return (struct engine_request){
		.name = "web",
		.uuid = "01234567-89ab-cdef-0123-456789abcdef",
		.shape = SHAPE_MICRO,
		.accel = ACCEL_TCG,
		.cpus = 1,
		.memory_bytes = UINT64_C(512) << 20,
		.kernel_path = "/h/kernels/built/vmlinux",
		.initrd_path = "/h/kernels/built/initrd",
		.disks = disks,
		.n_disks = 1,
		.nics = nics,
		.n_nics = 1,
		.run_dir = "/run/skerry/web",
		.sandbox = true,
	};
}

/* One word a line; then the descriptors. */
static char *render(const struct engine_plan *p)
{
	static const char *const kinds[] = { "open", "listen", "boot", "nic", "share", "vhost-vsock", "directory" };
	struct buf b = {};

	for (size_t i = 0; i < p->argv.n; i++)
		buf_addf(&b, "%s\n", p->argv.items[i]);
	for (size_t i = 0; i < p->n_fds; i++) {
		const struct engine_fd *f = &p->fds[i];

		buf_addf(&b, "fd %d %s", f->number, kinds[f->kind]);
		if (f->path)
			buf_addf(&b, " %s", f->path);
		if (f->kind == ENGINE_FD_OPEN)
			buf_addf(&b, " %s", f->flags == O_RDWR ? "rw" : f->flags == O_RDONLY ? "ro" : "?");
		if (f->kind == ENGINE_FD_NIC || f->kind == ENGINE_FD_SHARE)
			buf_addf(&b, " %zu", f->index);
		buf_addc(&b, '\n');
	}
	buf_addf(&b, "power_button %d reboot_powers_off %d\n", p->power_button, p->reboot_powers_off);
	return buf_take(&b);
}

/* SKERRY_GOLDEN=write renews the files; the difference is then for the eyes of a reviewer. */
static void golden(const struct engine_request *req, const char *name)
{
	_cleanup_free_ char *path = xasprintf(GOLDEN_DIR "/%s.argv", name);
	_cleanup_buf_ struct buf want = {};
	struct engine_plan p = {};
	struct error e = {};
	char *got;

	if (qemu_argv(req, PROGRAM, &p, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s: %s", name, e.msg);
	got = render(&p);
	engine_plan_done(&p);
	if (getenv("SKERRY_GOLDEN")) {
		ASSERT_OK(file_write_at(AT_FDCWD, path, got, strlen(got), 0644, 0));
	} else {
		ASSERT_OK(file_read_at(AT_FDCWD, path, 1 << 20, &want));
		ASSERT_STREQ(got, want.p);
	}
	free(got);
}

TEST(micro_emulated_with_the_built_kernel)
{
	struct engine_request r = request();

	r.tsc_khz = 2596134;
	golden(&r, "micro-tcg-built");
}

TEST(what_an_emulating_engine_keeps_of_its_translations)
{
	static const struct {
		uint64_t memory_mib, limit_mib;
		const char *expected;
	} cases[] = {
		{ 64, 0, "tcg,thread=multi,tb-size=32" },    { 512, 0, "tcg,thread=multi,tb-size=128" },
		{ 8192, 0, "tcg,thread=multi,tb-size=256" }, { 8192, 32, "tcg,thread=multi,tb-size=32" },
		{ 512, 1, "tcg,thread=multi,tb-size=32" },   { 8192, 4096, "tcg,thread=multi,tb-size=256" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_(engine_plan_done) struct engine_plan plan = {};
		struct engine_request r = request();
		bool found = false;

		r.memory_bytes = cases[i].memory_mib << 20;
		r.translations_bytes = cases[i].limit_mib << 20;
		ASSERT_OK(qemu_argv(&r, PROGRAM, &plan, NULL));
		for (size_t k = 0; k < plan.argv.n; k++)
			found = found || streq(plan.argv.items[k], cases[i].expected);
		ASSERT(found);
	}
}

TEST(micro_with_kvm_two_disks_and_a_stream)
{
	struct engine_request r = request();

	r.accel = ACCEL_KVM;
	r.cpu_model = "host,-arch-capabilities";
	r.cpus = 2;
	r.n_disks = 2;
	r.nics = &nics[1];
	golden(&r, "micro-kvm-built-stream");
}

TEST(micro_with_a_modular_kernel_learns_of_devices_by_acpi)
{
	struct engine_request r = request();

	r.kernel_modular = true;
	r.n_nics = 0;
	golden(&r, "micro-tcg-modular");
}

TEST(full_emulated_with_every_kind_of_disk_and_nic)
{
	struct engine_request r = request();

	r.shape = SHAPE_FULL;
	r.cpus = 6;
	r.memory_bytes = UINT64_C(4) << 30;
	r.n_disks = 3;
	r.n_nics = 3;
	r.command_line = "skerry.debug=1 root=/dev/vda";
	golden(&r, "full-tcg-built");
}

TEST(full_with_kvm_a_modular_kernel_vsock_and_shared_memory)
{
	struct engine_request r = request();

	r.shape = SHAPE_FULL;
	r.accel = ACCEL_KVM;
	r.cpu_model = "host";
	r.kernel_modular = true;
	r.shared_memory = true;
	r.vsock_cid = 42;
	golden(&r, "full-kvm-modular-vsock");
}

TEST(full_emulated_with_a_modular_kernel)
{
	struct engine_request r = request();

	r.shape = SHAPE_FULL;
	r.kernel_modular = true;
	golden(&r, "full-tcg-modular");
}

TEST(full_without_a_kernel_boots_the_first_disk)
{
	struct engine_request r = request();

	r.shape = SHAPE_FULL;
	r.kernel_path = r.initrd_path = NULL;
	r.firmware_path = "/usr/share/OVMF/OVMF_CODE_4M.fd";
	r.nvram_path = "/h/machines/web/nvram";
	golden(&r, "full-tcg-firmware");
}

static void refused(const struct engine_request *req, const char *part);

TEST(a_directory_can_be_served_by_the_engine)
{
	static const struct engine_share by_engine[] = { { .tag = "share:0", .path = "/a,b" },
							 { .tag = "share:1", .path = "/c", .read_only = true } };
	struct engine_share bad = { .tag = "share:0", .path = "relative" };
	struct strv more = {};
	struct engine_request r = request();

	strv_add(&more, "-device");
	strv_add(&more, "x y");
	r.shares = by_engine;
	r.n_shares = 2;
	r.extra_args = &more;
	golden(&r, "micro-tcg-9p");
	r.shares = &bad;
	r.n_shares = 1;
	refused(&r, "its directory cannot be handed to QEMU");
	strv_done(&more);
}

TEST(bios_and_secure_boot_are_asked_for)
{
	struct engine_request r = request();

	r.shape = SHAPE_FULL;
	r.kernel_path = r.initrd_path = NULL;
	r.firmware = FIRMWARE_SECURE;
	r.firmware_path = "/usr/share/OVMF/OVMF_CODE_4M.ms.fd";
	r.nvram_path = "/h/machines/web/nvram-secure";
	golden(&r, "full-tcg-secure");
	r.firmware = FIRMWARE_BIOS;
	r.firmware_path = "/usr/share/seabios/bios-256k.bin";
	r.nvram_path = NULL;
	golden(&r, "full-tcg-bios");
}

TEST(firmware_tries_the_disk_and_then_the_installer)
{
	static const struct engine_disk with_cds[] = {
		{ .id = "system", .path = "/d/system.qcow2", .format = "qcow2" },
		{ .id = "home", .path = "/d/home.qcow2", .format = "qcow2" },
		{ .id = "installer", .path = "/i/x.iso", .format = "raw", .read_only = true, .cdrom = true },
		{ .id = "answers", .path = "/d/answers.iso", .format = "raw", .read_only = true, .cdrom = true },
	};
	struct engine_request r = request();

	r.shape = SHAPE_FULL;
	r.kernel_path = r.initrd_path = NULL;
	r.firmware_path = "/usr/share/OVMF/OVMF_CODE_4M.fd";
	r.nvram_path = "/h/machines/web/nvram";
	r.disks = with_cds;
	r.n_disks = 4;
	golden(&r, "full-tcg-installer");
}

TEST(a_display_is_there_when_asked_for)
{
	struct engine_request r = request();

	r.shape = SHAPE_FULL;
	r.kernel_path = r.initrd_path = NULL;
	r.firmware_path = "/usr/share/OVMF/OVMF_CODE_4M.fd";
	r.nvram_path = "/h/machines/web/nvram";
	r.display = true;
	golden(&r, "full-tcg-display");
}

static void refused(const struct engine_request *req, const char *part)
{
	struct engine_plan p = {};
	struct error e = {};

	if (qemu_argv(req, PROGRAM, &p, &e) >= 0)
		test_fail(__FILE__, __LINE__, "not refused: %s", part);
	ASSERT_EQ(e.num, EINVAL);
	ASSERT_EQ(e.kind, ERROR_CONFIG);
	ASSERT_CONTAINS(e.msg, part);
	ASSERT_EQ(p.argv.n, 0);
	error_done(&e);
	ASSERT_EQ(qemu_argv(req, PROGRAM, &p, NULL), -EINVAL);
}

TEST(firmware_and_cd_drives_need_what_they_need)
{
	struct engine_disk cd = { .id = "cd", .path = "/x.iso", .format = "raw", .cdrom = true };
	struct engine_request r = request();

	r.shape = SHAPE_FULL;
	r.kernel_path = r.initrd_path = NULL;
	refused(&r, "firmware and its variables need absolute paths");
	r.firmware_path = "/fw";
	r.nvram_path = "vars";
	refused(&r, "firmware and its variables need absolute paths");
	r = request();
	r.disks = &cd;
	refused(&r, "a CD is raw and read-only");
	cd.read_only = true;
	refused(&r, "shape micro has no CD drive");
}

TEST(micro_refuses_a_ninth_device_and_names_full)
{
	struct engine_disk many[6];
	struct engine_request r = request();
	struct engine_plan p = {};
	struct error e = {};
	char ids[6][8];

	for (int i = 0; i < 6; i++) {
		snprintf(ids[i], sizeof(ids[i]), "d%d", i);
		many[i] = (struct engine_disk){ .id = ids[i], .path = "/d", .format = "raw" };
	}
	r.disks = many;
	r.n_disks = 4;
	ASSERT_OK(qemu_argv(&r, PROGRAM, &p, NULL));
	engine_plan_done(&p);
	r.n_disks = 5;
	refused(&r, "9");
	ASSERT_EQ(qemu_argv(&r, PROGRAM, &p, &e), -EINVAL);
	ASSERT_CONTAINS(e.hint, "full");
	error_done(&e);
	r.n_disks = 4;
	r.vsock_cid = 3;
	refused(&r, "slots");
	r.shape = SHAPE_FULL;
	r.n_disks = 6;
	ASSERT_OK(qemu_argv(&r, PROGRAM, &p, NULL));
	engine_plan_done(&p);
}

TEST(interfaces_taken_over_are_several_with_addresses_and_mtu_on_both_shapes)
{
	static const struct engine_nic taken[] = {
		{ .mac = "02:42:ac:11:00:02", .kind = NIC_TAP, .mtu = 1450 },
		{ .mac = "0a:58:0a:f4:00:05", .kind = NIC_TAP, .mtu = 9000 },
	};
	struct engine_request r = request();

	r.nics = taken;
	r.n_nics = 2;
	golden(&r, "micro-tcg-taps");
	r.shape = SHAPE_FULL;
	golden(&r, "full-tcg-taps");
	r.nics = (const struct engine_nic[]){ taken[0], { .mac = "02:42:AC:11:00:02", .kind = NIC_TAP } };
	refused(&r, "twice");
	r.n_nics = 1;
	r.nics = (const struct engine_nic[]){ { .mac = "02:42:ac:11:00:02", .kind = NIC_TAP, .mtu = 67 } };
	refused(&r, "MTU");
	r.nics = (const struct engine_nic[]){ { .mac = "02:42:ac:11:00:02", .kind = NIC_TAP, .mtu = 65536 } };
	refused(&r, "MTU");
}

TEST(directories_of_the_host_are_shared_on_both_shapes)
{
	static const struct engine_share shares[] = { { "root" }, { "more" } };
	struct engine_request r = request();

	r.n_disks = 0;
	r.n_nics = 0;
	r.shares = shares;
	r.n_shares = 2;
	refused(&r, "shared memory");
	r.shared_memory = true;
	golden(&r, "micro-tcg-shares");
	r.shape = SHAPE_FULL;
	golden(&r, "full-tcg-shares");
	r.shares = (const struct engine_share[]){ { "a,b" } };
	r.n_shares = 1;
	refused(&r, "tag");
	r.shares = (const struct engine_share[]){ { "a" }, { "a" } };
	r.n_shares = 2;
	refused(&r, "twice");
}

TEST(processors_that_are_not_started_are_there)
{
	static const enum engine_shape shapes[] = { SHAPE_MICRO, SHAPE_FULL };
	struct engine_request r = request();

	r.cpus = 4;
	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++)
		for (uint32_t start = 0; start <= 4; start += 2) {
			struct engine_plan p = {};
			_cleanup_free_ char *text = NULL;

			r.shape = shapes[i];
			r.start_cpus = start;
			ASSERT_OK(qemu_argv(&r, PROGRAM, &p, NULL));
			text = render(&p);
			engine_plan_done(&p);
			ASSERT_CONTAINS(text, "-smp\n4\n");
			ASSERT_EQ(strstr(text, " maxcpus=2") != NULL, start == 2);
			ASSERT_EQ(strstr(text, "maxcpus") != NULL, start == 2);
		}
	r.start_cpus = 5;
	refused(&r, "cpus");
}

TEST(grace_periods_are_expedited_where_several_processors_pass_through_them)
{
	struct engine_request r = request();

	for (r.cpus = 1; r.cpus <= 32; r.cpus *= 2) {
		struct engine_plan p = {};
		_cleanup_free_ char *text = NULL;

		ASSERT_OK(qemu_argv(&r, PROGRAM, &p, NULL));
		text = render(&p);
		engine_plan_done(&p);
		ASSERT_EQ(strstr(text, " rcupdate.rcu_expedited=1") != NULL, r.cpus > 1 && r.cpus <= 16);
	}
}

TEST(values_that_cannot_be_represented_are_refused)
{
	struct engine_request r = request();
	struct engine_disk d = disks[0];
	struct engine_nic n = nics[0];
	const char *const bad_forward[] = { "tcp:127.0.0.1:1-:1,restrict=off" };
	const struct engine_request good = r;

	r.name = "a,process=b";
	refused(&r, "name");
	r.name = "a\nb";
	refused(&r, "name");
	r.name = "";
	refused(&r, "name");
	r = good;
	r.uuid = "01234567-89ab-cdef-0123-456789abcdeg";
	refused(&r, "UUID");
	r.uuid = NULL;
	refused(&r, "UUID");
	r = good;
	r.display = true;
	refused(&r, "shape micro has no display");
	r = good;
	r.accel = ACCEL_AUTO;
	refused(&r, "accelerator");
	r = good;
	r.cpus = 0;
	refused(&r, "cpus");
	r.cpus = 256;
	refused(&r, "cpus");
	r = good;
	r.memory_bytes = (512u << 20) + 1;
	refused(&r, "memory");
	r.memory_bytes = 0;
	refused(&r, "memory");
	r = good;
	r.kernel_path = NULL;
	refused(&r, "kernel");
	r = good;
	r.shape = SHAPE_FULL;
	r.kernel_path = NULL;
	refused(&r, "initrd");
	r = good;
	r.kernel_path = "vmlinux";
	refused(&r, "absolute");
	r = good;
	r.command_line = "a\nb";
	refused(&r, "control character");
	r.command_line = "a=b  -- c";
	refused(&r, "--");
	r = good;
	r.disks = &d;
	d.id = "System";
	refused(&r, "id");
	d.id = "a-name-of-21-characte";
	refused(&r, "id");
	d.id = "a,b";
	refused(&r, "id");
	d = disks[0];
	d.format = "vmdk";
	refused(&r, "vmdk");
	d = disks[0];
	d.path = "system.qcow2";
	refused(&r, "absolute");
	d = disks[0];
	d.format = "raw";
	refused(&r, "qcow2");
	d = disks[0];
	d.backing_format = NULL;
	refused(&r, "backing");
	r = good;
	r.nics = &n;
	n.mac = "02:00:00:00:00:0g";
	refused(&r, "MAC");
	n = nics[0];
	n.host_forwards = bad_forward;
	n.n_host_forwards = 1;
	refused(&r, "forward");
	r = good;
	r.disks = (const struct engine_disk[]){ disks[0], disks[0] };
	r.n_disks = 2;
	refused(&r, "twice");
}

TEST(qemu_opens_nothing_by_a_path_of_ours)
{
	struct engine_request r = request();
	struct engine_plan p = {};

	r.shape = SHAPE_FULL;
	r.n_disks = 3;
	r.n_nics = 3;
	ASSERT_OK(qemu_argv(&r, PROGRAM, &p, NULL));
	for (size_t i = 1; i < p.argv.n; i++) {
		ASSERT(!strstr(p.argv.items[i], "/h/"));
		ASSERT(!strstr(p.argv.items[i], "/run/"));
	}
	for (size_t i = 0; i < p.n_fds; i++)
		ASSERT_EQ(p.fds[i].number, 10 + (int)i);
	engine_plan_done(&p);
}
