/* Images that Docker has and gets, with a real dockerd of the test's own. */
#include "base/memory.h"
#include "dockerd.h"
#include "registry.h"

/* Names, kinds, modes, owners, sizes, times, links and contents: what must be the same wherever the tree has been. */
#define LISTING                                                                                                   \
	"find . -mindepth 1 \\( -path ./dev -o -path ./proc -o -path ./sys -o -name .dockerenv -o -path "         \
	"'./etc/host*' -o -path "                                                                                 \
	"./etc/resolv.conf -o -path ./etc/mtab \\) -prune -o -printf '%P %y %m %U:%G %l\\n' | sort; "             \
	"find . -type f -not -path './etc/*' -printf '%P %s %TY-%Tm-%Td %TH:%TM\\n' | sort; find . -type f -not " \
	"-path './etc/*' -exec sha256sum {} + | sort -k2"

/* Two images of Docker's, as containers "one" and "two". */
static void same_trees(const char *one, const char *two)
{
	_cleanup_free_ char *script = xasprintf(
		"docker create --name one %s && docker create --name two %s && mkdir a b && "
		"docker export one | tar -C a -xpf - && docker export two | tar -C b -xpf - && (cd a && %s) >a.txt && "
		"(cd b && %s) >b.txt && test -s a.txt && diff a.txt b.txt",
		one, two, LISTING, LISTING);

	dockerd_sh(script);
}

static void make_docker_image(void)
{
	dockerd_sh(
		"mkdir -p r/bin r/etc r/srv && cp /bin/busybox r/bin/busybox && ln -s busybox r/bin/sh && echo hello "
		">r/srv/motd && "
		"chmod 640 r/srv/motd && chown 7:8 r/srv/motd && ln r/srv/motd r/srv/link && mkfifo r/srv/fifo && "
		"touch -d @1000000000 r/srv/motd r/srv && tar -C r -cf r.tar . && "
		"docker import --change 'CMD [\"/bin/busybox\",\"cat\",\"/srv/motd\"]' --change 'ENV A=b' r.tar app:1");
}

TEST(an_image_of_dockers_goes_in_and_runs)
{
	_cleanup_cli_ struct cli r = {};

	cli_home(true);
	dockerd_start();
	make_docker_image();
	r = cli("image", "import", "docker-daemon:app:1", NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_CONTAINS(r.out, "app:1");
	cli_done(&r);
	r = cli("run", "--rm", "app:1", NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_STREQ(r.out, "hello\n");
}

/* Of several tags the latest, as for docker; and what is no name is an id. */
TEST(a_name_alone_is_its_latest)
{
	_cleanup_free_ char *source = NULL;
	_cleanup_cli_ struct cli r = {}, id = {};

	cli_home(false);
	dockerd_start();
	make_docker_image();
	dockerd_sh("docker tag app:1 app:latest && echo other >r/srv/motd && tar -C r -cf r.tar . && "
		   "docker import r.tar app:2");
	r = cli("image", "import", "docker-daemon:app", NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_CONTAINS(r.out, "app:latest");
	cli_done(&r);
	id = docker("images", "-q", "app:2", NULL);
	source = xasprintf("docker-daemon:%.*s", (int)strcspn(id.out, "\n"), id.out);
	r = cli("image", "import", source, "--name", "two:1", NULL);
	ASSERT_STATUS(r, 0);
}

TEST(what_went_in_comes_out_the_same)
{
	_cleanup_cli_ struct cli r = {};

	cli_home(false);
	dockerd_start();
	make_docker_image();
	r = cli("image", "import", "docker-daemon:app:1", "--name", "mine:2", NULL);
	ASSERT_STATUS(r, 0);
	cli_done(&r);
	r = cli("image", "save", "mine:2", "docker-daemon:back:3", NULL);
	ASSERT_STATUS(r, 0);
	same_trees("app:1", "back:3");
	dockerd_sh("test \"$(docker inspect -f '{{.Config.Cmd}} {{.Config.Env}}' back:3)\" = "
		   "\"$(docker inspect -f '{{.Config.Cmd}} {{.Config.Env}}' app:1)\"");
}

TEST(a_containers_files_are_an_image)
{
	_cleanup_cli_ struct cli r = {};

	cli_home(true);
	dockerd_start();
	make_docker_image();
	dockerd_sh("docker create --name box app:1 && echo changed >motd && docker cp motd box:/srv/motd");
	r = cli("image", "import", "docker-container:box", "--name", "box:1", NULL);
	ASSERT_STATUS(r, 0);
	cli_done(&r);
	r = cli("run", "--rm", "box:1", NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_STREQ(r.out, "changed\n");
}

/* Through a registry without TLS, which Docker takes on the loopback. */
TEST(what_is_pushed_docker_pulls_and_the_other_way_round)
{
	struct registry_server server;
	_cleanup_free_ char *plain = NULL, *ours = NULL, *theirs = NULL, *script = NULL;
	_cleanup_cli_ struct cli r = {};

	cli_home(true);
	dockerd_start();
	registry_server_start(&server, false);
	make_docker_image();
	plain = xasprintf("127.0.0.1%s", strchr(server.host, ':'));
	ours = xasprintf("%s/ours:1", plain);
	theirs = xasprintf("%s/theirs:1", plain);
	r = cli("image", "import", "docker-daemon:app:1", NULL);
	ASSERT_STATUS(r, 0);
	cli_done(&r);
	r = cli("image", "push", "--plain-http", plain, "app:1", ours, NULL);
	ASSERT_STATUS(r, 0);
	cli_done(&r);
	script = xasprintf("docker pull %s", ours);
	dockerd_sh(script);
	same_trees("app:1", ours);
	free(script);
	script = xasprintf(
		"echo committed >motd && docker cp motd one:/srv/motd && docker commit one %s && docker push %s",
		theirs, theirs);
	dockerd_sh(script);
	r = cli("image", "pull", "--plain-http", plain, theirs, NULL);
	ASSERT_STATUS(r, 0);
	cli_done(&r);
	r = cli("run", "--rm", theirs, NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_STREQ(r.out, "committed\n");
}

TEST(what_docker_has_not_is_said_in_one_line)
{
	static const char *const wrong[][2] = { { "docker-daemon:nothere:1", "nothere" },
						{ "docker-container:nobody", "nobody" },
						{ "docker-daemon:", "name" },
						{ "docker-container:a/b", "name" },
						{ "docker-daemon:a b", "name" } };

	cli_home(false);
	dockerd_start();
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		_cleanup_cli_ struct cli r = cli("image", "import", wrong[i][0], "--name", "x:1", NULL);

		ASSERT(r.status != 0);
		ASSERT_CONTAINS(r.err, wrong[i][1]);
		ASSERT(!strchr(r.err, '\n')[1] || strstr(r.err, "\nhint: "));
	}
}

TEST(without_a_daemon_there_is_a_hint)
{
	_cleanup_cli_ struct cli r = {};

	cli_home(false);
	cli_setenv("DOCKER_HOST=unix:///nonexistent/docker.sock");
	r = cli("image", "import", "docker-daemon:app:1", NULL);
	ASSERT_STATUS(r, 69);
	ASSERT_CONTAINS(r.err, "DOCKER_HOST");
	cli_done(&r);
	cli_setenv("DOCKER_HOST=tcp://127.0.0.1:2375");
	r = cli("image", "import", "docker-daemon:app:1", NULL);
	ASSERT_STATUS(r, 78);
}
