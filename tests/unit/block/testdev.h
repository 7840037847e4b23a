/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_TESTS_BLOCK_TESTDEV_H
#define ORION_TESTS_BLOCK_TESTDEV_H

#include "harness.h"

#include <errno.h>
#include <string.h>

#include "block/bdev_driver.h"
#include "block/stats.h"

/*
 * A device in memory with every property adjustable before it is registered, which logs what
 * reaches the driver, and keeps bios back while `hold` is set.
 */
enum { TESTDEV_SIZE = 4 << 20, TESTDEV_LOG = 512 };

struct testdev {
    struct bdev bdev;
    uint8_t *data;
    bool hold;
    struct list held;
    unsigned log_count;
    struct {
        enum bio_op op;
        uint8_t flags;
        uint64_t offset, length;
    } log[TESTDEV_LOG];
    int fail[BIO_OP_COUNT];     /* errors to end with */
    unsigned fail_from;         /* the power goes before the n-th bio, from 1; 0: it does not */
    struct bdev_desc *below[4]; /* stacked: children go there */
    unsigned below_count;
    unsigned inits, finis; /* channels; atomic */
    bool destroyed_flag, *destroyed;
};

#define OPS_BASIC (1u << BIO_READ | 1u << BIO_WRITE | 1u << BIO_FLUSH)

struct testdev *testdev_new(const char *name); /* not registered yet */
void testdev_add(struct testdev *t);           /* registers; must succeed */
void testdev_release(struct testdev *t);       /* lets held bios complete, on this reactor */
struct bdev_desc *testdev_open(const char *name, enum bdev_claim claim);
void fill(uint8_t *p, size_t n, unsigned seed);

#endif
