#include "docker/settings.h"

#include <fcntl.h>

#include "base/clock.h"
#include "base/file.h"
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
	static const struct settings_host small = { .cpus = 1, .memory_bytes = 512 * MIB, .limited = true };
	_cleanup_(outcome_done) struct outcome o, p;

	read_from(&o, &small, (const char *const[]){ NULL });
	ASSERT_EQ(o.problems.n, 0);
	ASSERT_EQ(o.s.cpus, 1);
	ASSERT_EQ(o.s.memory_bytes, 320 * MIB);
	read_from(&p, &small, (const char *const[]){ "CPU=2", "MEMORY=1g", NULL });
	ASSERT_EQ(p.problems.n, 2);
	assert_problem(&p, "CPU", "docker run --cpus");
	assert_problem(&p, "MEMORY", "docker run --memory");
}

TEST(every_variable_is_read)
{
	_cleanup_(outcome_done) struct outcome o;

	read_from(&o, &host,
		  (const char *const[]){ "CPU=3", "MEMORY=1.5Gb", "STORAGE=30gib", "USER=ann_1", "PASSWORD=a:b c",
					 "SSH_KEYS=ssh-ed25519 AAAA one,ecdsa-sha2-nistp256 BBBB\n# note\nssh-rsa CC x",
					 "NETWORK=NAT", "PORTS=22,8080:80/tcp 53/udp", "HOSTNAME_=box-1",
					 "USER_DATA=#cloud-config\n", "BOOT=/a/b.img", "EPHEMERAL=yes",
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
					 "BOOT=http://a/b.img", "EPHEMERAL=maybe", "STOP_TIMEOUT=1", "ACCEL=hvf",
					 "DEBUG=2", "VNC=:1", NULL });
	ASSERT_EQ(o.problems.n, 15);
	assert_problem(&o, "CPU", "give 1 to 4");
	assert_problem(&o, "MEMORY", "512m");
	assert_problem(&o, "STORAGE", "64m to 64t");
	assert_problem(&o, "USER", "small letters");
	assert_problem(&o, "SSH_KEYS", "public key");
	assert_problem(&o, "NETWORK", "give nat");
	assert_problem(&o, "USER_DATA", "#cloud-config");
	assert_problem(&o, "BOOT", "mounted");
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

TEST(user_data_can_be_a_path)
{
	_cleanup_free_ char *path = xasprintf("%s/u", test_tmpdir()), *at = xasprintf("USER_DATA=%s", path);
	_cleanup_(outcome_done) struct outcome o;

	ASSERT_OK(file_write_at(AT_FDCWD, path, "#!/bin/sh\n", 10, 0600, 0));
	read_from(&o, &host, (const char *const[]){ at, NULL });
	ASSERT_EQ(o.problems.n, 0);
	ASSERT_STREQ(o.s.user_data, "#!/bin/sh\n");
}

TEST(this_host_has_something)
{
	struct settings_host h;

	settings_host_read(&h);
	ASSERT(h.cpus >= 1);
	ASSERT(h.memory_bytes > 64 * MIB);
}
