/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TARGETS_LINGER_H
#define ORION_TARGETS_LINGER_H

#include <stdbool.h>
#include <stdint.h>

#include "block/bdev.h"
#include "reactor/task.h"

/*
 * Removals that a device holds up. Nothing can be taken back from a device, and one that hangs may
 * never answer: what its late answer will touch has to stay until then, whoever asks for it to go.
 * So a removal runs in a task of its own, and whoever asked waits for a while only.
 */
struct lingering { /* those of one protocol; zeroed memory has none */
    unsigned count;
};

/* What goes on when the wait is over, in words; "": nothing. */
struct target_left {
    char text[300];
};
/* Main: a device that may have something under way. If so it is named, here and as the holder of
 * its claim. */
void target_left_add(struct target_left *left, struct bdev_desc *desc);
/* After the last one: there is a text in any case. */
void target_left_end(struct target_left *left);

/* In a task on main: runs fn(arg) in another one and waits for it, at most so long. False: it goes
 * on by itself; `arg` is its own in any case. */
bool linger(struct lingering *all, const char *name, uint64_t wait_us, reactor_fn fn, void *arg);
void linger_wait(const struct lingering *all); /* in a task on main: until all have ended */
uint64_t linger_us(uint64_t us);               /* `us`, or what a test has set instead */
void linger_set_us(uint64_t us);               /* 0: nothing */

#endif
