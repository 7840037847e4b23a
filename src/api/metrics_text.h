/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_API_METRICS_TEXT_H
#define ORION_API_METRICS_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "block/stats.h"

/*
 * Prometheus text format 0.0.4. A family is begun once (HELP and TYPE), then its samples follow.
 * Labels are pairs of name and value, ended by NULL; values are escaped here. A scrape of thousands
 * of objects is made of these calls: they copy, and never call printf for an integer.
 */
struct metrics { /* zeroed at first; the text is the caller's */
    char *text;
    size_t len, room;
};

void metrics_family(struct metrics *m, const char *name, const char *type, const char *help);
void metrics_u64(struct metrics *m, const char *name, uint64_t value, ...)
    __attribute__((sentinel));
void metrics_double(struct metrics *m, const char *name, double value, ...)
    __attribute__((sentinel));

/* A histogram folded to the 14 bounds that are shown, 10 us to 10 s; each cumulative. */
enum { METRICS_BOUNDS = 14 };
struct metrics_hist {
    uint64_t below[METRICS_BOUNDS];
    uint64_t count, total_ns;
};
void metrics_fold(struct metrics_hist *h, const uint64_t fine[HIST_BUCKETS], uint64_t total_ns);
/* The samples name_bucket, name_sum (seconds) and name_count. */
void metrics_histogram(struct metrics *m, const char *name, const struct metrics_hist *h, ...)
    __attribute__((sentinel));

#endif
