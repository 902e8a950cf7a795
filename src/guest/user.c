#include "guest/user.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "agent.pb-c.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/parse.h"
#include "guest/account.h"
#include "guest/root.h"

enum { FILE_BYTES_MAX = 4 << 20, FIRST_ID = 1000, LAST_ID = 59999, PASSWD_FIELDS = 7, GROUP_FIELDS = 4 };

/* Marks the ids that the third field of a file's lines holds. */
static void mark_ids(char *text, size_t fields, bool *used)
{
	char *f[PASSWD_FIELDS];
	uint64_t id;

	while (account_next_line(&text, f, fields))
		if (parse_u64(f[2], FIRST_ID, LAST_ID, &id) == 0)
			used[id - FIRST_ID] = true;
}

/* One number that is free as a user's and as a group's. */
static int free_id(int root, uint32_t *ret)
{
	_cleanup_free_ bool *used = xcalloc(LAST_ID - FIRST_ID + 1, sizeof(bool));
	static const char *const files[] = { "/etc/passwd", "/etc/group" };

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_buf_ struct buf b = { 0 };
		int r = root_read(root, files[i], FILE_BYTES_MAX, &b);

		if (r < 0 && r != -ENOENT)
			return r;
		mark_ids(b.p, i == 0 ? PASSWD_FIELDS : GROUP_FIELDS, used);
	}
	for (uint32_t id = FIRST_ID; id <= LAST_ID; id++) {
		if (used[id - FIRST_ID])
			continue;
		*ret = id;
		return 0;
	}
	return -ENOSPC;
}

/* Appends a line to a file that keeps owner and mode; @mode is for a new one. */
static int append_line(int root, const char *path, const char *line, mode_t mode)
{
	_cleanup_buf_ struct buf b = { 0 };
	_cleanup_close_ int fd = root_open(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	struct stat st = { .st_mode = mode };
	int r = 0;

	if (fd >= 0)
		r = fstat(fd, &st) < 0 ? -errno : file_read_fd(fd, FILE_BYTES_MAX, &b);
	else if (fd != -ENOENT)
		r = fd;
	if (r < 0)
		return r;
	if (b.len > 0 && b.p[b.len - 1] != '\n')
		buf_addc(&b, '\n');
	buf_adds(&b, line);
	buf_addc(&b, '\n');
	return root_write(root, path, b.p, b.len, st.st_mode & 07777, st.st_uid, st.st_gid);
}

static const char *shell_of(int root)
{
	_cleanup_close_ int bash = root_open(root, "/bin/bash", O_PATH, 0);

	return bash >= 0 ? "/bin/bash" : "/bin/sh";
}

static int create(const char *name, int root)
{
	_cleanup_free_ char *passwd = NULL, *group = NULL, *shadow = NULL;
	_unused_ _cleanup_close_ int home = -EBADF;
	uint32_t id;
	int r = free_id(root, &id);

	if (r < 0)
		return r;
	passwd = xasprintf("%s:x:%u:%u::/home/%s:%s", name, id, id, name, shell_of(root));
	group = xasprintf("%s:x:%u:", name, id);
	/* "*": no password fits, and sshd does not take the account for a locked one, as it does with "!". */
	shadow = xasprintf("%s:*:19000:0:99999:7:::", name);
	r = append_line(root, "/etc/group", group, 0644);
	if (r == 0)
		r = append_line(root, "/etc/shadow", shadow, 0600);
	return r == 0 ? append_line(root, "/etc/passwd", passwd, 0644) : r;
}

static int allow_sudo(const char *name, int root)
{
	_cleanup_close_ int dir = root_open(root, "/etc/sudoers.d", O_PATH | O_DIRECTORY, 0);
	_cleanup_free_ char *file = NULL, *line = NULL;

	if (dir < 0)
		return dir == -ENOENT ? 0 : dir; /* no sudo in the image */
	file = xasprintf("90-skerry-%s", name);
	for (char *p = file; *p; p++)
		if (*p == '.')
			*p = '_'; /* sudo skips names with a dot */
	line = xasprintf("%s ALL=(ALL:ALL) NOPASSWD: ALL\n", name);
	return root_write_at(dir, file, line, strlen(line), 0440, 0, 0);
}

/* The home directory: a fresh home disk has none yet. */
static int open_home(const struct account *a, int root)
{
	int home = root_open(root, a->home, O_PATH | O_DIRECTORY, 0);

	if (home != -ENOENT || streq(a->home, "/"))
		return home;
	if (after_prefix(a->home, "/home/")) {
		_cleanup_close_ int parent = root_mkdir(root, "/home", 0755, 0, 0);

		if (parent < 0)
			return parent;
	}
	return root_mkdir(root, a->home, a->uid ? 0755 : 0700, a->uid, a->gid);
}

static int write_keys(const Skerry__Agent__V1__User *u, const struct account *a, int root)
{
	_cleanup_close_ int home = open_home(a, root), ssh = -EBADF;
	_cleanup_buf_ struct buf keys = { 0 };

	if (home < 0)
		return home;
	if (u->n_authorized_keys == 0)
		return 0;
	for (size_t i = 0; i < u->n_authorized_keys; i++)
		buf_addf(&keys, "%s\n", u->authorized_keys[i]);
	if (mkdirat(home, ".ssh", 0700) == 0) {
		if (geteuid() == 0 && fchownat(home, ".ssh", a->uid, a->gid, AT_SYMLINK_NOFOLLOW) < 0)
			return -errno;
	} else if (errno != EEXIST) {
		return -errno;
	}
	/* The directory belongs to the user, who could have put a link there. */
	ssh = openat(home, ".ssh", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return ssh < 0 ? -errno : root_write_at(ssh, "authorized_keys", keys.p, keys.len, 0600, a->uid, a->gid);
}

/* The password's field of the account's line; the rest of the file as it is. */
static int set_password(const char *name, const char *password, int root)
{
	_cleanup_buf_ struct buf text = { 0 }, out = { 0 };
	_cleanup_close_ int fd = root_open(root, "/etc/shadow", O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	size_t n = strlen(name);
	bool found = false;
	struct stat st;
	int r;

	if (fd < 0)
		return fd;
	r = fstat(fd, &st) < 0 ? -errno : file_read_fd(fd, FILE_BYTES_MAX, &text);
	if (r < 0)
		return r;
	for (const char *line = text.p; line && *line;) {
		size_t length = strcspn(line, "\n");

		if (!found && length > n && strncmp(line, name, n) == 0 && line[n] == ':') {
			const char *rest = memchr(line + n + 1, ':', length - n - 1);

			buf_addf(&out, "%s:%s%.*s\n", name, password, rest ? (int)(line + length - rest) : 0,
				 rest ? rest : "");
			found = true;
		} else {
			buf_add(&out, line, length);
			buf_addc(&out, '\n');
		}
		line += length + (line[length] == '\n');
	}
	return found ? root_write(root, "/etc/shadow", out.p, out.len, st.st_mode & 07777, st.st_uid, st.st_gid)
		     : -ENOENT;
}

/* sshd takes the first value that it reads, and reads this directory by name before anything else. */
static int let_passwords_in(int root)
{
	static const char text[] = "PasswordAuthentication yes\n";
	_cleanup_close_ int dir = root_open(root, "/etc/ssh/sshd_config.d", O_PATH | O_DIRECTORY, 0);

	if (dir < 0)
		return dir == -ENOENT ? 0 : dir;
	return root_write_at(dir, "00-skerry-password.conf", text, strlen(text), 0600, 0, 0);
}

int user_apply(const Skerry__Agent__V1__User *u, int root, struct error *err)
{
	_cleanup_account_ struct account a = { 0 };
	int r = account_lookup(root, u->name, &a, NULL);

	if (r == -ENOENT && u->create) {
		r = create(u->name, root);
		if (r < 0)
			return error_set_errno(err, -r, "user '%s': cannot be made", u->name);
		r = account_lookup(root, u->name, &a, NULL);
	}
	if (r < 0)
		return error_set(err, -r, "user '%s': does not exist in the image", u->name);
	if (u->sudo) {
		r = allow_sudo(u->name, root);
		if (r < 0)
			return error_set_errno(err, -r, "user '%s': cannot allow sudo", u->name);
	}
	r = write_keys(u, &a, root);
	if (r < 0)
		return error_set_errno(err, -r, "user '%s': cannot write the keys", u->name);
	if (!*u->password)
		return 0;
	if (u->password[strcspn(u->password, ":\n")])
		return error_set(err, EINVAL, "user '%s': no password as crypt(5) has it", u->name);
	r = set_password(a.name, u->password, root);
	if (r == 0)
		r = let_passwords_in(root);
	return r < 0 ? error_set_errno(err, -r, "user '%s': cannot set the password", u->name) : 0;
}
