#include "docker/privileges.h"

#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

bool privileges_has(int number)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};

	return syscall(SYS_capget, &head, data) == 0 && (data[number / 32].effective & (1U << number % 32));
}

void privileges_check(struct strv *problems)
{
	/* QEMU becomes another user, whose processes are not ended by everybody. */
	static const int needed[] = { CAP_SETUID, CAP_SETGID, CAP_KILL };
	bool all = true;

	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		all = all && privileges_has(needed[i]);
	if (geteuid() == 0 && !all)
		strv_add(problems,
			 "root without the capabilities SETUID, SETGID and KILL cannot give QEMU a user of its own, "
			 "and end it: add `--user skerry`, or leave them to it (`--cap-add SETUID --cap-add SETGID "
			 "--cap-add KILL`)");
}
