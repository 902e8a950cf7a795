/* Runs in a container: `lock_client PATH`: two processes lock one file, as flock(2) and as fcntl(2) has it; the second one waits for the first. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

static int lock_file(int fd, int operation)
{
	return flock(fd, operation);
}

static int lock_record(int fd, int operation)
{
	struct flock f = { .l_type = operation & LOCK_UN ? F_UNLCK : F_WRLCK, .l_whence = SEEK_SET };

	return fcntl(fd, operation & LOCK_NB ? F_SETLK : F_SETLKW, &f);
}

/* The second one: refused while it would not wait, then it waits. */
static int follow(int (*lock)(int, int), const char *path, int to_first, int from_first)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	char c;

	if (fd < 0 || lock(fd, LOCK_EX | LOCK_NB) == 0 || (errno != EWOULDBLOCK && errno != EACCES)) {
		perror("second: not refused");
		return 1;
	}
	if (write(to_first, "x", 1) != 1 || lock(fd, LOCK_EX) < 0) {
		perror("second: wait");
		return 1;
	}
	/* The first one wrote before it let go. */
	if (read(from_first, &c, 1) != 1) {
		fprintf(stderr, "second: it had the lock before the first let go\n");
		return 1;
	}
	return lock(fd, LOCK_UN) < 0;
}

static int run(const char *name, int (*lock)(int, int), const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), there[2], back[2], status;
	char c;

	if (fd < 0 || lock(fd, LOCK_EX) < 0 || pipe2(there, O_CLOEXEC) < 0 || pipe2(back, O_CLOEXEC | O_NONBLOCK) < 0) {
		perror(name);
		return 1;
	}
	if (fork() == 0)
		_exit(follow(lock, path, there[1], back[0]));
	close(there[1]);
	if (read(there[0], &c, 1) != 1 || write(back[1], "x", 1) != 1 || lock(fd, LOCK_UN) < 0) {
		perror(name);
		return 1;
	}
	if (wait(&status) < 0 || status) {
		fprintf(stderr, "%s: second failed\n", name);
		return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 64;
	if (run("flock", lock_file, argv[1]) || run("fcntl", lock_record, argv[1]))
		return 1;
	printf("locked\n");
	return 0;
}
