#include "guest/bootconfig.h"

#include <errno.h>
#include <sys/socket.h>

#include "agent.pb-c.h"
#include "test.h"
#include "wire/message.h"

static int parse(const Skerry__Agent__V1__BootConfig *c, struct error *err)
{
	_cleanup_buf_ struct buf b = { 0 };
	Skerry__Agent__V1__BootConfig *back;
	int r;

	message_pack(&b, &c->base);
	r = bootconfig_parse(b.p, b.len, &back, err);
	if (r == 0)
		message_free(back);
	return r;
}

static void assert_refused(const Skerry__Agent__V1__BootConfig *c, const char *field)
{
	_cleanup_error_ struct error err = { 0 };

	ASSERT_EQ(parse(c, &err), -EBADMSG);
	ASSERT_CONTAINS(err.msg, field);
}

TEST(nothing_is_a_configuration)
{
	Skerry__Agent__V1__BootConfig c;

	skerry__agent__v1__boot_config__init(&c);
	ASSERT_OK(parse(&c, NULL));
}

TEST(garbage_is_refused)
{
	_cleanup_error_ struct error err = { 0 };
	Skerry__Agent__V1__BootConfig *c;

	ASSERT_EQ(bootconfig_parse("\xff\xff", 2, &c, &err), -EBADMSG);
	ASSERT_CONTAINS(err.msg, "decoded");
}

TEST(names_are_checked)
{
	char *const bad_hosts[] = { (char[]){ "a/b" }, (char[]){ "a b" }, (char[]){ "-a" }, (char[]){ ".a" } };
	char good[] = "web-1.example.org", id[] = "0123456789abcdef0123456789abcdeF", no_assignment[] = "FOO";
	char *environment[] = { no_assignment };
	char relative[] = "data", *directories[] = { relative };
	Skerry__Agent__V1__BootConfig c;
	uint8_t token[15] = { 0 };

	skerry__agent__v1__boot_config__init(&c);
	c.hostname = good;
	ASSERT_OK(parse(&c, NULL));
	for (size_t i = 0; i < ARRAY_SIZE(bad_hosts); i++) {
		c.hostname = bad_hosts[i];
		assert_refused(&c, "host name");
	}
	c.hostname = good;
	c.machine_id = id;
	assert_refused(&c, "machine id");
	id[31] = 'f';
	ASSERT_OK(parse(&c, NULL));
	c.token = (ProtobufCBinaryData){ .len = sizeof(token), .data = token };
	assert_refused(&c, "token");
	c.token.len = 0;
	c.environment = environment;
	c.n_environment = 1;
	assert_refused(&c, "environment");
	c.n_environment = 0;
	c.directories = directories;
	c.n_directories = 1;
	assert_refused(&c, "directory");
	c.n_directories = 0;
}

TEST(disks_are_checked)
{
	static const struct {
		const char *serial, *mount, *fstype, *field;
	} cases[] = { { "system", "/", "ext4", NULL },
		      { "home", "/home", "ext4", NULL },
		      { "home", "/a/..b/c", "erofs", NULL },
		      { "", "/", "ext4", "serial" },
		      { "../x", "/", "ext4", "serial" },
		      { "123456789012345678901", "/", "ext4", "serial" },
		      { "x", "home", "ext4", "mount point" },
		      { "x", "/home/../etc", "ext4", "mount point" },
		      { "x", "/home/", "ext4", "mount point" },
		      { "x", "//home", "ext4", "mount point" },
		      { "x", "/home/..", "ext4", "mount point" },
		      { "x", "/", "proc", "file system type" } };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *serial = strdup(cases[i].serial), *mount = strdup(cases[i].mount),
				    *fstype = strdup(cases[i].fstype);
		Skerry__Agent__V1__BootConfig c;
		Skerry__Agent__V1__Disk d, *disks[] = { &d };

		skerry__agent__v1__boot_config__init(&c);
		skerry__agent__v1__disk__init(&d);
		d.serial = serial;
		d.mount = mount;
		d.fstype = fstype;
		c.disks = disks;
		c.n_disks = 1;
		if (cases[i].field)
			assert_refused(&c, cases[i].field);
		else
			ASSERT_OK(parse(&c, NULL));
	}
}

TEST(the_disk_above_a_root_is_checked)
{
	static const struct {
		const char *mount, *upper;
		bool fine;
	} cases[] = {
		{ "/", "system", true },
		{ "/", "", true },
		{ "/home", "system", false },
		{ "/", "../x", false },
		{ "/", "123456789012345678901", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *mount = strdup(cases[i].mount), *upper = strdup(cases[i].upper);
		char image[] = "image", erofs[] = "erofs";
		Skerry__Agent__V1__BootConfig c;
		Skerry__Agent__V1__Disk d, *disks[] = { &d };

		skerry__agent__v1__boot_config__init(&c);
		skerry__agent__v1__disk__init(&d);
		d.serial = image;
		d.mount = mount;
		d.fstype = erofs;
		d.upper = upper;
		c.disks = disks;
		c.n_disks = 1;
		if (cases[i].fine)
			ASSERT_OK(parse(&c, NULL));
		else
			assert_refused(&c, "the disk above a disk");
	}
}

TEST(users_and_keys_are_checked)
{
	char name[] = "dev", root[] = "a/b", colon[] = "a:b", key[] = "ssh-ed25519 AAAA me", two[] = "a\nb";
	char *keys[] = { key };
	Skerry__Agent__V1__BootConfig c;
	Skerry__Agent__V1__User u, *users[] = { &u };

	skerry__agent__v1__boot_config__init(&c);
	skerry__agent__v1__user__init(&u);
	c.users = users;
	c.n_users = 1;
	assert_refused(&c, "user's name");
	u.name = root;
	assert_refused(&c, "user's name");
	u.name = colon;
	assert_refused(&c, "user's name");
	u.name = name;
	u.authorized_keys = keys;
	u.n_authorized_keys = 1;
	ASSERT_OK(parse(&c, NULL));
	keys[0] = two;
	assert_refused(&c, "user's key");
}

TEST(host_keys_stay_in_their_directory)
{
	char good[] = "ssh_host_ed25519_key", path[] = "../ssh_host_x_key", other[] = "moduli";
	uint8_t bytes[] = "key";
	Skerry__Agent__V1__BootConfig c;
	Skerry__Agent__V1__SshHostKey k, *keys[] = { &k };

	skerry__agent__v1__boot_config__init(&c);
	skerry__agent__v1__ssh_host_key__init(&k);
	c.ssh_host_keys = keys;
	c.n_ssh_host_keys = 1;
	k.private_key = (ProtobufCBinaryData){ .len = 3, .data = bytes };
	k.name = good;
	ASSERT_OK(parse(&c, NULL));
	k.name = path;
	assert_refused(&c, "host key");
	k.name = other;
	assert_refused(&c, "host key");
	k.name = good;
	k.private_key.len = 0;
	assert_refused(&c, "host key");
}

/* One interface with one route (@route: destination, gateway, source; NULL = none), one neighbour and a name. */
static int with_route(const char *const route[3], const char *neighbour, const char *name, struct error *err)
{
	_cleanup_free_ char *destination = strdup(route ? route[0] : ""), *gateway = strdup(route ? route[1] : ""),
			    *source = strdup(route ? route[2] : ""), *address = strdup(neighbour),
			    *called = strdup(name);
	char mac[] = "02:00:00:00:00:01";
	Skerry__Agent__V1__BootConfig c;
	Skerry__Agent__V1__Interface i, *interfaces[] = { &i };
	Skerry__Agent__V1__Route to, *routes[] = { &to };
	Skerry__Agent__V1__Neighbour n, *neighbours[] = { &n };

	skerry__agent__v1__boot_config__init(&c);
	skerry__agent__v1__interface__init(&i);
	skerry__agent__v1__route__init(&to);
	skerry__agent__v1__neighbour__init(&n);
	to.destination = destination;
	to.gateway = gateway;
	to.source = source;
	n.address = address;
	n.mac = mac;
	i.mac = mac;
	i.name = called;
	i.routes = routes;
	i.n_routes = route ? 1 : 0;
	i.neighbours = neighbours;
	i.n_neighbours = *neighbour ? 1 : 0;
	c.interfaces = interfaces;
	c.n_interfaces = 1;
	return parse(&c, err);
}

TEST(routes_neighbours_and_names_are_checked)
{
	static const struct {
		const char *route[3], *neighbour, *name;
		bool good;
	} cases[] = {
		{ { "10.0.0.0/8", "10.1.1.1", "10.1.1.2" }, "", "eth0", true },
		{ { "0.0.0.0/0", "fe80::1", "" }, "fe80::1", "net1", true },
		{ { "169.254.1.1/32", "", "" }, "169.254.1.1", "", true },
		{ { "::/0", "fe80::1", "fd00::2" }, "", "a-b.c", true },
		{ { "::/0", "10.0.0.1", "" }, "", "", false },
		{ { "", "10.0.0.1", "" }, "", "", false },
		{ { "10.0.0.1", "10.0.0.1", "" }, "", "", false },
		{ { "10.0.0.0/33", "10.0.0.1", "" }, "", "", false },
		{ { "10.0.0.0/8", "host", "" }, "", "", false },
		{ { "10.0.0.0/8", "10.0.0.1/8", "" }, "", "", false },
		{ { "10.0.0.0/8", "10.0.0.1", "fd00::1" }, "", "", false },
		{ { "10.0.0.0/8", "", "" }, "10.0.0.256", "", false },
		{ { "10.0.0.0/8", "", "" }, "", "a/b", false },
		{ { "10.0.0.0/8", "", "" }, "", "a b", false },
		{ { "10.0.0.0/8", "", "" }, "", "..", false },
		{ { "10.0.0.0/8", "", "" }, "", "sixteen-bytes-xx", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error e = { 0 };
		int r = with_route(cases[i].route, cases[i].neighbour, cases[i].name, &e);

		if ((r == 0) != cases[i].good)
			test_fail(__FILE__, __LINE__, "case %zu: %d %s", i, r, e.msg ? e.msg : "");
		error_done(&e);
	}
	ASSERT_OK(with_route(NULL, "", "", NULL));
}

TEST(addresses_are_parsed)
{
	static const char *const bad[] = { "",          "1.2.3.4/33", "1.2.3/24", "::1/129",   "1.2.3.4/",
					   "1.2.3.4/x", "/24",        "host",     "1.2.3.4/-1" };
	uint8_t a[16], prefix;
	int family;

	ASSERT_OK(bootconfig_address("10.0.2.15/24", &family, a, &prefix));
	ASSERT_EQ(family, AF_INET);
	ASSERT_EQ(prefix, 24);
	ASSERT_MEMEQ(a, "\x0a\0\2\x0f", 4);
	ASSERT_OK(bootconfig_address("2001:db8::1/64", &family, a, &prefix));
	ASSERT_EQ(family, AF_INET6);
	ASSERT_EQ(prefix, 64);
	ASSERT_OK(bootconfig_address("10.0.2.2", &family, a, &prefix));
	ASSERT_EQ(prefix, 32);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ASSERT(bootconfig_address(bad[i], &family, a, &prefix) < 0);
}

TEST(hardware_addresses_are_parsed)
{
	static const char *const bad[] = { "", "52:54:00:12:34", "52:54:00:12:34:5g", "52-54-00-12-34-56",
					   "52:54:00:12:34:56:78" };
	uint8_t mac[6];

	ASSERT_OK(bootconfig_mac("52:54:00:aB:Cd:ef", mac));
	ASSERT_MEMEQ(mac, "\x52\x54\x00\xab\xcd\xef", 6);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ASSERT(bootconfig_mac(bad[i], mac) < 0);
}

TEST(shares_and_the_time_zone_are_checked)
{
	char tag[] = "share:0", target[] = "/mnt/a", type[] = "9p", up[] = "/mnt/../x", other[] = "proc",
	     zone[] = "Europe/Berlin", absolute[] = "/etc/passwd", dots[] = "../../etc";
	Skerry__Agent__V1__BootConfig c;
	Skerry__Agent__V1__Share s, *shares[] = { &s };

	skerry__agent__v1__boot_config__init(&c);
	skerry__agent__v1__share__init(&s);
	s.tag = tag;
	s.target = target;
	s.fstype = type;
	c.shares = shares;
	c.n_shares = 1;
	c.timezone = zone;
	ASSERT_OK(parse(&c, NULL));
	s.target = up;
	assert_refused(&c, "a share");
	s.target = target;
	s.fstype = other;
	assert_refused(&c, "file system");
	s.fstype = type;
	c.timezone = absolute;
	assert_refused(&c, "time zone");
	c.timezone = dots;
	assert_refused(&c, "time zone");
}
