/* The end that SIGTERM asks for: a host that shuts down sends it to everything that runs, containers included. */
#pragma once

struct shim;

/* Each container's first process gets SIGTERM; when all have ended, or after s->limits.ending_ns, what is mounted from disks is written back and
 * unmounted, which may take s->limits.write_back_ns; then shim_shut_down(). Sets s->ending. */
void ending_begin(struct shim *s);
