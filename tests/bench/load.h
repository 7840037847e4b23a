/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TESTS_BENCH_LOAD_H
#define ORION_TESTS_BENCH_LOAD_H

#include "block/bdev_driver.h"

/* A load on a device without any target before it: what a bio costs on one reactor. */

enum { LOAD_DEPTH = 32, LOAD_REPEAT = 5 };

void die(const struct err *e) __attribute__((noreturn));

/* In a task on main. CPU ns a bio on reactor 0: `count` of them, `block` bytes (at most 4096) each
 * at random places, LOAD_DEPTH at a time; the best of LOAD_REPEAT. */
double load_cost(const char *device, enum bio_op op, uint32_t block, unsigned count);

/* Starts one I/O reactor, runs fn as a task on main, and ends the program. */
int load_main(void (*fn)(void *unused));

#endif
