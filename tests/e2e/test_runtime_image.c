/* The container images, and what is deployed with them, under a real dockerd of the test's own. What skerry-vm does in them has tests of its own. */
#include <unistd.h>

#include "base/memory.h"
#include "base/parse.h"
#include "dockerd.h"
#include "json/json.h"

#define INVENTORY SOURCE_DIR "/deploy/ansible/skerry_inventory.py"

enum { RUNTIME_BYTES_MAX = 150 * 1000 * 1000, TOOL_S = 300 };

/* A script in a container of the image's, as @user. Docker's root may do a few things more than everybody. */
static char *inside(const char *user, const char *script)
{
	_cleanup_cli_ struct cli r = docker("run", "--rm", "--network", "none", "--user", user, "--entrypoint", "sh",
					    "skerry/runtime", "-euc", script, NULL);

	ASSERT_STATUS(r, 0);
	return TAKE_PTR(r.out);
}

static void says_what_it_is(void)
{
	static const char *const said[] = { "true",
					    "map[/disks:{}]",
					    "SIGTERM",
					    "map[22/tcp:{}]",
					    "[/usr/bin/skerry-vm]",
					    "[CMD /usr/bin/skerry-vm healthcheck]",
					    "SKERRY_HOME=/disks",
					    "SKERRY_RUN_DIR=/run/skerry" };
	_cleanup_cli_ struct cli r =
		docker("inspect", "--format",
		       "{{index .Config.Labels \"io.skerry.vm\"}} {{.Config.Volumes}} {{.Config.StopSignal}} "
		       "{{.Config.ExposedPorts}} {{.Config.Entrypoint}} {{.Config.Healthcheck.Test}} {{.Config.Env}}",
		       "skerry/runtime", NULL);

	ASSERT_STATUS(r, 0);
	for (size_t i = 0; i < ARRAY_SIZE(said); i++)
		ASSERT_CONTAINS(r.out, said[i]);
}

static void is_small(void)
{
	_cleanup_cli_ struct cli r = docker("inspect", "--format", "{{.Size}}", "skerry/runtime", NULL);
	uint64_t bytes = 0;

	ASSERT_STATUS(r, 0);
	r.out[strcspn(r.out, "\n")] = '\0';
	ASSERT_OK(parse_u64(r.out, 1, RUNTIME_BYTES_MAX, &bytes));
}

TEST(the_runtime_is_small_complete_and_everybodys)
{
	static const char *const users[] = { "0:0", "skerry", "1000", "4711" };
	char *out;

	cli_home(false);
	dockerd_start_with_network();
	dockerd_image("runtime");
	says_what_it_is();
	is_small();
	/* Every program finds its libraries and files. */
	out = inside("0:0", "skerry --version; qemu-img --version; passt --version; /usr/lib/qemu/virtiofsd --version; "
			    "ssh-keygen -q -t ed25519 -N '' -f /disks/key; skerry kernel list; skerry image list; "
			    "skerry doctor || true");
	ASSERT_CONTAINS(out, "QEMU emulator");
	ASSERT_CONTAINS(out, "OVMF_CODE_4M.fd");
	free(out);
	/* Nothing of the machine that built it, and nothing that only installs or explains. */
	free(inside(
		"0:0",
		"for x in /etc/machine-id /usr/bin/apt /usr/bin/dpkg /usr/bin/perl /var/cache /var/log /usr/share/man "
		"/usr/share/locale /etc/ssh; do test ! -e $x; done; test -s /usr/share/skerry/kernel/vmlinux; "
		"test -s /etc/ssl/certs/ca-certificates.crt; cd /var/lib/dpkg/status.d; "
		"for p in *; do test -s /usr/share/doc/$p/copyright; done; test -s qemu-system-x86"));
	for (size_t i = 0; i < ARRAY_SIZE(users); i++) {
		out = inside(users[i], "mkdir -m 700 /disks/machines /run/skerry/vm && ls /disks");
		ASSERT_STREQ(out, "machines\n");
		free(out);
	}
}

TEST(a_machine_of_either_shape_runs_in_it_with_no_privilege_at_all)
{
	static const char *const shapes[] = { "micro", "full" };
	_cleanup_free_ char *copy =
		xasprintf("cp -rL '%s' disks && rm -rf disks/run && chown -R 1000:1000 disks", cli_home(true));

	dockerd_start_with_network();
	dockerd_image("runtime");
	dockerd_sh(copy);
	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
		_cleanup_free_ char *script = xasprintf(
			"docker run --rm --user 1000 --cap-drop ALL -v \"$PWD/disks:/disks\" --entrypoint skerry "
			"skerry/runtime run --rm --name t --shape %s tiny -- /bin/busybox echo hello >said && "
			"grep -qx hello said",
			shapes[i]);

		dockerd_sh(script);
	}
}

TEST(skerry_vm_runs_as_a_number_on_a_file_system_that_cannot_be_written_to)
{
	_cleanup_free_ char *disk = dockerd_runtime_file("tiny.qcow2"), *script = NULL;

	cli_home(false);
	dockerd_start_with_network();
	dockerd_image("runtime");
	script = xasprintf(
		"for how in '--name number --user 4711' '--name sealed --user skerry --read-only --tmpfs /tmp --tmpfs "
		"/run/skerry:uid=1000,mode=700'; do docker run -d --cap-drop ALL --security-opt no-new-privileges $how "
		"-v "
		"'%s:/image/tiny.qcow2:ro' skerry/runtime || exit 1; done; for name in number sealed; do "
		"until docker exec $name skerry-vm healthcheck; do test \"$(docker inspect -f '{{.State.Running}}' "
		"$name)\" = "
		"true || { docker logs $name >&2; exit 1; }; sleep 1; done; docker exec $name skerry-vm exec true || "
		"exit 1; done",
		disk);
	dockerd_sh(script);
}

/* ---- deploy/ ---- */

static struct json *inventory(const char *option, const char *name)
{
	const char *argv[] = { INVENTORY, option, name, NULL };
	_cleanup_cli_ struct cli r = cli_argv(argv, NULL, TOOL_S);
	struct json *j = NULL;

	ASSERT_STATUS(r, 0);
	ASSERT_OK(json_parse(r.out, strlen(r.out), "inventory", &j, NULL));
	return j;
}

/* @host NULL: it has none. Port 0: the same. */
static void reached(const struct json *hosts, const char *name, const char *host, uint64_t port, const char *user)
{
	const struct json *vars = json_get(hosts, name);
	uint64_t got = 0;

	ASSERT(vars);
	ASSERT_STREQ(json_string(json_get(vars, "ansible_user")), user);
	(void)json_u64(json_get(vars, "ansible_port"), &got);
	ASSERT_EQ(got, port);
	if (host)
		ASSERT_STREQ(json_string(json_get(vars, "ansible_host")), host);
	else
		ASSERT(!json_get(vars, "ansible_host"));
}

static bool have(const char *program)
{
	_cleanup_free_ char *script = xasprintf("command -v %s", program);
	const char *argv[] = { CLI_SHELL, script, NULL };
	_cleanup_cli_ struct cli r = cli_argv(argv, NULL, TOOL_S);

	return r.status == 0;
}

TEST(the_inventory_has_the_machines_that_run_and_how_they_are_reached)
{
	_cleanup_json_ struct json *all = NULL, *one = NULL, *nobody = NULL;
	const struct json *hosts;

	cli_home(false);
	if (!have("python3"))
		test_skip("python3 is not installed");
	dockerd_start_with_network();
	dockerd_sh("mkdir -p r/bin && cp /bin/busybox r/bin/ && tar -C r -c . | docker import --change 'LABEL "
		   "io.skerry.vm=true' "
		   "--change 'EXPOSE 22' --change 'ENTRYPOINT [\"/bin/busybox\",\"sleep\",\"1000\"]' - m:1 && "
		   "docker run -d --name one -p 127.0.0.1:2201:22 -e USER=ada m:1 && docker run -d --name two -p "
		   "'[::1]:2202:22' m:1 && "
		   "docker run -d --name three m:1 && docker run -d --name four -p 0.0.0.0:2204:22 "
		   "--label com.docker.compose.project=my-shop m:1 && docker run -d --name five --network none m:1 && "
		   "docker create --name six -p 2206:22 m:1 && docker run -d --name seven --label io.skerry.vm=false "
		   "m:1 && "
		   "docker run -d --name eight -p 127.0.0.1:2208:2222 -e 'PORTS=53/udp 22/udp, [::1]:2222-2223:21-22 "
		   "0.0.0.0:2222:22/tcp' m:1 && docker run -d --name nine -e PORTS=8080:80 m:1 && docker run -d --name "
		   "ten -e "
		   "PORTS=1022:22 m:1");
	all = inventory("--list", NULL);
	ASSERT_EQ(json_length(json_get(json_get(all, "skerry"), "hosts")), 8);
	ASSERT_EQ(json_length(json_get(json_get(all, "project_my_shop"), "hosts")), 1);
	hosts = json_get(json_get(all, "_meta"), "hostvars");
	reached(hosts, "one", "127.0.0.1", 2201, "ada");
	reached(hosts, "two", "::1", 2202, "user");
	ASSERT_CONTAINS(json_string(json_get(json_get(hosts, "three"), "ansible_host")), "172.");
	reached(hosts, "four", "127.0.0.1", 2204, "user");
	reached(hosts, "five", NULL, 0, "user");
	reached(hosts, "eight", "127.0.0.1", 2208, "user");
	ASSERT_CONTAINS(json_string(json_get(json_get(hosts, "nine"), "ansible_host")), "172.");
	ASSERT(!json_get(json_get(hosts, "nine"), "ansible_port"));
	reached(hosts, "ten", json_string(json_get(json_get(hosts, "ten"), "ansible_host")), 1022, "user");
	one = inventory("--host", "one");
	ASSERT_STREQ(json_string(json_get(one, "ansible_user")), "ada");
	nobody = inventory("--host", "nobody");
	ASSERT(json_is_object(nobody) && !json_get(nobody, "ansible_user"));
}

TEST(an_inventory_without_docker_is_one_line)
{
	static const char *const addresses[] = { "unix:///nonexistent/d.sock", "tcp://127.0.0.1:1", "ssh://somewhere" };
	const char *argv[] = { INVENTORY, NULL };

	if (!have("python3"))
		test_skip("python3 is not installed");
	for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
		_cleanup_free_ char *env = xasprintf("DOCKER_HOST=%s", addresses[i]);
		_cleanup_cli_ struct cli r = {};

		cli_setenv(env);
		r = cli_argv(argv, NULL, TOOL_S);
		ASSERT_STATUS(r, 1);
		ASSERT_CONTAINS(r.err, addresses[i]);
		ASSERT(!strchr(r.err, '\n')[1]);
	}
}

TEST(compose_reads_its_files_and_nobodys_keys_are_in_them)
{
	static const char *const files[] = { "compose", "several" };

	if (!have("docker-compose"))
		test_skip("docker-compose is not installed");
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_free_ char *path = xasprintf(SOURCE_DIR "/deploy/docker/%s.yaml", files[i]);
		const char *argv[] = { "docker-compose", "-f", path, "config", NULL };
		_cleanup_cli_ struct cli r = {};

		/* Keys are asked for. */
		cli_setenv("SSH_KEYS_PATH=");
		r = cli_argv(argv, NULL, TOOL_S);
		ASSERT(r.status != 0);
		ASSERT_CONTAINS(r.err, "SSH_KEYS_PATH");
		cli_done(&r);
		cli_setenv("SSH_KEYS_PATH=/keys.pub");
		r = cli_argv(argv, NULL, TOOL_S);
		ASSERT_STATUS(r, 0);
		ASSERT_CONTAINS(r.out, "file: /keys.pub");
		ASSERT_CONTAINS(r.out, "stop_grace_period: 1m");
		ASSERT(!strstr(r.out, "ssh-") && !strstr(r.out, "PASSWORD") && !strstr(r.out, "0.0.0.0"));
	}
}
