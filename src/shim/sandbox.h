/* The service containerd.runtime.sandbox.v1.Sandbox (containerd, api/runtime/sandbox/v1): a pod made before its containers. */
#pragma once

struct call;
struct shim;

void sandbox_create(void *shim, struct call *c, const void *request);
void sandbox_start(void *shim, struct call *c, const void *request);
void sandbox_platform(void *shim, struct call *c, const void *request);
void sandbox_stop(void *shim, struct call *c, const void *request);
void sandbox_wait(void *shim, struct call *c, const void *request);
void sandbox_status(void *shim, struct call *c, const void *request);
void sandbox_ping(void *shim, struct call *c, const void *request);
void sandbox_shutdown(void *shim, struct call *c, const void *request);
void sandbox_metrics(void *shim, struct call *c, const void *request);

/* The VM answers, or has gone: those who wait are told. */
void sandbox_vm_ready(struct shim *s);
void sandbox_vm_ended(struct shim *s);
