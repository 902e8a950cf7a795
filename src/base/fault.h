/* Fault injection. Every side effect that recovery must cope with is preceded and followed by a labelled point. In builds without
 * -Dfaults=true a point compiles to nothing.
 *
 * SKERRY_FAULT="LABEL[:N]=ACTION": at the Nth (default 1st) passing of LABEL, ACTION is "kill" (SIGKILL to itself), "stop" (SIGSTOP) or
 * an errno name ("ENOSPC"), which the point returns. SKERRY_FAULT_LOG=PATH: every passed label is appended to PATH, one per line. */
#pragma once

#ifdef SKERRY_FAULTS
/* 0, or -errno when the point is told to fail. */
int fault_point(const char *label);
#else
static inline int fault_point(const char *label)
{
	(void)label;
	return 0;
}
#endif
