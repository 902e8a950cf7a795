/* Shared inside the room: the firmware's variables, which belong to a snapshot and are files beside its record. A machine has one for each kind of
 * firmware that it was started with; each that is there is kept. */
#pragma once

/* @machine_fd: machines/NAME, with its directory of snapshots. Errors: errno. What was kept of one that failed is removed with it. */
int snapshot_variables_keep(int machine_fd, const char *snapshot);
/* Those that the snapshot has, over those that there are. */
int snapshot_variables_put_back(int machine_fd, const char *snapshot);
void snapshot_variables_remove(int machine_fd, const char *snapshot);
