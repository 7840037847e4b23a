/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_API_METRICS_H
#define ORION_API_METRICS_H

#include "api/metrics_text.h"

/*
 * The parts of /metrics; docs/metrics.md lists every series. All in a task on main, from counters
 * that are read without a lock and from what main knows: a scrape touches neither the data path nor
 * a disk. What is many (devices, exports) is summed up once and formatted in steps, between which
 * others have main.
 */
void metrics_block(struct metrics *m);   /* devices, arrays, pools */
void metrics_targets(struct metrics *m); /* sessions, exports and their stages, clients */

/* Call for each of many objects, with a counter that begins at 0: lets others run now and then. */
void metrics_step(unsigned *n);

#endif
