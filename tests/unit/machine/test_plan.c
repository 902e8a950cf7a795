#include "machine/plan.h"

#include "agent.pb-c.h"
#include "disk/seed.h"
#include "plan_sample.h"
#include "test.h"

static Skerry__Agent__V1__BootConfig *boot_config(const struct machine_spec *spec, const struct plan_facts *f)
{
	_cleanup_(boot_secrets_done) struct boot_secrets secrets = { .token = "0123456789abcde", .realtime_ns = 42 };
	_cleanup_plan_ struct plan p = {};
	_cleanup_buf_ struct buf packed = {};
	Skerry__Agent__V1__BootConfig *c;

	buf_adds(&secrets.host_key, "PRIVATE");
	secrets.client_key = xstrdup("ssh-ed25519 AAAA skerry");
	ASSERT_OK(plan_make(spec, f, &p, NULL));
	plan_boot_config(spec, f, &p, &secrets, &packed);
	c = skerry__agent__v1__boot_config__unpack(NULL, packed.len, (const uint8_t *)packed.p);
	ASSERT(c != NULL);
	return c;
}

TEST(equal_input_gives_equal_plans)
{
	_cleanup_spec_ struct machine_spec spec = {};
	_cleanup_facts_ struct plan_facts facts = {};
	_cleanup_plan_ struct plan a = {}, b = {};
	_cleanup_json_ struct json *ja = NULL, *jb = NULL;
	_cleanup_buf_ struct buf ta = {}, tb = {};

	sample_spec(&spec);
	sample_facts(&facts);
	ASSERT_OK(plan_make(&spec, &facts, &a, NULL));
	ASSERT_OK(plan_make(&spec, &facts, &b, NULL));
	ja = plan_json(&spec, &facts, &a);
	jb = plan_json(&spec, &facts, &b);
	json_render(ja, true, &ta);
	json_render(jb, true, &tb);
	ASSERT_STREQ(ta.p, tb.p);
	ASSERT_CONTAINS(ta.p, "\"shape\": \"micro\"");
	ASSERT_CONTAINS(ta.p, "00112233-4455-6677-8899-aabbccddeeff");
}

TEST(a_modular_kernel_gets_a_shape_that_it_finds_devices_on)
{
	_cleanup_spec_ struct machine_spec spec = {};
	_cleanup_facts_ struct plan_facts facts = {};
	_cleanup_plan_ struct plan p = {};

	sample_spec(&spec);
	sample_facts(&facts);
	facts.kernel.modular = true;
	ASSERT_OK(plan_make(&spec, &facts, &p, NULL));
	ASSERT_EQ(p.shape, SHAPE_FULL);
}

TEST(over_vsock_the_agent_dials_the_port_of_its_address)
{
	_cleanup_spec_ struct machine_spec spec = {};
	_cleanup_facts_ struct plan_facts facts = {};
	_cleanup_plan_ struct plan p = {};
	_cleanup_json_ struct json *j = NULL;
	_cleanup_buf_ struct buf text = {};
	Skerry__Agent__V1__BootConfig *c;

	sample_spec(&spec);
	sample_facts(&facts);
	c = boot_config(&spec, &facts);
	ASSERT_EQ(c->vsock_port, 0);
	skerry__agent__v1__boot_config__free_unpacked(c, NULL);
	facts.vsock_cid = 777777;
	c = boot_config(&spec, &facts);
	ASSERT_EQ(c->vsock_port, 777777);
	skerry__agent__v1__boot_config__free_unpacked(c, NULL);
	ASSERT_OK(plan_make(&spec, &facts, &p, NULL));
	ASSERT_EQ(p.vsock_cid, 777777);
	j = plan_json(&spec, &facts, &p);
	json_render(j, true, &text);
	ASSERT_CONTAINS(text.p, "\"vhost-vsock\"");
	ASSERT_CONTAINS(text.p, "\\\"guest-cid\\\":777777");
	ASSERT(!strstr(text.p, "agent.sock"));
}

TEST(where_a_micro_machine_has_no_place_for_vsock_the_agent_has_a_port)
{
	_cleanup_spec_ struct machine_spec spec = {};
	_cleanup_facts_ struct plan_facts facts = {};
	_cleanup_plan_ struct plan p = {};
	char iso[] = "/i/x.iso";

	sample_spec(&spec);
	sample_facts(&facts);
	facts.vsock_cid = 777777;
	facts.home_base = xstrdup("/i/blank");
	facts.blank_disk = xstrdup("/i/blank");
	spec.answers = true;
	ASSERT_OK(plan_make(&spec, &facts, &p, NULL));
	ASSERT_EQ(p.vsock_cid, 0);
	plan_done(&p);
	spec.answers = false;
	ASSERT_OK(plan_make(&spec, &facts, &p, NULL));
	ASSERT_EQ(p.vsock_cid, 777777);
	plan_done(&p);
	/* What fits neither way is refused with the reason. */
	spec.installer = iso;
	spec.answers = true;
	ASSERT(plan_make(&spec, &facts, &p, NULL) < 0);
	spec.installer = NULL;
}

static void make_firmware_facts(struct plan_facts *f)
{
	sample_facts(f);
	f->image.boot = IMAGE_BOOT_FIRMWARE;
	free(f->image.format);
	f->image.format = xstrdup("qcow2");
	f->image.user = xstrdup("dev");
	f->image.ssh = true;
	free(f->image_disk);
	f->image_disk = xstrdup("/i/disk.qcow2");
	free(f->kernel_path);
	free(f->initrd_path);
	free(f->kernel.name);
	f->kernel_path = f->initrd_path = f->kernel.name = NULL;
	f->firmware_path = xstrdup("/fw/code");
	f->firmware_variables = xstrdup("/fw/vars");
}

TEST(an_image_that_boots_by_itself_gets_firmware_and_a_seed)
{
	_cleanup_spec_ struct machine_spec spec = {};
	_cleanup_facts_ struct plan_facts facts = {};
	_cleanup_plan_ struct plan p = {};
	_cleanup_json_ struct json *j = NULL;
	_cleanup_buf_ struct buf text = {};

	sample_spec(&spec);
	make_firmware_facts(&facts);
	ASSERT_OK(plan_make(&spec, &facts, &p, NULL));
	ASSERT_EQ(p.shape, SHAPE_FULL);
	ASSERT(p.firmware && p.exec.power_button && !p.exec.reboot_powers_off);
	j = plan_json(&spec, &facts, &p);
	json_render(j, true, &text);
	ASSERT_CONTAINS(text.p, "\"firmware\": \"/fw/code\"");
	ASSERT_CONTAINS(text.p, "\"/m/web/nvram\"");
	ASSERT_CONTAINS(text.p, "\"/m/web/seed.iso\"");
	ASSERT_CONTAINS(text.p, "\"/i/disk.qcow2\"");
	ASSERT(!strstr(text.p, "-kernel"));
	ASSERT(!strstr(text.p, "\"kernel\""));
}

TEST(the_seed_says_what_the_agent_would_be_told)
{
	_cleanup_(boot_secrets_done) struct boot_secrets secrets = {};
	_cleanup_spec_ struct machine_spec spec = {};
	_cleanup_facts_ struct plan_facts facts = {};
	_cleanup_plan_ struct plan p = {};
	struct seed seed = {};

	sample_spec(&spec);
	make_firmware_facts(&facts);
	buf_adds(&secrets.host_key, "PRIVATE");
	buf_adds(&secrets.host_key_public, "PUBLIC");
	secrets.client_key = xstrdup("ssh-ed25519 AAAA skerry");
	strv_add(&spec.ssh_keys, "ssh-ed25519 BBBB me");
	ASSERT_OK(plan_make(&spec, &facts, &p, NULL));
	plan_seed(&spec, &facts, &p, &secrets, NULL, &seed);
	ASSERT_STREQ(seed.hostname, "web");
	ASSERT_STREQ(seed.user, "dev");
	ASSERT_STREQ(seed.authorized_keys.items[0], "ssh-ed25519 BBBB me");
	ASSERT_STREQ(seed.authorized_keys.items[1], "ssh-ed25519 AAAA skerry");
	ASSERT_STREQ(seed.host_key, "PRIVATE");
	ASSERT(!seed.user_data && !seed.home);
	/* User mode answers DHCP, so that the host's name servers are no part of it. */
	ASSERT_EQ(seed.n_interfaces, 1);
	ASSERT_STREQ(seed.interfaces[0].mac, p.net_plan.mac);
	ASSERT_EQ(seed.interfaces[0].addresses.n, 0);
	seed_done(&seed);
	spec.user = xstrdup("ann");
	spec.hostname = xstrdup("harbour");
	secrets.password = xstrdup("$6$salt$hash");
	free(spec.net);
	spec.net = xstrdup("none");
	facts.home_base = xstrdup("/i/blank.raw");
	plan_done(&p);
	ASSERT_OK(plan_make(&spec, &facts, &p, NULL));
	plan_seed(&spec, &facts, &p, &secrets, "#!/bin/sh\n", &seed);
	ASSERT_STREQ(seed.user, "ann");
	ASSERT_STREQ(seed.hostname, "harbour");
	ASSERT_STREQ(seed.password, "$6$salt$hash");
	ASSERT_STREQ(seed.user_data, "#!/bin/sh\n");
	ASSERT_EQ(seed.n_interfaces, 0);
	ASSERT(seed.home);
	seed_done(&seed);
}

TEST(a_read_only_image_is_a_disk_of_its_own)
{
	_cleanup_spec_ struct machine_spec spec = {};
	_cleanup_facts_ struct plan_facts facts = {};
	_cleanup_plan_ struct plan p = {};
	_cleanup_json_ struct json *j = NULL;
	_cleanup_buf_ struct buf text = {};
	Skerry__Agent__V1__BootConfig *c;

	sample_spec(&spec);
	sample_facts(&facts);
	free(facts.image.fstype);
	facts.image.fstype = xstrdup("erofs");
	facts.blank_disk = xstrdup("/i/blank.raw");
	facts.home_base = xstrdup("/i/blank.raw");
	ASSERT_OK(plan_make(&spec, &facts, &p, NULL));
	j = plan_json(&spec, &facts, &p);
	json_render(j, true, &text);
	ASSERT_CONTAINS(text.p, "\"path\": \"/i/disk.raw\"");
	ASSERT_CONTAINS(text.p, "\"path\": \"/i/blank.raw\"");
	c = boot_config(&spec, &facts);
	ASSERT_EQ(c->n_disks, 2);
	ASSERT_STREQ(c->disks[0]->serial, "image");
	ASSERT_STREQ(c->disks[0]->mount, "/");
	ASSERT_STREQ(c->disks[0]->fstype, "erofs");
	ASSERT_STREQ(c->disks[0]->upper, "system");
	ASSERT(c->disks[0]->read_only && c->disks[0]->grow);
	ASSERT_STREQ(c->disks[1]->serial, "home");
	ASSERT_STREQ(c->disks[1]->upper, "");
	skerry__agent__v1__boot_config__free_unpacked(c, NULL);
}

TEST(memory_comes_from_the_spec_then_the_image_then_the_default)
{
	_cleanup_spec_ struct machine_spec spec = {};
	_cleanup_facts_ struct plan_facts facts = {};
	struct plan p = {};

	sample_spec(&spec);
	sample_facts(&facts);
	ASSERT_OK(plan_make(&spec, &facts, &p, NULL));
	ASSERT_EQ(p.memory_bytes, 512 << 20);
	plan_done(&p);
	facts.image.default_memory_bytes = 128 << 20;
	ASSERT_OK(plan_make(&spec, &facts, &p, NULL));
	ASSERT_EQ(p.memory_bytes, 128 << 20);
	plan_done(&p);
	spec.memory_bytes = 96 << 20;
	ASSERT_OK(plan_make(&spec, &facts, &p, NULL));
	ASSERT_EQ(p.memory_bytes, 96 << 20);
	plan_done(&p);
	/* 1.3G */
	spec.memory_bytes = 1395864371;
	ASSERT_OK(plan_make(&spec, &facts, &p, NULL));
	ASSERT_EQ(p.memory_bytes, UINT64_C(1331) << 20);
	plan_done(&p);
}

TEST(no_secret_is_in_the_plan)
{
	_cleanup_spec_ struct machine_spec spec = {};
	_cleanup_facts_ struct plan_facts facts = {};
	_cleanup_plan_ struct plan p = {};

	sample_spec(&spec);
	sample_facts(&facts);
	strv_add(&spec.env, "PASSWORD=hunter2");
	ASSERT_OK(plan_make(&spec, &facts, &p, NULL));
	for (size_t i = 0; i < p.exec.argv.n; i++)
		ASSERT(!strstr(p.exec.argv.items[i], "hunter2"));
}

TEST(the_guest_is_told_what_it_needs)
{
	_cleanup_spec_ struct machine_spec spec = {};
	_cleanup_facts_ struct plan_facts facts = {};
	Skerry__Agent__V1__BootConfig *c;

	sample_spec(&spec);
	sample_facts(&facts);
	strv_add(&spec.ssh_keys, "ssh-ed25519 BBBB user");
	strv_add(&spec.env, "A=b");
	facts.image.ssh = true;
	facts.image.user = xstrdup("dev");
	facts.image.init = IMAGE_INIT_SYSTEM;
	facts.home_base = xstrdup("/i/blank.raw");
	c = boot_config(&spec, &facts);
	ASSERT_STREQ(c->hostname, "web");
	ASSERT_STREQ(c->users[0]->password, "");
	ASSERT_STREQ(c->machine_id, spec.id);
	ASSERT_EQ(c->token.len, 16);
	ASSERT_EQ(c->n_disks, 2);
	ASSERT_STREQ(c->disks[1]->mount, "/home");
	ASSERT_EQ(c->n_interfaces, 1);
	ASSERT_EQ(c->interfaces[0]->n_addresses, 1);
	ASSERT_EQ(c->n_users, 1);
	ASSERT_STREQ(c->users[0]->name, "dev");
	ASSERT(!c->users[0]->create);
	ASSERT_EQ(c->users[0]->n_authorized_keys, 2);
	ASSERT_EQ(c->n_ssh_host_keys, 1);
	ASSERT_STREQ(c->environment[0], "A=b");
	ASSERT_EQ(c->init, SKERRY__AGENT__V1__BOOT_CONFIG__INIT__IMAGE);
	ASSERT(c->reboot_to_power_off);
	skerry__agent__v1__boot_config__free_unpacked(c, NULL);
}

TEST(without_a_network_there_is_no_interface)
{
	_cleanup_spec_ struct machine_spec spec = {};
	_cleanup_facts_ struct plan_facts facts = {};
	Skerry__Agent__V1__BootConfig *c;

	sample_spec(&spec);
	sample_facts(&facts);
	free(spec.net);
	spec.net = xstrdup("none");
	c = boot_config(&spec, &facts);
	ASSERT_EQ(c->n_interfaces, 0);
	ASSERT_EQ(c->n_users, 0);
	skerry__agent__v1__boot_config__free_unpacked(c, NULL);
}
