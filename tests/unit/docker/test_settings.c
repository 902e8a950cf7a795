#include "docker/settings.h"

#include <fcntl.h>

#include "base/clock.h"
#include "base/file.h"
#include "docker/settings_lists.h"
#include "engine/firmware.h"
#include "test.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static const struct settings_host host = { .cpus = 4, .memory_bytes = 8 * GIB };

struct outcome {
	struct settings s;
	struct strv problems;
};

static void outcome_done(struct outcome *o)
{
	settings_done(&o->s);
	strv_done(&o->problems);
}

static void read_from(struct outcome *o, const struct settings_host *h, const char *const *environment)
{
	*o = (struct outcome){};
	settings_read((char *const *)(uintptr_t)environment, h, &o->s, &o->problems);
}

static void assert_problem(const struct outcome *o, const char *name, const char *text)
{
	for (size_t i = 0; i < o->problems.n; i++) {
		const char *rest = after_prefix(o->problems.items[i], name);

		if (rest && *rest == ':') {
			ASSERT_CONTAINS(rest, text);
			return;
		}
	}
	test_fail(__FILE__, __LINE__, "%s: no problem", name);
}

TEST(nothing_has_to_be_said)
{
	_cleanup_(outcome_done) struct outcome o;

	read_from(&o, &host, (const char *const[]){ "PATH=/bin", NULL });
	ASSERT_EQ(o.problems.n, 0);
	ASSERT_EQ(o.s.cpus, 2);
	ASSERT_EQ(o.s.memory_bytes, 2 * GIB);
	ASSERT_EQ(o.s.storage_bytes, 20 * GIB);
	ASSERT_STREQ(o.s.user, "user");
	ASSERT(!o.s.password && !o.s.ssh_keys.n && !o.s.ports.n && !o.s.hostname && !o.s.ephemeral);
	ASSERT_EQ(o.s.stop_ns, 8 * NS_PER_SEC);
}

TEST(the_containers_limits_are_the_machines)
{
	struct settings_host small = { .cpus = 1, .memory_bytes = 512 * MIB, .limited = true, .kvm = true };
	_cleanup_(outcome_done) struct outcome o, p, q, t, all;

	read_from(&o, &small, (const char *const[]){ NULL });
	ASSERT_EQ(o.problems.n, 0);
	ASSERT_EQ(o.s.cpus, 1);
	ASSERT_EQ(o.s.memory_bytes, 320 * MIB);
	read_from(&p, &small, (const char *const[]){ "CPU=2", "MEMORY=1g", NULL });
	ASSERT_EQ(p.problems.n, 2);
	assert_problem(&p, "CPU", "docker run --cpus");
	assert_problem(&p, "MEMORY", "docker run --memory");
	/* Emulation has a cache of its own beside it. */
	read_from(&q, &small, (const char *const[]){ "ACCEL=tcg", NULL });
	ASSERT_EQ(q.s.memory_bytes, 256 * MIB);
	small.kvm = false;
	small.memory_bytes = 4 * GIB;
	read_from(&t, &small, (const char *const[]){ NULL });
	ASSERT_EQ(t.s.memory_bytes, 4 * GIB - 160 * MIB - t.s.relay_bytes - 256 * MIB);
	/* All of it would be ended by the host. */
	read_from(&all, &small, (const char *const[]){ "MEMORY=4g", NULL });
	ASSERT_EQ(all.problems.n, 1);
}

TEST(only_what_listens_on_all_ports_costs_memory)
{
	struct settings_host small = { .cpus = 1, .memory_bytes = 2 * GIB, .limited = true };
	_cleanup_(outcome_done) struct outcome all, listed, bridge;

	read_from(&all, &small, (const char *const[]){ NULL });
	ASSERT_EQ(all.s.relay_bytes, 128 * MIB);
	ASSERT_EQ(all.s.memory_bytes, 1504 * MIB);
	read_from(&listed, &small, (const char *const[]){ "PORTS=80", NULL });
	ASSERT_EQ(listed.s.relay_bytes, 0);
	ASSERT_EQ(listed.s.memory_bytes, 1632 * MIB);
	read_from(&bridge, &small, (const char *const[]){ "NETWORK=bridge", NULL });
	ASSERT_EQ(bridge.s.relay_bytes, 0);
	ASSERT_EQ(bridge.s.memory_bytes, 1632 * MIB);
}

TEST(with_a_bridge_there_are_no_ports_to_choose)
{
	_cleanup_(outcome_done) struct outcome o, p;

	read_from(&o, &host, (const char *const[]){ "NETWORK=bridge", NULL });
	ASSERT_EQ(o.problems.n, 0);
	ASSERT_EQ(o.s.network, NETWORK_BRIDGE);
	read_from(&p, &host, (const char *const[]){ "PORTS=80", "NETWORK=Bridge", NULL });
	ASSERT_EQ(p.problems.n, 1);
	assert_problem(&p, "PORTS", "leave it out");
}

TEST(every_variable_is_read)
{
	_cleanup_(outcome_done) struct outcome o;

	read_from(&o, &host,
		  (const char *const[]){ "CPU=3", "MEMORY=1.5Gb", "STORAGE=30gib", "USER=ann_1", "PASSWORD=a:b c",
					 "SSH_KEYS=ssh-ed25519 AAAA one,ecdsa-sha2-nistp256 BBBB\n# note\nssh-rsa CC x",
					 "NETWORK=NAT", "PORTS=22,8080:80/tcp 53/udp", "HOSTNAME_=box-1",
					 "USER_DATA=#cloud-config\n", "BOOT=/a/b.img", "FIRMWARE=BIOS", "EPHEMERAL=yes",
					 "STOP_TIMEOUT=30", "ACCEL=tcg", "DEBUG=1", NULL });
	ASSERT_EQ(o.problems.n, 0);
	ASSERT_EQ(o.s.cpus, 3);
	ASSERT_EQ(o.s.memory_bytes, 1536 * MIB);
	ASSERT_EQ(o.s.storage_bytes, 30 * GIB);
	ASSERT_STREQ(o.s.user, "ann_1");
	ASSERT_STREQ(o.s.password, "a:b c");
	ASSERT_EQ(o.s.ssh_keys.n, 3);
	ASSERT_STREQ(o.s.ssh_keys.items[2], "ssh-rsa CC x");
	ASSERT_EQ(o.s.ports.n, 3);
	ASSERT(relay_ports_has(&o.s.ports, true, 53));
	ASSERT_STREQ(o.s.hostname, "box-1");
	ASSERT_STREQ(o.s.user_data, "#cloud-config\n");
	ASSERT_STREQ(o.s.boot, "/a/b.img");
	ASSERT_EQ(o.s.firmware, FIRMWARE_BIOS);
	ASSERT(o.s.ephemeral && o.s.debug);
	ASSERT_EQ(o.s.stop_ns, 30 * NS_PER_SEC);
	ASSERT_EQ(o.s.accel, ACCEL_TCG);
}

TEST(all_that_is_wrong_is_told_at_once)
{
	_cleanup_(outcome_done) struct outcome o;

	read_from(&o, &host,
		  (const char *const[]){ "CPU=-1", "MEMORY=lots", "STORAGE=1k", "USER=Big User", "PASSWORD=hunter\ntwo",
					 "SSH_KEYS=secret", "NETWORK=mesh", "HOSTNAME_=-x", "USER_DATA=hello",
					 "BOOT=ftp://a/b.img", "FIRMWARE=coreboot", "EPHEMERAL=maybe", "STOP_TIMEOUT=1",
					 "ACCEL=hvf", "DEBUG=2", "VNC=:1", NULL });
	ASSERT_EQ(o.problems.n, 16);
	assert_problem(&o, "CPU", "give 1 to 4");
	assert_problem(&o, "MEMORY", "512m");
	assert_problem(&o, "STORAGE", "64m to 64t");
	assert_problem(&o, "USER", "small letters");
	assert_problem(&o, "SSH_KEYS", "public key");
	assert_problem(&o, "NETWORK", "give nat or bridge");
	assert_problem(&o, "USER_DATA", "#cloud-config");
	assert_problem(&o, "BOOT", "https://");
	assert_problem(&o, "FIRMWARE", "give uefi, secure or bios");
	assert_problem(&o, "VNC", "leave it out");
	for (size_t i = 0; i < o.problems.n; i++)
		ASSERT(!strstr(o.problems.items[i], "hunter"));
}

TEST(a_value_can_come_from_a_file)
{
	_cleanup_free_ char *path = xasprintf("%s/p", test_tmpdir()), *at = xasprintf("PASSWORD_FILE=%s", path),
			    *lost = xasprintf("USER_FILE=%s.not", path);
	_cleanup_(outcome_done) struct outcome o, p;

	ASSERT_OK(file_write_at(AT_FDCWD, path, "secret\n", 7, 0600, 0));
	read_from(&o, &host, (const char *const[]){ at, "USER=", NULL });
	ASSERT_EQ(o.problems.n, 0);
	ASSERT_STREQ(o.s.password, "secret");
	ASSERT_STREQ(o.s.user, "user");
	read_from(&p, &host, (const char *const[]){ at, "PASSWORD=x", lost, NULL });
	ASSERT_EQ(p.problems.n, 2);
	assert_problem(&p, "PASSWORD", "give one of them");
	assert_problem(&p, "USER_FILE", "No such file");
}

TEST(what_is_passed_on_holds_no_settings)
{
	char password[] = "PASSWORD=open sesame", file[] = "CONSOLE_TOKEN_FILE=/run/t", home[] = "SKERRY_HOME=/disks",
	     zone[] = "TZ=Asia/Tokyo", token[] = "CONSOLE_TOKEN=0123456789abcdef", other[] = "USERS=2",
	     twice[] = "PASSWORD=again";
	char *environment[] = { password, home, file, zone, token, other, twice, NULL };

	settings_forget(environment);
	ASSERT_STREQ(environment[0], "SKERRY_HOME=/disks");
	ASSERT_STREQ(environment[1], "TZ=Asia/Tokyo");
	ASSERT_STREQ(environment[2], "USERS=2");
	ASSERT(!environment[3]);
	for (size_t i = 0; i < sizeof(password); i++)
		ASSERT_EQ(password[i], 0);
	ASSERT_EQ(token[14], 0);
	ASSERT_EQ(twice[9], 0);
}

#define MARKER "bWFya2Vy"

TEST(what_is_no_public_key_is_not_repeated)
{
	static const char *const given[] = {
		"SSH_KEYS=-----BEGIN OPENSSH PRIVATE KEY-----\n" MARKER "\n-----END OPENSSH PRIVATE KEY-----",
		"SSH_KEYS=ssh-ed25519 AAAA one\r\n" MARKER,
		"SSH_KEYS=ssh-ed25519 AAAA,restrict " MARKER,
	};
	struct outcome o[ARRAY_SIZE(given)];

	for (size_t i = 0; i < ARRAY_SIZE(given); i++) {
		read_from(&o[i], &host, (const char *const[]){ given[i], NULL });
		ASSERT_EQ(o[i].problems.n, 1);
		ASSERT(!strstr(o[i].problems.items[0], MARKER));
	}
	assert_problem(&o[0], "SSH_KEYS", "it is a private key");
	assert_problem(&o[1], "SSH_KEYS", "line 2 is no public key");
	for (size_t i = 0; i < ARRAY_SIZE(given); i++)
		outcome_done(&o[i]);
}

/* As sshd(8) has them. */
TEST(keys_may_have_options)
{
	_cleanup_(outcome_done) struct outcome o;

	read_from(&o, &host,
		  (const char *const[]){ "SSH_KEYS=restrict,pty ssh-ed25519 AAAA one\n"
					 "command=\"echo \\\"a, b\\\" ssh-rsa CC\",from=\"10.0.0.1,!10.0.0.2\" ssh-rsa "
					 "BB, ssh-rsa CC a,"
					 "no-pty,no-X11-forwarding ecdsa-sha2-nistp256 DD==\tann, b,\r\n",
					 NULL });
	ASSERT_EQ(o.problems.n, 0);
	ASSERT_EQ(o.s.ssh_keys.n, 4);
	ASSERT_STREQ(o.s.ssh_keys.items[0], "restrict,pty ssh-ed25519 AAAA one");
	ASSERT_STREQ(o.s.ssh_keys.items[1],
		     "command=\"echo \\\"a, b\\\" ssh-rsa CC\",from=\"10.0.0.1,!10.0.0.2\" ssh-rsa BB");
	ASSERT_STREQ(o.s.ssh_keys.items[2], "ssh-rsa CC a");
	ASSERT_STREQ(o.s.ssh_keys.items[3], "no-pty,no-X11-forwarding ecdsa-sha2-nistp256 DD== ann, b");
}

TEST(user_data_can_be_a_path)
{
	_cleanup_free_ char *path = xasprintf("%s/u", test_tmpdir()), *at = xasprintf("USER_DATA=%s", path);
	_cleanup_(outcome_done) struct outcome o;

	ASSERT_OK(file_write_at(AT_FDCWD, path, "#!/bin/sh\n", 10, 0600, 0));
	read_from(&o, &host, (const char *const[]){ at, NULL });
	ASSERT_EQ(o.problems.n, 0);
	ASSERT_STREQ(o.s.user_data, "#!/bin/sh\n");
}

/* What "environment:" has in a compose file, before what those above it have: as they are merged, the first one counts. */
static void add_environment(const char **line, struct strv *environment)
{
	struct strv all = {};

	for (; **line; *line += strcspn(*line, "\n"), *line += **line == '\n') {
		const char *p = *line + strspn(*line, " "), *value;
		size_t name = strspn(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_");

		if (*p == '#' || *p == '<')
			continue;
		if (!name || p[name] != ':')
			break;
		value = p + name + 1;
		value += strspn(value, " \"");
		strv_addf(&all, "%.*s=%.*s", (int)name, p, (int)strcspn(value, "\"\n"), value);
	}
	strv_copy(&all, environment);
	strv_done(environment);
	*environment = all;
}

static unsigned assert_fits(const char *file, const struct settings_host *h)
{
	_cleanup_free_ char *path = xasprintf(SOURCE_DIR "/deploy/docker/%s", file),
			    *keys = xasprintf("%s/keys", test_tmpdir());
	_cleanup_strv_ struct strv environment = {};
	_cleanup_buf_ struct buf text = {};
	unsigned n = 0;

	ASSERT_OK(file_write_at(AT_FDCWD, keys, "ssh-ed25519 AAAA\n", 17, 0600, 0));
	ASSERT_OK(file_read_at(AT_FDCWD, path, 65536, &text));
	for (const char *line = text.p; (line = strstr(line, "environment:")); n++) {
		_cleanup_(outcome_done) struct outcome o = {};

		line += strcspn(line, "\n") + 1;
		add_environment(&line, &environment);
		for (size_t i = 0; i < environment.n; i++)
			if (after_prefix(environment.items[i], "SSH_KEYS_FILE=")) {
				free(environment.items[i]);
				environment.items[i] = xasprintf("SSH_KEYS_FILE=%s", keys);
			}
		settings_read(environment.items, h, &o.s, &o.problems);
		if (o.problems.n)
			test_fail(__FILE__, __LINE__, "%s: %s", file, o.problems.items[0]);
		ASSERT_EQ(o.s.stop_ns, 55 * NS_PER_SEC);
		ASSERT_EQ(o.s.ssh_keys.n, 1);
	}
	return n;
}

/* The smallest host that is likely: what the files say must not keep its container from starting, again and again. */
TEST(what_is_deployed_fits_a_small_host)
{
	const struct settings_host small = { .cpus = 1, .memory_bytes = GIB - 40 * MIB };

	ASSERT_EQ(assert_fits("compose.yaml", &small), 1);
	ASSERT_EQ(assert_fits("several.yaml", &small), 2);
}

TEST(what_is_mounted_to_be_shared_is)
{
	const struct settings_host h = { .cpus = 1, .memory_bytes = GIB, .shared = test_tmpdir() };
	_cleanup_free_ char *usual = xasprintf("%s:/shared", test_tmpdir());
	const char *const empty[] = { NULL, "SHARE=", "SHARE_FILE=" };
	_cleanup_(outcome_done) struct outcome none, told;

	for (size_t i = 0; i < ARRAY_SIZE(empty); i++) {
		_cleanup_(outcome_done) struct outcome o;

		read_from(&o, &h, (const char *const[]){ empty[i], NULL });
		ASSERT_EQ(o.problems.n, 0);
		ASSERT_EQ(o.s.shares.n, 1);
		ASSERT_STREQ(o.s.shares.items[0], usual);
	}
	read_from(&none, &h, (const char *const[]){ "SHARE=no", NULL });
	ASSERT_EQ(none.s.shares.n, 0);
	read_from(&told, &h, (const char *const[]){ "SHARE=/tmp:/mnt", NULL });
	ASSERT_EQ(told.s.shares.n, 1);
	ASSERT_STREQ(told.s.shares.items[0], "/tmp:/mnt");
}

TEST(this_host_has_something)
{
	struct settings_host h;

	settings_host_read(&h);
	ASSERT(h.cpus >= 1);
	ASSERT(h.memory_bytes > 64 * MIB);
}

#define HEX "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

TEST(what_is_booted_is_a_path_or_an_address)
{
	static const struct {
		const char *given, *boot;
		unsigned problems;
	} cases[] = {
		{ "BOOT=/a b.img", "/a b.img", 0 },
		{ "BOOT=file:///a.iso", "/a.iso", 0 },
		{ "BOOT=https://h/a.iso#" HEX, "https://h/a.iso#" HEX, 0 },
		{ "BOOT=https://h/a.iso#sha256:00", "https://h/a.iso#sha256:00", 1 },
		{ "BOOT=/a#b.img", "/a#b.img", 0 },
		{ "BOOT=http://h:8080/a.qcow2?x=1", "http://h:8080/a.qcow2?x=1", 0 },
		{ "BOOT=https://h/a b.iso", "https://h/a b.iso", 1 },
		{ "BOOT=a.img", "a.img", 1 },
		{ "BOOT=file://a.img", "a.img", 1 },
		{ "BOOT=s3://a/b", "s3://a/b", 1 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_(outcome_done) struct outcome o;

		read_from(&o, &host, (const char *const[]){ cases[i].given, NULL });
		ASSERT_EQ(o.problems.n, cases[i].problems);
		ASSERT_STREQ(o.s.boot, cases[i].boot);
		ASSERT_EQ(o.s.firmware, -1);
	}
}

TEST(firmware_has_the_names_that_others_give_it)
{
	static const struct {
		const char *given;
		int firmware;
	} cases[] = {
		{ "FIRMWARE=uefi", FIRMWARE_UEFI },
		{ "FIRMWARE=Secure", FIRMWARE_SECURE },
		{ "FIRMWARE=bios", FIRMWARE_BIOS },
		{ "FIRMWARE=legacy", FIRMWARE_BIOS },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_(outcome_done) struct outcome o;

		read_from(&o, &host, (const char *const[]){ cases[i].given, NULL });
		ASSERT_EQ(o.problems.n, 0);
		ASSERT_EQ(o.s.firmware, cases[i].firmware);
	}
}

TEST(a_snapshot_has_a_name)
{
	_cleanup_(outcome_done) struct outcome o, p, q;

	read_from(&o, &host, (const char *const[]){ "SNAPSHOT=before-upgrade", NULL });
	ASSERT_EQ(o.problems.n, 0);
	ASSERT_STREQ(o.s.snapshot, "before-upgrade");
	read_from(&p, &host, (const char *const[]){ "SNAPSHOT=../x", NULL });
	ASSERT_EQ(p.problems.n, 1);
	read_from(&q, &host, (const char *const[]){ "SNAPSHOT=a", "EPHEMERAL=yes", NULL });
	ASSERT_EQ(q.problems.n, 1);
	assert_problem(&q, "SNAPSHOT", "EPHEMERAL");
}

TEST(what_the_guest_is_told_and_shown_is_read)
{
	_cleanup_free_ char *share = xasprintf("SHARE=%s, %s:/mnt/b:ro", test_tmpdir(), test_tmpdir()),
			    *first = xasprintf("%s:%s", test_tmpdir(), test_tmpdir()),
			    *second = xasprintf("%s:/mnt/b:ro", test_tmpdir());
	_cleanup_(outcome_done) struct outcome o, p, q;

	read_from(&o, &host,
		  (const char *const[]){
			  share, "NETWORK=bridge", "DNS=192.0.2.1, 2001:db8::1 corp.example", "TZ=Europe/Berlin",
			  "QEMU_ARGS=-device 'virtio-rng-pci,id=a b' -fw_cfg name=opt/x,string=\"a \\\"b\\\"\"\\ c",
			  NULL });
	ASSERT_EQ(o.problems.n, 0);
	ASSERT_EQ(o.s.shares.n, 2);
	ASSERT_STREQ(o.s.shares.items[0], first);
	ASSERT_STREQ(o.s.shares.items[1], second);
	ASSERT_EQ(o.s.dns.n, 2);
	ASSERT_EQ(o.s.dns_search.n, 1);
	ASSERT_STREQ(o.s.dns_search.items[0], "corp.example");
	ASSERT_STREQ(o.s.timezone, "Europe/Berlin");
	ASSERT_EQ(o.s.engine_args.n, 4);
	ASSERT_STREQ(o.s.engine_args.items[1], "virtio-rng-pci,id=a b");
	ASSERT_STREQ(o.s.engine_args.items[3], "name=opt/x,string=a \"b\" c");
	read_from(&q, &host, (const char *const[]){ "DNS=192.0.2.1 2001:db8::1", NULL });
	ASSERT_EQ(q.problems.n, 1);
	assert_problem(&q, "DNS", "IPv4");
	read_from(&p, &host,
		  (const char *const[]){ "SHARE=/no/such/directory", "DNS=300.1.1.1,-x", "TZ=CET-1CEST,M3",
					 "QEMU_ARGS=-daemonize --sandbox off -qmp stdio", NULL });
	ASSERT_EQ(p.problems.n, 7);
	assert_problem(&p, "SHARE", "-v");
	assert_problem(&p, "DNS", "300.1.1.1");
	assert_problem(&p, "TZ", "Europe/Berlin");
	assert_problem(&p, "QEMU_ARGS", "-daemonize");
}

TEST(a_machine_has_room_for_three_directories)
{
	_cleanup_strv_ struct strv three = {}, four = {}, wrongs = {};

	shares_parse("/tmp:/a,/tmp:/b:rw,/tmp:/c:ro", &three, &wrongs);
	ASSERT_EQ(three.n, 3);
	ASSERT_EQ(wrongs.n, 0);
	ASSERT_STREQ(three.items[1], "/tmp:/b");
	shares_parse("/tmp:/a,/tmp:/b,/tmp:/c,/tmp:/d", &four, &wrongs);
	ASSERT_EQ(wrongs.n, 1);
	shares_parse("tmp,/tmp:b,/tmp:/,/tmp:/../x,/tmp:/a:rx,/etc/passwd", &four, &wrongs);
	ASSERT_EQ(wrongs.n, 1 + 6 + 1);
}

TEST(words_are_taken_apart_as_a_shell_does_it)
{
	static const struct {
		const char *text;
		size_t n, wrongs;
		const char *last;
	} cases[] = {
		{ "", 0, 0, NULL },
		{ "  -a  -b\n-c ", 3, 0, "-c" },
		{ "-a ''", 2, 0, "" },
		{ "-a \"x  y\"z", 2, 0, "x  yz" },
		{ "-a $(reboot)`x`;y|z>w", 2, 0, "$(reboot)`x`;y|z>w" },
		{ "-a '\\'", 2, 0, "\\" },
		{ "-a \\'", 2, 0, "'" },
		{ "-a 'x", 1, 1, "-a" },
		{ "-a \"x", 1, 1, "-a" },
		{ "stray", 1, 1, "stray" },
		{ "-S", 1, 1, "-S" },
		{ "-s", 1, 0, "-s" },
		{ "--monitor stdio", 2, 1, "stdio" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_strv_ struct strv words = {}, wrongs = {};

		engine_args_parse(cases[i].text, &words, &wrongs);
		ASSERT_EQ(words.n, cases[i].n);
		ASSERT_EQ(wrongs.n, cases[i].wrongs);
		if (cases[i].last)
			ASSERT_STREQ(words.items[words.n - 1], cases[i].last);
	}
}

TEST(the_console_is_on_a_page_when_asked_for)
{
	_cleanup_(outcome_done) struct outcome none, web, clash, bridge, bad;

	read_from(&none, &host, (const char *const[]){ "CONSOLE=log", "PORTS=8080:80", NULL });
	ASSERT_EQ(none.problems.n, 0);
	ASSERT(!none.s.console_page && !none.s.console_token);
	read_from(
		&web, &host,
		(const char *const[]){ "CONSOLE=web", "CONSOLE_PORT=90", "CONSOLE_TOKEN=correct.horse-battery", NULL });
	ASSERT_EQ(web.problems.n, 0);
	ASSERT(web.s.console_page);
	ASSERT_EQ(web.s.console_port, 90);
	ASSERT_STREQ(web.s.console_token, "correct.horse-battery");
	/* The page's own port cannot lead to the guest as well. */
	read_from(&clash, &host, (const char *const[]){ "PORTS=8000-8100", "CONSOLE=web", NULL });
	ASSERT_EQ(clash.problems.n, 1);
	assert_problem(&clash, "PORTS", "8080");
	read_from(&bridge, &host, (const char *const[]){ "NETWORK=bridge", "CONSOLE=web", NULL });
	ASSERT_EQ(bridge.problems.n, 0);
	ASSERT(bridge.s.console_page);
	read_from(&bad, &host,
		  (const char *const[]){ "CONSOLE=tty", "CONSOLE_PORT=0", "CONSOLE_TOKEN=secret&short", NULL });
	ASSERT_EQ(bad.problems.n, 3);
	assert_problem(&bad, "CONSOLE", "web");
	assert_problem(&bad, "CONSOLE_PORT", "65535");
	assert_problem(&bad, "CONSOLE_TOKEN", "letters");
	for (size_t i = 0; i < bad.problems.n; i++)
		ASSERT(!strstr(bad.problems.items[i], "secret"));
}
