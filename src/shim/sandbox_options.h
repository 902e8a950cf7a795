/* What the CRI plugin says of a pod where it leaves the sandbox to the shim (containerd, sandboxer = "shim"): it comes as the options of CreateSandbox
 * then, runtime.v1.PodSandboxConfig, and there is no config.json of a sandbox's container. */
#pragma once

#include "base/error.h"
#include "containerd.pb-c.h"
#include "json/json.h"
#include "shim/spec.h"

/* Puts into @spec what a config.json would have: that it is a sandbox's, the host's name, the cgroup, annotations io.skerry.*, kernel parameters (also those that the
 * plugin would have set by itself) and what its containers may use together. Options
 * of another type are nobody's here. Errors: kind DATA. */
int sandbox_options_read(const Containerd__Any *options, const char *id, struct json *spec, struct error *err);
/* The resolver of the pod. */
int sandbox_options_read_dns(const Containerd__Any *options, struct spec_info *info, struct error *err);
