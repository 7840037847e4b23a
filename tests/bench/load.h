/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TESTS_BENCH_LOAD_H
#define ORION_TESTS_BENCH_LOAD_H

#include "block/bdev_driver.h"

/* A load on a device without any target before it: what a bio costs on one reactor. */

enum { LOAD_DEPTH = 32 };

void die(const struct err *e) __attribute__((noreturn));

struct load {
    enum bio_op op;
    uint32_t block; /* bytes of each bio, at most 4096 */
    uint64_t span;  /* at random places of so many bytes from the start; 0: of the whole device */
    unsigned count, repeat;
};

/* In a task on main. CPU ns a bio on reactor 0, LOAD_DEPTH at a time; the best of `repeat`. */
double load_cost(const char *device, const struct load *l);

/* Starts one I/O reactor, runs fn as a task on main, and ends the program. */
int load_main(void (*fn)(void *unused));

#endif
