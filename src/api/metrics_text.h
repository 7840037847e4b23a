/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_API_METRICS_TEXT_H
#define ORION_API_METRICS_TEXT_H

#include <stdint.h>
#include <stdio.h>

/*
 * Prometheus text format 0.0.4. A family is begun once (HELP and TYPE), then its samples follow.
 * Labels are pairs of name and value, ended by NULL; values are escaped here.
 */
void metrics_family(FILE *f, const char *name, const char *type, const char *help);
void metrics_u64(FILE *f, const char *name, uint64_t value, ...) __attribute__((sentinel));
void metrics_double(FILE *f, const char *name, double value, ...) __attribute__((sentinel));
/* The same with `le` at the end of a histogram's labels: "+Inf" or seconds. */
void metrics_bucket(FILE *f, const char *name, const char *le, uint64_t value, ...)
    __attribute__((sentinel));

#endif
