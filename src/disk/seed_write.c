/* How this works: cloud-init gets three documents, written as JSON, which is YAML.
 *
 * meta-data holds the name and the instance-id. cloud-init does its once-per-instance work (host keys, users, the user's scripts) again
 * when the id changes, so it is a hash of everything that is said here: a restart changes nothing, a change is applied.
 *
 * user-data is ours alone, or a MIME message of two parts: the user's file, untouched, and then ours. cloud-init merges parts, and ours says how
 * (merge_how): lists are appended, maps are joined, and what is there already stays. So the user's file wins over every single
 * setting and yet cannot lose the users and keys that skerry needs; and it may be anything that cloud-init takes, scripts too, in YAML
 * as only cloud-init reads it (yes, on, 0644, references). */
#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>

#include "base/fault.h"
#include "disk/iso.h"
#include "disk/seed.h"

enum { BASE64_LINE = 57, HASH_HEX = 32 };

void seed_documents_done(struct seed_documents *d)
{
	if (d->user_data.p)
		explicit_bzero(d->user_data.p, d->user_data.len);
	buf_done(&d->user_data);
	buf_done(&d->meta_data);
	buf_done(&d->network_config);
}

static struct json *strings(const struct strv *v)
{
	struct json *a = json_array();

	for (size_t i = 0; i < v->n; i++)
		json_append_string(a, v->items[i]);
	return a;
}

/* "NAME: { "name": NAME, "settings": […] }" of cloud-init's merge_how. */
static struct json *merger(const char *name, const char *a, const char *b)
{
	struct json *o = json_object(), *settings = json_array();

	json_set_string(o, "name", name);
	json_append_string(settings, a);
	if (b)
		json_append_string(settings, b);
	json_set(o, "settings", settings);
	return o;
}

static struct json *growpart(void)
{
	struct json *o = json_object(), *devices = json_array();

	json_append_string(devices, "/");
	json_set_string(o, "mode", "auto");
	json_set(o, "devices", devices);
	return o;
}

/* As in fstab. */
static struct json *mount_line(const char *what, const char *where, const char *type, const char *options,
			       const char *pass)
{
	struct json *mount = json_array();

	json_append_string(mount, what);
	json_append_string(mount, where);
	json_append_string(mount, type);
	json_append_string(mount, options);
	json_append_string(mount, "0");
	json_append_string(mount, pass);
	return mount;
}

static struct json *mounts(const struct seed *s)
{
	struct json *list = json_array();

	/* The file system grows to its disk when systemd mounts it. */
	if (s->home)
		json_append(list, mount_line("/dev/disk/by-id/virtio-home", "/home", "ext4",
					     "defaults,nofail,x-systemd.growfs", "2"));
	for (size_t i = 0; i < s->shares.n; i++) {
		const char *target = strrchr(s->shares.items[i], ':');
		_cleanup_free_ char *tag =
			target ? xstrndup(s->shares.items[i], (size_t)(target - s->shares.items[i])) : NULL;

		if (tag)
			json_append(list,
				    mount_line(tag, target + 1, "9p",
					       "trans=virtio,version=9p2000.L,msize=262144,nosuid,nodev,nofail", "0"));
	}
	return list;
}

/* An account that is there already keeps the password that it was made with, unless it is set here; and nobody has to change it at once. */
static struct json *chpasswd(const struct seed *s)
{
	struct json *o = json_object(), *users = json_array(), *user = json_object();

	json_set_bool(o, "expire", false);
	json_set_string(user, "name", s->user);
	json_set_string(user, "password", s->password);
	json_set_string(user, "type", "hash");
	json_append(users, user);
	json_set(o, "users", users);
	return o;
}

static struct json *cloud_config(const struct seed *s)
{
	struct json *o = json_object(), *users = json_array(), *how = json_array();

	json_append(how, merger("list", "append", NULL));
	json_append(how, merger("dict", "no_replace", "recurse_list"));
	json_set(o, "merge_how", how);
	json_set_string(o, "hostname", s->hostname);
	json_set_bool(o, "preserve_hostname", false);
	json_set_string(o, "manage_etc_hosts", "localhost");
	if (s->user) {
		/* The image's default user, with its shell and groups, under another name. */
		struct json *user = json_object();

		json_set_string(user, "name", s->user);
		json_set_string(user, "sudo", "ALL=(ALL) NOPASSWD:ALL");
		json_set_bool(user, "lock_passwd", !s->password);
		if (s->password)
			json_set_string(user, "passwd", s->password);
		json_set(o, "user", user);
	}
	if (s->password) {
		json_set_bool(o, "ssh_pwauth", true);
		if (s->user)
			json_set(o, "chpasswd", chpasswd(s));
	}
	json_append_string(users, "default");
	json_set(o, "users", users);
	json_set(o, "ssh_authorized_keys", strings(&s->authorized_keys));
	if (s->host_key && s->host_key_public) {
		struct json *keys = json_object();

		json_set_string(keys, "ed25519_private", s->host_key);
		json_set_string(keys, "ed25519_public", s->host_key_public);
		json_set(o, "ssh_keys", keys);
	}
	if (s->home || s->shares.n)
		json_set(o, "mounts", mounts(s));
	if (s->timezone)
		json_set_string(o, "timezone", s->timezone);
	json_set(o, "growpart", growpart());
	json_set_bool(o, "resize_rootfs", true);
	return o;
}

static void add_base64(struct buf *out, const char *p, size_t n)
{
	unsigned char line[80];

	while (n) {
		size_t k = n < BASE64_LINE ? n : BASE64_LINE;

		(void)EVP_EncodeBlock(line, (const unsigned char *)p, (int)k);
		buf_addf(out, "%s\n", (const char *)line);
		p += k;
		n -= k;
	}
}

static void add_part(struct buf *out, const char *boundary, const char *type, const char *text, size_t len)
{
	buf_addf(out,
		 "--%s\nMIME-Version: 1.0\nContent-Type: %s; charset=\"utf-8\"\nContent-Transfer-Encoding: base64\n\n",
		 boundary, type);
	add_base64(out, text, len);
}

static int hash(const struct buf *const *parts, size_t n, char ret[static HASH_HEX + 1], struct error *err)
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	unsigned char md[EVP_MAX_MD_SIZE];
	bool ok = c && EVP_DigestInit_ex(c, EVP_sha256(), NULL) == 1;

	for (size_t i = 0; ok && i < n; i++)
		/* With its NUL: two documents and their joint text are not the same. */
		ok = EVP_DigestUpdate(c, parts[i]->p, parts[i]->len + 1) == 1;
	ok = ok && EVP_DigestFinal_ex(c, md, NULL) == 1;
	EVP_MD_CTX_free(c);
	if (!ok)
		return error_set(err, ENOMEM, "seed: no SHA-256");
	for (size_t i = 0; i < HASH_HEX / 2; i++)
		(void)snprintf(ret + 2 * i, 3, "%02x", md[i]);
	return 0;
}

static bool is_message(const char *text)
{
	return strncasecmp(text, "MIME-Version:", 13) == 0 || strncasecmp(text, "Content-Type:", 13) == 0;
}

static int render_user_data(const struct seed *s, struct buf *out, struct error *err)
{
	_cleanup_json_ struct json *config = cloud_config(s);
	_cleanup_buf_ struct buf ours = {}, given = {};
	const struct buf *hashed[] = { &given };
	_cleanup_free_ char *boundary = NULL;
	char hex[HASH_HEX + 1];
	int r;

	buf_adds(&ours, "#cloud-config\n");
	json_render(config, true, &ours);
	if (!s->user_data) {
		buf_add(out, ours.p, ours.len);
	} else {
		buf_adds(&given, s->user_data);
		r = hash(hashed, ARRAY_SIZE(hashed), hex, err);
		if (r < 0)
			return r;
		/* Nobody writes a text that holds its own hash. */
		boundary = xasprintf("skerry-%s", hex);
		buf_addf(out, "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"%s\"\n\n", boundary);
		if (is_message(s->user_data))
			buf_addf(out, "--%s\n%s\n", boundary, s->user_data);
		else
			/* Plain text is what cloud-init looks into for what it is. */
			add_part(out, boundary, "text/plain", s->user_data, strlen(s->user_data));
		add_part(out, boundary, "text/cloud-config", ours.p, ours.len);
		buf_addf(out, "--%s--\n", boundary);
	}
	explicit_bzero(ours.p, ours.len);
	return 0;
}

static struct json *route_by(const char *destination, const char *gateway)
{
	struct json *o = json_object();

	json_set_string(o, "to", destination);
	json_set_string(o, "via", gateway);
	return o;
}

static bool given(const char *s)
{
	return s && *s;
}

static struct json *route(const struct seed_route *r)
{
	struct json *o = given(r->via) ? route_by(r->to, r->via) : json_object();

	if (!given(r->via)) {
		json_set_string(o, "to", r->to);
		json_set_string(o, "scope", "link");
	}
	if (r->metric)
		json_set_u64(o, "metric", r->metric);
	return o;
}

static struct json *ethernet(const struct seed_interface *i)
{
	struct json *o = json_object(), *match = json_object();

	json_set_string(match, "macaddress", i->mac);
	json_set(o, "match", match);
	json_set_bool(o, "dhcp4", i->addresses.n == 0);
	if (i->addresses.n) {
		struct json *routes = json_array(), *servers = json_object();

		json_set(o, "addresses", strings(&i->addresses));
		if (given(i->gateway))
			json_append(routes, route_by("0.0.0.0/0", i->gateway));
		if (given(i->gateway6))
			json_append(routes, route_by("::/0", i->gateway6));
		for (size_t k = 0; k < i->n_routes; k++)
			json_append(routes, route(&i->routes[k]));
		json_set(o, "routes", routes);
		json_set(servers, "addresses", strings(&i->dns));
		json_set(servers, "search", strings(&i->search));
		json_set(o, "nameservers", servers);
		if (i->mtu)
			json_set_u64(o, "mtu", i->mtu);
	} else if (i->dns.n || i->search.n) {
		struct json *servers = json_object(), *overrides = json_object();

		json_set_bool(overrides, i->dns.n ? "use-dns" : "use-domains", false);
		json_set(o, "dhcp4-overrides", overrides);
		json_set(servers, "addresses", strings(&i->dns));
		json_set(servers, "search", strings(&i->search));
		json_set(o, "nameservers", servers);
	}
	return o;
}

static void render_network(const struct seed *s, struct buf *out)
{
	_cleanup_json_ struct json *o = json_object();
	struct json *all = json_object();

	json_set_u64(o, "version", 2);
	for (size_t i = 0; i < s->n_interfaces; i++) {
		_cleanup_free_ char *id = xasprintf("net%zu", i);

		json_set(all, id, ethernet(&s->interfaces[i]));
	}
	json_set(o, "ethernets", all);
	json_render(o, true, out);
}

int seed_render(const struct seed *s, struct seed_documents *ret, struct error *err)
{
	_cleanup_json_ struct json *meta = json_object();
	_cleanup_(seed_documents_done) struct seed_documents d = {};
	_cleanup_buf_ struct buf name = {};
	const struct buf *hashed[] = { &name, &d.user_data, &d.network_config };
	char hex[HASH_HEX + 1];
	int r = 0;

	if (s->user_data)
		r = seed_check_user_data(s->user_data, strlen(s->user_data), "user data", err);
	if (r >= 0)
		r = render_user_data(s, &d.user_data, err);
	if (r < 0)
		return r;
	render_network(s, &d.network_config);
	buf_adds(&name, s->hostname);
	r = hash(hashed, ARRAY_SIZE(hashed), hex, err);
	if (r < 0)
		return r;
	(void)snprintf(d.instance_id, sizeof(d.instance_id), "skerry-%s", hex);
	json_set_string(meta, "instance-id", d.instance_id);
	json_set_string(meta, "local-hostname", s->hostname);
	json_render(meta, true, &d.meta_data);
	*ret = d;
	d = (struct seed_documents){};
	return 0;
}

int seed_write(const struct seed *s, int fd, struct error *err)
{
	_cleanup_(seed_documents_done) struct seed_documents d = {};
	_cleanup_iso_ struct iso *iso = NULL;
	int r = seed_render(s, &d, err);

	if (r >= 0)
		r = iso_create(fd, "CIDATA", &iso, err);
	if (r >= 0)
		r = iso_add_file(iso, "user-data", d.user_data.p, d.user_data.len, err);
	if (r >= 0)
		r = iso_add_file(iso, "meta-data", d.meta_data.p, d.meta_data.len, err);
	if (r >= 0)
		r = iso_add_file(iso, "network-config", d.network_config.p, d.network_config.len, err);
	if (r < 0)
		return r;
	r = fault_point("seed.write");
	return r < 0 ? error_set_errno(err, r, "seed: cannot write it") : iso_finish(iso, err);
}
