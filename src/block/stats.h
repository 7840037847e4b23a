/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_BLOCK_STATS_H
#define ORION_BLOCK_STATS_H

#include <stdint.h>

#include "block/bdev.h"

/* Latency histogram: 4 buckets an octave from 1 us to above 100 s. */
enum { HIST_OCTAVES = 27, HIST_BUCKETS = HIST_OCTAVES * 4 + 1 };

struct op_stats {
    uint64_t count, bytes, errors;
    uint64_t total_ns;
    uint64_t bucket[HIST_BUCKETS];
};

/* Bucket 0 ends at 1 us; then 4 buckets an octave. */
static inline unsigned hist_bucket(uint64_t ns)
{
    if (ns < 1000)
        return 0;
    uint64_t quarter = ns * 4 / 1000; /* >= 4: quarters of a microsecond */
    unsigned octave = 61 - (unsigned)__builtin_clzll(quarter);
    unsigned within = (unsigned)(quarter >> octave) & 3;
    unsigned bucket = 1 + octave * 4 + within;
    return bucket < HIST_BUCKETS ? bucket : HIST_BUCKETS - 1;
}

uint64_t hist_bound_ns(unsigned bucket); /* upper bound of a bucket, UINT64_MAX for the last */

/* Sum over all reactors, read without locks. Main. */
void bdev_op_stats(struct bdev *bdev, enum bio_op op, struct op_stats *stats_r);
uint64_t bdev_inflight(struct bdev *bdev);

/* In a task on main: calls fn for every bio in flight on any device: what `debug inflight` prints.
 */
struct inflight_info {
    char device[BDEV_NAME_MAX + 1];
    enum bio_op op;
    uint64_t offset, length, age_us;
    unsigned reactor;
    const char *where; /* "driver", "waiting", "held", "completing" */
};
void bdev_inflight_list(void (*fn)(const struct inflight_info *info, void *arg), void *arg);

#endif
