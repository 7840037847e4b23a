/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/killpoint.h"

#include <signal.h>
#include <stdlib.h>

bool kill_points_armed;
static long left;

void kill_points_arm(void)
{
    const char *text = getenv("ORION_TEST_KILL_AT");
    left = text ? strtol(text, NULL, 10) : 0;
    __atomic_store_n(&kill_points_armed, left > 0, __ATOMIC_RELEASE);
}

void kill_point_pass(void)
{
    if (__atomic_sub_fetch(&left, 1, __ATOMIC_ACQ_REL) == 0)
        raise(SIGKILL);
}
