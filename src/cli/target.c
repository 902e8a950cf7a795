#include "cli/target.h"

#include <errno.h>
#include <arpa/inet.h>
#include <inttypes.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "cli/output.h"
#include "image/image.h"
#include "machine/plan.h"
#include "net/net.h"
#include "machine/session.h"
#include "machine/image_config.h"
#include "wire/message.h"

enum { SSH_PORT = 22, BANNER_MAX = 255 };
#define TRY_NS           (5 * NS_PER_SEC)
#define RETRY_FIRST_NS   (50 * NS_PER_MS)
#define RETRY_LONGEST_NS (500 * NS_PER_MS)

int target_each(const struct invocation *inv, const struct store *s,
		int (*fn)(const struct store *s, const struct name *name, const void *options, struct error *err),
		struct error *err)
{
	int status = 0;

	for (size_t i = 0; i < inv->n_operands; i++) {
		_cleanup_error_ struct error e = {};
		struct name name;
		int r = name_parse(inv->operands[i], "machine name", &name, &e);

		if (r >= 0)
			r = fn(s, &name, inv->options, &e);
		if (r >= 0)
			continue;
		if (inv->n_operands == 1)
			return error_move(err, &e);
		output_error(&e);
		if (!status)
			status = error_exit_status(&e);
	}
	return status;
}

int target_connect(const struct store *s, const char *operand, struct name *ret_name, struct client *ret,
		   struct error *err)
{
	int r = name_parse(operand, "machine name", ret_name, err);

	return r < 0 ? r : client_connect(s, ret_name, ret, err);
}

uint64_t target_deadline(uint64_t timeout_ns)
{
	return timeout_ns ? clock_monotonic_ns() + timeout_ns : UINT64_MAX;
}

char *target_user(const struct store *s, const struct machine_spec *spec)
{
	struct image_meta image = {};
	char *user = NULL;

	if (spec->user)
		return xstrdup(spec->user);
	if (spec->image_digest && image_find(s, spec->image_digest, &image, NULL) >= 0) {
		user = xstrdup(image.user);
		image_meta_done(&image);
	}
	return user;
}

char *target_workdir(const struct store *s, const struct machine_spec *spec)
{
	struct image_meta image = {};
	char *dir = NULL;

	if (spec->workdir)
		return xstrdup(spec->workdir);
	if (spec->image_digest && image_find(s, spec->image_digest, &image, NULL) >= 0) {
		dir = xstrdup(image_config_workdir(&image, spec));
		image_meta_done(&image);
	}
	return dir;
}

static int retry_over(struct loop_source *source, void *data)
{
	(void)source;
	*(bool *)data = true;
	return 0;
}

/* Lets the loop run for @span_ns: the server's start is no event that anybody could tell us. */
static int pause_in_loop(struct client *c, uint64_t span_ns)
{
	_cleanup_(loop_source_freep) struct loop_source *timer = NULL;
	bool over = false;
	int r = loop_add_timer(c->loop, &timer, clock_monotonic_ns() + span_ns, retry_over, &over);

	while (r >= 0 && !over && c->rpc)
		r = loop_step(c->loop, UINT64_MAX);
	return r < 0 ? r : 0;
}

bool target_lacks_agent(const struct store *s, const struct machine_spec *spec)
{
	struct image_meta image = {};
	bool lacks = spec->image_digest && plan_image(s, spec, &image, NULL) >= 0 && image.boot == IMAGE_BOOT_FIRMWARE;

	image_meta_done(&image);
	return lacks;
}

int target_need_awake(const struct machine_info *info, struct error *err)
{
	const char *why = info->state.paused_why;

	/* What a command holds goes on by itself. */
	if (info->status != MACHINE_PAUSED || info->state.held)
		return 0;
	error_set_kind(err, ERROR_BUSY, EBUSY, "machine '%s' is paused%s%s%s", info->spec.name, why ? " (" : "",
		       why ? why : "", why ? ")" : "");
	return error_hint(err, "skerry resume %s", info->spec.name);
}

int target_need_agent(const struct store *s, const struct name *name, struct error *err)
{
	_cleanup_info_ struct machine_info info = {};
	int r = machine_info_load(s, name, &info, err);

	if (r >= 0)
		r = target_need_awake(&info, err);
	if (r < 0 || info.state.agent_ready || !target_lacks_agent(s, &info.spec))
		return r;
	error_set(err, ENOTSUP, "machine '%s' has no agent: its image '%s' boots by itself", name->s, info.spec.image);
	return error_hint(err, "skerry ssh %s", name->s);
}

bool target_ssh_address(const struct machine_info *info, struct ssh_address *ret)
{
	for (size_t i = 0; i < info->state.publish.n; i++) {
		struct net_publish p;

		if (net_publish_parse(info->state.publish.items[i], &p, NULL) >= 0 && !p.udp &&
		    p.guest_port == SSH_PORT && strlen(p.ip) < sizeof(ret->ip) && !strchr(p.ip, ':')) {
			/* Published on every address, this one included. */
			const char *ip = streq(p.ip, "0.0.0.0") ? "127.0.0.1" : p.ip;

			*ret = (struct ssh_address){ .port = p.host_port };
			memcpy(ret->ip, ip, strlen(ip));
			return true;
		}
	}
	return false;
}

struct probe {
	struct client *client;
	bool connected, over, found;
	struct loop_source *io, *timer; /* owned */
	char banner[4];
	size_t n;
};

static int probe_over(struct loop_source *source, void *data)
{
	(void)source;
	((struct probe *)data)->over = true;
	return 0;
}

static int probe_step(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct probe *p = data;
	ssize_t n;

	if (!p->connected) {
		p->connected = true;
		return loop_set_events(source, EPOLLIN);
	}
	n = recv(fd, p->banner + p->n, sizeof(p->banner) - p->n, MSG_DONTWAIT);

	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n > 0)
		p->n += (size_t)n;
	p->found = p->n == sizeof(p->banner) && memcmp(p->banner, "SSH-", 4) == 0;
	p->over = n <= 0 || p->n == sizeof(p->banner);
	return 0;
}

/* One try over the published port. Whoever forwards it accepts before the guest listens: only the server's first words tell. */
static int try_ssh_address(struct client *c, const struct ssh_address *a, uint64_t deadline_ns)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(a->port) };
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct probe p = { .client = c };
	uint64_t now = clock_monotonic_ns();
	int r;

	if (fd < 0 || inet_pton(AF_INET, a->ip, &to.sin_addr) != 1 ||
	    (connect(fd, (const struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS))
		return 0;
	r = loop_add_fd(c->loop, &p.io, fd, EPOLLOUT, probe_step, &p);
	if (r >= 0)
		r = loop_add_timer(c->loop, &p.timer, deadline_ns < now + TRY_NS ? deadline_ns : now + TRY_NS,
				   probe_over, &p);
	while (r >= 0 && !p.over && c->rpc)
		r = loop_step(c->loop, UINT64_MAX);
	loop_source_free(p.io);
	loop_source_free(p.timer);
	return p.found;
}

/* One try: 1 = it is an ssh server, 0 = not yet. */
static int try_ssh(struct client *c, uint64_t deadline_ns)
{
	Skerry__Agent__V1__DialRequest dial = SKERRY__AGENT__V1__DIAL_REQUEST__INIT;
	Skerry__Agent__V1__ReadRequest read = SKERRY__AGENT__V1__READ_REQUEST__INIT;
	Skerry__Agent__V1__ReadResponse *answer = NULL;
	_cleanup_free_ char *id = session_new_id("probe");
	_cleanup_buf_ struct buf out = {};
	uint64_t now = clock_monotonic_ns(), span = deadline_ns > now ? deadline_ns - now : 1;
	int found = 0;

	/* A connection that a server half up accepted and forgot must not use up the whole time. */
	if (span > TRY_NS)
		span = TRY_NS;
	dial.id = id;
	dial.port = SSH_PORT;
	if (client_call(c, AGENT_SERVICE, "Dial", &dial.base, span, NULL, NULL) < 0)
		return 0;
	read.id = id;
	read.stream = 1;
	read.max = BANNER_MAX;
	if (client_call(c, AGENT_SERVICE, "Read", &read.base, span, &out, NULL) >= 0)
		answer = message_unpack(&skerry__agent__v1__read_response__descriptor, out.p, out.len);
	if (answer)
		found = answer->data.len >= 4 && memcmp(answer->data.data, "SSH-", 4) == 0;
	message_free(answer);
	session_release(c, id);
	return found;
}

static int no_way_in(const struct machine_info *info, struct error *err)
{
	error_set(err, ENOTSUP, "machine '%s' has no agent, and network mode '%s' leads to no port of it",
		  info->spec.name, info->spec.net);
	return error_hint(err, "skerry create --net user, or skerry console %s", info->spec.name);
}

int target_wait_ssh(const struct store *s, const struct name *name, struct client *c, uint64_t deadline_ns,
		    struct error *err)
{
	_cleanup_info_ struct machine_info info = {};
	uint64_t pause = RETRY_FIRST_NS, now = clock_monotonic_ns();
	struct ssh_address address;
	bool direct = false;
	int r = machine_info_load(s, name, &info, err);

	if (r >= 0)
		r = target_need_awake(&info, err);
	if (r < 0)
		return r;
	if (!info.state.agent_ready && target_lacks_agent(s, &info.spec)) {
		direct = target_ssh_address(&info, &address);
		if (!direct)
			return no_way_in(&info, err);
	} else {
		r = client_wait_agent(c, deadline_ns > now ? deadline_ns - now : 1, err);
		if (r < 0)
			return r;
	}
	for (;;) {
		if (direct ? try_ssh_address(c, &address, deadline_ns) : try_ssh(c, deadline_ns))
			return 0;
		if (!c->rpc)
			return error_set(err, ECONNRESET, "machine '%s' ended meanwhile", c->name);
		if (clock_monotonic_ns() + pause >= deadline_ns)
			break;
		if (pause_in_loop(c, pause) < 0)
			break;
		if (pause < RETRY_LONGEST_NS)
			pause *= 2;
	}
	error_set(err, ETIMEDOUT, "machine '%s': its ssh server does not answer", c->name);
	if (direct)
		return error_hint(err, "skerry logs %s; skerry console %s", c->name, c->name);
	return error_hint(err, "skerry exec %s CMD works without one; skerry logs %s", c->name, c->name);
}
