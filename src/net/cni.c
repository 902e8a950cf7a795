#include "net/cni.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/spawn.h"

enum {
	CONFIG_BYTES_MAX = 1 << 20,
	RESULT_BYTES_MAX = 1 << 20,
	PLUGINS_MAX = 32,
	TRY_AGAIN = 11, /* error code of the specification */
	INTERFACE_NAME_MAX = 15,
};

#define NAME_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"

static const char *const versions[] = { "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0" };

/* ---- Configuration ---- */

static int bad(struct error *err, const char *what, const char *why)
{
	return error_set(err, EBADMSG, "%s: %s", what, why);
}

/* No slash, so that it stays in its directory; nothing that a plugin would take for something else. */
static bool is_name(const char *s)
{
	return s && s[0] && strlen(s) <= 255 && strspn(s, NAME_CHARACTERS) == strlen(s) && s[0] != '.' && s[0] != '-' &&
	       s[0] != '_';
}

static int check_network(const struct json *list, const char *what, struct error *err)
{
	const struct json *plugins = json_get(list, "plugins");
	const char *version = json_string(json_get(list, "cniVersion"));
	bool known = false;

	if (!is_name(json_string(json_get(list, "name"))))
		return bad(err, what, "it has no name of letters, digits, '_', '.' and '-'");
	for (size_t i = 0; version && i < ARRAY_SIZE(versions); i++)
		known = known || streq(version, versions[i]);
	if (!known)
		return error_set(err, EBADMSG, "%s: cniVersion '%s' is not one of 0.3.0 to 1.1.0", what,
				 version ? version : "");
	if (json_length(plugins) == 0 || json_length(plugins) > PLUGINS_MAX)
		return error_set(err, EBADMSG, "%s: it has no plugins, or more than %d", what, PLUGINS_MAX);
	for (size_t i = 0; i < json_length(plugins); i++)
		if (!json_is_object(json_at(plugins, i)) ||
		    !is_name(json_string(json_get(json_at(plugins, i), "type"))))
			return error_set(err, EBADMSG, "%s: plugin %zu has no type that is the name of a program", what,
					 i + 1);
	return 0;
}

static void set_copy(struct json *to, const char *key, const struct json *from)
{
	const char *text = json_string(from);

	if (text)
		json_set_string(to, key, text);
}

int cni_network_parse(const char *text, size_t len, const char *what, struct json **ret, struct error *err)
{
	_cleanup_json_ struct json *j = NULL;
	int r = json_parse(text, len, what, &j, err);

	if (r < 0)
		return r;
	if (!json_is_object(j))
		return bad(err, what, "it is no object");
	if (!json_get(j, "plugins")) {
		struct json *list = json_object(), *plugins = json_array();

		set_copy(list, "cniVersion", json_get(j, "cniVersion"));
		set_copy(list, "name", json_get(j, "name"));
		json_append(plugins, TAKE_PTR(j));
		json_set(list, "plugins", plugins);
		j = list;
	}
	r = check_network(j, what, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(j);
	return 0;
}

static int is_config(const struct dirent *e)
{
	static const char *const ends[] = { ".conflist", ".conf", ".json" };
	size_t n = strlen(e->d_name);

	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		if (n > strlen(ends[i]) && streq(e->d_name + n - strlen(ends[i]), ends[i]))
			return e->d_name[0] != '.';
	return 0;
}

/* By bytes, whatever the language is. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int none(struct error *err, const char *directory, const char *name)
{
	if (name)
		return error_set(err, ENOENT, "no network '%s' in %s", name, directory);
	error_set(err, ENOENT, "no network is configured in %s", directory);
	error_hint(err, "put a .conflist there, as the plugins' documentation shows");
	return -ENOENT;
}

int cni_network(const struct cni *c, const char *name, struct json **ret, struct error *err)
{
	const char *directory = c->config_directory ? c->config_directory : CNI_CONFIG_DIRECTORY;
	_cleanup_close_ int dir = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_json_ struct json *found = NULL;
	struct dirent **entries = NULL;
	int r = 0, n;

	if (dir < 0)
		return errno == ENOENT ? none(err, directory, name) : error_set_errno(err, errno, "%s", directory);
	n = scandirat(dir, ".", &entries, is_config, by_name);
	if (n < 0)
		return error_set_errno(err, errno, "%s", directory);
	for (int i = 0; i < n && r == 0 && !found; i++) {
		_cleanup_free_ char *what = xasprintf("%s/%s", directory, entries[i]->d_name);
		_cleanup_json_ struct json *j = NULL;
		_cleanup_buf_ struct buf text = {};

		r = file_read_at(dir, entries[i]->d_name, CONFIG_BYTES_MAX, &text);
		if (r < 0)
			r = error_set_errno(err, -r, "%s", what);
		else
			r = cni_network_parse(text.p ? text.p : "", text.len, what, &j, err);
		if (r == 0 && (!name || streq(json_string(json_get(j, "name")), name)))
			found = TAKE_PTR(j);
	}
	for (int i = 0; i < n; i++)
		free(entries[i]);
	free(entries);
	if (r < 0)
		return r;
	if (!found)
		return none(err, directory, name);
	*ret = TAKE_PTR(found);
	return 0;
}

/* ---- Plugins ---- */

static const char *const *plugin_directories(const struct cni *c)
{
	static const char *const usual[] = { "/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni", NULL };

	return c->plugin_directories ? c->plugin_directories : usual;
}

static int find_plugin(const struct cni *c, const char *type, char **ret, struct error *err)
{
	for (const char *const *d = plugin_directories(c); *d; d++) {
		char *path = xasprintf("%s/%s", *d, type);

		if (access(path, X_OK) == 0) {
			*ret = path;
			return 0;
		}
		free(path);
	}
	error_set_kind(err, ERROR_UNAVAILABLE, ENOENT, "plugin '%s' is not installed", type);
	error_hint(err, "install Debian's containernetworking-plugins, or put the program into /opt/cni/bin");
	return -ENOENT;
}

/* This process's environment, for PATH and proxies, with what the specification asks for. */
static void make_environment(const struct cni *c, const struct cni_attachment *a, const char *command, struct strv *ret)
{
	_cleanup_buf_ struct buf path = {};

	for (char **e = environ; e && *e; e++)
		if (!after_prefix(*e, "CNI_"))
			strv_add(ret, *e);
	for (const char *const *d = plugin_directories(c); *d; d++)
		buf_addf(&path, "%s%s", path.len ? ":" : "", *d);
	strv_addf(ret, "CNI_COMMAND=%s", command);
	strv_addf(ret, "CNI_CONTAINERID=%s", a->id);
	strv_addf(ret, "CNI_NETNS=%s", a->netns ? a->netns : "");
	strv_addf(ret, "CNI_IFNAME=%s", a->interface);
	strv_addf(ret, "CNI_PATH=%s", path.p ? path.p : "");
}

static struct json *copy_of(const struct json *j)
{
	_cleanup_buf_ struct buf text = {};
	struct json *copy = NULL;

	json_render(j, false, &text);
	return json_parse(text.p, text.len, "", &copy, NULL) < 0 ? json_object() : copy;
}

/* What the plugin declares it can do and the caller has arguments for. */
static struct json *runtime_config(const struct json *plugin, const struct json *arguments)
{
	const struct json *declared = json_get(plugin, "capabilities");
	struct json *out = NULL, *value;
	const char *key;

	for (size_t i = 0; json_member(declared, i, &key, &value); i++) {
		const struct json *argument = arguments ? json_get(arguments, key) : NULL;
		bool wanted = false;

		if (!argument || !json_bool(value, &wanted) || !wanted)
			continue;
		if (!out)
			out = json_object();
		json_set(out, key, copy_of(argument));
	}
	return out;
}

static void make_input(const struct cni_attachment *a, const struct json *plugin, const struct json *previous,
		       struct buf *out)
{
	_cleanup_json_ struct json *j = copy_of(plugin);
	struct json *config = runtime_config(plugin, a->capabilities);

	set_copy(j, "cniVersion", json_get(a->network, "cniVersion"));
	set_copy(j, "name", json_get(a->network, "name"));
	if (config)
		json_set(j, "runtimeConfig", config);
	if (previous)
		json_set(j, "prevResult", copy_of(previous));
	json_render(j, false, out);
}

static void last_line(const struct buf *b, struct buf *out)
{
	size_t end = b->len, begin;

	while (end > 0 && (b->p[end - 1] == '\n' || b->p[end - 1] == ' '))
		end--;
	for (begin = end; begin > 0 && b->p[begin - 1] != '\n';)
		begin--;
	buf_add(out, b->p + begin, end - begin);
}

/* A plugin that fails says why as an object on its standard output. */
static int failed(const char *type, const struct buf *out, const struct buf *errout, struct error *err)
{
	_cleanup_json_ struct json *j = NULL;
	_cleanup_buf_ struct buf text = {};
	const char *message, *details;
	uint64_t code = 0;

	if (json_parse(out->p ? out->p : "", out->len, "", &j, NULL) == 0) {
		message = json_string(json_get(j, "msg"));
		details = json_string(json_get(j, "details"));
		(void)json_u64(json_get(j, "code"), &code);
		buf_adds(&text, message ? message : "");
		if (details && *details)
			buf_addf(&text, "%s%s", text.len ? "; " : "", details);
	}
	if (text.len == 0)
		last_line(errout, &text);
	if (text.len == 0)
		buf_adds(&text, "it gives no reason");
	return error_set(err, code == TRY_AGAIN ? EAGAIN : EIO, "plugin '%s': %s", type, text.p);
}

/* Not none: a plugin that is asked too late is told from one that was not asked. */
static uint64_t time_left(const struct cni *c)
{
	uint64_t limit = c->timeout_ns ? c->timeout_ns : 60 * NS_PER_SEC, now = clock_monotonic_ns(), left;

	if (!c->deadline_ns)
		return limit;
	left = now < c->deadline_ns ? c->deadline_ns - now : NS_PER_MS;
	return left < limit ? left : limit;
}

/* @ret_result may be NULL: a DEL has none. */
static int call(const struct cni *c, const struct cni_attachment *a, const struct json *plugin, const char *command,
		const struct json *previous, struct json **ret_result, struct error *err)
{
	const char *type = json_string(json_get(plugin, "type"));
	_cleanup_buf_ struct buf input = {}, out = {}, errout = {};
	_cleanup_strv_ struct strv environment = {};
	_cleanup_free_ char *path = NULL, *what = xasprintf("plugin '%s': its result", type);
	_cleanup_json_ struct json *result = NULL;
	struct spawn s = SPAWN_INIT;
	int status = 0, r = find_plugin(c, type, &path, err);

	if (r < 0)
		return r;
	make_environment(c, a, command, &environment);
	make_input(a, plugin, previous, &input);
	s.argv = (const char *const[]){ path, NULL };
	s.env = (const char *const *)environment.items;
	r = fault_point(streq(command, "ADD") ? "cni.add" : "cni.del");
	if (r < 0)
		return error_set_errno(err, -r, "plugin '%s'", type);
	r = spawn_run(&s, &input, &out, &errout, RESULT_BYTES_MAX, time_left(c), &status, err);
	if (r < 0)
		return error_prefix(err, "plugin '%s'", type);
	if (status != 0)
		return failed(type, &out, &errout, err);
	if (!ret_result)
		return 0;
	r = json_parse(out.p ? out.p : "", out.len, what, &result, err);
	if (r == 0 && !json_is_object(result))
		r = bad(err, what, "it is no object");
	if (r == 0)
		*ret_result = TAKE_PTR(result);
	return r;
}

/* ---- Lists ---- */

static int check_attachment(const struct cni_attachment *a, struct error *err)
{
	if (!is_name(a->id))
		return error_set(err, EINVAL, "'%s' is no container id for a network", a->id ? a->id : "");
	if (!a->interface || !a->interface[0] || strlen(a->interface) > INTERFACE_NAME_MAX ||
	    strpbrk(a->interface, "/: \t\n") || streq(a->interface, ".") || streq(a->interface, ".."))
		return error_set(err, EINVAL, "'%s' is no name for an interface", a->interface ? a->interface : "");
	/* It may come from a record. */
	return check_network(a->network, "the network's configuration", err);
}

static int name_network(const struct cni_attachment *a, struct error *err)
{
	return error_prefix(err, "network '%s'", json_string(json_get(a->network, "name")));
}

int cni_add(const struct cni *c, const struct cni_attachment *a, struct json **ret_result, struct error *err)
{
	const struct json *plugins = json_get(a->network, "plugins");
	_cleanup_json_ struct json *result = NULL;
	int r = check_attachment(a, err);

	if (r == 0 && !a->netns)
		r = error_set(err, EINVAL, "a network needs a namespace");
	if (r < 0)
		return r;
	for (size_t i = 0; i < json_length(plugins) && r == 0; i++) {
		struct json *next = NULL;

		r = call(c, a, json_at(plugins, i), "ADD", result, &next, err);
		json_free(result);
		result = next;
	}
	if (r < 0) {
		(void)cni_del(c, a, NULL, NULL);
		return err ? name_network(a, err) : r;
	}
	*ret_result = TAKE_PTR(result);
	return 0;
}

int cni_del(const struct cni *c, const struct cni_attachment *a, const struct json *result, struct error *err)
{
	const struct json *plugins = json_get(a->network, "plugins");
	int first = check_attachment(a, err);

	if (first < 0)
		return first;
	for (size_t i = json_length(plugins); i > 0; i--) {
		_cleanup_error_ struct error e = {};
		int r = call(c, a, json_at(plugins, i - 1), "DEL", result, NULL, &e);

		if (r < 0 && first == 0) {
			first = r;
			(void)name_network(a, &e);
			(void)error_move(err, &e);
		}
	}
	return first;
}

void cni_dns(const struct json *result, struct strv *servers, struct strv *search)
{
	const struct json *dns = json_get(result, "dns"), *list = json_get(dns, "nameservers");
	const struct json *domains = json_get(dns, "search");
	uint8_t bytes[16];

	for (size_t i = 0; i < json_length(list); i++) {
		const char *s = json_string(json_at(list, i));

		if (s && (inet_pton(AF_INET, s, bytes) == 1 || inet_pton(AF_INET6, s, bytes) == 1))
			strv_add(servers, s);
	}
	for (size_t i = 0; i < json_length(domains); i++) {
		const char *s = json_string(json_at(domains, i));

		if (s && strlen(s) <= 253 && is_name(s))
			strv_add(search, s);
	}
}
