#include "disk/seed.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/spawn.h"
#include "test.h"

static void make(struct seed *s)
{
	*s = (struct seed){
		.hostname = xstrdup("web"),
		.user = xstrdup("dev"),
		.host_key = xstrdup("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"),
		.host_key_public = xstrdup("ssh-ed25519 AAAA web"),
		.interfaces = xnew(struct seed_interface),
		.n_interfaces = 1,
	};
	strv_add(&s->authorized_keys, "ssh-ed25519 BBBB me@h\xc3\xb6st");
	s->interfaces[0].mac = xstrdup("02:11:22:33:44:55");
}

static struct json *parse(const struct buf *b)
{
	const char *text = after_prefix(b->p, "#cloud-config\n");
	struct json *j = NULL;

	text = text ? text : b->p;
	ASSERT_OK(json_parse(text, strlen(text), "document", &j, NULL));
	return j;
}

static const char *string_at(const struct json *j, const char *a, const char *b)
{
	return json_string(b ? json_get(json_get(j, a), b) : json_get(j, a));
}

TEST(a_password_is_set_and_asked_for)
{
	_cleanup_(seed_documents_done) struct seed_documents with = {}, without = {};
	_cleanup_json_ struct json *user = NULL, *none = NULL;
	_cleanup_seed_ struct seed s = {};
	const struct json *first;
	bool on = false;

	make(&s);
	ASSERT_OK(seed_render(&s, &without, NULL));
	none = parse(&without.user_data);
	ASSERT(!json_get(none, "chpasswd") && !json_get(none, "ssh_pwauth"));
	s.password = xstrdup("$6$salt$hash");
	ASSERT_OK(seed_render(&s, &with, NULL));
	user = parse(&with.user_data);
	ASSERT_STREQ(string_at(user, "user", "passwd"), "$6$salt$hash");
	ASSERT(json_bool(json_get(user, "ssh_pwauth"), &on) && on);
	ASSERT(json_bool(json_get(json_get(user, "chpasswd"), "expire"), &on) && !on);
	first = json_at(json_get(json_get(user, "chpasswd"), "users"), 0);
	ASSERT_STREQ(json_string(json_get(first, "name")), "dev");
	ASSERT_STREQ(json_string(json_get(first, "password")), "$6$salt$hash");
	/* Another password is another instance, so that it is applied. */
	ASSERT(!streq(with.instance_id, without.instance_id));
}

TEST(every_setting_is_in_the_documents)
{
	_cleanup_(seed_documents_done) struct seed_documents d = {};
	_cleanup_json_ struct json *user = NULL, *meta = NULL, *net = NULL;
	_cleanup_seed_ struct seed s = {};
	const struct json *card;
	bool on = false;

	make(&s);
	ASSERT_OK(seed_render(&s, &d, NULL));
	ASSERT(after_prefix(d.user_data.p, "#cloud-config\n"));
	user = parse(&d.user_data);
	meta = parse(&d.meta_data);
	net = parse(&d.network_config);
	ASSERT_STREQ(string_at(user, "hostname", NULL), "web");
	ASSERT_STREQ(string_at(user, "user", "name"), "dev");
	ASSERT_CONTAINS(string_at(user, "user", "sudo"), "NOPASSWD");
	ASSERT_STREQ(json_string(json_at(json_get(user, "users"), 0)), "default");
	ASSERT_STREQ(json_string(json_at(json_get(user, "ssh_authorized_keys"), 0)), "ssh-ed25519 BBBB me@h\xc3\xb6st");
	ASSERT_CONTAINS(string_at(user, "ssh_keys", "ed25519_private"), "\nAAAA\n");
	ASSERT_STREQ(string_at(user, "ssh_keys", "ed25519_public"), "ssh-ed25519 AAAA web");
	ASSERT_STREQ(string_at(user, "growpart", "mode"), "auto");
	ASSERT_STREQ(string_at(meta, "instance-id", NULL), d.instance_id);
	ASSERT_STREQ(string_at(meta, "local-hostname", NULL), "web");
	card = json_get(json_get(net, "ethernets"), "net0");
	ASSERT_STREQ(string_at(card, "match", "macaddress"), "02:11:22:33:44:55");
	ASSERT(json_bool(json_get(card, "dhcp4"), &on) && on);
	ASSERT(!json_get(card, "addresses"));
}

TEST(a_home_disk_is_mounted_and_grows)
{
	_cleanup_(seed_documents_done) struct seed_documents d = {};
	_cleanup_json_ struct json *user = NULL;
	_cleanup_seed_ struct seed s = {};
	const struct json *mount;

	make(&s);
	s.home = true;
	ASSERT_OK(seed_render(&s, &d, NULL));
	user = parse(&d.user_data);
	mount = json_at(json_get(user, "mounts"), 0);
	ASSERT_STREQ(json_string(json_at(mount, 0)), "/dev/disk/by-id/virtio-home");
	ASSERT_STREQ(json_string(json_at(mount, 1)), "/home");
	ASSERT_CONTAINS(json_string(json_at(mount, 3)), "growfs");
}

TEST(fixed_addresses_take_the_place_of_dhcp)
{
	_cleanup_(seed_documents_done) struct seed_documents d = {};
	_cleanup_json_ struct json *net = NULL;
	_cleanup_seed_ struct seed s = {};
	const struct json *card, *routes;
	uint64_t mtu = 0;
	bool on = true;

	make(&s);
	strv_add(&s.interfaces[0].addresses, "172.16.0.9/16");
	strv_add(&s.interfaces[0].addresses, "fd00::9/64");
	s.interfaces[0].gateway = xstrdup("172.16.0.1");
	s.interfaces[0].gateway6 = xstrdup("fd00::1");
	s.interfaces[0].mtu = 1400;
	strv_add(&s.interfaces[0].dns, "172.16.0.1");
	strv_add(&s.interfaces[0].search, "example.org");
	ASSERT_OK(seed_render(&s, &d, NULL));
	net = parse(&d.network_config);
	card = json_get(json_get(net, "ethernets"), "net0");
	ASSERT(json_bool(json_get(card, "dhcp4"), &on) && !on);
	ASSERT_STREQ(json_string(json_at(json_get(card, "addresses"), 1)), "fd00::9/64");
	routes = json_get(card, "routes");
	ASSERT_EQ(json_length(routes), 2);
	ASSERT_STREQ(string_at(json_at(routes, 0), "via", NULL), "172.16.0.1");
	ASSERT_STREQ(string_at(json_at(routes, 1), "to", NULL), "::/0");
	ASSERT_STREQ(json_string(json_at(json_get(json_get(card, "nameservers"), "search"), 0)), "example.org");
	ASSERT(json_u64(json_get(card, "mtu"), &mtu) && mtu == 1400);
}

TEST(routes_are_as_they_were_read)
{
	_cleanup_(seed_documents_done) struct seed_documents d = {};
	_cleanup_json_ struct json *net = NULL;
	_cleanup_seed_ struct seed s = {};
	const struct json *routes;
	uint64_t metric = 0;

	make(&s);
	strv_add(&s.interfaces[0].addresses, "172.16.0.9/16");
	s.interfaces[0].routes = xnew_n(struct seed_route, 2);
	s.interfaces[0].n_routes = 2;
	s.interfaces[0].routes[0].to = xstrdup("192.0.2.0/24");
	s.interfaces[0].routes[1] =
		(struct seed_route){ .to = xstrdup("0.0.0.0/0"), .via = xstrdup("172.16.0.1"), .metric = 50 };
	ASSERT_OK(seed_render(&s, &d, NULL));
	net = parse(&d.network_config);
	routes = json_get(json_get(json_get(net, "ethernets"), "net0"), "routes");
	ASSERT_EQ(json_length(routes), 2);
	ASSERT_STREQ(string_at(json_at(routes, 0), "scope", NULL), "link");
	ASSERT_STREQ(string_at(json_at(routes, 1), "via", NULL), "172.16.0.1");
	ASSERT(json_u64(json_get(json_at(routes, 1), "metric"), &metric) && metric == 50);
}

TEST(the_instance_is_the_same_until_something_changes)
{
	struct seed_documents d = {};
	_cleanup_seed_ struct seed s = {};
	char first[SEED_INSTANCE_ID_SIZE];

	make(&s);
	ASSERT_OK(seed_render(&s, &d, NULL));
	memcpy(first, d.instance_id, sizeof(first));
	ASSERT_EQ(strlen(first), SEED_INSTANCE_ID_SIZE - 1);
	seed_documents_done(&d);
	ASSERT_OK(seed_render(&s, &d, NULL));
	ASSERT_STREQ(d.instance_id, first);
	seed_documents_done(&d);
	s.interfaces[0].mac[0] = '6';
	ASSERT_OK(seed_render(&s, &d, NULL));
	ASSERT(!streq(d.instance_id, first));
	seed_documents_done(&d);
	s.interfaces[0].mac[0] = '0';
	s.user_data = xstrdup("#!/bin/sh\n");
	ASSERT_OK(seed_render(&s, &d, NULL));
	ASSERT(!streq(d.instance_id, first));
	seed_documents_done(&d);
}

/* The message as Python's email package, which cloud-init reads it with, takes it apart. */
static char *python_parts(const struct buf *message)
{
	static const char script[] =
		"import email,sys\n"
		"for p in email.message_from_string(sys.stdin.read()).walk():\n"
		"  if p.get_content_maintype() != 'multipart':\n"
		"    print(p.get_content_type() + '|' + p.get_payload(decode=True).decode('utf-8') + '|')\n";
	const char *argv[] = { "python3", "-c", script, NULL };
	_cleanup_free_ char *python = program_find("python3");
	struct spawn sp = SPAWN_INIT;
	struct buf out = {};

	if (!python)
		test_skip("no python3");
	sp.argv = argv;
	ASSERT_OK(spawn_check(&sp, message, &out, 1 << 20, 0, NULL));
	return buf_take(&out);
}

TEST(user_data_goes_through_untouched_and_first)
{
	static const char text[] = "#cloud-config\npackages: &p [a, b]\nupgrade: yes\nmode: 0644\nhost: h\xc3\xb6st\n";
	_cleanup_(seed_documents_done) struct seed_documents d = {};
	_cleanup_free_ char *parts = NULL, *expected = xasprintf("text/plain|%s|\n", text);
	_cleanup_seed_ struct seed s = {};

	make(&s);
	s.user_data = xstrdup(text);
	ASSERT_OK(seed_render(&s, &d, NULL));
	ASSERT(after_prefix(d.user_data.p, "MIME-Version: 1.0\nContent-Type: multipart/mixed;"));
	parts = python_parts(&d.user_data);
	ASSERT(after_prefix(parts, expected));
	ASSERT_CONTAINS(parts, "text/cloud-config|#cloud-config\n{");
	ASSERT_CONTAINS(parts, "\"no_replace\"");
	ASSERT_CONTAINS(parts, "ssh-ed25519 BBBB");
}

TEST(a_script_and_a_message_go_through_too)
{
	static const char message[] = "Content-Type: multipart/mixed; boundary=\"x\"\nMIME-Version: 1.0\n\n--x\n"
				      "Content-Type: text/x-shellscript\n\n#!/bin/sh\necho hi\n--x--\n";
	_cleanup_free_ char *parts = NULL, *more = NULL;
	struct seed_documents d = {};
	_cleanup_seed_ struct seed s = {};

	make(&s);
	s.user_data = xstrdup("#!/bin/sh\necho hi\n");
	ASSERT_OK(seed_render(&s, &d, NULL));
	parts = python_parts(&d.user_data);
	ASSERT(after_prefix(parts, "text/plain|#!/bin/sh\necho hi\n|\ntext/cloud-config|"));
	seed_documents_done(&d);
	free(s.user_data);
	s.user_data = xstrdup(message);
	ASSERT_OK(seed_render(&s, &d, NULL));
	more = python_parts(&d.user_data);
	ASSERT(after_prefix(more, "text/x-shellscript|#!/bin/sh\necho hi|\ntext/cloud-config|"));
	seed_documents_done(&d);
}

TEST(what_cloud_init_would_ignore_is_refused)
{
	static const char latin1[] = "#cloud-config\nname: h\xf6st\n", binary[] = "#!\0x";
	_cleanup_error_ struct error e = {};
	_cleanup_free_ char *large = xcalloc(1, SEED_USER_DATA_MAX + 2);

	ASSERT_OK(seed_check_user_data("#cloud-config\n", 14, "x", NULL));
	ASSERT_OK(seed_check_user_data("#!/bin/sh\n", 10, "x", NULL));
	ASSERT_OK(seed_check_user_data("## template: jinja\n#cloud-config\n", 33, "x", NULL));
	ASSERT_EQ(seed_check_user_data("hostname: x\n", 12, "--user-data 'x'", &e), -EBADMSG);
	ASSERT_EQ(error_exit_status(&e), 65);
	ASSERT_CONTAINS(e.msg, "--user-data 'x'");
	ASSERT_CONTAINS(e.hint, "#cloud-config");
	ASSERT_EQ(seed_check_user_data("", 0, "x", NULL), -EBADMSG);
	ASSERT_EQ(seed_check_user_data(latin1, sizeof(latin1) - 1, "x", NULL), -EBADMSG);
	ASSERT_EQ(seed_check_user_data(binary, sizeof(binary) - 1, "x", NULL), -EBADMSG);
	memset(large, '#', SEED_USER_DATA_MAX + 1);
	ASSERT_EQ(seed_check_user_data(large, SEED_USER_DATA_MAX + 1, "x", NULL), -EBADMSG);
}

static int new_file(void)
{
	_cleanup_free_ char *path = xasprintf("%s/seed.iso", test_tmpdir());
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ASSERT_OK(fd);
	return fd;
}

TEST(the_iso_holds_the_documents)
{
	_cleanup_(seed_documents_done) struct seed_documents d = {};
	_cleanup_seed_ struct seed s = {};
	_cleanup_close_ int fd = new_file();
	struct archive *a = archive_read_new();
	struct archive_entry *e;
	char label[8] = {};
	unsigned found = 0;
	struct stat st;

	make(&s);
	ASSERT_OK(seed_render(&s, &d, NULL));
	ASSERT_OK(seed_write(&s, fd, NULL));
	ASSERT_OK(fstat(fd, &st));
	ASSERT_EQ(st.st_size % 2048, 0);
	/* The primary volume descriptor: where blkid, and so cloud-init, looks. */
	ASSERT_OK(pread_full(fd, label, 6, 16 * 2048 + 40));
	ASSERT_STREQ(label, "CIDATA");
	ASSERT_EQ(lseek(fd, 0, SEEK_SET), 0);
	(void)archive_read_support_format_iso9660(a);
	ASSERT_EQ(archive_read_open_fd(a, fd, 2048), ARCHIVE_OK);
	while (archive_read_next_header(a, &e) == ARCHIVE_OK) {
		const struct buf *expected = streq(archive_entry_pathname(e), "user-data")        ? &d.user_data
					     : streq(archive_entry_pathname(e), "meta-data")      ? &d.meta_data
					     : streq(archive_entry_pathname(e), "network-config") ? &d.network_config
												  : NULL;
		_cleanup_free_ char *got = NULL;

		if (!expected)
			continue;
		found++;
		ASSERT_EQ(archive_entry_size(e), expected->len);
		got = xcalloc(1, expected->len + 1);
		ASSERT_EQ(archive_read_data(a, got, expected->len), expected->len);
		ASSERT_STREQ(got, expected->p);
	}
	ASSERT_EQ(found, 3);
	(void)archive_read_free(a);
}

TEST(the_settings_survive_the_way_to_the_program_that_writes)
{
	_cleanup_json_ struct json *tree = json_object();
	_cleanup_(seed_documents_done) struct seed_documents a = {}, b = {};
	_cleanup_seed_ struct seed s = {}, back = {};

	make(&s);
	strv_add(&s.interfaces[0].addresses, "10.0.0.2/8");
	s.user_data = xstrdup("#cloud-config\n");
	json_store(tree, seed_fields, &s);
	ASSERT_OK(json_load(tree, seed_fields, &back, "settings", NULL));
	ASSERT_OK(seed_render(&s, &a, NULL));
	ASSERT_OK(seed_render(&back, &b, NULL));
	ASSERT_STREQ(a.instance_id, b.instance_id);
	ASSERT_STREQ(a.user_data.p, b.user_data.p);
}

TEST(zone_directories_and_name_servers_are_told)
{
	_cleanup_(seed_documents_done) struct seed_documents d = {};
	_cleanup_json_ struct json *user = NULL, *network = NULL;
	const struct json *mount, *net;
	_cleanup_seed_ struct seed s = {};
	bool on = true;

	make(&s);
	s.timezone = xstrdup("Europe/Berlin");
	strv_add(&s.shares, "share:0:/mnt/a");
	strv_add(&s.interfaces[0].dns, "192.0.2.53");
	ASSERT_OK(seed_render(&s, &d, NULL));
	user = parse(&d.user_data);
	ASSERT_STREQ(string_at(user, "timezone", NULL), "Europe/Berlin");
	mount = json_at(json_get(user, "mounts"), 0);
	ASSERT_STREQ(json_string(json_at(mount, 0)), "share:0");
	ASSERT_STREQ(json_string(json_at(mount, 1)), "/mnt/a");
	ASSERT_STREQ(json_string(json_at(mount, 2)), "9p");
	network = parse(&d.network_config);
	net = json_get(json_get(network, "ethernets"), "net0");
	ASSERT(json_bool(json_get(net, "dhcp4"), &on) && on);
	ASSERT(json_bool(json_get(json_get(net, "dhcp4-overrides"), "use-dns"), &on) && !on);
	ASSERT_STREQ(json_string(json_at(json_get(json_get(net, "nameservers"), "addresses"), 0)), "192.0.2.53");
}
