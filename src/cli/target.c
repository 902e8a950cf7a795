#include "cli/target.h"

#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "cli/output.h"
#include "image/image.h"
#include "machine/session.h"
#include "machine/image_config.h"

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
		answer = skerry__agent__v1__read_response__unpack(NULL, out.len, (const uint8_t *)out.p);
	if (answer)
		found = answer->data.len >= 4 && memcmp(answer->data.data, "SSH-", 4) == 0;
	skerry__agent__v1__read_response__free_unpacked(answer, NULL);
	session_release(c, id);
	return found;
}

int target_wait_ssh(struct client *c, uint64_t deadline_ns, struct error *err)
{
	uint64_t pause = RETRY_FIRST_NS;

	for (;;) {
		if (try_ssh(c, deadline_ns))
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
	return error_hint(err, "skerry exec %s CMD works without one; skerry logs %s", c->name, c->name);
}
