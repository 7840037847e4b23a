/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef ORION_DRIVERS_DRIVERS_H
#define ORION_DRIVERS_DRIVERS_H

#include "block/bdev_driver.h"

/* The drivers that are built in. daemon/modules.c lists them for `device add --type`. */
extern const struct driver null_driver;
extern const struct driver mem_driver;
extern const struct driver file_driver;
extern const struct driver fault_driver;

/*
 * For drivers of made-up devices: the options "size" and "block_size" with their check, and the
 * first group of struct bdev filled from them. `size` must be a multiple of `block_size`, which is
 * a power of two. 0, or -1 with *e filled.
 */
#define DRIVER_GEOMETRY_OPTS                                                            \
    {.name = "size",                                                                    \
     .type = OPT_SIZE,                                                                  \
     .min = 4096,                                                                       \
     .max = 1ull << 60,                                                                 \
     .dflt = "1G",                                                                      \
     .help = "size of the device"},                                                     \
    {                                                                                   \
        .name = "block_size", .type = OPT_SIZE, .min = 512, .max = 4096, .dflt = "512", \
        .help = "logical block size, 512 to 4096"                                       \
    }
int driver_geometry(struct bdev *bdev, const struct opts *opts, struct err *e);

/* name, uuid and ops of a zeroed bdev. A null or absent uuid becomes a random one. */
void driver_identity(struct bdev *bdev, const char *name, const struct uuid *uuid,
                     const struct bdev_ops *ops);

#endif
