#include "machine/image_config.h"

#include <errno.h>
#include <signal.h>

#include "test.h"

static void add(struct strv *v, const char *const *items)
{
	for (; *items; items++)
		strv_add(v, *items);
}

#define ADD(v, ...) add(&(v), (const char *const[]){ __VA_ARGS__, NULL })

TEST(the_machines_assignments_win_over_the_images)
{
	_cleanup_(image_meta_done) struct image_meta image = {};
	_cleanup_spec_ struct machine_spec spec = {};
	_cleanup_strv_ struct strv env = {};

	ADD(image.env, "A=image", "B=image", "NOVALUE", "=x", "PATH=/bin");
	ADD(spec.env, "B=own", "C=own");
	image_config_env(&image, &spec, &env);
	ASSERT_EQ(env.n, 4);
	ASSERT(strv_has(&env, "A=image") && strv_has(&env, "B=own") && strv_has(&env, "C=own") &&
	       strv_has(&env, "PATH=/bin"));
}

TEST(labels_join_and_ports_are_published_when_asked)
{
	_cleanup_(image_meta_done) struct image_meta image = {};
	_cleanup_spec_ struct machine_spec plain = {}, all = {};

	ADD(image.labels, "a=image", "b=image");
	ADD(image.ports, "80/tcp", "53/udp", "8000-8002/tcp", "9");
	ADD(plain.labels, "b=own");
	ASSERT_OK(image_config_apply(&image, &plain, NULL));
	ASSERT_EQ(plain.labels.n, 2);
	ASSERT(strv_has(&plain.labels, "a=image") && strv_has(&plain.labels, "b=own"));
	ASSERT_EQ(plain.publish.n, 0);
	all.publish_all = true;
	ASSERT_OK(image_config_apply(&image, &all, NULL));
	ASSERT_EQ(all.publish.n, 6);
	ASSERT(strv_has(&all.publish, "0:80") && strv_has(&all.publish, "0:53/udp") &&
	       strv_has(&all.publish, "0:8002") && strv_has(&all.publish, "0:9"));
}

TEST(ports_that_are_none_are_refused)
{
	static const char *const bad[] = { "",       "0/tcp", "70000", "80/sctp",    "9-8/tcp",
					   "1-/udp", "x",     "80/",   "1-65535/tcp" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_(image_meta_done) struct image_meta image = {};
		_cleanup_spec_ struct machine_spec spec = { .publish_all = true };
		_cleanup_error_ struct error e = {};

		ADD(image.ports, bad[i]);
		if (image_config_apply(&image, &spec, &e) != -EBADMSG)
			test_fail(__FILE__, __LINE__, "'%s' is taken", bad[i]);
		ASSERT_EQ(error_exit_status(&e), 65);
	}
}

TEST(directories_are_those_that_a_guest_can_make)
{
	_cleanup_(image_meta_done) struct image_meta image = { .workdir = xstrdup("/srv/app") };
	_cleanup_spec_ struct machine_spec spec = {};
	_cleanup_strv_ struct strv dirs = {}, own = {};

	ADD(image.volumes, "/data", "relative", "/var/lib/x");
	image_config_directories(&image, &spec, &dirs);
	ASSERT_EQ(dirs.n, 3);
	ASSERT_STREQ(dirs.items[0], "/srv/app");
	spec.workdir = xstrdup("/own");
	ASSERT_STREQ(image_config_workdir(&image, &spec), "/own");
	image_config_directories(&image, &spec, &own);
	ASSERT_STREQ(own.items[0], "/own");
}

TEST(a_workdir_that_is_no_path_is_none)
{
	_cleanup_(image_meta_done) struct image_meta image = { .workdir = xstrdup("app") };
	_cleanup_spec_ struct machine_spec spec = {};

	ASSERT_STREQ(image_config_workdir(&image, &spec), "");
}

TEST(ssh_logs_in_as_an_account)
{
	static const struct {
		const char *user, *account;
	} cases[] = { { NULL, "root" },   { "nginx", "nginx" }, { "nginx:www", "nginx" },
		      { "1000", "root" }, { "0:0", "root" },    { ":x", "root" },
		      { "u1", "u1" } };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_(image_meta_done) struct image_meta image = { .user = xstrdup(cases[i].user) };
		_cleanup_spec_ struct machine_spec spec = {};
		_cleanup_free_ char *account = image_config_account(&image, &spec);

		ASSERT_STREQ(account, cases[i].account);
	}
}

TEST(the_stop_signal_is_the_users_then_the_images)
{
	_cleanup_(image_meta_done) struct image_meta image = {};
	_cleanup_spec_ struct machine_spec spec = {};

	ASSERT_EQ(image_config_stop_signal(&image, &spec), 0);
	image.stop_signal = xstrdup("nonsense");
	ASSERT_EQ(image_config_stop_signal(&image, &spec), 0);
	free(image.stop_signal);
	image.stop_signal = xstrdup("SIGQUIT");
	ASSERT_EQ(image_config_stop_signal(&image, &spec), SIGQUIT);
	spec.stop_signal = xstrdup("2");
	ASSERT_EQ(image_config_stop_signal(&image, &spec), SIGINT);
}
