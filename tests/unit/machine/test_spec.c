#include "machine/spec.h"

#include "test.h"

static int check_with(void (*change)(struct machine_spec *), struct error *err)
{
	_cleanup_spec_ struct machine_spec s = {};

	machine_spec_init(&s);
	change(&s);
	return machine_spec_check(&s, err);
}

static void nothing(struct machine_spec *s)
{
	(void)s;
}
static void no_cpus(struct machine_spec *s)
{
	s->cpus = 0;
}
static void many_cpus(struct machine_spec *s)
{
	s->cpus = 100000;
}
static void little_memory(struct machine_spec *s)
{
	s->memory_bytes = 32 << 20;
}
static void much_memory(struct machine_spec *s)
{
	s->memory_bytes = UINT64_C(1) << 50;
}
static void bad_net(struct machine_spec *s)
{
	free(s->net);
	s->net = xstrdup("carrier-pigeon");
}
static void bad_env(struct machine_spec *s)
{
	strv_add(&s->env, "no equals sign");
}
static void empty_label(struct machine_spec *s)
{
	strv_add(&s->labels, "=x");
}
static void key_with_newline(struct machine_spec *s)
{
	strv_add(&s->ssh_keys, "ssh-ed25519 AAAA x\ncommand=\"evil\"");
}
static void odd_user(struct machine_spec *s)
{
	s->user = xstrdup("jo hn");
}
static void option_like_user(struct machine_spec *s)
{
	s->user = xstrdup("-r");
}
static void long_user(struct machine_spec *s)
{
	s->user = xstrdup("a23456789012345678901234567890123");
}
static void odd_group(struct machine_spec *s)
{
	s->user = xstrdup("root:a:b");
}
static void user_and_group(struct machine_spec *s)
{
	s->user = xstrdup("a2345678901234567890123456789012:1000");
}
static void many_variables(struct machine_spec *s)
{
	for (int i = 0; i < MACHINE_ENV_MAX; i++)
		strv_addf(&s->env, "N%d=x", i);
}
static void too_many_variables(struct machine_spec *s)
{
	many_variables(s);
	strv_add(&s->env, "LAST=x");
}
static void large_variables(struct machine_spec *s)
{
	for (int i = 0; i < 10; i++)
		strv_addf(&s->env, "N%d=%0*d", i, 100000, 0);
}
static void publish_without_net(struct machine_spec *s)
{
	bad_net(s);
	free(s->net);
	s->net = xstrdup("none");
	strv_add(&s->publish, "8080:80");
}

TEST(defaults_pass)
{
	ASSERT_OK(check_with(nothing, NULL));
	ASSERT_OK(check_with(user_and_group, NULL));
	ASSERT_OK(check_with(many_variables, NULL));
}

TEST(bad_values_are_usage_errors_that_name_the_option)
{
	static const struct {
		void (*change)(struct machine_spec *);
		const char *option;
	} cases[] = {
		{ no_cpus, "--cpus" },
		{ many_cpus, "--cpus" },
		{ little_memory, "--memory" },
		{ much_memory, "--memory" },
		{ bad_net, "--net" },
		{ bad_env, "--env" },
		{ empty_label, "--label" },
		{ key_with_newline, "--ssh-key" },
		{ publish_without_net, "--publish" },
		{ odd_user, "--user" },
		{ option_like_user, "--user" },
		{ long_user, "--user" },
		{ odd_group, "--user" },
		{ too_many_variables, "--env" },
		{ large_variables, "--env" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_error_ struct error e = {};

		ASSERT(check_with(cases[i].change, &e) < 0);
		ASSERT_CONTAINS(e.msg, cases[i].option);
		ASSERT_EQ(error_exit_status(&e), 64);
	}
}

TEST(restart_policies_read_and_write)
{
	static const char *const good[] = { "no", "on-failure", "on-failure:3", "always" };
	static const char *const bad[] = { "", "never", "on-failure:", "on-failure:0", "on-failure:x", "always:3" };
	uint64_t max;
	int policy;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		_cleanup_free_ char *back = NULL;

		ASSERT_OK(restart_policy_parse(good[i], &policy, &max));
		back = restart_policy_format(policy, max);
		ASSERT_STREQ(back, good[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ASSERT_EQ(restart_policy_parse(bad[i], &policy, &max), -EINVAL);
}

TEST(a_spec_survives_its_record)
{
	_cleanup_spec_ struct machine_spec s = {}, back = {};
	_cleanup_json_ struct json *tree = json_object();

	machine_spec_init(&s);
	s.name = xstrdup("web");
	s.id = xstrdup("00112233445566778899aabbccddeeff");
	s.image_digest = xstrdup("sha256:00");
	s.memory_bytes = UINT64_MAX;
	s.restart = RESTART_ON_FAILURE;
	strv_add(&s.labels, "team=blue");
	strv_add(&s.command, "sleep");
	strv_add(&s.command, "");
	json_store(tree, machine_spec_fields, &s);
	ASSERT_OK(json_load(tree, machine_spec_fields, &back, "test", NULL));
	ASSERT_STREQ(back.name, "web");
	ASSERT(back.memory_bytes == UINT64_MAX);
	ASSERT_EQ(back.restart, RESTART_ON_FAILURE);
	ASSERT_STREQ(back.labels.items[0], "team=blue");
	ASSERT_EQ(back.command.n, 2);
	ASSERT_STREQ(back.command.items[1], "");
}
