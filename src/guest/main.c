/* skerry-init: stage 1 of the boot (PID 1), and the agent. `skerry-init agent` is the agent on a plain socket, for its tests. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/parse.h"
#include "guest/serve.h"
#include "guest/stage1.h"

enum { EXIT_USAGE = 64 };

static int parse_token(const char *hex, uint8_t token[SYNC_TOKEN_SIZE])
{
	static const char digits[] = "0123456789abcdef";

	if (strlen(hex) != 2 * SYNC_TOKEN_SIZE || strspn(hex, digits) != 2 * SYNC_TOKEN_SIZE)
		return -EINVAL;
	for (size_t i = 0; i < SYNC_TOKEN_SIZE; i++)
		token[i] = (uint8_t)((strchr(digits, hex[2 * i]) - digits) << 4 |
				     (strchr(digits, hex[2 * i + 1]) - digits));
	return 0;
}

static int connect_to(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (strlen(path) >= sizeof(a.sun_path))
		return -ENAMETOOLONG;
	memcpy(a.sun_path, path, strlen(path));
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static int agent_main(char **argv)
{
	uint8_t token[SYNC_TOKEN_SIZE];
	struct serve_options o = { .agent = { .target = { .fd = -1 } } };
	const char *root = "/";
	uint64_t fd;
	int r = 0;

	for (; argv[0] && argv[1] && r >= 0; argv += 2) {
		if (streq(argv[0], "--fd")) {
			r = parse_u64(argv[1], 0, 1 << 20, &fd);
			o.agent.target.fd = r < 0 ? -1 : fcntl((int)fd, F_DUPFD_CLOEXEC, 3);
			if (r == 0)
				(void)close((int)fd);
		} else if (streq(argv[0], "--socket")) {
			r = o.agent.target.fd = connect_to(argv[1]);
		} else if (streq(argv[0], "--token")) {
			r = parse_token(argv[1], token);
			o.agent.target.token = token;
		} else if (streq(argv[0], "--root")) {
			root = argv[1];
		} else {
			r = -EINVAL;
		}
	}
	o.agent.root = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (r < 0 || argv[0] || o.agent.target.fd < 0 || o.agent.root < 0)
		return EXIT_USAGE;
	r = serve(&o);
	return r < 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
	log_setup_from_env();
	if (argc > 1 && streq(argv[1], "agent"))
		return agent_main(argv + 2);
	if (getpid() == 1)
		return stage1_main(argv);
	(void)fputs("skerry-init is the first process of a machine's guest; it does nothing elsewhere\n", stderr);
	return EXIT_USAGE;
}
