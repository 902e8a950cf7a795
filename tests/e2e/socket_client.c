/* Runs in a container: `socket_client PATH CONNECTIONS BYTES`: so many connections at once, each of which sends so many bytes, ends its sending, and
 * reads the same bytes back to their end, each turned over (XOR 0xff). */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static uint8_t byte_at(unsigned connection, size_t i)
{
	return (uint8_t)(i * 31 + i / 4093 + connection * 7);
}

static int run(const char *path, unsigned connection, size_t bytes)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	uint8_t chunk[8192];
	size_t done = 0;
	ssize_t n;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(a.sun_path, path, strlen(path));
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		perror("connect");
		return 2;
	}
	while (done < bytes) {
		size_t want = bytes - done < sizeof(chunk) ? bytes - done : sizeof(chunk);

		for (size_t i = 0; i < want; i++)
			chunk[i] = byte_at(connection, done + i);
		n = write(fd, chunk, want);
		if (n <= 0) {
			perror("write");
			return 3;
		}
		done += (size_t)n;
	}
	if (shutdown(fd, SHUT_WR) < 0)
		return 4;
	for (done = 0; (n = read(fd, chunk, sizeof(chunk))) > 0; done += (size_t)n)
		for (ssize_t i = 0; i < n; i++)
			if (chunk[i] != (uint8_t)~byte_at(connection, done + (size_t)i)) {
				fprintf(stderr, "connection %u: byte %zu differs\n", connection, done + (size_t)i);
				return 5;
			}
	if (n < 0 || done != bytes) {
		fprintf(stderr, "connection %u: %zu of %zu bytes came back\n", connection, done, bytes);
		return 6;
	}
	return 0;
}

int main(int argc, char **argv)
{
	unsigned n = argc == 4 ? (unsigned)strtoul(argv[2], NULL, 10) : 0; /* lint: no library of ours in it */
	size_t bytes = argc == 4 ? strtoul(argv[3], NULL, 10) : 0;         /* lint: likewise */
	int failed = 0, status;

	if (!n || strlen(argv[1]) > 100)
		return 64;
	for (unsigned i = 0; i < n; i++)
		if (fork() == 0)
			_exit(run(argv[1], i, bytes));
	while (wait(&status) > 0)
		failed |= status;
	printf("%s\n", failed ? "failed" : "all came back");
	return failed ? 1 : 0;
}
