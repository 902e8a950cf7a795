/* Bringing in an image of 1 GiB in 30,000 files, an archive as `docker save` writes them. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "bench/peers.h"

struct import_bench {
	char *dir, *archive; /* owned; archive: a file in dir */
};
/* Makes the archive below @scratch. Takes tar and sha256sum. */
int import_bench_prepare(struct import_bench *b, const char *scratch, struct error *err);
void import_bench_done(struct import_bench *b);

/* Each into a store of its own that is removed again; *ret_peak_bytes: of the largest process. */
int import_by_skerry(const struct import_bench *b, const char *skerry, uint64_t *ret_ns, uint64_t *ret_peak_bytes,
		     struct error *err);
int import_by_docker(const struct import_bench *b, const struct peer *docker, uint64_t *ret_ns, struct error *err);
/* skopeo copy, then umoci unpack. */
int import_by_umoci(const struct import_bench *b, uint64_t *ret_ns, uint64_t *ret_peak_bytes, struct error *err);
