/* disk: the disks of machines. */
#include <errno.h>

#include "base/parse.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/target.h"
#include "agent.pb-c.h"
#include "wire/message.h"

#define TRIM_TIMEOUT_NS  (300 * NS_PER_SEC)
#define AGENT_TIMEOUT_NS (120 * NS_PER_SEC)

static int trim_one(const struct store *s, const struct name *name, const void *options, struct error *err)
{
	Skerry__Agent__V1__TrimResponse *m;
	_cleanup_client_ struct client c = {};
	_cleanup_buf_ struct buf out = {};
	char text[32];
	int r = client_connect(s, name, &c, err);

	(void)options;
	if (r >= 0)
		r = target_need_agent(s, name, err);
	if (r >= 0)
		r = client_wait_agent(&c, AGENT_TIMEOUT_NS, err);
	if (r >= 0)
		r = client_call(&c, AGENT_SERVICE, "Trim", NULL, TRIM_TIMEOUT_NS, &out, err);
	if (r < 0)
		return r;
	m = message_unpack(&skerry__agent__v1__trim_response__descriptor, out.p, out.len);
	if (!m)
		return error_set(err, EBADMSG, "machine '%s': the guest sent a malformed answer", name->s);
	r = output_line(err, "%s: %s given back", name->s, format_bytes(m->trimmed_bytes, text, sizeof(text)));
	message_free(m);
	return r;
}

static int run_disk_trim(const struct invocation *inv, struct error *err)
{
	_cleanup_store_ struct store s = {};
	int r = store_open(&s, err);

	return r < 0 ? r : target_each(inv, &s, trim_one, err);
}

static const struct command disk_trim_command = {
	.name = "trim",
	.operands = "NAME...",
	.min_operands = 1,
	.max_operands = OPERANDS_ANY,
	.complete = "machine+",
	.summary = "Give back to the host what running machines have deleted on their disks",
	.examples = { { "skerry disk trim web", "Shrink its disk file" } },
	.run = run_disk_trim,
};

static const struct command *const disk_commands[] = { &disk_trim_command, NULL };

const struct command disk_command = {
	.name = "disk",
	.operands = "trim",
	.summary = "Disks: trim",
	.examples = { { "skerry disk trim web", "Shrink its disk file" } },
	.subcommands = disk_commands,
};
