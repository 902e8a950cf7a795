/* CONSOLE=web: the console, and the display, of a container's machine in a browser. What a browser sends is written by hand here, and so is what none would. */
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "cli.h"
#include "websocket.h"

enum {
	UP_S = 600,
	ENDED_S = 120,
	SOON_S = 120,
	PIECES = 200,
	PIECE = 100,
	PORT_FIRST = 10000,
	PORTS = 5000,
	TOKEN_LEN = 48
};

static void set(const char *name, const char *value)
{
	_cleanup_free_ char *text = xasprintf("%s=%s", name, value);

	cli_setenv(text);
}

static void good(const char *text)
{
	const char *argv[] = { CLI_SHELL, text, NULL };
	_cleanup_cli_ struct cli r = cli_argv(argv, NULL, UP_S);

	ASSERT_STATUS(r, 0);
}

static char *contents(const char *name)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", test_tmpdir(), name);
	struct buf b = {};

	(void)file_read_at(AT_FDCWD, path, 8 << 20, &b);
	buf_adds(&b, "");
	return buf_take(&b);
}

static uint16_t port(void)
{
	return (uint16_t)(PORT_FIRST + getpid() % PORTS);
}

static void prepare(bool needs_store)
{
	_cleanup_free_ char *page = xasprintf("%u", port()), *ssh = xasprintf("127.0.0.1:%u:22", port() + PORTS);

	cli_home(needs_store);
	set("SKERRY_RUN_DIR", test_tmpdir());
	set("T", test_tmpdir());
	set("VM", VM_PROGRAM);
	set("PORTS", ssh);
	set("MEMORY", "512m");
	set("CONSOLE", "web");
	set("CONSOLE_PORT", page);
}

/* A disk that firmware looks at and finds nothing to boot on: enough of a machine for whoever only wants its page. */
static void prepare_bare(void)
{
	_cleanup_free_ char *boot = NULL;

	prepare(false);
	boot = xasprintf("%s/bare.img", test_tmpdir());
	set("BOOT", boot);
	set("STORAGE", "64m");
	set("ACCEL", "tcg");
	/* Nothing in it answers the power button. */
	set("STOP_TIMEOUT", "3");
	good("truncate -s 64M $T/bare.img && printf '\\125\\252' | dd of=$T/bare.img bs=1 seek=510 conv=notrunc "
	     "2>/dev/null");
}

/* Debian with a password, so that somebody can log in where they see no network. */
static void prepare_debian(void)
{
	_cleanup_free_ char *boot = NULL;
	_cleanup_cli_ struct cli image = {};

	prepare(true);
	image = cli("image", "inspect", "debian", NULL);
	if (image.status != 0)
		test_skip("the store has no image 'debian'");
	good("d=$(grep -l '\"recipe debian' $SKERRY_HOME/images/disks/*/meta.json | xargs dirname) && "
	     "{ ln $d/disk.raw $T/base.img 2>/dev/null || cp --sparse=always $d/disk.raw $T/base.img; }");
	boot = xasprintf("%s/base.img", test_tmpdir());
	set("BOOT", boot);
	set("USER", "ann");
	set("PASSWORD", "sesame");
	set("HOSTNAME_", "harbour");
}

static int start(void)
{
	const char *argv[] = { CLI_SHELL, "exec \"$VM\" </dev/null >>$T/out 2>>$T/err", NULL };

	return cli_spawn(argv);
}

/* Processes of this test's home, by their names. */
#define KILL(name)                                                                                                  \
	"for p in $(grep -lz \"^SKERRY_HOME=$SKERRY_HOME\\$\" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3); do " \
	"case $(cat /proc/$p/comm) in " name ") kill -9 $p 2>/dev/null || :;; esac; done"

/* All that there is to start has been: nobody is being born whom a look at the processes would miss. */
static void wait_engine(void)
{
	char names[4096];

	for (uint64_t deadline = clock_monotonic_ns() + UP_S * NS_PER_SEC;;) {
		(void)cli_processes(names, sizeof(names));
		/* And not qemu-img, which makes its disk. */
		if (strstr(names, " qemu-system"))
			return;
		ASSERT(clock_monotonic_ns() < deadline);
		(void)usleep(100000); /* lint: as somebody who looks */
	}
}

static void stop(int pid, bool booted)
{
	int status;

	if (!booted)
		wait_engine();
	ASSERT_OK(kill(pid, SIGTERM));
	status = cli_wait(pid, ENDED_S);
	/* While the machine is started nothing has to be kept in order yet. */
	if (status != 0 && (booted || status != 128 + SIGTERM)) {
		_cleanup_free_ char *err = contents("err");

		test_fail(__FILE__, __LINE__, "status %d: %s", status, err);
	}
	/* A monitor may have started somebody while it was killed. */
	for (uint64_t deadline = clock_monotonic_ns() + ENDED_S * NS_PER_SEC; !booted && !cli_processes_gone(2);) {
		good(KILL("skerry-monitor|qemu*"));
		ASSERT(clock_monotonic_ns() < deadline);
	}
	ASSERT(cli_processes_gone(ENDED_S));
}

/* What skerry-vm has said, once @text is in it: a page may answer before that. Owned by the caller. */
static char *wait_said(const char *text)
{
	uint64_t deadline = clock_monotonic_ns() + UP_S * NS_PER_SEC;

	for (;;) {
		_cleanup_free_ char *err = contents("err");

		if (strstr(err, text))
			return TAKE_PTR(err);
		if (clock_monotonic_ns() > deadline)
			test_fail(__FILE__, __LINE__, "no '%s': %s", text, err);
		(void)usleep(100000); /* lint: as somebody who looks at the log */
	}
}

/* The token, once the log has the address. */
static const char *log_token(void)
{
	static char token[TOKEN_LEN + 1];
	uint64_t deadline = clock_monotonic_ns() + UP_S * NS_PER_SEC;

	for (;;) {
		_cleanup_free_ char *err = contents("err");
		const char *p = strstr(err, "/?token=");

		if (p && strlen(p) > 8 + TOKEN_LEN) {
			memcpy(token, p + 8, TOKEN_LEN);
			ASSERT_EQ(strspn(token, "0123456789abcdef"), TOKEN_LEN);
			return token;
		}
		if (clock_monotonic_ns() > deadline)
			test_fail(__FILE__, __LINE__, "no address: %s", err);
		(void)usleep(100000); /* lint: as somebody who looks at the log */
	}
}

static int get(const char *target, const char *headers, struct buf *ret)
{
	_cleanup_free_ char *request =
		xasprintf("GET %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n%s\r\n", target, port(), headers);

	return http_ask(port(), request, SOON_S, ret);
}

/* What a browser keeps of a first visit: "Cookie: NAME=VALUE\r\n". */
static char *visit(const char *token)
{
	_cleanup_free_ char *target = xasprintf("/?token=%s", token);
	_cleanup_buf_ struct buf answer = {};
	const char *p;

	if (get(target, "", &answer) != 200) {
		_cleanup_free_ char *err = contents("err");

		test_fail(__FILE__, __LINE__, "no page: %s\n%s", answer.p ? answer.p : "", err);
	}
	p = strstr(answer.p, "set-cookie: ");
	ASSERT(p != NULL);
	p += strlen("set-cookie: ");
	ASSERT_CONTAINS(p, "; Path=/; HttpOnly; SameSite=Strict\r\n");
	ASSERT(!strstr(p, token));
	return xasprintf("Cookie: other=1; %.*s\r\n", (int)strcspn(p, ";"), p);
}

static void home_file(const char *name, struct stat *ret)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", cli_home(false), name);

	if (stat(path, ret) < 0)
		*ret = (struct stat){};
}

TEST(nothing_listens_unless_it_is_asked_for)
{
	_cleanup_free_ char *err = NULL;
	char names[4096];
	struct stat st;
	int pid;

	prepare_bare();
	set("CONSOLE", "");
	pid = start();
	/* The engine runs: what would listen does by now. */
	wait_engine();
	(void)cli_processes(names, sizeof(names));
	ASSERT(!strstr(names, "skerry-web"));
	ASSERT_EQ(http_connect(port()), -1);
	home_file("console-token", &st);
	ASSERT_EQ(st.st_mode, 0);
	err = contents("err");
	ASSERT(!strstr(err, "token"));
	stop(pid, false);
}

/* Nobody, with no capability, under a filter: whoever takes it over has nothing. */
static void has_no_power(void)
{
	good("for p in $(grep -lz \"^SKERRY_HOME=$SKERRY_HOME\\$\" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3); do "
	     "case $(cat /proc/$p/comm) in skerry-web) s=/proc/$p/status; grep -qx 'CapEff:.0000000000000000' $s && "
	     "grep -qx 'NoNewPrivs:.1' $s && grep -qx 'Seccomp:.2' $s && ! grep -q '^[UG]id:.*\t0\\b' $s && found=1;; "
	     "esac; "
	     "done; test \"$found\" = 1");
}

TEST(the_page_opens_with_its_token_only)
{
	static const char *const files[] = { "/",
					     "/index.html",
					     "/page.js",
					     "/page.css",
					     "/features",
					     "/none",
					     "/../../../etc/passwd",
					     "/%2e%2e/%2e%2e/etc/passwd",
					     "//etc/passwd" };
	_cleanup_free_ char *cookie = NULL, *post = NULL;
	_cleanup_buf_ struct buf b = {};
	struct stat st;
	int pid;

	prepare_bare();
	pid = start();
	cookie = visit(log_token());
	has_no_power();
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		ASSERT_EQ(get(files[i], "", &b), 401);
		ASSERT(!strstr(b.p, "set-cookie"));
		ASSERT_CONTAINS(b.p, "docker logs");
	}
	ASSERT_EQ(get("/?token=", "", &b), 403);
	ASSERT_EQ(get("/page.js?token=0123456789", "", &b), 403);
	ASSERT_EQ(get("/", "Cookie: skerry-00000000=0; a=b\r\n", &b), 401);
	/* A token that is wrong is not made good by a cookie. */
	ASSERT_EQ(get("/?token=wrong", cookie, &b), 403);
	ASSERT_EQ(get("/", cookie, &b), 200);
	ASSERT_CONTAINS(b.p, "content-security-policy: default-src 'none'; script-src 'self';");
	ASSERT_CONTAINS(b.p, "<script type=\"module\" src=\"/page.js\">");
	ASSERT_EQ(get("/page.js", cookie, &b), 200);
	ASSERT_CONTAINS(b.p, "text/javascript");
	ASSERT_EQ(get("/page.css", cookie, &b), 200);
	ASSERT_EQ(get("/features", cookie, &b), 200);
	ASSERT_CONTAINS(b.p, "console display\n");
	for (size_t i = 5; i < ARRAY_SIZE(files); i++)
		ASSERT_EQ(get(files[i], cookie, &b), 404);
	post = xasprintf("POST / HTTP/1.1\r\nHost: x\r\n%sContent-Length: 3\r\n\r\nabc", cookie);
	ASSERT_EQ(http_ask(port(), post, SOON_S, &b), 405);
	home_file("console-token", &st);
	ASSERT_EQ(st.st_mode & 07777, 0600);
	stop(pid, false);
	/* It is the volume's: what is in a bookmark and in a browser's jar is good after a restart. */
	pid = start();
	for (uint64_t deadline = clock_monotonic_ns() + UP_S * NS_PER_SEC; get("/", cookie, &b) == 0;) {
		ASSERT(clock_monotonic_ns() < deadline);
		(void)usleep(50000); /* lint: as a browser that is told to load it again */
	}
	ASSERT_EQ(get("/", cookie, &b), 200);
	stop(pid, false);
}

TEST(a_token_of_the_users_own_is_not_in_the_log)
{
	_cleanup_free_ char *err = NULL, *taken = NULL;
	int pid;

	prepare_bare();
	good("printf 'correct.horse-battery\\n' >$T/secret");
	{
		_cleanup_free_ char *path = xasprintf("%s/secret", test_tmpdir());

		set("CONSOLE_TOKEN_FILE", path);
	}
	pid = start();
	err = wait_said("/?token=");
	free(visit("correct.horse-battery"));
	ASSERT(!strstr(err, "correct.horse"));
	/* The port is taken now: who asks for it is told so before anything else happens. */
	{
		_cleanup_free_ char *other = xasprintf("%s/other", test_tmpdir());

		/* A volume of its own: in the first one things are being made. */
		good("mkdir -m 700 $T/second");
		set("SKERRY_RUN_DIR", other);
		{
			_cleanup_free_ char *second = xasprintf("%s/second", test_tmpdir());

			set("SKERRY_HOME", second);
		}
		ASSERT_EQ(cli_wait(start(), UP_S), 78);
		set("SKERRY_HOME", cli_home(false));
	}
	taken = contents("err");
	ASSERT_CONTAINS(taken, "of the container cannot be had");
	ASSERT_CONTAINS(taken, "CONSOLE_PORT");
	stop(pid, false);
}

static int open_with(const char *target, const char *protocol, const char *headers)
{
	struct websocket ws;
	int status = websocket_open(&ws, port(), target, protocol, headers);

	websocket_done(&ws);
	return status;
}

TEST(websockets_are_for_who_has_the_token_and_for_our_own_page)
{
	_cleanup_free_ char *cookie = NULL, *with_token = NULL, *here = NULL, *there = NULL, *tls = NULL, *null = NULL;
	_cleanup_buf_ struct buf b = {};
	const char *token;
	int pid;

	prepare_bare();
	pid = start();
	token = log_token();
	cookie = visit(token);
	with_token = xasprintf("/console?token=%s", token);
	here = xasprintf("%sOrigin: http://127.0.0.1:%u\r\n", cookie, port());
	tls = xasprintf("%sOrigin: https://127.0.0.1:%u\r\n", cookie, port());
	there = xasprintf("%sOrigin: http://127.0.0.1:%u.example\r\n", cookie, port());
	null = xasprintf("%sOrigin: null\r\n", cookie);
	ASSERT_EQ(open_with("/console", "console", ""), 401);
	ASSERT_EQ(open_with("/display", "display", ""), 401);
	ASSERT_EQ(open_with("/console?token=wrong", "console", cookie), 403);
	ASSERT_EQ(open_with("/console", "console", there), 403);
	ASSERT_EQ(open_with(with_token, "console", "Origin: https://example.com\r\n"), 403);
	ASSERT_EQ(open_with("/console", "console", null), 403);
	ASSERT_EQ(open_with("/console", "console", here), 101);
	ASSERT_EQ(open_with("/console", "console", tls), 101);
	/* A program that is no browser has no origin. */
	ASSERT_EQ(open_with(with_token, "console", ""), 101);
	/* What the program calls its own sockets is nobody else's to have. */
	ASSERT_EQ(open_with("/listener", "listener", cookie), 404);
	ASSERT_EQ(open_with("/console", "broker", cookie), 404);
	ASSERT_EQ(open_with("/console", "machine", cookie), 404);
	ASSERT_EQ(open_with("/console", "display", cookie), 404);
	ASSERT_EQ(get("/console", cookie, &b), 404);
	stop(pid, false);
}

TEST(the_display_is_the_engines)
{
	_cleanup_websocket_ struct websocket ws = { .fd = -1 }, second = { .fd = -1 };
	_cleanup_free_ char *cookie = NULL;
	int pid;

	prepare_bare();
	pid = start();
	cookie = visit(log_token());
	/* The engine may not listen yet: the page tries again, and so does this. */
	for (uint64_t deadline = clock_monotonic_ns() + UP_S * NS_PER_SEC;;) {
		websocket_done(&ws);
		ASSERT_EQ(websocket_open(&ws, port(), "/display", "display", cookie), 101);
		if (websocket_shows(&ws, "RFB 003.008\n", SOON_S))
			break;
		ASSERT(clock_monotonic_ns() < deadline);
		(void)usleep(50000); /* lint: the page waits as well */
	}
	/* RFC 6143, 7.1: version, no authentication, shared; then how large it is, and its name. */
	websocket_send(&ws, WEBSOCKET_BINARY, "RFB 003.008\n", 12);
	websocket_send(&ws, WEBSOCKET_BINARY, "\1", 1);
	websocket_send(&ws, WEBSOCKET_BINARY, "\1", 1);
	ASSERT(websocket_shows(&ws, "QEMU", SOON_S));
	/* Another one looks too, and the first is not sent away. */
	ASSERT_EQ(websocket_open(&second, port(), "/display", "display", cookie), 101);
	ASSERT(websocket_shows(&second, "RFB 003.008\n", SOON_S));
	ASSERT(!ws.closed);
	stop(pid, false);
	ASSERT(websocket_ends(&ws, SOON_S));
}

/* A connection that says @text and waits. */
static int half_asked(const char *text)
{
	int fd = http_connect(port());

	ASSERT(fd >= 0);
	(void)write_full(fd, text, strlen(text));
	return fd;
}

static bool ends_within(int fd, unsigned seconds)
{
	_cleanup_websocket_ struct websocket raw = { .fd = fd };

	return websocket_ends(&raw, seconds);
}

TEST(who_means_ill_does_not_keep_others_out)
{
	static const char *const garbage[] = {
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nConnection: "
		"Upgrade, "
		"HTTP2-Settings\r\n\r\n",
		"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"\r\n\r\n\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n",
	};
	_cleanup_free_ char *cookie = NULL, *huge = NULL, *line = NULL, *many = NULL;
	_cleanup_buf_ struct buf b = {};
	int fds[1000], slow, pid;
	char byte;

	prepare_bare();
	pid = start();
	cookie = visit(log_token());
	for (size_t i = 0; i < ARRAY_SIZE(garbage); i++) {
		int fd = half_asked(garbage[i]);

		/* Answered or not: what comes after is not read for ever. */
		ASSERT(ends_within(fd, SOON_S));
		ASSERT_EQ(get("/", cookie, &b), 200);
	}
	huge = xcalloc(1, (1 << 20) + 1);
	memset(huge, 'a', 1 << 20);
	line = xasprintf("X-Long: %s\r\n", huge);
	ASSERT(get("/", line, &b) != 200);
	many = xasprintf("/%s", huge);
	ASSERT(get(many, cookie, &b) != 200);
	ASSERT_EQ(get("/", cookie, &b), 200);
	/* A request that takes for ever. */
	slow = half_asked("GET / HTTP/1.1\r\nHost: x\r\n");
	for (uint64_t deadline = clock_monotonic_ns() + SOON_S * NS_PER_SEC;;) {
		if (send(slow, "X: y\r\n", 6, MSG_NOSIGNAL) < 0 || recv(slow, &byte, 1, MSG_DONTWAIT) == 0)
			break;
		ASSERT(clock_monotonic_ns() < deadline);
		(void)usleep(500000); /* lint: slowly */
	}
	safe_close(slow);
	/* A thousand that say nothing, and one that has something to ask. */
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = http_connect(port());
	ASSERT_EQ(get("/", cookie, &b), 200);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		safe_close(fds[i]);
	ASSERT_EQ(get("/", cookie, &b), 200);
	/* Frames that are none. */
	for (unsigned i = 0; i < 3; i++) {
		static const struct {
			const char *p;
			size_t n;
		} frames[] = { { "\xff\x81\0\0\0\0x", 7 }, /* reserved bits and opcode */
			       { "\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 14 }, /* longer than anything */
			       { "\x89\xfe\x7f\xff\0\0\0\0", 8 } }; /* a ping as long as none may be */
		_cleanup_websocket_ struct websocket ws = {};

		ASSERT_EQ(websocket_open(&ws, port(), "/console", "console", cookie), 101);
		(void)write_full(ws.fd, frames[i].p, frames[i].n);
		if (!websocket_ends(&ws, SOON_S))
			test_fail(__FILE__, __LINE__, "frame %u is taken", i);
		ASSERT_EQ(get("/", cookie, &b), 200);
	}
	stop(pid, false);
}

/* Each answer after its question: what the guest showed before is not looked at again. */
static void log_in(struct websocket *ws)
{
	ASSERT(websocket_shows(ws, "harbour login:", UP_S));
	buf_truncate(&ws->binary, 0);
	websocket_send(ws, WEBSOCKET_BINARY, "ann\r", 4);
	ASSERT(websocket_shows(ws, "Password:", UP_S));
	buf_truncate(&ws->binary, 0);
	websocket_send(ws, WEBSOCKET_BINARY, "sesame\r", 7);
	ASSERT(websocket_shows(ws, "ann@harbour", UP_S));
}

static void type(struct websocket *ws, const char *line)
{
	websocket_send(ws, WEBSOCKET_TEXT, line, strlen(line));
}

/* In pieces, each when the one before it has been seen: of what comes faster than it is taken, QEMU drops some of a virtio console's. Meanwhile @silent,
 * which does not read, says that it is there: whoever says nothing is taken for gone in the end. */
static void print_in_pieces(struct websocket *ws, struct websocket *silent)
{
	_cleanup_free_ char *line = xasprintf("for i in $(seq 0 %d); do seq $((i * %d + 1)) $((i * %d + %d)); read x; "
					      "done; echo $((6 * 7))-read\r",
					      PIECES - 1, PIECE, PIECE, PIECE);

	type(ws, line);
	for (int i = 1; i <= PIECES; i++) {
		_cleanup_free_ char *last = xasprintf("\n%d\r\n", i * PIECE);

		ASSERT(websocket_shows(ws, last, UP_S));
		websocket_send(silent, WEBSOCKET_PONG, "", 0);
		type(ws, "\r");
	}
	ASSERT(websocket_shows(ws, "42-read", UP_S));
}

TEST(what_is_typed_reaches_the_guest_and_all_see_the_answer)
{
	_cleanup_websocket_ struct websocket ws = { .fd = -1 }, second = { .fd = -1 }, lazy = { .fd = -1 };
	_cleanup_free_ char *cookie = NULL, *log = NULL;
	_cleanup_buf_ struct buf b = {};
	int pid, small = 4096;

	prepare_debian();
	pid = start();
	cookie = visit(log_token());
	ASSERT_EQ(get("/features", cookie, &b), 200);
	ASSERT_CONTAINS(b.p, "\r\nconsole\n");
	ASSERT_EQ(websocket_open(&ws, port(), "/console", "console", cookie), 101);
	log_in(&ws);
	ASSERT_CONTAINS(ws.text.p, "joined\n");
	/* Who comes later sees what was there before, and both what comes then. */
	ASSERT_EQ(websocket_open(&second, port(), "/console", "console", cookie), 101);
	ASSERT(websocket_shows(&second, "harbour login:", SOON_S));
	type(&second, "echo $((6 * 7))-both\r");
	ASSERT(websocket_shows(&ws, "42-both", SOON_S));
	ASSERT(websocket_shows(&second, "42-both", SOON_S));
	/* One that never reads: neither the others nor the log wait for it. (So much as a reader may lag behind; of more it loses some.) */
	ASSERT_EQ(websocket_open(&lazy, port(), "/console", "console", cookie), 101);
	ASSERT_OK(setsockopt(lazy.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)));
	print_in_pieces(&ws, &second);
	log = contents("home/machines/vm/console.log");
	ASSERT_CONTAINS(log, "\n20000\r\n");
	/* The second has not read either, and goes on where it is read again. */
	(void)websocket_shows(&second, "42-read", 2);
	type(&ws, "echo $((6 * 7))-still\r");
	ASSERT(websocket_shows(&second, "42-still", SOON_S));
	/* The program that serves is killed: it comes back, with the same token, and the machine knows nothing of it. */
	good(KILL("skerry-web"));
	ASSERT(websocket_ends(&ws, SOON_S));
	websocket_done(&ws);
	ASSERT_EQ(websocket_open(&ws, port(), "/console", "console", cookie), 101);
	/* Who types before the machine is there types for nobody. */
	ASSERT(websocket_shows(&ws, "joined\n", SOON_S));
	type(&ws, "echo $((6 * 7))-again\r");
	ASSERT(websocket_shows(&ws, "42-again", SOON_S));
	/* A reboot: the connection stays, and shows the machine start. */
	buf_truncate(&ws.text, 0);
	buf_truncate(&ws.binary, 0);
	type(&ws, "sudo systemctl reboot\r");
	ASSERT(websocket_shows(&ws, "gone\njoined\n", UP_S));
	log_in(&ws);
	/* And what the container's end looks like from here. */
	stop(pid, true);
	ASSERT(websocket_ends(&ws, SOON_S));
}
