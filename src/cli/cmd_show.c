/* list, status, inspect, stats, pid, port, path: looking without touching. */
#include <errno.h>
#include <inttypes.h>

#include "base/parse.h"
#include "base/table.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/target.h"
#include "monitor.pb-c.h"
#include "net/net.h"

#define REPLY_TIMEOUT_NS (10 * NS_PER_SEC)

/* ---- list ---- */

struct list_options {
	int format;
	bool quiet;
	struct strv labels;
	bool all; /* a habit: so it is without */
};

static const struct option list_table[] = {
	FORMAT_OPTION(list_options),
	QUIET_OPTION(list_options),
	LIST('l', "label", "KEY[=VALUE]", list_options, labels, "Only machines with that label"),
	FLAG('a', "all", list_options, all, "Also those that do not run, as ever"),
};

static const struct table_column list_columns[] = {
	{ "name", "NAME", TABLE_TEXT },
	{ "status", "STATUS", TABLE_TEXT },
	{ "image", "IMAGE", TABLE_TEXT },
	{ "cpus", "CPUS", TABLE_NUMBER },
	{ "memory_bytes", "MEMORY", TABLE_BYTES },
	{ "published", "PORTS", TABLE_TEXT },
	{ "started", "STARTED", TABLE_TIME },
	{ "created", "CREATED", TABLE_TIME },
};

static bool label_matches(const struct strv *labels, const char *wanted)
{
	for (size_t i = 0; i < labels->n; i++) {
		const char *rest = after_prefix(labels->items[i], wanted);

		if (rest && (!*rest || (*rest == '=' && !strchr(wanted, '='))))
			return true;
	}
	return false;
}

static char *joined(const struct strv *v)
{
	struct buf b = {};

	for (size_t i = 0; i < v->n; i++)
		buf_addf(&b, "%s%s", i ? " " : "", v->items[i]);
	return v->n ? buf_take(&b) : NULL;
}

static void list_row(struct table *t, const char *name, const struct machine_info *i)
{
	bool running = i->status != MACHINE_CREATED && i->status != MACHINE_STOPPED && i->status != MACHINE_FAILED;
	_cleanup_free_ char *ports = joined(running && i->state.publish.n ? &i->state.publish : &i->spec.publish);

	table_text(t, name);
	table_text(t, machine_status_name(i->status));
	table_text(t, i->spec.image);
	table_number(t, i->spec.cpus);
	table_bytes(t, i->spec.memory_bytes);
	table_text(t, ports);
	table_time(t, running ? i->state.started_ns : 0);
	table_time(t, i->spec.created_ns);
}

static int run_list(const struct invocation *inv, struct error *err)
{
	const struct list_options *o = inv->options;
	_cleanup_store_ struct store s = {};
	_cleanup_strv_ struct strv names = {};
	struct table *t;
	int r = store_open(&s, err);

	if (r >= 0)
		r = store_machine_names(&s, &names, err);
	if (r < 0)
		return r;
	t = table_new(list_columns, ARRAY_SIZE(list_columns));
	for (size_t i = 0; i < names.n; i++) {
		_cleanup_info_ struct machine_info info = {};
		_cleanup_error_ struct error e = {};
		struct name name;
		bool wanted = true;

		r = name_parse(names.items[i], "machine name", &name, &e);
		if (r >= 0)
			r = machine_info_load(&s, &name, &info, &e);
		/* Deleted while we look: it was not there. */
		if (r == -ENOENT)
			continue;
		if (r < 0) {
			output_notice("%s", e.msg);
			table_text(t, names.items[i]);
			table_text(t, "damaged");
			for (size_t k = 2; k < ARRAY_SIZE(list_columns); k++)
				table_none(t);
			continue;
		}
		for (size_t k = 0; k < o->labels.n; k++)
			wanted = wanted && label_matches(&info.spec.labels, o->labels.items[k]);
		if (wanted)
			list_row(t, names.items[i], &info);
	}
	r = output_table(t, list_columns, ARRAY_SIZE(list_columns), o->format, o->quiet, err);
	table_free(t);
	return r;
}

const struct command list_command = {
	.name = "list",
	.aliases = { "ls", "ps" },
	.operands = "",
	.summary = "List machines",
	.examples = { { "skerry list", "All machines" },
		      { "skerry list --label env=test --quiet", "Names of those with a label" },
		      { "skerry list --format json", "For programs" } },
	.options = list_table,
	.n_options = ARRAY_SIZE(list_table),
	.options_size = sizeof(struct list_options),
	.run = run_list,
};

/* ---- status, inspect ---- */

static struct json *strings_json(const struct strv *v)
{
	struct json *list = json_array();

	for (size_t i = 0; i < v->n; i++)
		json_append_string(list, v->items[i]);
	return list;
}

static void set_time(struct json *j, const char *key, uint64_t realtime_ns)
{
	char text[32];

	json_set_string(j, key, realtime_ns ? clock_format_rfc3339(realtime_ns, text, sizeof(text)) : NULL);
}

static bool is_up(const struct machine_info *i)
{
	return i->status != MACHINE_CREATED && i->status != MACHINE_STOPPED && i->status != MACHINE_FAILED;
}

static struct json *status_json(const struct machine_info *i)
{
	struct json *j = json_object();

	json_set_string(j, "name", i->spec.name);
	json_set_string(j, "status", machine_status_name(i->status));
	if (i->status == MACHINE_PAUSED)
		json_set_string(j, "paused_why", i->state.paused_why);
	json_set_string(j, "image", i->spec.image);
	if (is_up(i)) {
		set_time(j, "started", i->state.started_ns);
		json_set_bool(j, "agent_ready", i->state.agent_ready);
		json_set_bool(j, "monitor_alive", i->monitor_alive);
		json_set_u64(j, "pid", i->state.engine_pid);
		json_set_u64(j, "monitor_pid", i->state.monitor_pid);
		json_set_string(j, "engine", i->state.engine);
		json_set_string(j, "accel", i->state.accel);
		json_set_string(j, "accel_why", i->state.accel_why);
		/* QEMU's authors promise nothing for emulation. */
		json_set_bool(j, "isolation_promised", i->state.accel && streq(i->state.accel, "kvm"));
		json_set_string(j, "shape", i->state.shape);
		json_set_string(j, "kernel", i->state.kernel);
		json_set_string(j, "net", i->state.net);
		json_set(j, "publish", strings_json(&i->state.publish));
		json_set_u64(j, "restarts", i->state.restarts);
	}
	if (i->has_exit) {
		struct json *e = json_object();

		set_time(e, "ended", i->exit.ended_ns);
		json_set_string(e, "reason", i->exit.reason);
		json_set_bool(e, "failed", i->exit.failed);
		if (i->exit.has_status)
			json_set_u64(e, "status", i->exit.status);
		json_set(j, "last_exit", e);
	}
	return j;
}

static void line(struct buf *b, const char *key, const char *value)
{
	if (value)
		buf_addf(b, "%-9s %s\n", key, value);
}

static void status_text(const struct machine_info *i, struct buf *b)
{
	char when[32];
	uint64_t now = clock_realtime_ns();

	line(b, "name", i->spec.name);
	line(b, "status", machine_status_name(i->status));
	if (i->status == MACHINE_PAUSED)
		line(b, "because", i->state.paused_why);
	line(b, "image", i->spec.image);
	if (is_up(i)) {
		if (i->state.started_ns && now > i->state.started_ns)
			buf_addf(b, "%-9s %s\n", "running",
				 format_age((now - i->state.started_ns) / NS_PER_SEC, when, sizeof(when)));
		line(b, "agent", i->state.agent_ready ? "ready" : "not there yet");
		buf_addf(b, "%-9s %s%s%s%s\n", "accel", i->state.accel ? i->state.accel : "?",
			 i->state.accel_why ? " (" : "", i->state.accel_why ? i->state.accel_why : "",
			 i->state.accel_why ? ")" : "");
		line(b, "kernel", i->state.kernel);
		for (size_t k = 0; k < i->state.publish.n; k++)
			line(b, "publish", i->state.publish.items[k]);
		buf_addf(b, "%-9s %" PRIu64 "\n", "pid", i->state.engine_pid);
		if (!i->monitor_alive)
			line(b, "monitor", "gone; the next command that needs one starts it");
	}
	if (i->has_exit && !is_up(i))
		line(b, "ended", i->exit.reason);
}

struct status_options {
	int format;
};

static const struct option status_table[] = {
	FORMAT_OPTION(status_options),
};

static int status_one(const struct store *s, const struct name *name, const void *options, struct error *err)
{
	const struct status_options *o = options;
	_cleanup_info_ struct machine_info info = {};
	_cleanup_buf_ struct buf b = {};
	int r = machine_info_load(s, name, &info, err);

	if (r < 0)
		return r;
	if (o->format == FORMAT_JSON) {
		_cleanup_json_ struct json *j = status_json(&info);

		return output_json(j, err);
	}
	status_text(&info, &b);
	return output_text(b.p, b.len, err);
}

static int run_status(const struct invocation *inv, struct error *err)
{
	_cleanup_store_ struct store s = {};
	int r = store_open(&s, err);

	return r < 0 ? r : target_each(inv, &s, status_one, err);
}

const struct command status_command = {
	.name = "status",
	.operands = "NAME...",
	.min_operands = 1,
	.max_operands = OPERANDS_ANY,
	.complete = "machine+",
	.summary = "Show how machines are",
	.examples = { { "skerry status web", "Does it run, since when, on what; if not, why it ended" } },
	.options = status_table,
	.n_options = ARRAY_SIZE(status_table),
	.options_size = sizeof(struct status_options),
	.run = run_status,
};

struct inspect_options {
	bool plan;
};

static const struct option inspect_table[] = {
	FLAG(0, "plan", inspect_options, plan,
	     "What would be executed: disks, devices, command lines; nothing is touched"),
};

static int inspect_one(const struct store *s, const struct name *name, const void *options, struct error *err)
{
	const struct inspect_options *o = options;
	_cleanup_info_ struct machine_info info = {};
	_cleanup_json_ struct json *j = NULL;
	struct json *spec;
	int r;

	if (o->plan) {
		r = machine_plan_json(s, name, &j, err);
		return r < 0 ? r : output_json(j, err);
	}
	r = machine_info_load(s, name, &info, err);
	if (r < 0)
		return r;
	j = status_json(&info);
	spec = json_object();
	json_store(spec, machine_spec_fields, &info.spec);
	json_set(j, "spec", spec);
	return output_json(j, err);
}

static int run_inspect(const struct invocation *inv, struct error *err)
{
	_cleanup_store_ struct store s = {};
	int r = store_open(&s, err);

	return r < 0 ? r : target_each(inv, &s, inspect_one, err);
}

const struct command inspect_command = {
	.name = "inspect",
	.operands = "NAME...",
	.min_operands = 1,
	.max_operands = OPERANDS_ANY,
	.complete = "machine+",
	.summary = "Show everything about machines, as JSON",
	.examples = { { "skerry inspect web", "Record and state" },
		      { "skerry inspect --plan web", "What `start` would execute" } },
	.options = inspect_table,
	.n_options = ARRAY_SIZE(inspect_table),
	.options_size = sizeof(struct inspect_options),
	.run = run_inspect,
};

/* ---- stats ---- */

struct stats_options {
	int format;
	bool quiet;
};

static const struct option stats_table[] = {
	FORMAT_OPTION(stats_options),
	QUIET_OPTION(stats_options),
};

static const struct table_column stats_columns[] = {
	{ "name", "NAME", TABLE_TEXT },
	{ "agent", "AGENT", TABLE_TEXT },
	{ "cpu_ms", "CPU ms", TABLE_NUMBER },
	{ "host_memory_bytes", "HOST MEMORY", TABLE_BYTES },
	{ "balloon_bytes", "GIVEN", TABLE_BYTES },
	{ "guest_used_bytes", "USED", TABLE_BYTES },
	{ "guest_total_bytes", "TOTAL", TABLE_BYTES },
	{ "disk_read_bytes", "READ", TABLE_BYTES },
	{ "disk_written_bytes", "WRITTEN", TABLE_BYTES },
};

static int stats_row(const struct store *s, const struct name *name, struct table *t, struct error *err)
{
	Skerry__Monitor__V1__StatsResponse *m;
	_cleanup_client_ struct client c = {};
	_cleanup_buf_ struct buf out = {};
	int r = client_connect(s, name, &c, err);

	if (r >= 0)
		r = client_call(&c, MONITOR_SERVICE, "Stats", NULL, REPLY_TIMEOUT_NS, &out, err);
	if (r < 0)
		return r;
	m = skerry__monitor__v1__stats_response__unpack(NULL, out.len, (const uint8_t *)out.p);
	if (!m)
		return error_set(err, EBADMSG, "machine '%s': its monitor sent a malformed answer", name->s);
	table_text(t, name->s);
	table_text(t, m->agent);
	table_number(t, m->cpu_ns / NS_PER_MS);
	table_bytes(t, m->memory_rss_bytes);
	table_bytes(t, m->balloon_bytes);
	if (m->guest_total_bytes && m->guest_available_bytes <= m->guest_total_bytes) {
		table_bytes(t, m->guest_total_bytes - m->guest_available_bytes);
		table_bytes(t, m->guest_total_bytes);
	} else {
		table_none(t);
		table_none(t);
	}
	table_bytes(t, m->disk_read_bytes);
	table_bytes(t, m->disk_written_bytes);
	skerry__monitor__v1__stats_response__free_unpacked(m, NULL);
	return 0;
}

/* Without names: whatever runs. */
static int stats_names(const struct invocation *inv, const struct store *s, struct strv *ret, struct error *err)
{
	_cleanup_strv_ struct strv all = {};
	int r;

	for (size_t i = 0; i < inv->n_operands; i++)
		strv_add(ret, inv->operands[i]);
	if (ret->n)
		return 0;
	r = store_machine_names(s, &all, err);
	for (size_t i = 0; r >= 0 && i < all.n; i++) {
		_cleanup_info_ struct machine_info info = {};
		struct name name;

		if (name_parse(all.items[i], "machine name", &name, NULL) >= 0 &&
		    machine_info_load(s, &name, &info, NULL) >= 0 &&
		    (info.status == MACHINE_RUNNING || info.status == MACHINE_PAUSED))
			strv_add(ret, all.items[i]);
	}
	return r;
}

static int run_stats(const struct invocation *inv, struct error *err)
{
	const struct stats_options *o = inv->options;
	_cleanup_store_ struct store s = {};
	_cleanup_strv_ struct strv names = {};
	struct table *t;
	int r = store_open(&s, err), status = 0;

	if (r >= 0)
		r = stats_names(inv, &s, &names, err);
	if (r < 0)
		return r;
	t = table_new(stats_columns, ARRAY_SIZE(stats_columns));
	for (size_t i = 0; i < names.n; i++) {
		_cleanup_error_ struct error e = {};
		struct name name;

		r = name_parse(names.items[i], "machine name", &name, &e);
		if (r >= 0)
			r = stats_row(&s, &name, t, &e);
		if (r < 0) {
			output_error(&e);
			status = status ? status : error_exit_status(&e);
		}
	}
	r = output_table(t, stats_columns, ARRAY_SIZE(stats_columns), o->format, o->quiet, err);
	table_free(t);
	return r < 0 ? r : status;
}

const struct command stats_command = {
	.name = "stats",
	.operands = "[NAME...]",
	.max_operands = OPERANDS_ANY,
	.complete = "machine+",
	.summary = "Show what running machines use",
	.description = "HOST MEMORY is what the machine really takes on this host: memory that the guest freed has "
		       "been given back. GIVEN is what the guest may "
		       "use, USED and TOTAL are its own view.",
	.examples = { { "skerry stats", "All running machines" },
		      { "skerry stats web --format json", "One, for programs" } },
	.options = stats_table,
	.n_options = ARRAY_SIZE(stats_table),
	.options_size = sizeof(struct stats_options),
	.run = run_stats,
};

/* ---- pid, port, path ---- */

static int load_running(const struct store *s, const char *operand, struct machine_info *ret, struct error *err)
{
	struct name name;
	int r = name_parse(operand, "machine name", &name, err);

	if (r >= 0)
		r = machine_info_load(s, &name, ret, err);
	if (r < 0)
		return r;
	if (is_up(ret) && ret->state.engine_pid)
		return 0;
	error_set(err, ESRCH, "machine '%s' is not running", name.s);
	return error_hint(err, "skerry start %s", name.s);
}

static int run_pid(const struct invocation *inv, struct error *err)
{
	_cleanup_store_ struct store s = {};
	_cleanup_info_ struct machine_info info = {};
	int r = store_open(&s, err);

	if (r >= 0)
		r = load_running(&s, inv->operands[0], &info, err);
	return r < 0 ? r : output_line(err, "%" PRIu64, info.state.engine_pid);
}

const struct command pid_command = {
	.name = "pid",
	.operands = "NAME",
	.min_operands = 1,
	.max_operands = 1,
	.complete = "machine",
	.summary = "Print the process id of a running machine's engine",
	.examples = { { "skerry pid web", "The process that is the machine" } },
	.run = run_pid,
};

struct port_options {
	int format;
	bool quiet;
};

static const struct option port_table[] = {
	FORMAT_OPTION(port_options),
	FLAG('q', "quiet", port_options, quiet, "Print the host's addresses only"),
};

static const struct table_column port_columns[] = {
	{ "host", "HOST", TABLE_TEXT },
	{ "guest_port", "GUEST", TABLE_NUMBER },
	{ "protocol", "PROTOCOL", TABLE_TEXT },
};

static int run_port(const struct invocation *inv, struct error *err)
{
	const struct port_options *o = inv->options;
	_cleanup_store_ struct store s = {};
	_cleanup_info_ struct machine_info info = {};
	struct table *t;
	int r = store_open(&s, err);

	if (r >= 0)
		r = load_running(&s, inv->operands[0], &info, err);
	if (r < 0)
		return r;
	t = table_new(port_columns, ARRAY_SIZE(port_columns));
	for (size_t i = 0; i < info.state.publish.n; i++) {
		_cleanup_free_ char *host = NULL;
		struct net_publish p;

		if (net_publish_parse(info.state.publish.items[i], &p, NULL) < 0)
			continue;
		host = xasprintf(strchr(p.ip, ':') ? "[%s]:%u" : "%s:%u", p.ip, p.host_port);
		table_text(t, host);
		table_number(t, p.guest_port);
		table_text(t, p.udp ? "udp" : "tcp");
	}
	r = output_table(t, port_columns, ARRAY_SIZE(port_columns), o->format, o->quiet, err);
	table_free(t);
	return r;
}

const struct command port_command = {
	.name = "port",
	.operands = "NAME",
	.min_operands = 1,
	.max_operands = 1,
	.complete = "machine",
	.summary = "Show a running machine's published ports",
	.examples = { { "skerry port web", "Host address and guest port" },
		      { "skerry port --quiet web", "Host addresses only" } },
	.options = port_table,
	.n_options = ARRAY_SIZE(port_table),
	.options_size = sizeof(struct port_options),
	.run = run_port,
};

static int run_path(const struct invocation *inv, struct error *err)
{
	_cleanup_store_ struct store s = {};
	_cleanup_free_ char *path = NULL;
	struct name name;
	int r = store_open(&s, err);

	if (r >= 0)
		r = name_parse(inv->operands[0], "machine name", &name, err);
	if (r >= 0)
		r = machine_path(&s, &name, inv->n_operands > 1 ? inv->operands[1] : "", &path, err);
	return r < 0 ? r : output_line(err, "%s", path);
}

const struct command path_command = {
	.name = "path",
	.operands = "NAME [RESOURCE]",
	.min_operands = 1,
	.max_operands = 2,
	.complete = "machine resource",
	.summary = "Print where a machine keeps something",
	.description =
		"RESOURCE is system, home, console.log, engine.log, run or spec; without it the machine's directory.",
	.examples = { { "skerry path web", "Its directory" }, { "skerry path web system", "Its system disk" } },
	.run = run_path,
};
