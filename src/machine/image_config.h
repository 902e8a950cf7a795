/* What an image says about how its processes run, joined with what the user asked for. Pure. */
#pragma once

#include "image/image.h"
#include "machine/spec.h"

/* Before a machine is made: labels that the user did not set, ports when they are to be published. Errors: kind DATA for a port that is none. */
int image_config_apply(const struct image_meta *image, struct machine_spec *spec, struct error *err);

/* For every process in the machine: the image's assignments, then the machine's, which win. Appended to @ret. */
void image_config_env(const struct image_meta *image, const struct machine_spec *spec, struct strv *ret);
/* Where processes begin; borrowed; "" = in the user's home. */
const char *image_config_workdir(const struct image_meta *image, const struct machine_spec *spec);
/* Directories that have to be there: where processes begin, and the image's volumes. Appended to @ret. */
void image_config_directories(const struct image_meta *image, const struct machine_spec *spec, struct strv *ret);
/* The account that ssh logs in as: without a group, and root for a number. Owned by the caller. */
char *image_config_account(const struct image_meta *image, const struct machine_spec *spec);
/* The number of the signal that ends the main process; 0 = nobody said. */
int image_config_stop_signal(const struct image_meta *image, const struct machine_spec *spec);
