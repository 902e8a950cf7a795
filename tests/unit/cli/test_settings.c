/* Flags before environment before file before what is built in. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/create.h"
#include "cli/settings.h"
#include "test.h"

static void open_home(struct store *s, const char *config)
{
	setenv("SKERRY_HOME", test_tmpdir(), 1);
	for (enum setting i = 0; i < SETTING_MAX; i++)
		unsetenv(setting_environment(i));
	ASSERT_OK(store_open(s, NULL));
	(void)unlinkat(s->config_fd, "config.yaml", 0);
	if (config)
		ASSERT_OK(file_write_at(s->config_fd, "config.yaml", config, strlen(config), 0600, 0));
}

static int spec_with(const char *config, const struct create_options *o, struct machine_spec *spec, struct error *err)
{
	_cleanup_store_ struct store s = {};

	open_home(&s, config);
	return create_spec(&s, o, "tiny", spec, err);
}

TEST(nothing_said_is_what_is_built_in)
{
	_cleanup_spec_ struct machine_spec spec = {};

	ASSERT_OK(spec_with(NULL, &(const struct create_options){}, &spec, NULL));
	ASSERT_STREQ(spec.image, "tiny");
	ASSERT_EQ(spec.cpus, 1);
	ASSERT_EQ(spec.disk_bytes, 0);
	ASSERT_STREQ(spec.net, "user");
	ASSERT(!spec.kernel && !spec.user);
}

TEST(the_file_is_read)
{
	_cleanup_spec_ struct machine_spec spec = {};

	ASSERT_OK(spec_with("# comment\ncpus: 2\nmemory: 1G\nuser: root\nrestart: no\nkernel:\n",
			    &(const struct create_options){}, &spec, NULL));
	ASSERT_EQ(spec.cpus, 2);
	ASSERT_EQ(spec.memory_bytes, UINT64_C(1) << 30);
	ASSERT_STREQ(spec.user, "root");
	ASSERT_EQ(spec.restart, RESTART_NO);
	ASSERT(!spec.kernel);
}

TEST(what_is_said_to_containerds_door_is_left_to_it)
{
	_cleanup_spec_ struct machine_spec spec = {};

	ASSERT_OK(spec_with("cpus: 2\ncontainerd:\n  cpus: 3\n  cpu_hotplug:\n    enable: true\n",
			    &(const struct create_options){}, &spec, NULL));
	ASSERT_EQ(spec.cpus, 2);
}

TEST(json_is_yaml)
{
	_cleanup_spec_ struct machine_spec spec = {};

	ASSERT_OK(spec_with("{\"cpus\": 3, \"memory\": 700}", &(const struct create_options){}, &spec, NULL));
	ASSERT_EQ(spec.cpus, 3);
	ASSERT_EQ(spec.memory_bytes, UINT64_C(700) << 20);
}

TEST(environment_goes_before_file_and_flags_before_both)
{
	_cleanup_store_ struct store s = {};
	_cleanup_spec_ struct machine_spec a = {}, b = {};

	open_home(&s, "cpus: 2\nmemory: 1G\n");
	setenv("SKERRY_CPUS", "3", 1);
	ASSERT_OK(create_spec(&s, &(const struct create_options){}, "tiny", &a, NULL));
	ASSERT_EQ(a.cpus, 3);
	ASSERT_EQ(a.memory_bytes, UINT64_C(1) << 30);
	ASSERT_OK(create_spec(&s, &(const struct create_options){ .cpus = "4", .memory = "512M" }, "tiny", &b, NULL));
	ASSERT_EQ(b.cpus, 4);
	ASSERT_EQ(b.memory_bytes, UINT64_C(512) << 20);
}

static void refused(const char *config, const struct create_options *o, int status, const char *message)
{
	_cleanup_spec_ struct machine_spec spec = {};
	_cleanup_error_ struct error err = {};

	ASSERT(spec_with(config, o, &spec, &err) < 0);
	ASSERT_EQ(error_exit_status(&err), status);
	ASSERT_CONTAINS(err.msg, message);
}

TEST(mistakes_name_flag_or_key)
{
	static const struct create_options none = {};

	refused("nope: 1\n", &none, 78, "config.yaml: unknown key 'nope'");
	refused("cpus: [1]\n", &none, 78, "cpus: expected a word or a number");
	refused("- list\n", &none, 78, "expected 'key: value' lines");
	refused("cpus: 1\ncpus: 2\n", &none, 78, "the key is there twice");
	refused("a: b: c\n", &none, 78, "config.yaml:1:");
	refused("cpus: zero\n", &none, 78, "cpus 'zero'");
	refused("shape: round\n", &none, 78, "expected micro or full");
	refused(NULL, &(const struct create_options){ .cpus = "0" }, 64, "--cpus '0'");
	refused(NULL, &(const struct create_options){ .memory = "much" }, 64, "--memory 'much'");
	refused(NULL, &(const struct create_options){ .disk = "0" }, 64, "--disk '0'");
	refused(NULL, &(const struct create_options){ .accel = "warp" }, 64, "--accel 'warp'");
	refused(NULL, &(const struct create_options){ .restart = "maybe" }, 64, "--restart 'maybe'");
}

TEST(environment_mistakes_name_the_variable)
{
	_cleanup_store_ struct store s = {};
	_cleanup_spec_ struct machine_spec spec = {};
	_cleanup_error_ struct error err = {};

	open_home(&s, NULL);
	setenv("SKERRY_MEMORY", "lots", 1);
	ASSERT(create_spec(&s, &(const struct create_options){}, "tiny", &spec, &err) < 0);
	ASSERT_EQ(error_exit_status(&err), 78);
	ASSERT_CONTAINS(err.msg, "SKERRY_MEMORY 'lots'");
}

TEST(the_template_is_valid_and_names_every_key)
{
	_cleanup_spec_ struct machine_spec spec = {};
	_cleanup_free_ char *text = settings_template();

	ASSERT_OK(spec_with(text, &(const struct create_options){}, &spec, NULL));
	for (enum setting i = 0; i < SETTING_MAX; i++) {
		_cleanup_free_ char *key = xasprintf("\n#%s:", setting_key(i));

		ASSERT_CONTAINS(text, key);
	}
	ASSERT_CONTAINS(text, "\n#containerd:\n");
}

static int env_from(const char *text, size_t n, struct machine_spec *spec, struct error *err)
{
	_cleanup_free_ char *path = xasprintf("%s/env", test_tmpdir());
	_cleanup_strv_ struct strv files = {};
	struct create_options o = {};

	ASSERT_OK(file_write_at(AT_FDCWD, path, text, n, 0600, 0));
	strv_add(&files, path);
	o.env_files = files;
	return spec_with(NULL, &o, spec, err);
}

TEST(a_file_of_the_environment_has_comments_and_any_line_ends)
{
	static const char text[] =
		"# a comment\n\n  A=one two # no comment\r\nB=\n\t#C=3\r\nF='e'\nFROM_HERE\nNOT_HERE\nE=last";
	_cleanup_spec_ struct machine_spec spec = {};

	setenv("FROM_HERE", "value", 1);
	unsetenv("NOT_HERE");
	ASSERT_OK(env_from(text, sizeof(text) - 1, &spec, NULL));
	ASSERT_EQ(spec.env.n, 5);
	ASSERT_STREQ(spec.env.items[0], "A=one two # no comment");
	ASSERT_STREQ(spec.env.items[1], "B=");
	ASSERT_STREQ(spec.env.items[2], "F='e'");
	ASSERT_STREQ(spec.env.items[3], "FROM_HERE=value");
	ASSERT_STREQ(spec.env.items[4], "E=last");
}

TEST(a_bad_line_of_the_environment_is_told_by_its_number)
{
	static const struct {
		const char *text;
		size_t n;
		const char *why;
	} bad[] = {
		{ "A=1\n\n=x\n", 8, "line 3: expected KEY=VALUE" },
		{ "A B=1\n", 6, "line 1: expected KEY=VALUE" },
		{ "A=1\n\0B=2\n", 9, "is no text" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_spec_ struct machine_spec spec = {};
		_cleanup_error_ struct error e = {};

		ASSERT(env_from(bad[i].text, bad[i].n, &spec, &e) < 0);
		ASSERT_EQ(error_exit_status(&e), 65);
		ASSERT_CONTAINS(e.msg, bad[i].why);
	}
}

static char *write_key(const char *text)
{
	char *path = xasprintf("%s/key", test_tmpdir());
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ASSERT_OK(fd);
	ASSERT_OK(write_full(fd, text, strlen(text)));
	close(fd);
	return path;
}

static int spec_with_key(const char *text, struct machine_spec *spec, struct error *err)
{
	_cleanup_free_ char *path = write_key(text);
	_cleanup_(strv_done) struct strv keys = {};
	struct create_options o = {};

	strv_add(&keys, path);
	o.ssh_keys = keys;
	return spec_with(NULL, &o, spec, err);
}

TEST(public_keys_are_read_and_nothing_else)
{
	_cleanup_spec_ struct machine_spec a = {}, b = {}, c = {}, d = {};
	_cleanup_error_ struct error eb = {}, ec = {}, ed = {};

	ASSERT_OK(spec_with_key("# mine\nssh-ed25519 AAAA me\r\n\necdsa-sha2-nistp256 BBBB\n", &a, NULL));
	ASSERT_EQ(a.ssh_keys.n, 2);
	ASSERT_STREQ(a.ssh_keys.items[0], "ssh-ed25519 AAAA me");
	ASSERT(spec_with_key("-----BEGIN OPENSSH PRIVATE KEY-----\nx\n", &b, &eb) < 0);
	ASSERT_CONTAINS(eb.msg, "is a private key");
	ASSERT_CONTAINS(eb.hint, ".pub");
	ASSERT(spec_with_key("hello\n", &c, &ec) < 0);
	ASSERT_EQ(error_exit_status(&ec), 65);
	ASSERT(spec_with_key("", &d, &ed) < 0);
}

TEST(env_without_value_takes_ours)
{
	_cleanup_spec_ struct machine_spec spec = {};
	_cleanup_(strv_done) struct strv env = {};
	struct create_options o = {};

	setenv("FROM_HERE", "yes", 1);
	unsetenv("NOT_HERE");
	strv_add(&env, "FROM_HERE");
	strv_add(&env, "NOT_HERE");
	strv_add(&env, "A=b=c");
	o.env = env;
	ASSERT_OK(spec_with(NULL, &o, &spec, NULL));
	ASSERT_EQ(spec.env.n, 2);
	ASSERT_STREQ(spec.env.items[0], "FROM_HERE=yes");
	ASSERT_STREQ(spec.env.items[1], "A=b=c");
}
