#include "disk/seed.h"

#include <errno.h>

#include "base/utf8.h"

static const struct json_field route_fields[] = {
	{ "to", JSON_STRING, offsetof(struct seed_route, to), JSON_REQUIRED },
	{ "via", JSON_STRING, offsetof(struct seed_route, via), 0 },
	{ "metric", JSON_U32, offsetof(struct seed_route, metric), 0 },
	{},
};

static const struct json_field interface_fields[] = {
	{ "mac", JSON_STRING, offsetof(struct seed_interface, mac), JSON_REQUIRED },
	{ "addresses", JSON_STRINGS, offsetof(struct seed_interface, addresses), 0 },
	{ "gateway", JSON_STRING, offsetof(struct seed_interface, gateway), 0 },
	{ "gateway6", JSON_STRING, offsetof(struct seed_interface, gateway6), 0 },
	{ "mtu", JSON_U32, offsetof(struct seed_interface, mtu), 0 },
	{ "dns", JSON_STRINGS, offsetof(struct seed_interface, dns), 0 },
	{ "search", JSON_STRINGS, offsetof(struct seed_interface, search), 0 },
	{ "routes", JSON_OBJECTS, offsetof(struct seed_interface, routes), 0, .fields = route_fields,
	  .element_size = sizeof(struct seed_route), .count_offset = offsetof(struct seed_interface, n_routes) },
	{},
};

const struct json_field seed_fields[] = {
	{ "hostname", JSON_STRING, offsetof(struct seed, hostname), JSON_REQUIRED },
	{ "user", JSON_STRING, offsetof(struct seed, user), 0 },
	{ "password", JSON_STRING, offsetof(struct seed, password), 0 },
	{ "home", JSON_BOOL, offsetof(struct seed, home), 0 },
	{ "authorized_keys", JSON_STRINGS, offsetof(struct seed, authorized_keys), 0 },
	{ "host_key", JSON_STRING, offsetof(struct seed, host_key), 0 },
	{ "host_key_public", JSON_STRING, offsetof(struct seed, host_key_public), 0 },
	{ "interfaces", JSON_OBJECTS, offsetof(struct seed, interfaces), 0, .fields = interface_fields,
	  .element_size = sizeof(struct seed_interface), .count_offset = offsetof(struct seed, n_interfaces) },
	{ "timezone", JSON_STRING, offsetof(struct seed, timezone), 0 },
	{ "shares", JSON_STRINGS, offsetof(struct seed, shares), 0 },
	{ "user_data", JSON_STRING, offsetof(struct seed, user_data), 0 },
	{},
};

void seed_done(struct seed *s)
{
	if (s->host_key)
		explicit_bzero(s->host_key, strlen(s->host_key));
	if (s->password)
		explicit_bzero(s->password, strlen(s->password));
	json_fields_done(seed_fields, s);
	*s = (struct seed){};
}

static bool is_text(const char *s, size_t n)
{
	while (n && *s) {
		size_t k = utf8_length(s, n);

		if (!k)
			return false;
		s += k;
		n -= k;
	}
	return n == 0;
}

/* What cloud-init tells kinds of user data apart by: the first line (its handlers' list of prefixes), or the head of a MIME message. */
static bool known_beginning(const char *text)
{
	static const char *const first[] = {
		"#!",
		"#cloud-config",
		"#cloud-boothook",
		"#include",
		"#part-handler",
		"## template: jinja",
		"MIME-Version:",
		"Content-Type:",
		"content-type:",
		"mime-version:",
	};

	for (size_t i = 0; i < ARRAY_SIZE(first); i++)
		if (after_prefix(text, first[i]))
			return true;
	return false;
}

int seed_check_user_data(const char *text, size_t len, const char *what, struct error *err)
{
	if (len == 0)
		return error_set_kind(err, ERROR_DATA, EBADMSG, "%s: it is empty", what);
	if (len > SEED_USER_DATA_MAX)
		return error_set_kind(err, ERROR_DATA, EBADMSG, "%s: more than 1 MiB", what);
	if (!is_text(text, len))
		return error_set_kind(err, ERROR_DATA, EBADMSG, "%s: it is no UTF-8 text", what);
	if (known_beginning(text))
		return 0;
	error_set_kind(err, ERROR_DATA, EBADMSG, "%s: cloud-init would not know what it is", what);
	return error_hint(err, "its first line is #cloud-config, or #! and an interpreter");
}
