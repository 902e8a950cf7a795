/* A pod's /dev/shm: its containers have one together, which the CRI plugin makes on the host, as a tmpfs. Shared with the guest it would be slow, and
 * its memory the host's as well as the guest's; nobody on the host looks into it, so it is a tmpfs of the guest. */
#pragma once

struct Skerry__Agent__V1__CreateContainerRequest;
struct container;
struct spec_info;

/* Sets shm_bytes of the bind mount that is it: one of SANDBOX's ID/shm at /dev/shm. Another one, the host's or a volume, is left as it is. */
void shm_find(struct spec_info *info);
/* Asks for it at VM_SHM_GUEST/ID: that of a member that has it, or the first. What it appends is released by root_forget(). */
void shm_tell(const struct container *k, struct Skerry__Agent__V1__CreateContainerRequest *q);
