#include "docker/snapshots.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "docker/box.h"
#include "json/json.h"
#include "machine/snapshot.h"

static int wrong_usage(struct error *err)
{
	error_set_kind(err, ERROR_USAGE, EINVAL, "snapshot: what is to be done?");
	return error_hint(err, "skerry-vm snapshot save|restore|delete NAME, or snapshot list [--json]");
}

static void format_time(uint64_t ns, char ret[32])
{
	time_t t = (time_t)(ns / NS_PER_SEC);
	struct tm tm = {};

	ret[0] = '\0';
	if (gmtime_r(&t, &tm))
		(void)strftime(ret, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static const char *how(const struct snapshot *p)
{
	return !p->running ? "stopped" : p->frozen ? "running, synced" : "running";
}

static void print_json(const struct snapshot *list, size_t n)
{
	_cleanup_json_ struct json *all = json_array();
	_cleanup_buf_ struct buf text = {};

	for (size_t i = 0; i < n; i++) {
		struct json *o = json_object();
		char when[32];

		format_time(list[i].created_ns, when);
		json_set_string(o, "name", list[i].name);
		json_set_string(o, "created", when);
		json_set_bool(o, "running", list[i].running);
		json_set_bool(o, "synced", list[i].frozen || !list[i].running);
		json_append(all, o);
	}
	json_render(all, true, &text);
	printf("%s\n", text.p);
}

static int list_all(const struct store *s, const struct name *box, bool json, struct error *err)
{
	struct snapshot *list = NULL;
	size_t n = 0;
	int r = snapshot_list(s, box, &list, &n, err);

	if (r >= 0 && json)
		print_json(list, n);
	for (size_t i = 0; r >= 0 && !json && i < n; i++) {
		char when[32];

		if (i == 0)
			printf("%-24s %-20s  %s\n", "NAME", "CREATED", "MACHINE");
		format_time(list[i].created_ns, when);
		printf("%-24s %-20s  %s\n", list[i].name, when, how(&list[i]));
	}
	snapshot_list_free(list, n);
	return r;
}

static int save(const struct store *s, const struct name *box, const struct name *name, struct error *err)
{
	bool synced = false;
	int r = snapshot_save(s, box, name, &synced, err);

	if (r >= 0 && !synced)
		fprintf(stderr,
			"skerry-vm: the guest has no agent to write out what it holds back: the disk is as after a "
			"power failure\n");
	return r;
}

int snapshots_verb(const struct store *s, int argc, char **argv, struct error *err)
{
	struct name box, name;
	int r = name_parse(BOX_NAME, "machine name", &box, err);

	if (r < 0)
		return r;
	if (argc < 2)
		return wrong_usage(err);
	if (streq(argv[1], "list") && (argc == 2 || (argc == 3 && streq(argv[2], "--json"))))
		return list_all(s, &box, argc == 3, err);
	if (argc != 3)
		return wrong_usage(err);
	r = name_parse(argv[2], "name of a snapshot", &name, err);
	if (r < 0)
		return r;
	if (streq(argv[1], "save"))
		return save(s, &box, &name, err);
	if (streq(argv[1], "restore"))
		return snapshot_restore(s, &box, &name, err);
	if (streq(argv[1], "delete"))
		return snapshot_delete(s, &box, &name, err);
	return wrong_usage(err);
}

int snapshots_begin_from(const struct store *s, const char *text, struct error *err)
{
	_cleanup_error_ struct error e = {};
	struct name box, name;
	int r = name_parse(BOX_NAME, "machine name", &box, err);

	if (r >= 0)
		r = name_parse(text, "SNAPSHOT", &name, err);
	if (r < 0)
		return r;
	r = snapshot_restore(s, &box, &name, &e);
	if (r == -ENOENT)
		e.kind = ERROR_CONFIG;
	return r < 0 ? (error_move(err, &e), error_prefix(err, "SNAPSHOT")) : 0;
}
