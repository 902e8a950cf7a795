#include "bench/docker_vm.h"

#include "base/memory.h"

/* The shell commands begin with the peer's own "docker --host SOCKET". */
static int shell(const struct peer *docker, const char *scratch, const char *script, uint64_t *ret_ns,
		 struct error *err)
{
	_cleanup_free_ char *text =
		xasprintf("cd '%s' && export DOCKER_HOST='%s' && %s", scratch, docker->words[2], script);
	const char *argv[] = { "/bin/sh", "-c", text, NULL };

	return measure_command(argv, ret_ns, err);
}

int docker_vm_prepare(const struct peer *docker, const char *scratch, const char *runtime, struct error *err)
{
	/* The newer builder is a plug-in, which need not be there. */
	_cleanup_free_ char *script =
		xasprintf("export DOCKER_BUILDKIT=0 && docker build -q -t skerry/runtime '%s/runtime' && "
			  "docker build -q -t skerry/debian '%s/debian' && "
			  "ssh-keygen -q -t ed25519 -N '' -f key",
			  runtime, runtime);
	uint64_t ns;

	return shell(docker, scratch, script, &ns, err);
}

int docker_vm_run(const struct peer *docker, const char *scratch, uint64_t *ret_ns, struct error *err)
{
	uint64_t ns;
	int r = shell(
		docker, scratch,
		"docker run -d --name box -p 127.0.0.1:2222:22 -e SSH_KEYS=\"$(cat key.pub)\" -v box:/disks "
		"skerry/debian && i=0 && until ssh -q -F none -i key -o BatchMode=yes -o StrictHostKeyChecking=no -o "
		"UserKnownHostsFile=/dev/null -o ConnectTimeout=10 -p 2222 user@127.0.0.1 true; do "
		"i=$((i + 1)); [ $i -lt 600 ] || exit 1; sleep 0.1; done",
		ret_ns, err);

	(void)shell(docker, scratch, "docker rm -f -v box && docker volume rm box", &ns, NULL);
	return r;
}
