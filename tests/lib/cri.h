/* The CRI plugin of the test's containerd (ctd_start_with_cri() of containerd.h), spoken to as a kubelet does. Whatever is not answered with success
 * fails the test, except where an answer is returned. Ids and texts are the caller's to free. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cri.pb-c.h"
#include "grpc.h"

/* What a test wants of a pod; the rest is as a kubelet sets it. */
struct cri_pod {
	const char *name;    /* its host name, too */
	const char *handler; /* NULL = "skerry" */
	bool host_network, shared_pids;
	const char *annotation, *value; /* may be NULL */
	const char *volume;             /* of the host; each container has it at /volume, read-only; may be NULL */
	const char *name_server;        /* with a domain and an option; may be NULL */
	int64_t memory_bytes;           /* its containers' limits together; 0 = none */
	int64_t cpu_quota;              /* in 100 ms; 0 = none */
	int64_t oom_score;              /* of its containers' processes */
	const char *parent;             /* of its cgroup; NULL = one of the test's own, not a slice */
};
/* Waits until the plugin has its network and knows the image. */
void cri_wait_ready(void);
/* Its id. Logs are below test_tmpdir()/logs. */
char *cri_run_pod(const struct cri_pod *p);
struct grpc_answer cri_try_pod(const struct cri_pod *p);
bool cri_pod_ready(const char *pod);
/* "" = it has none. */
char *cri_pod_address(const char *pod);
/* What it uses on the host. */
void cri_pod_usage(const char *pod, uint64_t *ret_cpu_ns, uint64_t *ret_memory_bytes);
void cri_stop_pod(const char *pod);
/* As a kubelet does: stopped first. Twice, since kubelets repeat themselves. */
void cri_remove_pod(const char *pod);

/* Makes and starts a container of the tests' image that runs @script: its id. Its log is test_tmpdir()/logs/NAME.log. @memory_bytes: its limit, 0 =
 * none. */
char *cri_start(const struct cri_pod *p, const char *pod, const char *name, const char *script, int64_t memory_bytes);
struct grpc_answer cri_try_start(const struct cri_pod *p, const char *pod, const char *name, const char *const *argv);
Cri__ContainerState cri_state(const char *container);
/* Waits until it has ended: its exit code. @ret_reason may be NULL. */
int cri_wait_exit(const char *container, char **ret_reason);
/* Runs @script in it: what it prints, and the exit code. @ret_stderr may be NULL. */
char *cri_exec(const char *container, const char *script, int *ret_code, char **ret_stderr);
/* Waits until @script succeeds in it. */
void cri_exec_until(const char *container, const char *script);
void cri_usage(const char *container, uint64_t *ret_cpu_ns, uint64_t *ret_memory_bytes);
void cri_limit_memory(const char *container, int64_t bytes);
/* Both limits; 0 = as it is. @cpu_quota: of 100 ms. */
struct grpc_answer cri_try_update(const char *container, int64_t cpu_quota, int64_t memory_bytes);
void cri_stop(const char *container, int64_t timeout_s);
void cri_remove(const char *container);
