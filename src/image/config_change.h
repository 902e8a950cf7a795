/* Changes to an image's configuration, written as in a Dockerfile: "CMD sleep 1", "ENTRYPOINT [\"/bin/app\"]", "ENV K=V", "USER dev",
 * "WORKDIR /srv", "EXPOSE 80 53/udp", "LABEL K=V", "VOLUME /data", "STOPSIGNAL SIGINT". */
#pragma once

#include "base/error.h"
#include "json/json.h"

/* @config: the whole document (config.md of the OCI image specification). Errors: kind USAGE quoting @change. */
int config_change(struct json *config, const char *change, struct error *err);
