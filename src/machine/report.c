#include "machine/report.h"

#include <poll.h>

#include "base/clock.h"
#include "base/file.h"
#include "json/json.h"

void report_send(int fd, const struct error *err)
{
	_cleanup_json_ struct json *o = json_object();
	_cleanup_buf_ struct buf b = {};

	json_set_u64(o, "num", err ? (uint64_t)err->num : 0);
	if (err && err->num) {
		json_set_u64(o, "kind", err->kind);
		json_set_string(o, "message", err->msg ? err->msg : "");
		if (err->hint)
			json_set_string(o, "hint", err->hint);
	}
	json_render(o, false, &b);
	/* Nobody may be there to hear it: the command was killed, the machine goes on. */
	(void)write_full(fd, b.p, b.len);
}

int report_receive(int fd, uint64_t deadline_ns, struct error *err)
{
	_cleanup_json_ struct json *o = NULL;
	_cleanup_buf_ struct buf b = {};
	uint64_t num, kind = ERROR_FAILED;

	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n;
		int r = poll(&p, 1, clock_poll_timeout(deadline_ns));

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return error_set_errno(err, errno, "poll");
		if (r == 0)
			return error_set(err, ETIMEDOUT, "the monitor did not report in time");
		n = read(fd, buf_reserve(&b, 4096), 4096);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		buf_commit(&b, (size_t)n);
		if (b.len > 65536)
			break;
	}
	if (!b.len)
		return error_set(err, ECHILD, "the monitor ended before the machine ran");
	if (json_parse(b.p, b.len, "the monitor's report", &o, err) < 0)
		return -EBADMSG;
	if (!json_u64(json_get(o, "num"), &num) || num > 4096)
		num = EBADMSG;
	if (num) {
		const char *message = json_string(json_get(o, "message")), *hint = json_string(json_get(o, "hint"));

		if (!json_u64(json_get(o, "kind"), &kind) || kind >= ERROR_KIND_MAX)
			kind = ERROR_FAILED;
		error_set_kind(err, (enum error_kind)kind, (int)num, "%s", message ? message : "the monitor failed");
		if (hint)
			error_hint(err, "%s", hint);
	}
	return -(int)num;
}
