/* What users get wrong: one line that says what, the right exit status, and nothing left behind. */
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"

/* One "skerry: " line that contains @message, perhaps a hint, nothing on standard output. */
static void check_complaint(const struct cli *r, int status, const char *message)
{
	const char *line = r->err, *newline;
	unsigned complaints = 0;

	ASSERT_STATUS(*r, status);
	ASSERT_STREQ(r->out, "");
	ASSERT_CONTAINS(r->err, message);
	for (; *line; line = newline + 1) {
		newline = strchr(line, '\n');
		ASSERT(newline);
		if (strncmp(line, "skerry: ", 8) == 0)
			complaints++;
		else if (strncmp(line, "hint: ", 6) != 0)
			test_fail(__FILE__, __LINE__, "neither complaint nor hint: %s", line);
	}
	ASSERT_EQ(complaints, 1);
}

static void check_nothing_left(int machines)
{
	char names[1024] = "";

	/* A monitor that has reported its failure may still be on its way out. */
	if (!cli_processes_gone(120)) {
		cli_processes(names, sizeof(names));
		test_fail(__FILE__, __LINE__, "processes left: %s", names);
	}
	if (machines)
		ASSERT_EQ(cli_entries("machines", names, sizeof(names)), machines);
	else
		ASSERT(cli_entries("machines", names, sizeof(names)) <= 0);
	ASSERT(cli_entries("run", names, sizeof(names)) <= 0);
}

#define REFUSED(status, message, ...)                   \
	do {                                            \
		struct cli _r = cli(__VA_ARGS__, NULL); \
		check_complaint(&_r, status, message);  \
		cli_done(&_r);                          \
	} while (0)

static void make(const char *name)
{
	_cleanup_cli_ struct cli r = cli("create", name, "--image", "tiny", NULL);

	ASSERT_STATUS(r, 0);
}

TEST(commands_and_options_that_do_not_exist)
{
	cli_home(false);
	REFUSED(64, "no command", NULL);
	REFUSED(64, "unknown command 'strt'", "strt", "web");
	REFUSED(64, "unknown option '--nope'", "start", "--nope", "web");
	REFUSED(64, "too few arguments", "start");
	REFUSED(64, "unexpected argument 'x'", "list", "x");
	REFUSED(125, "unknown option '--nope'", "run", "--nope", "tiny");
	check_nothing_left(0);
}

TEST(names_that_are_none)
{
	char name[301];

	cli_home(true);
	memset(name, 'a', 300);
	name[300] = '\0';
	REFUSED(64, "machine name", "create", "a/b", "--image", "tiny");
	REFUSED(64, "machine name", "create", "..", "--image", "tiny");
	REFUSED(64, "machine name", "create", "../../etc", "--image", "tiny");
	REFUSED(64, "machine name", "create", "", "--image", "tiny");
	REFUSED(64, "machine name", "create", "a\nb", "--image", "tiny");
	REFUSED(64, "machine name", "create", "\033[31m", "--image", "tiny");
	REFUSED(64, "machine name", "create", name, "--image", "tiny");
	REFUSED(64, "machine name", "status", "..");
	REFUSED(64, "machine name", "delete", "-y", "../machines");
	REFUSED(125, "machine name", "run", "--rm", "--name", "a/b", "tiny", "true");
	check_nothing_left(0);
}

TEST(what_is_not_there)
{
	cli_home(true);
	REFUSED(1, "no image named 'nope", "create", "web", "--pull", "never", "--image", "nope");
	REFUSED(125, "no image named 'nope", "run", "--pull", "never", "nope");
	REFUSED(1, "nope", "create", "web", "--image", "tiny", "--kernel", "nope");
	REFUSED(64, "published already", "create", "web", "--image", "tiny", "--publish", "8080:80", "--publish",
		"8080:81");
	REFUSED(64, "'bogus' is not understood", "system", "prune", "-y", "--filter", "bogus");
	REFUSED(1, "no machine named 'web'", "start", "web");
	REFUSED(1, "no machine named 'web'", "stop", "web");
	REFUSED(1, "no machine named 'web'", "status", "web");
	REFUSED(1, "no machine named 'web'", "inspect", "web");
	REFUSED(1, "no machine named 'web'", "delete", "-y", "web");
	REFUSED(1, "no machine named 'web'", "logs", "web");
	REFUSED(1, "no machine named 'web'", "wait", "web");
	REFUSED(125, "no machine named 'web'", "exec", "web", "true");
	REFUSED(125, "no machine named 'web'", "ssh", "web");
	REFUSED(1, "no machine named 'web'", "cp", "/etc/passwd", "web:/tmp");
	check_nothing_left(0);
}

TEST(a_name_that_is_taken)
{
	cli_home(true);
	make("web");
	REFUSED(73, "'web'", "create", "web", "--image", "tiny");
	REFUSED(125, "'web'", "run", "--name", "web", "tiny", "true");
	check_nothing_left(1);
}

TEST(sizes_and_numbers_that_cannot_be)
{
	cli_home(true);
	REFUSED(64, "--cpus", "create", "web", "--image", "tiny", "--cpus", "0");
	REFUSED(64, "--cpus", "create", "web", "--image", "tiny", "--cpus", "-1");
	REFUSED(64, "--cpus", "create", "web", "--image", "tiny", "--cpus", "100000");
	REFUSED(64, "--memory", "create", "web", "--image", "tiny", "--memory", "63M");
	REFUSED(64, "--memory", "create", "web", "--image", "tiny", "--memory", "100000G");
	REFUSED(64, "--memory", "create", "web", "--image", "tiny", "--memory", "lots");
	REFUSED(64, "--disk", "create", "web", "--image", "tiny", "--disk", "1M");
	REFUSED(64, "publish", "create", "web", "--image", "tiny", "--publish", "eighty:80");
	REFUSED(64, "publish", "create", "web", "--image", "tiny", "--publish", "70000:80");
	REFUSED(64, "--net", "create", "web", "--image", "tiny", "--net", "wormhole");
	REFUSED(64, "--label", "create", "web", "--image", "tiny", "--label", "none");
	REFUSED(64, "--env", "create", "web", "--image", "tiny", "--env", "");
	REFUSED(64, "--env", "create", "web", "--image", "tiny", "--env", "=x");
	REFUSED(64, "--user 'a b'", "create", "web", "--image", "tiny", "--user", "a b");
	REFUSED(125, "--user 'a b'", "run", "--rm", "--user", "a b", "tiny", "true");
	check_nothing_left(0);
}

TEST(a_port_that_is_taken)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(a);
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char publish[32];

	cli_home(true);
	ASSERT_OK(bind(s, (struct sockaddr *)&a, sizeof(a)));
	ASSERT_OK(listen(s, 1));
	ASSERT_OK(getsockname(s, (struct sockaddr *)&a, &len));
	snprintf(publish, sizeof(publish), "%u:80", ntohs(a.sin_port));
	{
		_cleanup_cli_ struct cli r = cli("create", "web", "--image", "tiny", "--publish", publish, NULL);

		ASSERT_STATUS(r, 0);
	}
	REFUSED(75, "127.0.0.1", "start", "web");
	check_nothing_left(1);
}

static void write_record(const char *text)
{
	char path[400];
	int fd;

	snprintf(path, sizeof(path), "%s/machines/web/machine.json", cli_home(true));
	fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	ASSERT_OK(fd);
	ASSERT_EQ(write(fd, text, strlen(text)), (long long)strlen(text));
	close(fd);
}

TEST(records_that_are_damaged)
{
	static const char *const texts[] = { "{\"name\": \"web\", \"cp", "", "[]",
					     "{\"name\": \"web\", \"cpus\": \"two\"}" };

	cli_home(true);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		_cleanup_cli_ struct cli list = {}, gone = {};

		make("web");
		write_record(texts[i]);
		REFUSED(65, "machine.json", "status", "web");
		REFUSED(65, "machine.json", "start", "web");
		/* The others can still be listed, and the name can be had again. */
		list = cli("list", NULL);
		ASSERT_STATUS(list, 0);
		ASSERT_CONTAINS(list.out, "damaged");
		gone = cli("delete", "-y", "web", NULL);
		ASSERT_STATUS(gone, 0);
		check_nothing_left(0);
	}
}

TEST(a_wrong_type_is_named_with_its_key)
{
	char path[400], text[4096] = "", *cpus;
	FILE *f;

	cli_home(true);
	make("web");
	snprintf(path, sizeof(path), "%s/machines/web/machine.json", cli_home(true));
	f = fopen(path, "re");
	ASSERT(f && fread(text, 1, sizeof(text) - 1, f));
	fclose(f);
	cpus = strstr(text, "\"cpus\":");
	ASSERT(cpus);
	/* The number goes and an array of it comes: another type. */
	cpus = strpbrk(cpus + 7, "0123456789");
	ASSERT(cpus);
	memmove(cpus + 4, cpus + 1, strlen(cpus));
	memcpy(cpus, "[10]", 4);
	write_record(text);
	REFUSED(65, "cpus", "status", "web");
	check_nothing_left(1);
}

TEST(a_kernel_that_is_none)
{
	cli_home(false);
	REFUSED(65, "passwd", "kernel", "import", "/etc/passwd", "--name", "bad");
	REFUSED(1, "no/such", "kernel", "import", "/no/such/kernel", "--name", "bad");
	check_nothing_left(0);
}

TEST(a_kernel_is_replaced_only_where_that_is_asked_for)
{
	const char *kernel = getenv("SKERRY_TEST_KERNEL");
	char home[300];

	if (!kernel || !*kernel)
		test_skip("SKERRY_TEST_KERNEL is not set");
	/* Its kernels are not those of the store. */
	snprintf(home, sizeof(home), "SKERRY_HOME=%s/other", test_tmpdir());
	cli_home(false);
	cli_setenv(home);
	for (int i = 0; i < 2; i++) {
		_cleanup_cli_ struct cli r =
			cli("kernel", "import", kernel, "--name", "k", i ? "--replace" : NULL, NULL);

		ASSERT_STATUS(r, 0);
		REFUSED(73, "kernel named 'k' already", "kernel", "import", kernel, "--name", "k");
	}
}

TEST(a_machine_whose_kernel_is_gone)
{
	cli_home(true);
	{
		_cleanup_cli_ struct cli r = cli("create", "web", "--image", "tiny", "--kernel", "nope", NULL);

		/* Said at creation or at the start, but said. */
		if (r.status == 0)
			REFUSED(1, "nope", "start", "web");
		else
			check_complaint(&r, 1, "nope");
	}
	ASSERT(cli_processes_gone(120));
}

TEST(no_qemu)
{
	cli_home(true);
	make("web");
	cli_setenv("PATH=/nonexistent");
	REFUSED(69, "qemu", "start", "web");
	check_nothing_left(1);
}

TEST(a_qemu_that_never_says_anything)
{
	static const char mute[] = "#!/bin/sh\nexec sleep 1000\n";
	char path[512], search[1024];
	int fd;

	cli_home(true);
	make("web");
	snprintf(path, sizeof(path), "%s/qemu-system-x86_64", test_tmpdir());
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
	ASSERT(fd >= 0 && write(fd, mute, sizeof(mute) - 1) == (ssize_t)sizeof(mute) - 1 && close(fd) == 0);
	snprintf(search, sizeof(search), "PATH=%s:%s", test_tmpdir(), getenv("PATH"));
	/* It runs as a user of its own. */
	ASSERT(chmod(test_tmpdir(), 0711) == 0 && chmod(path, 0755) == 0);
	cli_setenv(search);
	REFUSED(1, "cannot be controlled", "start", "web");
	check_nothing_left(1);
}

TEST(kvm_that_is_asked_for_and_not_usable)
{
	_cleanup_cli_ struct cli doctor = {}, made = {};

	cli_home(true);
	doctor = cli("doctor", NULL);
	if (!strstr(doctor.out, "emulation (tcg)"))
		test_skip("KVM works here");
	made = cli("create", "web", "--image", "tiny", "--accel", "kvm", NULL);
	ASSERT_STATUS(made, 0);
	REFUSED(69, "kvm", "start", "web");
	check_nothing_left(1);
}

TEST(what_is_not_installed_is_told_with_what_installs_it)
{
	static const char *const lines[] = {
		"^crun  *limited .*apt-get install crun",
		"^qemu-img  *limited .*apt-get install qemu-utils",
		"^kernel-build  *limited .*bison flex bc.*apt-get install build-essential .*flex",
	};
	_cleanup_cli_ struct cli here = {}, bare = {};

	cli_home(false);
	here = cli("doctor", NULL);
	ASSERT_CONTAINS(here.out, "\ncrun ");
	ASSERT_CONTAINS(here.out, "\nvirtiofsd ");
	ASSERT_CONTAINS(here.out, "\nnewuidmap ");
	ASSERT_CONTAINS(here.out, "\nqemu-img ");
	ASSERT_CONTAINS(here.out, "\nkernel-build ");
	cli_setenv("PATH=/nothing");
	bare = cli("doctor", NULL);
	ASSERT_STATUS(bare, 69);
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		_cleanup_cli_ struct cli r = cli_argv((const char *[]){ "/bin/grep", lines[i], NULL }, bare.out, 120);

		ASSERT_STATUS(r, 0);
	}
}

TEST(a_question_that_nobody_answers)
{
	_cleanup_cli_ struct cli r = {};

	cli_home(true);
	r = cli("run", "--name", "web", "tiny", "true", NULL);
	ASSERT_STATUS(r, 0);
	REFUSED(64, "nobody to ask", "delete", "web");
	cli_done(&r);
	r = cli("delete", "--yes", "web", NULL);
	ASSERT_STATUS(r, 0);
	check_nothing_left(0);
}

TEST(a_configuration_with_a_mistake)
{
	char path[400];
	FILE *f;

	snprintf(path, sizeof(path), "%s/config", cli_home(true));
	ASSERT_OK(mkdir(path, 0700));
	snprintf(path, sizeof(path), "%s/config/config.yaml", cli_home(true));
	f = fopen(path, "we");
	ASSERT(f);
	fputs("cpus: 1\nmemmory: 1G\n", f);
	fclose(f);
	REFUSED(78, "unknown key 'memmory'", "create", "web", "--image", "tiny");
	REFUSED(78, "config.yaml", "config", "show");
	check_nothing_left(0);
}

TEST(copies_with_a_mistake)
{
	cli_home(false);
	REFUSED(64, "neither side", "cp", "a", "b");
	REFUSED(64, "one machine to another", "cp", "a:/x", "b:/y");
	REFUSED(64, "begins with /", "cp", "a:x", ".");
}
