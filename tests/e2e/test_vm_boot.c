/* What skerry-vm boots other than a disk with its own kernel: installers, what is fetched, BIOS (scripts/test-firmware.sh makes the ISOs). */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "cli.h"
#include "web.h"

/* Emulated, on a busy host: firmware, a boot loader, a kernel. */
enum { RUN_S = 900, SHORT_S = 300 };

static void set(const char *name, const char *value)
{
	_cleanup_free_ char *text = xasprintf("%s=%s", name, value);

	cli_setenv(text);
}

static void prepare(void)
{
	cli_home(false);
	set("SKERRY_RUN_DIR", test_tmpdir());
	set("T", test_tmpdir());
	set("VM", VM_PROGRAM);
	set("MEMORY", "512m");
	set("STORAGE", "64m");
	set("ACCEL", "tcg");
	/* Nothing is led to what boots here; a port that is free is found by its number. */
	{
		_cleanup_free_ char *port = xasprintf("127.0.0.1:%u:22", 24000 + (unsigned)getpid() % 4000);

		set("PORTS", port);
	}
}

static int start(void)
{
	const char *argv[] = { CLI_SHELL, "exec \"$VM\" </dev/null >>$T/out 2>>$T/err", NULL };

	return cli_spawn(argv);
}

static char *contents(const char *name)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", test_tmpdir(), name);
	struct buf b = {};

	(void)file_read_at(AT_FDCWD, path, 4 << 20, &b);
	buf_adds(&b, "");
	return buf_take(&b);
}

static void ends(unsigned timeout_s, int expected)
{
	int status = cli_wait(start(), timeout_s);

	if (status != expected) {
		_cleanup_free_ char *err = contents("err");

		test_fail(__FILE__, __LINE__, "status %d, expected %d: %s", status, expected, err);
	}
}

static void good(const char *script)
{
	const char *argv[] = { CLI_SHELL, script, NULL };
	_cleanup_cli_ struct cli r = cli_argv(argv, NULL, SHORT_S);

	ASSERT_STATUS(r, 0);
}

struct served {
	const void *p;
	size_t n;
	unsigned requests, cuts;
};

static void serve(const struct web_request *q, struct web_answer *a, void *data)
{
	struct served *s = data;

	(void)q;
	s->requests++;
	web_add_header(a, "ETag: \"one\"");
	a->body = s->p;
	a->len = s->n;
	if (s->cuts) {
		s->cuts--;
		a->cut = s->n / 2;
	}
}

static struct served *map_file(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct served *s = web_shared(sizeof(*s));
	struct stat st;
	void *p;

	ASSERT(fd >= 0 && fstat(fd, &st) == 0);
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	ASSERT(p != MAP_FAILED);
	s->p = p;
	s->n = (size_t)st.st_size;
	return s;
}

TEST(an_iso_is_fetched_and_what_it_installs_boots)
{
	const char *dir = getenv("SKERRY_TEST_FIRMWARE");
	_cleanup_free_ char *iso = xasprintf("%s/installer.iso", dir ? dir : ""), *boot = NULL, *out = NULL,
			    *err = NULL, *again = NULL, *refused = NULL;
	struct served *s;

	if (!dir || access(iso, R_OK) < 0)
		test_skip("SKERRY_TEST_FIRMWARE has no installer.iso");
	prepare();
	s = map_file(iso);
	s->cuts = 1;
	boot = xasprintf("http://127.0.0.1:%d/installer.iso", web_start(serve, s));
	set("BOOT", boot);
	set("USER_DATA", "#cloud-config\n");
	ends(RUN_S, 0);
	out = contents("out");
	err = contents("err");
	ASSERT_CONTAINS(out, "SKERRY-INSTALLER: done");
	ASSERT_CONTAINS(err, "(100 %)");
	ASSERT_CONTAINS(err, "#sha256");
	ASSERT_EQ(s->requests, 2);
	good("cd $SKERRY_HOME/downloads && test -s *-installer.iso && ! ls | grep part && "
	     "grep -q $(sha256sum <$(echo *-installer.iso) | cut -c 1-64) *-installer.iso.json");
	/* The disk is tried first now; what is there is not asked for again. */
	good("rm $T/out");
	ends(RUN_S, 0);
	again = contents("out");
	ASSERT_CONTAINS(again, "SKERRY-INSTALLED: disk system of 131072 sectors");
	ASSERT_EQ(s->requests, 2);
	/* Another base is not what this machine stands on; without any it needs none. */
	good("truncate -s 1M $T/other.img && printf '\\125\\252' | dd of=$T/other.img bs=1 seek=510 conv=notrunc "
	     "2>/dev/null");
	boot = (free(boot), xasprintf("%s/other.img", test_tmpdir()));
	set("BOOT", boot);
	ends(SHORT_S, 78);
	refused = contents("err");
	ASSERT_CONTAINS(refused, "was installed from an ISO");
	cli_setenv("BOOT=");
	cli_setenv("STORAGE=96m");
	good("rm -r $T/out $SKERRY_HOME/downloads");
	ends(RUN_S, 0);
	free(again);
	again = contents("out");
	ASSERT_CONTAINS(again, "SKERRY-INSTALLED: disk system of 196608 sectors");
	ASSERT(cli_processes_gone(120));
}

/* Says its name on the serial port, then switches off: ACPI's power management block is where SeaBIOS puts it on q35. */
#define BOOT_SECTOR                                                                                                    \
	"printf '\\061\\300\\216\\330\\374\\276\\035\\174\\254\\204\\300\\164\\006\\272\\370\\003\\356\\353\\365\\272" \
	"\\004\\006\\270\\000\\040\\357\\364\\353\\375SKERRY-BIOS\\r\\n\\000' >$T/bios.img && truncate -s 1M "         \
	"$T/bios.img "                                                                                                 \
	"&& printf '\\125\\252' | dd of=$T/bios.img bs=1 seek=510 conv=notrunc 2>/dev/null"

TEST(a_disk_that_only_knows_bios_boots_by_it)
{
	_cleanup_free_ char *boot = NULL, *out = NULL, *err = NULL;

	prepare();
	boot = xasprintf("file://%s/bios.img", test_tmpdir());
	good(BOOT_SECTOR);
	set("BOOT", boot);
	set("FIRMWARE", "legacy");
	ends(RUN_S, 0);
	out = contents("out");
	err = contents("err");
	ASSERT_CONTAINS(out, "SKERRY-BIOS");
	ASSERT_CONTAINS(err, "powered off by the guest");
	ASSERT(cli_processes_gone(120));
}

TEST(what_cannot_be_fetched_is_told)
{
	_cleanup_free_ char *err = NULL, *boot = NULL;
	struct served *s;

	prepare();
	set("BOOT", "http://127.0.0.1:1/x.iso");
	ends(SHORT_S, 1);
	good(BOOT_SECTOR);
	{
		_cleanup_free_ char *path = xasprintf("%s/bios.img", test_tmpdir());

		s = map_file(path);
	}
	boot = xasprintf("http://127.0.0.1:%d/d.img#sha256:%064d", web_start(serve, s), 0);
	set("BOOT", boot);
	ends(SHORT_S, 65);
	err = contents("err");
	ASSERT_CONTAINS(err, "skerry-vm: BOOT: 127.0.0.1:1: ");
	ASSERT_CONTAINS(err, "and not sha256:0000");
	good("! ls $SKERRY_HOME/downloads | grep img");
	ASSERT_EQ(cli_entries("machines", NULL, 0), 0);
	set("BOOT", "http://127.0.0.1:1/x.iso#md5:1");
	ends(SHORT_S, 78);
}

TEST(secure_boot_starts_nothing_that_nobody_signed)
{
	const char *dir = getenv("SKERRY_TEST_FIRMWARE");
	_cleanup_free_ char *iso = xasprintf("%s/halt.iso", dir ? dir : "");
	uint64_t deadline = clock_monotonic_ns() + RUN_S * NS_PER_SEC;
	int pid;

	if (!dir || access(iso, R_OK) < 0)
		test_skip("SKERRY_TEST_FIRMWARE has no halt.iso");
	if (access("/usr/share/OVMF/OVMF_CODE_4M.ms.fd", R_OK) < 0)
		test_skip("there is no OVMF with Secure Boot");
	prepare();
	set("BOOT", iso);
	set("FIRMWARE", "secure");
	cli_setenv("STOP_TIMEOUT=3");
	pid = start();
	for (;;) {
		_cleanup_free_ char *out = contents("out");

		if (strstr(out, "Access Denied"))
			break;
		ASSERT(clock_monotonic_ns() < deadline);
		(void)usleep(300000); /* lint: firmware says things when it says them */
	}
	ASSERT_OK(kill(pid, SIGTERM));
	ASSERT_EQ(cli_wait(pid, SHORT_S), 0);
	ASSERT(cli_processes_gone(120));
}
