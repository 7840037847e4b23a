/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_BASE_KILLPOINT_H
#define ORION_BASE_KILLPOINT_H

#include <stdbool.h>

/*
 * For tests of what is left when the daemon dies: with ORION_TEST_KILL_AT=N in the environment the
 * N-th point that is passed after kill_points_arm() is a SIGKILL. Any thread. Without the variable
 * a point is one look at a flag.
 */
extern bool kill_points_armed;
void kill_points_arm(void);
void kill_point_pass(void);

static inline void kill_point(void)
{
    if (__atomic_load_n(&kill_points_armed, __ATOMIC_ACQUIRE))
        kill_point_pass();
}

#endif
